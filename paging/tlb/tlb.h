/*
 * The TLB batch: changing a table and invalidating the TLB are one object.
 *
 * Begin, add the stale translations, release the removed entries, commit. Commit flushes on every
 * processor that runs the tree, waits for all of them, and only then drops the released targets. So
 * no processor can reach a frame through a stale translation after the frame is reused (rule P2). A
 * released table also waits for those that walk the tree without running it, and no other is
 * interrupted (rule P5). A processor has one open
 * batch at a time; a second is a CHECK, which catches a batch that was left open. Entries are
 * released under the lock of their table, where no flush may be awaited (rule P4). So the caller
 * makes room before it takes the lock; a full batch flushes and drops early there.
 *
 * With PCIDs a processor that does not run the tree may still cache translations of it. It is not
 * interrupted: commit raises the tree's generation, and the processor compares it when it runs the
 * tree again (paging/tlb/pcid.h).
 *
 * A deferred batch flushes and drops nothing: it hands its releases to a struct tlb_later. That
 * takes those of any number of batches, of any trees, and one flush of everything serves them all.
 *
 * Units: addresses in bytes. Owns: the released entries, until commit drops them.
 * State: closed -> tlb_begin -> open -> (add | release)* -> tlb_commit -> closed.
 * Fails with: nothing; a missing answer ends the run (cpu/smp/shootdown.c).
 * Context: no table lock is held at commit; interrupts may be on (rule P4).
 * Spec: Intel SDM volume 3, 4.10.4. Rules: P2, P3, P5.
 */
#ifndef PAGING_TLB_TLB_H
#define PAGING_TLB_TLB_H

#include <stdbool.h>

#include "lib/status.h"
#include "paging/pte.h"

/* Pages that a batch can hold. */
#define TLB_PAGES_MAX 64U

/* Until a limit is measured, more pages than this flush the whole space. Linux's limit is 33. */
#define TLB_LIMIT_DEFAULT 32U

/* Released entries that a batch can hold. */
#define TLB_RELEASES_MAX 64U

/* Released empty tables: twice the tables on the two boundary paths of a range. */
#define TLB_EMPTIES_MAX 16U

/* An entry removed from a table; its target is dropped after the flush. */
struct tlb_release {
    struct pte entry;
    uint8_t level;
};

struct tree;
struct tlb_later;

struct tlb_batch {
    const struct tree *tree; /* whose pages are added; NULL: none are */
    bool open;
    bool answered;   /* all processors have answered since the last addition */
    bool grace;      /* wait for the processors of the tree even if nothing is stale */
    bool tables;     /* a table is among the releases, or empty */
    bool everything; /* some translation may be cached in any space (rule P3) */
    bool kernel;     /* some translation of the kernel's half is stale */
    bool whole_space;
    bool deferred; /* to `later` */
    uint16_t page_count;
    uint16_t release_count;
    uint16_t empty_count;
    struct pfn empties[TLB_EMPTIES_MAX];
    uint64_t pages[TLB_PAGES_MAX];
    struct tlb_release releases[TLB_RELEASES_MAX];
    struct tlb_later *later; /* set if deferred */
};

/* Drops the entries that batches release. The tree sets it once, before the first batch. */
struct tlb_owner {
    void (*drop)(const struct tlb_release *release);
    void (*drop_empty)(struct pfn table);
};

void tlb_set_owner(const struct tlb_owner *tables);

/* ---- walks of trees that the processor does not run (rule P5) ---- */

/* A tree that any processor may walk at any time: a section's. */
#define TLB_WALKED_BY_ALL UINT64_MAX

/* Sets the function that returns the processors of calls on a tree: whoever makes one walks the
 * tree, whether that processor runs it or not. Called once. */
void tlb_set_callers(uint64_t (*callers)(const struct tree *tree));

/* Enclose a walk that is no call's, with interrupts off: enter announces it before its first read,
 * and returns what leave needs. */
MUST_USE bool tlb_walk_enter(struct tree *tree);
void tlb_walk_leave(struct tree *tree, bool entered);

/* Where walks are checked, called for each table of one: panics if the running processor is not
 * known to walk the tree while others may free its tables, or if the table is one no more. */
void tlb_walk_is_known(const struct tree *tree, struct pfn table);

static inline void tlb_check_walk(const struct tree *tree, struct pfn table)
{
#if defined(LOCK_CHECKS) || defined(__SANITIZE_THREAD__)
    tlb_walk_is_known(tree, table);
#else
    (void)tree;
    (void)table;
#endif
}

/* Opens a batch. tree: the tree whose pages are added; NULL if none are. */
void tlb_begin(struct tlb_batch *batch, const struct tree *tree);

/* Adds one page of the tree, and the paging-structure caches: INVLPG empties them whatever its
 * address (SDM volume 3, 4.10.4.1). */
void tlb_add_page(struct tlb_batch *batch, uint64_t address);

/* Adds all translations of [start, end) of the tree. */
void tlb_add_range(struct tlb_batch *batch, uint64_t start, uint64_t end);

/* Add all translations of the tree, or of the lower half of every tree. */
void tlb_add_space(struct tlb_batch *batch);
void tlb_add_everything(struct tlb_batch *batch);

/* Adds all translations, also global ones: for the kernel's half. No other flush drops those. */
void tlb_add_kernel(struct tlb_batch *batch);

/* Adds no translation, but makes commit wait until walks of the tree that have begun are over: for
 * descriptors, which tickets reference without a count. */
void tlb_add_grace(struct tlb_batch *batch);

/* Waits for such walks at once, without a batch. */
void tlb_await_walks(const struct tree *tree);

/* Releases an entry that was removed from a table: its target is dropped after the flush. The batch
 * has room. */
void tlb_release(struct tlb_batch *batch, struct tlb_release release);

/* Releases an own, empty table that is marked dead and unlinked; at most TLB_EMPTIES_MAX. */
void tlb_release_empty(struct tlb_batch *batch, struct pfn table);

/* Returns true if an entry or table can be released without a flush; tlb_make_room flushes. */
static inline bool tlb_has_room(const struct tlb_batch *batch)
{
    return batch->release_count < TLB_RELEASES_MAX && batch->empty_count < TLB_EMPTIES_MAX;
}

/* Returns true if this many entries can be released without a flush. */
static inline bool tlb_has_room_for(const struct tlb_batch *batch, unsigned releases)
{
    return batch->release_count + releases <= TLB_RELEASES_MAX;
}

/* Flushes and drops now; the batch stays open. No table is locked. */
void tlb_make_room(struct tlb_batch *batch);

/* Flushes, waits, then drops, and closes the batch. */
void tlb_commit(struct tlb_batch *batch);

/* ---- deferred batches ---- */

/* Releases that wait for one flush of everything. */
struct tlb_later {
    struct pfn chunks; /* frames of releases, each with the next one's number; or PFN_NONE */
    uint32_t flushes;  /* of everything so far: more than one if no frame was free in between */
    uint32_t count;    /* releases so far */
    /* Called after the flush, before an entry is dropped. */
    void (*visit)(struct tlb_later *later, const struct tlb_release *release);
};

void tlb_later_begin(struct tlb_later *later,
                     void (*visit)(struct tlb_later *later, const struct tlb_release *release));

/* Opens a batch whose releases go to `later`. */
void tlb_begin_deferred(struct tlb_batch *batch, const struct tree *tree, struct tlb_later *later);

/* Closes a deferred batch, without a flush. */
void tlb_defer(struct tlb_batch *batch);

/* Flushes everything on every processor and waits for all, then drops all releases. */
void tlb_later_end(struct tlb_later *later);

/* ---- the limit ---- */

/* The measured cost of flushes, in ticks (paging/tlb/cost.h). */
struct tlb_cost {
    uint64_t pages; /* page_count pages, one by one */
    unsigned page_count;
    uint64_t whole; /* the whole space, with the misses that follow */
    unsigned miss_count;
};

/* Returns the pages up to which single flushes are cheaper, 1 to TLB_PAGES_MAX; 0 if the figures
 * are unusable: less than a tick for each page or miss. */
unsigned tlb_limit_for(const struct tlb_cost *cost);

/* Return and set the limit in force: 1 to TLB_PAGES_MAX. */
unsigned tlb_limit(void);
void tlb_set_limit(unsigned pages);

/* Flushes so far, by kind, for metrics; one that several processors perform counts once. */
struct tlb_counts {
    uint64_t pages;
    uint64_t spaces;
    uint64_t everything;
    uint64_t kernel;
};

struct tlb_counts tlb_counts(void);

#endif

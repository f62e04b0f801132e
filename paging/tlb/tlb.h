/*
 * The TLB batch: changing a table and invalidating the TLB are one object.
 *
 * begin, add what became stale, hand over what is to be let go, commit. Commit flushes on every
 * processor that runs the tree, waits for all of them, and lets go then, so that no processor can
 * reach a frame through a stale translation after it has another use (rule P2). A table that is let
 * go of waits for every processor, whatever it runs (rule P5). One batch a processor is open at a
 * time, and opening a second is a CHECK: so none is forgotten, and nobody waits for another thread
 * in between. A batch that is full flushes and drops early.
 *
 * Where translations are tagged (PCIDs), a processor that does not run the tree may still have some
 * of it. It is not asked: commit raises the tree's generation, and the processor compares when it
 * comes back (paging/tlb/pcid.h).
 *
 * Units: addresses in bytes. Owns: the entries handed over, until commit drops them.
 * State: closed -> tlb_begin -> open -> (add | release)* -> tlb_commit -> closed.
 * Fails with: nothing; an answer that does not come ends the run (cpu/smp/shootdown.c).
 * Context: no table lock is held at commit; interrupts may be on (rule P4).
 * Spec: Intel SDM volume 3, 4.10.4. Rules: P2, P3, P5.
 */
#ifndef PAGING_TLB_TLB_H
#define PAGING_TLB_TLB_H

#include <stdbool.h>

#include "paging/pte.h"

/* Pages that a batch can name. */
#define TLB_PAGES_MAX 64U

/* Up to so many are invalidated one by one until a limit is measured; above it the whole space is.
 * Linux's ceiling is 33. */
#define TLB_LIMIT_DEFAULT 32U

/* Entries that wait for the flush before their targets are dropped. */
#define TLB_RELEASES_MAX 64U

/* Tables in which nothing is that wait for it: twice what the two boundary paths of a range
 * have. */
#define TLB_EMPTIES_MAX 16U

/* An entry taken out of a table: what it named is dropped after the flush. */
struct tlb_release {
    struct pte entry;
    uint8_t level;
};

struct tree;

struct tlb_batch {
    const struct tree *tree; /* whose pages are added; NULL: none are */
    bool open;
    bool answered;   /* nothing was added since all processors answered */
    bool grace;      /* wait for the processors of the tree although nothing is stale */
    bool tables;     /* a table is among the releases, or empty */
    bool everything; /* some translation may be cached in any space (rule P3) */
    bool kernel;     /* some translation of the kernel's half is stale */
    bool whole_space;
    uint16_t page_count;
    uint16_t release_count;
    uint16_t empty_count;
    struct pfn empties[TLB_EMPTIES_MAX];
    uint64_t pages[TLB_PAGES_MAX];
    struct tlb_release releases[TLB_RELEASES_MAX];
};

/* Drops what batches release: the tree, which sets it once, before the first batch. */
struct tlb_owner {
    void (*drop)(const struct tlb_release *release);
    void (*drop_empty)(struct pfn table);
};

void tlb_set_owner(const struct tlb_owner *tables);

/* Opens a batch. tree: the tree whose pages are added; NULL if none are. */
void tlb_begin(struct tlb_batch *batch, const struct tree *tree);

/* The translation of one page of the tree, and the paging-structure caches: INVLPG empties
 * those whatever its address (SDM volume 3, 4.10.4.1). */
void tlb_add_page(struct tlb_batch *batch, uint64_t address);

/* All translations of [start, end) of the tree. */
void tlb_add_range(struct tlb_batch *batch, uint64_t start, uint64_t end);

/* All translations of the tree; or of the programs' half of every tree. */
void tlb_add_space(struct tlb_batch *batch);
void tlb_add_everything(struct tlb_batch *batch);

/* All translations there are: for the kernel's half, whose pages are global. Nothing else drops
 * those. */
void tlb_add_kernel(struct tlb_batch *batch);

/* Nothing more became stale, but walks of the tree that have begun are over after commit: for what
 * their entries name besides pages, a descriptor. */
void tlb_add_grace(struct tlb_batch *batch);

/* The same at once, with no batch, where nothing else is to be done. */
void tlb_await_walks(const struct tree *tree);

/* Hands over an entry that was taken out of a table: its target is dropped after the flush. When
 * the batch is full, flush and drop come at once, and it stays open. */
void tlb_release(struct tlb_batch *batch, struct tlb_release release);

/* Hands over an own table in which nothing is, which is dead and has been unlinked; for at most
 * TLB_EMPTIES_MAX there is room. */
void tlb_release_empty(struct tlb_batch *batch, struct pfn table);

/* Whether one more entry or table can be handed over without a flush at once; makes room by one. */
static inline bool tlb_has_room(const struct tlb_batch *batch)
{
    return batch->release_count < TLB_RELEASES_MAX && batch->empty_count < TLB_EMPTIES_MAX;
}

void tlb_make_room(struct tlb_batch *batch);

/* Flushes, then drops. */
void tlb_commit(struct tlb_batch *batch);

/* ---- the limit ---- */

/* What flushes were measured to cost, in ticks (paging/tlb/cost.h). */
struct tlb_cost {
    uint64_t pages; /* so many, one by one */
    unsigned page_count;
    uint64_t whole; /* all at once, with the misses that follow */
};

/* The pages up to which one by one is cheaper, 1 to TLB_PAGES_MAX; 0: the figures say nothing. */
unsigned tlb_limit_for(const struct tlb_cost *cost);

/* The limit that is in force, and another one: 1 to TLB_PAGES_MAX. */
unsigned tlb_limit(void);
void tlb_set_limit(unsigned pages);

/* Flushes so far, by kind, each counted once however many processors made it: for metrics. */
struct tlb_counts {
    uint64_t pages;
    uint64_t spaces;
    uint64_t everything;
    uint64_t kernel;
};

struct tlb_counts tlb_counts(void);

#endif

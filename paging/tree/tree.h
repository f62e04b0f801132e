/*
 * The one tree: walking it, making paths in it, and the three operations that keep the rule of
 * sharing: share, unshare, drop. Nothing else changes a count, but hold and release.
 *
 * A tree is a root table and its number of levels; the lower half of the root is the program's.
 * Tables and pages count the entries that name them (rule C1). A subtree is changed only along a
 * path of exclusively owned tables, which tree_make_path makes; it is filled, which leaves its
 * meaning alone, in place for all its sharers.
 *
 * Units: addresses in bytes, ranges half-open, levels 1 (leaf table) to 5.
 * Owns: every frame of kind FRAME_TABLE; anonymous frames as long as entries name them.
 * Fails with: STATUS_NO_MEMORY (a reserve could not be filled), STATUS_AGAIN (a lock was held:
 * the walk starts over, rule P4). What takes a reserve cannot run out of memory.
 * Context: interrupts off within a walk; never waits for a device.
 * Spec: Intel SDM volume 3, 4.5 and 4.10. Rules: C1 to C12, P4 to P8, R1.
 */
#ifndef PAGING_TREE_TREE_H
#define PAGING_TREE_TREE_H

#include "lib/options.h"
#include "lib/status.h"
#include "paging/pte.h"
#include "paging/tlb/root.h"
#include "paging/tlb/tlb.h"
#include "paging/zero_ladder.h"
#include "pmm/frame.h"

/* Pages that go together, and are unlinked under one lock. */
#define TREE_PAGES_TOGETHER 128U

/* What the layers above know better: slots of swapped entries, and pages nobody names any more. */
struct tree_hooks {
    void (*slot_hold)(struct slot slot);
    void (*slot_release)(struct slot slot);
    void (*page_free_last)(struct pfn page); /* count 0: unlink it, untie it, free it */
    /* The same for TREE_PAGES_TOGETHER at most. */
    void (*pages_free_last)(const struct pfn *pages, unsigned count);
    /* A large page becomes pages of order `to`, each with count 1, the first with `held` more.
     * False, with nothing changed: it has other counts than these. */
    bool (*page_split)(struct pfn page, unsigned order, unsigned to, uint32_t named, uint32_t held);
    /* Pages of this order are about to become parts of a larger one. page_take: from now on an
     * entry of a locked table alone knows the page; false when others hold it. page_put: the page,
     * which was taken or is new, may be found again. */
    bool (*page_take)(struct pfn page, unsigned order);
    void (*page_put)(struct pfn page, unsigned order);
};

/* Tables set aside before the first lock, so that nothing fails later (rule C7). */
#define TREE_RESERVE_MAX 8U

struct tree_reserve {
    unsigned count;
    struct pfn tables[TREE_RESERVE_MAX];
};

/* Where a walk ended: the lowest table on the path of an address and its entry there. */
struct tree_place {
    struct pfn table;
    struct pte entry; /* as it was read */
    uint16_t index;
    uint8_t level;
    bool own; /* every entry on the path down to the table is own */
};

/* What a path is for: to fill (tickets are split, sharing stays), to change (it becomes own), or to
 * build where nothing is yet (own, and empty entries are split too). */
enum tree_purpose { TREE_FILL, TREE_CHANGE, TREE_BUILD };

/* ---- start ---- */

/* Names the first frame of the zero ladder and the hooks; once, before any tree is made. */
void tree_init(struct pfn zero_page, const struct tree_hooks *hooks);

static inline struct pfn tree_zero_page(void)
{
    return zero_ladder_first;
}

/* Sets roots aside, in place of any that are, so that tree_create rarely has to make one.
 * STATUS_NO_MEMORY does no harm. */
MUST_USE enum status tree_ready_roots(void);

/* A tree with an empty lower half and the kernel's upper half. */
MUST_USE enum status tree_create(struct tree *tree);

/* Drops all that the tree names, then its root; no processor has it loaded. */
void tree_destroy(struct tree *tree);

/* Shares every entry of the parent's lower half with the child, which is fresh. The parent's
 * translations become stale: the batch says so. Until they are gone no page of the parent may be
 * copied for a write, since another processor may still write to it: that waits for
 * tree_fork_end, which comes after the commit. */
void tree_fork(struct tree *child, struct tree *parent, struct tlb_batch *batch);
void tree_fork_end(struct tree *parent);

/* Between the two, for what the child does not share any more: makes the path of an address the
 * parent's own again, all the way down. Nothing else names its tables. Returns where the table
 * ends, or the entry, that it has come to. */
uint64_t tree_own_path(struct tree *parent, uint64_t address, struct tlb_batch *batch);

/* ---- walking and paths ---- */

/* Walks down as far as there are tables. Interrupts are off, and stay off while the result is used.
 */
struct tree_place tree_walk(const struct tree *tree, uint64_t address);

/* The same by one of the ways of paging/tree/table_access.h; TABLES_RECURSIVE for the loaded tree
 * only. */
struct tree_place tree_walk_by(enum table_access way, const struct tree *tree, uint64_t address);

MUST_USE enum status tree_reserve_fill(struct tree_reserve *reserve, unsigned tables);
void tree_reserve_drain(struct tree_reserve *reserve);

/* How many tables tree_make_path takes at most for this path as it is now. */
unsigned tree_path_needs(const struct tree *tree, uint64_t address, unsigned level,
                         enum tree_purpose purpose);

/* Makes sure that the table of this level on the address's path exists, and unless it is to fill
 * that the path down to it is own. Takes no more tables than tree_path_needs says. STATUS_AGAIN:
 * start over; so it also says when what is to be filled or changed has gone meanwhile. */
MUST_USE enum status tree_make_path(struct tree *tree, uint64_t address, unsigned level,
                                    enum tree_purpose purpose, struct tree_reserve *reserve,
                                    struct tlb_batch *batch);

/* ---- entries of one table ---- */

/* Locks a table by try (rule P4); false when it is held or dead: the walk starts over. */
bool tree_lock(struct pfn table);
void tree_unlock(struct pfn table);

/* Replaces one entry of a locked table, and keeps its live and held counts and the reverse map of
 * the page that it named; returns what stood there with what the hardware had set. Counts of
 * targets are the caller's: the new one already counts this entry, and the old one goes to
 * tlb_release. */
struct pte tree_replace_entry(struct pfn table, unsigned index, struct pte with);

/* The same where the entry is reached by a way of the caller's (paging/tree/table_access.h). */
struct pte tree_replace_at(struct pfn table, struct pte *at, struct pte with);

/* One more pointer to a frame; one less, without what follows from reaching zero. */
void tree_hold(struct pfn frame);
uint32_t tree_release(struct pfn frame);

/* As tree_hold, unless the count has come to zero: false. */
bool tree_try_hold(struct pfn frame);

/* Lets go of what an entry named, once it stands nowhere any more and the TLB is flushed: rule C5.
 */
void tree_drop(const struct tlb_release *release);

/* The same for an own table in which nothing is, which is dead and has been unlinked. */
void tree_drop_empty(struct pfn table);

/* A drop under way: the tables that die, from the highest to the lowest, and where it is in
 * each. */
#define TREE_LEVELS_MAX 5U

struct tree_dropper {
    unsigned depth;
    struct pfn tables[TREE_LEVELS_MAX];
    uint16_t next[TREE_LEVELS_MAX]; /* the entry that is dropped next */
};

/* The same in bounded steps: begin, then some as often as it takes, each looking at no more than so
 * many entries; true when the drop is done. In between the dropper owns its tables. */
void tree_drop_begin(struct tree_dropper *dropper, const struct tlb_release *release);
MUST_USE bool tree_drop_some(struct tree_dropper *dropper, unsigned entries);

/* ---- ranges ---- */

/* First half of a range call (rule C7): makes the two boundary paths own and splits what crosses
 * the boundaries, so that the second half allocates nothing. Changes no meaning. */
MUST_USE enum status tree_prepare_range(struct tree *tree, uint64_t start, uint64_t end,
                                        struct tlb_batch *batch);

/* Second half: the fewest entries that cover [start, end) become `with` (a ticket, guard or empty);
 * what they named is dropped, tables that become empty are given back. Cannot fail. */
void tree_replace_range(struct tree *tree, uint64_t start, uint64_t end, struct pte with,
                        struct tlb_batch *batch);

/* The same, but what takes their place shows zeroes with these rights: the fewest links of the zero
 * ladder. */
void tree_zero_range(struct tree *tree, uint64_t start, uint64_t end, struct rights rights,
                     struct tlb_batch *batch);

/* First half of a change of rights: tree_prepare_range, and every table that is reached in the
 * range becomes own. */
MUST_USE enum status tree_prepare_protect(struct tree *tree, uint64_t start, uint64_t end,
                                          struct tlb_batch *batch);

/* Second half: what stands in the range gets these rights. Tickets become `ticket`; with no access
 * at all pages are withheld, and what shows zeroes becomes the ticket; empty entries and guards
 * stay. Cannot fail. */
void tree_protect_range(struct tree *tree, uint64_t start, uint64_t end, struct pte ticket,
                        struct rights rights, struct tlb_batch *batch);

/* ---- moving (tree_move.c) ---- */

/* What the distance from a range of this size to the place that it moves to is a multiple of. */
uint64_t tree_move_alignment(const struct tree *tree, uint64_t size);

/* First half of a move to a place that is empty and does not overlap: the tables of the source
 * become own, and the boundary paths of both are made. Who gives up afterwards replaces the target
 * by empty, which gives tables back. */
MUST_USE enum status tree_prepare_move(struct tree *tree, uint64_t from, uint64_t to, uint64_t size,
                                       struct tlb_batch *batch);

/* Second half: all that stands in the source stands in the target afterwards, and the source is
 * empty; each part of it is flushed before it appears. It waits for pages in transit, and so no
 * batch is open. Cannot fail. */
void tree_move_range(struct tree *tree, uint64_t from, uint64_t to, uint64_t size);

/* ---- merging (tree_merge.c) ---- */

/* One large page that is to take the place of a table of 512 smaller ones. */
struct tree_merge {
    uint64_t address;     /* of the first of them, aligned */
    unsigned level;       /* of the large page: 2 or 3 */
    struct rights rights; /* of all of them; not none */
    struct pte ticket;    /* stands where there is no page yet */
    struct pfn block;     /* the caller's, of any content, to copy to; PFN_NONE: there is none */
    uint64_t *progress;   /* counted up while the table is out of use: who faults before and after
                             sees that something has happened (rule P9) */
    uint64_t missing;     /* the answer TREE_MERGE_MISSING: the address of a page that is out */
};

/* What came of it. Unless it is one of the first two, nothing has changed. */
enum tree_merged {
    TREE_MERGED,         /* in place: the pages were one block already */
    TREE_MERGE_COPIED,   /* into the block, which is the tree's now */
    TREE_MERGE_NO_BLOCK, /* could be copied, if there was a block */
    TREE_MERGE_MISSING,  /* a page is on the swap disk */
    TREE_MERGE_IN_USE,   /* a lock, a page or a transfer is held at the moment */
    TREE_MERGE_SHARED,   /* others name a page */
    TREE_MERGE_UNFIT,    /* not all of it has the rights, or is of the next smaller size */
    TREE_MERGE_NOTHING   /* there is no own table of pages, or no page in it */
};

/* Puts the pages of one own table together; those of 2 MiB only in place. The caller keeps the
 * tree's regions, so that only faults and reclaim come to it meanwhile. No batch is open; it waits
 * for other processors. */
MUST_USE enum tree_merged tree_merge(struct tree *tree, struct tree_merge *merge);

/* ---- the reverse map (rule R1) ---- */

/* An entry that names a page. */
struct tree_pointer {
    struct pfn table;
    uint16_t index;
};

/* The address in its space that a pointer's entry stands for. */
uint64_t tree_pointer_address(struct tree_pointer pointer);

/* Finds the entries that name an anonymous page in this state (leaf or in transit) through the ring
 * of its tables: at most max are stored, all are counted. */
unsigned tree_find_pointers(struct pfn page, enum pte_state state, struct tree_pointer *pointers,
                            unsigned max);

/* Whether all counts of the page but one, the caller's, are of entries of the ring in this state:
 * none is of an entry about to be dropped or of another's hold. Who finds the page through the ring
 * afterwards (rmap_hold_cached) sees the flags that the caller has set before. */
bool tree_all_in_state(struct pfn page, enum pte_state state);

/* The page that another entry of the ring, at the same index, has read from the slot and that is
 * still tied to it, with one more count; PFN_NONE when there is none. The ring is all the swap
 * cache that is needed: entries that name one slot stand at one index of one ring. The table is
 * locked. */
struct pfn rmap_hold_cached(struct pfn table, unsigned index, struct slot slot);

/* Takes a flag off a page by which rmap_hold_cached finds it: the page may be freed afterwards. */
void rmap_clear_flag(struct pfn page, uint8_t flag);

/* Locks the table of a pointer that tree_find_pointers found, if it still names the page in this
 * state: STATUS_NOT_FOUND if not, or if the table is being dropped; STATUS_AGAIN if the lock is
 * held at the moment. Interrupts are off. */
MUST_USE enum status tree_lock_pointer(struct pfn page, enum pte_state state,
                                       struct tree_pointer pointer);

/* For one who has replaced an entry by hand: it names the page no more, and when the page's record
 * says that it does, another entry of the ring is found. The table is locked. */
void tree_repoint(struct pfn page, struct pfn table, unsigned index);

/* The same when rmap_points_into has said yes, with interrupts off. */
void rmap_repoint(struct pfn page, struct pfn table, unsigned index);

/* Splits a large page that the caller holds, wherever it is named: it becomes 512 pages of the next
 * smaller size, of which the caller holds the first. Takes a table of the reserve. STATUS_AGAIN:
 * the lock of a table that names it is held, or a pointer is just on its way out. */
MUST_USE enum status tree_split_held(struct pfn page, struct tree_reserve *reserve,
                                     struct tlb_batch *batch);

/* Takes the count of such an entry off, once the TLB is flushed. */
void tree_forget_page(struct pfn page);

/* Takes the flag off a page whose count is 1, so that nobody can find it by the flag any more;
 * false when the count is not 1. */
bool tree_claim(struct pfn page, uint8_t flag);

/* Says that the entry names the page: for a page that has just been put there. */
void rmap_reference(struct pfn page, struct pfn table, unsigned index);

/* A new table joins the ring of its source. */
void rmap_join(struct pfn table, struct pfn source);

/* Says that the entry names the page, which had another entry at this index before. */
void rmap_set_pointer(struct pfn page, struct pfn table, unsigned index);

/* ---- proof ---- */

/* What trees hold, all in all. */
struct tree_census {
    uint64_t tables[6];     /* by level */
    uint64_t leaves;        /* entries that name a page other than the zero page */
    uint64_t zero_links[6]; /* entries that show zeroes, by level */
    uint64_t swapped;       /* entries */
};

/* Walks all trees and proves that every count equals what is reachable, live and held counts equal
 * the entries, own means the only pointer, and no entry is corrupt; panics with values if not. No
 * other processor is in a walk. */
struct tree_census tree_audit(const struct tree *trees, unsigned count);

/* Prints the entry states along an address's walk as "# " lines, for crash reports. */
void tree_print_walk(struct phys root, unsigned levels, uint64_t address);

/* ---- the fast path ---- */

/* Guards the links of all rings and the named entry of all pages (paging/tree/rmap.c). */
extern uint8_t tree_ring_lock;

/* Whether a page's record names an entry of the table that has just been replaced, by one whose
 * count of the page is still there. If not there is nothing to do, and the ring's lock is not
 * needed:
 *
 * A record comes to name an entry in three ways. Where a page is put into an entry, or moved there,
 * that is done under the lock of the entry's table, which the caller has, or nobody can take any
 * more; parts of a large page are named in a table that nobody knows yet; and otherwise it is
 * rmap_choose_another, on behalf of one who lets go of the page somewhere else on the ring, and it
 * has no lock of this table. It stores the name, and then reads the entry again. Here the entry was
 * stored, and then the name is read. With a fence between the two on both sides one of them sees
 * what the other has stored: either the name is seen here, and the ring's lock is taken, or the
 * entry is seen there to be another's, and the search goes on. */
static inline bool rmap_points_into(const struct frame *record, struct pfn table)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return __atomic_load_n(&record->back_table, __ATOMIC_RELAXED) == table.index;
}

#endif

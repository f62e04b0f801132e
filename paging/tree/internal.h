/*
 * Between the files of the tree: tree.c, tree_share.c, tree_drop.c, tree_range.c, tree_run.c,
 * tree_move.c, tree_merge.c, tree_ring.c, tree_root.c, tree_audit.c.
 *
 * Owns: the hooks, the roots that wait for a tree. Context: as tree.h says.
 */
#ifndef PAGING_TREE_INTERNAL_H
#define PAGING_TREE_INTERNAL_H

#include "cpu/smp/spin.h"
#include "paging/tree/tree.h"

/* Roots without a tree that are kept (tree_root.c). */
#define TREE_READY_ROOTS 16U

struct tree_globals {
    const struct tree_hooks *hooks;
    struct {
        uint8_t lock;
        unsigned count;
        struct pfn roots[TREE_READY_ROOTS];
    } ready;
};

extern struct tree_globals tree_globals;

/* Whether an entry above level 1 names a table that walks go into: any but a zero table. */
static inline bool entry_is_table(struct pte entry)
{
    return (entry.word & (PTE_P | PTE_PS)) == PTE_P && !zero_ladder_has(pte_frame(entry));
}

/* Whether the entry shows zeroes: the zero page or a zero table. */
static inline bool entry_is_zero(struct pte entry)
{
    return pte_present(entry) && zero_ladder_has(pte_frame(entry));
}

/* Whether the entry is counted by what it names: a page, a table, a slot, but no frame of the zero
 * ladder. The state is known to be sound. */
static inline bool entry_is_held(struct pte entry)
{
    uint64_t type = (entry.word & PTE_TYPE_MASK) >> PTE_TYPE_SHIFT;

    if (pte_present(entry))
        return !zero_ladder_has(pte_frame(entry));
    return type == PTE_TYPE_SWAPPED || type == PTE_TYPE_TRANSIT || type == PTE_TYPE_WITHHELD;
}

/* The page that an entry names, of more than one frame the first: as leaf, in transit or withheld;
 * PFN_NONE for others and for the zero page. The state is known to be sound. */
static inline struct pfn entry_page(struct pte entry, unsigned level)
{
    uint64_t type = (entry.word & PTE_TYPE_MASK) >> PTE_TYPE_SHIFT;

    if (!entry_is_held(entry))
        return PFN_NONE;
    if (pte_present(entry))
        return level == 1 || (entry.word & PTE_PS) != 0 ? pte_frame(entry) : PFN_NONE;
    return type == PTE_TYPE_SWAPPED ? PFN_NONE : pte_payload_frame(entry);
}

/* Whether the entry is a leaf that a section's page is shared by. */
static inline bool entry_is_shared_leaf(struct pte entry, unsigned level)
{
    return pte_present(entry) && pte_class(entry) == PTE_SHARED &&
           (level == 1 || (entry.word & PTE_PS) != 0);
}

/* Whether a processor may have a translation of the entry. One in transit may have been a leaf
 * until just now: who evicts it flushes only after the exchange. */
static inline bool entry_may_be_cached(struct pte entry)
{
    return pte_present(entry) || (entry.word & PTE_TYPE_MASK) >> PTE_TYPE_SHIFT == PTE_TYPE_TRANSIT;
}

/* Takes a lock for a range call, whose tables cannot die under it: faults hold it for moments only,
 * so it is tried again with interrupts as they were (rule P4). They are off before and after. */
static inline void tree_lock_patiently(struct pfn table, bool were_on)
{
    struct frame *record = frame_record(table);

    while (!spin_try(&record->lock)) {
        machine_interrupts_restore(were_on);
        machine_pause();
        (void)machine_interrupts_off();
    }
    CHECK_MSG((record->flags & FRAME_DEAD) == 0, "table %x is dead in a range call", table.index);
}

static inline void tree_unlock_fast(struct pfn table)
{
    spin_unlock_fast(&frame_record(table)->lock);
}

/* Marks a table dead under its own lock (rule P6): who locks it from now on starts over. */
void tree_kill_table(struct pfn table);

/* Makes the fresh table `to` a copy of `from`, which is locked: rule C4. */
void tree_copy_table(struct pfn to, struct pfn from);

/* Whether the entry that a page's record names does name the page: for AUDIT. */
bool rmap_has_pointer(struct pfn page);

/* The order of the block that a leaf of this level names. */
static inline unsigned leaf_order(unsigned level)
{
    return 9 * (level - 1);
}

/* ---- rmap.c ---- */

/* Locks the ring of all tables; returns whether interrupts were on. */
bool rmap_lock(void);
void rmap_unlock(bool were_on);

/* The next table of the ring, which is locked; the table itself when it is alone. */
struct pfn rmap_next_of(struct pfn table);

/* The state in which an entry names the page: leaf, in transit or withheld; otherwise empty. */
enum pte_state rmap_names_as(struct pfn table, unsigned index, struct pfn page);

/* A dead table leaves its ring. */
void rmap_leave(struct pfn table);

/* Entries of `from` are about to move to the same indexes of `table`: their rings become one,
 * unless from is alone, which says that nobody else names its pages. */
void rmap_merge(struct pfn table, struct pfn from);

/* ---- split.c ---- */

/* Splits the large page that an entry of a locked table names, for all who share it: `table`, which
 * is fresh and has its place, becomes the table of its parts, and every entry that named the page
 * links it: own if there is one, COW otherwise. All entries that name a large page have the same
 * rights. Of the page's counts `holds` are not entries', and stay with its first part.
 * STATUS_AGAIN: the lock of a sharer's table is held. */
MUST_USE enum status tree_split_large(struct pfn page, unsigned level, struct pfn locked,
                                      struct pfn table, unsigned holds, unsigned *sharers);

/* What must be done before the entry where a walk has ended can get other rights. */
enum tree_obstacle {
    OBSTACLE_NONE,
    OBSTACLE_SHARED_TABLE,
    OBSTACLE_SHARED_PAGE, /* a large one: all entries that map it have the same rights */
    OBSTACLE_CHANGED      /* the entry has become a table meanwhile */
};

/* Walks to an address, and stores where the walk has ended. */
enum tree_obstacle tree_find_obstacle(const struct tree *tree, uint64_t at,
                                      struct tree_place *place);

/* Gives a fresh table its level and its place in the tree. */
static inline void tree_place_table(struct pfn table, unsigned level, uint64_t address)
{
    uint64_t base = round_down(address, pte_span(level + 1)) >> 21;
    struct frame *record = frame_record(table);

    record->level = (uint8_t)level;
    record->slot_or_base = (uint32_t)base;
    record->base_high = (uint16_t)(base >> 32);
}

/* Takes the entry that names a dead table in which nothing is out of the locked table above it: the
 * batch gives it back. Of translations only those of upper entries are stale, and the caller says
 * so. */
void tree_unlink_dead(struct pfn above, struct pte *place, struct pfn table,
                      struct tlb_batch *batch);

/* Entries of one table become empty, from the one at an address on: what they named is dropped.
 * They lie in the caller's range with all that they stand for. */
void tree_empty_in_table(const struct tree *tree, struct pfn table, unsigned level, uint64_t from,
                         uint64_t to, struct tlb_batch *batch);

/* Counts one more pointer for a copy of an entry, and turns an own source into COW: the copy. */
struct pte tree_share_entry(struct pte *source, unsigned level);

#endif

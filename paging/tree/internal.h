/*
 * Shared by the files of the tree.
 *
 * Owns: the hooks, and the prepared roots. Context: as tree.h says.
 */
#ifndef PAGING_TREE_INTERNAL_H
#define PAGING_TREE_INTERNAL_H

#include "cpu/smp/spin.h"
#include "paging/tree/tree.h"

/* Entries of a dying leaf table that are read together: it stops behind the last one with a
 * target. */
#define TREE_DROP_GROUP 16U

/* Prepared roots that are kept (root.c). */
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

/* Returns true if an entry above level 1 references a table to descend into: not a zero table. */
static inline bool entry_is_table(struct pte entry)
{
    return (entry.word & (PTE_P | PTE_PS)) == PTE_P && !zero_ladder_has(pte_frame(entry));
}

/* Returns true if an entry above level 1 is a sound link to an own table. */
static inline bool entry_is_own_table(struct pte entry)
{
    const uint64_t own =
        PTE_P | PTE_RW | PTE_US | PTE_MAY_WRITE | (uint64_t)PTE_OWN << PTE_CLASS_SHIFT;

    return (entry.word & ~(PTE_FRAME_MASK | PTE_A | PTE_D)) == own;
}

/* Returns the table of a link to an own table, through the direct map. */
static inline struct pte *own_table_entries(struct pte link)
{
    return phys_pointer((struct phys){link.word & PTE_FRAME_MASK});
}

/* Returns true if the entry maps the zero page or a zero table. */
static inline bool entry_is_zero(struct pte entry)
{
    return pte_present(entry) && zero_ladder_has(pte_frame(entry));
}

/* Returns true if the entry's target counts it: a page, table or slot, but no frame of the zero
 * ladder. The entry is known to be sound. */
static inline bool entry_is_held(struct pte entry)
{
    uint64_t type = (entry.word & PTE_TYPE_MASK) >> PTE_TYPE_SHIFT;

    if (pte_present(entry))
        return !zero_ladder_has(pte_frame(entry));
    return type == PTE_TYPE_SWAPPED || type == PTE_TYPE_TRANSIT || type == PTE_TYPE_WITHHELD;
}

/* Returns the record of a sound leaf's or table's frame; cheaper than by its number. */
static inline struct frame *pte_record(struct pte entry)
{
    const unsigned shift = PAGE_SHIFT - 5;
    const uint64_t mask = (uint64_t)UINT32_MAX * sizeof(struct frame);

    _Static_assert(sizeof(struct frame) == 1U << 5, "a shift by 5");
    return (struct frame *)(uintptr_t)(FRAME_RECORDS_BASE + ((entry.word >> shift) & mask));
}

/* As pte_record, for what remains of a leaf or link without its class, rights and other constant
 * bits: the frame's number, A and D. The shift drops the last two. */
static inline struct frame *record_of_varying(uint64_t varies)
{
    const unsigned shift = PAGE_SHIFT - 5;

    _Static_assert((PTE_A | PTE_D) >> (PAGE_SHIFT - 5) == 0, "dropped by the shift");
    return (struct frame *)(uintptr_t)(FRAME_RECORDS_BASE + (varies >> shift));
}

/* As pte_are_leaves, for one class. */
static inline bool pte_are_leaves_of(struct pte_bits bits, enum pte_class class)
{
    return pte_class((struct pte){bits.any}) == class && pte_are_leaves(bits);
}

/* Returns true if an entry of level 1 is a sound leaf of the class. */
static inline bool pte_is_leaf_of(struct pte entry, enum pte_class class)
{
    return pte_class(entry) == class && pte_state(entry, 1) == PTE_LEAF;
}

/* Returns the page that an entry references as leaf, in transit or withheld (the first frame of a
 * large page), or PFN_NONE, also for the zero page. The entry is known to be sound. */
static inline struct pfn entry_page(struct pte entry, unsigned level)
{
    uint64_t type = (entry.word & PTE_TYPE_MASK) >> PTE_TYPE_SHIFT;

    if (!entry_is_held(entry))
        return PFN_NONE;
    if (pte_present(entry))
        return level == 1 || (entry.word & PTE_PS) != 0 ? pte_frame(entry) : PFN_NONE;
    return type == PTE_TYPE_SWAPPED ? PFN_NONE : pte_payload_frame(entry);
}

/* Returns true if the entry is a leaf of a section's page, outside of the section's own tree. */
static inline bool entry_is_section_leaf(struct pte entry, unsigned level)
{
    return level == 1 && pte_present(entry) && pte_class(entry) != PTE_OWN &&
           (frame_record(pte_frame(entry))->flags & FRAME_SHARED) != 0;
}

/* Returns true if a processor may have the entry cached. One in transit may have been a leaf a
 * moment ago: eviction flushes after the exchange. */
static inline bool entry_may_be_cached(struct pte entry)
{
    return pte_present(entry) || (entry.word & PTE_TYPE_MASK) >> PTE_TYPE_SHIFT == PTE_TYPE_TRANSIT;
}

/* Locks a table for a range call, during which it cannot die. Faults hold the lock only briefly, so
 * it is retried, with interrupts as they were (rule P4). They are off before and after. */
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

/* ---- drop.c, drop_leaves.c ---- */

/* Drops an entry's reference to its page, after the TLB flush. */
void tree_forget_page(struct pfn page);

/* Drops an entry that was removed; a table without other references joins the dropper's. */
void tree_drop_entry(struct tree_dropper *dropper, struct pte entry, unsigned level);

/* Drops up to `entries` of the dropper's lowest table, in whole groups, or frees it if it holds
 * nothing. Returns how many are left. */
unsigned drop_step(struct tree_dropper *dropper, unsigned entries);

/* Returns how many entries the next step has to drop at once, so that no leaf table is left dead
 * with entries in it: 0 within such a table, otherwise at most PTE_ENTRIES. */
unsigned drop_step_least(const struct tree_dropper *dropper);

/* Drops up to `most` entries of the dropper's leaf table, in whole groups. Returns how many. */
unsigned drop_leaves(struct tree_dropper *dropper, unsigned most);

/* Folds the entry's D into the page's record (rule E8). */
static inline void fold_dirty(struct pte entry)
{
    if (pte_present(entry) && (entry.word & PTE_D) != 0)
        __atomic_or_fetch(&frame_record(pte_frame(entry))->flags, FRAME_DIRTY, __ATOMIC_RELAXED);
}

/* Frees an own, empty table that is marked dead and unlinked. */
void tree_drop_empty(struct pfn table);

/* Marks a table dead, under its own lock (rule P6): later attempts to lock it fail. */
void tree_kill_table(struct pfn table);

/* Returns true if the page's back pointer is an entry that references the page: for AUDIT. */
bool rmap_has_pointer(struct pfn page);

/* Returns the order of the block that a leaf of this level maps. */
static inline unsigned leaf_order(unsigned level)
{
    return 9 * (level - 1);
}

/* ---- rmap.c ---- */

/* A ring that is locked, with interrupts off. */
struct rmap_hold {
    struct tree_ring_lock *ring;
    bool were_on;
};

/* Lock the ring of a page's back pointer, and of a table. */
struct rmap_hold rmap_lock_page(struct pfn page);
struct rmap_hold rmap_lock_table(struct pfn table);
void rmap_unlock(struct rmap_hold hold);

/* Returns the next table of the locked ring; the table itself if it is alone. */
struct pfn rmap_next_of(struct pfn table);

/* Returns the state of an entry that references the page (leaf, in transit, withheld), or empty. */
enum pte_state rmap_state_of(struct pfn table, unsigned index, struct pfn page);

/* Gives a page, whose back pointer was an entry that the caller has emptied, `other` as back
 * pointer: the entry at the same index of `next`, if it maps the page as a leaf too. The ring is
 * locked, and the caller still owns the removed entry's reference. As in rmap_choose_another the
 * back pointer is stored before the entry is read. Returns false, with a wrong back pointer, if it
 * is another entry. */
static inline bool rmap_move_pointer(struct frame *record, struct pfn next, const struct pte *other,
                                     struct pte removed)
{
    __atomic_exchange_n(&record->page.back_table, next.index, __ATOMIC_SEQ_CST);
    return ((pte_read(other).word ^ removed.word) & (PTE_FRAME_MASK | PTE_P)) == 0;
}

/* Sets the back pointer of such a page to another entry of the locked ring, or to none. */
void rmap_choose_another(struct frame *record, struct pfn page, struct pfn table, unsigned index);

/* Adds a new table to the ring of its source. */
void rmap_join(struct pfn table, struct pfn source);

/* Removes a dead table from its ring. */
void rmap_leave(struct pfn table);

/* Joins the rings of two tables before entries of `from` move to the same indexes of `table`. Does
 * nothing if `from` is alone: then no other entry references its pages. */
void rmap_merge(struct pfn table, struct pfn from);

/* ---- split.c ---- */

/* Splits the large page that an entry of a locked table maps, for all sharers. `table`, which is
 * new and placed, becomes the table of its parts. Every entry of the page then links it: own if
 * there is one, COW otherwise. All entries of a large page have the same rights. `holds` of the
 * page's references are not entries, and stay with its first part. STATUS_AGAIN: the lock of a
 * sharer's table is held. */
MUST_USE enum status tree_split_large(struct pfn page, unsigned level, struct pfn locked,
                                      struct pfn table, unsigned holds, unsigned *sharers);

/* Step that is needed before the entry at the end of a walk can get other rights. */
enum tree_obstacle {
    OBSTACLE_NONE,
    OBSTACLE_SHARED_TABLE,
    OBSTACLE_SHARED_PAGE, /* a large one: all entries that map it have the same rights */
    OBSTACLE_CHANGED      /* the entry has become a table meanwhile */
};

/* Walks to an address, and stores where the walk has ended. */
enum tree_obstacle tree_find_obstacle(const struct tree *tree, uint64_t at,
                                      struct tree_place *place);

/* Removes the link to a dead, empty table from the locked table above it, and releases the table to
 * the batch. Only cached upper entries become stale; the caller adds them. */
void tree_unlink_dead(struct pfn above, struct pte *place, struct pfn table,
                      struct tlb_batch *batch);

/* Replaces entries of one table, beginning at an address, and drops their targets. Their spans lie
 * within the caller's range. */
void tree_replace_in_table(const struct tree *tree, struct pfn table, unsigned level, uint64_t from,
                           uint64_t to, struct pte with, struct tlb_batch *batch);

/* Gives entries of one leaf table other rights, as tree_protect_range. */
void tree_protect_in_table(const struct tree *tree, struct pfn table, uint64_t from, uint64_t to,
                           struct pte ticket, struct rights rights, struct tlb_batch *batch);

/* Drops the page of one own leaf that was replaced and flushed; of an empty entry nothing. */
void tree_drop_page(struct pfn table, unsigned index, struct pte entry);

/* Drops the pages of own leaves that were replaced in a leaf table, from an index on, and flushed;
 * empty entries have none. At most TREE_PAGES_TOGETHER. */
void tree_drop_pages(struct pfn table, unsigned index, const struct pte *entries, unsigned count);

/* Adds a reference for a copy of an entry, and turns an own source into COW. Returns the copy. */
struct pte tree_share_entry(struct pte *source, unsigned level);

#endif

/*
 * Drop: removes one reference; a table without references drops its own entries (rule C5).
 *
 *   entry                        effect
 *   empty, ticket, guard         nothing
 *   swapped                      slot's count - 1
 *   leaf, withheld, in transit   frame's count - 1
 *   table                        table's count - 1; at 0 the table dies: its entries are dropped
 *
 * A dropper holds the dying tables from the highest to the lowest, at most one per level. Each
 * entry is zeroed, and live and held are lowered, before its target is dropped. So a drop can stop
 * after any entry and continue later.
 */
#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "paging/tree/internal.h"
#include "pmm/pmm.h"

void tree_forget_page(struct pfn page)
{
    if (tree_release(page) == 0)
        tree_globals.hooks->page_free_last(page);
}

/* Folds the entry's D into the page's record (rule E8). */
static void fold_dirty(struct pte entry)
{
    if (pte_present(entry) && (entry.word & PTE_D) != 0)
        __atomic_or_fetch(&frame_record(pte_frame(entry))->flags, FRAME_DIRTY, __ATOMIC_RELAXED);
}

/* Starts the drop of a table without references. No walk is in it: walks ended before the flush was
 * acknowledged. Reclaim may still reach it through the ring or a page, and finds it dead. */
static void push_table(struct tree_dropper *dropper, struct pfn table)
{
    const struct frame *record = frame_record(table);

    CHECK_MSG(record->kind == FRAME_TABLE, "dropping frame %x of kind %u as a table", table.index,
              record->kind);
    CHECK_MSG(dropper->depth < TREE_LEVELS_MAX, "table %x of level %u dies inside %u others",
              table.index, record->level, dropper->depth);
    tree_kill_table(table);
    dropper->tables[dropper->depth] = table;
    dropper->next[dropper->depth] = 0;
    dropper->depth++;
}

static void tree_drop_entry(struct tree_dropper *dropper, struct pte entry, unsigned level)
{
    switch (pte_state(entry, level)) {
    case PTE_EMPTY:
    case PTE_TICKET:
    case PTE_GUARD: return;
    case PTE_LEAF:
        if (entry_is_held(entry)) {
            fold_dirty(entry);
            tree_forget_page(pte_frame(entry));
        }
        return;
    case PTE_TRANSIT:
    case PTE_WITHHELD: tree_forget_page(pte_payload_frame(entry)); return;
    case PTE_SWAPPED: tree_globals.hooks->slot_release(pte_slot(entry)); return;
    case PTE_TABLE:
        if (entry_is_held(entry) && tree_release(pte_frame(entry)) == 0)
            push_table(dropper, pte_frame(entry));
        return;
    case PTE_CORRUPT:
    case PTE_STATES: break;
    }
    PANIC("entry %lx of level %u is corrupt: it cannot be dropped", entry.word, level);
}

/* ---- the pages of a table ---- */

/* Pages of one dying table, and those of them with no reference left. */
struct page_run {
    struct pfn table;
    unsigned gone_count;
    struct pfn gone[TREE_PAGES_TOGETHER];
};

/* Drops the reference and returns true if it is the last: D and back pointer need no update. */
static inline bool drop_if_last(struct pfn page)
{
    uint32_t one = 1;

    return __atomic_compare_exchange_n(&frame_record(page)->count, &one, 0, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
}

/* Drops the reference of a zeroed entry to its page. The back pointer moves to another entry while
 * the count still includes this one. */
static inline void drop_page_ref(struct page_run *run, struct pfn page, struct pte entry,
                                 unsigned index)
{
    if (!drop_if_last(page)) {
        fold_dirty(entry);
        tree_repoint(page, run->table, index);
        if (tree_release(page) != 0)
            return;
    }
    run->gone[run->gone_count++] = page;
}

/* Drops a run of own leaves with equal rights. The page run is empty at first. */
static void drop_own_leaves(struct page_run *run, struct pte *entries, unsigned from, unsigned to)
{
    struct pfn *gone = run->gone; /* a local pointer stays in a register */

#pragma GCC unroll 4
    for (struct pte *at = &entries[from]; at < &entries[to]; at++) {
        struct pte entry = *at;
        struct pfn page = pte_frame(entry);

        *at = pte_empty();
        if (__builtin_expect(!drop_if_last(page), 0)) {
            run->gone_count = (unsigned)(gone - run->gone);
            drop_page_ref(run, page, entry, (unsigned)(at - entries));
            gone = run->gone + run->gone_count;
            continue;
        }
        *gone++ = page;
    }
    run->gone_count = (unsigned)(gone - run->gone);
}

/* Bits in which two leaves of equal kind and rights may differ; a frame number has 32 bits. */
#define LEAF_VARIES ((uint64_t)UINT32_MAX << PAGE_SHIFT | PTE_A | PTE_D)

/* Drops an entry of any kind. Returns true if it had a target. */
static bool drop_any(struct tree_dropper *dropper, struct page_run *run, struct pte *at,
                     unsigned index)
{
    struct pte entry = *at;
    struct pfn page;

    if (pte_state(entry, 1) == PTE_CORRUPT)
        PANIC("entry %lx at %u of table %x is corrupt", entry.word, index, run->table.index);
    if (!entry_is_held(entry))
        return false;
    page = entry_page(entry, 1);
    *at = pte_empty();
    if (pfn_is_none(page))
        tree_drop_entry(dropper, entry, 1);
    else
        drop_page_ref(run, page, entry, index);
    return true;
}

/* Handles an emptied leaf whose page now has count 0, or a very large one. A saturated count gets
 * the reference back. Returns false if the entry is of the zero page, and restores it. */
static bool drop_odd_count(struct page_run *run, struct pte *at, struct pte entry, uint32_t count)
{
    if (count == 0) {
        run->gone[run->gone_count++] = pte_frame(entry);
        return true;
    }
    if (count < COUNT_STILL - 1)
        return true;
    __atomic_add_fetch(&pte_record(entry)->count, 1, __ATOMIC_RELAXED);
    if (entry_is_zero(entry)) {
        *at = entry;
        return false;
    }
    (void)frame_count_keep(pte_frame(entry));
    return true;
}

/* Drops a sound leaf. Returns false for the zero page. */
static inline bool drop_cow_leaf(struct page_run *run, struct pte *at)
{
    /* Exchanged, and so ordered before the look at the back pointer (rmap_points_into). */
    struct pte entry = pte_exchange(at, pte_empty());
    struct frame *record = pte_record(entry);
    uint32_t left;

    if (__atomic_load_n(&record->page.back_table, __ATOMIC_RELAXED) == run->table.index) {
        drop_page_ref(run, pte_frame(entry), entry,
                      (unsigned)((uintptr_t)at / sizeof(*at) % PTE_ENTRIES));
        return true;
    }
    if ((entry.word & PTE_D) != 0 && (record->flags & FRAME_DIRTY) == 0)
        fold_dirty(entry);
    left = __atomic_sub_fetch(&record->count, 1, __ATOMIC_ACQ_REL);
    return __builtin_expect((int32_t)left > 0, 1) || drop_odd_count(run, at, entry, left);
}

/* Drops a run of COW leaves with equal rights. Returns how many had a target. */
static unsigned drop_cow_leaves(struct page_run *run, struct pte *entries, unsigned from,
                                unsigned to)
{
    unsigned held = to - from;

#pragma GCC unroll 4
    for (struct pte *at = &entries[from]; at < &entries[to]; at++)
        held -= !drop_cow_leaf(run, at);
    return held;
}

/* Drops entries of any kind. Returns how many had a target. */
static unsigned drop_each(struct tree_dropper *dropper, struct page_run *run, struct pte *entries,
                          unsigned from, unsigned to)
{
    uint64_t shape = 0; /* a leaf that was found sound, without the bits that may differ; or 0 */
    uint64_t plain = 0; /* a sound entry without a target */
    unsigned held = 0;

    for (unsigned i = from; i < to; i++) {
        struct pte entry = entries[i];

        if (entry.word == plain)
            continue;
        if ((entry.word & ~LEAF_VARIES) != shape || shape == 0) {
            if (drop_any(dropper, run, &entries[i], i))
                held++;
            else
                plain = entry.word;
            if (pte_present(entry))
                shape = entry.word & ~LEAF_VARIES;
            continue;
        }
        held += drop_cow_leaf(run, &entries[i]);
    }
    return held;
}

/* Drops up to `most` entries of the dropper's leaf table. Returns how many. */
static unsigned drop_leaves(struct tree_dropper *dropper, unsigned most)
{
    unsigned top = dropper->depth - 1;
    struct page_run run; /* large, so it is not cleared */
    struct frame *record = frame_record(dropper->tables[top]);
    struct pte *entries = frame_pointer(dropper->tables[top]);
    unsigned from = dropper->next[top];
    unsigned count = (unsigned)min_u64(min_u64(most, TREE_PAGES_TOGETHER), PTE_ENTRIES - from);
    unsigned held = count;
    struct pte_bits common;

    run.table = dropper->tables[top];
    run.gone_count = 0;
    common = pte_common(&entries[from], &entries[from + count]);
    if (pte_are_leaves_of(common, PTE_OWN))
        drop_own_leaves(&run, entries, from, from + count);
    else if (pte_are_leaves_of(common, PTE_COW))
        held = drop_cow_leaves(&run, entries, from, from + count);
    else
        held = drop_each(dropper, &run, entries, from, from + count);
    record->live = (uint16_t)(record->live - held);
    record->table.held = (uint16_t)(record->table.held - held);
    dropper->next[top] = (uint16_t)(from + count);
    if (run.gone_count > 0)
        tree_globals.hooks->pages_free_last(run.gone, run.gone_count);
    return count;
}

void tree_drop_pages(struct pfn table, unsigned index, const struct pte *entries, unsigned count)
{
    struct page_run run; /* large, so it is not cleared */

    run.table = table;
    run.gone_count = 0;
    for (unsigned i = 0; i < count; i++) {
        if (entries[i].word != 0)
            drop_page_ref(&run, pte_frame(entries[i]), entries[i], index + i);
    }
    if (run.gone_count > 0)
        tree_globals.hooks->pages_free_last(run.gone, run.gone_count);
}

/* ---- steps ---- */

/* Drops one entry of the dropper's lowest table, above level 1. */
static void drop_link(struct tree_dropper *dropper)
{
    unsigned top = dropper->depth - 1;
    struct frame *record = frame_record(dropper->tables[top]);
    struct pte *at = (struct pte *)frame_pointer(dropper->tables[top]) + dropper->next[top]++;
    unsigned index = dropper->next[top] - 1U;
    struct pte entry = *at;
    struct pfn page = entry_page(entry, record->level);

    if (!entry_is_held(entry))
        return;
    *at = pte_empty();
    record->live--;
    record->table.held--;
    if (!pfn_is_none(page)) /* a large one */
        tree_repoint(page, dropper->tables[top], index);
    tree_drop_entry(dropper, entry, record->level);
}

/* Frees an empty table. If both its links are none, it is in no ring, and that is final: no table
 * joins behind a dead one. */
static void free_table(struct pfn table)
{
    const struct frame *record = frame_record(table);

    if (__atomic_load_n(&record->table.ring_next, __ATOMIC_ACQUIRE) != UINT32_MAX ||
        __atomic_load_n(&record->table.ring_prev, __ATOMIC_ACQUIRE) != UINT32_MAX)
        rmap_leave(table);
    if (record->live == 0)
        pmm_free_clean(table); /* rule C12 */
    else
        pmm_free(table);
}

void tree_unlink_dead(struct pfn above, struct pte *place, struct pfn table,
                      struct tlb_batch *batch)
{
    struct frame *record = frame_record(above);
    struct pte old = pte_exchange(place, pte_empty());

    CHECK_MSG((old.word & (PTE_P | PTE_PS)) == PTE_P && pte_class(old) == PTE_OWN &&
                  pfn_equal(pte_frame(old), table) && record->table.held > 0,
              "entry %lx of table %x is taken out for table %x", old.word, above.index,
              table.index);
    record->live--;
    record->table.held--;
    tlb_release_empty(batch, table);
}

void tree_drop_empty(struct pfn table)
{
    const struct frame *record = frame_record(table);

    CHECK_MSG(record->kind == FRAME_TABLE && (record->flags & FRAME_DEAD) != 0 && record->live == 0,
              "frame %x of kind %u, flags %x, %u live is no empty table", table.index, record->kind,
              record->flags, record->live);
    if (tree_release(table) == 0)
        free_table(table);
}

void tree_drop_begin(struct tree_dropper *dropper, const struct tlb_release *release)
{
    dropper->depth = 0;
    tree_drop_entry(dropper, release->entry, release->level);
}

bool tree_drop_some(struct tree_dropper *dropper, unsigned entries)
{
    while (dropper->depth > 0 && entries > 0) {
        struct pfn table = dropper->tables[dropper->depth - 1];
        const struct frame *record = frame_record(table);
        unsigned count = 1;

        CHECK_MSG(record->table.held == 0 || dropper->next[dropper->depth - 1] < PTE_ENTRIES,
                  "table %x holds %u more than its entries", table.index, record->table.held);
        if (record->table.held == 0)
            free_table(dropper->tables[--dropper->depth]);
        else if (record->level == 1)
            count = drop_leaves(dropper, entries);
        else
            drop_link(dropper);
        entries -= count;
    }
    return dropper->depth == 0;
}

void tree_drop(const struct tlb_release *release)
{
    struct tree_dropper dropper;

    tree_drop_begin(&dropper, release);
    while (!tree_drop_some(&dropper, UINT32_MAX)) {
    }
}

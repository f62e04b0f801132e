/*
 * Splitting a large page wherever it is mapped.
 *
 * All entries that map a large page have the same rights. They link one table of its parts
 * afterwards.
 */
#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "paging/tree/internal.h"
#include "paging/tree/table_access.h"
#include "pmm/pmm.h"

/* The entries that map a page: one index in the tables of one ring. */
struct sharers {
    struct pfn page;
    struct pfn first;
    struct pfn locked; /* by the caller */
    unsigned index;
    unsigned count;
};

/* Tries a table's lock, unseen by the lock checker: a pass around a locked ring only tries. */
static bool try_table(struct pfn table)
{
    struct frame *record = frame_record(table);

    if (!spin_try_unchecked(&record->lock))
        return false;
    if ((record->flags & FRAME_DEAD) == 0)
        return true;
    __atomic_store_n(&record->lock, 0, __ATOMIC_RELEASE);
    return false;
}

/* Unlocks the new table of the parts, which only reclaim can reach before it is linked. */
static void unlock_parts(struct pfn table)
{
    __atomic_store_n(&frame_record(table)->lock, 0, __ATOMIC_RELEASE);
}

static void unlock_sharer(const struct sharers *sharers, struct pfn table)
{
    if (!pfn_equal(table, sharers->locked))
        __atomic_store_n(&frame_record(table)->lock, 0, __ATOMIC_RELEASE);
}

static void unlock_sharers(const struct sharers *sharers, unsigned count)
{
    for (struct pfn at = sharers->first; count > 0; at = rmap_next_of(at)) {
        if (rmap_state_of(at, sharers->index, sharers->page) == PTE_EMPTY)
            continue;
        count--;
        unlock_sharer(sharers, at);
    }
}

/* Locks the tables of all entries of the page; none if one is held, or an entry is leaving. */
static bool lock_sharers(const struct sharers *sharers)
{
    struct pfn at = sharers->first;
    unsigned found = 0;

    do {
        if (rmap_state_of(at, sharers->index, sharers->page) != PTE_EMPTY) {
            if (!pfn_equal(at, sharers->locked) && !try_table(at))
                break;
            /* The entry may have been replaced before the lock was taken. */
            if (rmap_state_of(at, sharers->index, sharers->page) != PTE_EMPTY)
                found++;
            else
                unlock_sharer(sharers, at);
        }
        at = rmap_next_of(at);
    } while (!pfn_equal(at, sharers->first));
    if (found == sharers->count)
        return true;
    unlock_sharers(sharers, found);
    return false;
}

/* Fills the table of a large page's parts, with the page's rights. The parts may be in a clock
 * already, and found there; but the table is locked. */
static void fill_with_parts(struct pfn table, unsigned level, struct pfn page, struct rights rights)
{
    struct pte *entries = frame_pointer(table);
    unsigned order = leaf_order(level - 1);

    for (unsigned i = 0; i < PTE_ENTRIES; i++) {
        struct pfn part = {page.index + (i << order)};

        frame_record(part)->page.back_table = table.index;
        frame_record(part)->page.back_index = (uint16_t)i;
        entries[i] = pte_page(part, level - 1, PTE_OWN, rights);
    }
    frame_record(table)->live = frame_record(table)->table.held = PTE_ENTRIES;
}

/* Links the table in place of all entries of the page, and unlocks. Returns whether it is dirty. */
static bool link_parts(const struct sharers *sharers, struct pfn table)
{
    struct pte link = pte_table(table, sharers->count == 1 ? PTE_OWN : PTE_COW);
    unsigned left = sharers->count;
    bool dirty = false;

    frame_record(table)->count = sharers->count;
    for (struct pfn at = sharers->first; left > 0; at = rmap_next_of(at)) {
        struct pte *place = (struct pte *)frame_pointer(at) + sharers->index;
        struct pte old;

        if (rmap_state_of(at, sharers->index, sharers->page) == PTE_EMPTY)
            continue;
        left--;
        old = pte_exchange(place, link);
        dirty = dirty || (pte_present(old) && (old.word & PTE_D) != 0);
        unlock_sharer(sharers, at);
    }
    return dirty;
}

static void mark_dirty(struct pfn page, unsigned level)
{
    for (unsigned i = 0; i < PTE_ENTRIES; i++) {
        struct pfn part = {page.index + (i << leaf_order(level - 1))};

        __atomic_or_fetch(&frame_record(part)->flags, FRAME_DIRTY, __ATOMIC_RELAXED);
    }
}

/* Changes nothing if others hold the page. holds: the ring's lock; the sharers', which it frees */
static bool split_locked(const struct sharers *sharers, unsigned level, struct pfn table,
                         unsigned holds)
{
    const struct frame *record = frame_record(sharers->page);
    const struct pte *entries = frame_pointer(sharers->first);
    struct tree_pointer first = {sharers->first, (uint16_t)sharers->index};
    bool dirty = (record->flags & FRAME_DIRTY) != 0;

    CHECK_MSG((record->flags & FRAME_BLOCK) != 0 && record->level == leaf_order(level),
              "page %x of level %u has flags %x, order %u", sharers->page.index, level,
              record->flags, record->level);
    CHECK(spin_try_unchecked(&frame_record(table)->lock));
    if (!tree_globals.hooks->page_split(sharers->page, leaf_order(level), leaf_order(level - 1),
                                        sharers->count, holds)) {
        unlock_sharers(sharers, sharers->count);
        unlock_parts(table);
        return false;
    }
    tree_place_table(table, level - 1, tree_pointer_address(first));
    fill_with_parts(table, level, sharers->page, pte_rights(pte_read(&entries[sharers->index])));
    if (link_parts(sharers, table) || dirty)
        mark_dirty(sharers->page, level);
    unlock_parts(table);
    return true;
}

enum status tree_split_large(struct pfn page, unsigned level, struct pfn locked, struct pfn table,
                             unsigned holds, unsigned *count)
{
    struct rmap_hold hold = rmap_lock_page(page);
    const struct frame *record = frame_record(page);
    struct sharers sharers = {.page = page,
                              .first = {record->page.back_table},
                              .locked = locked,
                              .index = record->page.back_index,
                              .count = record->count - holds};
    enum status status = STATUS_AGAIN;

    CHECK(!hold.were_on && level > 1 && record->kind == FRAME_ANONYMOUS);
    if (!pfn_is_none(sharers.first) && sharers.count > 0 && lock_sharers(&sharers) &&
        split_locked(&sharers, level, table, holds)) {
        *count = sharers.count;
        status = OK;
    }
    rmap_unlock(hold);
    return status;
}

/* The caller's hold keeps the page large: no other thread splits it. */
enum status tree_split_held(struct pfn page, struct tree_reserve *reserve, struct tlb_batch *batch)
{
    const struct frame *record = frame_record(page);
    unsigned level = record->level / 9U + 1;
    struct pfn table;
    enum status status;
    unsigned sharers;
    bool were_on;

    CHECK(reserve->count > 0 && (record->flags & FRAME_BLOCK) != 0);
    table = reserve->tables[--reserve->count];
    were_on = machine_interrupts_off();
    status = tree_split_large(page, level, PFN_NONE, table, 1, &sharers);
    machine_interrupts_restore(were_on);
    if (status == OK)
        tlb_add_everything(batch);
    else
        reserve->tables[reserve->count++] = table;
    return status;
}

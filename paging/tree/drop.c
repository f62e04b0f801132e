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
#include "paging/tree/run.h"
#include "paging/tree/table_access.h"
#include "pmm/pmm.h"

void tree_forget_page(struct pfn page)
{
    if (tree_release(page) == 0)
        tree_globals.hooks->page_free_last(page);
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

void tree_drop_entry(struct tree_dropper *dropper, struct pte entry, unsigned level)
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

/* ---- steps ---- */

/* Returns the index of the next held entry of the dropper's lowest table, above level 1. */
static unsigned next_held(const struct tree_dropper *dropper)
{
    struct pfn table = dropper->tables[dropper->depth - 1];
    const struct pte *entries = frame_pointer(table);
    unsigned index = dropper->next[dropper->depth - 1];

    while (!entry_is_held(entries[index]))
        if (++index == PTE_ENTRIES)
            PANIC("table %x holds %u more than its entries", table.index,
                  frame_record(table)->table.held);
    return index;
}

/* Drops the next held entry of the dropper's lowest table, above level 1. */
static void drop_link(struct tree_dropper *dropper)
{
    unsigned top = dropper->depth - 1;
    unsigned index = next_held(dropper);
    struct frame *record = frame_record(dropper->tables[top]);
    struct pte *entries = frame_pointer(dropper->tables[top]);
    struct pte entry = entries[index];
    struct pfn page = entry_page(entry, record->level);

    dropper->next[top] = (uint16_t)(index + 1);
    entries[index] = pte_empty();
    record->live--;
    record->table.held--;
    if (!pfn_is_none(page)) /* a large one */
        tree_repoint(page, dropper->tables[top], index);
    tree_drop_entry(dropper, entry, record->level);
}

/* Frees an empty table. No table joins a ring behind a dead one: links that are none stay so. */
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

unsigned drop_step(struct tree_dropper *dropper, unsigned entries)
{
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
    return entries > count ? entries - count : 0;
}

/* If the table below loses its other references after the look, more die with it. */
unsigned drop_step_least(const struct tree_dropper *dropper)
{
    struct pfn table = dropper->tables[dropper->depth - 1];
    const struct frame *record = frame_record(table);
    struct pte entry = pte_empty();

    if (record->level == 2 && record->table.held > 0)
        entry = ((const struct pte *)frame_pointer(table))[next_held(dropper)];
    if (pte_state(entry, 2) != PTE_TABLE)
        return record->level > 1;
    record = frame_record(pte_frame(entry));
    return __atomic_load_n(&record->count, __ATOMIC_RELAXED) == 1 ? record->table.held : 1;
}

bool tree_drop_some(struct tree_dropper *dropper, unsigned entries)
{
    while (dropper->depth > 0 && entries > 0)
        entries = drop_step(dropper, entries);
    return dropper->depth == 0;
}

void tree_drop(const struct tlb_release *release)
{
    struct tree_dropper dropper;

    tree_drop_begin(&dropper, release);
    while (!tree_drop_some(&dropper, UINT32_MAX)) {
    }
}

/* ---- empty tables of a run ---- */

/* Marks the locked table dead (rule P6), before the entry above changes, if it is empty. */
static bool mark_dead_if_empty(const struct tree_run *run, struct pfn table)
{
    struct frame *record = frame_record(table);

    if (record->live != 0 || pfn_equal(table, run->tree->root))
        return false;
    record->flags |= FRAME_DEAD;
    return true;
}

/* Returns the table of a level on the run's path, above the run's own. */
static struct pfn table_above(const struct tree_run *run, unsigned level)
{
    struct pfn table = run->tree->root;

    for (unsigned at = run->tree->levels; at > level; at--) {
        struct pte entry = pte_read(table_access_direct(table, at, run->start));

        CHECK_MSG(entry_is_own_table(entry), "entry %lx of level %u is on the path of a run",
                  entry.word, at);
        table = pte_frame(entry);
    }
    return table;
}

unsigned tree_run_give_back(const struct tree_run *run, struct tlb_batch *batch)
{
    bool were_on = machine_interrupts_off();
    struct pfn table = run->table;
    unsigned level = run->lowest;

    tree_lock_patiently(table, were_on);
    for (; mark_dead_if_empty(run, table); level++) {
        struct pfn above = table_above(run, level + 1);

        tree_unlock(table);
        tree_lock_patiently(above, were_on);
        tree_unlink_dead(above, table_access_direct(above, level + 1, run->start), table, batch);
        table = above;
    }
    tree_unlock(table);
    machine_interrupts_restore(were_on);
    if (level > run->lowest)
        tlb_add_page(batch, run->start);
    return level - run->lowest;
}

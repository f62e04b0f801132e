/*
 * The rule of sharing: share, and the table copy of unshare.
 *
 * A copied table treats each entry so (rule C4):
 *
 *   entry                     in the copy             in the source
 *   empty, ticket, guard      copied                  unchanged
 *   leaf or table, own        COW, count + 1          becomes COW too
 *   leaf or table, COW        count + 1               unchanged
 *   zero page, zero table     copied                  unchanged
 *   shared link, shared leaf  count + 1, rights kept  unchanged
 *   swapped                   slot's count + 1        unchanged
 *   in transit, withheld      frame's count + 1       unchanged
 */
#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "lib/bytes.h"
#include "paging/kernel/map.h"
#include "paging/tree/internal.h"
#include "pmm/pmm.h"

struct pte tree_share_entry(struct pte *source, unsigned level)
{
    struct pte entry = pte_read(source);

    switch (pte_state(entry, level)) {
    case PTE_EMPTY:
    case PTE_TICKET:
    case PTE_GUARD: return entry;
    case PTE_LEAF:
    case PTE_TABLE:
        if (!entry_is_held(entry))
            return entry;
        tree_hold(pte_frame(entry));
        if (pte_class(entry) == PTE_OWN)
            pte_make_cow(source);
        entry = pte_read(source);
        /* The source keeps its D; the copy starts without. */
        return (struct pte){pte_class(entry) == PTE_COW ? entry.word & ~PTE_D : entry.word};
    case PTE_SWAPPED: tree_globals.hooks->slot_hold(pte_slot(entry)); return entry;
    case PTE_TRANSIT:
    case PTE_WITHHELD: tree_hold(pte_payload_frame(entry)); return entry;
    case PTE_CORRUPT:
    case PTE_STATES: break;
    }
    PANIC("entry %lx of level %u is corrupt: it cannot be shared", entry.word, level);
}

void tree_copy_table(struct pfn to, struct pfn from)
{
    struct frame *source = frame_record(from);
    struct frame *copy = frame_record(to);
    struct pte *from_entries = frame_pointer(from);
    struct pte *to_entries = frame_pointer(to);

    CHECK(source->lock == 1 && source->level == copy->level);
    CHECK(source->table.base_low == copy->table.base_low && source->base_high == copy->base_high);
    if (source->table.held == 0) {
        machine_copy_frame(to_entries, from_entries);
    } else {
        for (unsigned i = 0; i < PTE_ENTRIES; i++)
            to_entries[i] = tree_share_entry(&from_entries[i], source->level);
    }
    copy->live = source->live;
    copy->table.held = source->table.held;
    rmap_join(to, from);
}

void tree_kill_table(struct pfn table)
{
    struct frame *record = frame_record(table);
    bool were_on = machine_interrupts_off();

    spin_lock(&record->lock);
    record->flags |= FRAME_DEAD;
    spin_unlock(&record->lock);
    machine_interrupts_restore(were_on);
}

/*
 * Fault-around: one write maps pages for a group of tickets.
 *
 * Pages beyond the faulting one are best effort: they come only from the processor's frame caches,
 * evict nothing, and respect the limit of resident pages. Apart from that they are ordinary pages:
 * own, in the clock, charged.
 */
#include "cpu/machine.h"
#include "vmm/fault/operation.h"
#include "vmm/page/page.h"

/* Puts a page into an entry of a locked table. The entry is known to be a ticket. */
static void populate_put_page(struct pfn table, struct pte *at, struct pfn page, uint64_t own_bits)
{
    struct frame *record = frame_record(page);

    pmm_check_free(page);
    pmm_prepare(page, FRAME_ANONYMOUS);
    record->page.back_table = table.index;
    record->page.back_index = (uint16_t)((uintptr_t)at / sizeof(*at) % PTE_ENTRIES);
    page_publish(page); /* in a clock before an entry maps it */
    __atomic_store_n(&at->word, phys_of(page).address | own_bits, __ATOMIC_RELEASE);
}

unsigned fault_fill_tickets(struct pfn table, unsigned from, unsigned to,
                            const struct descriptor *descriptor)
{
    struct pmm_cache *caches = pmm_caches_of(machine_cpu());
    struct pte *entries = frame_pointer(table);
    bool zeroed = pmm_has_zeroed(caches);
    unsigned at = from;

    CHECK(frame_record(table)->lock == 1 && to <= PTE_ENTRIES && !descriptor->rights.none);
    for (; at < to && pte_read(&entries[at]).word == descriptor->ticket.word; at++) {
        struct pfn page;

        zeroed = zeroed && pmm_take(caches, PMM_CACHE_ZERO, FRAME_ANONYMOUS, FRAME_CLEARED, &page);
        if (!zeroed) {
            if (!pmm_take(caches, PMM_CACHE_ANY, FRAME_ANONYMOUS, FRAME_CLEARED, &page))
                break;
            machine_clear_frame(frame_pointer(page));
        }
        populate_put_page(table, &entries[at], page, descriptor->own_bits);
    }
    frame_record(table)->table.held = (uint16_t)(frame_record(table)->table.held + at - from);
    return at - from;
}

unsigned fault_resident_room(unsigned wanted)
{
    uint64_t limit = resident_limit;
    uint64_t resident;

    if (limit == UINT64_MAX)
        return wanted;
    resident = page_resident();
    return resident < limit ? (unsigned)min_u64(wanted, limit - resident) : 0;
}

/* Fills the group's tickets from the written one upwards, then the adjacent ones below it.
 * holds: table(leaf) */
static unsigned fill_group(const struct fault_op *op)
{
    const struct descriptor *descriptor = descriptor_of(op->place.entry, descriptor_bound());
    const struct pte *entries = frame_pointer(op->place.table);
    unsigned pages = 1U << op->around;
    unsigned index = op->place.index;
    unsigned first = index & ~(pages - 1);
    unsigned most = fault_resident_room(pages);
    unsigned from = index;
    unsigned filled = fault_fill_tickets(
        op->place.table, index, index + (unsigned)min_u64(most, first + pages - index), descriptor);

    while (filled > 0 && from > first && index - from < most - filled &&
           pte_read(&entries[from - 1]).word == op->place.entry.word)
        from--;
    if (from < index)
        filled += fault_fill_tickets(op->place.table, from, index, descriptor);
    return filled;
}

static unsigned try_group(struct fault_op *op)
{
    unsigned filled;

    if (!fault_lock_unchanged(op))
        return 0;
    filled = fill_group(op);
    fault_unlock(op);
    return filled;
}

bool fault_give_around(struct fault_op *op)
{
    unsigned filled = try_group(op);

    if (filled == 0 && pmm_refill())
        filled = try_group(op);
    if (filled == 0)
        return false;
    fault_count(op, FAULT_FIRST_WRITE);
    __atomic_add_fetch(&op->space->faults.around, filled - 1, __ATOMIC_RELAXED);
    return true;
}

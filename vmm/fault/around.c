/*
 * Fault-around: one write brings the pages of a group of tickets.
 *
 * What nobody has asked for must not cost anybody anything: pages come from the processor's caches
 * of frames only, none goes out for them, and the limit of resident pages holds. They are pages as
 * all others: own, in the clock, accounted.
 */
#include "cpu/machine.h"
#include "vmm/fault/operation.h"
#include "vmm/page/page.h"
#include "vmm/space/internal.h"

/* How many pages may become resident within the limit. */
static unsigned room(unsigned wanted)
{
    uint64_t limit = resident_limit;
    uint64_t resident;

    if (limit == UINT64_MAX)
        return wanted;
    resident = page_resident();
    return resident < limit ? (unsigned)min_u64(wanted, limit - resident) : 0;
}

/* The group's tickets from the one that was written on, then those before it that are in a row with
 * it. holds: table(leaf) */
static unsigned fill_group(const struct fault_op *op)
{
    const struct descriptor *descriptor = descriptor_of(op->place.entry, descriptor_bound());
    const struct pte *entries = frame_pointer(op->place.table);
    unsigned pages = 1U << op->around;
    unsigned index = op->place.index;
    unsigned first = index & ~(pages - 1);
    unsigned most = room(pages);
    unsigned from = index;
    unsigned filled = space_fill_tickets(
        op->place.table, index, index + (unsigned)min_u64(most, first + pages - index), descriptor);

    while (filled > 0 && from > first && index - from < most - filled &&
           pte_read(&entries[from - 1]).word == op->place.entry.word)
        from--;
    if (from < index)
        filled += space_fill_tickets(op->place.table, from, index, descriptor);
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
    count_event(&op->space->faults.first_write);
    __atomic_add_fetch(&op->space->faults.around, filled - 1, __ATOMIC_RELAXED);
    return true;
}

/* Faults in regions that sections back: replaces a ticket by a leaf of the section's page, shared
 * or COW, or for a write through a private mapping by a copy. */
#include "cpu/machine.h"
#include "vmm/fault/operation.h"
#include "vmm/page/page.h"
#include "vmm/section/section.h"

/* Locks the leaf table, if the section is still mapped here in the same way: another one may have
 * been mapped with equal tickets. */
static bool lock_at_place(struct fault_op *op, const struct section_place *place)
{
    if (!fault_lock_unchanged(op))
        return false;
    if (section_is_at(op->space, op->address, place))
        return true;
    fault_unlock(op);
    return false;
}

/* Replaces the ticket by the section's page, which is held for the entry. */
static enum status put_section_page(struct fault_op *op, const struct section_place *place,
                                    struct pfn page)
{
    CHECK(frame_record(page)->kind == FRAME_ANONYMOUS && frame_record(page)->count > 0);
    if (!lock_at_place(op, place)) {
        page_release(page);
        return STATUS_AGAIN;
    }
    if (place->copies)
        tree_mark_copies(op->place.table);
    tree_replace_entry(op->place.table, op->place.index,
                       pte_leaf(page, 1, place->copies ? PTE_COW : PTE_SHARED, op->rights));
    fault_unlock(op);
    count_event(&op->space->faults.shared);
    return OK;
}

/* Replaces the ticket by a copy of the section's page, which the caller holds. Meanwhile a leaf of
 * that page may have come here and been recalled, with a flush that is still to be made: another
 * processor of the space could read the old page after a write to the copy (rule P2). */
static enum status put_copy(struct fault_op *op, const struct section_place *place, struct pfn page)
{
    enum status status = page_reserve_fill(&op->reserve, FRAME_UNCLEARED);

    if (status == OK && !lock_at_place(op, place))
        status = STATUS_AGAIN;
    CHECK(place->copies && op->access.write);
    if (status == OK) {
        machine_copy_frame(frame_pointer(op->reserve.page), frame_pointer(page));
        tree_mark_copies(op->place.table);
        fault_count(op, FAULT_COW_COPY);
        if (fault_runs_elsewhere(op->space))
            status = fault_replace_in_transit(op);
        else
            fault_map_page(op);
    }
    page_release(page);
    return status;
}

/* If no section is mapped here any more, the next walk finds that, or waits for a move in
 * progress. */
enum status fault_map_shared(struct fault_op *op)
{
    struct section_place place;
    struct pfn page = PFN_NONE;
    enum status status;

    CHECK(op->shared && op->place.level == 1);
    if (!section_hold_at(op->space, op->address, &place)) {
        machine_relax();
        return STATUS_AGAIN;
    }
    status = section_bring(op->space, &place, SECTION_USE, &op->reserve, &page);
    if (status == OK)
        status = place.copies && op->access.write ? put_copy(op, &place, page)
                                                  : put_section_page(op, &place, page);
    section_put(place.section);
    return status;
}

/* Faults in shared regions: replaces a ticket by a shared leaf of the section's page. */
#include "cpu/machine.h"
#include "vmm/fault/operation.h"
#include "vmm/page/page.h"
#include "vmm/section/section.h"

/* Replaces the ticket by the section's page, which is held for the entry. Checks under the lock
 * that the section is still mapped here: another one may have been mapped with equal tickets. */
static enum status put_shared_page(struct fault_op *op, const struct section_place *place,
                                   struct pfn page)
{
    bool right = fault_lock_unchanged(op);

    CHECK(frame_record(page)->kind == FRAME_ANONYMOUS && frame_record(page)->count > 0);
    if (right && !section_is_at(op->space, op->address, place)) {
        fault_unlock(op);
        right = false;
    }
    if (!right) {
        page_release(page);
        return STATUS_AGAIN;
    }
    tree_replace_entry(op->place.table, op->place.index, pte_leaf(page, 1, PTE_SHARED, op->rights));
    fault_unlock(op);
    count_event(&op->space->faults.shared);
    return OK;
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
        status = put_shared_page(op, &place, page);
    section_put(place.section);
    return status;
}

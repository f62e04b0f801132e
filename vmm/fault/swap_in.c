/*
 * Swap-in: a swapped entry becomes a page again.
 *
 * The entry goes in transit before the read and comes out after it, so no lock is held while the
 * disk works, and other faults on the entry wait. The page is in the swap cache from the start: it
 * takes over the entry's count of the slot, and other entries with the slot find the page
 * through the ring instead of reading it again (rule C9).
 */
#include "vmm/fault/operation.h"

#include "cpu/machine.h"
#include "swapdisk/area.h"
#include "vmm/page/managed.h"
#include "vmm/page/transfer.h"

/* Maps the page of the swap cache, on which the caller owns a hold. Retries while FRAME_IO is set
 * and if the transfer has removed the page from the swap cache. holds: the leaf table, which it
 * unlocks */
static enum status use_cached_page(struct fault_op *op, struct pfn cached)
{
    struct pte leaf = pte_leaf(cached, 1, PTE_COW, pte_rights(op->place.entry));
    uint8_t flags = __atomic_load_n(&frame_record(cached)->flags, __ATOMIC_ACQUIRE);

    CHECK(frame_record(cached)->kind == FRAME_ANONYMOUS);
    if ((flags & (FRAME_SWAP_CACHED | FRAME_IO)) != FRAME_SWAP_CACHED) {
        fault_unlock(op);
        page_release(cached);
        machine_relax();
        return STATUS_AGAIN;
    }
    tree_replace_entry(op->place.table, op->place.index, leaf);
    /* The entry that the back pointer named may have been removed meanwhile without a successor. */
    rmap_set_pointer(cached, op->place.table, op->place.index);
    fault_unlock(op);
    swap_release(pte_slot(op->place.entry));
    count_event(&op->space->faults.swap_cached);
    return op->access.write ? STATUS_AGAIN : OK;
}

/* Ends the transfers of a batch. Neighbours that could not be read go back to their slots in
 * silence. Returns the status of the faulted page. */
static enum status end_batch(const struct read_batch *batch, const enum status *read)
{
    CHECK(batch->faulted < batch->count);
    for (unsigned i = 0; i < batch->count; i++) {
        enum transfer_result result = read[i] != OK         ? TRANSFER_SLOT
                                      : i == batch->faulted ? TRANSFER_LEAF
                                                            : TRANSFER_UNUSED;

        transfer_end(batch->pages[i],
                     &(struct transfer_end){.result = result, .slot = {batch->first.index + i}});
        page_release(batch->pages[i]);
    }
    return read[batch->faulted];
}

/* Continues a write whose page has been read: if the leaf is the page's only user and its path is
 * still own, makes it own, out of the swap cache. Otherwise the fault starts over. */
static enum status write_read_page(struct fault_op *op, struct pfn page)
{
    enum status status = STATUS_AGAIN;

    op->place.entry = pte_leaf(page, 1, PTE_COW, pte_rights(op->place.entry));
    if (!op->place.own || !fault_lock_unchanged(op))
        return STATUS_AGAIN;
    if (fault_is_last_owner(page))
        status = fault_reuse_page(op);
    fault_unlock(op);
    return status;
}

/* Reads the slot into the reserved page, which the entry references in transit meanwhile; the swap
 * cache has the entry's count of the slot. Neighbours come along. holds: the leaf table, which is
 * unlocked */
static enum status read_slot(struct fault_op *op, struct slot slot)
{
    struct tree_pointer at = {op->place.table, op->place.index};
    struct pfn page = page_reserve_take(&op->reserve);
    struct read_batch batch = {.first = slot, .count = 1, .pages = {page}};
    enum status read[READ_TOGETHER];
    enum status status;

    transfer_begin_in(page, at, pte_rights(op->place.entry), slot);
    managed_returns(page, slot);
    read_ahead_begin(op, slot, &batch);
    fault_unlock(op);
    /* holds: pages(count of the entry, count of the transfer, FRAME_IO), slots(by the swap
     * cache) */
    swap_read_in(batch.first, batch.pages, batch.count, batch.faulted, read);
    status = end_batch(&batch, read);
    if (status != OK)
        return status;
    count_event(&op->space->faults.swap_in);
    return op->access.write ? write_read_page(op, page) : OK;
}

/* Swaps a page in. Slot and ring are stable only while the table is locked. */
enum status swap_in(struct fault_op *op)
{
    struct slot slot = pte_slot(op->place.entry);
    struct pfn cached = PFN_NONE;
    enum status status = OK;

    managed_ghost_hit(slot);
    /* Only a hint: if other entries have the slot too, one of them may have read it already. */
    if (swap_count(slot) <= 1)
        status = page_reserve_fill(&op->reserve, FRAME_UNCLEARED);
    if (status != OK)
        return status;
    if (!fault_lock_unchanged(op))
        return STATUS_AGAIN;
    CHECK_MSG(swap_count(slot) > 0, "entry %lx names slot %x, which is free", op->place.entry.word,
              slot.index);
    if (swap_count(slot) > 1)
        cached = rmap_hold_cached(op->place.table, op->place.index, slot);
    if (!pfn_is_none(cached))
        return use_cached_page(op, cached);
    if (!pfn_is_none(op->reserve.page))
        return read_slot(op, slot);
    fault_unlock(op);
    status = page_reserve_fill(&op->reserve, FRAME_UNCLEARED);
    return status == OK ? STATUS_AGAIN : status;
}

/*
 * Swap-in: a swapped entry becomes a page again.
 *
 * The entry goes in transit before the read and comes out after it, so that no lock is held while
 * the disk works, and whoever else meets it waits. The page is tied to its slot from the start: the
 * tie takes over the entry's count of the slot, and other entries that name the slot find the page
 * through the ring instead of reading it again (rule C9).
 */
#include "vmm/fault/operation.h"

#include "cpu/machine.h"
#include "swapdisk/area.h"
#include "vmm/page/page.h"

/* Pointers converted in one look at the ring. */
#define POINTERS_TOGETHER 16U

/* Another entry has read the slot: its page serves this one too. While it comes or goes FRAME_IO is
 * set, and one that has not come, or is gone, is not tied by the time the flag is off. */
static enum status use_cached_page(struct fault_op *op, struct pfn tied)
{
    struct pte leaf = pte_leaf(tied, 1, PTE_COW, pte_rights(op->place.entry));
    uint8_t flags = __atomic_load_n(&frame_record(tied)->flags, __ATOMIC_ACQUIRE);

    if ((flags & (FRAME_SWAP_CACHED | FRAME_IO)) != FRAME_SWAP_CACHED ||
        !fault_lock_unchanged(op)) {
        page_release(tied);
        machine_relax();
        return STATUS_AGAIN;
    }
    tree_replace_entry(op->place.table, op->place.index, leaf);
    /* The entry by which the page was found may have gone meanwhile, and no other was named
     * then. */
    rmap_set_pointer(tied, op->place.table, op->place.index);
    fault_unlock(op);
    swap_release(pte_slot(op->place.entry));
    fault_count(&op->space->faults.swap_cached);
    return op->access.write ? STATUS_AGAIN : OK;
}

/* The entry names the page in transit from now on; the tie has the entry's count of the slot. */
static bool begin_transit(struct fault_op *op, struct slot slot)
{
    if (!fault_lock_unchanged(op))
        return false;
    __atomic_or_fetch(&frame_record(op->page)->flags, FRAME_IO, __ATOMIC_RELAXED);
    rmap_reference(op->page, op->place.table, op->place.index);
    tree_hold(op->page); /* the transfer's own */
    swap_cache_add(op->page, slot);
    tree_replace_entry(op->place.table, op->place.index,
                       pte_transit(op->page, pte_rights(op->place.entry)));
    fault_unlock(op);
    return true;
}

/* One entry in transit becomes a leaf, or `swapped`. A lock that is held at the moment is met again
 * at the caller's next look. */
static void swap_in_end_one(struct pfn page, struct slot slot, bool in_frame,
                            struct tree_pointer at)
{
    bool were_on = machine_interrupts_off();
    struct pte old;
    struct rights rights;

    if (tree_lock_pointer(page, PTE_TRANSIT, at) != OK) {
        machine_interrupts_restore(were_on);
        return;
    }
    old = pte_read((const struct pte *)frame_pointer(at.table) + at.index);
    rights = pte_rights(old);
    if (!in_frame)
        swap_hold(slot);
    tree_replace_entry(at.table, at.index,
                       in_frame ? pte_page(page, 1, page_class(page), rights)
                                : pte_swapped(slot, rights));
    tree_unlock(at.table);
    machine_interrupts_restore(were_on);
    if (!in_frame)
        tree_drop(&(struct tlb_release){.entry = old, .level = 1});
}

void swap_end_transit(struct pfn page, struct slot slot, bool in_frame)
{
    struct tree_pointer pointers[POINTERS_TOGETHER];
    unsigned found;

    while ((found = tree_find_pointers(page, PTE_TRANSIT, pointers, POINTERS_TOGETHER)) > 0) {
        for (unsigned i = 0; i < found && i < POINTERS_TOGETHER; i++)
            swap_in_end_one(page, slot, in_frame, pointers[i]);
        machine_relax(); /* an entry in a table that is being dropped goes with it */
    }
}

static enum status read_slot(struct fault_op *op, struct slot slot)
{
    enum status status = fault_reserve_page(op, FRAME_UNCLEARED);
    struct pfn page = op->page;

    if (status != OK)
        return status;
    if (!begin_transit(op, slot))
        return STATUS_AGAIN;
    op->page = PFN_NONE;
    /* holds: page(count of the entry, count of the transfer, FRAME_IO), slot(by the tie) */
    status = swap_read(slot, page);
    if (status == OK)
        page_publish(page);
    swap_end_transit(page, slot, status == OK);
    if (status != OK)
        swap_cache_remove(page); /* the entries have counts of the slot again */
    __atomic_and_fetch(&frame_record(page)->flags, (uint8_t)~FRAME_IO, __ATOMIC_RELEASE);
    page_release(page);
    if (status != OK)
        return status;
    fault_count(&op->space->faults.swap_in);
    /* A write goes on as a write to a COW page: a copy, or the last owner's, which cuts the tie. */
    return op->access.write ? STATUS_AGAIN : OK;
}

enum status swap_in(struct fault_op *op)
{
    struct slot slot = pte_slot(op->place.entry);

    CHECK_MSG(swap_count(slot) > 0, "entry %lx names slot %x, which is free", op->place.entry.word,
              slot.index);
    if (swap_count(slot) > 1) {
        struct pfn tied = rmap_hold_cached(op->place.table, op->place.index, slot);

        if (!pfn_is_none(tied))
            return use_cached_page(op, tied);
    }
    return read_slot(op, slot);
}

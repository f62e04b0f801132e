/*
 * Swap-in, and what it shares with the fault that needs it.
 *
 * Units, context, errors: as vmm/fault/fault.h. Owns: nothing between calls.
 * Rules: C9, E5.
 */
#ifndef VMM_FAULT_OPERATION_H
#define VMM_FAULT_OPERATION_H

#include "pmm/pmm.h"
#include "vmm/fault/fault.h"

/* One fault under way: threaded through all its steps. */
struct fault_op {
    struct space *space;
    uint64_t address;
    struct fault_access access;
    struct tree_place place;     /* where the last walk ended */
    struct rights rights;        /* what the entry there, or its descriptor, allows */
    struct tree_reserve reserve; /* tables set aside */
    struct pfn page;             /* page set aside; PFN_NONE: none */
    bool page_cleared;
    uint8_t page_level; /* of a ticket: the size of page that its region hints for */
    uint8_t around;     /* of a ticket: how many pages a write to it brings, as a power of two */
    bool shared;        /* of a ticket: a section has the page */
    bool takes_small;   /* there was no large page */
    bool were_on;       /* interrupts, while the leaf table is locked */
};

/* Makes sure that a page is set aside, without any lock. */
MUST_USE enum status fault_reserve_page(struct fault_op *op, enum frame_clear clear);

/* Walks again and locks the leaf table if all is still as the walk before found it; false: start
 * over. Interrupts stay off until the lock is released (rule P4). */
MUST_USE bool fault_lock_unchanged(struct fault_op *op);
void fault_unlock(struct fault_op *op);

/* A ticket is written whose region hints for more than one page at a time (vmm/fault/around.c):
 * true when its page is there; false when nothing has changed. */
MUST_USE bool fault_give_around(struct fault_op *op);

/* Ends a transfer in either direction: every entry in transit to the page becomes a COW leaf, of a
 * section's page a shared one, or names the slot when the content is in the slot alone. The caller
 * holds a count of the page. */
void swap_end_transit(struct pfn page, struct slot slot, bool in_frame);

/* Brings the page of a swapped entry back, in place for all sharers of its table. STATUS_AGAIN when
 * the fault is to look again: a write to what has become a COW page. */
MUST_USE enum status swap_in(struct fault_op *op);

#endif

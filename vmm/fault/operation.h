/*
 * One fault under way, between the files of faults.
 *
 * Units, context, errors: as vmm/fault/fault.h. Owns: nothing between calls.
 * Rules: C9, E5.
 */
#ifndef VMM_FAULT_OPERATION_H
#define VMM_FAULT_OPERATION_H

#include "pmm/pmm.h"
#include "vmm/fault/fault.h"
#include "vmm/page/page.h"

/* One fault under way: threaded through all its steps. */
struct fault_op {
    struct space *space;
    uint64_t address;
    struct fault_access access;
    struct tree_place place;     /* where the last walk ended */
    struct rights rights;        /* what the entry there, or its descriptor, allows */
    struct page_reserve reserve; /* tables and a page set aside */
    uint8_t page_level;          /* of a ticket: the size of page that its region hints for */
    uint8_t around;   /* of a ticket: how many pages a write to it brings, as a power of two */
    bool shared;      /* of a ticket: a section has the page */
    bool takes_small; /* there was no large page */
    bool were_on;     /* interrupts, while the leaf table is locked */
};

/* Walks again and locks the leaf table if all is still as the walk before found it; false: start
 * over. Interrupts stay off until the lock is released (rule P4). */
MUST_USE bool fault_lock_unchanged(struct fault_op *op);
void fault_unlock(struct fault_op *op);

/* A ticket is written whose region hints for more than one page at a time (vmm/fault/around.c):
 * true when its page is there; false when nothing has changed. */
MUST_USE bool fault_give_around(struct fault_op *op);

/* Brings the page of a swapped entry back, in place for all sharers of its table. STATUS_AGAIN when
 * the fault is to look again: a write to what has become a COW page. */
MUST_USE enum status swap_in(struct fault_op *op);

/* Brings the page of a shared region's ticket, if it is not in memory, and maps it by a shared
 * leaf. The walk has ended at the ticket, in a leaf table, along own tables for a write.
 * STATUS_AGAIN: start over. No lock is held, and it may wait for the disk. */
MUST_USE enum status fault_map_shared(struct fault_op *op);

#endif

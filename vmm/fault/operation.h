/*
 * The state of one fault in progress, shared by the files of faults.
 *
 * Units, context, errors: as vmm/fault/fault.h. Owns: nothing between calls.
 * Rules: C9, E5.
 */
#ifndef VMM_FAULT_OPERATION_H
#define VMM_FAULT_OPERATION_H

#include "cpu/machine.h"
#include "pmm/pmm.h"
#include "vmm/fault/fault.h"
#include "vmm/page/page.h"
#include "vmm/page/transfer.h"

/* One fault in progress; passed through all its steps. */
struct fault_op {
    struct space *space;
    uint64_t address;
    struct fault_access access;
    struct tree_place place;     /* the end of the last walk */
    struct rights rights;        /* of the entry there, or of its descriptor */
    struct page_reserve reserve; /* tables and a page allocated in advance */
    uint8_t page_level;          /* of a ticket: the size of page that its region hints for */
    uint8_t around;              /* of a ticket: pages that a write brings in, as a power of two */
    bool shared;                 /* of a ticket: the page belongs to a section */
    bool copies;                 /* likewise, and a write copies it: the mapping is private */
    bool takes_small;            /* no large page was available */
    bool were_on;                /* interrupts, while the leaf table is locked */
};

/* Counts a fault of a kind that the fast path resolves too. The space need not be the one that the
 * processor runs: calls fill others too. */
static inline void fault_count(const struct fault_op *op, enum fault_fast_count which)
{
    if (op->space == machine_space())
        machine_count(which);
    else
        count_event(&op->space->faults.fast[which]);
}

/* Walks again and locks the leaf table if the entry is unchanged. Returns false if the fault must
 * start over. Interrupts stay off until the unlock (rule P4). */
MUST_USE bool fault_lock_unchanged(struct fault_op *op);
void fault_unlock(struct fault_op *op);

/* Returns true if the page may become own again. A section's page never does, whatever its count
 * is: the section may have dropped it a moment ago, or hold it for a transfer (rule N5). */
static inline bool fault_is_last_owner(struct pfn page)
{
    const struct frame *record = frame_record(page);

    return __atomic_load_n(&record->count, __ATOMIC_ACQUIRE) == 1 &&
           (record->flags & FRAME_SHARED) == 0;
}

/* Puts the reserved page into the entry as own and unlocks the table. The page enters a clock
 * first, since another processor may drop it after the unlock. */
void fault_map_page(struct fault_op *op);

/* Returns true if other processors may have the locked entry's page cached. */
bool fault_runs_elsewhere(const struct space *space);

/* Puts the reserved page into the entry while other processors run the space, drops the old target
 * after a flush, and unlocks the table at once. Always STATUS_AGAIN. */
MUST_USE enum status fault_replace_in_transit(struct fault_op *op);

/* Makes the locked COW leaf's page own again for its last owner, without a copy (rules C6, C9).
 * STATUS_AGAIN: another entry is finding it. */
MUST_USE enum status fault_reuse_page(struct fault_op *op);

/* Resolves a write to a ticket with a fault-around hint (around.c). Returns false if it changed
 * nothing. */
MUST_USE bool fault_give_around(struct fault_op *op);

/* Returns how many pages, at most `wanted`, may become resident within the limit. */
unsigned fault_resident_room(unsigned wanted);

/* Pages that one command reads for a fault: of entries and slots that follow each other. */
#define READ_TOGETHER 16U

struct read_batch {
    struct slot first;
    unsigned count;
    unsigned faulted; /* place of the page that the fault waits for */
    struct pfn pages[READ_TOGETHER];
};

/* Adds neighbours of the faulted page, which is the batch's only one, and puts their entries in
 * transit (read_ahead.c). The leaf table is locked. */
void read_ahead_begin(const struct fault_op *op, struct slot slot, struct read_batch *batch);

/* Swaps a page in, in place for all sharers of its table. STATUS_AGAIN: the fault starts over, for
 * a write to what is now a COW page. */
MUST_USE enum status swap_in(struct fault_op *op);

/* Resolves a fault at a ticket of a shared region: makes the section's page resident and maps it by
 * a shared leaf. The walk ended at the ticket in a leaf table, along own tables for a write. No
 * lock may be held; may wait for the disk. STATUS_AGAIN: start over. */
MUST_USE enum status fault_map_shared(struct fault_op *op);

#endif

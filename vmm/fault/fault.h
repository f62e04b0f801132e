/*
 * Faults: from a page fault to a page, or to a reason why not.
 *
 * Units: addresses in bytes. Owns: nothing between calls; what a fault sets aside and does not need
 * it gives back.
 * Fails with: STATUS_DENIED (the rights forbid it), STATUS_NOT_FOUND (nothing is mapped there, or a
 * guard), STATUS_NO_MEMORY, STATUS_NO_SPACE, STATUS_IO, STATUS_TIMEOUT, STATUS_CORRUPT (the page
 * did not come back from the swap area as it went): the access cannot be made, and nothing has
 * changed. Context: a fault, or a thread that wants to do what a fault would do. It may wait for
 * the disk. Rules: C6 to C9, E1 to E5, P1 to P9.
 */
#ifndef VMM_FAULT_FAULT_H
#define VMM_FAULT_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/status.h"
#include "vmm/space/space.h"

/* What was tried. */
struct fault_access {
    bool write;
    bool execute;
    bool from_user;    /* ring 3 */
    bool user_allowed; /* ring 0 that may touch user pages: SMAP off or EFLAGS.AC, or SMEP off */
    /* None at all, with write: a page of one's own is to be there as after a write, whatever the
     * rights are but none (space_wire). */
    bool wire;
};

/* Resolves one access of a space: what the fault handler does, callable by tests. */
MUST_USE enum status fault_resolve(struct space *space, uint64_t address,
                                   struct fault_access access);

/* Makes these handlers the machine's: from now on page faults come here. After vmm_init. */
void fault_start(void);

/* Offered each violation of ring 3, as trap_page_fault is; NULL: none is resolved. */
struct trap_frame;
extern bool (*fault_upcall)(uint64_t address, uint64_t error, struct trap_frame *frame);

/* Why the last fault on this processor that was not resolved was not. */
enum status fault_last_reason(void);

/* Fills the entries [from, to) of a locked leaf table on an own path with cleared pages, as far as
 * they are the descriptor's tickets and this processor's caches have frames; how many. No limit of
 * resident pages is looked at. */
unsigned fault_fill_tickets(struct pfn table, unsigned from, unsigned to,
                            const struct descriptor *descriptor);

/* ---- between the files of faults ---- */

/* The fast path, for trees of four and of five levels: what trap_page_fault is. What they do not
 * resolve they hand on. */
bool fault_fast_4(uint64_t address, uint64_t error, struct trap_frame *frame);
bool fault_fast_5(uint64_t address, uint64_t error, struct trap_frame *frame);

/* The same for trees of any depth, without what is behind it; false: nothing has changed. */
bool fault_fast_any(uint64_t address, uint64_t error);

/* Words that the fast path computes with; in fault.c. They never change, but the compiler is not
 * told, or it would keep them in registers over the copying of a page. */
extern struct fault_constants {
    uint64_t frame_mask;
    uint64_t leaf_mask;  /* with PTE_P: whether an entry names a page, and as a leaf */
    uint64_t no_frame;   /* all other bits */
    uint8_t *direct_map; /* a pointer, so that a sum with it is left to the addressing mode */
    uint64_t records;
    uint64_t descriptors;
} fault_constants;

/* The zero page; fault_start sets it. */
extern struct pfn fault_zero_page;

#endif

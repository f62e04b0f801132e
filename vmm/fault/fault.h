/*
 * Faults: resolves a page fault, or returns the reason why it cannot be resolved.
 *
 * Units: addresses in bytes. Owns: nothing between calls; unused reserves are freed. Fails with:
 * STATUS_DENIED (rights), STATUS_NOT_FOUND (unmapped, or a guard), STATUS_NO_MEMORY,
 * STATUS_NO_SPACE, STATUS_IO, STATUS_TIMEOUT, STATUS_CORRUPT (the page read from swap has a wrong
 * check value). On failure nothing has changed. Context: a fault, or a thread that acts for one.
 * May wait for the disk. Rules: C6 to C9, E1 to E5, P1 to P9.
 */
#ifndef VMM_FAULT_FAULT_H
#define VMM_FAULT_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/status.h"
#include "vmm/space/space.h"

/* The kind of access. */
struct fault_access {
    bool write;
    bool execute;
    bool from_user;    /* ring 3 */
    bool user_allowed; /* ring 0 may access user pages: SMAP off or EFLAGS.AC, or SMEP off */
    /* With write: makes the page own and resident as after a write, whatever its rights, unless it
     * has none (space_wire). */
    bool wire;
};

/* Resolves one access of a space. Used by the fault handler and by tests. */
MUST_USE enum status fault_resolve(struct space *space, uint64_t address,
                                   struct fault_access access);

/* Installs the page-fault handlers. Called after vmm_init. */
void fault_start(void);

/* Called for each violation of ring 3, with the contract of trap_page_fault; NULL: no handler. */
struct trap_frame;
extern bool (*fault_upcall)(uint64_t address, uint64_t error, struct trap_frame *frame);

/* Called after the slow path has resolved a fault of ring 3, before the program goes on; it may
 * change the frame. NULL while no program has asked for the low-memory notice; any processor may
 * set or clear it at any time, so each call loads it once. */
extern void (*fault_notice)(struct trap_frame *frame);

/* Returns the reason of this processor's last unresolved fault. */
enum status fault_last_reason(void);

/* Fills tickets of the descriptor among the entries [from, to) with cleared pages, while this
 * processor's caches have frames. The leaf table is locked and on an own path. Returns the number
 * of pages. Ignores the limit of resident pages. */
unsigned fault_fill_tickets(struct pfn table, unsigned from, unsigned to,
                            const struct descriptor *descriptor);

/* ---- used by the files of faults ---- */

/* Run the fast path for trees of four and of five levels, with the contract of trap_page_fault.
 * Pass other faults to the slow path. */
bool fault_fast_4(uint64_t address, uint64_t error, struct trap_frame *frame);
bool fault_fast_5(uint64_t address, uint64_t error, struct trap_frame *frame);

/* Runs the fast path alone, for any number of levels. Returns false if it changed nothing. */
bool fault_fast_any(uint64_t address, uint64_t error);

/* Pages that faults on others have read from the swap area, since start (read_ahead.c). */
uint64_t read_ahead_pages(void);

/* Turns reading ahead off, for runs that count each page that comes, and on again. */
void read_ahead_allow(bool allowed);

/* Constants of the fast path, in fault.c. They are not declared const, so that the compiler does
 * not keep them in registers across the copy of a page. */
extern struct fault_constants {
    uint64_t frame_mask;
    uint64_t leaf_mask;  /* with PTE_P: tests whether an entry is a leaf */
    uint64_t no_frame;   /* all other bits */
    uint8_t *direct_map; /* a pointer, so that the addressing mode does the addition */
    uint64_t records;
    uint64_t descriptors;
} fault_constants;

/* The zero page; fault_start sets it. */
extern struct pfn fault_zero_page;

#endif

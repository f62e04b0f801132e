/*
 * The seam between faults and the processor: the handlers of faults that the fast path does not
 * resolve.
 *
 * Each has the contract of trap_page_fault: it returns true if the program continues. They are in
 * vmm/fault/entry_machine.c, which host tests compile too.
 *
 * Units: addresses in bytes. Owns: nothing. Fails with: false, and fault_last_reason() says why.
 * Context: a fault, interrupts off, no lock. Rules: P9.
 */
#ifndef VMM_FAULT_ENTRY_H
#define VMM_FAULT_ENTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/status.h"

struct trap_frame;

/* Handles a fault in full. May wait for other processors and for the disk. */
bool fault_slow(uint64_t address, uint64_t error, struct trap_frame *frame);

/* Handles a violation in the running space: STATUS_NOT_FOUND at an unmapped address or a guard,
 * STATUS_DENIED where rights deny the access. */
bool fault_violates(uint64_t address, uint64_t error, struct trap_frame *frame, enum status reason);

#endif

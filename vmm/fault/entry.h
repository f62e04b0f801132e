/*
 * The seam between faults and the processor: where the fast path leaves what it does not resolve.
 *
 * Each is what trap_page_fault is: true when the program goes on. They stand in
 * vmm/fault/entry_machine.c, and host tests compile that as well.
 *
 * Units: addresses in bytes. Owns: nothing. Fails with: false, and fault_last_reason() says why.
 * Context: a fault, interrupts off, no lock. Rules: P9.
 */
#ifndef VMM_FAULT_ENTRY_H
#define VMM_FAULT_ENTRY_H

#include <stdbool.h>
#include <stdint.h>

struct trap_frame;

/* All that may wait: for other processors, for the disk. */
bool fault_slow(uint64_t address, uint64_t error, struct trap_frame *frame);

/* Nothing is mapped at the address of the running space, or a guard: a violation. */
bool fault_unmapped(uint64_t address, uint64_t error, struct trap_frame *frame);

#endif

/*
 * Stacks: regions whose pages below all stack pointers may be freed.
 *
 * A region is a stack if it was mapped with SPACE_STACK. Its live part begins at the lowest of the
 * given pointers in it, less the red zone; whole pages below that are blank after a trim. All
 * threads that may use the stack count: a child that runs on its parent's stack is below its
 * parent.
 *
 * Units: bytes, pages. Owns: nothing. Fails with: STATUS_NO_MEMORY (no table for a split; nothing
 * of that stack has changed). Context: thread; none of the threads runs meanwhile
 * (vmm/range/advise.c). Spec: System V AMD64 ABI, 3.2.2 (red zone).
 */
#ifndef VMM_SPACE_STACK_H
#define VMM_SPACE_STACK_H

#include "vmm/space/space.h"

/* Bytes below the stack pointer that leaf functions use without moving it. */
#define STACK_RED_ZONE 128U

/* Trims each stack of the space in which at least one pointer is; a pointer to a region's end is in
 * it. Stacks without one stay as they are, and so do wired ones. Adds the number of pages that were
 * freed to *pages. */
MUST_USE enum status space_trim_stacks(struct space *space, const uint64_t *pointers,
                                       unsigned count, uint64_t *pages);

#endif

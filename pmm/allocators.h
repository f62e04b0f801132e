/*
 * The four frame allocators by name, for pmm/allocator.c: everybody else asks frame_allocator().
 *
 * Owns: nothing. Context: any.
 */
#ifndef PMM_ALLOCATORS_H
#define PMM_ALLOCATORS_H

#include "pmm/allocator.h"

extern const struct frame_allocator llfree_allocator;
extern const struct frame_allocator bitmap_allocator;
extern const struct frame_allocator stack_allocator;
extern const struct frame_allocator buddy_allocator;

#endif

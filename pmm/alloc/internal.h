/*
 * The four frame allocators by name, for pmm/alloc/allocator.c: everybody else asks
 * frame_allocator().
 *
 * Owns: nothing. Context: any.
 */
#ifndef PMM_ALLOC_INTERNAL_H
#define PMM_ALLOC_INTERNAL_H

#include "pmm/alloc/allocator.h"

/* Counts the set bits. Without POPCNT the compiler's builtin would call a library function. */
static inline unsigned bits_set(uint64_t word)
{
    unsigned count = 0;

    for (; word != 0; word &= word - 1)
        count++;
    return count;
}

extern const struct frame_allocator llfree_allocator;
extern const struct frame_allocator bitmap_allocator;
extern const struct frame_allocator stack_allocator;
extern const struct frame_allocator buddy_allocator;

#endif

/*
 * For the files of the allocators: how one is registered, helpers that several use, and the headers
 * that each of them needs.
 *
 * Owns: nothing. Context: any.
 */
#ifndef PMM_ALLOC_INTERNAL_H
#define PMM_ALLOC_INTERNAL_H

#include "lib/bytes.h"
#include "lib/check.h"
#include "pmm/alloc/allocator.h"

/* Counts the set bits. Without POPCNT the compiler's builtin would call a library function. */
static inline unsigned bits_set(uint64_t word)
{
    unsigned count = 0;

    for (; word != 0; word &= word - 1)
        count++;
    return count;
}

/* Defines the allocator `identifier`_allocator and puts a pointer to it into the section that
 * frame_allocator() reads: a new allocator needs no entry in a list. */
#define FRAME_ALLOCATOR(identifier)                                                                \
    static const struct frame_allocator identifier##_allocator;                                    \
    static const struct frame_allocator *const identifier##_registered                             \
        __attribute__((used, section("frame_allocators"))) = &identifier##_allocator;              \
    static const struct frame_allocator identifier##_allocator

#endif

/*
 * The kernel's half of the address space: the address of each window.
 *
 *   ffff800000000000  direct map of physical memory, 64 TiB of room (pmm/frame.h)
 *   ffffc00000000000  frame records, 32 bytes a frame (pmm/frame.h)
 *   ffffc08000000000  permanent window of top tables, 4 KiB a space
 *   ffffc10000000000  recursive slot, with four levels
 *   ffffc18000000000  descriptors, 64 bytes each
 *   ffffc20000000000  device registers and the framebuffer
 *   ffffc28000000000  kernel stacks, an unmapped page under each
 *   ffffffff80000000  the image
 *
 * With five levels the recursive slot is at fffe000000000000 and 256 TiB large: it must be an entry
 * of the top table. Every other window is one entry of level 4 or several, so that windows share no
 * table, and lies in the upper half of 48-bit addresses: the same with four levels and with five.
 */
#ifndef PAGING_KERNEL_LAYOUT_H
#define PAGING_KERNEL_LAYOUT_H

#include <stdint.h>

#include "paging/pte.h"
#include "pmm/frame.h"

#define DIRECT_MAP_SIZE  UINT64_C(0x400000000000)
#define TOP_WINDOW_BASE  UINT64_C(0xffffc08000000000)
#define RECURSIVE_BASE_4 UINT64_C(0xffffc10000000000)
#define RECURSIVE_BASE_5 UINT64_C(0xfffe000000000000)
#ifndef DESCRIPTORS_BASE
#define DESCRIPTORS_BASE UINT64_C(0xffffc18000000000)
#endif
#define DEVICE_WINDOW_BASE UINT64_C(0xffffc20000000000)
#define STACK_WINDOW_BASE  UINT64_C(0xffffc28000000000)
#define IMAGE_BASE         UINT64_C(0xffffffff80000000)

#define WINDOW_SIZE UINT64_C(0x8000000000)

/* Address spaces at once, and so top tables in the window. */
#define SPACES_MAX 65536U

/* Returns the end of the lower half, by the number of levels. */
static inline uint64_t lower_half_end(unsigned levels)
{
    return UINT64_C(1) << (levels * 9 + 11);
}

/* Return the start of the recursive slot, and its index in the top table. */
static inline uint64_t recursive_base(unsigned levels)
{
    return levels == 5 ? RECURSIVE_BASE_5 : RECURSIVE_BASE_4;
}

static inline unsigned recursive_index(unsigned levels)
{
    return pte_index(recursive_base(levels), levels);
}

/* Returns the address in the recursive slot of an address's entry at a level. Each pass through the
 * slot walks one level less, which moves all indexes down by one. */
static inline uint64_t recursive_address(unsigned levels, uint64_t address, unsigned level)
{
    uint64_t covered = pte_span(levels + 1) - 1;

    for (unsigned i = 0; i < level; i++)
        address = recursive_base(levels) | (address & covered) >> 9;
    return address & ~(uint64_t)(sizeof(struct pte) - 1);
}

/* Returns the address of a space's top table in the window. */
static inline uint64_t top_window_address(uint32_t space)
{
    return TOP_WINDOW_BASE + space * PAGE_SIZE;
}

#endif
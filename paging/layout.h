/*
 * The kernel's half of the address space: where each window stands.
 *
 *   ffff800000000000  direct map of physical memory, 64 TiB of room      (DIRECT_MAP_BASE,
 * pmm/frame.h) ffffc00000000000  frame records, 32 bytes a frame (FRAME_RECORDS_BASE, pmm/frame.h)
 *   ffffc08000000000  permanent window of top tables, 4 KiB a space
 *   ffffc10000000000  recursive slot
 *   ffffc18000000000  descriptors, 64 bytes each
 *   ffffc20000000000  device registers and the framebuffer
 *   ffffc28000000000  kernel stacks, an unmapped page under each
 *   ffffffff80000000  the image
 *
 * Every window is one top entry of 512 GiB or a multiple, so that windows share no table. All lie
 * in the upper half of 48-bit addresses and so are the same with four levels and with five.
 */
#ifndef PAGING_LAYOUT_H
#define PAGING_LAYOUT_H

#include <stdint.h>

#include "pmm/frame.h"

#define DIRECT_MAP_SIZE UINT64_C(0x400000000000)
#define TOP_WINDOW_BASE UINT64_C(0xffffc08000000000)
#define RECURSIVE_BASE  UINT64_C(0xffffc10000000000)
#ifndef DESCRIPTORS_BASE
#define DESCRIPTORS_BASE UINT64_C(0xffffc18000000000)
#endif
#define DEVICE_WINDOW_BASE UINT64_C(0xffffc20000000000)
#define STACK_WINDOW_BASE  UINT64_C(0xffffc28000000000)
#define IMAGE_BASE         UINT64_C(0xffffffff80000000)

#define WINDOW_SIZE UINT64_C(0x8000000000)

/* Where the program's half ends: its first address past the last, by the number of levels. */
static inline uint64_t lower_half_end(unsigned levels)
{
    return UINT64_C(1) << (levels * 9 + 11);
}

#endif

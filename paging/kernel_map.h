/*
 * The kernel's half of every address space: built once, at the handover from the firmware.
 *
 * Units: bytes; ranges are half-open. Owns: the kernel's tables, the firmware root, the windows.
 * State: not built -> kernel_map_enter -> built; the top entries never change afterwards (A3).
 * Fails with: nothing that a caller could handle; too little memory for the tables is a panic.
 * Context: kernel_map_enter with boot services gone and interrupts off; the rest in a thread.
 * Spec: Intel SDM volume 3, chapter 4 (paging) and 12.12 (PAT). Rules: A1 to A4.
 */
#ifndef PAGING_KERNEL_MAP_H
#define PAGING_KERNEL_MAP_H

#include "lib/bootinfo.h"
#include "lib/status.h"
#include "lib/units.h"

enum device_caching { DEVICE_UNCACHED, DEVICE_WRITE_COMBINING };

/* Builds the kernel's tables from usable memory, moves the image to the upper half, relocates it
 * there, and calls entry at its new address on a stack of its own with a guard page under it.
 * info is found again at its new address. Called on the firmware's tables, one to one mapped. */
_Noreturn void kernel_map_enter(struct bootinfo *info, void (*entry)(struct bootinfo *info));

/* Maps a range of device registers or a framebuffer; it stays mapped. Not for RAM. NULL when the
 * device window is full or the range is RAM or wraps. */
void *kernel_map_device(struct phys base, uint64_t size, enum device_caching caching);

/* A stack of this many pages with an unmapped page under it: its top, aligned to 16 bytes. */
MUST_USE enum status kernel_map_stack(unsigned pages, uint64_t *top);

/* Maps one frame of the kernel's into a window of layout.h, writable and not executable; the place
 * is not mapped yet. */
MUST_USE enum status kernel_map_page(uint64_t address, struct pfn frame);

/* Gives a new top table the kernel's half. */
void kernel_map_share_half(struct pfn top_table);

/* The kernel's own root, for a processor that runs no program, and the number of levels, 4 or 5. */
struct phys kernel_map_root(void);
unsigned kernel_map_levels(void);

/* The zero page: a frame of the image, read-only through every alias (A2). */
struct pfn kernel_map_zero_frame(void);

/* The root in which the firmware's one-to-one mappings stand beside the kernel's half: to be
 * loaded only around a call of runtime services (A4). */
struct phys kernel_map_firmware_root(void);

/* Walks the whole kernel half and proves that no frame is both writable and executable, across
 * all aliases, and that the direct map is never executable; panics with the address if not.
 * Returns how many leaves it saw, 0 when the processor has no NX and nothing can be
 * proved. */
uint64_t kernel_map_prove_rights(void);

#endif

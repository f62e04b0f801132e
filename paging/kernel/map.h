/*
 * The kernel's half of every address space: built once, at the handover from the firmware.
 *
 * Units: bytes; ranges are half-open. Owns: the kernel's tables, the firmware root, the windows.
 * State: not built -> kernel_map_enter -> built; the top entries never change afterwards (A3).
 * Fails with: a panic if memory does not suffice for the tables.
 * Context: kernel_map_enter with boot services gone and interrupts off; the rest in a thread.
 * Spec: Intel SDM volume 3, chapter 4 (paging) and 12.12 (PAT). Rules: A1 to A4.
 */
#ifndef PAGING_KERNEL_MAP_H
#define PAGING_KERNEL_MAP_H

#include "lib/bootinfo.h"
#include "lib/status.h"
#include "lib/units.h"
#include "paging/pte.h"

enum device_caching { DEVICE_UNCACHED, DEVICE_WRITE_COMBINING };

/* Builds the kernel's tables from usable memory, moves the image to the upper half, relocates it
 * there, and calls entry at its new address on a new stack with a guard page. entry gets info at
 * its new address. Called on the firmware's one-to-one page tables. */
_Noreturn void kernel_map_enter(struct bootinfo *info, void (*entry)(struct bootinfo *info));

/* Maps device registers or a framebuffer for good. Returns NULL if the device window is full, or if
 * the range contains RAM or wraps. */
void *kernel_map_device(struct phys base, uint64_t size, enum device_caching caching);

/* Maps a stack of this many pages above an unmapped guard page. Returns its top, aligned to 16
 * bytes. */
MUST_USE enum status kernel_map_stack(unsigned pages, uint64_t *top);

/* Maps one kernel frame at an unmapped address of a window, writable and not executable. */
MUST_USE enum status kernel_map_page(uint64_t address, struct pfn frame);

/* Copies the kernel's half into a new top table. */
void kernel_map_share_half(struct pfn top_table);

/* Return the kernel's own root, for processors that run no program, and the levels, 4 or 5. */
struct phys kernel_map_root(void);
unsigned kernel_map_levels(void);

/* Returns the zero page, the first frame of the zero ladder (paging/zero_ladder.h). The ladder is
 * part of the image and read-only through every alias (A2). */
struct pfn kernel_map_zero_frame(void);

/* Panics if a top table's upper half differs from the kernel's. */
void kernel_map_check_half(struct pfn top_table);

/* Returns the root with the kernel's half and one-to-one mappings of the first 4 GiB and all RAM
 * (A4). It is below 4 GiB and has the kernel's number of levels (kernel_map_levels). It serves
 * reads of firmware tables and the start of other processors. */
struct phys kernel_map_firmware_root(void);

/* Loads the root for runtime services: one-to-one mappings with the firmware's number of levels,
 * beside the kernel's half. Turns interrupts off. */
void kernel_map_enter_firmware(void);
unsigned kernel_map_firmware_levels(void);

/* ---- windows.c: two of the three ways to reach tables (paging/tree/table_access.h) ---- */

/* Maps a top table in the window, for a space without one. Fails with STATUS_NO_MEMORY. Calls must
 * be serialised. */
MUST_USE enum status kernel_map_window_show(uint32_t space, struct pfn top_table);

/* Maps the zero page there again. Returns a frame that the window no longer needs, which the caller
 * frees after a flush of everything on all processors; or PFN_NONE. */
struct pfn kernel_map_window_hide(uint32_t space);

/* Returns an entry of a space's top table through the window, after a local flush (rule A3).
 * Returns zero for a space without one. */
struct pte kernel_map_window_read(uint32_t space, unsigned index);

/* Reads an entry through the recursive slot. Returns false if a table on the path is not
 * present. */
bool kernel_map_recursive_read(uint64_t address, struct pte *entry);

/* Walks the whole kernel half and panics if a frame is both writable and executable, across all
 * aliases, or the direct map executable. Does not walk the recursive slot, but checks that its
 * entry is sound. Returns the leaves visited; 0 without NX, when nothing can be proved. */
uint64_t kernel_map_prove_rights(void);

#endif

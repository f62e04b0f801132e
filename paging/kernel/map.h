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
#include "paging/pte.h"

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

/* The zero page, the first frame of the zero ladder (paging/zero_ladder.h): frames of the
 * image, read-only through every alias (A2). */
struct pfn kernel_map_zero_frame(void);

/* Compares a top table's upper half with the kernel's; panics on a difference. */
void kernel_map_check_half(struct pfn top_table);

/* The root in which one-to-one mappings of the first 4 GiB and of all RAM stand beside the kernel's
 * half (A4), below 4 GiB and of the kernel's number of levels: for looking at what is found
 * there alone, and for other processors to start in, with CR4.LA57 as kernel_map_levels() says. */
struct phys kernel_map_firmware_root(void);

/* Goes where runtime services can be called: to one-to-one mappings of the number of levels that
 * the firmware ran with, which it may rely on. The kernel's half is there as well. Interrupts go
 * off. */
void kernel_map_enter_firmware(void);
unsigned kernel_map_firmware_levels(void);

/* ---- kernel_map_windows.c: two of the three ways to the tables (paging/tree/table_access.h)
 * ---- */

/* Shows a top table in the window at the place of a space that is not shown. STATUS_NO_MEMORY.
 * Calls for spaces come one at a time. */
MUST_USE enum status kernel_map_window_show(uint32_t space, struct pfn top_table);

/* Shows the zero page there again. Returns a frame that the window needs no more, to be freed when
 * every processor has flushed everything, or PFN_NONE. */
struct pfn kernel_map_window_hide(uint32_t space);

/* An entry of a space's top table as the window shows it, after this processor has forgotten what
 * it knew (rule A3); zero where no space is shown. */
struct pte kernel_map_window_read(uint32_t space, unsigned index);

/* Reads an entry at an address of the recursive slot; false when a table on the way there is not
 * there any more. */
bool kernel_map_recursive_read(uint64_t address, struct pte *entry);

/* Walks the whole kernel half and proves that no frame is both writable and executable, across
 * all aliases, and that the direct map is never executable; panics with the address if not. The
 * recursive slot is not walked but held to what makes that sound.
 * Returns how many leaves it saw, 0 when the processor has no NX and nothing can be
 * proved. */
uint64_t kernel_map_prove_rights(void);

#endif

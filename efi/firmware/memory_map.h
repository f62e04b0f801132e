/*
 * Converts the firmware's memory map to regions. Pure logic, tested on the host.
 *
 * Units: bytes; a region's length in pages of 4 KiB. Owns: nothing.
 * Fails with: STATUS_CORRUPT (descriptors smaller than version 1, or a map without descriptors).
 * Order, overlaps and empty regions are kept: pmm/ checks them.
 * Context: any; allocates nothing, since it runs right after ExitBootServices.
 * Spec: UEFI 2.10, 7.2.3 (GetMemoryMap), table 7.10 (memory types after ExitBootServices).
 */
#ifndef EFI_FIRMWARE_MEMORY_MAP_H
#define EFI_FIRMWARE_MEMORY_MAP_H

#include <stddef.h>

#include "lib/bootinfo.h"
#include "lib/status.h"

/* Fills the regions of info from size bytes of descriptors, one each `stride` bytes. Counts those
 * that do not fit in regions_dropped. */
MUST_USE enum status memory_map_convert(const void *descriptors, size_t size, size_t stride,
                                        struct bootinfo *info);

#endif

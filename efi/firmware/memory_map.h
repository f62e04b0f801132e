/*
 * The firmware's memory map, turned into plain regions: pure logic, tested on the host.
 *
 * Units: bytes; a region's length in pages of 4 KiB. Owns: nothing.
 * Fails with: STATUS_CORRUPT when the descriptors are smaller than the specification's first
 * version or the map holds not one of them. Order, overlaps and empty regions are passed on: the
 * layer that uses them judges.
 * Context: any; allocates nothing, so that it may run right after ExitBootServices.
 * Spec: UEFI 2.10, 7.2.3 (GetMemoryMap), table 7.10 (memory types after ExitBootServices).
 */
#ifndef EFI_FIRMWARE_MEMORY_MAP_H
#define EFI_FIRMWARE_MEMORY_MAP_H

#include <stddef.h>

#include "lib/bootinfo.h"
#include "lib/status.h"

/* Fills the regions of info from size bytes of descriptors that stand `stride` bytes apart. What
 * does not fit is counted in regions_dropped. */
MUST_USE enum status memmap_convert(const void *descriptors, size_t size, size_t stride,
                                    struct bootinfo *info);

#endif

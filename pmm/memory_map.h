/*
 * The firmware's memory map, made sound: sorted, disjoint, whole pages.
 *
 * Firmware's descriptors may overlap, be unsorted, empty or unaligned, or wrap around. Where two
 * disagree about a page, the safer kind wins: a page that any descriptor reserves is not used.
 *
 * Units: bytes and 4 KiB pages; ranges are half-open. Owns: the one cleaned map.
 * State: empty -> memory_map_build -> built; memory_map_reserve changes kinds afterwards.
 * Fails with: STATUS_LIMIT (more ranges than fit), STATUS_NOT_FOUND (no usable memory at all).
 * Context: the handover; later read-only.
 * Spec: UEFI 2.10, 7.2.3 (GetMemoryMap).
 */
#ifndef PMM_MEMORY_MAP_H
#define PMM_MEMORY_MAP_H

#include "lib/bootinfo.h"
#include "lib/status.h"

#define MEMORY_RANGES_MAX 4096

struct memory_range {
    uint64_t start; /* bytes, multiples of 4 KiB */
    uint64_t end;
    enum memory_kind kind;
    bool kernel;   /* taken: image, tables, records, the allocator's metadata */
    bool metadata; /* and is records or metadata */
};

struct memory_map {
    uint32_t count;
    struct memory_range ranges[MEMORY_RANGES_MAX]; /* ascending, disjoint, neighbours differ */
};

/* Builds the map from the firmware's regions. Memory at or above limit bytes is left out: the limit
 * is the processor's address width, 32-bit frame numbers, and the top 4 GiB of rule E7. */
MUST_USE enum status memory_map_build(const struct memory_region *regions, uint32_t count,
                                      uint64_t limit);

const struct memory_map *memory_map(void);

/* Marks [start, end), which lies in one range, as taken by the kernel. */
MUST_USE enum status memory_map_reserve(uint64_t start, uint64_t end);

/* Does the same for frame records and the allocator's metadata. */
MUST_USE enum status memory_map_reserve_metadata(uint64_t start, uint64_t end);

/* Returns whether the kind is RAM, and whether a frame of it may be used after the handover. */
bool memory_is_ram(enum memory_kind kind);
bool memory_is_free(enum memory_kind kind);

/* Returns whether [start, end) touches any RAM of the map. */
bool memory_map_touches_ram(uint64_t start, uint64_t end);

/* Returns the name of the kind, for the log. */
const char *memory_kind_name(enum memory_kind kind);

#endif

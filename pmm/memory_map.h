/*
 * The firmware's memory map, made sound: sorted, disjoint, whole pages.
 *
 * Firmware hands out descriptors that overlap, come in any order, are empty, are not aligned, or
 * wrap. Where two disagree about a page the more careful one wins: what is reserved by any of them
 * is not used.
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

/* Builds the map from the firmware's regions. What lies at or above limit bytes of physical address
 * (the processor's width, frame numbers of 32 bits, rule E7's top 4 GiB) is left out. */
MUST_USE enum status memory_map_build(const struct memory_region *regions, uint32_t count,
                                      uint64_t limit);

const struct memory_map *memory_map(void);

/* Marks [start, end), which lies in one range, as taken by the kernel. */
MUST_USE enum status memory_map_reserve(uint64_t start, uint64_t end);

/* The same for frame records and the allocator's metadata. */
MUST_USE enum status memory_map_reserve_metadata(uint64_t start, uint64_t end);

/* Whether the kind is RAM, and whether a frame of it may be used after the handover. */
bool memory_is_ram(enum memory_kind kind);
bool memory_is_free(enum memory_kind kind);

/* Whether [start, end) touches any RAM of the map. */
bool memory_map_touches_ram(uint64_t start, uint64_t end);

/* The kind in words. */
const char *memory_kind_name(enum memory_kind kind);

#endif

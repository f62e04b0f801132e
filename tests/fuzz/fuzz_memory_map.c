/*
 * Fuzzes the memory map with descriptors of every disorder, from the firmware's own bytes on.
 *
 * The input is a stride and descriptors of that stride. What comes out must be sorted, disjoint and
 * of whole pages below the limit, must make no page usable that any descriptor keeps, and must stay
 * so after ranges have been reserved.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "efi/firmware/memory_map.h"
#include "pmm/memory_map.h"

/* Frame numbers have 32 bits. */
#define LIMIT ((UINT64_C(1) << 44) - PAGE_SIZE)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct bootinfo info;

static void demand(bool condition)
{
    if (!condition)
        abort();
}

/* Returns whether the region keeps a part of [start, end) from being used. */
static bool keeps(const struct memory_region *region, uint64_t start, uint64_t end)
{
    __uint128_t first = region->start.address;
    __uint128_t last = first + (__uint128_t)region->pages * PAGE_SIZE;

    return !memory_is_free(region->kind) && region->pages > 0 && first < end && last > start;
}

static void check_range(const struct memory_range *range)
{
    demand(range->start < range->end && range->end <= LIMIT);
    demand(range->start % PAGE_SIZE == 0 && range->end % PAGE_SIZE == 0);
    demand((unsigned)range->kind < MEMORY_KINDS);
    for (uint32_t i = 0; memory_is_free(range->kind) && i < info.region_count; i++)
        demand(!keeps(&info.regions[i], range->start, range->end));
}

static void check_map(void)
{
    const struct memory_map *map = memory_map();

    demand(map->count <= MEMORY_RANGES_MAX);
    for (uint32_t i = 0; i < map->count; i++) {
        check_range(&map->ranges[i]);
        demand(i == 0 || map->ranges[i - 1].end <= map->ranges[i].start);
    }
}

static uint64_t bytes_of_map(void)
{
    const struct memory_map *map = memory_map();
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < map->count; i++)
        bytes += map->ranges[i].end - map->ranges[i].start;
    return bytes;
}

/* The middle page of some range becomes the kernel's: nothing is lost and nothing overlaps. */
static void reserve_in(uint8_t choice)
{
    struct memory_range range = memory_map()->ranges[choice % memory_map()->count];
    uint64_t place = range.start + (range.end - range.start) / PAGE_SIZE / 2 * PAGE_SIZE;
    uint64_t bytes = bytes_of_map();
    enum status status = memory_map_reserve(place, place + PAGE_SIZE);

    demand(status == OK || status == STATUS_LIMIT);
    demand(bytes_of_map() == bytes);
    demand(memory_map_touches_ram(place, place + PAGE_SIZE) == memory_is_ram(range.kind));
    check_map();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum status status;

    if (size < 8)
        return 0;
    memset(&info.regions, 0xee, sizeof(info.regions));
    if (memory_map_convert(data + 4, size - 4, (size_t)32 + data[0], &info) != OK)
        return 0;
    status = memory_map_build(info.regions, info.region_count, LIMIT);
    demand(status == OK || status == STATUS_LIMIT || status == STATUS_NOT_FOUND);
    if (status == STATUS_LIMIT)
        return 0;
    check_map();
    for (unsigned i = 1; i < 4 && memory_map()->count > 0; i++)
        reserve_in(data[i]);
    return 0;
}

/* Starts the frame database: zones, metadata, and the first kind of every frame. */
#include "lib/bytes.h"
#include "pmm/internal.h"
#include "pmm/memory_map.h"

/* With fewer free frames no experiment can run: 4 MiB. */
#define FRAMES_LEAST 1024U

/* The first MiB stays reserved: other processors start there in real mode, and firmware may still
 * use it. */
#define FIRST_FRAME 256U

/* The reserve covers the tables of a fault on every processor and the needs of reclaim, but never
 * more than a small part of memory. */
#define RESERVE_MOST 256U
#define RESERVE_PART 512U

static const struct frame_allocator *chosen; /* NULL: the default */

void pmm_choose(const struct frame_allocator *allocator)
{
    chosen = allocator;
}

const struct frame_allocator *pmm_allocator(void)
{
    return pmm.allocator;
}

uint64_t pmm_metadata_bytes(void)
{
    return pmm.metadata;
}

uint64_t pmm_left_out(void)
{
    return pmm.left_out;
}

static bool is_free_range(const struct memory_range *range)
{
    return memory_is_free(range->kind) && !range->kernel;
}

/* ---- zones and their metadata ---- */

/* Widens the zone to the part of a free range that lies in it. Its base is a multiple of 1 GiB, so
 * that blocks are aligned in it as they are in memory. */
static void cover(struct pmm_zone *zone, uint64_t start, uint64_t end)
{
    if (start >= end)
        return;
    if (zone->frames == 0)
        zone->base = (uint32_t)round_down(start, order_frames(ORDER_GIB));
    zone->frames = end - zone->base;
}

static void find_zones(void)
{
    const struct memory_map *map = memory_map();

    for (uint32_t i = 0; i < map->count; i++) {
        uint64_t start = map->ranges[i].start / PAGE_SIZE;
        uint64_t end = map->ranges[i].end / PAGE_SIZE;

        if (!is_free_range(&map->ranges[i]))
            continue;
        cover(&pmm.zones[ZONE_LOW], start, min_u64(end, LOW_FRAMES));
        cover(&pmm.zones[ZONE_HIGH], max_u64(start, LOW_FRAMES), end);
    }
}

static uint64_t zone_metadata(const struct pmm_zone *zone)
{
    return zone->frames == 0 ? 0 : round_up(pmm.allocator->size(zone->frames, CPU_MAX), PAGE_SIZE);
}

/* Places the metadata at the end of the highest free range with room for it. So the low zone stays
 * whole if there is memory above it, and large blocks begin at the ranges' starts. */
static enum status place_metadata(void)
{
    const struct memory_map *map = memory_map();
    uint64_t bytes = zone_metadata(&pmm.zones[ZONE_LOW]) + zone_metadata(&pmm.zones[ZONE_HIGH]);
    uint64_t place;
    enum status status;
    uint32_t i = map->count;

    while (i > 0 && (!is_free_range(&map->ranges[i - 1]) || map->ranges[i - 1].start < MIB ||
                     map->ranges[i - 1].end - map->ranges[i - 1].start < bytes))
        i--;
    if (i == 0 && map->count > 0 && is_free_range(&map->ranges[0]) &&
        map->ranges[0].end >= MIB + bytes)
        i = 1; /* one range from 0 on, as simulated memory has it */
    if (i == 0 || bytes == 0)
        return STATUS_NO_MEMORY;
    place = map->ranges[i - 1].end - bytes;
    status = memory_map_reserve_metadata(place, place + bytes);
    if (status != OK)
        return status;
    pmm.metadata = bytes;
    for (unsigned zone = 0; zone < PMM_ZONES; zone++) {
        if (pmm.zones[zone].frames == 0)
            continue;
        pmm.zones[zone].self = phys_pointer((struct phys){place});
        pmm.allocator->start(pmm.zones[zone].self, pmm.zones[zone].frames, CPU_MAX);
        place += zone_metadata(&pmm.zones[zone]);
    }
    return OK;
}

/* ---- the first kind of every frame ---- */

static void keep(uint64_t start, uint64_t end, enum frame_kind kind)
{
    for (uint64_t at = start; at < end; at++) {
        struct frame *record = frame_record((struct pfn){(uint32_t)at});

        record->kind = (uint8_t)kind;
        record->count = COUNT_SATURATED;
    }
    if (start < end)
        pmm.by_kind[kind] += end - start;
}

/* Gives a range to the allocators. The records of free frames are zero already. */
static void add_free(uint64_t start, uint64_t end)
{
    for (unsigned number = 0; number < PMM_ZONES; number++) {
        const struct pmm_zone *zone = &pmm.zones[number];
        uint64_t from = max_u64(start, zone->base);
        uint64_t to = min_u64(end, zone->base + zone->frames);

        if (zone->self != NULL && from < to)
            frame_allocator_add(pmm.allocator, zone->self, from - zone->base, to - from);
    }
    pmm.free_frames += (int64_t)(end - start);
}

static enum frame_kind kind_of_taken(const struct memory_range *range)
{
    if (range->metadata)
        return FRAME_METADATA;
    return range->kernel ? FRAME_KERNEL : FRAME_RESERVED;
}

/* Adds the range to the allocator. budget: frames that may still be added under the limit. */
static void adopt_range(const struct memory_range *range, uint64_t *budget)
{
    uint64_t start = range->start / PAGE_SIZE;
    uint64_t end = range->end / PAGE_SIZE;
    uint64_t first = min_u64(max_u64(start, FIRST_FRAME), end);
    uint64_t last = first + min_u64(end - first, *budget);

    pmm.total += end - start;
    pmm_frame_end = (uint32_t)max_u64(pmm_frame_end, end);
    if (!is_free_range(range)) {
        keep(start, end, kind_of_taken(range));
        return;
    }
    keep(start, first, FRAME_RESERVED);
    if (first < last)
        add_free(first, last);
    keep(last, end, FRAME_RESERVED);
    pmm.left_out += end - last;
    *budget -= last - first;
}

enum status pmm_init(uint64_t limit)
{
    uint64_t budget = limit == 0 ? UINT64_MAX : limit / PAGE_SIZE;
    const struct memory_map *map = memory_map();
    enum status status;

    memset(pmm_caches, 0, sizeof(pmm_caches));
    pmm_frame_end = 0;
    pmm = (struct pmm){.allocator = chosen};
    if (pmm.allocator == NULL)
        pmm.allocator = frame_allocator(frame_allocator_default());
    find_zones();
    status = place_metadata();
    if (status != OK)
        return status;
    for (uint32_t i = 0; i < map->count; i++) {
        if (memory_is_ram(map->ranges[i].kind))
            adopt_range(&map->ranges[i], &budget);
    }
    zero_pool_start();
    if (pmm.free_frames < FRAMES_LEAST)
        return STATUS_NO_MEMORY;
    pmm_set_reserve(min_u64(RESERVE_MOST, (uint64_t)pmm.free_frames / RESERVE_PART));
    return OK;
}

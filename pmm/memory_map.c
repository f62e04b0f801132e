/* The firmware's memory map, made sound. */
#include "pmm/memory_map.h"

#include "lib/bytes.h"
#include "lib/check.h"

/* Boundaries of regions: two each. */
#define EDGES_MAX (2 * BOOTINFO_REGIONS_MAX)

static struct memory_map the_map;
static uint64_t edges[EDGES_MAX];

/* Returns a kind's priority. If descriptors overlap, the higher priority wins. */
static unsigned priority(enum memory_kind kind)
{
    switch (kind) {
    case MEMORY_USABLE: return 0;
    case MEMORY_BOOT_SERVICES: return 1;
    case MEMORY_LOADER: return 2;
    case MEMORY_ACPI_TABLES: return 3;
    case MEMORY_ACPI_NVS: return 4;
    case MEMORY_RUNTIME_DATA: return 5;
    case MEMORY_RUNTIME_CODE: return 6;
    case MEMORY_UNUSABLE: return 7;
    case MEMORY_DEVICE: return 8;
    case MEMORY_RESERVED:
    case MEMORY_KINDS: break;
    }
    return 9;
}

/* Returns the whole pages of a region below the limit. An unaligned region is rounded inward if its
 * memory is usable and outward if not. Returns false if no page is left. */
static bool memory_map_region_pages(const struct memory_region *region, uint64_t limit,
                                    uint64_t *start, uint64_t *end)
{
    uint64_t first = region->start.address;
    uint64_t room = first < limit ? (limit - first) / PAGE_SIZE : 0;
    uint64_t size = min_u64(region->pages, room) * PAGE_SIZE;

    if (region->pages == 0 || first >= limit)
        return false;
    if (region->pages > room)
        size = limit - first;
    if (memory_is_free(region->kind)) {
        *start = round_up(first, PAGE_SIZE);
        *end = round_down(first + size, PAGE_SIZE);
    } else {
        *start = round_down(first, PAGE_SIZE);
        *end = min_u64(round_up(first + size, PAGE_SIZE), limit);
    }
    return *start < *end;
}

static void sort_edges(uint32_t count)
{
    /* Insertion sort: firmware's maps are nearly sorted. */
    for (uint32_t i = 1; i < count; i++) {
        uint64_t edge = edges[i];
        uint32_t at = i;

        for (; at > 0 && edges[at - 1] > edge; at--)
            edges[at] = edges[at - 1];
        edges[at] = edge;
    }
}

/* Returns the kind of memory between two neighbouring edges; false if no region covers it. */
static bool kind_between(const struct memory_region *regions, uint32_t count, uint64_t limit,
                         uint64_t from, enum memory_kind *kind)
{
    bool found = false;

    for (uint32_t i = 0; i < count; i++) {
        uint64_t start;
        uint64_t end;

        if (!memory_map_region_pages(&regions[i], limit, &start, &end) || from < start ||
            from >= end)
            continue;
        if (!found || priority(regions[i].kind) > priority(*kind))
            *kind = regions[i].kind;
        found = true;
    }
    return found;
}

static enum status append(uint64_t start, uint64_t end, enum memory_kind kind)
{
    struct memory_range *last = the_map.count > 0 ? &the_map.ranges[the_map.count - 1] : NULL;

    if (last != NULL && last->end == start && last->kind == kind) {
        last->end = end;
        return OK;
    }
    if (the_map.count == MEMORY_RANGES_MAX)
        return STATUS_LIMIT;
    the_map.ranges[the_map.count++] =
        (struct memory_range){.start = start, .end = end, .kind = kind};
    return OK;
}

enum status memory_map_build(const struct memory_region *regions, uint32_t count, uint64_t limit)
{
    uint32_t edge_count = 0;
    bool usable = false;

    CHECK(count <= BOOTINFO_REGIONS_MAX);
    CHECK(limit % PAGE_SIZE == 0);
    the_map.count = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t start;
        uint64_t end;

        if (!memory_map_region_pages(&regions[i], limit, &start, &end))
            continue;
        edges[edge_count++] = start;
        edges[edge_count++] = end;
    }
    sort_edges(edge_count);
    for (uint32_t i = 0; i + 1 < edge_count; i++) {
        enum memory_kind kind;
        enum status status;

        if (edges[i] == edges[i + 1] || !kind_between(regions, count, limit, edges[i], &kind))
            continue;
        status = append(edges[i], edges[i + 1], kind);
        if (status != OK)
            return status;
        usable = usable || memory_is_free(kind);
    }
    return usable ? OK : STATUS_NOT_FOUND;
}

const struct memory_map *memory_map(void)
{
    return &the_map;
}

static enum status memory_map_reserve_range(uint64_t start, uint64_t end, bool metadata)
{
    struct memory_range *range = the_map.ranges;
    struct memory_range whole;
    uint32_t extra;

    CHECK(start < end && start % PAGE_SIZE == 0 && end % PAGE_SIZE == 0);
    while (range < the_map.ranges + the_map.count && range->end <= start)
        range++;
    if (range == the_map.ranges + the_map.count || range->start > start || range->end < end)
        return STATUS_RANGE;
    whole = *range;
    extra = (whole.start < start ? 1U : 0U) + (whole.end > end ? 1U : 0U);
    if (the_map.count + extra > MEMORY_RANGES_MAX)
        return STATUS_LIMIT;
    memmove(range + 1 + extra, range + 1,
            (size_t)(the_map.ranges + the_map.count - (range + 1)) * sizeof(*range));
    the_map.count += extra;
    if (whole.start < start)
        *range++ =
            (struct memory_range){whole.start, start, whole.kind, whole.kernel, whole.metadata};
    *range++ = (struct memory_range){start, end, whole.kind, true, metadata};
    if (whole.end > end)
        *range = (struct memory_range){end, whole.end, whole.kind, whole.kernel, whole.metadata};
    return OK;
}

enum status memory_map_reserve(uint64_t start, uint64_t end)
{
    return memory_map_reserve_range(start, end, false);
}

enum status memory_map_reserve_metadata(uint64_t start, uint64_t end)
{
    return memory_map_reserve_range(start, end, true);
}

bool memory_is_ram(enum memory_kind kind)
{
    return kind != MEMORY_DEVICE && kind != MEMORY_RESERVED && kind != MEMORY_UNUSABLE &&
           kind != MEMORY_KINDS;
}

bool memory_is_free(enum memory_kind kind)
{
    return kind == MEMORY_USABLE || kind == MEMORY_LOADER || kind == MEMORY_BOOT_SERVICES;
}

bool memory_map_touches_ram(uint64_t start, uint64_t end)
{
    for (uint32_t i = 0; i < the_map.count; i++) {
        const struct memory_range *range = &the_map.ranges[i];

        if (memory_is_ram(range->kind) && range->start < end && start < range->end)
            return true;
    }
    return false;
}

const char *memory_kind_name(enum memory_kind kind)
{
    static const char *const names[] = {
        "usable",      "loader",   "boot services", "runtime code", "runtime data",
        "ACPI tables", "ACPI NVS", "device",        "reserved",     "unusable"};

    _Static_assert(ARRAY_COUNT(names) == MEMORY_KINDS, "one name for each kind");
    CHECK(kind < MEMORY_KINDS);
    return names[kind];
}

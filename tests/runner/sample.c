/* The machine's figures for the pictures of a run. */
#include "tests/runner/sample.h"

#include "cpu/smp/thread.h"
#include "lib/bytes.h"
#include "paging/kernel/layout.h"
#include "paging/kernel/map.h"
#include "pmm/memory_map.h"
#include "pmm/pmm.h"
#include "swapdisk/area.h"
#include "swapdisk/area/slots.h"
#include "vmm/space/region.h"

/* Records that are read for a cell, spread over it. */
#define FRAMES_PER_CELL 16U
#define SLOTS_PER_CELL  4U

/* Regions whose sizes are added up. */
#define REGIONS_SUMMED 64U

static enum screen_kind kind_of_frame(const struct frame *record, uint64_t *in_flight)
{
    switch ((enum frame_kind)record->kind) {
    case FRAME_FREE: return SCREEN_FREE;
    case FRAME_RESERVED: return SCREEN_RESERVED;
    case FRAME_TABLE:
    case FRAME_ROOT: return SCREEN_TABLE;
    case FRAME_ANONYMOUS:
        if ((record->flags & FRAME_IO) != 0) {
            *in_flight += 1;
            return SCREEN_OUT;
        }
        return record->count > 1 || (record->flags & FRAME_SHARED) != 0 ? SCREEN_SHARED
                                                                        : SCREEN_ANONYMOUS;
    case FRAME_ABSENT:
    case FRAME_KINDS: return SCREEN_NOTHING;
    default: return SCREEN_KERNEL;
    }
}

/* Returns the most frequent kind in use, or free if no frame is in use. */
static enum screen_kind most_frequent(const uint8_t counts[SCREEN_KINDS])
{
    enum screen_kind best = SCREEN_FREE;

    for (unsigned kind = SCREEN_RESERVED; kind < SCREEN_FREE; kind++) {
        if (counts[kind] > 0 && (best == SCREEN_FREE || counts[kind] > counts[best]))
            best = (enum screen_kind)kind;
    }
    return best;
}

/* Returns the address of a byte of RAM, counted over all ranges of the map, from *range on. */
static bool find_ram(uint64_t byte, uint32_t *range, uint64_t *before, uint64_t *address)
{
    const struct memory_map *map = memory_map();

    for (; *range < map->count; *range += 1) {
        const struct memory_range *one = &map->ranges[*range];
        uint64_t size = memory_is_ram(one->kind) ? one->end - one->start : 0;

        if (byte < *before + size) {
            *address = one->start + (byte - *before);
            return true;
        }
        *before += size;
    }
    return false;
}

static uint64_t bytes_of_ram(void)
{
    const struct memory_map *map = memory_map();
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < map->count; i++) {
        if (memory_is_ram(map->ranges[i].kind))
            bytes += map->ranges[i].end - map->ranges[i].start;
    }
    return bytes;
}

/* Reads the records of each cell's frames. A block has one record, for its first frame: the others
 * take its kind as long as they follow it. */
static void sample_frames(struct screen_facts *facts)
{
    enum screen_kind block_kind = SCREEN_FREE;
    uint64_t block_end = 0;
    uint64_t before = 0;
    uint32_t range = 0;
    uint64_t step;

    facts->memory_bytes = bytes_of_ram();
    for (facts->memory_cell = 16 * PAGE_SIZE;
         facts->memory_cell * SCREEN_MEMORY_CELLS < facts->memory_bytes;)
        facts->memory_cell *= 2;
    facts->memory_cells =
        (uint32_t)((facts->memory_bytes + facts->memory_cell - 1) / facts->memory_cell);
    step = facts->memory_cell / FRAMES_PER_CELL;
    facts->in_flight = 0;
    for (uint32_t cell = 0; cell < facts->memory_cells; cell++) {
        uint8_t counts[SCREEN_KINDS] = {0};
        uint64_t address;

        for (uint64_t at = 0; at < facts->memory_cell; at += step) {
            const struct frame *record;

            if (!find_ram(cell * facts->memory_cell + at, &range, &before, &address))
                break;
            if (address >= block_end) {
                record = frame_record(pfn_of((struct phys){round_down(address, PAGE_SIZE)}));
                block_kind = kind_of_frame(record, &facts->in_flight);
                if ((record->flags & FRAME_BLOCK) != 0)
                    block_end = address + (PAGE_SIZE << record->level);
            }
            counts[block_kind]++;
        }
        facts->memory[cell] = (uint8_t)most_frequent(counts);
    }
}

/* Marks the cells whose frames are free and in the pool of cleared ones. */
static void sample_zero_pool(struct screen_facts *facts)
{
    const struct memory_map *map = memory_map();
    uint64_t before = 0;
    struct pfn frame;

    for (uint32_t i = 0; i < map->count; i++) {
        const struct memory_range *range = &map->ranges[i];

        if (!memory_is_ram(range->kind))
            continue;
        for (uint32_t place = 0; pmm_zero_pool_frame(place, &frame); place++) {
            uint64_t address = phys_of(frame).address;
            uint64_t cell = (before + address - range->start) / facts->memory_cell;

            if (address >= range->start && address < range->end && cell < facts->memory_cells &&
                facts->memory[cell] == SCREEN_FREE)
                facts->memory[cell] = SCREEN_POOL;
        }
        before += range->end - range->start;
    }
}

static void sample_swap(struct screen_facts *facts)
{
    struct swap_usage usage = swap_usage();
    uint32_t slots = slots_total();
    uint32_t per_cell = 16;

    facts->swap_bytes = slots * PAGE_SIZE;
    facts->swap_place = usage.backing == SWAP_BACKING_DISK ? "on disk" : "in memory";
    facts->pages_read = usage.pages_read;
    facts->pages_written = usage.pages_written;
    facts->disk_errors = usage.errors;
    while ((uint64_t)per_cell * SCREEN_SWAP_CELLS < slots)
        per_cell *= 2;
    facts->swap_cell = per_cell * PAGE_SIZE;
    facts->swap_cells = (slots + per_cell - 1) / per_cell;
    for (uint32_t cell = 0; cell < facts->swap_cells; cell++) {
        facts->swap[cell] = SCREEN_FREE;
        for (uint32_t i = 0; i < SLOTS_PER_CELL; i++) {
            uint32_t slot = cell * per_cell + i * (per_cell / SLOTS_PER_CELL);

            if (slot < slots && slots_record((struct slot){slot})->count > 0)
                facts->swap[cell] = SCREEN_ANONYMOUS;
        }
    }
}

static enum screen_kind kind_of_region(const struct region *region)
{
    switch (region->what.kind) {
    case REGION_PRIVATE: return SCREEN_ANONYMOUS;
    case REGION_SHARED:
    case REGION_COPY: return SCREEN_SHARED;
    case REGION_GUARD: break;
    }
    return SCREEN_KERNEL;
}

/* Reads the regions of a space whose lock is held. */
static void sample_regions(const struct space *space, struct screen_facts *facts)
{
    const struct region *region = region_find(space, 0);

    facts->space_bytes = 0;
    facts->regions = 0;
    for (unsigned i = 0; region != NULL && i < REGIONS_SUMMED;
         i++, region = region_next(space, region)) {
        uint64_t bytes = region->node.end - region->node.start;

        facts->space_bytes += bytes;
        if (facts->regions < SCREEN_REGIONS)
            facts->region[facts->regions++] =
                (struct screen_region){.bytes = bytes, .kind = kind_of_region(region)};
    }
    if (region != NULL)
        facts->space_bytes = 0;
    facts->regions_more = space->region_count - facts->regions;
}

static void sample_space(struct screen_facts *facts)
{
    struct space *space = space_current();
    struct fault_counts faults;

    facts->space = space != NULL ? space->serial : 0;
    if (space == NULL) {
        facts->regions = facts->regions_more = 0;
        return;
    }
    facts->space_limit = lower_half_end(space->tree.levels);
    faults = space_faults(space);
    facts->first_writes = faults.first_write;
    facts->first_reads = faults.zero_read;
    facts->cow = faults.cow_copy + faults.cow_reuse;
    facts->refused = faults.violations;
    if (!mutex_try(&space->lock))
        return;
    sample_regions(space, facts);
    mutex_unlock(&space->lock);
}

void sample_machine(struct screen_facts *facts)
{
    struct pmm_usage usage = pmm_usage();

    facts->anonymous = usage.by_kind[FRAME_ANONYMOUS];
    facts->tables = usage.by_kind[FRAME_TABLE];
    facts->free = usage.by_kind[FRAME_FREE];
    sample_frames(facts);
    sample_zero_pool(facts);
    sample_swap(facts);
    sample_space(facts);
}

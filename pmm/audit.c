/* AUDIT of physical memory, and the junk in free frames. */
#include "pmm/internal.h"
#include "pmm/memory_map.h"

/* Two fill patterns: one for frames that were freed, one for frames never used. */
#define JUNK_FREED UINT64_C(0xd5d5d5d5d5d5d5d5)
#define JUNK_FRESH UINT64_C(0xa7a7a7a7a7a7a7a7)

#define FRAME_WORDS (PAGE_SIZE / sizeof(uint64_t))

/* ---- junk ---- */

static void audit_fill(uint64_t *words, uint64_t word)
{
    for (unsigned i = 0; i < FRAME_WORDS; i++)
        words[i] = word;
}

void pmm_junk_fill(struct pfn frame)
{
    audit_fill(frame_pointer(frame), JUNK_FREED);
    frame_record(frame)->marks |= FRAME_JUNK;
}

void pmm_junk_check(struct pfn frame)
{
    struct frame *record = frame_record(frame);
    uint64_t *words = frame_pointer(frame);

    for (unsigned i = 0; (record->marks & FRAME_JUNK) != 0 && i < FRAME_WORDS; i++)
        CHECK_MSG(words[i] == JUNK_FREED, "frame %x was written to while it was free: %lx at %lx",
                  frame.index, words[i], i * sizeof(uint64_t));
    record->marks &= (uint8_t)~FRAME_JUNK;
    audit_fill(words, JUNK_FRESH);
}

void pmm_zero_check(struct pfn frame)
{
    const uint64_t *words = frame_pointer(frame);

    for (unsigned i = 0; i < FRAME_WORDS; i++)
        CHECK_MSG(words[i] == 0, "frame %x is not zero: %lx at %lx", frame.index, words[i],
                  i * sizeof(uint64_t));
}

/* ---- audit ---- */

struct audit {
    uint64_t counted[FRAME_KINDS];
    uint64_t in_zones;
};

static bool free_in_zone(struct pfn frame)
{
    const struct pmm_zone *zone = &pmm.zones[zone_of(frame)];

    if (zone->self == NULL || frame.index < zone->base || frame.index - zone->base >= zone->frames)
        return false;
    return pmm.allocator->is_free(zone->self, frame.index - zone->base);
}

/* Checks the frame and, if it begins a block, the rest of the block. Returns the frames checked. */
static uint64_t audit_visit(struct audit *audit, struct pfn first)
{
    const struct frame *record = frame_record(first);
    bool block = record->kind != FRAME_FREE && (record->flags & FRAME_BLOCK) != 0;
    uint64_t size = block ? order_frames(record->level) : 1;

    CHECK_MSG(record->kind < FRAME_KINDS && record->kind != FRAME_ABSENT, "frame %x has kind %u",
              first.index, record->kind);
    audit->counted[record->kind] += size;
    for (uint32_t i = 0; i < size; i++) {
        struct pfn frame = {first.index + i};
        bool is_free = free_in_zone(frame);

        CHECK_MSG(!is_free || record->kind == FRAME_FREE,
                  "frame %x has kind %u and is free in the allocator", frame.index, record->kind);
        audit->in_zones += is_free;
    }
    return size;
}

/* Counts the frames in caches and in the pool. They have kind FRAME_FREE, but the allocator counts
 * them as taken. */
static uint64_t audit_caches(void)
{
    uint64_t cached = zero_pool_count();

    for (unsigned cpu = 0; cpu < pmm.cpus; cpu++) {
        for (unsigned content = 0; content < PMM_CACHES; content++) {
            const struct pmm_cache *cache = &pmm_caches[cpu][content];

            for (uint32_t i = PMM_CACHE_EMPTY; i < cache->state; i++, cached++) {
                struct pfn frame = {cache->frames[i - PMM_CACHE_EMPTY]};

                CHECK_MSG(frame_record(frame)->kind == FRAME_FREE && !free_in_zone(frame),
                          "frame %x in a cache has kind %u", frame.index,
                          frame_record(frame)->kind);
            }
        }
    }
    return cached;
}

void pmm_audit(void)
{
    const struct memory_map *map = memory_map();
    struct audit audit = {.in_zones = 0};
    struct pmm_usage usage;
    uint64_t cached;
    uint64_t at = 0; /* a block may reach from one range into the next */

    pmm_idle_pause();
    usage = pmm_usage();
    cached = audit_caches();
    for (uint32_t i = 0; i < map->count; i++) {
        const struct memory_range *range = &map->ranges[i];

        for (at = max_u64(at, range->start); memory_is_ram(range->kind) && at < range->end;)
            at += audit_visit(&audit, pfn_of((struct phys){at})) * PAGE_SIZE;
    }
    for (unsigned kind = 0; kind < FRAME_KINDS; kind++)
        CHECK_MSG(audit.counted[kind] == usage.by_kind[kind], "%lu frames of kind %u, ledger %lu",
                  audit.counted[kind], kind, usage.by_kind[kind]);
    CHECK_MSG(audit.in_zones == (uint64_t)pmm.free_frames &&
                  audit.in_zones + cached == usage.by_kind[FRAME_FREE],
              "%lu frames free in the allocator of %ld, %lu cached, %lu free", audit.in_zones,
              pmm.free_frames, cached, usage.by_kind[FRAME_FREE]);
    for (unsigned zone = 0; zone < PMM_ZONES; zone++) {
        if (pmm.zones[zone].self != NULL)
            frame_allocator_audit(pmm.allocator, pmm.zones[zone].self);
    }
    pmm_idle_resume();
}

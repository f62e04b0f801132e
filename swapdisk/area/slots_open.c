/* The slots of the swap areas: their records and bitmap, in single frames, and the audit. */
#include "lib/bytes.h"
#include "swapdisk/area/slots_internal.h"

static enum status add_directory(void)
{
    CHECK(slots.directory_count < DIRECTORIES_MAX);
    if (pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &slots.directories[slots.directory_count]) != OK)
        return STATUS_NO_MEMORY;
    slots.directory_count++;
    return OK;
}

/* Adds one frame of records, all free. */
static enum status add_records(uint32_t number)
{
    struct pfn frame;

    if (number % PFNS_PER_FRAME == 0 && add_directory() != OK)
        return STATUS_NO_MEMORY;
    if (pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &frame) != OK)
        return STATUS_NO_MEMORY;
    *slots_frame_entry(number) = frame;
    slots.total += RECORDS_PER_FRAME;
    return OK;
}

static enum status add_bitmap(void)
{
    struct bitmap *bitmap = &slots.bitmaps[slots.bitmap_count];

    CHECK(slots.bitmap_count < BITMAPS_MAX);
    if (pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &bitmap->frame) != OK)
        return STATUS_NO_MEMORY;
    bitmap->free = 0;
    slots.bitmap_count++;
    return OK;
}

/* Gives each range its numbers, with one or more unused ones between two of them. Returns the end
 * of the last one. */
static uint32_t place_ranges(struct slot_range *ranges, unsigned count)
{
    uint64_t end = 0;

    for (unsigned i = 0; i < count; i++) {
        ranges[i].first = i == 0 ? 0 : (uint32_t)round_up(end + 1, SLOT_CLUSTER);
        end = (uint64_t)ranges[i].first + ranges[i].count;
        CHECK(ranges[i].count > 0 && end <= SLOTS_MAX);
        slots.ranges[i] = (struct range){.first = ranges[i].first,
                                         .end = (uint32_t)end,
                                         .next = ranges[i].first,
                                         .priority = ranges[i].priority};
    }
    return (uint32_t)end;
}

/* Frees the slots of all ranges; the others are never used. */
static void free_ranges(void)
{
    uint32_t at = 0;

    for (unsigned i = 0; i < slots.range_count; i++) {
        for (; at < slots.ranges[i].first; at++)
            slots_record((struct slot){at})->generation = SLOT_RETIRED;
        for (; at < slots.ranges[i].end; at++)
            slots_mark_free(at);
    }
}

enum status slots_open(struct slot_range *ranges, unsigned count)
{
    enum status status = OK;
    uint32_t end;

    CHECK(slots.total == 0 && count > 0 && count <= SLOT_RANGES_MAX);
    end = place_ranges(ranges, count);
    slots.range_count = count;
    while (status == OK && slots.bitmap_count * SLOTS_PER_BITMAP < end)
        status = add_bitmap();
    while (status == OK && slots.total < end)
        status = add_records(slots.total / RECORDS_PER_FRAME);
    if (status != OK) {
        slots_close();
        return status;
    }
    slots.total = end;
    free_ranges();
    return OK;
}

void slots_close(void)
{
    uint32_t frames = (slots.total + RECORDS_PER_FRAME - 1) / RECORDS_PER_FRAME;

    for (uint32_t i = 0; i < frames; i++)
        pmm_free(*slots_frame_entry(i));
    for (uint32_t i = 0; i < slots.directory_count; i++)
        pmm_free(slots.directories[i]);
    for (uint32_t i = 0; i < slots.bitmap_count; i++)
        pmm_free(slots.bitmaps[i].frame);
    memset(&slots, 0, sizeof(slots));
}

/* Returns the slots of a range that are in use. */
static uint32_t audit_range(const struct range *range)
{
    uint32_t used = 0;
    uint32_t retired = 0;

    for (uint32_t i = range->first; i < range->end; i++) {
        const struct slot_record *record = slots_record((struct slot){i});

        if (slots_is_retired((struct slot){i})) {
            CHECK_MSG(record->count == 0 && !slot_is_free(i), "retired slot %x is in use", i);
            retired++;
            continue;
        }
        CHECK_MSG((record->count == 0) == slot_is_free(i), "slot %x has count %x, free %u", i,
                  record->count, slot_is_free(i));
        CHECK_MSG(record->count != 0 || (record->generation & SLOT_FULL) == 0,
                  "free slot %x is full", i);
        used += record->count != 0;
    }
    CHECK(retired == range->retired);
    CHECK_MSG(range->free == range->end - range->first - used - retired,
              "%u slots of an area are free, its ledger says %u",
              range->end - range->first - used - retired, range->free);
    return used;
}

void slots_audit(void)
{
    uint32_t used = 0;
    uint32_t free = 0;
    uint32_t bits = 0;

    for (unsigned i = 0; i < slots.range_count; i++) {
        used += audit_range(&slots.ranges[i]);
        free += slots.ranges[i].free;
    }
    for (uint32_t i = 0; i < slots.bitmap_count; i++)
        bits += slots.bitmaps[i].free;
    CHECK_MSG(used == slots.used, "%u slots are held, the ledger says %u", used, slots.used);
    CHECK_MSG(bits == free, "%u slots are free, the bitmap says %u", free, bits);
}

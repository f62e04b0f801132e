/*
 * Shared by the files of the slots: slots.c takes and frees them, slots_open.c makes their records.
 *
 * Units: as slots.h. Owns: nothing. Context: as slots.h. Fails with: as slots.h.
 */
#ifndef SWAPDISK_AREA_SLOTS_INTERNAL_H
#define SWAPDISK_AREA_SLOTS_INTERNAL_H

#include "lib/check.h"
#include "pmm/pmm.h"
#include "swapdisk/area/slots.h"

#define RECORDS_PER_FRAME ((uint32_t)(PAGE_SIZE / sizeof(struct slot_record)))
#define BITS_PER_WORD     64U
#define WORDS_PER_FRAME   ((uint32_t)(PAGE_SIZE / sizeof(uint64_t)))
#define SLOTS_PER_BITMAP  (BITS_PER_WORD * WORDS_PER_FRAME)
#define PFNS_PER_FRAME    ((uint32_t)(PAGE_SIZE / sizeof(struct pfn)))

_Static_assert(BITS_PER_WORD == SLOT_CLUSTER, "a word of the bitmap has a cluster");

#define BITMAPS_MAX     (SLOTS_MAX / SLOTS_PER_BITMAP)
#define DIRECTORIES_MAX (SLOTS_MAX / RECORDS_PER_FRAME / PFNS_PER_FRAME + 1)

/* One frame of the bitmap: a set bit is a free slot. The search skips frames whose `free` is 0. */
struct bitmap {
    struct pfn frame;
    uint32_t free;
};

/* One area's slots; all under the lock. */
struct range {
    uint32_t first;
    uint32_t end;
    uint32_t next; /* start of the next search for a free slot */
    uint32_t free;
    uint32_t retired;
    uint32_t priority;
    bool closed;
};

struct swap_slots {
    uint32_t total;
    uint32_t used;
    unsigned range_count;
    unsigned turn; /* the range that is used, unless one of a higher priority has free slots */
    struct range ranges[SLOT_RANGES_MAX];
    uint32_t directory_count;
    uint32_t bitmap_count;
    struct pfn directories[DIRECTORIES_MAX]; /* frames of pfns of frames of records */
    struct bitmap bitmaps[BITMAPS_MAX];
    uint8_t lock;
};

extern struct swap_slots slots;

/* Returns the directory entry of a frame of records. */
static inline struct pfn *slots_frame_entry(uint32_t number)
{
    struct pfn *directory = frame_pointer(slots.directories[number / PFNS_PER_FRAME]);

    return &directory[number % PFNS_PER_FRAME];
}

/* As slots_record, inline: each transfer asks several times. */
static inline struct slot_record *slot_record_of(struct slot slot)
{
    struct slot_record *records;

    CHECK_MSG(slot.index < slots.total, "slot %x of %x", slot.index, slots.total);
    records = frame_pointer(*slots_frame_entry(slot.index / RECORDS_PER_FRAME));
    return &records[slot.index % RECORDS_PER_FRAME];
}

/* Returns the word of the bitmap that has a slot's bit. */
uint64_t *slots_bitmap_word(uint32_t index);

static inline bool slot_is_free(uint32_t index)
{
    return (*slots_bitmap_word(index) >> (index % BITS_PER_WORD) & 1) != 0;
}

/* Makes a slot free that was not. */
void slots_mark_free(uint32_t index);

#endif

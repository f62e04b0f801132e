/* The slots of the swap area: records and a bitmap, both in single frames. */
#include "swapdisk/slots.h"

#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "lib/bytes.h"
#include "lib/check.h"
#include "pmm/pmm.h"

#define RECORDS_PER_FRAME ((uint32_t)(PAGE_SIZE / sizeof(struct slot_record)))
#define BITS_PER_WORD     64U
#define WORDS_PER_FRAME   ((uint32_t)(PAGE_SIZE / sizeof(uint64_t)))
#define SLOTS_PER_BITMAP  (BITS_PER_WORD * WORDS_PER_FRAME)
#define PFNS_PER_FRAME    ((uint32_t)(PAGE_SIZE / sizeof(struct pfn)))

#define BITMAPS_MAX     (SLOTS_MAX / SLOTS_PER_BITMAP)
#define DIRECTORIES_MAX (SLOTS_MAX / RECORDS_PER_FRAME / PFNS_PER_FRAME + 1)

/* One frame of the bitmap: a set bit is a free slot. The search skips frames whose `free` is 0. */
struct bitmap {
    struct pfn frame;
    uint32_t free;
};

static struct {
    uint32_t total;
    uint32_t used;
    uint32_t retired;
    uint32_t next; /* start of the next search for a free slot */
    uint32_t directory_count;
    uint32_t bitmap_count;
    struct pfn directories[DIRECTORIES_MAX]; /* frames of pfns of frames of records */
    struct bitmap bitmaps[BITMAPS_MAX];
    uint8_t lock;
} slots;

static bool slots_lock(void)
{
    bool were_on = machine_interrupts_off();

    spin_lock(&slots.lock);
    return were_on;
}

static void slots_unlock(bool were_on)
{
    spin_unlock(&slots.lock);
    machine_interrupts_restore(were_on);
}

/* Returns the directory entry of a frame of records. */
static struct pfn *record_frame_entry(uint32_t number)
{
    struct pfn *directory = frame_pointer(slots.directories[number / PFNS_PER_FRAME]);

    return &directory[number % PFNS_PER_FRAME];
}

struct slot_record *slots_record(struct slot slot)
{
    struct slot_record *records;

    CHECK_MSG(slot.index < slots.total, "slot %x of %x", slot.index, slots.total);
    records = frame_pointer(*record_frame_entry(slot.index / RECORDS_PER_FRAME));
    return &records[slot.index % RECORDS_PER_FRAME];
}

static uint64_t *bitmap_word(uint32_t index)
{
    uint64_t *words = frame_pointer(slots.bitmaps[index / SLOTS_PER_BITMAP].frame);

    return &words[index % SLOTS_PER_BITMAP / BITS_PER_WORD];
}

static bool is_free(uint32_t index)
{
    return (*bitmap_word(index) >> (index % BITS_PER_WORD) & 1) != 0;
}

static void mark_free(uint32_t index)
{
    CHECK(!is_free(index));
    *bitmap_word(index) |= UINT64_C(1) << (index % BITS_PER_WORD);
    slots.bitmaps[index / SLOTS_PER_BITMAP].free++;
}

static void mark_used(uint32_t index)
{
    CHECK(is_free(index));
    *bitmap_word(index) &= ~(UINT64_C(1) << (index % BITS_PER_WORD));
    slots.bitmaps[index / SLOTS_PER_BITMAP].free--;
}

/* Returns the first free slot at or after `from`, or the total. Skips full frames and words. */
static uint32_t find_free_slot(uint32_t from)
{
    while (from < slots.total) {
        uint64_t word;

        if (slots.bitmaps[from / SLOTS_PER_BITMAP].free == 0) {
            from = (from / SLOTS_PER_BITMAP + 1) * SLOTS_PER_BITMAP;
            continue;
        }
        word = *bitmap_word(from) >> (from % BITS_PER_WORD);
        if (word != 0)
            return from + (uint32_t)__builtin_ctzll(word);
        from = (from / BITS_PER_WORD + 1) * BITS_PER_WORD;
    }
    return slots.total;
}

static void slot_allocate(uint32_t index)
{
    struct slot_record *record = slots_record((struct slot){index});

    CHECK_MSG(record->count == 0, "free slot %x has count %x", index, record->count);
    mark_used(index);
    record->count = 1;
    record->generation &= SLOT_GENERATION_MASK;
    slots.used++;
}

enum status slots_take(unsigned wanted, struct slot *first, unsigned *count)
{
    bool were_on = slots_lock();
    enum status status = STATUS_NO_SPACE;

    CHECK(wanted > 0 && slots.total > 0);
    if (slots.used < slots.total - slots.retired) {
        uint32_t at = find_free_slot(slots.next);

        if (at == slots.total)
            at = find_free_slot(0);
        CHECK(at < slots.total);
        first->index = at;
        for (*count = 0; *count < wanted && at < slots.total && is_free(at); at++, (*count)++)
            slot_allocate(at);
        slots.next = at == slots.total ? 0 : at;
        status = OK;
    }
    slots_unlock(were_on);
    return status;
}

void slots_hold(struct slot slot)
{
    bool were_on = slots_lock();
    struct slot_record *record = slots_record(slot);

    CHECK_MSG(record->count > 0, "holding the free slot %x", slot.index);
    /* A count that wrapped would free a page that is still referenced. */
    CHECK_MSG(record->count < UINT32_MAX, "slot %x has too many holders", slot.index);
    record->count++;
    slots_unlock(were_on);
}

bool slots_release(struct slot slot)
{
    bool were_on = slots_lock();
    struct slot_record *record = slots_record(slot);
    bool last;

    CHECK_MSG(record->count > 0, "releasing the free slot %x", slot.index);
    last = --record->count == 0;
    if (last)
        record->generation &= SLOT_GENERATION_MASK;
    slots_unlock(were_on);
    return last;
}

void slots_free(struct slot slot)
{
    bool were_on = slots_lock();

    CHECK_MSG(slots_record(slot)->count == 0, "freeing slot %x, which is held", slot.index);
    CHECK(slots.used > 0);
    slots.used--;
    mark_free(slot.index);
    slots_unlock(were_on);
}

void slots_retire(struct slot slot)
{
    struct slot_record *record = slots_record(slot);
    bool were_on = slots_lock();

    CHECK(record->count == 0 && is_free(slot.index));
    mark_used(slot.index);
    record->generation = SLOT_RETIRED;
    slots.retired++;
    slots_unlock(were_on);
}

void slots_give_up(struct slot slot)
{
    struct slot_record *record = slots_record(slot);
    bool were_on = slots_lock();

    CHECK_MSG(record->count == 1, "giving up slot %x with count %x", slot.index, record->count);
    CHECK(slots.used > 0 && !is_free(slot.index));
    record->count = 0;
    record->generation = SLOT_RETIRED;
    slots.used--;
    slots.retired++;
    slots_unlock(were_on);
}

bool slots_is_retired(struct slot slot)
{
    return slots_record(slot)->generation == SLOT_RETIRED;
}

uint32_t slots_retired(void)
{
    return slots.retired;
}

uint32_t slots_count(struct slot slot)
{
    bool were_on = slots_lock();
    uint32_t count = slots_record(slot)->count;

    slots_unlock(were_on);
    return count;
}

uint32_t slots_total(void)
{
    return slots.total;
}

uint32_t slots_used(void)
{
    return __atomic_load_n(&slots.used, __ATOMIC_RELAXED);
}

uint64_t slots_references(void)
{
    bool were_on = slots_lock();
    uint64_t sum = 0;

    for (uint32_t i = 0; i < slots.total; i++)
        sum += slots_record((struct slot){i})->count;
    slots_unlock(were_on);
    return sum;
}

uint32_t slots_check_value(struct slot slot, uint32_t generation, const void *page)
{
    uint32_t bound[2] = {slot.index, generation & SLOT_GENERATION_MASK};

    return machine_crc32c(machine_crc32c(0, bound, sizeof(bound)), page, PAGE_SIZE);
}

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
    *record_frame_entry(number) = frame;
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

enum status slots_open(uint32_t count)
{
    enum status status = OK;

    CHECK(slots.total == 0 && count > 0 && count <= SLOTS_MAX);
    while (status == OK && slots.bitmap_count * SLOTS_PER_BITMAP < count)
        status = add_bitmap();
    while (status == OK && slots.total < count)
        status = add_records(slots.total / RECORDS_PER_FRAME);
    if (status != OK) {
        slots_close();
        return status;
    }
    slots.total = count;
    for (uint32_t i = 0; i < count; i++)
        mark_free(i);
    return OK;
}

void slots_close(void)
{
    uint32_t frames = (slots.total + RECORDS_PER_FRAME - 1) / RECORDS_PER_FRAME;

    for (uint32_t i = 0; i < frames; i++)
        pmm_free(*record_frame_entry(i));
    for (uint32_t i = 0; i < slots.directory_count; i++)
        pmm_free(slots.directories[i]);
    for (uint32_t i = 0; i < slots.bitmap_count; i++)
        pmm_free(slots.bitmaps[i].frame);
    memset(&slots, 0, sizeof(slots));
}

void slots_audit(void)
{
    uint32_t used = 0;
    uint32_t free = 0;
    uint32_t retired = 0;

    for (uint32_t i = 0; i < slots.total; i++) {
        const struct slot_record *record = slots_record((struct slot){i});

        if (slots_is_retired((struct slot){i})) {
            CHECK_MSG(record->count == 0 && !is_free(i), "retired slot %x is in use", i);
            retired++;
            continue;
        }
        CHECK_MSG((record->count == 0) == is_free(i), "slot %x has count %x, free %u", i,
                  record->count, is_free(i));
        CHECK_MSG(record->count != 0 || (record->generation & SLOT_FULL) == 0,
                  "free slot %x is full", i);
        used += record->count != 0;
    }
    for (uint32_t i = 0; i < slots.bitmap_count; i++)
        free += slots.bitmaps[i].free;
    CHECK_MSG(used == slots.used, "%u slots are held, the ledger says %u", used, slots.used);
    CHECK(retired == slots.retired);
    CHECK_MSG(free == slots.total - used - retired, "%u slots are free, the bitmap says %u",
              slots.total - used - retired, free);
}

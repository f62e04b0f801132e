/* The slots of the swap areas: records and a bitmap, both in single frames. */
#include "swapdisk/area/slots_internal.h"

#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "lib/bytes.h"
#include "lib/check.h"
#include "pmm/pmm.h"

/* Clusters that one search for a stale one looks at, with the lock held. */
#define CLUSTER_LOOKS 16U

struct swap_slots slots;

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

struct slot_record *slots_record(struct slot slot)
{
    return slot_record_of(slot);
}

uint64_t *slots_bitmap_word(uint32_t index)
{
    uint64_t *words = frame_pointer(slots.bitmaps[index / SLOTS_PER_BITMAP].frame);

    return &words[index % SLOTS_PER_BITMAP / BITS_PER_WORD];
}

static struct range *range_of(uint32_t index)
{
    struct range *range = slots.ranges;

    while (index >= range->end && range + 1 < slots.ranges + slots.range_count)
        range++;
    CHECK_MSG(index >= range->first && index < range->end, "slot %x is in no area", index);
    return range;
}

void slots_mark_free(uint32_t index)
{
    CHECK(!slot_is_free(index));
    *slots_bitmap_word(index) |= UINT64_C(1) << (index % BITS_PER_WORD);
    slots.bitmaps[index / SLOTS_PER_BITMAP].free++;
    range_of(index)->free++;
}

static void mark_used(struct range *range, uint32_t index)
{
    CHECK(slot_is_free(index) && range->free > 0);
    *slots_bitmap_word(index) &= ~(UINT64_C(1) << (index % BITS_PER_WORD));
    slots.bitmaps[index / SLOTS_PER_BITMAP].free--;
    range->free--;
}

/* Returns the first free slot in [from, end), or end. Skips full frames and words. */
static uint32_t find_free_slot(uint32_t from, uint32_t end)
{
    while (from < end) {
        uint64_t word;

        if (slots.bitmaps[from / SLOTS_PER_BITMAP].free == 0) {
            from = (from / SLOTS_PER_BITMAP + 1) * SLOTS_PER_BITMAP;
            continue;
        }
        word = *slots_bitmap_word(from) >> (from % BITS_PER_WORD);
        if (word != 0)
            return (uint32_t)min_u64(from + (uint32_t)__builtin_ctzll(word), end);
        from = (from / BITS_PER_WORD + 1) * BITS_PER_WORD;
    }
    return end;
}

static void slot_allocate(struct range *range, uint32_t index)
{
    struct slot_record *record = slot_record_of((struct slot){index});

    CHECK_MSG(record->count == 0, "free slot %x has count %x", index, record->count);
    mark_used(range, index);
    __atomic_store_n(&record->count, 1, __ATOMIC_RELAXED);
    record->generation &= SLOT_GENERATION_MASK | SLOT_STALE;
    slots.used++;
}

/* Chooses the range of the highest priority that has free slots; of equal ones the one whose turn
 * it is. Returns NULL if there is none, and then in *status why. */
static struct range *choose_range(enum status *status)
{
    struct range *best = NULL;

    *status = STATUS_IO;
    for (unsigned i = 0; i < slots.range_count; i++) {
        struct range *at = &slots.ranges[(slots.turn + i) % slots.range_count];

        if (!at->closed)
            *status = STATUS_NO_SPACE;
        if (!at->closed && at->free > 0 && (best == NULL || at->priority > best->priority))
            best = at;
    }
    return best;
}

/* Takes up to `wanted` consecutive slots of a range with free ones. Returns their number. */
static unsigned take_from(struct range *range, unsigned wanted, uint32_t *first)
{
    uint32_t at = find_free_slot(range->next, range->end);
    unsigned count = 0;

    if (at == range->end)
        at = find_free_slot(range->first, range->end);
    CHECK(at < range->end);
    *first = at;
    for (; count < wanted && at < range->end && slot_is_free(at); at++, count++)
        slot_allocate(range, at);
    range->next = at == range->end ? range->first : at;
    return count;
}

/* Gives the turn to the next range once a cluster of this one is done. */
static void pass_turn(const struct range *range, uint32_t first)
{
    unsigned number = (unsigned)(range - slots.ranges);

    CHECK(number < slots.range_count);
    slots.turn = number;
    if (range->next / SLOT_CLUSTER != first / SLOT_CLUSTER && number + 1 < slots.range_count)
        slots.turn = number + 1;
    else if (range->next / SLOT_CLUSTER != first / SLOT_CLUSTER)
        slots.turn = 0;
}

enum status slots_take(unsigned wanted, struct slot *first, unsigned *count)
{
    bool were_on = slots_lock();
    struct range *range;
    enum status status;

    CHECK(wanted > 0 && slots.total > 0);
    range = choose_range(&status);
    if (range != NULL) {
        *count = take_from(range, wanted, &first->index);
        pass_turn(range, first->index);
        status = OK;
    }
    slots_unlock(were_on);
    return status;
}

/* A holder's count keeps the slot from being freed meanwhile, so no lock is needed. */
void slots_hold(struct slot slot)
{
    uint32_t before = __atomic_fetch_add(&slot_record_of(slot)->count, 1, __ATOMIC_RELAXED);

    CHECK_MSG(before > 0, "holding the free slot %x", slot.index);
    /* A count that wrapped would free a page that is still referenced. */
    CHECK_MSG(before < UINT32_MAX, "slot %x has too many holders", slot.index);
}

bool slots_release(struct slot slot)
{
    struct slot_record *record = slot_record_of(slot);
    uint32_t before = __atomic_fetch_sub(&record->count, 1, __ATOMIC_ACQ_REL);

    CHECK_MSG(before > 0, "releasing the free slot %x", slot.index);
    if (before == 1) /* the record is the caller's, until slots_free */
        __atomic_and_fetch(&record->generation, ~(SLOT_FULL | SLOT_COPIES), __ATOMIC_RELAXED);
    return before == 1;
}

/* Takes a slot that is neither free nor held out of use. */
static void slot_leave(struct slot_record *record, uint32_t index, unsigned disks)
{
    CHECK(record->count == 0 && !slot_is_free(index) && disks != 0);
    record->generation = SLOT_RETIRED;
    record->check = disks;
    range_of(index)->retired++;
}

void slots_free(struct slot slot)
{
    bool were_on = slots_lock();
    struct slot_record *record = slot_record_of(slot);

    CHECK_MSG(record->count == 0, "freeing slot %x, which is held", slot.index);
    CHECK(slots.used > 0);
    slots.used--;
    if ((record->generation & SLOT_BADS) != 0)
        slot_leave(record, slot.index, (record->generation & SLOT_BADS) / SLOT_BAD(0));
    else
        slots_mark_free(slot.index);
    slots_unlock(were_on);
}

void slots_retire(struct slot slot, unsigned disks)
{
    struct slot_record *record = slot_record_of(slot);
    bool were_on = slots_lock();

    if (slots_is_retired(slot)) {
        record->check |= disks;
    } else {
        mark_used(range_of(slot.index), slot.index);
        slot_leave(record, slot.index, disks);
    }
    slots_unlock(were_on);
}

void slots_give_up(struct slot slot, unsigned disks)
{
    struct slot_record *record = slot_record_of(slot);
    bool were_on = slots_lock();

    CHECK_MSG(record->count == 1, "giving up slot %x with count %x", slot.index, record->count);
    CHECK(slots.used > 0);
    record->count = 0;
    slots.used--;
    slot_leave(record, slot.index, disks | (record->generation & SLOT_BADS) / SLOT_BAD(0));
    slots_unlock(were_on);
}

void slots_condemn(struct slot slot, unsigned disk)
{
    struct slot_record *record = slot_record_of(slot);

    CHECK(record->count > 0 && disk < 2);
    __atomic_or_fetch(&record->generation, SLOT_BAD(disk), __ATOMIC_RELAXED);
}

unsigned slots_bad_disks(struct slot slot)
{
    const struct slot_record *record = slot_record_of(slot);
    uint32_t generation = __atomic_load_n(&record->generation, __ATOMIC_RELAXED);

    return generation == SLOT_RETIRED ? record->check : (generation & SLOT_BADS) / SLOT_BAD(0);
}

void slots_set_copy(struct slot slot, unsigned disk, bool has)
{
    struct slot_record *record = slot_record_of(slot);

    CHECK(record->count > 0 && disk < 2);
    if (has)
        __atomic_or_fetch(&record->generation, SLOT_COPY(disk), __ATOMIC_RELAXED);
    else
        __atomic_and_fetch(&record->generation, ~SLOT_COPY(disk), __ATOMIC_RELAXED);
}

unsigned slots_copies(struct slot slot)
{
    uint32_t generation = __atomic_load_n(&slot_record_of(slot)->generation, __ATOMIC_RELAXED);

    return (generation & SLOT_COPIES) / SLOT_COPY(0);
}

/* Returns whether the slots of a cluster are free, and one or more stale. */
static bool cluster_is_stale(uint32_t first, uint32_t count)
{
    uint64_t all = UINT64_MAX >> (SLOT_CLUSTER - count);

    CHECK(first % SLOT_CLUSTER == 0 && count > 0 && count <= SLOT_CLUSTER);
    if ((*slots_bitmap_word(first) & all) != all)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        if ((slot_record_of((struct slot){first + i})->generation & SLOT_STALE) != 0)
            return true;
    }
    return false;
}

unsigned slots_take_cluster(unsigned number, uint32_t *at, uint32_t spare, struct slot *first)
{
    struct range *range = &slots.ranges[number];
    bool were_on = slots_lock();
    uint32_t count = 0;

    CHECK(number < slots.range_count && *at >= range->first);
    for (unsigned look = 0; look < CLUSTER_LOOKS && count == 0 && *at < range->end; look++) {
        first->index = *at;
        *at = (uint32_t)min_u64(*at + SLOT_CLUSTER, range->end);
        if (cluster_is_stale(first->index, *at - first->index))
            count = *at - first->index;
    }
    if (range->closed || range->free < (uint64_t)count + spare)
        count = 0;
    for (uint32_t i = 0; i < count; i++)
        slot_allocate(range, first->index + i);
    slots_unlock(were_on);
    return count;
}

void slots_give_cluster(struct slot first, unsigned count, bool trimmed)
{
    bool were_on = slots_lock();

    CHECK(count > 0 && count <= SLOT_CLUSTER && slots.used >= count);
    for (uint32_t i = first.index; i < first.index + count; i++) {
        struct slot_record *record = slot_record_of((struct slot){i});

        CHECK_MSG(record->count == 1, "slot %x has %x holders in a TRIM", i, record->count);
        __atomic_store_n(&record->count, 0, __ATOMIC_RELAXED);
        record->generation &= trimmed ? ~SLOT_STALE : UINT32_MAX;
        slots_mark_free(i);
    }
    slots.used -= count;
    slots_unlock(were_on);
}

void slots_close_range(unsigned range)
{
    bool were_on = slots_lock();

    CHECK(range < slots.range_count);
    slots.ranges[range].closed = true;
    slots_unlock(were_on);
}

unsigned slots_range_of(struct slot slot)
{
    return (unsigned)(range_of(slot.index) - slots.ranges);
}

bool slots_is_retired(struct slot slot)
{
    return slot_record_of(slot)->generation == SLOT_RETIRED;
}

uint32_t slots_usable(unsigned range)
{
    const struct range *at = &slots.ranges[range];

    CHECK(range < slots.range_count);
    return at->end - at->first - __atomic_load_n(&at->retired, __ATOMIC_RELAXED);
}

uint32_t slots_used_of(unsigned range)
{
    return slots_usable(range) - __atomic_load_n(&slots.ranges[range].free, __ATOMIC_RELAXED);
}

uint32_t slots_count(struct slot slot)
{
    return __atomic_load_n(&slot_record_of(slot)->count, __ATOMIC_ACQUIRE);
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
        sum += slot_record_of((struct slot){i})->count;
    slots_unlock(were_on);
    return sum;
}

uint32_t slots_check_value(struct slot slot, uint32_t generation, const void *page)
{
    uint32_t bound[2] = {slot.index, generation & SLOT_GENERATION_MASK};

    return machine_crc32c(machine_crc32c(0, bound, sizeof(bound)), page, PAGE_SIZE);
}

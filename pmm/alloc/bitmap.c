/*
 * A bitmap with next-fit: one bit per frame, and a cursor at which each search begins.
 *
 * It needs the least metadata and supports every order. The price is the search when memory is
 * nearly full.
 */
#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "pmm/alloc/internal.h"

#define WORD_BITS 64U

/* Blocks of at least this order are whole words. */
#define ORDER_WORD 6U

struct bitmap {
    uint64_t frames;
    uint64_t words;
    uint64_t free;
    uint64_t cursor; /* a word */
    uint8_t lock;
    uint64_t taken[]; /* bits past the last frame are set */
};

static bool bitmap_lock(struct bitmap *self)
{
    bool were_on = machine_interrupts_off();

    spin_lock(&self->lock);
    return were_on;
}

static void bitmap_unlock(struct bitmap *self, bool were_on)
{
    spin_unlock(&self->lock);
    machine_interrupts_restore(were_on);
}

static uint64_t bitmap_group_mask(unsigned order)
{
    return order >= ORDER_WORD ? UINT64_MAX : (UINT64_C(1) << (1U << order)) - 1;
}

static uint64_t group_words(unsigned order)
{
    return order > ORDER_WORD ? UINT64_C(1) << (order - ORDER_WORD) : 1;
}

/* Returns the position of a free, aligned group in a word, or 64. */
static unsigned find_in_word(uint64_t taken, unsigned order)
{
    uint64_t mask = bitmap_group_mask(order);
    unsigned step = 1U << order;

    if (taken == UINT64_MAX)
        return WORD_BITS;
    if (order == 0)
        return (unsigned)__builtin_ctzll(~taken);
    for (unsigned bit = 0; bit < WORD_BITS; bit += step) {
        if ((taken >> bit & mask) == 0)
            return bit;
    }
    return WORD_BITS;
}

static bool words_are_free(const struct bitmap *self, uint64_t at, uint64_t words)
{
    for (uint64_t i = 0; i < words; i++) {
        if (self->taken[at + i] != 0)
            return false;
    }
    return true;
}

/* Searches for a free block from the cursor, with wrap-around. Returns its first frame, or
 * UINT64_MAX. */
static uint64_t bitmap_find(struct bitmap *self, unsigned order)
{
    uint64_t step = group_words(order);
    uint64_t groups = self->words / step;
    uint64_t from = self->cursor / step;

    for (uint64_t i = 0; i < groups; i++) {
        uint64_t at = (from + i < groups ? from + i : from + i - groups) * step;
        unsigned bit = 0;

        if (order > ORDER_WORD ? !words_are_free(self, at, step)
                               : (bit = find_in_word(self->taken[at], order)) == WORD_BITS)
            continue;
        self->cursor = at;
        return at * WORD_BITS + bit;
    }
    return UINT64_MAX;
}

static void bitmap_mark(struct bitmap *self, uint64_t first, unsigned order, bool taken)
{
    uint64_t mask = bitmap_group_mask(order) << first % WORD_BITS;

    for (uint64_t i = 0; i < group_words(order); i++) {
        uint64_t *word = &self->taken[first / WORD_BITS + i];

        CHECK_MSG((*word & mask) == (taken ? 0 : mask), "frame %lx, order %u: bits %lx of %lx",
                  first, order, *word & mask, mask);
        *word ^= mask;
    }
}

static enum status bitmap_take(void *metadata, unsigned cpu, unsigned order, uint64_t *first)
{
    struct bitmap *self = metadata;
    bool were_on = bitmap_lock(self);
    uint64_t found = UINT64_MAX;

    (void)cpu;
    CHECK(order_valid(order));
    if (self->free >= order_frames(order))
        found = bitmap_find(self, order);
    if (found != UINT64_MAX) {
        bitmap_mark(self, found, order, true);
        self->free -= order_frames(order);
        *first = found;
    }
    bitmap_unlock(self, were_on);
    return found != UINT64_MAX ? OK : STATUS_NO_MEMORY;
}

static void bitmap_give(void *metadata, unsigned cpu, uint64_t first, unsigned order)
{
    struct bitmap *self = metadata;
    bool were_on = bitmap_lock(self);

    (void)cpu;
    CHECK(order_valid(order) && first % order_frames(order) == 0);
    CHECK(first + order_frames(order) <= self->frames);
    bitmap_mark(self, first, order, false);
    self->free += order_frames(order);
    bitmap_unlock(self, were_on);
}

/* Splits a block. Nothing to record: the bits do not show block boundaries. */
static void bitmap_split(void *metadata, uint64_t first, unsigned order, unsigned to)
{
    const struct bitmap *self = metadata;

    CHECK(order_valid(order) && order_valid(to) && to < order);
    CHECK(first % order_frames(order) == 0 && first + order_frames(order) <= self->frames);
}

static void bitmap_join(void *metadata, uint64_t first, unsigned order, unsigned from)
{
    bitmap_split(metadata, first, order, from);
}

static uint64_t bitmap_words(uint64_t frames)
{
    return (frames + WORD_BITS - 1) / WORD_BITS;
}

static uint64_t bitmap_size(uint64_t frames, unsigned cpus)
{
    (void)cpus;
    return sizeof(struct bitmap) + bitmap_words(frames) * sizeof(uint64_t);
}

static void bitmap_start(void *metadata, uint64_t frames, unsigned cpus)
{
    struct bitmap *self = metadata;

    (void)cpus;
    CHECK(frames > 0);
    *self = (struct bitmap){.frames = frames, .words = bitmap_words(frames)};
    memset(self->taken, 0xff, self->words * sizeof(uint64_t));
}

static void bitmap_add(void *metadata, uint64_t first, uint64_t count)
{
    struct bitmap *self = metadata;

    CHECK(first + count <= self->frames);
    for (uint64_t at = first; at < first + count;) {
        unsigned order = at % WORD_BITS == 0 && first + count - at >= WORD_BITS ? ORDER_WORD : 0;

        bitmap_mark(self, at, order, false);
        at += order_frames(order);
    }
    self->free += count;
}

static uint64_t bitmap_free_frames(const void *metadata)
{
    const struct bitmap *self = metadata;

    return __atomic_load_n(&self->free, __ATOMIC_RELAXED);
}

static bool bitmap_is_free(const void *metadata, uint64_t frame)
{
    const struct bitmap *self = metadata;

    CHECK(frame < self->frames);
    return (self->taken[frame / WORD_BITS] >> frame % WORD_BITS & 1) == 0;
}

static void bitmap_audit(const void *metadata)
{
    const struct bitmap *self = metadata;
    uint64_t free = 0;

    for (uint64_t i = 0; i < self->words; i++)
        free += bits_set(~self->taken[i]);
    CHECK_MSG(free == self->free, "%lu bits clear, %lu frames free", free, self->free);
    CHECK(self->lock == 0);
}

FRAME_ALLOCATOR(bitmap) = {
    .name = "bitmap",
    .size = bitmap_size,
    .start = bitmap_start,
    .add = bitmap_add,
    .take = bitmap_take,
    .give = bitmap_give,
    .split = bitmap_split,
    .join = bitmap_join,
    .free_frames = bitmap_free_frames,
    .is_free = bitmap_is_free,
    .audit = bitmap_audit,
};

/* LLFree's lower half: areas of 2 MiB, with one bit per frame and one counter per area. */
#include "pmm/alloc/llfree_internal.h"

#include "lib/units.h"
#include "pmm/alloc/internal.h"

/* Blocks of at least this order are whole words. */
#define ORDER_WORD 6U

/* ---- the area's word ---- */

static bool area_claim(uint16_t *word, unsigned frames)
{
    uint16_t old = __atomic_load_n(word, __ATOMIC_ACQUIRE);

    while ((old & AREA_HUGE) == 0 && old >= frames) {
        if (__atomic_compare_exchange_n(word, &old, (uint16_t)(old - frames), true,
                                        __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            return true;
    }
    return false;
}

/* Claims up to `most` frames of the area. Returns how many. */
static unsigned area_claim_some(uint16_t *word, unsigned most)
{
    uint16_t old = __atomic_load_n(word, __ATOMIC_ACQUIRE);

    while ((old & AREA_HUGE) == 0 && old > 0) {
        unsigned claimed = old < most ? old : most;

        if (__atomic_compare_exchange_n(word, &old, (uint16_t)(old - claimed), true,
                                        __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            return claimed;
    }
    return 0;
}

static void area_return(uint16_t *word, unsigned frames)
{
    uint16_t old = __atomic_fetch_add(word, (uint16_t)frames, __ATOMIC_ACQ_REL);

    CHECK_MSG((old & AREA_HUGE) == 0 && old + frames <= AREA_FRAMES,
              "an area with word %x gets %u frames back", old, frames);
}

/* ---- bits ---- */

/* Returns a word with the first bit set of each free, aligned group of 2^order frames. */
static uint64_t free_groups(uint64_t taken, unsigned order)
{
    static const uint64_t places[ORDER_WORD + 1] = {
        UINT64_MAX,
        UINT64_C(0x5555555555555555),
        UINT64_C(0x1111111111111111),
        UINT64_C(0x0101010101010101),
        UINT64_C(0x0001000100010001),
        UINT64_C(0x0000000100000001),
        UINT64_C(0x0000000000000001),
    };
    uint64_t free = ~taken;

    for (unsigned step = 0; step < order; step++)
        free &= free >> (1U << step);
    return free & places[order];
}

static uint64_t lower_group_mask(unsigned order)
{
    return order == ORDER_WORD ? UINT64_MAX : (UINT64_C(1) << (1U << order)) - 1;
}

/* Takes a group within one word. Returns its first bit, or 64. */
static unsigned take_in_word(uint64_t *word, unsigned order)
{
    uint64_t old = __atomic_load_n(word, __ATOMIC_ACQUIRE);

    for (;;) {
        uint64_t groups = free_groups(old, order);
        unsigned bit;

        if (groups == 0)
            return 64;
        bit = (unsigned)__builtin_ctzll(groups);
        if (__atomic_compare_exchange_n(word, &old, old | lower_group_mask(order) << bit, true,
                                        __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            return bit;
    }
}

/* Takes count whole words, or none. */
static bool take_words(uint64_t *words, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t none = 0;

        if (__atomic_compare_exchange_n(&words[i], &none, UINT64_MAX, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE))
            continue;
        while (i-- > 0)
            __atomic_store_n(&words[i], 0, __ATOMIC_RELEASE);
        return false;
    }
    return true;
}

/* Takes a block in an area whose counter was lowered for it. Returns its first frame within the
 * area, or AREA_FRAMES. */
static unsigned take_in_area(struct llfree_area *area, unsigned near, unsigned order)
{
    unsigned words = order > ORDER_WORD ? 1U << (order - ORDER_WORD) : 1;
    unsigned start = near / 64 / words * words;

    for (unsigned i = 0; i < AREA_WORDS; i += words) {
        unsigned at = (start + i) % AREA_WORDS;
        unsigned bit;

        if (words > 1) {
            if (take_words(&area->taken[at], words))
                return at * 64;
            continue;
        }
        bit = take_in_word(&area->taken[at], order);
        if (bit < 64)
            return at * 64 + bit;
    }
    return AREA_FRAMES;
}

/* Returns the count lowest set bits of a word. */
static uint64_t lowest_bits(uint64_t word, unsigned count)
{
    uint64_t rest = word;

    for (; count > 0; count--)
        rest &= rest - 1;
    return word & ~rest;
}

/* Takes up to `most` free bits of one word. Returns them. */
static uint64_t take_bits(uint64_t *word, unsigned most)
{
    uint64_t old = __atomic_load_n(word, __ATOMIC_ACQUIRE);

    while (old != UINT64_MAX) {
        uint64_t taken = most == 64 ? ~old : lowest_bits(~old, most);

        if (__atomic_compare_exchange_n(word, &old, old | taken, true, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE))
            return taken;
    }
    return 0;
}

/* Takes frames in one word of an area whose counter was lowered by `claimed`. All words can be full
 * only while other processors take and free frames at the same time. */
static uint64_t take_some_in_area(struct llfree_area *area, unsigned near, unsigned claimed,
                                  unsigned *word)
{
    for (unsigned i = 0; i < AREA_WORDS; i++) {
        unsigned at = (near / 64 + i) % AREA_WORDS;
        uint64_t taken = take_bits(&area->taken[at], claimed);

        if (taken != 0) {
            *word = at;
            return taken;
        }
    }
    return 0;
}

static void give_in_word(uint64_t *word, uint64_t mask, uint64_t frame)
{
    uint64_t old = __atomic_fetch_and(word, ~mask, __ATOMIC_ACQ_REL);

    CHECK_MSG((old & mask) == mask, "frame %lx is given back but was not taken: %lx of %lx", frame,
              old & mask, mask);
}

/* ---- for the upper half ---- */

void lower_start(struct llfree_lower *lower, uint64_t count)
{
    lower->count = count;
    memset(lower->areas, 0xff, count * sizeof(lower->areas[0]));
    memset(lower->words, 0, count * sizeof(lower->words[0]));
}

void lower_add(struct llfree_lower *lower, uint64_t first, uint64_t count)
{
    uint64_t area = first / AREA_FRAMES;
    uint64_t *taken = lower->areas[area].taken;

    CHECK(count > 0 && first % AREA_FRAMES + count <= AREA_FRAMES);
    if (count == AREA_FRAMES) {
        memset(taken, 0, sizeof(lower->areas[area].taken));
    } else {
        for (uint64_t frame = first % AREA_FRAMES; frame < first % AREA_FRAMES + count; frame++)
            give_in_word(&taken[frame / 64], UINT64_C(1) << frame % 64, first);
    }
    area_return(&lower->words[area], (unsigned)count);
}

bool lower_take_area(struct llfree_lower *lower, uint64_t area)
{
    uint16_t whole = AREA_FRAMES;

    return __atomic_compare_exchange_n(&lower->words[area], &whole, AREA_HUGE, false,
                                       __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* Tries one area for lower_take. */
static bool take_from_area(struct llfree_lower *lower, uint64_t area, unsigned near, unsigned order,
                           uint64_t *first)
{
    unsigned frames = 1U << order;
    unsigned found;

    if (order == ORDER_HUGE) {
        *first = area * AREA_FRAMES;
        return lower_take_area(lower, area);
    }
    if (!area_claim(&lower->words[area], frames))
        return false;
    found = take_in_area(&lower->areas[area], near, order);
    if (found == AREA_FRAMES) {
        area_return(&lower->words[area], frames);
        return false;
    }
    *first = area * AREA_FRAMES + found;
    return true;
}

enum status lower_take(struct llfree_lower *lower, uint64_t from, uint64_t to, uint64_t near,
                       unsigned order, uint64_t *first)
{
    uint64_t start = near / AREA_FRAMES;

    CHECK(from < to && to <= lower->count && order <= ORDER_HUGE);
    if (start < from || start >= to)
        start = from;
    for (uint64_t i = 0; i < to - from; i++) {
        uint64_t area = start + i < to ? start + i : start + i - (to - from);

        if (take_from_area(lower, area, i == 0 ? (unsigned)(near % AREA_FRAMES) : 0, order, first))
            return OK;
    }
    return STATUS_NO_MEMORY;
}

unsigned lower_take_some(struct llfree_lower *lower, uint64_t from, uint64_t to, uint64_t near,
                         unsigned most, uint64_t *first, uint64_t *mask)
{
    uint64_t area = near / AREA_FRAMES;

    CHECK(from < to && to <= lower->count && most <= 64);
    if (area < from || area >= to)
        area = from;
    for (uint64_t left = to - from; left > 0; left--) {
        unsigned claimed = area_claim_some(&lower->words[area], most);
        unsigned word = 0;
        unsigned count;

        if (claimed > 0) {
            *mask = take_some_in_area(&lower->areas[area], (unsigned)(near % AREA_FRAMES), claimed,
                                      &word);
            count = *mask == UINT64_MAX ? 64 : bits_set(*mask);
            if (count < claimed)
                area_return(&lower->words[area], claimed - count);
            if (count > 0) {
                *first = area * AREA_FRAMES + word * 64;
                return count;
            }
        }
        area = area + 1 < to ? area + 1 : from;
        near = 0;
    }
    return 0;
}

bool lower_take_word(struct llfree_lower *lower, uint64_t first)
{
    uint64_t area = first / AREA_FRAMES;
    uint64_t none = 0;

    if (!area_claim(&lower->words[area], 64))
        return false;
    if (__atomic_compare_exchange_n(&lower->areas[area].taken[first % AREA_FRAMES / 64], &none,
                                    UINT64_MAX, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return true;
    area_return(&lower->words[area], 64);
    return false;
}

void lower_give(struct llfree_lower *lower, uint64_t first, unsigned order)
{
    uint64_t area = first / AREA_FRAMES;
    uint64_t *taken = lower->areas[area].taken;
    unsigned bit = (unsigned)(first % AREA_FRAMES);
    uint16_t old = __atomic_load_n(&lower->words[area], __ATOMIC_ACQUIRE);

    CHECK(area < lower->count && first % order_frames(order) == 0);
    if (order == ORDER_HUGE) {
        CHECK_MSG(old == AREA_HUGE, "frame %lx is given back as 2 MiB, its area's word is %x",
                  first, old);
        CHECK(__atomic_compare_exchange_n(&lower->words[area], &old, AREA_FRAMES, false,
                                          __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
        return;
    }
    CHECK_MSG((old & AREA_HUGE) == 0, "frame %lx is given back with order %u, but is of 2 MiB",
              first, order);
    if (order <= ORDER_WORD) {
        give_in_word(&taken[bit / 64], lower_group_mask(order) << bit % 64, first);
    } else {
        for (unsigned i = 0; i < 1U << (order - ORDER_WORD); i++)
            give_in_word(&taken[bit / 64 + i], UINT64_MAX, first);
    }
    area_return(&lower->words[area], 1U << order);
}

void lower_give_some(struct llfree_lower *lower, uint64_t first, uint64_t mask, unsigned count)
{
    uint64_t area = first / AREA_FRAMES;

    CHECK(area < lower->count && first % 64 == 0);
    give_in_word(&lower->areas[area].taken[first % AREA_FRAMES / 64], mask, first);
    area_return(&lower->words[area], count);
}

void lower_split_area(struct llfree_lower *lower, uint64_t area)
{
    uint16_t huge = AREA_HUGE;

    for (unsigned i = 0; i < AREA_WORDS; i++)
        __atomic_store_n(&lower->areas[area].taken[i], UINT64_MAX, __ATOMIC_RELAXED);
    CHECK_MSG(__atomic_compare_exchange_n(&lower->words[area], &huge, 0, false, __ATOMIC_ACQ_REL,
                                          __ATOMIC_RELAXED),
              "area %lx is split, but its word is %x", area, huge);
}

/* The caller holds all frames of the area, so that its counter is 0 and no other processor changes
 * its bits. */
void lower_join_area(struct llfree_lower *lower, uint64_t area)
{
    uint16_t none = 0;

    for (unsigned i = 0; i < AREA_WORDS; i++)
        CHECK_MSG(__atomic_load_n(&lower->areas[area].taken[i], __ATOMIC_ACQUIRE) == UINT64_MAX,
                  "area %lx is joined, but not all of it is taken", area);
    CHECK_MSG(__atomic_compare_exchange_n(&lower->words[area], &none, AREA_HUGE, false,
                                          __ATOMIC_ACQ_REL, __ATOMIC_RELAXED),
              "area %lx is joined, but its word is %x", area, none);
    for (unsigned i = 0; i < AREA_WORDS; i++)
        __atomic_store_n(&lower->areas[area].taken[i], 0, __ATOMIC_RELAXED);
}

bool lower_is_free(const struct llfree_lower *lower, uint64_t frame)
{
    uint64_t area = frame / AREA_FRAMES;
    uint64_t word =
        __atomic_load_n(&lower->areas[area].taken[frame % AREA_FRAMES / 64], __ATOMIC_ACQUIRE);

    return (__atomic_load_n(&lower->words[area], __ATOMIC_ACQUIRE) & AREA_HUGE) == 0 &&
           (word >> frame % 64 & 1) == 0;
}

uint64_t lower_audit_area(const struct llfree_lower *lower, uint64_t area)
{
    uint16_t word = lower->words[area];
    uint64_t free = 0;

    for (unsigned i = 0; i < AREA_WORDS; i++)
        free += bits_set(~lower->areas[area].taken[i]);
    if (word == AREA_HUGE) {
        CHECK_MSG(free == AREA_FRAMES, "area %lx is of 2 MiB with %lu bits clear", area, free);
        return 0;
    }
    CHECK_MSG(word == free, "area %lx has %lu free frames, its word is %x", area, free, word);
    return free;
}

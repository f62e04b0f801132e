/*
 * The frame allocators, each compared with a model that has one owner byte per frame.
 *
 * Random sequences of mixed orders, every short sequence on a small zone, whole fills, splits,
 * mistakes that must be caught, zones of odd sizes, and a machine of 1 TiB.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "lib/random.h"
#include "lib/units.h"
#include "pmm/alloc/allocator.h"
#include "tests/host/fake/each_allocator.h"
#include "tests/host/fake/machine.h"

#define CPUS       4U
#define BLOCKS_MAX 65536U

static const unsigned orders[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ORDER_GIB};

struct block {
    uint64_t first;
    unsigned order;
};

/* A zone under test, and its model. */
struct zone {
    const struct frame_allocator *allocator;
    void *self;
    uint64_t frames;
    uint8_t *taken; /* a byte a frame */
    uint64_t free;
    struct block *blocks;
    unsigned count;
};

static void zone_start(struct zone *zone, const struct frame_allocator *allocator, uint64_t frames)
{
    uint64_t size;

    *zone = (struct zone){.allocator = allocator, .frames = frames};
    size = round_up(zone->allocator->size(frames, CPUS), 64);
    zone->self = aligned_alloc(64, size);
    memset(zone->self, 0x5a, size);
    zone->taken = malloc(frames);
    memset(zone->taken, 1, frames);
    zone->blocks = malloc(BLOCKS_MAX * sizeof(*zone->blocks));
    zone->allocator->start(zone->self, frames, CPUS);
}

static void zone_add(struct zone *zone, uint64_t first, uint64_t count)
{
    frame_allocator_add(zone->allocator, zone->self, first, count);
    memset(zone->taken + first, 0, count);
    zone->free += count;
}

static void zone_end(struct zone *zone)
{
    free(zone->self);
    free(zone->taken);
    free(zone->blocks);
}

static void zone_compare(const struct zone *zone)
{
    frame_allocator_audit(zone->allocator, zone->self);
    assert_int_equal(frame_allocator_free_frames(zone->allocator, zone->self, zone->frames),
                     zone->free);
    for (uint64_t frame = 0; frame < zone->frames; frame++)
        assert_int_equal(zone->allocator->is_free(zone->self, frame), zone->taken[frame] == 0);
}

static bool model_has_block(const struct zone *zone, unsigned order)
{
    uint64_t size = order_frames(order);

    for (uint64_t first = 0; first + size <= zone->frames; first += size) {
        if (memchr(zone->taken + first, 1, size) == NULL)
            return true;
    }
    return false;
}

/* Takes a block and checks it against the model, also that a refusal is right. */
static bool zone_take(struct zone *zone, unsigned cpu, unsigned order)
{
    uint64_t first = UINT64_MAX;
    uint64_t size = order_frames(order);

    if (zone->allocator->take(zone->self, cpu, order, &first) != OK) {
        assert_false(model_has_block(zone, order));
        return false;
    }
    assert_true(first % size == 0 && first + size <= zone->frames);
    assert_null(memchr(zone->taken + first, 1, size));
    memset(zone->taken + first, 1, size);
    zone->free -= size;
    assert_true(zone->count < BLOCKS_MAX);
    zone->blocks[zone->count++] = (struct block){first, order};
    return true;
}

/* Takes frames of some group; 0 means only that no group was at hand. */
static unsigned zone_take_some(struct zone *zone, unsigned cpu)
{
    uint64_t first = UINT64_MAX;
    uint64_t mask = 0;
    unsigned count = zone->allocator->take_some(zone->self, cpu, &first, &mask);
    unsigned found = 0;

    assert_true(count <= 64);
    for (uint64_t at = first; count > 0 && mask != 0; mask >>= 1, at++) {
        if ((mask & 1) == 0)
            continue;
        assert_true(first % 64 == 0 && at < zone->frames && zone->taken[at] == 0);
        zone->taken[at] = 1;
        zone->free--;
        found++;
        assert_true(zone->count < BLOCKS_MAX);
        zone->blocks[zone->count++] = (struct block){at, 0};
    }
    assert_int_equal(found, count);
    return count;
}

static void zone_give(struct zone *zone, unsigned cpu, unsigned number)
{
    struct block block = zone->blocks[number];

    zone->blocks[number] = zone->blocks[--zone->count];
    if (zone->allocator->give_some != NULL && block.order < 6 && cpu % 2 == 1)
        zone->allocator->give_some(zone->self, cpu, round_down(block.first, 64),
                                   ((UINT64_C(1) << order_frames(block.order)) - 1)
                                       << block.first % 64,
                                   (unsigned)order_frames(block.order));
    else
        zone->allocator->give(zone->self, cpu, block.first, block.order);
    memset(zone->taken + block.first, 0, order_frames(block.order));
    zone->free += order_frames(block.order);
}

static void zone_split(struct zone *zone, unsigned number, unsigned to)
{
    struct block block = zone->blocks[number];

    frame_allocator_split(zone->allocator, zone->self, block.first, block.order, to);
    zone->blocks[number] = zone->blocks[--zone->count];
    for (uint64_t at = block.first; at < block.first + order_frames(block.order);
         at += order_frames(to)) {
        assert_true(zone->count < BLOCKS_MAX);
        zone->blocks[zone->count++] = (struct block){at, to};
    }
}

/* The blocks of the order that lie in the larger one become that, which then is the last. */
static void zone_join(struct zone *zone, uint64_t first, unsigned order, unsigned from)
{
    unsigned kept = 0;

    frame_allocator_join(zone->allocator, zone->self, first, order, from);
    for (unsigned i = 0; i < zone->count; i++) {
        if (zone->blocks[i].first < first || zone->blocks[i].first >= first + order_frames(order))
            zone->blocks[kept++] = zone->blocks[i];
    }
    assert_int_equal(zone->count - kept, order_frames(order) / order_frames(from));
    zone->blocks[kept] = (struct block){first, order};
    zone->count = kept + 1;
}

/* ---- random sequences ---- */

/* Performs one step, chosen by how full memory should be at that time. */
static void random_step(struct zone *zone, struct random *random, unsigned percent)
{
    unsigned cpu = (unsigned)random_below(random, CPUS);
    unsigned what = (unsigned)random_below(random, 100);

    if (what < percent) {
        unsigned order = orders[random_below(random, random_below(random, 8) == 0 ? 10 : 4)];

        if (zone->allocator->take_some != NULL && random_below(random, 8) == 0)
            zone_take_some(zone, cpu);
        else
            zone_take(zone, cpu, order);
    } else if (zone->count > 0 && what < 97) {
        zone_give(zone, cpu, (unsigned)random_below(random, zone->count));
    } else if (zone->count > 0) {
        unsigned number = (unsigned)random_below(random, zone->count);
        unsigned order = zone->blocks[number].order;

        uint64_t first = zone->blocks[number].first;
        unsigned to = order > 0 ? (unsigned)random_below(random, order) : 0;

        if (order == 0 || zone->count + order_frames(order) >= BLOCKS_MAX)
            return;
        zone_split(zone, number, to);
        if (random_below(random, 2) == 0)
            zone_join(zone, first, order, to);
    }
}

static void random_sequences(const struct frame_allocator *allocator, uint64_t frames,
                             uint64_t hole)
{
    struct random random = random_from(frames * 31);
    struct zone zone;

    zone_start(&zone, allocator, frames);
    zone_add(&zone, 3, hole - 3);
    zone_add(&zone, hole + 70, frames - hole - 70);
    zone_compare(&zone);
    for (unsigned round = 0; round < 12; round++) {
        unsigned percent = round % 3 == 0 ? 70 : round % 3 == 1 ? 50 : 30;

        for (unsigned i = 0; i < 1500; i++)
            random_step(&zone, &random, percent);
        zone_compare(&zone);
    }
    while (zone.count > 0)
        zone_give(&zone, 0, zone.count - 1);
    zone_compare(&zone);
    zone_end(&zone);
}

static void test_random(void **state)
{
    const struct frame_allocator *allocator = *state;

    random_sequences(allocator, 3000, 1111);
    random_sequences(allocator, 20480, 9000);
    random_sequences(allocator, 40961, 16384);
}

/* ---- every short sequence ---- */

/* A zone so small that few steps fill it: every sequence of takes of two orders, gives of the
 * oldest and of the newest, by any of two processors. */
#define SMALL_FRAMES 12U
#define DEPTH        7U
#define STEPS        6U

static void small_step(struct zone *zone, unsigned step)
{
    switch (step) {
    case 0: zone_take(zone, 0, 0); break;
    case 1: zone_take(zone, 1, 0); break;
    case 2: zone_take(zone, 0, 1); break;
    case 3: zone_take(zone, 1, 2); break;
    case 4:
        if (zone->count > 0)
            zone_give(zone, 0, 0);
        break;
    default:
        if (zone->count > 0)
            zone_give(zone, 1, zone->count - 1);
        break;
    }
}

static void test_exhaustive(void **state)
{
    const struct frame_allocator *allocator = *state;
    unsigned sequences = 1;
    struct zone zone;

    for (unsigned i = 0; i < DEPTH; i++)
        sequences *= STEPS;
    zone_start(&zone, allocator, SMALL_FRAMES);
    for (unsigned sequence = 0; sequence < sequences; sequence++) {
        unsigned rest = sequence;

        zone.allocator->start(zone.self, SMALL_FRAMES, CPUS);
        memset(zone.taken, 1, SMALL_FRAMES);
        zone.count = 0;
        zone.free = 0;
        zone_add(&zone, 1, SMALL_FRAMES - 2);
        for (unsigned i = 0; i < DEPTH; i++, rest /= STEPS) {
            small_step(&zone, rest % STEPS);
            if (sequence % 16 == 0)
                zone_compare(&zone);
        }
        zone_compare(&zone);
    }
    zone_end(&zone);
}

/* ---- fills ---- */

/* Every order: as many blocks as there are, none more, and all of it back. */
static void test_fill(void **state)
{
    const struct frame_allocator *allocator = *state;
    uint64_t frames = (UINT64_C(1) << ORDER_GIB) * 2 + 5000;
    struct zone zone;

    zone_start(&zone, allocator, frames);
    zone_add(&zone, 0, frames);
    for (unsigned i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
        uint64_t blocks = frames >> orders[i];
        uint64_t first = 0;
        uint64_t taken = 0;

        if (blocks > BLOCKS_MAX)
            continue;
        while (zone.count < blocks && zone_take(&zone, (unsigned)taken % CPUS, orders[i]))
            taken++;
        assert_int_equal(taken, blocks);
        assert_int_equal(zone.allocator->take(zone.self, 0, orders[i], &first), STATUS_NO_MEMORY);
        while (zone.count > 0)
            zone_give(&zone, zone.count % CPUS, zone.count - 1);
        assert_int_equal(frame_allocator_free_frames(zone.allocator, zone.self, frames), frames);
        frame_allocator_audit(zone.allocator, zone.self);
    }
    assert_int_equal(frame_allocator_longest_run(zone.allocator, zone.self, frames), frames);
    assert_int_equal(frame_allocator_whole_blocks(zone.allocator, zone.self, frames, ORDER_HUGE),
                     frames / 512);
    zone_end(&zone);
}

/* By words of bits, of which some have all their frames and some only a few: nothing is taken
 * twice, and nothing is left when no single frame is. */
static void test_take_some(void **state)
{
    const struct frame_allocator *allocator = *state;
    struct random random = random_from(7);
    uint64_t frames = 3 * 8192 + 77;
    unsigned whole = 0;
    unsigned count;
    struct zone zone;

    zone_start(&zone, allocator, frames);
    if (zone.allocator->take_some != NULL) {
        zone_add(&zone, 0, frames);
        for (unsigned i = 0; i < 9000; i++)
            assert_true(zone_take(&zone, 0, 0));
        for (unsigned i = 0; i < 3000; i++)
            zone_give(&zone, 0, (unsigned)random_below(&random, zone.count));
        zone_compare(&zone);
        while ((count = zone_take_some(&zone, 0)) > 0)
            whole += count == 64;
        zone_compare(&zone);
        assert_true(whole > 100);
        assert_int_equal(zone.free, 0);
        zone_give(&zone, 1, 0); /* frames that another processor frees are available again */
        while (zone_take(&zone, 0, 0)) {
        }
        assert_int_equal(zone.free, 0);
        zone_compare(&zone);
        while (zone.count > 0)
            zone_give(&zone, zone.count % CPUS, (unsigned)random_below(&random, zone.count));
        zone_compare(&zone);
        assert_int_equal(zone.free, frames);
    }
    zone_end(&zone);
}

/* A GiB split to 2 MiB, one of those to frames, given back in another order: whole again. */
static void test_split(void **state)
{
    const struct frame_allocator *allocator = *state;
    uint64_t frames = (UINT64_C(1) << ORDER_GIB) + 512;
    struct zone zone;

    zone_start(&zone, allocator, frames);
    zone_add(&zone, 0, frames);
    assert_true(zone_take(&zone, 0, ORDER_GIB));
    zone_split(&zone, 0, ORDER_HUGE);
    assert_int_equal(zone.count, 512);
    zone_split(&zone, 100, 0);
    zone_split(&zone, 7, 5);
    frame_allocator_audit(zone.allocator, zone.self);
    while (zone.count > 0)
        zone_give(&zone, 1, zone.count * 389 % zone.count);
    zone_compare(&zone);
    assert_true(zone_take(&zone, 2, ORDER_GIB));
    zone_split(&zone, 0, 3);
    while (zone.count > 0)
        zone_give(&zone, 1, zone.count - 1);
    assert_true(zone_take(&zone, 3, ORDER_GIB));
    zone_end(&zone);
}

/* Without add and free_frames, the interface gives frame by frame and counts by is_free. */
static void test_defaults(void **state)
{
    const struct frame_allocator *allocator = *state;
    struct frame_allocator reduced = *allocator;
    struct zone zone;

    reduced.add = NULL;
    reduced.free_frames = NULL;
    zone_start(&zone, &reduced, SMALL_FRAMES);
    zone_compare(&zone);
    zone_add(&zone, 3, SMALL_FRAMES - 3);
    zone_compare(&zone);
    assert_true(zone_take(&zone, 0, 2));
    zone_compare(&zone);
    zone_end(&zone);
}

/* The parts of a split join into one block again, of 2 MiB and then of 1 GiB, which can be
 * taken. */
static void test_join(void **state)
{
    const struct frame_allocator *allocator = *state;
    uint64_t frames = UINT64_C(1) << ORDER_GIB;
    struct zone zone;
    uint64_t first;

    zone_start(&zone, allocator, frames);
    zone_add(&zone, 0, frames);
    assert_true(zone_take(&zone, 0, ORDER_GIB));
    zone_split(&zone, 0, ORDER_HUGE);
    first = zone.blocks[100].first;
    zone_split(&zone, 100, 0);
    zone_compare(&zone);
    zone_join(&zone, first, ORDER_HUGE, 0);
    zone_compare(&zone);
    assert_int_equal(zone.count, 512);
    zone_give(&zone, 1, zone.count - 1);
    zone_compare(&zone);
    assert_true(zone_take(&zone, 2, ORDER_HUGE));
    zone_join(&zone, 0, ORDER_GIB, ORDER_HUGE);
    zone_compare(&zone);
    zone_give(&zone, 3, 0);
    assert_true(zone_take(&zone, 3, ORDER_GIB));
    zone_end(&zone);
}

/* ---- mistakes ---- */

static void fresh(struct zone *zone)
{
    zone->allocator->start(zone->self, zone->frames, CPUS);
    frame_allocator_add(zone->allocator, zone->self, 0, zone->frames);
}

static void test_mistakes(void **state)
{
    const struct frame_allocator *allocator = *state;
    uint64_t first = 0;
    struct zone zone;

    zone_start(&zone, allocator, 4096);
    for (unsigned order = 0; order <= ORDER_HUGE; order++) {
        fresh(&zone);
        assert_int_equal(zone.allocator->take(zone.self, 0, order, &first), OK);
        zone.allocator->give(zone.self, 0, first, order);
        assert_true(PANICS(zone.allocator->give(zone.self, 0, first, order)));
    }
    fresh(&zone);
    assert_true(PANICS(zone.allocator->give(zone.self, 1, 77, 0)));
    fresh(&zone);
    assert_true(PANICS(zone.allocator->give(zone.self, 1, 4096, 0)));
    fresh(&zone);
    assert_true(PANICS(zone.allocator->give(zone.self, 1, 4095, 1)));
    fresh(&zone);
    assert_int_equal(zone.allocator->take(zone.self, 0, 0, &first), OK);
    assert_true(PANICS(zone.allocator->give(zone.self, 0, first, ORDER_HUGE)));
    zone_end(&zone);
}

/* ---- large machines ---- */

static double seconds_since(const struct timespec *began)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - began->tv_sec) + (double)(now.tv_nsec - began->tv_nsec) / 1e9;
}

/* 1 TiB with a hole of 100 GiB: start, a block of every order, everything back. */
static void test_tebibyte(void **state)
{
    const struct frame_allocator *allocator = *state;
    uint64_t frames = UINT64_C(1) << 28;
    uint64_t gib = UINT64_C(1) << ORDER_GIB;
    uint64_t size = round_up(allocator->size(frames, 64), 64);
    void *self = aligned_alloc(64, size);
    struct timespec began;
    uint64_t first;
    double started;

    if (self == NULL)
        skip();
    clock_gettime(CLOCK_MONOTONIC, &began);
    allocator->start(self, frames, 64);
    frame_allocator_add(allocator, self, 256, 300 * gib - 256);
    frame_allocator_add(allocator, self, 400 * gib, frames - 400 * gib);
    started = seconds_since(&began);
    print_message("# 1 TiB, %s: %lu MiB of metadata, started in %.3f s\n", allocator->name,
                  (unsigned long)(size / MIB), started);
    assert_int_equal(frame_allocator_free_frames(allocator, self, frames),
                     frames - 100 * gib - 256);
    for (unsigned i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
        assert_int_equal(allocator->take(self, 63, orders[i], &first), OK);
        assert_true(first >= 256 && (first < 300 * gib || first >= 400 * gib));
        allocator->give(self, 0, first, orders[i]);
    }
    assert_int_equal(frame_allocator_free_frames(allocator, self, frames),
                     frames - 100 * gib - 256);
    free(self);
}

/* Searching a block of 1 TiB frame by frame takes the others too long. */
static bool is_quick(const struct frame_allocator *allocator)
{
    return strcmp(allocator->name, "llfree") == 0 || strcmp(allocator->name, "bitmap") == 0;
}

static bool takes_some(const struct frame_allocator *allocator)
{
    return allocator->take_some != NULL;
}

/* The buddy allocator frees blocks as they were taken, never a frame that was not taken. */
static bool forgets_blocks(const struct frame_allocator *allocator)
{
    return strcmp(allocator->name, "buddy") != 0;
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random), cmocka_unit_test(test_exhaustive),
        cmocka_unit_test(test_fill),   cmocka_unit_test(test_split),

        cmocka_unit_test(test_join),   cmocka_unit_test(test_mistakes),
    };
    static const struct CMUnitTest simple[] = {cmocka_unit_test(test_defaults)};
    static const struct CMUnitTest some[] = {cmocka_unit_test(test_take_some)};
    static const struct CMUnitTest large[] = {cmocka_unit_test(test_tebibyte)};

    each_allocator_add(tests, ARRAY_COUNT(tests), NULL);
    each_allocator_add(simple, ARRAY_COUNT(simple), forgets_blocks);
    each_allocator_add(some, ARRAY_COUNT(some), takes_some);
    return run_for_each_allocator(large, ARRAY_COUNT(large), is_quick);
}

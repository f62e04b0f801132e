/*
 * Physical memory beyond single frames: blocks, splits, the reserve, pressure, failures on purpose,
 * zeroed frames and junk; over each of the four allocators.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/random.h"
#include "pmm/memory_map.h"
#include "pmm/pmm.h"
#include "tests/host/fake/child.h"
#include "tests/host/fake/each_allocator.h"
#include "tests/host/fake/machine.h"

#define MEMORY (64 * MIB)

static int set_up(void **state)
{
    pmm_choose(*state);
    fake_machine_start(MEMORY);
    return 0;
}

static uint64_t count_of(enum frame_kind kind)
{
    return pmm_usage().by_kind[kind];
}

static struct pfn block(unsigned order, enum frame_kind kind)
{
    struct pfn first;
    enum status status = pmm_alloc_order(order, kind, FRAME_UNCLEARED, &first);

    CHECK(status == OK);
    return first;
}

/* ---- blocks ---- */

static void test_orders(void **state)
{
    struct pmm_usage before = pmm_usage();
    struct pmm_usage after;
    struct pfn taken[ORDER_HUGE + 1];

    (void)state;
    for (unsigned order = 0; order <= ORDER_HUGE; order++) {
        const uint64_t *words;

        assert_int_equal(pmm_alloc_order(order, FRAME_ANONYMOUS, FRAME_CLEARED, &taken[order]), OK);
        assert_int_equal(taken[order].index % order_frames(order), 0);
        words = frame_pointer(taken[order]);
        for (uint64_t i = 0; i < order_frames(order) * PAGE_SIZE / 8; i++)
            assert_int_equal(words[i], 0);
        memset(frame_pointer(taken[order]), 0x77, order_frames(order) * PAGE_SIZE);
        assert_int_equal(count_of(FRAME_ANONYMOUS), 2 * order_frames(order) - 1);
        pmm_audit();
    }
    assert_int_equal(pmm_alloc_order(ORDER_GIB, FRAME_ANONYMOUS, FRAME_UNCLEARED, &taken[0]),
                     STATUS_NO_MEMORY);
    pmm_free_order(taken[0], 0);
    for (unsigned order = 1; order <= ORDER_HUGE; order++)
        pmm_free_order(taken[order], order);
    after = pmm_usage();
    assert_memory_equal(&before, &after, sizeof(before));
    pmm_audit();
}

/* Single frames from all of memory go back together in any order: far more groups of neighbours
 * than are gathered at once. */
static void test_many_in_any_order(void **state)
{
    enum { ALL = 8192, TOGETHER = 512 };

    static struct pfn frames[ALL];
    struct random dice = random_from(3);

    (void)state;
    for (unsigned i = 0; i < ALL; i++) {
        assert_int_equal(pmm_alloc(FRAME_ANONYMOUS, FRAME_UNCLEARED, &frames[i]), OK);
        frame_record(frames[i])->count = 0;
    }
    for (unsigned i = ALL - 1; i > 0; i--) {
        unsigned other = (unsigned)random_below(&dice, i + 1);
        struct pfn swapped = frames[i];

        frames[i] = frames[other];
        frames[other] = swapped;
    }
    for (unsigned i = 0; i < ALL; i += TOGETHER) {
        pmm_free_many(&frames[i], TOGETHER, FRAME_ANONYMOUS, 0, NULL);
        assert_int_equal(count_of(FRAME_ANONYMOUS), ALL - i - TOGETHER);
        pmm_audit();
    }
}

/* RAM whose kind changes in the middle of a block: it is counted once, however the ranges lie. */
static void test_block_across_ranges(void **state)
{
    uint64_t half = MEMORY / PAGE_SIZE / 2 + 100;
    struct memory_region halves[] = {
        {.pages = half, .kind = MEMORY_USABLE},
        {.start = {half * PAGE_SIZE},
         .pages = MEMORY / PAGE_SIZE - half,
         .kind = MEMORY_BOOT_SERVICES},
    };
    struct pfn taken[MEMORY / (2 * MIB)];
    unsigned count = 0;
    bool across = false;

    (void)state;
    fake_machine_memory(MEMORY);
    assert_int_equal(memory_map_build(halves, ARRAY_COUNT(halves), MEMORY), OK);
    assert_int_equal(pmm_init(0), OK);
    pmm_set_reserve(0);
    while (count < ARRAY_COUNT(taken) &&
           pmm_alloc_order(ORDER_HUGE, FRAME_KERNEL, FRAME_UNCLEARED, &taken[count]) == OK) {
        uint64_t first = taken[count++].index;

        across = across || (first < half && half < first + order_frames(ORDER_HUGE));
    }
    assert_true(across);
    pmm_audit();
    while (count > 0)
        pmm_free_order(taken[--count], ORDER_HUGE);
    pmm_audit();
}

static void test_split(void **state)
{
    struct pmm_usage before = pmm_usage();
    struct pmm_usage after;
    struct pfn first = block(ORDER_HUGE, FRAME_ANONYMOUS);

    (void)state;
    pmm_split(first, ORDER_HUGE, 6);
    pmm_audit();
    for (uint32_t part = 0; part < 8; part++) {
        struct pfn at = {first.index + part * 64};

        assert_int_equal(frame_record(at)->kind, FRAME_ANONYMOUS);
        assert_int_equal(frame_record(at)->count, 1);
        if (part % 2 == 0) {
            pmm_free_order(at, 6);
            continue;
        }
        pmm_split(at, 6, 0);
        for (uint32_t i = 0; i < 64; i++)
            pmm_free((struct pfn){at.index + i});
    }
    after = pmm_usage();
    assert_memory_equal(&before, &after, sizeof(before));
    pmm_drain();
    pmm_audit();
    first = block(ORDER_HUGE, FRAME_KERNEL);
    pmm_free_order(first, ORDER_HUGE);
}

/* The parts are one block again: they are freed as one, and the records show it. */
static void test_join(void **state)
{
    struct pmm_usage before = pmm_usage();
    struct pmm_usage after;
    struct pfn first = block(ORDER_HUGE, FRAME_ANONYMOUS);

    (void)state;
    pmm_split(first, ORDER_HUGE, 0);
    frame_record((struct pfn){first.index + 7})->flags |= FRAME_DIRTY;
    pmm_join(first, ORDER_HUGE, 0);
    pmm_audit();
    assert_int_equal(frame_record(first)->kind, FRAME_ANONYMOUS);
    assert_int_equal(frame_record(first)->count, 1);
    assert_int_equal(frame_record(first)->level, ORDER_HUGE);
    assert_int_equal(frame_record(first)->flags, FRAME_BLOCK);
    for (uint32_t i = 1; i < 512; i++) {
        assert_int_equal(frame_record((struct pfn){first.index + i})->kind, FRAME_FREE);
        assert_int_equal(frame_record((struct pfn){first.index + i})->flags, 0);
    }
    pmm_split(first, ORDER_HUGE, 6);
    pmm_join(first, ORDER_HUGE, 6);
    pmm_free_order(first, ORDER_HUGE);
    after = pmm_usage();
    assert_memory_equal(&before, &after, sizeof(before));
    pmm_audit();
}

/* ---- mistakes ---- */

static void join_what_another_holds(void *context)
{
    struct pfn first = block(ORDER_HUGE, FRAME_ANONYMOUS);

    (void)context;
    pmm_split(first, ORDER_HUGE, 0);
    frame_count_up((struct pfn){first.index + 511});
    pmm_join(first, ORDER_HUGE, 0);
}

static void free_block_as_frame(void *context)
{
    (void)context;
    pmm_free(block(3, FRAME_KERNEL));
}

static void free_frame_as_block(void *context)
{
    struct pfn first = block(3, FRAME_KERNEL);

    (void)context;
    pmm_split(first, 3, 0);
    pmm_free_order(first, 3);
}

static void free_with_wrong_order(void *context)
{
    (void)context;
    pmm_free_order(block(4, FRAME_KERNEL), 5);
}

static void free_block_twice(void *context)
{
    struct pfn first = block(4, FRAME_KERNEL);

    (void)context;
    pmm_free_order(first, 4);
    pmm_free_order(first, 4);
}

static void free_inside_of_block(void *context)
{
    (void)context;
    pmm_free((struct pfn){block(4, FRAME_KERNEL).index + 1});
}

static void split_upwards(void *context)
{
    (void)context;
    pmm_split(block(4, FRAME_KERNEL), 4, 5);
}

static void odd_order(void *context)
{
    (void)context;
    (void)block(12, FRAME_KERNEL);
}

static void write_after_free(void *context)
{
    struct pfn frame = block(0, FRAME_KERNEL);
    uint64_t *words = frame_pointer(frame);

    (void)context;
    pmm_free(frame);
    words[100] = 1;
    (void)block(0, FRAME_KERNEL);
}

static struct pfn clean_frame(void)
{
    struct pfn frame = PFN_NONE;
    enum status status = pmm_alloc(FRAME_TABLE, FRAME_CLEARED, &frame);

    CHECK(status == OK);
    return frame;
}

static void free_clean_twice(void *context)
{
    struct pfn frame = clean_frame();

    (void)context;
    pmm_free_clean(frame);
    pmm_free_clean(frame);
}

static void free_clean_block(void *context)
{
    (void)context;
    pmm_free_clean(block(3, FRAME_KERNEL));
}

static void free_as_clean_what_is_not(void *context)
{
    struct pfn frame = clean_frame();
    uint8_t *bytes = frame_pointer(frame);

    (void)context;
    bytes[PAGE_SIZE - 1] = 1;
    pmm_free_clean(frame);
}

static void write_after_free_clean(void *context)
{
    struct pfn frame = clean_frame();
    uint64_t *words = frame_pointer(frame);

    (void)context;
    pmm_free_clean(frame);
    words[100] = 1;
    (void)clean_frame();
}

static void test_mistakes(void **state)
{
    static void (*const mistakes[])(void *) = {
        free_block_as_frame,  free_frame_as_block, free_with_wrong_order,   free_block_twice,
        free_inside_of_block, split_upwards,       join_what_another_holds, odd_order,
        free_clean_twice,     free_clean_block};

    (void)state;
    assert_int_equal(child_count_panics(mistakes, ARRAY_COUNT(mistakes)), ARRAY_COUNT(mistakes));
    assert_int_equal(child_run(write_after_free, NULL)->panicked, PMM_JUNK);
    assert_int_equal(child_run(free_as_clean_what_is_not, NULL)->panicked, PMM_JUNK);
    assert_int_equal(child_run(write_after_free_clean, NULL)->panicked, PMM_JUNK);
}

/* ---- running out ---- */

static unsigned take_all(enum frame_kind kind, struct pfn *frames)
{
    unsigned count = 0;

    while (pmm_alloc(kind, FRAME_UNCLEARED, &frames[count]) == OK)
        count++;
    return count;
}

static struct pfn many[MEMORY / PAGE_SIZE];

static void test_reserve(void **state)
{
    unsigned count;

    (void)state;
    pmm_set_reserve(100);
    count = take_all(FRAME_ANONYMOUS, many);
    assert_int_equal(count_of(FRAME_FREE), 100);
    count += take_all(FRAME_KERNEL, many + count);
    assert_int_equal(count_of(FRAME_FREE), 50);
    pmm_audit();
    count += take_all(FRAME_TABLE, many + count);
    assert_int_equal(count_of(FRAME_FREE), 0);
    while (count > 0)
        pmm_free(many[--count]);
    pmm_audit();
}

static enum pmm_pressure heard[8];
static unsigned heard_count;
static bool listening; /* a watcher stays for ever */

static void hear(struct pmm_watcher *watcher, enum pmm_pressure level)
{
    (void)watcher;
    if (!listening)
        return;
    assert_true(heard_count < ARRAY_COUNT(heard));
    heard[heard_count++] = level;
}

static void test_pressure(void **state)
{
    static struct pmm_watcher watcher = {.changed = hear};
    static bool watching;
    static const enum pmm_pressure expected[] = {PMM_LOW, PMM_CRITICAL, PMM_LOW, PMM_NORMAL};
    unsigned count;

    (void)state;
    pmm_set_reserve(64);
    if (!watching)
        pmm_watch(&watcher);
    watching = true;
    heard_count = 0;
    listening = true;
    assert_int_equal(pmm_pressure(), PMM_NORMAL);
    count = take_all(FRAME_TABLE, many);
    assert_int_equal(pmm_pressure(), PMM_CRITICAL);
    while (count > 0)
        pmm_free(many[--count]);
    listening = false;
    assert_int_equal(heard_count, 4);
    assert_memory_equal(heard, expected, sizeof(expected));
    pmm_audit();
}

/* A frame in the cache of another processor is not out of reach. */
static void test_other_caches(void **state)
{
    unsigned count;
    unsigned half;

    (void)state;
    count = take_all(FRAME_TABLE, many);
    fake_machine_be_cpu(3);
    half = count / 2;
    while (count > half)
        pmm_free(many[--count]);
    fake_machine_be_cpu(0);
    count += take_all(FRAME_TABLE, many + count);
    assert_int_equal(count_of(FRAME_FREE), 0);
    while (count > 0)
        pmm_free(many[--count]);
    pmm_audit();
}

static void test_failures(void **state)
{
    struct pfn frames[8];

    (void)state;
    pmm_fail_from(3, 2);
    for (unsigned i = 1; i <= 6; i++) {
        enum status status = pmm_alloc(FRAME_TABLE, FRAME_CLEARED, &frames[i]);

        assert_int_equal(status, i == 3 || i == 4 ? STATUS_NO_MEMORY : OK);
    }
    assert_int_equal(pmm_alloc_low(FRAME_TABLE, FRAME_CLEARED, &frames[3]), OK);
    assert_int_equal(pmm_alloc_order(4, FRAME_KERNEL, FRAME_CLEARED, &frames[4]), OK);
    assert_int_equal(pmm_fail_from(0, 0), 8);
    pmm_free_order(frames[4], 4);
    for (unsigned i = 1; i <= 6; i++) {
        if (i != 4)
            pmm_free(frames[i]);
    }
    pmm_audit();
    assert_int_equal(pmm_alloc(FRAME_TABLE, FRAME_CLEARED, &frames[0]), OK);
    pmm_free(frames[0]);
}

/* ---- zeroed frames ---- */

static void dirty(unsigned count)
{
    unsigned taken = 0;

    while (taken < count && pmm_alloc(FRAME_KERNEL, FRAME_UNCLEARED, &many[taken]) == OK)
        memset(frame_pointer(many[taken++]), 0x33, PAGE_SIZE);
    while (taken > 0)
        pmm_free(many[--taken]);
}

static void test_zero_pool(void **state)
{
    uint64_t free_frames;
    struct pmm_zero_figures figures;
    unsigned filled;

    (void)state;
    dirty(2000);
    free_frames = count_of(FRAME_FREE);
    assert_int_equal(pmm_idle_fill(10), 10);
    for (filled = 10; pmm_idle_fill(7) > 0;)
        filled = (unsigned)pmm_zero_figures().pooled;
    assert_int_equal(filled, MEMORY / PAGE_SIZE / 32);
    assert_int_equal(count_of(FRAME_FREE), free_frames);
    pmm_audit();
    for (unsigned i = 0; i < filled + 5; i++) {
        const uint64_t *words;

        assert_int_equal(pmm_alloc(FRAME_ANONYMOUS, FRAME_CLEARED, &many[i]), OK);
        words = frame_pointer(many[i]);
        for (unsigned word = 0; word < PAGE_SIZE / 8; word++)
            assert_int_equal(words[word], 0);
    }
    figures = pmm_zero_figures();
    assert_int_equal(figures.hits, filled);
    assert_int_equal(figures.pooled, 0);
    assert_true(figures.misses >= 5);
    for (unsigned i = 0; i < filled + 5; i++)
        pmm_free(many[i]);
    pmm_audit();
}

/* The pool starts again below its low mark only, and gives its frames up when memory is short. */
static void test_zero_marks(void **state)
{
    uint64_t high = MEMORY / PAGE_SIZE / 32;
    unsigned count;

    (void)state;
    dirty(1);
    while (pmm_idle_fill(64) > 0) {
    }
    fake_wakes = 0;
    for (uint64_t i = 0; i < high / 2; i++)
        assert_int_equal(pmm_alloc(FRAME_ANONYMOUS, FRAME_CLEARED, &many[i]), OK);
    assert_int_equal(pmm_idle_fill(1), 0);
    assert_int_equal(fake_wakes, 0);
    for (uint64_t i = high / 2; i < high; i++)
        assert_int_equal(pmm_alloc(FRAME_ANONYMOUS, FRAME_CLEARED, &many[i]), OK);
    /* Once, where it fell to the mark, and not with every batch below it. */
    assert_int_equal(fake_wakes, 1);
    assert_int_equal(pmm_idle_fill(1), 1);
    for (unsigned i = 0; i < high; i++)
        pmm_free(many[i]);
    count = take_all(FRAME_TABLE, many);
    assert_int_equal(count_of(FRAME_FREE), 0);
    assert_int_equal(pmm_zero_figures().pooled, 0);
    assert_int_equal(pmm_idle_fill(1), 0);
    while (count > 0)
        pmm_free(many[--count]);
    pmm_audit();
}

static bool is_clean(struct pfn frame)
{
    static const uint8_t zeroes[PAGE_SIZE];

    return memcmp(frame_pointer(frame), zeroes, PAGE_SIZE) == 0;
}

static void test_zero_pause(void **state)
{
    (void)state;
    dirty(1);
    pmm_idle_pause();
    pmm_idle_pause();
    assert_int_equal(pmm_idle_fill(1), 0);
    pmm_idle_resume();
    assert_int_equal(pmm_idle_fill(1), 0);
    fake_wakes = 0;
    pmm_idle_resume();
    assert_int_equal(fake_wakes, 1);
    assert_int_equal(pmm_idle_fill(1), 1);
}

/* One after the other comes back as it is, though the pool has never been filled. */
static void test_clean_comes_back(void **state)
{
    struct pfn first;
    struct pfn second;

    (void)state;
    dirty(200);
    first = clean_frame();
    second = clean_frame();
    pmm_free_clean(first);
    pmm_free_clean(second);
    assert_int_equal(count_of(FRAME_TABLE), 0);
    assert_int_equal(pmm_zero_figures().pooled, 2);
    pmm_audit();
    assert_int_equal(clean_frame().index, second.index);
    assert_int_equal(clean_frame().index, first.index);
    assert_int_equal(pmm_zero_figures().hits, 2);
    assert_true(is_clean(first) && is_clean(second));
    /* An empty cache is closed; a free opens it again. */
    assert_int_not_equal(clean_frame().index, first.index);
    pmm_free_clean(second);
    assert_int_equal(clean_frame().index, second.index);
    assert_int_equal(pmm_zero_figures().hits, 3);
    assert_int_equal(pmm_zero_figures().filled, 0);
    assert_int_equal(count_of(FRAME_TABLE), 3);
    pmm_audit();
}

/* Frames that exceed a cache go to the pool, and then to the allocator. None is lost, other
 * processors find those of the pool, and all zeroed frames are zero. */
static void test_clean_overflows(void **state)
{
    unsigned high = MEMORY / PAGE_SIZE / 32;
    unsigned count = high + 3 * PMM_CACHE_FRAMES;
    struct pmm_usage before;
    struct pmm_usage after;

    (void)state;
    dirty(2 * count);
    before = pmm_usage();
    for (unsigned i = 0; i < count; i++)
        many[i] = clean_frame();
    for (unsigned i = 0; i < count; i++)
        pmm_free_clean(many[i]);
    after = pmm_usage();
    assert_memory_equal(&before, &after, sizeof(before));
    assert_in_range(pmm_zero_figures().pooled, high + PMM_CACHE_FRAMES / 2,
                    high + PMM_CACHE_FRAMES);
    pmm_audit();
    fake_machine_be_cpu(2);
    many[0] = clean_frame(); /* its processor's first allocation */
    pmm_free_clean(many[0]);
    for (unsigned i = 0; i < count; i++) {
        many[i] = clean_frame();
        assert_true(is_clean(many[i]));
    }
    assert_in_range(pmm_zero_figures().hits, high, high + 1);
    fake_machine_be_cpu(0);
    for (unsigned i = 0; i < count; i++)
        pmm_free_clean(many[i]);
    pmm_drain();
    assert_int_equal(pmm_zero_figures().pooled, 0);
    pmm_audit();
}

/* While caches are closed, clean frames go back to the allocator like all others. */
static void test_clean_without_caches(void **state)
{
    unsigned count;

    (void)state;
    many[0] = clean_frame();
    pmm_fail_from(UINT64_MAX, 1);
    pmm_free_clean(many[0]);
    assert_int_equal(pmm_zero_figures().pooled, 0);
    pmm_audit();
    pmm_fail_from(0, 0);
    for (count = 0; pmm_alloc(FRAME_TABLE, FRAME_CLEARED, &many[count]) == OK;)
        count++;
    pmm_free_clean(many[--count]);
    assert_int_equal(count_of(FRAME_FREE), 1);
    assert_int_equal(pmm_zero_figures().pooled, 0);
    many[count++] = clean_frame();
    while (count > 0)
        pmm_free_clean(many[--count]);
    assert_int_equal(count_of(FRAME_TABLE), 0);
    assert_int_equal(pmm_pressure(), PMM_NORMAL);
    pmm_audit();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_orders, set_up),
        cmocka_unit_test_setup(test_many_in_any_order, set_up),
        cmocka_unit_test_setup(test_block_across_ranges, set_up),
        cmocka_unit_test_setup(test_split, set_up),
        cmocka_unit_test_setup(test_join, set_up),
        cmocka_unit_test_setup(test_mistakes, set_up),
        cmocka_unit_test_setup(test_reserve, set_up),
        cmocka_unit_test_setup(test_pressure, set_up),
        cmocka_unit_test_setup(test_failures, set_up),
        cmocka_unit_test_setup(test_zero_pool, set_up),
        cmocka_unit_test_setup(test_zero_marks, set_up),
        cmocka_unit_test_setup(test_other_caches, set_up),
        cmocka_unit_test_setup(test_zero_pause, set_up),
        cmocka_unit_test_setup(test_clean_comes_back, set_up),
        cmocka_unit_test_setup(test_clean_overflows, set_up),
        cmocka_unit_test_setup(test_clean_without_caches, set_up),
    };

    return run_for_each_allocator(tests, ARRAY_COUNT(tests), NULL);
}

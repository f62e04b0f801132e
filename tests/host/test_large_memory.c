/*
 * Physical memory of a large machine: 1 TiB with holes, in simulated memory that is backed only
 * where it is touched. Prints the cost of the start, which docs/frames.md quotes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "pmm/memory_map.h"
#include "pmm/pmm.h"
#include "tests/host/fake/each_allocator.h"
#include "tests/host/fake/machine.h"

#define KERNEL_START MIB
#define KERNEL_SIZE  (64 * MIB)
#define HOLE_START   (512 * GIB)
#define HOLE_END     (612 * GIB)
#define MEMORY_END   (1024 * GIB + (HOLE_END - HOLE_START) + GIB)

/* 1 TiB of RAM: up to 3 GiB, from 4 to 512, and from 612 GiB on. */
static const struct memory_region regions[] = {
    {.start = {0}, .pages = 160, .kind = MEMORY_USABLE},
    {.start = {MIB}, .pages = (3 * GIB - MIB) / PAGE_SIZE, .kind = MEMORY_USABLE},
    {.start = {3 * GIB}, .pages = GIB / PAGE_SIZE, .kind = MEMORY_DEVICE},
    {.start = {4 * GIB}, .pages = 2, .kind = MEMORY_ACPI_NVS},
    {.start = {4 * GIB}, .pages = (HOLE_START - 4 * GIB) / PAGE_SIZE, .kind = MEMORY_USABLE},
    {.start = {HOLE_END}, .pages = (MEMORY_END - HOLE_END) / PAGE_SIZE, .kind = MEMORY_USABLE}};

/* The process's pages in memory. */
static uint64_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long size;
    unsigned long resident;

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%lu %lu", &size, &resident), 2);
    fclose(file);
    return resident * PAGE_SIZE;
}

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void start(const struct frame_allocator *allocator)
{
    uint64_t resident;
    double began;

    pmm_choose(allocator);
    fake_machine_memory(MEMORY_END);
    assert_int_equal(memory_map_build(regions, ARRAY_COUNT(regions), UINT64_C(1) << 44), OK);
    assert_int_equal(memory_map_reserve(KERNEL_START, KERNEL_START + KERNEL_SIZE), OK);
    resident = resident_bytes();
    began = seconds();
    assert_int_equal(pmm_init(0), OK);
    print_message("# 1 TiB, %s: %lu MiB of records, %lu MiB of metadata; pmm_init took %.0f ms and "
                  "touched %lu MiB\n",
                  pmm_allocator()->name, MEMORY_END / PAGE_SIZE * sizeof(struct frame) / MIB,
                  pmm_metadata_bytes() / MIB, (seconds() - began) * 1e3,
                  (resident_bytes() - resident) / MIB);
}

static void ledger_is_exact(void)
{
    struct pmm_usage usage = pmm_usage();
    uint64_t metadata = pmm_metadata_bytes() / PAGE_SIZE;

    assert_int_equal(pmm_frame_limit(), MEMORY_END / PAGE_SIZE);
    assert_int_equal(usage.total, (1024 * GIB - MIB) / PAGE_SIZE + 160);
    assert_int_equal(usage.by_kind[FRAME_METADATA], metadata);
    assert_int_equal(usage.by_kind[FRAME_KERNEL], KERNEL_SIZE / PAGE_SIZE);
    assert_int_equal(usage.by_kind[FRAME_RESERVED], 160 + 2);
    assert_int_equal(usage.by_kind[FRAME_FREE],
                     (1024 * GIB - MIB - KERNEL_SIZE) / PAGE_SIZE - 2 - metadata);
}

static bool is_ram(struct pfn frame)
{
    uint64_t at = phys_of(frame).address;

    return at < 3 * GIB || (at >= 4 * GIB && at < HOLE_START) ||
           (at >= HOLE_END && at < MEMORY_END);
}

static void test_start(void **state)
{
    struct pmm_usage before;
    struct pmm_usage after;
    struct pfn high;
    struct pfn low;
    struct pfn huge;

    start(*state);
    ledger_is_exact();
    before = pmm_usage();
    assert_int_equal(pmm_alloc(FRAME_ANONYMOUS, FRAME_CLEARED, &high), OK);
    assert_int_equal(pmm_alloc_low(FRAME_DEVICE, FRAME_CLEARED, &low), OK);
    assert_int_equal(pmm_alloc_order(ORDER_HUGE, FRAME_KERNEL, FRAME_UNCLEARED, &huge), OK);
    assert_true(high.index >= 4 * GIB / PAGE_SIZE && is_ram(high));
    assert_true(low.index < 3 * GIB / PAGE_SIZE);
    assert_true(huge.index >= 4 * GIB / PAGE_SIZE && is_ram(huge));
    pmm_free(high);
    pmm_free(low);
    pmm_free_order(huge, ORDER_HUGE);
    after = pmm_usage();
    assert_memory_equal(&before, &after, sizeof(before));
}

/* Takes all whole GiB of a zone from its allocator, and gives them back; how many. */
static unsigned count_gibs(unsigned zone, uint64_t zone_base)
{
    const struct frame_allocator *allocator = pmm_allocator();
    static uint64_t blocks[1200];
    const void *constant;
    uint64_t frames;
    unsigned count = 0;
    void *self;

    assert_true(pmm_zone(zone, &constant, &frames));
    self = (void *)(uintptr_t)constant;
    while (allocator->take(self, 0, ORDER_GIB, &blocks[count]) == OK) {
        struct pfn first = {(uint32_t)(zone_base + blocks[count])};

        assert_true(is_ram(first) && first.index % order_frames(ORDER_GIB) == 0);
        count++;
        assert_true(count < ARRAY_COUNT(blocks));
    }
    for (unsigned i = 0; i < count; i++)
        allocator->give(self, 0, blocks[i], ORDER_GIB);
    return count;
}

/* Every GiB that is whole is found, and none in a hole: all but the first, the one behind 4 GiB,
 * and the last, which has the metadata. */
static void test_whole_gibs(void **state)
{
    (void)state;
    start(frame_allocator_named("llfree"));
    assert_int_equal(count_gibs(0, 0), 2);
    assert_int_equal(count_gibs(1, 4 * GIB / PAGE_SIZE),
                     (HOLE_START - 5 * GIB) / GIB + (MEMORY_END - HOLE_END) / GIB - 1);
    ledger_is_exact();
}

/* The others take too long to start with a TiB. */
static bool is_quick(const struct frame_allocator *allocator)
{
    return strcmp(allocator->name, "llfree") == 0 || strcmp(allocator->name, "bitmap") == 0;
}

static bool is_llfree(const struct frame_allocator *allocator)
{
    return strcmp(allocator->name, "llfree") == 0;
}

int main(void)
{
    static const struct CMUnitTest starts[] = {cmocka_unit_test(test_start)};
    static const struct CMUnitTest tests[] = {cmocka_unit_test(test_whole_gibs)};

    each_allocator_add(starts, ARRAY_COUNT(starts), is_quick);
    return run_for_each_allocator(tests, ARRAY_COUNT(tests), is_llfree);
}

/* Rows of bench about system calls on ranges: of one page, of 16, and of 4,096 at once. */
#include "tests/experiments/bench/bench.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"

#define CALLS 256U
#define GROUP 16U
#define BULKS 16U

static void map_rows(void)
{
    bench_set_overhead(user_code_measure_nothing);
    bench_measure(user_code_measure_map, BENCH_START, 0, BENCH_SAMPLES);
    bench_end_row("map_unmap_untouched");
    bench_measure(user_code_measure_map_touch, BENCH_START, 0, BENCH_SAMPLES);
    bench_end_row("map_unmap_page");
    /* Each time at another place: its tables are made, and those of the last place freed. */
    bench_measure(user_code_measure_map_touch, BENCH_START + GIB, GIB, CALLS);
    bench_end_row("map_unmap_elsewhere");
}

/* Adds one call's ticks, all of them or the share of a page. */
static bool add_call(enum program_call call, uint64_t pages, uint64_t argument, uint64_t share)
{
    uint64_t ticks;

    if (!bench_call(call, BENCH_START, pages * PAGE_SIZE, argument, &ticks))
        return false;
    bench_add_net(bench_above_overhead(ticks) / share);
    return true;
}

/* Measures changes of a region's rights to read-only and back; its pages are resident. */
static bool protect_row(const char *row, uint64_t pages, unsigned calls, uint64_t share)
{
    bool ok = bench_touch(BENCH_START, pages);

    for (unsigned i = 0; i < calls && ok; i++)
        ok = add_call(PROGRAM_PROTECT, pages, i % 2 == 0 ? 0 : PROGRAM_MAP_WRITE, share);
    bench_end_row(row);
    return ok;
}

/* Touches the pages before each call, in order or at random. */
static bool touch_again(uint64_t pages, bool at_random)
{
    if (!at_random)
        return bench_touch(BENCH_START, pages);
    bench_list_shuffled(BENCH_START, (unsigned)pages);
    return bench_run_user_code(user_code_measure_listed_write, 0, 0, pages);
}

static bool dontneed_row(const char *row, uint64_t pages, unsigned calls, uint64_t share,
                         bool at_random)
{
    bool ok = true;

    for (unsigned i = 0; i < calls && ok; i++)
        ok = touch_again(pages, at_random) &&
             add_call(PROGRAM_ADVISE, pages, SPACE_DONT_NEED, share);
    bench_end_row(row);
    return ok;
}

static bool unmap_row(const char *row, uint64_t pages, unsigned calls, uint64_t share,
                      bool at_random)
{
    bool ok = true;

    for (unsigned i = 0; i < calls && ok; i++)
        ok = touch_again(pages, at_random) && add_call(PROGRAM_UNMAP, pages, 0, share) &&
             bench_map(BENCH_START, pages);
    bench_end_row(row);
    return ok;
}

void bench_range_rows(void)
{
    bool ok;

    map_rows();
    bench_set_overhead(user_code_measure_range_no_call);
    ok = bench_map(BENCH_START, 1) && protect_row("protect_page", 1, CALLS, 1) &&
         dontneed_row("dontneed_page", 1, CALLS, 1, false) && bench_unmap(BENCH_START, 1) &&
         bench_map(BENCH_START, GROUP) && protect_row("protect_16", GROUP, CALLS, 1) &&
         dontneed_row("dontneed_16", GROUP, CALLS, 1, false) &&
         unmap_row("unmap_16", GROUP, CALLS, 1, false) && bench_unmap(BENCH_START, GROUP) &&
         bench_map(BENCH_START, BENCH_SAMPLES) &&
         protect_row("protect_bulk", BENCH_SAMPLES, BULKS, BENCH_SAMPLES) &&
         dontneed_row("dontneed_bulk", BENCH_SAMPLES, BULKS, BENCH_SAMPLES, false) &&
         unmap_row("unmap_bulk", BENCH_SAMPLES, BULKS, BENCH_SAMPLES, false) &&
         dontneed_row("dontneed_random", BENCH_SAMPLES, BULKS, BENCH_SAMPLES, true) &&
         unmap_row("unmap_random", BENCH_SAMPLES, BULKS, BENCH_SAMPLES, true) &&
         bench_unmap(BENCH_START, BENCH_SAMPLES);
    ktap_check(ok, "calls on ranges of 1, %u and %u pages succeeded", GROUP, BENCH_SAMPLES);
}

/*
 * Rows of bench about size: 100,000 regions, and 1 GiB of resident pages at a space's end.
 */
#include "cpu/machine.h"
#include "pmm/pmm.h"
#include "tests/experiments/bench/bench.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"

#define REGIONS 100000U
#define STRIDE  (4 * PAGE_SIZE) /* of one page each */
#define CALLS   256U
#define FORKS   4U

#define GIB_PAGES (GIB / PAGE_SIZE)
#define ENDS      1U

static bool bench_map_regions(void)
{
    bool ok = true;

    for (uint64_t i = 0; i < REGIONS && ok; i++)
        ok = bench_map(BENCH_FAR + i * STRIDE, 1);
    return ok;
}

/* Samples forks, and the parent's first map after each: it pays for work that the fork put off. */
static void fork_rows(struct space *space)
{
    const uint64_t gap = BENCH_FAR + REGIONS / 2 * STRIDE + 2 * PAGE_SIZE;
    uint64_t maps[FORKS] = {0};

    for (unsigned i = 0; i < FORKS; i++) {
        struct space *child;
        uint64_t began;

        bench_time_readings();
        began = machine_ticks();
        if (!SUCCEEDS(space_fork(space, &child)))
            break;
        bench_add(machine_ticks() - began);
        bench_set_overhead(user_code_measure_range_no_call);
        if (bench_call(PROGRAM_MAP, gap, PAGE_SIZE, PROGRAM_MAP_WRITE, &maps[i]))
            (void)bench_unmap(gap, 1);
        maps[i] = bench_above_overhead(maps[i]);
        space_destroy(child);
    }
    bench_end_row("fork_100k");
    for (unsigned i = 0; i < FORKS && maps[i] > 0; i++)
        bench_add_net(maps[i]);
    bench_end_row("map_after_fork_100k");
}

static void region_rows(void)
{
    struct space *space = bench_start_space();

    if (space == NULL)
        return;
    if (bench_map_regions()) {
        bench_set_overhead(user_code_measure_nothing);
        bench_measure(user_code_measure_map, BENCH_FAR + REGIONS / 2 * STRIDE + 2 * PAGE_SIZE, 0,
                      CALLS);
        bench_end_row("map_unmap_100k");
        fork_rows(space);
    }
    end_space(space);
}

/* Times the end of a space: the caller's time, and the time of all work for each page. */
static void end_rows(void)
{
    uint64_t callers[ENDS] = {0};

    if (GIB_PAGES > pmm_usage().by_kind[FRAME_FREE] / 8 * 7) {
        ktap_skip("less than 1 GiB is free", "exit_caller_1g");
        ktap_skip("less than 1 GiB is free", "exit_page");
        return;
    }
    for (unsigned i = 0; i < ENDS; i++) {
        struct space *space = bench_start_space();
        uint64_t began;
        bool ok;

        if (space == NULL)
            break;
        ok = bench_map(BENCH_FAR, GIB_PAGES) && bench_touch(BENCH_FAR, GIB_PAGES);
        space_switch(NULL);
        bench_time_readings();
        began = machine_ticks();
        space_destroy(space);
        callers[i] = ok ? bench_above_overhead(machine_ticks() - began) : 0;
    }
    for (unsigned i = 0; i < ENDS && callers[i] > 0; i++)
        bench_add_net(callers[i]);
    bench_end_row("exit_caller_1g");
    for (unsigned i = 0; i < ENDS && callers[i] > 0; i++)
        bench_add_net(callers[i] / GIB_PAGES);
    bench_end_row("exit_page");
}

void bench_many_rows(void)
{
    region_rows();
    end_rows();
}

/*
 * Rows of bench about size: 10 to 100,000 regions, and 1 GiB of resident pages at a space's end.
 *
 * Each number of regions has the same rows. The checks: a fault costs the same with each number,
 * since a ticket leads to its descriptor without a search; finding a region grows by the logarithm.
 */
#include "cpu/machine.h"
#include "lib/print.h"
#include "pmm/pmm.h"
#include "tests/experiments/bench/bench.h"
#include "tests/runner/experiment.h"
#include "tests/runner/tick.h"
#include "tests/runner/user_pages.h"
#include "vmm/space/end.h"

#define STRIDE (4 * PAGE_SIZE) /* of regions of one page each */
#define CALLS  256U
#define FORKS  4U

#define GIB_PAGES (GIB / PAGE_SIZE)
#define ENDS      1U

/* A number of regions; rows have the name of the operation and this one. */
struct many {
    const char *name;
    uint64_t regions;
    uint64_t fault, find; /* medians */
};

static void end_many(const struct many *many, const char *operation, uint64_t *median)
{
    char row[32];
    uint64_t found;

    print_to(row, sizeof(row), "%s_%s", operation, many->name);
    found = bench_end_row(row);
    if (median != NULL)
        *median = found;
}

static bool bench_map_regions(const struct many *many)
{
    bool ok = true;

    for (uint64_t i = 0; i < many->regions && ok; i++)
        ok = bench_map(BENCH_FAR + i * STRIDE, 1);
    return ok;
}

/* Returns a gap between two regions in the middle. */
static uint64_t bench_gap(const struct many *many)
{
    return BENCH_FAR + many->regions / 2 * STRIDE + 2 * PAGE_SIZE;
}

/* Samples forks, and the parent's first map after each: it pays for work that the fork put off. */
static void fork_rows(const struct many *many, struct space *space)
{
    const uint64_t gap = bench_gap(many);
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
        bench_end_whole(child);
    }
    end_many(many, "fork", NULL);
    for (unsigned i = 0; i < FORKS && maps[i] > 0; i++)
        bench_add_net(maps[i]);
    end_many(many, "map_after_fork", NULL);
}

/* Measures first writes, all in one leaf table, and questions about regions far from each other. */
static void touch_and_find_rows(struct many *many, struct space *space)
{
    struct space_view view;

    pmm_drain(); /* tables of ended spaces are cleared frames: no fault that takes one clears */
    bench_set_overhead(user_code_measure_write);
    if (bench_map(BENCH_START, CALLS + 1) && bench_touch(BENCH_START, 1))
        bench_measure(user_code_measure_write, BENCH_START + PAGE_SIZE, PAGE_SIZE, CALLS);
    end_many(many, "fault", &many->fault);
    bench_time_readings();
    for (unsigned i = 0; i < CALLS; i++) {
        uint64_t address = BENCH_FAR + i * many->regions / CALLS * STRIDE;
        uint64_t began = machine_ticks();
        enum status status = space_query(space, address, &view);

        bench_add(machine_ticks() - began);
        CHECK(status == OK && view.start == address && view.end == address + PAGE_SIZE);
    }
    end_many(many, "find", &many->find);
}

static void region_rows(struct many *many)
{
    struct space *space = bench_start_space();
    uint64_t began;

    if (space == NULL)
        return;
    if (bench_map_regions(many)) {
        bench_set_overhead(user_code_measure_nothing);
        bench_measure(user_code_measure_map, bench_gap(many), 0, CALLS);
        end_many(many, "map_unmap", NULL);
        fork_rows(many, space);
        touch_and_find_rows(many, space);
    }
    space_switch(NULL);
    bench_time_readings();
    began = machine_ticks();
    space_destroy(space);
    bench_add(machine_ticks() - began);
    end_many(many, "exit", NULL);
}

/* A tree of n regions that is balanced is at most 2 log n deep. */
static void check_growth(const struct many *few, const struct many *most)
{
    if (ticks_per_instruction() == 0) {
        for (unsigned i = 0; i < 2; i++)
            ktap_skip("a tick is no number of instructions", "growth with the number of regions");
        return;
    }
    ktap_check(few->fault > 0 && most->fault * 10 <= few->fault * 11,
               "a fault costs the same with %lu regions, %lu ticks, and %lu, %lu ticks",
               few->regions, few->fault, most->regions, most->fault);
    ktap_check(few->find > 0 && most->find <= few->find * 2,
               "finding a region takes at most twice as long among %lu, %lu ticks, as among %lu, "
               "%lu ticks",
               most->regions, most->find, few->regions, few->find);
}

static void growth_rows(void)
{
    struct many sizes[] = {{.name = "10", .regions = 10},
                           {.name = "1k", .regions = 1000},
                           {.name = "100k", .regions = 100000}};

    for (unsigned i = 0; i < ARRAY_COUNT(sizes); i++)
        region_rows(&sizes[i]);
    check_growth(&sizes[0], &sizes[ARRAY_COUNT(sizes) - 1]);
}

/* Times the end of a space: the caller's time, and the time of all work for each page. */
static void end_rows(void)
{
    uint64_t callers[ENDS] = {0};
    uint64_t all[ENDS] = {0};

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
        space_finish_ends();
        all[i] = machine_ticks() - began;
    }
    for (unsigned i = 0; i < ENDS && callers[i] > 0; i++)
        bench_add_net(callers[i]);
    bench_end_row("exit_caller_1g");
    for (unsigned i = 0; i < ENDS && callers[i] > 0; i++)
        bench_add_net(all[i] / GIB_PAGES);
    bench_end_row("exit_page");
}

void bench_many_rows(void)
{
    growth_rows();
    end_rows();
}

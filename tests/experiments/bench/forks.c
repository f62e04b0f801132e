/*
 * Rows of bench about forks, and ends: their cost by the size of the parent.
 *
 * Each parent has 20 regions. With 256 MiB resident it is the fork of Linux's figures; the others
 * have 4 MiB, 1 GiB, and one page in each GiB of a TiB. The check: those three take the same number
 * of instructions within 10 %, but for what each further entry of the top table takes: a fork
 * shares those and the root of the regions, and looks at nothing else.
 */
#include "cpu/clock/measure.h"
#include "cpu/machine.h"
#include "lib/print.h"
#include "pmm/pmm.h"
#include "tests/experiments/bench/bench.h"
#include "tests/runner/experiment.h"
#include "tests/runner/tick.h"
#include "tests/runner/user_pages.h"

#define START   UINT64_C(0x8000000000)
#define REGIONS 20U

#define FORKS         64U
#define TOUCHED_FORKS 8U

/* The most instructions for each entry of the top table that a fork shares. */
#define ENTRY_SHARE 128U

#define RIGHTS_KERNEL ((struct rights){.write = true})

struct parent {
    const char *row;
    const char *exit_row; /* its end, after the forks */
    uint64_t bytes;       /* all regions together */
    uint64_t stride;      /* from one resident page to the next */
};

static const struct parent like_linux = {"fork_256m", "exit_256m", 256 * MIB, PAGE_SIZE};
static const struct parent sizes[] = {{"fork_4m", "exit_4m", 4 * MIB, PAGE_SIZE},
                                      {"fork_1g", "exit_1g", GIB, PAGE_SIZE},
                                      {"fork_1t", "exit_1t", 1024 * GIB, GIB}};

static uint64_t region_size(const struct parent *parent)
{
    return round_up(parent->bytes / REGIONS, PAGE_SIZE);
}

/* Returns the start of a region; a gap after each region keeps it from merging with the next. */
static uint64_t bench_forks_region_start(const struct parent *parent, unsigned region)
{
    return START + region * (region_size(parent) + PAGE_SIZE);
}

/* Returns how many entries of the top table a parent uses beside the first one. */
static uint64_t further_entries(const struct parent *parent)
{
    uint64_t last = bench_forks_region_start(parent, REGIONS) - 1;

    return (last >> 39) - (START >> 39);
}

/* Returns whether memory suffices for the pages, their tables and a reserve. */
static bool bench_forks_fits(const struct parent *parent)
{
    return parent->bytes / parent->stride < pmm_usage().by_kind[FRAME_FREE] / 8 * 7;
}

/* Maps the regions and touches their pages. Returns the number of pages, 0 on failure. */
static uint64_t bench_forks_fill(struct space *space, const struct parent *parent)
{
    uint64_t resident = 0;

    for (unsigned region = 0; region < REGIONS; region++) {
        uint64_t start = bench_forks_region_start(parent, region);
        uint64_t end = start + region_size(parent);

        if (space_map(space, &SPACE_AT(start, end - start, RIGHTS_KERNEL), NULL) != OK)
            return 0;
        for (uint64_t at = start; at < end; at += parent->stride, resident++)
            measure_write(at);
    }
    return resident;
}

/* Samples forks; `whole` gets the time of each fork with the child's end. */
static void fork_often(struct space *space, uint64_t whole[FORKS])
{
    bench_time_readings();
    for (unsigned i = 0; i < FORKS; i++) {
        uint64_t began = machine_ticks();
        struct space *child;

        if (space_fork(space, &child) != OK)
            break;
        bench_add(machine_ticks() - began);
        bench_end_whole(child);
        whole[i] = machine_ticks() - began;
    }
}

/* Times the end of a space, until the caller goes on. */
static void exit_row(const struct parent *parent, struct space *space)
{
    uint64_t began;

    space_switch(NULL);
    bench_time_readings();
    began = machine_ticks();
    space_destroy(space);
    bench_add(machine_ticks() - began);
    bench_end_row(parent->exit_row);
}

/* Returns the median of the forks; 0 if there is none. */
static uint64_t fork_row(const struct parent *parent, uint64_t whole[FORKS])
{
    struct space *space;
    uint64_t resident;
    uint64_t median;
    char name[32];

    if (!bench_forks_fits(parent)) {
        ktap_skip("there is not so much memory", "%s", parent->row);
        ktap_skip("there is not so much memory", "%s", parent->exit_row);
        return 0;
    }
    if (!start_space(&space))
        return 0;
    resident = bench_forks_fill(space, parent);
    print_to(name, sizeof(name), "%s.resident", parent->row);
    ktap_metric(name, resident, "pages");
    if (resident > 0 && space->region_count == REGIONS)
        fork_often(space, whole);
    median = bench_end_row(parent->row);
    exit_row(parent, space);
    return median;
}

static void rows_like_linux(void)
{
    uint64_t whole[FORKS] = {0};

    if (fork_row(&like_linux, whole) == 0) {
        ktap_skip("there is no such row", "fork_exit_256m");
        return;
    }
    for (unsigned i = 0; i < FORKS; i++)
        bench_add(whole[i]);
    bench_end_row("fork_exit_256m");
}

/* Measures forks of 23 regions, those of the user code included; ring 3 has written each page since
 * the last fork. */
static void touched_row(void)
{
    const uint64_t pages = region_size(&like_linux) / PAGE_SIZE;
    struct space *space = bench_forks_fits(&like_linux) ? bench_start_space() : NULL;
    bool ok = space != NULL;

    for (unsigned region = 0; region < REGIONS && ok; region++)
        ok = bench_map(bench_forks_region_start(&like_linux, region), pages);
    for (unsigned i = 0; i < TOUCHED_FORKS && ok; i++) {
        struct space *child;
        uint64_t began;

        for (unsigned region = 0; region < REGIONS && ok; region++)
            ok = bench_touch(bench_forks_region_start(&like_linux, region), pages);
        bench_time_readings();
        began = machine_ticks();
        if (!ok || !SUCCEEDS(space_fork(space, &child)))
            break;
        bench_add(machine_ticks() - began);
        bench_end_whole(child);
    }
    bench_end_row("fork_touched_256m");
    if (space != NULL)
        end_space(space);
}

void bench_fork_rows(void)
{
    uint64_t whole[FORKS];
    uint64_t least = UINT64_MAX;
    uint64_t most = 0;

    rows_like_linux();
    touched_row();
    for (unsigned i = 0; i < ARRAY_COUNT(sizes); i++) {
        uint64_t median = fork_row(&sizes[i], whole);
        uint64_t entries = further_entries(&sizes[i]) * ENTRY_SHARE * ticks_per_instruction();

        most = max_u64(most, median - min_u64(entries, median));
        least = median != 0 ? min_u64(least, median) : least;
    }
    if (ticks_per_instruction() != 0)
        ktap_check(most > 0 && most * 10 <= least * 11,
                   "a fork costs the same at each size: %lu to %lu ticks", least, most);
    else
        ktap_skip("a tick is no number of instructions", "a fork costs the same at each size");
}

/*
 * bench: what does each path of the pager cost, in instructions?
 *
 * Under QEMU's -icount one tick of the time-stamp counter is a known, whole number of instructions:
 * the calibration proves it by 1,000 that do nothing. Without -icount the figures are ticks, and
 * the log says so. A row is the difference between an access that faults and the same access
 * that does not, each between the same two readings of the counter; all pages are of the kind that
 * ring 0 may touch without STAC, in the lower half.
 */
#include "cpu/machine.h"
#include "cpu/measure.h"
#include "cpu/trap.h"
#include "lib/print.h"
#include "pmm/pmm.h"
#include "tests/experiment.h"
#include "tests/tick.h"
#include "tests/user_pages.h"

#define START       UINT64_C(0x600000000)
#define SAMPLES_MAX 2048U

/* Calls that do more than one fault's work are measured fewer times. */
#define FORKS 64U

/* 20 regions with 256 MiB resident is the baseline's fork; so much is taken where there is as much.
 */
#define FORK_REGIONS     20U
#define FORK_BYTES       (256 * MIB)
#define FORK_REGION_STEP (64 * MIB)

#define RIGHTS_KERNEL ((struct rights){.write = true})

static struct {
    uint64_t samples[SAMPLES_MAX];
    unsigned count;
    uint64_t overhead;        /* ticks of an access that does not fault */
    uint64_t per_instruction; /* ticks; 0 when a tick is no number of instructions */
} bench;

/* ---- figures ---- */

static void add_sample(uint64_t ticks)
{
    CHECK(bench.count < SAMPLES_MAX);
    bench.samples[bench.count++] = ticks > bench.overhead ? ticks - bench.overhead : 0;
}

/* Shell's sort with Ciura's gaps: 2,048 numbers, no memory. */
static void sort_samples(void)
{
    static const unsigned gaps[] = {701, 301, 132, 57, 23, 10, 4, 1};

    for (unsigned g = 0; g < ARRAY_COUNT(gaps); g++) {
        for (unsigned i = gaps[g]; i < bench.count; i++) {
            uint64_t sample = bench.samples[i];
            unsigned at = i;

            for (; at >= gaps[g] && bench.samples[at - gaps[g]] > sample; at -= gaps[g])
                bench.samples[at] = bench.samples[at - gaps[g]];
            bench.samples[at] = sample;
        }
    }
}

static void put_figure(const char *row, const char *figure, uint64_t ticks)
{
    uint64_t unit = bench.per_instruction != 0 ? bench.per_instruction : 1;
    char name[64];

    print_to(name, sizeof(name), "%s.%s", row, figure);
    ktap_metric(name, (ticks + unit / 2) / unit,
                bench.per_instruction != 0 ? "instructions" : "ticks");
}

/* Prints the row's figures and begins the next. */
static void end_row(const char *row)
{
    uint64_t sum = 0;
    char name[64];

    if (!ktap_check(bench.count > 0, "%s", row))
        return;
    sort_samples();
    for (unsigned i = 0; i < bench.count; i++)
        sum += bench.samples[i];
    put_figure(row, "median", bench.samples[bench.count / 2]);
    put_figure(row, "mean", sum / bench.count);
    put_figure(row, "p99", bench.samples[bench.count * 99 / 100]);
    put_figure(row, "max", bench.samples[bench.count - 1]);
    print_to(name, sizeof(name), "%s.n", row);
    ktap_metric(name, bench.count, "samples");
    bench.count = 0;
}

/* ---- the unit ---- */

/* What the measurement itself takes: the least that the same access to a page that is there took.
 * The first times are longer under an emulator that translates code as it meets it. */
static void set_overhead(uint64_t (*access)(uint64_t))
{
    static uint8_t resident;

    bench.overhead = UINT64_MAX;
    for (unsigned i = 0; i < 16; i++)
        bench.overhead = min_u64(bench.overhead, access((uint64_t)(uintptr_t)&resident));
}

/* The same around a call, or around nothing. */
static void set_overhead_of_nothing(void)
{
    bench.overhead = UINT64_MAX;
    for (unsigned i = 0; i < 16; i++)
        bench.overhead = min_u64(bench.overhead, measure_nothing());
}

static void calibrate(void)
{
    bench.per_instruction = ticks_per_instruction();
    if (bench.per_instruction != 0)
        ktap_metric("ticks_per_instruction", bench.per_instruction, "ticks");
    else
        ktap_note("a tick is not a number of instructions here: the figures are ticks");
    set_overhead_of_nothing();
    ktap_check(measure_nops() > bench.overhead, "calibration: %u instructions take time",
               MEASURE_NOPS);
}

/* ---- rows of single faults ---- */

static uint64_t page_at(unsigned number)
{
    return START + number * PAGE_SIZE;
}

static void access_all(uint64_t (*access)(uint64_t), unsigned pages)
{
    for (unsigned i = 0; i < pages; i++)
        add_sample(access(page_at(i)));
}

/* An empty handler that steps over the store: the floor of every fault. */
static bool skip_store(uint64_t address, uint64_t error, struct trap_frame *frame)
{
    (void)address;
    (void)error;
    frame->rip += MEASURE_WRITE_LENGTH;
    return true;
}

static void null_fault(void)
{
    bool (*handler)(uint64_t, uint64_t, struct trap_frame *) = trap_page_fault;

    set_overhead_of_nothing();
    trap_page_fault = skip_store;
    access_all(measure_write, SAMPLES_MAX);
    trap_page_fault = handler;
    end_row("null_fault");
}

static bool map_pages(struct space *space)
{
    return space_map_at(space, START, SAMPLES_MAX * PAGE_SIZE, RIGHTS_KERNEL) == OK;
}

static bool unmap_pages(struct space *space)
{
    return space_unmap(space, START, SAMPLES_MAX * PAGE_SIZE) == OK;
}

/* The leaf tables exist already: one access a table makes them. */
static void make_tables(void)
{
    for (unsigned i = 0; i < SAMPLES_MAX; i += PTE_ENTRIES)
        measure_read(page_at(i));
}

/* The first page of each table was taken to make the table, so the others are measured. */
static void access_others(uint64_t (*access)(uint64_t))
{
    for (unsigned i = 0; i < SAMPLES_MAX; i++) {
        if (i % PTE_ENTRIES != 0)
            add_sample(access(page_at(i)));
    }
}

static void access_fresh(uint64_t (*access)(uint64_t))
{
    make_tables();
    access_others(access);
}

static void touch_rows(struct space *space)
{
    set_overhead(measure_write);
    if (map_pages(space))
        access_fresh(measure_write);
    end_row("anon_first_write");
    set_overhead(measure_read);
    if (unmap_pages(space) && map_pages(space))
        access_fresh(measure_read);
    end_row("zero_read");
    set_overhead(measure_write);
    access_all(measure_write, SAMPLES_MAX);
    end_row("zero_to_private");
}

/* Both sides own their leaf tables first: one write a table, to its first page. */
static void own_tables(struct space *space)
{
    space_switch(space);
    for (unsigned i = 0; i < SAMPLES_MAX; i += PTE_ENTRIES)
        measure_write(page_at(i));
}

/* Every page of the space is resident and own. */
static void cow_rows(struct space *parent)
{
    struct space *child;

    set_overhead(measure_write);
    if (space_fork(parent, &child) != OK)
        return;
    own_tables(child);
    own_tables(parent);
    access_others(measure_write);
    end_row("cow_copy");
    space_switch(child);
    access_others(measure_write);
    end_row("cow_reuse");
    space_switch(parent);
    space_destroy(child);
}

/* ---- rows of calls, from the kernel ---- */

static void frame_row(void)
{
    set_overhead_of_nothing();
    for (unsigned i = 0; i < SAMPLES_MAX; i++) {
        uint64_t began = machine_ticks();
        struct pfn frame;

        if (pmm_alloc(FRAME_KERNEL, FRAME_UNCLEARED, &frame) != OK)
            break;
        pmm_free(frame);
        add_sample(machine_ticks() - began);
    }
    end_row("frame_cached");
}

static void map_row(struct space *space)
{
    uint64_t address = START + GIB;
    bool ok = true;

    for (unsigned i = 0; i < SAMPLES_MAX && ok; i++) {
        uint64_t began = machine_ticks();

        ok = space_map_at(space, address, PAGE_SIZE, RIGHTS_KERNEL) == OK &&
             space_unmap(space, address, PAGE_SIZE) == OK;
        if (ok)
            add_sample(machine_ticks() - began);
    }
    end_row("map_unmap_page");
}

/* 20 regions; as much of 256 MiB resident as three quarters of memory allow. */
static uint64_t fill_regions(struct space *space)
{
    uint64_t bytes = min_u64(FORK_BYTES, pmm_usage().by_kind[FRAME_FREE] * PAGE_SIZE / 4 * 3);
    uint64_t each = round_down(bytes / FORK_REGIONS, PAGE_SIZE);
    uint64_t resident = 0;

    for (unsigned region = 0; region < FORK_REGIONS; region++) {
        uint64_t start = START + region * FORK_REGION_STEP;

        if (space_map_at(space, start, each, RIGHTS_KERNEL) != OK)
            return resident;
        for (uint64_t at = start; at < start + each; at += PAGE_SIZE, resident++)
            measure_write(at);
    }
    return resident;
}

static void fork_rows(void)
{
    static uint64_t whole[FORKS];
    struct space *parent;
    uint64_t resident;

    if (!start_space(&parent))
        return;
    resident = fill_regions(parent);
    ktap_metric("fork_resident", resident * PAGE_SIZE / MIB, "MiB");
    for (unsigned i = 0; i < FORKS; i++) {
        uint64_t began = machine_ticks();
        struct space *child;

        if (space_fork(parent, &child) != OK)
            break;
        add_sample(machine_ticks() - began);
        space_destroy(child);
        whole[i] = machine_ticks() - began;
    }
    end_row("fork_256m");
    for (unsigned i = 0; i < FORKS; i++)
        add_sample(whole[i]);
    end_row("fork_exit_256m");
    end_space(parent);
}

static void run(const struct options *options)
{
    bool were_on = machine_interrupts_off(); /* the watchdog's look is no fault's work */
    struct space *space;

    (void)options;
    calibrate();
    null_fault();
    if (start_space(&space)) {
        touch_rows(space);
        cow_rows(space);
        frame_row();
        map_row(space);
        end_space(space);
        fork_rows();
    }
    machine_interrupts_restore(were_on);
}

const struct experiment bench_experiment = {
    .name = "bench",
    .question = "What does each path of the pager cost?",
    .checks = 11,
    .only_by_name = true,
    .run = run,
};

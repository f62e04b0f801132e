/*
 * bench: what does each path of the pager cost, in instructions?
 *
 * Under QEMU's -icount one tick of the time-stamp counter is a known, whole number of instructions:
 * the calibration proves it by 1,000 that do nothing. Without -icount the figures are ticks, and
 * the log says so. A row is the difference between an access that faults and the same access that
 * does not, each between the same two readings of the counter, made in ring 3 by a user code, as a
 * program feels it. Only what has no system call yet is measured from the kernel.
 */
#include "tests/experiments/bench/bench.h"
#include "cpu/clock/measure.h"
#include "cpu/machine.h"
#include "cpu/trap/trap.h"
#include "lib/print.h"
#include "pmm/pmm.h"
#include "tests/runner/experiment.h"
#include "tests/runner/tick.h"
#include "tests/runner/user_code.h"
#include "tests/runner/user_pages.h"

#define START       UINT64_C(0x600000000)
#define SAMPLES_MAX 2048U

/* Calls on all of the pages at once: each sample is the share of one page. */
#define BULK_ROUNDS 16U

static struct {
    uint64_t samples[SAMPLES_MAX];
    unsigned count;
    uint64_t overhead;        /* ticks of an access that does not fault */
    uint64_t per_instruction; /* ticks; 0 when a tick is no number of instructions */
} bench;

/* ---- figures ---- */

void bench_add(uint64_t ticks)
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
uint64_t bench_end_row(const char *row)
{
    uint64_t sum = 0;
    uint64_t median;
    char name[64];

    if (!ktap_check(bench.count > 0, "%s", row))
        return 0;
    sort_samples();
    median = bench.samples[bench.count / 2];
    for (unsigned i = 0; i < bench.count; i++)
        sum += bench.samples[i];
    put_figure(row, "median", median);
    put_figure(row, "mean", sum / bench.count);
    put_figure(row, "p99", bench.samples[bench.count * 99 / 100]);
    put_figure(row, "max", bench.samples[bench.count - 1]);
    print_to(name, sizeof(name), "%s.n", row);
    ktap_metric(name, bench.count, "samples");
    bench.count = 0;
    return median;
}

/* ---- the unit ---- */

/* What the measurement itself takes, in the kernel: the least that nothing took. The first times
 * are longer under an emulator that translates code as it meets it. */
static void set_overhead_of_nothing(void)
{
    bench.overhead = UINT64_MAX;
    for (unsigned i = 0; i < 16; i++)
        bench.overhead = min_u64(bench.overhead, measure_nothing());
}

/* The same around calls that read the counter through machine_ticks. */
void bench_time_readings(void)
{
    bench.overhead = UINT64_MAX;
    for (unsigned i = 0; i < 16; i++) {
        uint64_t began = machine_ticks();

        bench.overhead = min_u64(bench.overhead, machine_ticks() - began);
    }
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

static uint64_t bench_page_at(unsigned number)
{
    return START + number * PAGE_SIZE;
}

/* Runs a user code in ring 3, count times from an address on; its ticks are in the buffer then. */
static bool bench_run_user_code(const char *code, uint64_t first, uint64_t step, uint64_t count)
{
    struct program program = user_code_program(space_current(), code, first);
    enum program_end end;
    char words[256];

    CHECK(count * sizeof(uint64_t) <= USER_CODE_BUFFER_SIZE);
    program.frame.rsi = count;
    program.frame.rdx = step;
    program.frame.rcx = USER_CODE_BUFFER;
    program.handler = user_code_address(user_code_skip_handler);
    end = program_run(&program);
    if (end == PROGRAM_EXITED)
        return true;
    program_end_words(&program, end, words, sizeof(words));
    ktap_note("%s", words);
    return false;
}

static uint64_t user_code_ticks(uint64_t number)
{
    uint64_t ticks = 0;
    bool ok = word_read(USER_CODE_BUFFER + number * sizeof(ticks), &ticks);

    CHECK(ok);
    return ticks;
}

static void bench_measure(const char *code, uint64_t first, uint64_t step, unsigned count)
{
    if (!bench_run_user_code(code, first, step, count))
        return;
    for (unsigned i = 0; i < count; i++)
        bench_add(user_code_ticks(i));
}

/* The least that the same access takes when it does not fault. */
static void set_overhead(const char *code)
{
    bench.overhead = UINT64_MAX;
    if (!bench_run_user_code(code, USER_CODE_BUFFER + USER_CODE_BUFFER_SIZE - PAGE_SIZE, 0,
                             SAMPLES_MAX))
        return;
    for (unsigned i = 0; i < SAMPLES_MAX; i++)
        bench.overhead = min_u64(bench.overhead, user_code_ticks(i));
}

/* An empty handler that steps over the store: the floor of every fault. */
static bool bench_skip_store(uint64_t address, uint64_t error, struct trap_frame *frame)
{
    (void)address;
    (void)error;
    frame->rip += USER_CODE_STORE_LENGTH;
    return true;
}

/* The buffer is there already, so that no fault is skipped but those of the row. */
static void null_fault(void)
{
    bool (*handler)(uint64_t, uint64_t, struct trap_frame *) = trap_page_fault;

    set_overhead(user_code_measure_nothing);
    trap_page_fault = bench_skip_store;
    if (bench_run_user_code(user_code_measure_write, START, PAGE_SIZE, SAMPLES_MAX)) {
        trap_page_fault = handler;
        for (unsigned i = 0; i < SAMPLES_MAX; i++)
            bench_add(user_code_ticks(i));
    }
    trap_page_fault = handler;
    bench_end_row("null_fault");
}

static bool map_pages(struct space *space)
{
    return space_map(space, &SPACE_AT(START, SAMPLES_MAX * PAGE_SIZE, RIGHTS_READ_WRITE), NULL) ==
           OK;
}

static bool unmap_pages(struct space *space)
{
    return space_unmap(space, START, SAMPLES_MAX * PAGE_SIZE) == OK;
}

/* The leaf tables exist already: one access a table makes them. */
static void bench_make_tables(void)
{
    uint64_t value;

    for (unsigned i = 0; i < SAMPLES_MAX; i += PTE_ENTRIES)
        CHECK(word_read(bench_page_at(i), &value));
}

/* The first page of each table was taken to make the table, so the others are measured. */
static void access_others(const char *code)
{
    for (unsigned i = 0; i < SAMPLES_MAX; i += PTE_ENTRIES)
        bench_measure(code, bench_page_at(i + 1), PAGE_SIZE, PTE_ENTRIES - 1);
}

static void access_fresh(const char *code)
{
    bench_make_tables();
    access_others(code);
}

static void touch_rows(struct space *space)
{
    set_overhead(user_code_measure_write);
    if (map_pages(space))
        access_fresh(user_code_measure_write);
    bench_end_row("anon_first_write");
    set_overhead(user_code_measure_read);
    if (unmap_pages(space) && map_pages(space))
        access_fresh(user_code_measure_read);
    bench_end_row("zero_read");
    set_overhead(user_code_measure_write);
    bench_measure(user_code_measure_write, START, PAGE_SIZE, SAMPLES_MAX);
    bench_end_row("zero_to_private");
}

/* Both sides own their leaf tables first: one write a table, to its first page. */
static void bench_own_tables(struct space *space)
{
    space_switch(space);
    for (unsigned i = 0; i < SAMPLES_MAX; i += PTE_ENTRIES)
        CHECK(word_write(bench_page_at(i), 1));
}

/* Every page of the space is resident and own. */
static void cow_rows(struct space *parent)
{
    struct space *child;

    set_overhead(user_code_measure_write);
    if (space_fork(parent, &child) != OK)
        return;
    bench_own_tables(child);
    bench_own_tables(parent);
    access_others(user_code_measure_write);
    bench_end_row("cow_copy");
    space_switch(child);
    access_others(user_code_measure_write);
    bench_end_row("cow_reuse");
    space_switch(parent);
    space_destroy(child);
}

/* A store to memory that is not there, to the program's handler, which steps over it, and back. */
static void violation_row(void)
{
    set_overhead(user_code_measure_nothing);
    bench_measure(user_code_measure_write, START + GIB, 0, SAMPLES_MAX);
    bench_end_row("violation");
}

static void call_rows(void)
{
    set_overhead(user_code_measure_nothing);
    bench_measure(user_code_measure_call, 0, 0, SAMPLES_MAX);
    bench_end_row("null_syscall");
    bench_measure(user_code_measure_map, START + GIB, 0, SAMPLES_MAX);
    bench_end_row("map_unmap_page");
    /* Each time at another place, whose tables are made, and those of the one before given back. */
    bench_measure(user_code_measure_map, START + 2 * GIB, GIB, SAMPLES_MAX);
    bench_end_row("map_unmap_elsewhere");
}

/* One call on all pages, which are resident; its share of each. */
static bool add_bulk_call(enum program_call call, uint64_t argument)
{
    struct program program =
        user_code_program(space_current(), user_code_measure_range_call, START);

    program.frame.rsi = 1;
    program.frame.rcx = USER_CODE_BUFFER;
    program.frame.r8 = call;
    program.frame.r9 = SAMPLES_MAX * PAGE_SIZE;
    program.frame.r10 = argument;
    if (program_run(&program) != PROGRAM_EXITED || program.exit_code != OK)
        return false;
    bench_add(user_code_ticks(0) / SAMPLES_MAX);
    return true;
}

static bool bench_fill_pages(void)
{
    return bench_run_user_code(user_code_measure_write, START, PAGE_SIZE, SAMPLES_MAX);
}

/* Writes in order where each brings sixteen pages: all of their stores together, shared by the
 * pages. */
static bool write_groups(struct space *space, uint64_t overhead)
{
    uint64_t ticks = 0;

    if (!map_pages(space) ||
        space_advise(space, START, SAMPLES_MAX * PAGE_SIZE, SPACE_SEQUENTIAL) != OK ||
        !bench_fill_pages())
        return false;
    for (unsigned i = 0; i < SAMPLES_MAX; i++)
        ticks += max_u64(user_code_ticks(i), overhead) - overhead;
    bench_add(ticks / SAMPLES_MAX);
    return unmap_pages(space);
}

/* The space has no pages; nor afterwards. */
static void around_row(struct space *space)
{
    bool ok = true;
    uint64_t overhead;

    set_overhead(user_code_measure_write);
    overhead = bench.overhead;
    bench.overhead = 0;
    for (unsigned i = 0; i < BULK_ROUNDS && ok; i++)
        ok = write_groups(space, overhead);
    bench_end_row("seq_write_around");
}

static void bulk_rows(struct space *space)
{
    bool ok = bench_fill_pages();

    bench.overhead = 0; /* its share of a page is nothing */
    for (unsigned i = 0; i < BULK_ROUNDS && ok; i++)
        ok = add_bulk_call(PROGRAM_PROTECT, i % 2 == 0 ? 0 : PROGRAM_MAP_WRITE);
    bench_end_row("protect_bulk");
    for (unsigned i = 0; i < BULK_ROUNDS && ok; i++)
        ok = bench_fill_pages() && add_bulk_call(PROGRAM_ADVISE, SPACE_DONT_NEED);
    bench_end_row("dontneed_bulk");
    for (unsigned i = 0; i < BULK_ROUNDS && ok; i++)
        ok = bench_fill_pages() && add_bulk_call(PROGRAM_UNMAP, 0) && map_pages(space);
    bench_end_row("unmap_bulk");
    ktap_check(ok, "calls on %u pages at once went through", SAMPLES_MAX);
    if (unmap_pages(space))
        around_row(space);
}

/* ---- rows of calls, from the kernel ---- */

static void frame_row(void)
{
    bench_time_readings();
    for (unsigned i = 0; i < SAMPLES_MAX; i++) {
        uint64_t began = machine_ticks();
        struct pfn frame;

        if (pmm_alloc(FRAME_KERNEL, FRAME_UNCLEARED, &frame) != OK)
            break;
        pmm_free(frame);
        bench_add(machine_ticks() - began);
    }
    bench_end_row("frame_cached");
}

/* A frame that is wanted zero and is zero when it is given back, as a table is. */
static void clean_frame_row(void)
{
    bench_time_readings();
    for (unsigned i = 0; i < SAMPLES_MAX; i++) {
        uint64_t began = machine_ticks();
        struct pfn frame;

        if (pmm_alloc(FRAME_TABLE, FRAME_CLEARED, &frame) != OK)
            break;
        pmm_free_clean(frame);
        bench_add(machine_ticks() - began);
    }
    bench_end_row("frame_clean");
}

static void bench_run(const struct options *options)
{
    bool were_on = machine_interrupts_off(); /* the watchdog's look is no fault's work */
    struct space *space;
    enum status status;

    (void)options;
    /* Every fault clears its own page, and frames come from the caches as they are filled here. */
    pmm_idle_pause();
    pmm_drain();
    calibrate();
    if (start_space(&space)) {
        space_set_zero_levels(space, 1); /* like for like: Linux has no larger zeroes */
        status = user_code_install(space);
        if (ktap_check(status == OK, "pieces of user code are in place: %s", status_name(status))) {
            null_fault();
            touch_rows(space);
            cow_rows(space);
            violation_row();
            call_rows();
            bulk_rows(space);
            frame_row();
            clean_frame_row();
        }
        end_space(space);
        bench_fork_rows();
        bench_call_rows();
    }
    pmm_idle_resume();
    machine_interrupts_restore(were_on);
}

EXPERIMENT(bench, 430) = {
    .theme = THEME_COST,
    .name = "bench",
    .question = "What does each path of the pager cost?",
    .spaces = 3,
    .checks = 32,
    .only_by_name = true,
    .reserves = true,
    .run = bench_run,
};

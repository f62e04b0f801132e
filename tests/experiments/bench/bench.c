/*
 * bench: what does each path of the pager cost, in instructions?
 *
 * Under QEMU's -icount one tick of the time-stamp counter is a known, whole number of instructions:
 * the calibration proves it with 1,000 instructions that do nothing. Without -icount the figures
 * are ticks, and the log says so. A row is the difference between an access that faults and the
 * same access that does not, each between the same two readings of the counter, made in ring 3 by a
 * user code, so that it is the cost to a program. Only operations without a system call are
 * measured from the kernel.
 */
#include "tests/experiments/bench/bench.h"
#include "cpu/clock/measure.h"
#include "cpu/machine.h"
#include "lib/print.h"
#include "pmm/pmm.h"
#include "tests/runner/experiment.h"
#include "tests/runner/tick.h"
#include "tests/runner/user_pages.h"
#include "vmm/space/end.h"

/* Enough for all rows, except rows that give their own number. */
#define BENCH_MEMORY (400 * MIB)

static struct {
    uint64_t samples[BENCH_SAMPLES];
    unsigned count;
    uint64_t overhead;        /* ticks of an access that does not fault */
    uint64_t per_instruction; /* ticks; 0 when a tick is no number of instructions */
    struct random random;
} bench;

/* ---- figures ---- */

uint64_t bench_above_overhead(uint64_t ticks)
{
    return ticks > bench.overhead ? ticks - bench.overhead : 0;
}

void bench_add_net(uint64_t ticks)
{
    CHECK(bench.count < BENCH_SAMPLES);
    bench.samples[bench.count++] = ticks;
}

void bench_add(uint64_t ticks)
{
    bench_add_net(bench_above_overhead(ticks));
}

void bench_drop_samples(void)
{
    bench.count = 0;
}

/* Sorts the samples by Shell's sort with Ciura's gaps, which needs no memory. */
static void sort_samples(void)
{
    static const unsigned gaps[] = {1750, 701, 301, 132, 57, 23, 10, 4, 1};

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

    space_finish_ends(); /* what the row has ended is memory of the next one */
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

/* Measures the cost of the measurement itself in the kernel: the least of several. The first ones
 * take longer under an emulator that translates code. */
static void set_overhead_of_nothing(void)
{
    bench.overhead = UINT64_MAX;
    for (unsigned i = 0; i < 16; i++)
        bench.overhead = min_u64(bench.overhead, measure_nothing());
}

/* Does the same for calls that read the counter through machine_ticks. */
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
        ktap_metric("ticks_per_instruction", bench.per_instruction, "ticks/instruction");
    else
        ktap_note("a tick is not a number of instructions here: the figures are ticks");
    set_overhead_of_nothing();
    /* An emulator may execute instructions that do nothing in no time. */
    if (bench.per_instruction == 0)
        ktap_skip("a tick is no number of instructions", "calibration");
    else
        ktap_check(measure_nops() - bench.overhead == MEASURE_NOPS * bench.per_instruction,
                   "calibration: %u instructions are counted", MEASURE_NOPS);
}

/* ---- a program in ring 3 ---- */

static bool bench_run_program(struct program *program)
{
    enum program_end end = program_run(program);
    char words[256];

    if (end == PROGRAM_EXITED)
        return true;
    program_end_words(program, end, words, sizeof(words));
    ktap_note("%s", words);
    return false;
}

bool bench_run_with_handler(const char *code, const char *handler, uint64_t first, uint64_t step,
                            uint64_t count)
{
    struct program program = user_code_program(space_current(), code, first);

    CHECK(count * sizeof(uint64_t) <= USER_CODE_BUFFER_SIZE);
    program.frame.rsi = count;
    program.frame.rdx = step;
    program.frame.rcx = USER_CODE_BUFFER;
    program.handler = user_code_address(handler);
    return bench_run_program(&program);
}

bool bench_run_user_code(const char *code, uint64_t first, uint64_t step, uint64_t count)
{
    return bench_run_with_handler(code, user_code_skip_handler, first, step, count);
}

uint64_t bench_user_ticks(uint64_t number)
{
    uint64_t ticks = 0;
    bool ok = word_read(USER_CODE_BUFFER + number * sizeof(ticks), &ticks);

    CHECK(ok);
    return ticks;
}

void bench_measure(const char *code, uint64_t first, uint64_t step, unsigned count)
{
    if (!bench_run_user_code(code, first, step, count))
        return;
    for (unsigned i = 0; i < count; i++)
        bench_add(bench_user_ticks(i));
}

void bench_set_overhead(const char *code)
{
    bench.overhead = UINT64_MAX;
    if (!bench_run_user_code(code, USER_CODE_BUFFER + USER_CODE_BUFFER_SIZE - PAGE_SIZE, 0,
                             BENCH_SAMPLES))
        return;
    for (unsigned i = 0; i < BENCH_SAMPLES; i++)
        bench.overhead = min_u64(bench.overhead, bench_user_ticks(i));
}

bool bench_touch(uint64_t start, uint64_t pages)
{
    bool ok = true;

    for (uint64_t done = 0; done < pages && ok; done += BENCH_SAMPLES)
        ok = bench_run_user_code(user_code_measure_write, start + done * PAGE_SIZE, PAGE_SIZE,
                                 min_u64(pages - done, BENCH_SAMPLES));
    return ok;
}

void bench_list(unsigned number, uint64_t address)
{
    bool ok = word_write(USER_CODE_BUFFER + number * sizeof(address), address);

    CHECK(number < BENCH_SAMPLES && ok);
}

void bench_list_shuffled(uint64_t start, unsigned pages)
{
    static uint16_t order[BENCH_SAMPLES];

    CHECK(pages <= BENCH_SAMPLES);
    for (unsigned i = 0; i < pages; i++) {
        unsigned other = (unsigned)random_below(&bench.random, i + 1);

        order[i] = order[other];
        order[other] = (uint16_t)i;
    }
    for (unsigned i = 0; i < pages; i++)
        bench_list(i, start + order[i] * PAGE_SIZE);
}

bool bench_call(enum program_call call, uint64_t start, uint64_t size, uint64_t argument,
                uint64_t *ticks)
{
    struct program program =
        user_code_program(space_current(), user_code_measure_range_call, start);

    program.frame.rsi = 1;
    program.frame.rcx = USER_CODE_BUFFER;
    program.frame.r8 = call;
    program.frame.r9 = size;
    program.frame.r10 = argument;
    if (!bench_run_program(&program) || program.exit_code != OK)
        return false;
    *ticks = bench_user_ticks(0);
    return true;
}

bool bench_map(uint64_t start, uint64_t pages)
{
    return SUCCEEDS(
        space_map(space_current(), &SPACE_AT(start, pages * PAGE_SIZE, RIGHTS_READ_WRITE), NULL));
}

bool bench_unmap(uint64_t start, uint64_t pages)
{
    return SUCCEEDS(space_unmap(space_current(), start, pages * PAGE_SIZE));
}

void bench_end_whole(struct space *space)
{
    space_destroy(space);
    space_finish_ends();
}

struct space *bench_start_space(void)
{
    struct space *space;

    space_finish_ends();
    if (!start_space(&space))
        return NULL;
    space_set_zero_levels(space, 1);
    if (SUCCEEDS(user_code_install(space)))
        return space;
    end_space(space);
    return NULL;
}

static void bench_run(const struct options *options)
{
    bool were_on = machine_interrupts_off(); /* keeps the watchdog's timer out of figures */
    struct space *space;

    if (pmm_usage().by_kind[FRAME_FREE] < BENCH_MEMORY / PAGE_SIZE) {
        machine_interrupts_restore(were_on);
        experiment_skip_rest("less than %lu MiB are free", BENCH_MEMORY / MIB);
        return;
    }
    bench.random = random_from(options->seed);
    /* Every fault clears its own page, and frames come from the caches as they are filled here. */
    pmm_idle_pause();
    pmm_drain();
    calibrate();
    space = bench_start_space();
    if (ktap_check(space != NULL, "user code is in place")) {
        bench_fault_rows();
        bench_range_rows();
        bench_cow_rows();
        end_space(space);
        bench_fork_rows();
        bench_many_rows();
        bench_sharer_rows();
        bench_swap_rows();
        bench_frame_rows();
        bench_kernel_rows();
    }
    pmm_idle_resume();
    machine_interrupts_restore(were_on);
}

EXPERIMENT(bench, 430) = {
    .theme = THEME_COST,
    .name = "bench",
    .question = "What does each path of the pager cost?",
    .spaces = 10000,
    .regions = EXPERIMENT_REGIONS_ANY,
    .checks = 102,
    .only_by_name = true,
    .reserves = true,
    .run = bench_run,
    .answer =
        {
            .text = "none; each figure is an answer of its own",
        },
};

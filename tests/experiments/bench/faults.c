/*
 * Rows of bench about single faults from ring 3: first touches, violations, and the calls that come
 * with each.
 *
 * First writes and reads include the page that makes each leaf table, as Linux's figures do.
 */
#include "cpu/trap/trap.h"
#include "tests/experiments/bench/bench.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"

/* Pages that lie far apart: one in each 2 MiB, or in each GiB. */
#define SPREAD 512U

#define BARRIERS 1024U

/* Handles a fault by stepping over the store: the floor of every fault. */
static bool bench_skip_store(uint64_t address, uint64_t error, struct trap_frame *frame)
{
    (void)address;
    (void)error;
    frame->rip += USER_CODE_STORE_LENGTH;
    return true;
}

/* Measures the floor. The buffer is resident already, so the handler skips only the faults of this
 * row. */
static void null_fault(void)
{
    bool (*handler)(uint64_t, uint64_t, struct trap_frame *) = trap_page_fault;
    bool ok;

    bench_set_overhead(user_code_measure_nothing);
    trap_page_fault = bench_skip_store;
    ok = bench_run_user_code(user_code_measure_write, BENCH_START, PAGE_SIZE, BENCH_SAMPLES);
    trap_page_fault = handler;
    for (unsigned i = 0; i < BENCH_SAMPLES && ok; i++)
        bench_add(bench_user_ticks(i));
    bench_end_row("null_fault");
}

static void touch_rows(void)
{
    bench_set_overhead(user_code_measure_write);
    if (bench_map(BENCH_START, BENCH_SAMPLES))
        bench_measure(user_code_measure_write, BENCH_START, PAGE_SIZE, BENCH_SAMPLES);
    bench_end_row("anon_first_write");
    bench_set_overhead(user_code_measure_read);
    if (bench_unmap(BENCH_START, BENCH_SAMPLES) && bench_map(BENCH_START, BENCH_SAMPLES))
        bench_measure(user_code_measure_read, BENCH_START, PAGE_SIZE, BENCH_SAMPLES);
    bench_end_row("zero_read");
    bench_set_overhead(user_code_measure_write);
    bench_measure(user_code_measure_write, BENCH_START, PAGE_SIZE, BENCH_SAMPLES);
    bench_end_row("zero_to_private");
    (void)bench_unmap(BENCH_START, BENCH_SAMPLES);
}

static void write_spread(const char *row, uint64_t stride)
{
    for (unsigned i = 0; i < SPREAD; i++)
        bench_list(i, BENCH_START + i * stride);
    if (bench_map(BENCH_START, SPREAD * (stride / PAGE_SIZE))) {
        bench_measure(user_code_measure_listed_write, 0, 0, SPREAD);
        (void)bench_unmap(BENCH_START, SPREAD * (stride / PAGE_SIZE));
    }
    bench_end_row(row);
}

/* Writes in order where each brings sixteen pages: the whole time, shared by the pages. */
static bool write_groups(void)
{
    uint64_t ticks = 0;

    if (!bench_map(BENCH_START, BENCH_SAMPLES) ||
        !SUCCEEDS(space_advise(space_current(), BENCH_START, BENCH_SIZE, SPACE_SEQUENTIAL)) ||
        !bench_touch(BENCH_START, BENCH_SAMPLES))
        return false;
    for (unsigned i = 0; i < BENCH_SAMPLES; i++)
        ticks += bench_above_overhead(bench_user_ticks(i));
    bench_add_net(ticks / BENCH_SAMPLES);
    return bench_unmap(BENCH_START, BENCH_SAMPLES);
}

/* Reads pages that are resident in their section, and that this space does not map: don't-need has
 * unmapped them. With groups, one fault may map several; the time is shared by all pages. */
static void shared_row(const char *row, bool in_groups)
{
    struct space *space = space_current();
    uint64_t ticks = 0;

    if (in_groups && !SUCCEEDS(space_advise(space, BENCH_START, BENCH_SIZE, SPACE_SEQUENTIAL)))
        return;
    if (SUCCEEDS(space_advise(space, BENCH_START, BENCH_SIZE, SPACE_DONT_NEED)) &&
        bench_run_user_code(user_code_measure_read, BENCH_START, PAGE_SIZE, BENCH_SAMPLES)) {
        for (unsigned i = 0; i < BENCH_SAMPLES; i++) {
            ticks += bench_above_overhead(bench_user_ticks(i));
            if (!in_groups)
                bench_add(bench_user_ticks(i));
        }
        if (in_groups)
            bench_add_net(ticks / BENCH_SAMPLES);
    }
    bench_end_row(row);
}

static void shared_rows(void)
{
    struct space_request request =
        SPACE_AT(BENCH_START, BENCH_SIZE, RIGHTS_READ_WRITE, .flags = SPACE_SHARED);

    bench_set_overhead(user_code_measure_read);
    if (!SUCCEEDS(space_map(space_current(), &request, NULL)) ||
        !bench_touch(BENCH_START, BENCH_SAMPLES))
        return;
    shared_row("shared_touch", false);
    shared_row("shared_touch_16", true);
    (void)bench_unmap(BENCH_START, BENCH_SAMPLES);
}

/* Stores to a page, or where nothing is, reach the program's handler, which steps over them. */
static void violation_rows(void)
{
    struct space *space = space_current();

    bench_set_overhead(user_code_measure_nothing);
    if (SUCCEEDS(space_map(
            space, &SPACE_AT(BENCH_START, PAGE_SIZE, ((struct rights){.none = true})), NULL)))
        bench_measure(user_code_measure_write, BENCH_START, 0, BENCH_SAMPLES);
    bench_end_row("violation");
    if (bench_unmap(BENCH_START, 1) && bench_map(BENCH_START, 1) && word_write(BENCH_START, 1) &&
        SUCCEEDS(space_protect(space, BENCH_START, PAGE_SIZE, RIGHTS_READ)))
        bench_measure(user_code_measure_write, BENCH_START, 0, BENCH_SAMPLES);
    bench_end_row("violation_read_only");
    bench_measure(user_code_measure_write, BENCH_START + GIB, 0, BENCH_SAMPLES);
    bench_end_row("violation_unmapped");
}

/* Measures the write barrier of a garbage collector: the handler makes the page writable and the
 * store is repeated. The collector then makes the page read-only again, which is not measured. */
static void barrier_row(void)
{
    bench_set_overhead(user_code_measure_write);
    for (unsigned i = 0; i < BARRIERS; i++) {
        if (!bench_run_with_handler(user_code_measure_write, user_code_allow_handler, BENCH_START,
                                    0, 1) ||
            !SUCCEEDS(space_protect(space_current(), BENCH_START, PAGE_SIZE, RIGHTS_READ)))
            break;
        bench_add(bench_user_ticks(0));
    }
    bench_end_row("gc_barrier");
    (void)bench_unmap(BENCH_START, 1);
}

void bench_fault_rows(void)
{
    bool ok = true;

    null_fault();
    touch_rows();
    write_spread("first_write_each_2m", 2 * MIB);
    write_spread("first_write_each_1g", GIB);
    for (unsigned i = 0; i < 16 && ok; i++)
        ok = write_groups();
    bench_end_row("around_16");
    shared_rows();
    violation_rows();
    barrier_row();
    bench_set_overhead(user_code_measure_nothing);
    bench_measure(user_code_measure_call, 0, 0, BENCH_SAMPLES);
    bench_end_row("null_syscall");
}

/*
 * Rows of bench about swapping to the AHCI disk: 4,096 pages, of which 2,048 may be resident.
 *
 * Linux's figures exclude the time in which the processor halts for the disk. Here the ticks of HLT
 * are subtracted as well, or those of polling if the disk has no interrupts. Linux has no check
 * values of pages: the cost of one for each page written or read is subtracted, and has its own
 * row.
 */
#include "cpu/interrupts/idle_halt.h"
#include "cpu/machine.h"
#include "swapdisk/ahci/ahci.h"
#include "swapdisk/area.h"
#include "swapdisk/area/slots.h"
#include "tests/experiments/bench/bench.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"
#include "vmm/page/page.h"

#define SWAPPED  4096U
#define RESIDENT 2048U
#define CHUNK    512U /* accesses of one sample */
#define CHECKS   64U

static uint64_t check_ticks; /* of one page */

static void check_row(void)
{
    const uint64_t *page = page_of_tag(1);

    bench_time_readings();
    for (unsigned i = 0; i < CHECKS; i++) {
        uint64_t began = machine_ticks();
        uint32_t value = slots_check_value((struct slot){i}, i, page);

        bench_add(machine_ticks() - began);
        CHECK(value != 0);
    }
    check_ticks = bench_end_row("swap_check_page");
}

/* Returns the ticks for which this processor has waited for the disk without any work. */
static uint64_t bench_disk_ticks(void)
{
    return idle_halted_ticks() + ahci_polled_ticks();
}

/* Runs a user code on listed or consecutive pages; the sample is the work of each page that came
 * in. */
static bool swap_chunk(const char *code, uint64_t first)
{
    struct swap_usage before = swap_usage();
    uint64_t waited = bench_disk_ticks();
    uint64_t ticks = 0;
    uint64_t values;
    uint64_t in;

    if (!bench_run_user_code(code, first, PAGE_SIZE, CHUNK))
        return false;
    waited = bench_disk_ticks() - waited;
    in = swap_usage().pages_read - before.pages_read;
    values = in + swap_usage().pages_written - before.pages_written;
    for (unsigned i = 0; i < CHUNK; i++)
        ticks += bench_above_overhead(bench_user_ticks(i));
    if (in > 0)
        bench_add_net((ticks - waited - values * check_ticks) / in);
    return true;
}

static bool swap_in_order(const char *code)
{
    bool ok = true;

    for (unsigned i = 0; i < SWAPPED && ok; i += CHUNK)
        ok = swap_chunk(code, BENCH_FAR + i * PAGE_SIZE);
    return ok;
}

static bool swap_at_random(const char *code, struct random *random)
{
    bool ok = true;

    for (unsigned done = 0; done < SWAPPED && ok; done += CHUNK) {
        for (unsigned i = 0; i < CHUNK; i++)
            bench_list(i, BENCH_FAR + random_below(random, SWAPPED) * PAGE_SIZE);
        ok = swap_chunk(code, 0);
    }
    return ok;
}

static bool swap_random_passes(const char *code, struct random *random, unsigned passes)
{
    bool ok = true;

    for (; passes > 0 && ok; passes--)
        ok = swap_at_random(code, random);
    return ok;
}

/* Measures the rows. Half of the pages are swapped out. An unmeasured random pass precedes each
 * random row, so that memory holds the pages that such accesses leave, clean before reads. */
static void swap_rows(void)
{
    struct random random = random_from(1);

    bench_set_overhead(user_code_measure_write);
    (void)swap_in_order(user_code_measure_write);
    bench_end_row("swap_seq_write");
    if (swap_random_passes(user_code_measure_listed_write, &random, 1)) {
        bench_drop_samples();
        (void)swap_at_random(user_code_measure_listed_write, &random);
    }
    bench_end_row("swap_rand_write");
    bench_set_overhead(user_code_measure_read);
    if (swap_random_passes(user_code_measure_listed_read, &random, 2)) {
        bench_drop_samples();
        (void)swap_at_random(user_code_measure_listed_read, &random);
    }
    bench_end_row("swap_rand_read");
}

void bench_swap_rows(void)
{
    struct space *space;

    check_row();
    if (swap_usage().backing != SWAP_BACKING_DISK || swap_usage().slots < 2 * SWAPPED) {
        for (unsigned i = 0; i < 3; i++)
            ktap_skip("there is no swap disk, or it is small", "swapping");
        return;
    }
    space = bench_start_space();
    if (space == NULL)
        return;
    page_set_limit(RESIDENT);
    if (bench_map(BENCH_FAR, SWAPPED) && bench_touch(BENCH_FAR, SWAPPED))
        swap_rows();
    page_set_limit(UINT64_MAX);
    end_space(space);
}

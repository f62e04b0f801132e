/*
 * trace: how many faults has a program of your own under each policy?
 *
 * Replays the trace of trace=FILE: a page for each object, with memory for half of them. The first
 * request for a page writes it; the others read it and compare. The figures are faults under each
 * policy and the clocks, beside OPT and an LRU that knows every use, these two for several sizes of
 * memory.
 *
 * The check: each page held what was written, and no policy has fewer faults than OPT.
 */
#include "efi/trace/trace.h"
#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/print.h"
#include "tests/experiments/policy/run.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"

#define EIGHTHS_LEAST 8U /* objects, so that an eighth of them is a memory */

static const unsigned eighths[] = {1, 2, 4, 6};

static struct page_string trace_string;
static bool written[TRACE_PAGES_MAX];

_Static_assert(TRACE_REQUESTS_MAX <= PAGE_STRING_MAX && TRACE_PAGES_MAX <= PAGE_STRING_PAGES,
               "a trace fits a string of pages");

/* Returns the word that a page of the trace holds. */
static uint64_t trace_word(unsigned page)
{
    return page * UINT64_C(0x9e3779b97f4a7c15) | 1;
}

static bool request(unsigned page)
{
    uint64_t address = WORK_START + page * PAGE_SIZE;
    uint64_t word;

    page_string_add(&trace_string, page);
    if (written[page])
        return word_read(address, &word) && word == trace_word(page);
    written[page] = true;
    return word_write(address, trace_word(page));
}

static bool run_trace(void)
{
    const struct trace *trace = trace_given();
    bool right = true;

    memset(written, 0, sizeof(written));
    for (unsigned i = 0; right && i < trace->requests; i++)
        right = request(trace->page[i]);
    return right;
}

static const struct workload replay = {"trace", run_trace};

/* Runs the trace under a policy; the first run makes the string, from which OPT follows. */
static bool replay_under(unsigned place, unsigned memory, uint64_t *opt)
{
    struct work_figures figures = {0};
    bool right = work_run(&replay, place, &trace_string, &figures);

    if (place == 0)
        *opt = page_string_opt(&trace_string, memory);
    work_put_figure("faults", work_policy_name(place), "all", figures.faults, "faults");
    work_put_figure("reads", work_policy_name(place), "all", figures.read, "pages");
    return right && figures.faults >= *opt;
}

static void put_trace_curve(unsigned pages)
{
    for (unsigned i = 0; i < ARRAY_COUNT(eighths); i++) {
        unsigned memory = pages * eighths[i] / 8;
        char what[16];

        print_to(what, sizeof(what), "%u", memory);
        work_put_figure("curve", "opt", what, page_string_opt(&trace_string, memory), "faults");
        work_put_figure("curve", "lru", what, page_string_lru(&trace_string, memory), "faults");
    }
}

static void trace_run(const struct options *options)
{
    const struct trace *trace = trace_given();
    unsigned count = work_policies();
    bool right = true;
    uint64_t opt = 0;

    (void)options;
    if (trace == NULL || trace->pages < EIGHTHS_LEAST) {
        experiment_skip_rest(trace == NULL ? "no trace is given by trace="
                                           : "the trace has fewer than 8 objects");
        return;
    }
    if (!work_memory_begin(trace->pages, trace->pages / 2))
        return;
    for (unsigned place = 0; place < count; place++)
        right &= replay_under(place, trace->pages / 2, &opt);
    work_memory_end();
    ktap_metric("faults.opt", opt, "faults");
    ktap_metric("faults.lru_informed", page_string_lru(&trace_string, trace->pages / 2), "faults");
    ktap_metric("memory", trace->pages / 2, "pages");
    put_trace_curve(trace->pages);
    ktap_check(right,
               "%u requests for %u objects: right under %u policies, none has fewer faults "
               "than OPT",
               trace->requests, trace->pages, count);
}

EXPERIMENT(trace, 433) = {
    .theme = THEME_COST,
    .name = "trace",
    .question = "How many faults has a program of your own under each policy?",
    .only_by_name = true, /* it needs trace= */
    .checks = 1,
    .run = trace_run,
    .answer =
        {
            .text = "{faults.2q.all} with 2Q, {faults.clocks.all} with the clocks; S3-FIFO "
                    "{faults.s3fifo.all}, LIRS {faults.lirs.all}, ARC {faults.arc.all}, LRU "
                    "{faults.lru.all}, OPT {faults.opt}, in {memory} pages of memory",
            .limit = "objects of more than a page, and which requests write",
        },
};

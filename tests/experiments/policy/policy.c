/*
 * policy: which page should be evicted when memory is full?
 *
 * Runs each workload once with each policy, and with the clocks that this code ships, in a memory
 * of half the pages. Each run goes through real faults, A bits and the swap area. The figures are
 * faults (first touches and pages read back), pages read and written, and looks of reclaim at a
 * page; beside them the faults of OPT and of an LRU that knows every use, for several sizes of
 * memory: the miss-ratio curve.
 *
 * The checks: each workload's result is right under every policy, and none has fewer faults than
 * OPT; policies differ from each other.
 */
#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/print.h"
#include "tests/experiments/policy/run.h"
#include "tests/runner/experiment.h"

#define WORKLOADS_MAX 16U
#define NAME_SIZE     16U

static const unsigned memories[] = {16, 32, 48, 64, 96};

static struct page_string policy_string;
static uint64_t policy_opt; /* faults of the workload under OPT */

/* Of each policy; place 0 has the clocks. */
static struct work_figures totals[POLICIES_MAX];
static struct work_figures single[WORKLOADS_MAX][POLICIES_MAX];

static bool run_under_policy(unsigned number, unsigned place)
{
    struct work_figures figures = {0};
    bool right = work_run(&workloads[number], place, &policy_string, &figures);

    single[number][place] = figures;
    totals[place].faults += figures.faults;
    totals[place].read += figures.read;
    totals[place].written += figures.written;
    totals[place].looks += figures.looks;
    totals[place].ticks += figures.ticks;
    if (place == 0) /* the string is the same under every policy */
        policy_opt = page_string_opt(&policy_string, WORK_MEMORY);
    return right && figures.faults >= policy_opt;
}

/* Prints the miss-ratio curve. The string of references is the same under every policy; the last
 * run's is used. */
static void put_curve(const struct workload *workload, uint64_t *opt, uint64_t *lru)
{
    char what[NAME_SIZE];

    for (unsigned i = 0; i < ARRAY_COUNT(memories); i++) {
        print_to(what, sizeof(what), "%u", memories[i]);
        work_put_figure(workload->name, "curve_opt", what,
                        page_string_opt(&policy_string, memories[i]), "faults");
        work_put_figure(workload->name, "curve_lru", what,
                        page_string_lru(&policy_string, memories[i]), "faults");
    }
    *opt += page_string_opt(&policy_string, WORK_MEMORY);
    *lru += page_string_lru(&policy_string, WORK_MEMORY);
    work_put_figure(workload->name, "string", "references", policy_string.length, "references");
}

static void put_single(const char *workload, unsigned place, const struct work_figures *figures)
{
    work_put_figure(workload, work_policy_name(place), "faults", figures->faults, "faults");
    work_put_figure(workload, work_policy_name(place), "reads", figures->read, "pages");
    work_put_figure(workload, work_policy_name(place), "writes", figures->written, "pages");
    work_put_figure(workload, work_policy_name(place), "looks", figures->looks, "pages");
}

/* Prints the totals before other figures: an answer can use only the first figures of an
 * experiment. */
static void put_all(unsigned count, uint64_t opt, uint64_t lru)
{
    work_put_figure("total", "opt", "faults", opt, "faults");
    work_put_figure("total", "lru_informed", "faults", lru, "faults");
    for (unsigned place = 0; place < count; place++) {
        work_put_figure("total", work_policy_name(place), "faults", totals[place].faults, "faults");
        work_put_figure("total", work_policy_name(place), "writes", totals[place].written, "pages");
        work_put_figure("total", work_policy_name(place), "looks", totals[place].looks, "pages");
        work_put_figure("total", work_policy_name(place), "ticks", totals[place].ticks, "ticks");
    }
    for (unsigned i = 0; i < workload_count; i++) {
        for (unsigned place = 0; place < count; place++)
            put_single(workloads[i].name, place, &single[i][place]);
    }
}

static bool policies_differ(unsigned count)
{
    for (unsigned i = 1; i < count; i++) {
        for (unsigned j = 1; j < i; j++) {
            if (totals[i].faults == totals[j].faults)
                return false;
        }
    }
    return true;
}

static void policy_run(const struct options *options)
{
    uint64_t opt = 0;
    uint64_t lru = 0;
    unsigned count = work_policies();

    (void)options;
    CHECK(workload_count <= WORKLOADS_MAX && count <= POLICIES_MAX);
    memset(totals, 0, sizeof(totals));
    if (!work_memory_begin(WORK_PAGES, WORK_MEMORY))
        return;
    for (unsigned i = 0; i < workload_count; i++) {
        bool right = true;

        for (unsigned place = 0; place < count; place++)
            right &= run_under_policy(i, place);
        ktap_check(right, "%s: right under %u policies, none has fewer faults than OPT",
                   workloads[i].name, count);
        put_curve(&workloads[i], &opt, &lru);
    }
    work_memory_end();
    put_all(count, opt, lru);
    ktap_check(policies_differ(count), "no two policies have the same faults");
}

static unsigned policy_more_checks(void)
{
    return workload_count;
}

EXPERIMENT(policy, 431) = {
    .theme = THEME_COST,
    .name = "policy",
    .question = "Which page should go when memory is full?",
    .only_by_name = true, /* it takes long */
    .checks = 1,
    .more_checks = policy_more_checks,
    .run = policy_run,
    .answer =
        {
            .text = "2Q has {total.2q.faults} faults, the shipped clocks "
                    "{total.clocks.faults}; S3-FIFO {total.s3fifo.faults}, LIRS "
                    "{total.lirs.faults}, ARC {total.arc.faults}, LRU {total.lru.faults}, OPT "
                    "{total.opt.faults}",
            .shipped = "the clocks, whose looks at pages are fewer than those of 2Q",
            .limit = "memory of more than 64 pages, and programs with more than one workload",
        },
};

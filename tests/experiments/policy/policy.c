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
#include "cpu/machine.h"
#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/print.h"
#include "swapdisk/area.h"
#include "tests/experiments/policy/workloads.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"
#include "vmm/fault/fault.h"
#include "vmm/page/managed.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"

#define POLICIES_MAX  32U
#define WORKLOADS_MAX 16U
#define NAME_SIZE     64U

static const unsigned memories[] = {16, 32, 48, 64, 96};

struct policy_figures {
    uint64_t faults;
    uint64_t read;
    uint64_t written;
    uint64_t looks;
    uint64_t ticks;
};

static struct page_string policy_string;

/* Of each policy; place 0 has the clocks. */
static struct policy_figures totals[POLICIES_MAX];
static struct policy_figures single[WORKLOADS_MAX][POLICIES_MAX];

static const char *policy_name(unsigned place)
{
    return place == 0 ? "clocks" : policy_at(place - 1)->name;
}

static void policy_put_figure(const char *first, const char *second, const char *what,
                              uint64_t value, const char *unit)
{
    char name[NAME_SIZE];

    print_to(name, sizeof(name), "%s.%s.%s", first, second, what);
    ktap_metric(name, value, unit);
}

/* Returns the counters so far. Two differ by the figures of the run between them. */
static struct policy_figures figures_now(const struct space *space)
{
    struct swap_usage usage = swap_usage();
    struct fault_counts faults = space_faults(space);

    return (struct policy_figures){.faults = faults.first_write + faults.swap_in,
                                   .read = usage.pages_read,
                                   .written = usage.pages_written,
                                   .looks = reclaim_counts().looked_at,
                                   .ticks = machine_ticks()};
}

/* Runs a workload in a new space under the policy that was chosen. */
static bool run_workload(const struct workload *workload, struct policy_figures *figures)
{
    struct policy_figures before;
    struct space *space;
    bool right;

    if (!start_space(&space))
        return false;
    right = SUCCEEDS(
        space_map(space, &SPACE_AT(WORK_START, WORK_PAGES * PAGE_SIZE, RIGHTS_READ_WRITE), NULL));
    work_begin(&policy_string);
    before = figures_now(space);
    right = right && workload->run() && work_ended_well();
    *figures = figures_now(space);
    figures->faults -= before.faults;
    figures->read -= before.read;
    figures->written -= before.written;
    figures->looks -= before.looks;
    figures->ticks -= before.ticks;
    end_space(space);
    return right;
}

static bool run_under_policy(unsigned number, unsigned place)
{
    const struct workload *workload = &workloads[number];
    struct policy_figures figures = {0};
    bool right;

    if (place > 0 && !SUCCEEDS(managed_choose(policy_at(place - 1), WORK_PAGES)))
        return false;
    right = run_workload(workload, &figures);
    if (place > 0)
        right &= SUCCEEDS(managed_choose(NULL, 0));
    single[number][place] = figures;
    totals[place].faults += figures.faults;
    totals[place].read += figures.read;
    totals[place].written += figures.written;
    totals[place].looks += figures.looks;
    totals[place].ticks += figures.ticks;
    return right && figures.faults >= page_string_opt(&policy_string, WORK_MEMORY);
}

/* Prints the miss-ratio curve. The string of references is the same under every policy; the last
 * run's is used. */
static void put_curve(const struct workload *workload, uint64_t *opt, uint64_t *lru)
{
    char what[NAME_SIZE];

    for (unsigned i = 0; i < ARRAY_COUNT(memories); i++) {
        print_to(what, sizeof(what), "%u", memories[i]);
        policy_put_figure(workload->name, "curve_opt", what,
                          page_string_opt(&policy_string, memories[i]), "faults");
        policy_put_figure(workload->name, "curve_lru", what,
                          page_string_lru(&policy_string, memories[i]), "faults");
    }
    *opt += page_string_opt(&policy_string, WORK_MEMORY);
    *lru += page_string_lru(&policy_string, WORK_MEMORY);
    policy_put_figure(workload->name, "string", "references", policy_string.length, "references");
}

static void put_single(const char *workload, unsigned place, const struct policy_figures *figures)
{
    policy_put_figure(workload, policy_name(place), "faults", figures->faults, "faults");
    policy_put_figure(workload, policy_name(place), "reads", figures->read, "pages");
    policy_put_figure(workload, policy_name(place), "writes", figures->written, "pages");
    policy_put_figure(workload, policy_name(place), "looks", figures->looks, "pages");
}

/* Prints the totals before other figures: an answer can use only the first figures of an
 * experiment. */
static void put_all(unsigned count, uint64_t opt, uint64_t lru)
{
    policy_put_figure("total", "opt", "faults", opt, "faults");
    policy_put_figure("total", "lru_informed", "faults", lru, "faults");
    for (unsigned place = 0; place < count; place++) {
        policy_put_figure("total", policy_name(place), "faults", totals[place].faults, "faults");
        policy_put_figure("total", policy_name(place), "writes", totals[place].written, "pages");
        policy_put_figure("total", policy_name(place), "looks", totals[place].looks, "pages");
        policy_put_figure("total", policy_name(place), "ticks", totals[place].ticks, "ticks");
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
    const struct policy *before = managed_policy;
    uint64_t limit = resident_limit;
    uint64_t opt = 0;
    uint64_t lru = 0;
    unsigned count = 1;

    (void)options;
    CHECK(workload_count <= WORKLOADS_MAX);
    memset(totals, 0, sizeof(totals));
    if (before != NULL || swap_usage().slots < 2 * WORK_PAGES) {
        experiment_skip_rest("policy= is given, or the swap area is too small");
        return;
    }
    while (count < POLICIES_MAX && policy_at(count - 1) != NULL)
        count++;
    page_set_limit(page_resident() + WORK_MEMORY);
    read_ahead_allow(false);     /* each fault brings one page, as OPT's, */
    reclaim_allow_zeroes(false); /* and each page that is out needs one */
    for (unsigned i = 0; i < workload_count; i++) {
        bool right = true;

        for (unsigned place = 0; place < count; place++)
            right &= run_under_policy(i, place);
        ktap_check(right, "%s: right under %u policies, none has fewer faults than OPT",
                   workloads[i].name, count);
        put_curve(&workloads[i], &opt, &lru);
    }
    read_ahead_allow(true);
    reclaim_allow_zeroes(true);
    page_set_limit(limit);
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

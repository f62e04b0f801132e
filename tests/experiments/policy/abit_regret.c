/*
 * abit-regret: what does a policy lose because it sees uses only by A bits?
 *
 * Runs workloads with each policy, through real faults and the processor's A bits, in a memory
 * of half the pages. Then the same policy gets the same string of references once more, without
 * pages, and learns of each use at once; and by A bits harvested after each so many references. The
 * regret is the faults that the first run had more.
 *
 * The checks: each workload's result is right; nothing has fewer faults than OPT; LRU that knows
 * each use faults as often as a plain one, and FIFO, which asks for no bits, as often as in the
 * real run: so the string and the memory are those of the real run.
 */
#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/ktap.h"
#include "lib/print.h"
#include "tests/experiments/policy/run.h"
#include "tests/model/policy_string.h"
#include "tests/runner/experiment.h"

/* References between two harvests of the simulated runs. */
static const unsigned intervals[] = {10, 100, 1000};

#define INTERVALS ARRAY_COUNT(intervals)
#define WORKLOADS 6U /* the first ones, of plain patterns: all of them take minutes */

/* Faults of one policy. */
struct regret {
    uint64_t real; /* with the processor's A bits */
    uint64_t informed;
    uint64_t harvested[INTERVALS];
};

static struct page_string regret_string;
static uint64_t regret_opt; /* faults of the workload under OPT, and of LRU that knows each use */
static uint64_t regret_lru;
static struct regret regrets[POLICIES_MAX]; /* over the workloads */
static struct regret single_regrets[WORKLOADS][POLICIES_MAX];

/* Returns true if the faults are no fewer than OPT's, and LRU's are those of its own string. */
static bool faults_as_known(const struct policy *policy, const struct regret *regret)
{
    if (regret->real < regret_opt || regret->informed < regret_opt)
        return false;
    return strcmp(policy->name, "lru") != 0 || regret->informed == regret_lru;
}

/* Runs a workload under one policy, for real and by its string. */
static bool run_both(unsigned number, unsigned place)
{
    const struct policy *policy = policy_at(place - 1);
    struct work_figures figures = {0};
    struct regret now = {0};
    bool right = work_run(&workloads[number], place, &regret_string, &figures);

    if (place == 1) { /* the string is the same under every policy */
        regret_opt = page_string_opt(&regret_string, WORK_MEMORY);
        regret_lru = page_string_lru(&regret_string, WORK_MEMORY);
    }
    now.real = figures.faults;
    right = right &&
            SUCCEEDS(policy_string_faults(policy, &regret_string, WORK_MEMORY, 0, &now.informed));
    for (unsigned i = 0; right && i < INTERVALS; i++)
        right = SUCCEEDS(policy_string_faults(policy, &regret_string, WORK_MEMORY, intervals[i],
                                              &now.harvested[i]));
    regrets[place].real += now.real;
    regrets[place].informed += now.informed;
    for (unsigned i = 0; i < INTERVALS; i++)
        regrets[place].harvested[i] += now.harvested[i];
    single_regrets[number][place] = now;
    return right && faults_as_known(policy, &now);
}

/* Returns true if FIFO, which asks for no bits, faults as often with them as without. */
static bool fifo_regrets_nothing(unsigned count)
{
    for (unsigned place = 1; place < count; place++) {
        const struct regret *sum = &regrets[place];

        if (strcmp(work_policy_name(place), "fifo") == 0)
            return sum->real == sum->informed && sum->harvested[0] == sum->informed;
    }
    return false;
}

/* Prints the sums over the workloads, before other figures: an answer can use only the first ones
 * of an experiment. */
static void put_regret_sums(unsigned count)
{
    unsigned losers = 0;
    char what[16];

    for (unsigned place = 1; place < count; place++)
        losers += regrets[place].real > regrets[place].informed;
    ktap_metric("policies", count - 1, "policies");
    ktap_metric("losers", losers, "policies");
    for (unsigned place = 1; place < count; place++) {
        const char *name = work_policy_name(place);
        const struct regret *sum = &regrets[place];

        work_put_figure("total", name, "real", sum->real, "faults");
        work_put_figure("total", name, "informed", sum->informed, "faults");
        for (unsigned i = 0; i < INTERVALS; i++) {
            print_to(what, sizeof(what), "every_%u", intervals[i]);
            work_put_figure("total", name, what, sum->harvested[i], "faults");
        }
    }
}

static void put_single_regrets(unsigned count)
{
    for (unsigned i = 0; i < WORKLOADS; i++) {
        for (unsigned place = 1; place < count; place++) {
            const struct regret *single = &single_regrets[i][place];

            work_put_figure(workloads[i].name, work_policy_name(place), "real", single->real,
                            "faults");
            work_put_figure(workloads[i].name, work_policy_name(place), "informed",
                            single->informed, "faults");
        }
    }
}

static void abit_regret_run(const struct options *options)
{
    unsigned count = work_policies();

    (void)options;
    CHECK(workload_count >= WORKLOADS);
    memset(regrets, 0, sizeof(regrets));
    if (!work_memory_begin(WORK_PAGES, WORK_MEMORY))
        return;
    for (unsigned i = 0; i < WORKLOADS; i++) {
        bool right = true;

        for (unsigned place = 1; place < count; place++)
            right &= run_both(i, place);
        ktap_check(right, "%s: right under %u policies, and with the faults that are known",
                   workloads[i].name, count - 1);
    }
    work_memory_end();
    put_regret_sums(count);
    put_single_regrets(count);
    ktap_check(fifo_regrets_nothing(count), "FIFO, which asks for no bits, loses nothing");
}

static unsigned abit_regret_checks(void)
{
    return WORKLOADS;
}

EXPERIMENT(abit_regret, 432) = {
    .theme = THEME_COST,
    .name = "abit-regret",
    .question = "What does a policy lose that sees uses only by accessed bits?",
    .only_by_name = true, /* it takes long */
    .checks = 1,
    .more_checks = abit_regret_checks,
    .run = abit_regret_run,
    .answer =
        {
            .text = "{losers} of {policies} policies fault more; LIRS {total.lirs.real}, not "
                    "{total.lirs.informed}, 2Q {total.2q.real}, not {total.2q.informed}, LRU "
                    "{total.lru.real}, not {total.lru.informed}",
            .limit = "memory of more than 64 pages; a policy that asks whether a page is dirty",
        },
};

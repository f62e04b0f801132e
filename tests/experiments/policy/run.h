/*
 * Runs of the workloads under each policy, for the experiments `policy` and `abit-regret`: each in
 * a new space, through real faults, A bits and the swap area, with few resident pages.
 *
 * Units: as workloads.h; places of policies: 0 has the clocks that this code ships, the others
 * those of policy_at. Owns: the limit of resident pages from work_memory_begin to work_memory_end.
 * Context: thread, with no policy running. Fails with: false, after the call has logged why.
 */
#ifndef TESTS_EXPERIMENTS_POLICY_RUN_H
#define TESTS_EXPERIMENTS_POLICY_RUN_H

#include "tests/experiments/policy/workloads.h"

#define POLICIES_MAX 32U

struct work_figures {
    uint64_t faults; /* first touches, and pages that were read back */
    uint64_t read;
    uint64_t written;
    uint64_t looks; /* of reclaim at a page */
    uint64_t ticks;
};

/* Returns the number of places, at most POLICIES_MAX, and the name of one. */
unsigned work_policies(void);
const char *work_policy_name(unsigned place);

/* Limits memory for runs over `pages` pages from WORK_START, of which `memory` are resident at
 * once: each fault brings one page. Otherwise skips the experiment's rest and returns false. */
bool work_memory_begin(unsigned pages, unsigned memory);
void work_memory_end(void);

/* Runs a workload and records its references. Returns true if its result was right. */
bool work_run(const struct workload *workload, unsigned place, struct page_string *string,
              struct work_figures *figures);

/* Prints the figure FIRST.SECOND.WHAT. */
void work_put_figure(const char *first, const char *second, const char *what, uint64_t value,
                     const char *unit);

#endif

/* Runs of the workloads under each policy. */
#include "tests/experiments/policy/run.h"

#include "cpu/machine.h"
#include "lib/check.h"
#include "lib/print.h"
#include "swapdisk/area.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"
#include "vmm/fault/fault.h"
#include "vmm/page/managed.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"

#define NAME_SIZE 64U

static uint64_t limit_before;
static unsigned work_pages; /* mapped for each run */

unsigned work_policies(void)
{
    unsigned count = 1;

    while (count < POLICIES_MAX && policy_at(count - 1) != NULL)
        count++;
    CHECK(count > 1);
    return count;
}

const char *work_policy_name(unsigned place)
{
    return place == 0 ? "clocks" : policy_at(place - 1)->name;
}

void work_put_figure(const char *first, const char *second, const char *what, uint64_t value,
                     const char *unit)
{
    char name[NAME_SIZE];

    print_to(name, sizeof(name), "%s.%s.%s", first, second, what);
    ktap_metric(name, value, unit);
}

bool work_memory_begin(unsigned pages, unsigned memory)
{
    if (managed_policy != NULL || swap_usage().slots < 2 * pages) {
        experiment_skip_rest("policy= is given, or the swap area is too small");
        return false;
    }
    work_pages = pages;
    limit_before = resident_limit;
    page_set_limit(page_resident() + memory);
    read_ahead_allow(false);     /* each fault brings one page, as OPT's, */
    reclaim_allow_zeroes(false); /* and each page that is out needs one */
    return true;
}

void work_memory_end(void)
{
    read_ahead_allow(true);
    reclaim_allow_zeroes(true);
    page_set_limit(limit_before);
}

/* Returns the counters so far. Two differ by the figures of the run between them. */
static struct work_figures figures_now(const struct space *space)
{
    struct swap_usage usage = swap_usage();
    struct fault_counts faults = space_faults(space);

    return (struct work_figures){.faults = faults.first_write + faults.swap_in,
                                 .read = usage.pages_read,
                                 .written = usage.pages_written,
                                 .looks = reclaim_counts().looked_at,
                                 .ticks = machine_ticks()};
}

/* Runs a workload in a new space under the policy that was chosen. */
static bool run_workload(const struct workload *workload, struct page_string *string,
                         struct work_figures *figures)
{
    struct work_figures before;
    struct space *space;
    bool right;

    if (!start_space(&space))
        return false;
    right = SUCCEEDS(
        space_map(space, &SPACE_AT(WORK_START, work_pages * PAGE_SIZE, RIGHTS_READ_WRITE), NULL));
    work_begin(string);
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

bool work_run(const struct workload *workload, unsigned place, struct page_string *string,
              struct work_figures *figures)
{
    bool right;

    if (place > 0 && !SUCCEEDS(managed_choose(policy_at(place - 1), work_pages)))
        return false;
    right = run_workload(workload, string, figures);
    if (place > 0)
        right &= SUCCEEDS(managed_choose(NULL, 0));
    return right;
}

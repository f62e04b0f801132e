/*
 * no-memory: does a failed allocation leave everything unchanged?
 *
 * One scenario (a space, a mapping, pages, a fork, copies on write, an unmap) is run again and
 * again; in the n-th run the n-th allocation and all after it fail, for every n until a run needs
 * no more than n - 1. Each run ends with an even ledger, also if it fails.
 */
#include "pmm/pmm.h"
#include "tests/runner/experiment.h"
#include "tests/runner/ledger.h"
#include "tests/runner/user_pages.h"

#define START UINT64_C(0x500000000)
#define PAGES 12U

/* Pages lie in tables of their own. */
#define STRIDE (2 * MIB)

/* No scenario of this size makes more allocations. */
#define RUNS_MAX 500U

/* AUDIT walks the record of every frame; the ledger is compared after each run. */
#define AUDIT_EVERY 16U

static bool no_memory_touch(unsigned seed)
{
    for (unsigned i = 0; i < PAGES; i++) {
        if (!word_write(START + i * STRIDE, seed + i))
            return false;
    }
    return true;
}

static bool check(unsigned seed)
{
    for (unsigned i = 0; i < PAGES; i++) {
        uint64_t value = 0;

        if (!word_read(START + i * STRIDE, &value) || value != seed + i)
            return false;
    }
    return true;
}

static bool fork_and_copy(struct space *parent)
{
    struct space *child;
    bool ok;

    if (space_fork(parent, &child) != OK)
        return false;
    space_switch(child);
    ok = no_memory_touch(200) && check(200);
    space_switch(parent);
    ok = ok && check(100);
    space_destroy(child);
    return ok;
}

/* Returns whether the whole scenario went through. */
static bool scenario(void)
{
    struct space *space;
    bool ok;

    if (space_create(&space) != OK)
        return false;
    space_switch(space);
    ok = space_map(space, &SPACE_AT(START, PAGES * STRIDE, RIGHTS_READ_WRITE), NULL) == OK &&
         no_memory_touch(100) && fork_and_copy(space) &&
         space_unmap(space, START + STRIDE, STRIDE) == OK;
    space_switch(NULL);
    space_destroy(space);
    return ok;
}

static void no_memory_run(const struct options *options)
{
    struct ledger before = ledger_take();
    unsigned uneven = 0;
    unsigned n = 0;
    bool whole = false;

    (void)options;
    pmm_idle_pause(); /* which allocation fails is counted over all processors */
    ktap_check(scenario(), "the scenario goes through with memory");
    while (n < RUNS_MAX && !whole) {
        n++;
        pmm_fail_from(n, UINT64_MAX);
        whole = scenario();
        pmm_fail_from(0, 0);
        uneven += !ledger_even(&before);
        if (n % AUDIT_EVERY == 0)
            space_audit();
    }
    ktap_metric("allocations", n - 1, "allocations");
    ktap_check(whole && n > PAGES, "%u places to fail were tried", n - 1);
    ktap_check(uneven == 0, "the ledger was even after each: %u were not", uneven);
    ktap_check(scenario(), "the scenario goes through again");
    pmm_idle_resume();
}

EXPERIMENT(no_memory, 190) = {
    .theme = THEME_FRAMES,
    .name = "no-memory",
    .question = "Does every allocation that fails leave things as they were?",
    .spaces = 2,
    .checks = 4,
    .run = no_memory_run,
    .answer =
        {
            .text = "Yes: each of {allocations} allocations failed; each count is as before",
        },
};

/*
 * An experiment: a question, figures, and checks that fail when the machinery is wrong.
 *
 * Each experiment is one object in the list of tests/runner/experiments.c. It runs in a thread of
 * its own making, creates the address spaces it needs, reports through lib/ktap.h as many checks as
 * it has planned, and leaves the ledger even: the runner compares after each.
 *
 * Units: as each figure says. Context: thread, interrupts as the run has them.
 */
#ifndef TESTS_RUNNER_EXPERIMENT_H
#define TESTS_RUNNER_EXPERIMENT_H

#include <stdbool.h>

#include "lib/bootinfo.h"
#include "lib/ktap.h"
#include "lib/random.h"

struct experiment {
    const char *name;
    const char *question;
    unsigned checks;   /* without the ledger's, which the runner adds */
    bool only_by_name; /* not among `all` and not by a glob: it crashes or waits on purpose */
    bool
        reserves; /* promises itself more than the machine has: no overcommit policy but `always` */
    void (*run)(const struct options *options);
};

/* The list, ended by NULL. */
extern const struct experiment *const experiments[];

#endif

/*
 * An experiment: a question, figures, and checks that fail when the code under test is wrong.
 *
 * A file of tests/experiments defines one by EXPERIMENT. The macro puts a pointer to it into a
 * section of the image, and the runner walks that section, so an experiment needs no entry in a
 * list. docs/extend.md has a worked example.
 *
 * State: the runner begins the suite and calls `run` in the kernel's own address space. `run`
 * creates the spaces that it needs, reports `checks` checks through lib/ktap.h, and frees all that
 * it took: the runner compares the ledger before and after. The runner then prints the answer.
 * Context: thread, interrupts on.
 */
#ifndef TESTS_RUNNER_EXPERIMENT_H
#define TESTS_RUNNER_EXPERIMENT_H

#include <stdbool.h>

#include "lib/bootinfo.h"
#include "lib/ktap.h"
#include "lib/random.h"
#include "lib/status.h"
#include "tests/runner/answer.h"

/* The headings under which a report lists experiments. */
enum theme {
    THEME_PAGES,     /* how a page fault becomes a page */
    THEME_TABLES,    /* page tables, descriptors and tickets */
    THEME_PROCESSOR, /* MMU, TLB and other processors */
    THEME_FRAMES,    /* physical memory and its limits */
    THEME_RANDOM,    /* random operations, compared with a model */
    THEME_COST,      /* costs beside those of Linux */
    THEME_CRASHES,   /* crashes on purpose */
    THEMES
};

struct experiment {
    const char *name;
    const char *question;
    enum theme theme;
    bool only_by_name; /* excluded from `all` and from globs: it crashes, waits or takes long */
    bool reserves;     /* maps more than fits into memory: runs with overcommit=always */
    unsigned spaces;   /* address spaces that it has at once, and gets; 0: one. Skipped if spaces=
                        * allows fewer. */
    uint32_t regions;  /* most regions of one space, which it gets; 0: EXPERIMENT_REGIONS. Skipped
                        * if regions= allows fewer. */
    unsigned checks;   /* without the check of the ledger, which the runner adds */
    unsigned (*more_checks)(void); /* checks that depend on the image or machine; NULL: none */
    void (*run)(const struct options *options);
    struct answer answer;
};

#define EXPERIMENT_REGIONS     16U
#define EXPERIMENT_REGIONS_ANY UINT32_MAX /* as many as the seed, or the machine, brings about */

/* Defines the experiment `identifier`_experiment. Experiments run by ascending order, which has
 * three digits; those of one order run as their files are linked, by name. */
#define EXPERIMENT(identifier, order)                                                              \
    static const struct experiment identifier##_experiment;                                        \
    static const struct experiment *const identifier##_in_image                                    \
        __attribute__((used, section(".experiments." #order))) = &identifier##_experiment;         \
    _Static_assert(sizeof(#order) == 4, "three digits, since the linker sorts them as text");      \
    static const struct experiment identifier##_experiment

/* Returns the experiment that runs at this place, from 0; NULL behind the last. */
const struct experiment *experiment_at(unsigned place);

/* Panics if two experiments have the same name. */
void experiments_audit(void);

/* Prints name and question of each experiment under its theme. */
void experiments_print(void);

/* Whether a call returns OK. If it does not, notes the call and its status, so that the log of a
 * refused mapping says more than that checks are missing. */
#define SUCCEEDS(call) experiment_succeeds((call), #call)

static inline bool experiment_succeeds(enum status status, const char *call)
{
    if (status != OK)
        ktap_note("%s: %s", call, status_name(status));
    return status == OK;
}

/* Returns whether overcommit=never still promises this many pages, with the limit of resident pages
 * as it is set now; true under the other policies. If not, prints how many it promises. */
bool experiment_may_promise(uint64_t pages);

/* Skips all checks of the running experiment that it has not made yet, for a reason such as "the
 * swap area is too small". The runner still checks the ledger. */
void experiment_skip_rest(const char *format, ...) PRINTF_LIKE(1, 2);

#endif

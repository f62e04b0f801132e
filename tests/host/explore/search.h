/*
 * Searching the schedules of a scenario for one that breaks something.
 *
 * First all serial orders of the operations, which give the right outcomes; then runs that find the
 * shared words; then all schedules of few preemptions, or evenly spread ones where there are too
 * many; then random ones by priorities.
 *
 * Owns: its figures, in memory that restoring leaves alone. Context: host tests.
 */
#ifndef TESTS_HOST_EXPLORE_SEARCH_H
#define TESTS_HOST_EXPLORE_SEARCH_H

#include "tests/host/explore/run.h"

#define FAILURES_MAX 16U

struct search_limits {
    unsigned bound;     /* preemptions */
    unsigned schedules; /* with at most `bound` preemptions, for each first processor */
    unsigned random;    /* schedules drawn */
    unsigned depth;     /* changes of priority in each */
    unsigned thin;      /* run_settings */
    unsigned delays;    /* run_settings: not 0 for store buffers */
    uint64_t seed;      /* seed of random runs and of the first thinned schedule */
    bool stops;         /* stops at the first failure */
};

#define SEARCH_LIMITS_USUAL                                                                        \
    {                                                                                              \
        .bound = 1, .schedules = 400, .random = 100, .depth = 3, .thin = 6, .delays = 1, .seed = 1 \
    }

/* Failures of one kind: the same words but for numbers. */
struct search_failure {
    char key[200];
    unsigned times;
    unsigned schedule; /* the number of the first one */
};

struct search_figures {
    unsigned serial;
    unsigned learning;
    unsigned bounded;
    unsigned random;
    unsigned stride; /* one point in this many was tried */
    unsigned points; /* points of the longest run without preemptions */
    unsigned words;  /* shared */
    unsigned failure_count;
    struct search_failure failures[FAILURES_MAX];
};

/* Initialises the search. Called before scenario_start. */
void search_init(void);

/* Searches the scenario, which has been started. Prints the first failure of each kind with its
 * schedule and trace, as "# " lines. */
const struct search_figures *search_scenario(const struct search_limits *limits);

/* Runs one schedule, given as text, and prints its trace. Returns true if nothing broke; false,
 * with words, if the text is no schedule. */
bool search_replay(const char *schedule);

#endif

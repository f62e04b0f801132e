/*
 * Scenarios: a set-up, programs that run at once, and the checks afterwards.
 *
 * Owns: the world of one process, which has one scenario. State: scenario_start ->
 * (scenario_program | scenario_check)*, with memory restored between.
 * Fails with: panics; a text that is no program ends the process with words.
 * Context: host tests.
 */
#ifndef TESTS_HOST_EXPLORE_SCENARIO_H
#define TESTS_HOST_EXPLORE_SCENARIO_H

#include "tests/host/explore/program.h"
#include "tests/host/explore/run.h"

#define SCENARIO_MEMORY (UINT64_C(8) << 20)
#define OUTCOME_MAX     600U

struct scenario {
    unsigned processors;
    char set_up[200]; /* a name of scenario_set_ups, or a program */
    char text[RUN_PROCESSORS_MAX][400];
    struct program programs[RUN_PROCESSORS_MAX];
    struct result results[RUN_PROCESSORS_MAX][OPERATIONS_MAX];
};

extern struct scenario scenario;

/* Reads "SET-UP PROGRAM PROGRAM [PROGRAM]"; false with words in wrong. */
bool scenario_parse(const char *text, char *wrong, size_t size);

/* Starts the machine, makes the set-up, and keeps memory as it is then. */
void scenario_start(void);

/* Runs the program of processor `number`. */
void scenario_program(unsigned number);

/* Performs all operations outside of a schedule, in an order of processors' numbers. */
void scenario_serial(const uint8_t *order, unsigned count);

/* Checks the state, writes the part that programs can see (OUTCOME_MAX bytes), ends all spaces and
 * checks that nothing is left. Panics on a failure. */
void scenario_check(char *outcome);

/* Set-ups by name. */
struct set_up {
    const char *name;
    const char *program;
};
extern const struct set_up scenario_set_ups[]; /* ends with a name of NULL */

#endif

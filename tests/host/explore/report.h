/*
 * Schedules as text, and readable traces of runs.
 *
 * A schedule is the number of the first processor and the accesses before which another one
 * continues, with colons between: 0:141:584. With three processors each access also has the next
 * processor: 0:141>2:584>1. Context: host tests, outside of a schedule.
 */
#ifndef TESTS_HOST_EXPLORE_REPORT_H
#define TESTS_HOST_EXPLORE_REPORT_H

#include "tests/host/explore/run.h"

/* Initialises the reports. Called before scenario_start. */
void report_init(void);

/* Reads a schedule. Returns false if the text is not one. */
bool report_parse_schedule(const char *text, struct run_schedule *schedule);

/* Prints the run's schedule as a "# " line. */
void report_schedule(const struct run *run);

/* Prints why a run ended early. */
void report_end(const struct run *run, char *words, size_t size);

/* Prints the trace of a run with source lines, as "# " lines. */
void report_trace(const struct run *run);

#endif

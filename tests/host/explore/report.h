/*
 * Schedules as text, and what happened in a run for people to read.
 *
 * A schedule is the processor that begins and the accesses before which another one goes on, with
 * colons between: 0:141:584. Of three processors each access says which one: 0:141>2:584>1.
 * Context: host tests, outside of a schedule.
 */
#ifndef TESTS_HOST_EXPLORE_REPORT_H
#define TESTS_HOST_EXPLORE_REPORT_H

#include "tests/host/explore/run.h"

/* Before scenario_start. */
void report_init(void);

/* Reads a schedule; false when the text is none. */
bool report_parse_schedule(const char *text, struct run_schedule *schedule);

/* Prints the run's schedule as a "# " line. */
void report_schedule(const struct run *run);

/* Says how a run ended that did not come to its end. */
void report_end(const struct run *run, char *words, size_t size);

/* Prints what the processors did in turn, with the lines of the sources, as "# " lines. */
void report_trace(const struct run *run);

#endif

/*
 * Between the files of the experiment bench: rows are added to here and there, and put out in one
 * way.
 *
 * Units: ticks of the time-stamp counter; the log has instructions where a tick is a number of
 * them. State: bench_time_readings -> bench_add, as often as wanted -> bench_end_row -> the next
 * row. Context: thread, one at a time.
 */
#ifndef TESTS_EXPERIMENTS_BENCH_BENCH_H
#define TESTS_EXPERIMENTS_BENCH_BENCH_H

#include <stdint.h>

/* What two readings of the counter take is no part of the samples of the next rows. */
void bench_time_readings(void);

void bench_add(uint64_t ticks);

/* Prints the row's figures; a row without samples is a failed check. Returns the median, 0 when
 * there is none. */
uint64_t bench_end_row(const char *row);

/* The rows of bench_calls.c: large pages, late faults, large maps, merges, populated maps,
 * exits. */
void bench_call_rows(void);

/* Those of bench_forks.c: 5 rows, and a check that a fork costs the same at each size. */
void bench_fork_rows(void);

#endif

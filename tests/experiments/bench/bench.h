/*
 * Between the files of the experiment bench: samples are added anywhere, and printed in one way.
 *
 * A program in ring 3 makes the accesses and calls that are measured, and times each by two
 * readings of the time-stamp counter. The same readings around nothing are subtracted.
 *
 * Units: ticks of the time-stamp counter; the log has instructions where a tick is a number of
 * them. State: bench_set_overhead or bench_time_readings -> bench_add, any number of times ->
 * bench_end_row -> the next row. Context: thread, one at a time, in a space with user code.
 */
#ifndef TESTS_EXPERIMENTS_BENCH_BENCH_H
#define TESTS_EXPERIMENTS_BENCH_BENCH_H

#include <stdint.h>

#include "tests/runner/user_code.h"

/* Samples of a row at most, and pages that a row touches. */
#define BENCH_SAMPLES 4096U
#define BENCH_SIZE    (BENCH_SAMPLES * PAGE_SIZE)

/* Where rows map their memory: a third-level table of its own, and a top entry of its own. */
#define BENCH_START UINT64_C(0x600000000)
#define BENCH_FAR   UINT64_C(0x8000000000)

/* ---- figures ---- */

/* Measures the cost of two readings of the counter in the kernel; later samples exclude it. */
void bench_time_readings(void);

/* Measures the user code with an access that does not fault; later samples exclude that cost. */
void bench_set_overhead(const char *code);

/* Adds a sample as it was measured, with the overhead. */
void bench_add(uint64_t ticks);

/* Returns measured ticks without the overhead; adds a sample that has none. */
uint64_t bench_above_overhead(uint64_t ticks);
void bench_add_net(uint64_t ticks);

/* Forgets the samples since the last row. */
void bench_drop_samples(void);

/* Prints the row's figures; a row without samples is a failed check. Returns the median, 0 if there
 * is none. */
uint64_t bench_end_row(const char *row);

/* ---- a program in ring 3, in the space that runs ---- */

/* Runs a user code count times from an address on. Its ticks are in the buffer then. */
bool bench_run_user_code(const char *code, uint64_t first, uint64_t step, uint64_t count);

/* Does the same with another handler of violations than the one that skips the store. */
bool bench_run_with_handler(const char *code, const char *handler, uint64_t first, uint64_t step,
                            uint64_t count);

/* Returns the ticks of the run's access of this number. */
uint64_t bench_user_ticks(uint64_t number);

/* Runs a user code and adds each of its accesses as a sample. */
void bench_measure(const char *code, uint64_t first, uint64_t step, unsigned count);

/* Writes each page of a range. */
bool bench_touch(uint64_t start, uint64_t pages);

/* Puts an address into the list of the listed user codes. */
void bench_list(unsigned number, uint64_t address);

/* Lists pages from the address on in a random order, each once. */
void bench_list_shuffled(uint64_t start, unsigned pages);

/* Makes one system call on a range; returns whether it was OK. */
bool bench_call(enum program_call call, uint64_t start, uint64_t size, uint64_t argument,
                uint64_t *ticks);

/* Maps memory that can be read and written; unmaps it. */
bool bench_map(uint64_t start, uint64_t pages);
bool bench_unmap(uint64_t start, uint64_t pages);

/* Ends a space whole: nothing of it is left for later. */
void bench_end_whole(struct space *space);

/* Creates a space with user code, which runs from now on: single zero pages only, as Linux has
 * them. NULL: there is none, which the log says. */
struct space *bench_start_space(void);

/* ---- the rows, by file ---- */

void bench_fault_rows(void);  /* faults.c: 13 rows */
void bench_range_rows(void);  /* ranges.c: 13 rows, and a check */
void bench_cow_rows(void);    /* cow.c: 7 rows */
void bench_fork_rows(void);   /* forks.c: 10 rows, and a check that each size costs the same */
void bench_many_rows(void);   /* regions.c: 20 rows, and 2 checks of growth */
void bench_sharer_rows(void); /* sharers.c: 17 rows, and 3 checks */
void bench_swap_rows(void);   /* swap_rows.c: 4 rows */
void bench_frame_rows(void);  /* frames.c: 2 rows */
void bench_kernel_rows(void); /* calls.c: 6 rows */

#endif

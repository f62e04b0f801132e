/*
 * The watchdog and the deadline: the time limits of a run.
 *
 * The watchdog ends a run without progress as a crash, whose report shows where every processor
 * was. Progress is a line of the log, a finished command of a disk, or a change in how many frames
 * are used: a slow disk is not a stuck run. The deadline ends any run.
 *
 * Every processor looks once a second, so the others notice a processor that is stuck with
 * interrupts off, and stop it by NMI. A machine with one processor, stuck with interrupts off,
 * needs a limit from outside.
 *
 * Units: seconds; the deadline counts from the start of the clock. Owns: the once-a-second call of
 * each processor. Context: thread.
 */
#ifndef TESTS_RUNNER_WATCHDOG_H
#define TESTS_RUNNER_WATCHDOG_H

#include <stdint.h>

/* Starts both limits; 0 means no limit. At the deadline, end_run is called with interrupts off, in
 * any state of the run, and must not return. */
void limits_start(uint32_t watchdog, uint32_t deadline, void (*end_run)(void));

/* Looks now, and begins this processor's second anew. Called before each experiment, so that where
 * ticks count instructions the interrupt of the second falls on the same instruction of the
 * experiment in each run, or on none if the experiment is short. */
void limits_next(void);

/* Ends both: a run that has its verdict may wait for a person. */
void limits_end(void);

#endif

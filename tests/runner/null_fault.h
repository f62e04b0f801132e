/*
 * The floor: the cost of an empty fault, and costs as multiples of it.
 *
 * An empty fault is delivery, entry, a handler that steps over the instruction, and return. No
 * fault on the same machine costs less, so multiples of the floor can be compared between machines.
 *
 * Units: ticks; floors with two decimals. Owns: the last measured floor. State: call
 * null_fault_measure() at the start of an experiment, then null_fault_metric() for each figure.
 * Context: thread; no other code may fault during the measurement. Cannot fail.
 */
#ifndef TESTS_RUNNER_NULL_FAULT_H
#define TESTS_RUNNER_NULL_FAULT_H

#include <stdint.h>

/* Measures an empty fault of ring 0, prints it as the figure `floor`, and returns its ticks. */
uint64_t null_fault_measure(void);

/* Prints a cost as two figures: `name` in ticks, and `name.of_floor` as a multiple of the floor. */
void null_fault_metric(const char *name, uint64_t ticks);

/* Does so under the name `what`.`which`, of at most 63 characters. */
void null_fault_metric_of(const char *what, const char *which, uint64_t ticks);

#endif

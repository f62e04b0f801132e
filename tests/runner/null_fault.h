/*
 * The floor: what an empty fault costs, and figures of cost as multiples of it.
 *
 * An empty fault is delivery, the entry, a handler that steps over the instruction, and the return.
 * No fault of this machine can cost less, whatever its handler does, so a cost that is said as a
 * share of the floor can be compared between machines.
 *
 * Units: ticks; percent of the floor. Owns: the last measured floor. State: null_fault_measure, at
 * the start of an experiment, then null_fault_metric as often as wanted. Context: thread; nobody
 * else faults meanwhile. Fails with: nothing.
 */
#ifndef TESTS_RUNNER_NULL_FAULT_H
#define TESTS_RUNNER_NULL_FAULT_H

#include <stdint.h>

/* Measures an empty fault of ring 0, prints it as the figure `floor`, and returns its ticks. */
uint64_t null_fault_measure(void);

/* A figure of cost: `name` in ticks, and `name.of_floor` in percent of the floor. */
void null_fault_metric(const char *name, uint64_t ticks);

/* The same with a name that is put together; at most 63 characters. */
void null_fault_metric_of(const char *what, const char *which, uint64_t ticks);

#endif

/*
 * The model of address spaces on the host: a simulated machine under it, comparison of all that
 * there is, and memory that runs out.
 *
 * State: model_start (once a process) -> model_begin -> (model_choose, model_perform)* ->
 * model_end -> model_begin ...
 * Fails with: a panic with values; the seed and the operation are printed with it.
 * Context: host tests.
 */
#ifndef TESTS_HOST_MODEL_SPACE_MODEL_HOST_H
#define TESTS_HOST_MODEL_SPACE_MODEL_HOST_H

#include "tests/model/space.h"

/* A simulated machine with vmm/, once a process. The swap area is opened by the test. */
void model_start(uint64_t memory);

/* The same with a swap area in memory, of so many slots; what a set-up of cmocka returns. */
int model_start_with_swap(uint64_t memory, uint32_t slots);

/* Destroys all spaces, and proves that everything was given back. */
void model_end(void);

/* Compares all that there is: audits, the second audit, every page of every space, the TLB. */
void model_check(void);

/* The same without the audits: what the spaces mean. */
void model_compare(void);

/* An access of the running space by one instruction of a program, which faults as often as it
 * takes: how often, and where the address leads; -1: refused. */
int model_touch(uint64_t address, bool write, struct phys *physical);

/* Takes frames away, or gives them back, until so many are free. */
void model_leave_frames(uint64_t frames);

/* How many operations tests may make in all, and the seed: FAULTLINE_TEST_OPS, FAULTLINE_TEST_SEED.
 */
uint64_t model_ops(uint64_t otherwise);
uint64_t model_seed(void);

#endif

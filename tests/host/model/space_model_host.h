/*
 * The model of address spaces on the host: on a simulated machine, with full comparison, and with
 * memory that runs out.
 *
 * State: model_start (once a process) -> model_begin -> (model_choose, model_perform)* ->
 * model_end -> model_begin ...
 * Fails with: a panic with values; the seed and the operation are printed with it.
 * Context: host tests.
 */
#ifndef TESTS_HOST_MODEL_SPACE_MODEL_HOST_H
#define TESTS_HOST_MODEL_SPACE_MODEL_HOST_H

#include "tests/model/space.h"
#include "vmm/fault/fault.h"

/* Starts a simulated machine with vmm/, once in a process. The test opens the swap area. */
void model_start(uint64_t memory);

/* As model_start, with a swap area in memory of this many slots. Returns 0, for cmocka. */
int model_start_with_swap(uint64_t memory, uint32_t slots);

/* Destroys all spaces, and checks that everything was freed. */
void model_end(void);

/* Compares everything: both audits, every page of every space, the TLB. */
void model_check(void);

/* Compares the pages only, without the audits. */
void model_compare(void);

/* Performs an access by one instruction of a program, with all faults that it needs. Returns the
 * number of faults, and the physical address; -1: refused. */
int model_touch(uint64_t address, bool write, struct phys *physical);

/* Lets a page come as an access does, sets A, and D for a write, and returns the place of the byte.
 * The access must be allowed, and the page be mapped by a leaf table. */
uint8_t *model_byte(struct space *space, uint64_t address, struct fault_access access);

/* Allocates or frees frames until this many are free. */
void model_leave_frames(uint64_t frames);

/* Return the number of operations of all tests, and the seed: FAULTLINE_TEST_OPS,
 * FAULTLINE_TEST_SEED. */
uint64_t model_ops(uint64_t otherwise);
uint64_t model_seed(void);

#endif

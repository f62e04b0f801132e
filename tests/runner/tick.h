/*
 * What a tick of the time-stamp counter is: time, or a number of instructions.
 *
 * Units: ticks an instruction. Owns: nothing. Context: any.
 */
#ifndef TESTS_RUNNER_TICK_H
#define TESTS_RUNNER_TICK_H

#include <stdint.h>

/* Under an emulator that counts instructions (QEMU's -icount) how many ticks each takes; 0 when a
 * tick is no number of instructions. */
uint64_t ticks_per_instruction(void);

#endif

/*
 * Tells whether a tick of the time-stamp counter is time or a number of instructions.
 *
 * Units: ticks an instruction. Owns: nothing. Context: any.
 */
#ifndef TESTS_RUNNER_TICK_H
#define TESTS_RUNNER_TICK_H

#include <stdint.h>

/* Returns the ticks of one instruction, in an emulator that counts instructions (QEMU's -icount);
 * 0 if ticks measure time. */
uint64_t ticks_per_instruction(void);

#endif

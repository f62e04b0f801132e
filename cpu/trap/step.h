/*
 * Stepping: every instruction of every page fault, shown to a visitor before it is executed.
 *
 * A debug register stops the processor at the first instruction of the page fault's entry, and the
 * trap flag at each one after it, up to the return to ring 3. The stepped code is unchanged: off,
 * stepping costs nothing; on, each instruction costs a trap, so instructions can be counted but not
 * ticks.
 *
 * Owns: DR0, DR7 and the handler of #DB, from step_begin to step_end.
 * State: off -> step_begin -> on -> step_end -> off.
 * Fails with: nothing. Context: thread; the visitor runs in a trap with interrupts off.
 * Spec: Intel SDM volume 3, 17.2 (debug registers), 17.3.1 (#DB), 17.3.1.4 (single step).
 */
#ifndef CPU_TRAP_STEP_H
#define CPU_TRAP_STEP_H

#include <stdint.h>

#include "cpu/points.h"

void step_begin(void (*visit)(uint64_t rip));
void step_end(void);

/* Returns the point at this address, or POINTS. */
unsigned step_point_at(uint64_t rip);

#endif

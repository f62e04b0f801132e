/*
 * How an idle processor halts, and for how long: a benchmark subtracts the time for which it had
 * nothing to do.
 *
 * Units: ticks of machine_ticks. Owns: a counter for each processor. State: running -> (idle_halt)
 * -> halted -> (an interrupt, or idle_halt_ends in it) -> running. Fails with: nothing. Context:
 * idle_halt with interrupts off; the others any. Spec: Intel SDM volume 2A, HLT.
 */
#ifndef CPU_INTERRUPTS_IDLE_HALT_H
#define CPU_INTERRUPTS_IDLE_HALT_H

#include <stdbool.h>
#include <stdint.h>

/* Halts until an interrupt, or only pauses if no timer would ever end that. Interrupts are off
 * before and after. */
void idle_halt(bool timer_runs);

/* Ends the halt in the interrupt that ended it: the handler's own work then counts as work. A
 * handler that does not call this counts as part of the halt. */
void idle_halt_ends(void);

/* Returns the ticks for which this processor has halted since it started. */
uint64_t idle_halted_ticks(void);

#endif

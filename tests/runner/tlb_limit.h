/*
 * Up to how many pages a TLB batch drops one by one on this machine: measured before the first
 * experiment, put in force, and told in the log.
 *
 * Units: pages, ticks. Owns: nothing. Context: thread in the kernel's own root.
 */
#ifndef TESTS_RUNNER_TLB_LIMIT_H
#define TESTS_RUNNER_TLB_LIMIT_H

/* Where a tick is a number of instructions, or the figures say nothing, the limit stays as it is,
 * and the log says why. */
void tlb_limit_start(void);

#endif

/*
 * Measures how many pages a TLB batch should invalidate one by one on this machine, before it
 * flushes the whole TLB instead; sets and logs the limit.
 *
 * Units: pages, ticks. Owns: nothing. Context: thread in the kernel's own root.
 */
#ifndef TESTS_RUNNER_TLB_LIMIT_H
#define TESTS_RUNNER_TLB_LIMIT_H

/* Measures and sets the limit before the first experiment. If ticks count instructions or the
 * figures do not differ, keeps the default and logs the reason. */
void tlb_limit_start(void);

#endif

/*
 * What the fault handler asks of the processor besides cpu/machine.h: CR4, and the place where it
 * enters itself as the page-fault handler.
 *
 * Context: host tests. Cannot fail.
 */
#ifndef TESTS_HOST_FAKE_CPU_H
#define TESTS_HOST_FAKE_CPU_H

#include <stdint.h>

/* CR4 as the tested code and the software MMU see it: SMEP and SMAP are looked at. */
extern uint64_t fake_cr4;

#endif

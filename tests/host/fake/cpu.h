/*
 * The processor's part that the fault handler needs besides cpu/machine.h: CR4, and the slot in
 * which it registers itself.
 *
 * Context: host tests. Cannot fail.
 */
#ifndef TESTS_HOST_FAKE_CPU_H
#define TESTS_HOST_FAKE_CPU_H

#include <stdint.h>

/* CR4 as the tested code and the software MMU see it: both use SMEP and SMAP. */
extern uint64_t fake_cr4;

#endif

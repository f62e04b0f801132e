/*
 * TLB shootdown: its start, and settings for tests. cpu/machine.h declares the operation.
 *
 * Units: milliseconds. Owns: one request a processor. Context: any.
 */
#ifndef CPU_SMP_SHOOTDOWN_H
#define CPU_SMP_SHOOTDOWN_H

#include <stdint.h>

void shootdown_start(void);

/* Sets how long a processor may take to answer before the run ends as a crash. */
void shootdown_set_bound_ms(unsigned milliseconds);

struct shootdown_counts {
    uint64_t sent;   /* requests to one or more others */
    uint64_t served; /* answers given */
};

struct shootdown_counts shootdown_counts(void);

#endif

/*
 * TLB shootdown: what cpu/machine.h does not say of it, for its start and for tests.
 *
 * Units: milliseconds. Owns: one request a processor. Context: any.
 */
#ifndef CPU_SHOOT_H
#define CPU_SHOOT_H

#include <stdint.h>

void shoot_start(void);

/* How long a processor may take to answer before the run ends as a crash. */
void shoot_set_bound_ms(unsigned milliseconds);

struct shoot_counts {
    uint64_t sent;   /* requests to one or more others */
    uint64_t served; /* answers given */
};

struct shoot_counts shoot_counts(void);

#endif

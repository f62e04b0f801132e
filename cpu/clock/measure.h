/*
 * Times one instruction between two readings of the time-stamp counter, for benchmarks.
 *
 * The two readings are the same code around every kind of access, so the difference between an
 * access that faults and one that does not is the cost of the fault. Under -icount it is an exact
 * number of instructions: a faulting attempt and its delivery count nothing.
 *
 * Units: ticks. Context: thread; the address is accessed by ring 0, without an exception table.
 * Spec: Intel SDM volume 2, RDTSC.
 */
#ifndef CPU_CLOCK_MEASURE_H
#define CPU_CLOCK_MEASURE_H

#include <stdint.h>

/* Return the ticks that a load of 1 byte from the address takes, and a store to it. */
uint64_t measure_read(uint64_t address);
uint64_t measure_write(uint64_t address);

/* Bytes of the store instruction of measure_write: for a handler that skips it. */
#define MEASURE_WRITE_LENGTH 3U

/* Ticks around nothing, and around MEASURE_NOPS instructions that do nothing. */
#define MEASURE_NOPS 1000U
uint64_t measure_nothing(void);
uint64_t measure_nops(void);

#endif

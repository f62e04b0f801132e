/*
 * The clock: the time-stamp counter, calibrated once against a clock of known rate.
 *
 * Sources in order of trust: the ACPI PM timer (3.579545 MHz), the HPET, the PIT's channel 2
 * (1.193182 MHz), CPUID leaves 15H and 16H, and a guess of 1 GHz that the log shows as one. A
 * source is used only if it moves; the median of several measurements counts, and how far they lie
 * apart is told.
 *
 * Units: ticks of the TSC, nanoseconds. Owns: one record without pointers, so that a calibration
 * made before the image moves stays right after it.
 * Fails with: nothing. Every wait is bounded by a count, since there is no clock yet.
 * Context: time_init once, on either side of the handover; before it machine_now_ns takes the TSC
 * for 1 GHz. Under QEMU -icount the TSC is exactly 1 GHz of virtual time.
 * Spec: ACPI 6.4, 4.8.3.3 (PM timer); IA-PC HPET 1.0a; Intel 8254 data sheet; Intel SDM volume
 * 3, 18.7.3.
 */
#ifndef CPU_CLOCK_TIME_H
#define CPU_CLOCK_TIME_H

#include <stdbool.h>
#include <stdint.h>

enum time_source_kind { TIME_GUESS, TIME_CPUID, TIME_PIT, TIME_HPET, TIME_PM_TIMER };

struct time_source {
    enum time_source_kind kind;
    uint64_t hz;           /* of the TSC */
    uint64_t spread_ppm;   /* largest less smallest measurement, in millionths; 0 if not measured */
    unsigned measurements; /* behind hz; 0 for CPUID and the guess */
    enum time_source_kind refused; /* the first source whose rate was not believable */
    uint64_t refused_hz;           /* the rate that it gave; 0: none was refused */
};

/* Clocks of known rate that the firmware describes; the PIT is always at the same ports. */
struct time_clocks {
    uint16_t pm_timer_port; /* of the ACPI PM timer; 0 = none */
    bool pm_timer_32bit;    /* it counts 32 bits, else 24 */
    volatile void *hpet;    /* its registers, mapped and uncached; NULL = none */
};

/* Calibrates the clock. Time does not jump backwards meanwhile. */
void time_init(const struct time_clocks *clocks);

const struct time_source *time_source(void);

/* Returns the source's name, such as "ACPI PM timer". */
const char *time_source_name(enum time_source_kind kind);

/* ---- pure, in cpu/clock/scale.c ---- */

/* Ticks to nanoseconds by one multiplication: ns = ticks * multiplier / 2^shift, in 128 bits. */
struct time_scale {
    uint64_t multiplier;
    unsigned shift;
};

/* Returns the scale for a counter of this rate, exact to better than one part in 2^31. hz is not
 * 0. */
struct time_scale time_scale_of(uint64_t hz);

/* Returns ticks as nanoseconds, rounded down; correct if the result fits 64 bits. */
uint64_t time_scale_ns(struct time_scale scale, uint64_t ticks);

#endif

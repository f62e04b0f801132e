/*
 * The local APIC: interrupts from this processor to others, and its timer.
 *
 * Units: nanoseconds for the timer. Owns: the registers' place, the same on every processor.
 * State: none -> local_apic_mask on each processor -> ready.
 * Fails with: nothing; a processor that does not take an interrupt within a bound is the caller's
 * to notice. Context: any.
 * Spec: Intel SDM volume 3, 11.4 to 11.6, 11.12 (x2APIC).
 */
#ifndef CPU_INTERRUPTS_LOCAL_APIC_H
#define CPU_INTERRUPTS_LOCAL_APIC_H

#include <stdbool.h>
#include <stdint.h>

/* Interrupt command, low word: SDM volume 3, figure 11-12. */
#define ICR_FIXED UINT32_C(0x4000) /* with a vector */
#define ICR_NMI   UINT32_C(0x4400)
#define ICR_INIT  UINT32_C(0x4500)
#define ICR_SIPI  UINT32_C(0x4600) /* with the number of a page below 1 MiB */

/* Our interrupts. The higher the vector the higher its priority; 255 is the spurious one. */
#define VECTOR_TIMER  0xf0U
#define VECTOR_NOTICE 0xeeU /* the low-memory notice: vmm/program/run_machine.c */
#define VECTOR_WAKE   0xf1U
#define VECTOR_SHOOT  0xf2U
#define VECTOR_DISK   0xefU

/* Returns the physical address of the local APIC's registers (4 KiB), for the caller to map; 0 if
 * there is none, it is off, or it is in x2APIC mode and needs no mapping. */
uint64_t local_apic_base(void);

/* Masks every interrupt that the local APIC makes by itself, but an NMI line, and stops its timer.
 * registers: where the caller has mapped it, uncached; NULL in x2APIC mode. Without a local APIC
 * it does nothing. */
void local_apic_mask(volatile void *registers);

/* Returns whether an interrupt with this vector is in service in the local APIC; false without
 * one. */
bool local_apic_serves(unsigned vector);
void local_apic_end(void);

bool local_apic_present(void);
bool local_apic_is_x2(void);
uint32_t local_apic_id(void);

/* Sends an interrupt. Returns false if the previous one was not accepted within a bound. */
bool local_apic_send(uint32_t id, uint32_t command);

/* Measures the timer against the clock, once. Returns false if no timer counts. */
bool local_apic_timer_start(void);
uint64_t local_apic_timer_hz(void);

/* Arms one interrupt VECTOR_TIMER on this processor after ns nanoseconds, or earlier if the counter
 * cannot hold them. Replaces the one before; UINT64_MAX disarms. */
void local_apic_timer_arm(uint64_t ns);

#endif

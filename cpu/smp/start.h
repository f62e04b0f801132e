/*
 * Other processors: started one after the other by INIT and start-up interrupts.
 *
 * Units: milliseconds. Owns: the trampoline's page while a processor starts; the mask of processors
 * that run.
 * State of a processor: waiting for a start-up interrupt -> in the trampoline -> online.
 * Fails with: STATUS_TIMEOUT (it did not arrive within the bound, and was sent back to wait),
 * STATUS_UNSUPPORTED (no local APIC).
 * Context: the processor that booted, one call at a time, interrupts on or off.
 * Spec: Intel SDM volume 3, 8.4.4.1 (the sequence of interrupts).
 */
#ifndef CPU_SMP_START_H
#define CPU_SMP_START_H

#include "cpu/cpu.h"
#include "lib/status.h"
#include "lib/units.h"

struct cpu_start {
    uint32_t apic_id;
    unsigned number; /* that it gets: machine_cpu() there */
    struct cpu_stacks stacks;
    uint64_t stack;          /* top of its first stack, which its idle thread keeps */
    struct phys trampoline;  /* a page below 1 MiB, ours */
    void *trampoline_window; /* where that page can be written */
    struct phys root; /* below 4 GiB: the page one to one, executable, and the kernel's half */
    struct phys kernel_root;
    volatile void *local_apic; /* its registers; NULL in x2APIC mode */
};

/* Starts one and waits until it is online, at most bound_ms. */
MUST_USE enum status cpu_start(const struct cpu_start *how, unsigned bound_ms);

/* Adds a processor to those that run, which machine_processors() returns, one bit each. */
void cpu_set_online(unsigned number);

#endif

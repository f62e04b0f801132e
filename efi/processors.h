/*
 * The processors: reads the MADT, allocates stacks, starts them, and logs the result.
 *
 * Units: as cpu/smp/start.h. Owns: the stacks of all processors but the first's own, and their
 * names. State: processors_find (before boot services are left) -> processors_start ->
 * processors_print. Fails with: nothing; the log names processors that do not start, and the run
 * goes on without. Context: the start of the run.
 */
#ifndef EFI_PROCESSORS_H
#define EFI_PROCESSORS_H

#include "cpu/cpu.h"
#include "efi/acpi/acpi.h"

/* Reads the MADT. acpi is NULL if there are no tables. */
void processors_find(const struct acpi *acpi);

/* Allocates the stacks for a processor's traps, each with a named guard page. */
struct cpu_stacks processors_trap_stacks(unsigned number);

/* Starts the other processors, up to limit in all (0: no limit). registers: of the local APIC. */
void processors_start(uint32_t limit, volatile void *registers);

/* Returns how many processors run. */
unsigned processors_count(void);

/* Tries to start an absent processor, to test that the wait for it is bounded. */
MUST_USE enum status processors_try(uint32_t apic_id, unsigned bound_ms);

/* Logs how many processors run, and why others do not. */
void processors_print(void);

#endif

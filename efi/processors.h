/*
 * All processors: found in the MADT, given stacks, started, and told of in the log.
 *
 * Units: as cpu/smp/start.h. Owns: the stacks of all processors but the first's own, and their
 * names. State: processors_find (before boot services are left) -> processors_start ->
 * processors_print. Fails with: nothing: what cannot be started is named in the log and left out.
 * Context: the start of the run.
 */
#ifndef EFI_PROCESSORS_H
#define EFI_PROCESSORS_H

#include "cpu/cpu.h"
#include "efi/acpi/acpi.h"

/* Reads the MADT; acpi NULL: there are no tables. */
void processors_find(const struct acpi *acpi);

/* Stacks of the traps of a processor, each with a guard page that has a name. */
struct cpu_stacks processors_trap_stacks(unsigned number);

/* Starts the others, at most limit processors in all (0: no limit). registers: the local APIC's. */
void processors_start(uint32_t limit, volatile void *registers);

/* How many run. */
unsigned processors_count(void);

/* Tries to start a processor of this id, which is not there: for the test of the bound. */
MUST_USE enum status processors_try(uint32_t apic_id, unsigned bound_ms);

void processors_print(void);

#endif

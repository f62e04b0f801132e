/*
 * One processor's own tables and registers: GDT, TSS with its stacks, control registers.
 *
 * Owns: an array of struct cpu, one for each processor.
 * State: firmware's -> cpu_prepare_paging -> traps_init (cpu/trap/trap.h), which calls
 * cpu_load_tables and cpu_set_control_registers -> own.
 * Fails with: nothing. Context: cpu_prepare_paging on the firmware's tables after
 * ExitBootServices; the other two in the upper half with interrupts off; each once a processor.
 * Spec: Intel SDM volume 3, chapters 2 (registers), 3 (segments), 8.7 (TSS), 12.12
 * (PAT).
 */
#ifndef CPU_CPU_H
#define CPU_CPU_H

#include <stdbool.h>
#include <stdint.h>

/* Processors that the tables have room for. */
#define CPU_MAX 64U

/* Selectors, in the order that SYSRET wants: SS = STAR[63:48] + 8, CS = STAR[63:48] + 16. */
#define SELECTOR_KERNEL_CODE 0x08U
#define SELECTOR_KERNEL_DATA 0x10U
#define SELECTOR_USER_DATA   0x1bU
#define SELECTOR_USER_CODE   0x23U
#define SELECTOR_TSS         0x28U

/* The stacks of one processor for its TSS: tops, aligned to 16 bytes. */
struct cpu_stacks {
    uint64_t rsp0;          /* for traps from ring 3 */
    uint64_t double_fault;  /* IST 1 */
    uint64_t nmi;           /* IST 2 */
    uint64_t machine_check; /* IST 3 */
};

/* Makes the processor ready for tables with NX, global pages and write-combining: interrupts off,
 * EFER.NXE, the PAT, CR4.PGE, each where CPUID has it. Still on the firmware's tables.
 * PAT entry 4 (PAT = 1, PCD = PWT = 0) becomes write-combining; the others keep their default. */
void cpu_prepare_paging(void);

/* Loads the GDT and the TSS of the processor with this number, and points GS to its struct cpu. */
void cpu_load_tables(unsigned number, const struct cpu_stacks *stacks);

/* Sets CR0 and CR4 to the same bits on every processor. */
void cpu_set_control_registers(void);

/* Returns whether CR4.SMAP is on: then user memory is accessed between STAC and CLAC only. */
bool cpu_smap_on(void);

/* Returns the first address above the programs' half: 2^47, or 2^56 with five levels. */
uint64_t cpu_user_end(void);

/* Sets the id by which others interrupt this processor. */
void cpu_set_apic_id(uint32_t id);

/* Return the current control registers, for the log and for tests. */
uint64_t cpu_read_cr0(void);
uint64_t cpu_read_cr2(void);
uint64_t cpu_read_cr3(void);
uint64_t cpu_read_cr4(void);
uint64_t cpu_read_efer(void);

/* Halts this processor with interrupts off, for good. */
_Noreturn void cpu_halt(void);

#endif

/*
 * Per-CPU data: the descriptor tables and what the assembly reads through GS; for cpu/ only.
 *
 * Higher wings keep other per-CPU data in arrays of their own, indexed by machine_cpu(). Owns: one
 * struct cpu for each processor, indexed likewise; in ring 0 GS points to it. State: zero until
 * cpu_load_tables runs on that processor. Protectors: only its own processor writes a struct cpu,
 * but for apic_id, which cpu_start sets before that processor runs. Fails with: nothing. Context:
 * any. Spec: Intel SDM volume 3, 3.4.5 (descriptors), 8.7 (64-bit TSS).
 */
#ifndef CPU_PERCPU_H
#define CPU_PERCPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu/cpu.h"
#include "cpu/gs.h"
#include "cpu/machine.h"

#define GDT_ENTRIES 7U /* null, four segments, and a TSS descriptor of two */

/* Interrupt stacks of the TSS: a gate refers to index + 1. */
enum ist { IST_DOUBLE_FAULT, IST_NMI, IST_MACHINE_CHECK, IST_COUNT = 7 };

struct tss {
    uint32_t reserved_0;
    uint64_t rsp[3];
    uint64_t reserved_1;
    uint64_t ist[IST_COUNT];
    uint64_t reserved_2;
    uint16_t reserved_3;
    uint16_t io_map; /* at the limit or past it: there is none */
} __attribute__((packed));

_Static_assert(sizeof(struct tss) == 104, "SDM volume 3, figure 8-11");
_Static_assert(offsetof(struct tss, ist) == 36, "SDM volume 3, figure 8-11");
_Static_assert(offsetof(struct tss, io_map) == 102, "SDM volume 3, figure 8-11");

/* Operand of LGDT and LIDT. */
struct table_pointer {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

_Static_assert(sizeof(struct table_pointer) == 10, "SDM volume 2, LGDT");

struct fpu_state;
struct thread;

struct cpu {
    struct cpu *self; /* the first eight: cpu/gs.h */
    uint32_t number;
    uint64_t kernel_stack;
    uint64_t user_stack;
    void *space;
    const void *top;
    struct thread *current;                       /* NULL before threads_start */
    uint64_t counts[MACHINE_COUNTS];              /* only its own processor adds to them */
    struct tss tss __attribute__((aligned(128))); /* within one page: SDM volume 3, 8.2.1 */
    uint64_t gdt[GDT_ENTRIES];
    struct fpu_state *fpu; /* where a switch saves them; NULL: the thread runs no program */
    uint32_t apic_id;      /* by which others interrupt it */
};

_Static_assert(offsetof(struct cpu, self) == GS_SELF, "cpu/gs.h");
_Static_assert(offsetof(struct cpu, number) == GS_NUMBER, "cpu/gs.h");
_Static_assert(offsetof(struct cpu, kernel_stack) == GS_KERNEL_STACK, "cpu/gs.h");
_Static_assert(offsetof(struct cpu, user_stack) == GS_USER_STACK, "cpu/gs.h");
_Static_assert(offsetof(struct cpu, space) == GS_SPACE, "cpu/gs.h");
_Static_assert(offsetof(struct cpu, top) == GS_TOP, "cpu/gs.h");
_Static_assert(offsetof(struct cpu, current) == GS_THREAD, "cpu/gs.h");
_Static_assert(offsetof(struct cpu, counts) == GS_COUNTS, "cpu/gs.h");
_Static_assert(MACHINE_COUNTS == 5, "machine_counted adds so many");

extern struct cpu cpu_table[CPU_MAX];

/* Returns the running processor's record; before cpu_load_tables, while GS is the firmware's, that
 * of the first processor. */
struct cpu *cpu_self(void);

/* 1 while CR4.SMAP is on: read by the assembly, which must not execute STAC or CLAC without. */
extern uint8_t trap_smap;

/* The first address above the programs' half; 0 before cpu_set_control_registers. */
extern uint64_t trap_user_end;

#endif

/*
 * What each processor has of its own; shared between the files of cpu/ only.
 *
 * Owns: one struct cpu a processor, in an array indexed by machine_cpu(); in ring 0 GS points to
 * it. State: zero until cpu_init of that processor. Protectors: each field is its processor's own.
 * Fails with: nothing. Context: any.
 * Spec: Intel SDM volume 3, 3.4.5 (descriptors), 6.14.1 (gates), 8.7 (64-bit TSS).
 */
#ifndef CPU_PERCPU_H
#define CPU_PERCPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu/cpu.h"
#include "cpu/gs.h"
#include "cpu/machine.h"
#include "cpu/smp/thread.h"
#include "cpu/trap/trap.h"

#define GDT_ENTRIES 7U /* null, four segments, and a TSS descriptor of two */

/* Interrupt stacks of the TSS: index + 1 is what a gate names. */
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

struct idt_gate {
    uint16_t offset_low;
    uint16_t selector;
    uint8_t ist;
    uint8_t type;
    uint16_t offset_middle;
    uint32_t offset_high;
    uint32_t reserved;
};

_Static_assert(sizeof(struct idt_gate) == 16, "SDM volume 3, figure 6-8");
_Static_assert(offsetof(struct idt_gate, offset_high) == 8, "SDM volume 3, figure 6-8");

/* A processor's own request to others, and what others ask of it (cpu/smp/shootdown.c). */
struct shoot {
    uint64_t from;    /* processors that await this one's answer */
    uint64_t pending; /* processors that have not answered this one's request */
    uint64_t where;   /* who flushes; the others only answer */
    struct machine_flush flush;
    uint64_t sent;
    uint64_t served;
};

struct cpu {
    struct cpu *self; /* the first seven: cpu/gs.h */
    uint32_t number;
    uint64_t kernel_stack;
    uint64_t user_stack;
    void *space;
    const void *top;
    struct thread *current;                       /* NULL before threads_start */
    struct tss tss __attribute__((aligned(128))); /* within one page: SDM volume 3, 8.2.1 */
    uint64_t gdt[GDT_ENTRIES];
    unsigned crashes; /* how deep it is in reports of crashes */
    bool stopped;     /* for good, for another processor's report */
    struct trap_counts traps;
    struct trap_frame crash; /* the trap that the first report is about */
    uint32_t apic_id;
    struct shoot shoot;
    struct thread *idle;
    struct thread *left;     /* on the stack that a switch has just left */
    struct thread *sleepers; /* interrupts off */
    struct thread_queue ready;
    uint8_t ready_lock;
    bool halted;        /* its ready lock: asleep in HLT, to be woken by an interrupt */
    uint64_t second_ns; /* when it looks at the clock next */
};

_Static_assert(offsetof(struct cpu, self) == GS_SELF, "cpu/gs.h");
_Static_assert(offsetof(struct cpu, number) == GS_NUMBER, "cpu/gs.h");
_Static_assert(offsetof(struct cpu, kernel_stack) == GS_KERNEL_STACK, "cpu/gs.h");
_Static_assert(offsetof(struct cpu, user_stack) == GS_USER_STACK, "cpu/gs.h");
_Static_assert(offsetof(struct cpu, space) == GS_SPACE, "cpu/gs.h");
_Static_assert(offsetof(struct cpu, top) == GS_TOP, "cpu/gs.h");
_Static_assert(offsetof(struct cpu, current) == GS_THREAD, "cpu/gs.h");

extern struct cpu cpu_table[CPU_MAX];

/* The running processor's; before cpu_init, while GS is the firmware's, the first one's. */
struct cpu *cpu_self(void);

/* From here on an NMI returns at once: it would begin a second report in the middle of the first.
 */
void cpu_disarm_nmi(void);

/* Whether an interrupt with this vector is in service in the local APIC; false without one. */
bool cpu_local_apic_serves(unsigned vector);
void cpu_local_apic_end(void);

/* cpu/trap/trap.S */
extern const char trap_stubs[];           /* TRAP_VECTORS entries, TRAP_STUB_SIZE bytes apart */
extern const char trap_page_fault_stub[]; /* in place of the one for #PF */
extern const char trap_page_fault_stub_smap[];
extern const char trap_nmi_stub[];    /* in place of the one for NMI */
extern const char trap_return_stub[]; /* nothing but IRETQ */
extern const char trap_entry_start[]; /* all of the entry code, for the backtrace */
extern const char trap_entry_end[];
#define TRAP_STUB_SIZE 16U

/* Where trap_nmi_stub marks that it is under way: below the top of the NMI stack. */
#define NMI_MARK 48U

/* NMIs that came while one was handled, on all processors: counted by the assembly. */
extern uint64_t trap_nmis_nested;

/* 1 while CR4.SMAP is on: read by the assembly, which must not execute STAC or CLAC without. */
extern uint8_t trap_smap;

/* The first address above the programs' half, once user_init has run; else 0. */
extern uint64_t trap_user_end;

/* The 8259A pair: remapped to PIC_VECTOR and masked. */
#define PIC_VECTOR 0x20U
void pic_init(void);

/* Ends a stray interrupt of the PIC, vector PIC_VECTOR to PIC_VECTOR + 15: true if there was one,
 * false if it was spurious. */
bool pic_end_stray(unsigned vector);

#endif

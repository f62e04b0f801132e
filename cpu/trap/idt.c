/* The IDT, and the start of trap handling on each processor. */
#include "cpu/trap/trap.h"

#include "cpu/cpu.h"
#include "cpu/features.h"
#include "cpu/interrupts/pic.h"
#include "cpu/percpu.h"
#include "cpu/trap/entry.h"
#include "cpu/trap/user.h"
#include "lib/check.h"

/* Present, DPL 0, 64-bit interrupt gate: SDM volume 3, 6.14.1. */
#define GATE_INTERRUPT UINT8_C(0x8e)

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

/* The interrupt descriptor table, one for all processors. */
static struct idt_gate idt[TRAP_VECTORS] __attribute__((aligned(16)));
static bool ready;

static void set_gate(unsigned vector, const char *entry)
{
    uint64_t offset = (uint64_t)(uintptr_t)entry;

    idt[vector].offset_low = (uint16_t)(offset & 0xffff);
    idt[vector].offset_middle = (uint16_t)(offset >> 16 & 0xffff);
    idt[vector].offset_high = (uint32_t)(offset >> 32);
    idt[vector].selector = SELECTOR_KERNEL_CODE;
    idt[vector].type = GATE_INTERRUPT;
}

static void fill_idt(void)
{
    for (unsigned vector = 0; vector < TRAP_VECTORS; vector++)
        set_gate(vector, trap_stubs + (size_t)vector * TRAP_STUB_SIZE);
    set_gate(TRAP_NMI, trap_nmi_stub);
    set_gate(TRAP_PF, cpu_features()->smap ? trap_page_fault_stub_smap : trap_page_fault_stub);
    idt[TRAP_DF].ist = IST_DOUBLE_FAULT + 1;
    idt[TRAP_NMI].ist = IST_NMI + 1;
    idt[TRAP_MC].ist = IST_MACHINE_CHECK + 1;
}

/* Loads a processor's tables and control registers. The IDT comes first, so that a fault in between
 * is reported. */
static void traps_load(unsigned number, const struct cpu_stacks *stacks)
{
    struct table_pointer pointer = {sizeof(idt) - 1, (uint64_t)(uintptr_t)idt};

    cpu_load_tables(number, stacks);
    *(uint64_t *)(uintptr_t)(stacks->nmi - NMI_MARK) = 0;
    __asm__ volatile("lidt %0" : : "m"(pointer) : "memory");
    cpu_set_control_registers();
    user_init();
}

void traps_init(const struct cpu_stacks *stacks)
{
    fill_idt();
    traps_load(0, stacks);
    ready = true;
    pic_init();
}

void traps_init_other(unsigned number, const struct cpu_stacks *stacks)
{
    CHECK(ready && number > 0);
    traps_load(number, stacks);
}

bool traps_ready(void)
{
    return ready;
}

void traps_disarm_nmi(void)
{
    set_gate(TRAP_NMI, trap_return_stub);
}

/* One processor's own tables and registers. */
#include "cpu/cpu.h"

#include "cpu/features.h"
#include "cpu/fpu.h"
#include "cpu/machine.h"
#include "cpu/percpu.h"
#include "cpu/registers.h"
#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/units.h"

/* Segment descriptors of long mode: SDM volume 3, 3.4.5. Base and limit are not used. */
#define SEGMENT_ACCESSED   (UINT64_C(1) << 40)
#define SEGMENT_WRITABLE   (UINT64_C(1) << 41)
#define SEGMENT_CODE       (UINT64_C(1) << 43)
#define SEGMENT_NOT_SYSTEM (UINT64_C(1) << 44)
#define SEGMENT_USER       (UINT64_C(3) << 45)
#define SEGMENT_PRESENT    (UINT64_C(1) << 47)
#define SEGMENT_LONG       (UINT64_C(1) << 53)
#define SEGMENT_BIG        (UINT64_C(1) << 54)
#define SEGMENT_DATA                                                                               \
    (SEGMENT_ACCESSED | SEGMENT_WRITABLE | SEGMENT_NOT_SYSTEM | SEGMENT_PRESENT | SEGMENT_BIG)
#define SEGMENT_CODE_LONG                                                                          \
    (SEGMENT_ACCESSED | SEGMENT_WRITABLE | SEGMENT_CODE | SEGMENT_NOT_SYSTEM | SEGMENT_PRESENT |   \
     SEGMENT_LONG)
#define SYSTEM_TSS_AVAILABLE (UINT64_C(9) << 40)

/* Memory types of the PAT, an entry a byte: SDM volume 3, 12.12.2. The default but for entry 4:
 * WB, WT, UC-, UC, then WC in place of WB, WT, UC-, UC. */
#define PAT_VALUE UINT64_C(0x0007040100070406)

/* Bits of CR4 that cannot change in long mode. */
#define CR4_KEPT (CR4_PAE | CR4_LA57)

#define TCG_NAME "TCGTCGTCGTCG"

struct cpu cpu_table[CPU_MAX];
bool machine_by_bytes;

/* The program's half of a top table, as machine_top() shows it where there is none. */
static const uint64_t no_table[256];
uint8_t trap_smap;
uint64_t trap_user_end;

static bool gs_loaded; /* on the first processor; another loads GS before it runs C */
static bool contexts_on;

/* ---- before the own tables ---- */

/* Sets the PAT, with caches off and empty meanwhile (SDM volume 3, 12.11.8: the steps for one
 * processor whose mappings do not use the changed entry). */
static void program_pat(void)
{
    uint64_t cr0 = cr0_read();

    cr0_write((cr0 | CR0_CD) & ~CR0_NW);
    __asm__ volatile("wbinvd" : : : "memory");
    machine_flush_all();
    msr_write(IA32_PAT, PAT_VALUE);
    __asm__ volatile("wbinvd" : : : "memory");
    machine_flush_all();
    cr0_write(cr0 & ~(CR0_CD | CR0_NW));
}

/* Chooses how frames are cleared and copied. An emulator reports ERMS but handles each byte singly,
 * so it gets words. */
static void choose_frame_size(void)
{
    const struct cpu_features *features = cpu_features();

    machine_by_bytes = features->erms && strcmp(features->hypervisor_name, TCG_NAME) != 0;
}

void cpu_prepare_paging(void)
{
    const struct cpu_features *features = cpu_features();

    machine_interrupts_off();
    choose_frame_size();
    if (features->nx)
        msr_write(IA32_EFER, (msr_read(IA32_EFER) | EFER_NXE) & ~EFER_TCE);
    if (features->pat)
        program_pat();
    if (features->pge)
        cr4_write(cr4_read() | CR4_PGE);
}

/* ---- descriptor tables ---- */

static void fill_tss(struct cpu *cpu, const struct cpu_stacks *stacks)
{
    cpu->kernel_stack = stacks->rsp0;
    cpu->tss = (struct tss){.io_map = sizeof(struct tss)};
    cpu->tss.rsp[0] = stacks->rsp0;
    cpu->tss.ist[IST_DOUBLE_FAULT] = stacks->double_fault;
    cpu->tss.ist[IST_NMI] = stacks->nmi;
    cpu->tss.ist[IST_MACHINE_CHECK] = stacks->machine_check;
}

static void fill_gdt(struct cpu *cpu)
{
    uint64_t base = (uint64_t)(uintptr_t)&cpu->tss;
    uint64_t limit = sizeof(struct tss) - 1;

    cpu->gdt[0] = 0;
    cpu->gdt[SELECTOR_KERNEL_CODE / 8] = SEGMENT_CODE_LONG;
    cpu->gdt[SELECTOR_KERNEL_DATA / 8] = SEGMENT_DATA;
    cpu->gdt[SELECTOR_USER_DATA / 8] = SEGMENT_DATA | SEGMENT_USER;
    cpu->gdt[SELECTOR_USER_CODE / 8] = SEGMENT_CODE_LONG | SEGMENT_USER;
    cpu->gdt[SELECTOR_TSS / 8] = limit | (base & 0xffffff) << 16 | SYSTEM_TSS_AVAILABLE |
                                 SEGMENT_PRESENT | (base >> 24 & 0xff) << 56;
    cpu->gdt[SELECTOR_TSS / 8 + 1] = base >> 32;
}

/* CS is loaded by a far return; DS, ES and FS are not used in long mode and hold nothing. GS has a
 * base and no selector. */
static void load_segments(const struct cpu *cpu)
{
    struct table_pointer gdt = {sizeof(cpu->gdt) - 1, (uint64_t)(uintptr_t)cpu->gdt};

    __asm__ volatile("lgdt %0\n\t"
                     "pushq %1\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "pushq %%rax\n\t"
                     "lretq\n"
                     "1:\n\t"
                     "movl %2, %%eax\n\t"
                     "movl %%eax, %%ss\n\t"
                     "xorl %%eax, %%eax\n\t"
                     "movl %%eax, %%ds\n\t"
                     "movl %%eax, %%es\n\t"
                     "movl %%eax, %%fs\n\t"
                     "movl %%eax, %%gs\n\t"
                     "lldt %%ax"
                     :
                     : "m"(gdt), "i"(SELECTOR_KERNEL_CODE), "i"(SELECTOR_KERNEL_DATA)
                     : "rax", "memory");
    msr_write(IA32_FS_BASE, 0);
    msr_write(IA32_GS_BASE, (uint64_t)(uintptr_t)cpu);
    msr_write(IA32_KERNEL_GS, 0);
}

void cpu_load_tables(unsigned number, const struct cpu_stacks *stacks)
{
    struct cpu *cpu = &cpu_table[number];

    CHECK(number < CPU_MAX);
    CHECK(stacks->rsp0 % 16 == 0 && stacks->double_fault % 16 == 0);
    CHECK(stacks->nmi % 16 == 0 && stacks->machine_check % 16 == 0);
    CHECK(stacks->double_fault != 0 && stacks->nmi != 0 && stacks->machine_check != 0);
    machine_interrupts_off();
    cpu->self = cpu;
    cpu->top = no_table;
    cpu->number = number;
    fill_tss(cpu, stacks);
    fill_gdt(cpu);
    load_segments(cpu);
    __asm__ volatile("ltr %w0" : : "r"(SELECTOR_TSS));
    gs_loaded = true;
}

/* ---- control registers ---- */

/* Turns PCIDs on. Only CPUID decides, since TCG accepts the bit without having them. Needs global
 * pages: without INVPCID only toggling CR4.PGE drops all contexts. CR3 has context 0 by now, as SDM
 * volume 3, 4.10.1, demands. */
static void start_contexts(void)
{
    const struct cpu_features *features = cpu_features();

    if (!features->pcid || !features->pge)
        return;
    CHECK_MSG((cr3_read() & CR3_PCID) == 0, "cr3 %lx", cr3_read());
    cr4_write(cr4_read() | CR4_PCIDE);
    contexts_on = true;
}

void cpu_set_control_registers(void)
{
    const struct cpu_features *features = cpu_features();
    uint64_t cr0 = cr0_read() & ~(CR0_EM | CR0_TS | CR0_AM | CR0_CD | CR0_NW);
    uint64_t cr4 = cr4_read() & CR4_KEPT;

    cr0_write(cr0 | CR0_MP | CR0_NE | CR0_WP);
    cr4 |= CR4_DE;
    cr4 |= features->pge ? CR4_PGE : 0;
    cr4 |= features->mce ? CR4_MCE : 0;
    cr4 |= features->smep ? CR4_SMEP : 0;
    cr4 |= features->smap ? CR4_SMAP : 0;
    cr4 |= features->umip ? CR4_UMIP : 0;
    cr4_write(cr4);
    fpu_init();
    trap_smap = features->smap;
    trap_user_end = cpu_user_end();
    start_contexts();
}

const uint64_t *machine_counts_of(unsigned cpu)
{
    return cpu_table[cpu].counts;
}

struct cpu *cpu_self(void)
{
    struct cpu *self;

    if (!gs_loaded)
        return &cpu_table[0];
    __asm__("movq %%gs:%c1, %0" : "=r"(self) : "i"(GS_SELF));
    return self;
}

void cpu_set_apic_id(uint32_t id)
{
    cpu_self()->apic_id = id;
}

bool machine_has_contexts(void)
{
    return contexts_on;
}

bool cpu_smap_on(void)
{
    return trap_smap != 0;
}

/* Computes the value from CR4 until cpu_set_control_registers has stored it. */
uint64_t cpu_user_end(void)
{
    if (trap_user_end != 0)
        return trap_user_end;
    return UINT64_C(1) << ((cr4_read() & CR4_LA57) != 0 ? 56 : 47);
}

uint64_t cpu_read_cr0(void)
{
    return cr0_read();
}

uint64_t cpu_read_cr2(void)
{
    return cr2_read();
}

uint64_t cpu_read_cr3(void)
{
    return cr3_read();
}

uint64_t cpu_read_cr4(void)
{
    return cr4_read();
}

uint64_t cpu_read_efer(void)
{
    return msr_read(IA32_EFER);
}

void cpu_halt(void)
{
    for (;;)
        __asm__ volatile("cli\n\thlt" : : : "memory");
}

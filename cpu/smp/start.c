/* Other processors: from the start-up interrupt to being online. */
#include "cpu/smp/start.h"

#include "cpu/features.h"
#include "cpu/interrupts/local_apic.h"
#include "cpu/percpu.h"
#include "cpu/registers.h"
#include "cpu/smp/start_layout.h"
#include "cpu/smp/thread.h"
#include "cpu/trap/trap.h"
#include "lib/bytes.h"
#include "lib/check.h"

/* Waits between the interrupts: SDM volume 3, 8.4.4.1. */
#define INIT_WAIT_US 10000U
#define SIPI_WAIT_US 200U

#define REAL_MODE_END UINT64_C(0x100000)
#define TABLES_END    (UINT64_C(1) << 32)

/* Descriptors of the trampoline: 32-bit segments of 64 KiB whose base is filled in, and one of long
 * mode. Present, ring 0, accessed. */
#define DESCRIPTOR_CODE_32       UINT64_C(0x00409b000000ffff)
#define DESCRIPTOR_DATA_32       UINT64_C(0x004093000000ffff)
#define DESCRIPTOR_CODE_64       UINT64_C(0x00209b0000000000)
#define DESCRIPTOR_BASE(address) ((uint64_t)(address) << 16)

extern const char start_trampoline[];
extern const char start_trampoline_32[];
extern const char start_trampoline_64[];
extern const char start_trampoline_end[];

/* Arguments for the starting processor; constant while one starts. */
static struct cpu_start starting;
static uint64_t online = 1;

uint64_t machine_processors(void)
{
    return __atomic_load_n(&online, __ATOMIC_ACQUIRE);
}

void cpu_set_online(unsigned number)
{
    CHECK(number < CPU_MAX);
    __atomic_or_fetch(&online, UINT64_C(1) << number, __ATOMIC_ACQ_REL);
}

/* The first C code of another processor. Loads GS first, since other code may ask for the
 * processor's number. */
_Noreturn static void ap_arrive(struct cpu *cpu)
{
    struct cpu_start how = starting;

    msr_write(IA32_GS_BASE, (uint64_t)(uintptr_t)cpu);
    cpu->self = cpu;
    cpu->number = how.number;
    machine_load_root(how.kernel_root);
    cpu_prepare_paging();
    traps_init_other(how.number, &how.stacks);
    local_apic_mask(how.local_apic);
    threads_start(how.number);
    cpu_set_online(how.number);
    thread_idle();
}

static void ap_put(char *page, unsigned offset, uint64_t value)
{
    memcpy(page + offset, &value, sizeof(value));
}

static void fill_trampoline(const struct cpu_start *how)
{
    char *page = how->trampoline_window;
    uint64_t base = how->trampoline.address;
    uint64_t code_32 = (uint64_t)(start_trampoline_32 - start_trampoline);
    uint64_t code_64 = base + (uint64_t)(start_trampoline_64 - start_trampoline);

    CHECK(start_trampoline_end - start_trampoline <= START_GDT);
    memset(page, 0, PAGE_SIZE);
    memcpy(page, start_trampoline, (size_t)(start_trampoline_end - start_trampoline));
    ap_put(page, START_GDT + START_CODE_32, DESCRIPTOR_CODE_32 | DESCRIPTOR_BASE(base));
    ap_put(page, START_GDT + START_DATA_32, DESCRIPTOR_DATA_32 | DESCRIPTOR_BASE(base));
    ap_put(page, START_GDT + START_CODE_64, DESCRIPTOR_CODE_64);
    ap_put(page, START_GDT_POINTER, (uint64_t)(4 * 8 - 1) | (base + START_GDT) << 16);
    ap_put(page, START_FAR_32, code_32 | UINT64_C(START_CODE_32) << 32);
    ap_put(page, START_FAR_64, code_64 | UINT64_C(START_CODE_64) << 32);
    ap_put(page, START_CR3, how->root.address);
    ap_put(page, START_CR4, CR4_PAE | (cpu_read_cr4() & CR4_LA57));
    ap_put(page, START_EFER, EFER_LME | (cpu_features()->nx ? EFER_NXE : 0));
    ap_put(page, START_CR0, (cpu_read_cr0() & ~(CR0_CD | CR0_NW | CR0_TS)) | CR0_ET);
    ap_put(page, START_STACK, how->stack);
    ap_put(page, START_ARGUMENT, (uint64_t)(uintptr_t)&cpu_table[how->number]);
    ap_put(page, START_ENTRY, (uint64_t)(uintptr_t)ap_arrive);
}

static bool is_online(unsigned number)
{
    return (machine_processors() >> number & 1) != 0;
}

static bool ap_wait_for(unsigned number, uint64_t microseconds)
{
    struct deadline end = deadline_after_us(microseconds);

    while (!is_online(number)) {
        if (deadline_passed(end))
            return is_online(number);
    }
    return true;
}

enum status cpu_start(const struct cpu_start *how, unsigned bound_ms)
{
    uint32_t sipi = ICR_SIPI | (uint32_t)(how->trampoline.address >> PAGE_SHIFT);

    CHECK(how->number > 0 && how->number < CPU_MAX && !is_online(how->number));
    CHECK(how->trampoline.address % PAGE_SIZE == 0 && how->trampoline.address != 0 &&
          how->trampoline.address < REAL_MODE_END);
    CHECK(how->root.address < TABLES_END && how->stack % 16 == 0);
    if (!local_apic_present())
        return STATUS_UNSUPPORTED;
    starting = *how;
    fill_trampoline(how);
    cpu_table[how->number].apic_id = how->apic_id;
    if (!local_apic_send(how->apic_id, ICR_INIT))
        return STATUS_TIMEOUT;
    delay_us(INIT_WAIT_US);
    /* The second one is for a processor that missed the first; one that runs ignores it. */
    if (local_apic_send(how->apic_id, sipi) && !ap_wait_for(how->number, SIPI_WAIT_US))
        (void)local_apic_send(how->apic_id, sipi);
    if (ap_wait_for(how->number, UINT64_C(1000) * bound_ms))
        return OK;
    /* Back to waiting, so that it does not come late with the next one's stack. */
    (void)local_apic_send(how->apic_id, ICR_INIT);
    delay_us(INIT_WAIT_US);
    return is_online(how->number) ? OK : STATUS_TIMEOUT;
}

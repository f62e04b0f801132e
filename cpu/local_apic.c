/* The local APIC: silenced, but for an NMI line; by its registers in memory, or by MSRs. */
#include "cpu/percpu.h"

#include "cpu/features.h"
#include "cpu/registers.h"

/* SDM volume 3, table 11-1: offsets of registers; each has 16 bytes. */
#define APIC_VERSION      0x030U
#define APIC_EOI          0x0b0U
#define APIC_SPURIOUS     0x0f0U
#define APIC_IN_SERVICE   0x100U /* eight of 32 bits */
#define APIC_LVT_CMCI     0x2f0U
#define APIC_LVT_TIMER    0x320U
#define APIC_LVT_THERMAL  0x330U
#define APIC_LVT_COUNTERS 0x340U
#define APIC_LVT_LINT0    0x350U
#define APIC_LVT_LINT1    0x360U
#define APIC_LVT_ERROR    0x370U
#define APIC_TIMER_COUNT  0x380U

#define LVT_MASKED                (UINT32_C(1) << 16)
#define LVT_DELIVERY              (UINT32_C(7) << 8)
#define LVT_DELIVERY_NMI          (UINT32_C(4) << 8)
#define SPURIOUS_ENABLE           (UINT32_C(1) << 8)
#define SPURIOUS_VECTOR           UINT32_C(0xff)
#define VERSION_LAST_LVT(version) ((version) >> 16 & 0xff)

#define APIC_ADDRESS UINT64_C(0x000ffffffffff000)

/* How the registers are reached; the same address on every processor. */
static enum { APIC_NONE, APIC_MEMORY, APIC_MSR } way;
static volatile uint8_t *memory;

static uint32_t apic_read(unsigned offset)
{
    if (way == APIC_MSR)
        return (uint32_t)msr_read(IA32_X2APIC + offset / 16);
    return *(volatile uint32_t *)(memory + offset);
}

static void apic_write(unsigned offset, uint32_t value)
{
    if (way == APIC_MSR)
        msr_write(IA32_X2APIC + offset / 16, value);
    else
        *(volatile uint32_t *)(memory + offset) = value;
}

/* Masks a local vector, unless it is how an NMI reaches the processor. */
static void mask(unsigned offset)
{
    uint32_t entry = apic_read(offset);

    if ((entry & LVT_DELIVERY) != LVT_DELIVERY_NMI)
        apic_write(offset, entry | LVT_MASKED);
}

/* The entries that there are, by their number in the version register. */
static void mask_all(void)
{
    uint32_t last = VERSION_LAST_LVT(apic_read(APIC_VERSION));

    mask(APIC_LVT_TIMER);
    mask(APIC_LVT_LINT0);
    mask(APIC_LVT_LINT1);
    mask(APIC_LVT_ERROR);
    if (last >= 4)
        mask(APIC_LVT_COUNTERS);
    if (last >= 5)
        mask(APIC_LVT_THERMAL);
    if (last >= 6)
        mask(APIC_LVT_CMCI);
}

uint64_t cpu_local_apic_base(void)
{
    uint64_t base;

    if (!cpu_features()->apic)
        return 0;
    base = msr_read(IA32_APIC_BASE);
    if ((base & APIC_BASE_EN) == 0 || (base & APIC_BASE_EXTD) != 0)
        return 0;
    return base & APIC_ADDRESS;
}

void cpu_mask_local_apic(volatile void *registers)
{
    uint64_t base;

    if (!cpu_features()->apic)
        return;
    base = msr_read(IA32_APIC_BASE);
    if ((base & APIC_BASE_EN) == 0)
        return;
    if ((base & APIC_BASE_EXTD) == 0 && registers == NULL)
        return;
    memory = registers;
    way = (base & APIC_BASE_EXTD) != 0 ? APIC_MSR : APIC_MEMORY;
    mask_all();
    apic_write(APIC_TIMER_COUNT, 0);
    apic_write(APIC_SPURIOUS, SPURIOUS_ENABLE | SPURIOUS_VECTOR);
}

bool cpu_local_apic_serves(unsigned vector)
{
    if (way == APIC_NONE)
        return false;
    return (apic_read(APIC_IN_SERVICE + vector / 32 * 16) >> vector % 32 & 1) != 0;
}

void cpu_local_apic_end(void)
{
    apic_write(APIC_EOI, 0);
}

/* The local APIC: silenced at first, but for an NMI line; by its registers in memory, or by MSRs.
 */
#include "cpu/interrupts/local_apic.h"

#include "cpu/features.h"
#include "cpu/machine.h"
#include "cpu/percpu.h"
#include "cpu/registers.h"
#include "lib/units.h"

/* SDM volume 3, table 11-1: offsets of registers; each has 16 bytes. */
#define APIC_ID           0x020U
#define APIC_VERSION      0x030U
#define APIC_EOI          0x0b0U
#define APIC_SPURIOUS     0x0f0U
#define APIC_IN_SERVICE   0x100U /* eight of 32 bits */
#define APIC_LVT_CMCI     0x2f0U
#define APIC_ICR_LOW      0x300U /* in x2APIC mode all 64 bits */
#define APIC_ICR_HIGH     0x310U
#define APIC_LVT_TIMER    0x320U
#define APIC_LVT_THERMAL  0x330U
#define APIC_LVT_COUNTERS 0x340U
#define APIC_LVT_LINT0    0x350U
#define APIC_LVT_LINT1    0x360U
#define APIC_LVT_ERROR    0x370U
#define APIC_TIMER_COUNT  0x380U
#define APIC_TIMER_LEFT   0x390U
#define APIC_TIMER_DIVIDE 0x3e0U

#define LVT_MASKED                (UINT32_C(1) << 16)
#define LVT_DELIVERY              (UINT32_C(7) << 8)
#define LVT_DELIVERY_NMI          (UINT32_C(4) << 8)
#define SPURIOUS_ENABLE           (UINT32_C(1) << 8)
#define SPURIOUS_VECTOR           UINT32_C(0xff)
#define VERSION_LAST_LVT(version) ((version) >> 16 & 0xff)

#define ICR_PENDING       (UINT32_C(1) << 12)
#define TIMER_DIVIDE_BY_1 UINT32_C(0xb)

/* A command is accepted within microseconds; an emulator's processor may have to wait its turn. */
#define ACCEPT_MS 1000U

/* The timer is measured over this long. */
#define MEASURE_US   1000U
#define MEASUREMENTS 5U

#define NS_PER_SECOND UINT64_C(1000000000)

#define APIC_ADDRESS UINT64_C(0x000ffffffffff000)

/* How the registers are reached; the same address on every processor. */
static enum { APIC_NONE, APIC_MEMORY, APIC_MSR } way;
static volatile uint8_t *memory;
static uint64_t timer_hz; /* 0: no timer */

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

/* Masks a local vector, unless it delivers NMIs. */
static void mask_lvt(unsigned offset)
{
    uint32_t entry = apic_read(offset);

    if ((entry & LVT_DELIVERY) != LVT_DELIVERY_NMI)
        apic_write(offset, entry | LVT_MASKED);
}

/* Masks the entries of the local vector table that exist; the version register has their number. */
static void mask_all(void)
{
    uint32_t last = VERSION_LAST_LVT(apic_read(APIC_VERSION));

    mask_lvt(APIC_LVT_TIMER);
    mask_lvt(APIC_LVT_LINT0);
    mask_lvt(APIC_LVT_LINT1);
    mask_lvt(APIC_LVT_ERROR);
    if (last >= 4)
        mask_lvt(APIC_LVT_COUNTERS);
    if (last >= 5)
        mask_lvt(APIC_LVT_THERMAL);
    if (last >= 6)
        mask_lvt(APIC_LVT_CMCI);
}

uint64_t local_apic_base(void)
{
    uint64_t base;

    if (!cpu_features()->apic || cpu_features()->x2apic)
        return 0;
    base = msr_read(IA32_APIC_BASE);
    if ((base & APIC_BASE_EN) == 0 || (base & APIC_BASE_EXTD) != 0)
        return 0;
    return base & APIC_ADDRESS;
}

void local_apic_mask(volatile void *registers)
{
    uint64_t base;

    if (!cpu_features()->apic)
        return;
    base = msr_read(IA32_APIC_BASE);
    if ((base & APIC_BASE_EN) == 0)
        return;
    if (cpu_features()->x2apic && (base & APIC_BASE_EXTD) == 0) {
        base |= APIC_BASE_EXTD;
        msr_write(IA32_APIC_BASE, base);
    }
    if ((base & APIC_BASE_EXTD) == 0 && registers == NULL)
        return;
    memory = registers;
    way = (base & APIC_BASE_EXTD) != 0 ? APIC_MSR : APIC_MEMORY;
    mask_all();
    apic_write(APIC_TIMER_COUNT, 0);
    apic_write(APIC_SPURIOUS, SPURIOUS_ENABLE | SPURIOUS_VECTOR);
}

bool local_apic_serves(unsigned vector)
{
    if (way == APIC_NONE)
        return false;
    return (apic_read(APIC_IN_SERVICE + vector / 32 * 16) >> vector % 32 & 1) != 0;
}

void local_apic_end(void)
{
    apic_write(APIC_EOI, 0);
}

bool local_apic_present(void)
{
    return way != APIC_NONE;
}

bool local_apic_is_x2(void)
{
    return way == APIC_MSR;
}

uint32_t local_apic_id(void)
{
    return way == APIC_MSR ? apic_read(APIC_ID) : apic_read(APIC_ID) >> 24;
}

/* Sends an interrupt command. No interrupt may come between the writes of its two halves in
 * memory. */
bool local_apic_send(uint32_t id, uint32_t command)
{
    bool were_on = machine_interrupts_off();
    struct deadline end = deadline_after_ms(ACCEPT_MS);
    bool accepted = true;

    if (way == APIC_MSR) {
        /* WRMSR to an x2APIC register does not wait for earlier stores. MFENCE makes them visible,
         * and LFENCE lets WRMSR begin only after MFENCE: SDM volume 3, 11.12.3. */
        __asm__ volatile("mfence\n\tlfence" : : : "memory");
        msr_write(IA32_X2APIC + APIC_ICR_LOW / 16, (uint64_t)id << 32 | command);
    } else {
        while ((apic_read(APIC_ICR_LOW) & ICR_PENDING) != 0 && accepted)
            accepted = !deadline_passed(end);
        if (accepted) {
            apic_write(APIC_ICR_HIGH, id << 24);
            apic_write(APIC_ICR_LOW, command);
        }
    }
    machine_interrupts_restore(were_on);
    return accepted;
}

static uint64_t measure_timer(void)
{
    uint64_t began = machine_now_ns();
    uint64_t passed;
    uint32_t counted;

    apic_write(APIC_TIMER_COUNT, UINT32_MAX);
    delay_us(MEASURE_US);
    counted = UINT32_MAX - apic_read(APIC_TIMER_LEFT);
    passed = machine_now_ns() - began;
    apic_write(APIC_TIMER_COUNT, 0);
    return counted * NS_PER_SECOND / passed;
}

/* Measures the timer's rate. Takes the median of several measurements, since an emulator may be
 * interrupted within one. */
bool local_apic_timer_start(void)
{
    uint64_t hz[MEASUREMENTS];

    if (way == APIC_NONE)
        return false;
    apic_write(APIC_TIMER_DIVIDE, TIMER_DIVIDE_BY_1);
    for (unsigned i = 0; i < MEASUREMENTS; i++) {
        uint64_t measured = measure_timer();
        unsigned at = i;

        for (; at > 0 && hz[at - 1] > measured; at--)
            hz[at] = hz[at - 1];
        hz[at] = measured;
    }
    timer_hz = hz[MEASUREMENTS / 2];
    return timer_hz != 0;
}

uint64_t local_apic_timer_hz(void)
{
    return timer_hz;
}

void local_apic_timer_arm(uint64_t ns)
{
    uint64_t longest;
    uint64_t count;

    if (timer_hz == 0)
        return;
    longest = UINT32_MAX / timer_hz * NS_PER_SECOND + NS_PER_SECOND / 2;
    count = min_u64(ns, longest) / 1000 * timer_hz / 1000000;
    apic_write(APIC_TIMER_DIVIDE, TIMER_DIVIDE_BY_1);
    apic_write(APIC_LVT_TIMER, ns == UINT64_MAX ? LVT_MASKED | VECTOR_TIMER : VECTOR_TIMER);
    apic_write(APIC_TIMER_COUNT,
               ns == UINT64_MAX ? 0 : (uint32_t)min_u64(max_u64(count, 1), UINT32_MAX));
}

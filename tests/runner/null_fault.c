/* The cost of an empty fault. */
#include "tests/runner/null_fault.h"

#include "cpu/clock/measure.h"
#include "cpu/machine.h"
#include "cpu/trap/trap.h"
#include "lib/ktap.h"
#include "lib/print.h"

/* Samples of the median; the first ones take longer where an emulator translates code. */
#define FAULTS 65U

/* Page 0 is mapped in no space. */
#define NOWHERE UINT64_C(8)

static uint64_t null_fault_ticks;

static bool null_fault_skip_store(uint64_t address, uint64_t error, struct trap_frame *frame)
{
    (void)address;
    (void)error;
    frame->rip += MEASURE_WRITE_LENGTH;
    return true;
}

static void null_fault_sort_in(uint64_t *sorted, unsigned count, uint64_t value)
{
    for (; count > 0 && sorted[count - 1] > value; count--)
        sorted[count] = sorted[count - 1];
    sorted[count] = value;
}

uint64_t null_fault_measure(void)
{
    bool were_on = machine_interrupts_off();
    bool (*handler)(uint64_t, uint64_t, struct trap_frame *) = trap_page_fault;
    uint64_t faults[FAULTS];
    uint64_t nothing[FAULTS];

    trap_page_fault = null_fault_skip_store;
    for (unsigned i = 0; i < FAULTS; i++) {
        null_fault_sort_in(nothing, i, measure_nothing());
        null_fault_sort_in(faults, i, measure_write(NOWHERE));
    }
    trap_page_fault = handler;
    machine_interrupts_restore(were_on);
    null_fault_ticks = max_u64(faults[FAULTS / 2], nothing[FAULTS / 2] + 1) - nothing[FAULTS / 2];
    ktap_metric("floor", null_fault_ticks, "ticks");
    return null_fault_ticks;
}

void null_fault_metric(const char *name, uint64_t ticks)
{
    char of_floor[64];

    CHECK(null_fault_ticks > 0);
    print_to(of_floor, sizeof(of_floor), "%s.of_floor", name);
    ktap_metric(name, ticks, "ticks");
    ktap_metric_hundredths(of_floor, (ticks * 100 + null_fault_ticks / 2) / null_fault_ticks,
                           "floors");
}

void null_fault_metric_of(const char *what, const char *which, uint64_t ticks)
{
    char name[64];

    print_to(name, sizeof(name), "%s.%s", what, which);
    null_fault_metric(name, ticks);
}

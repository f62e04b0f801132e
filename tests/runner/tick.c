/* Tells whether a tick of the time-stamp counter is time or a number of instructions. */
#include "tests/runner/tick.h"

#include "cpu/clock/measure.h"
#include "cpu/machine.h"
#include "lib/units.h"

/* Measurements that must agree. */
#define ROUNDS 16U

/* Returns the ticks of an instruction, if 1,000 instructions take the same multiple of 1,000 ticks
 * in every round. Ignores the first round, in which an emulator translates the code. */
uint64_t ticks_per_instruction(void)
{
    bool were_on = machine_interrupts_off();
    uint64_t nothing = UINT64_MAX;
    uint64_t ticks;
    bool exact;

    for (unsigned i = 0; i < ROUNDS; i++)
        nothing = min_u64(nothing, measure_nothing());
    measure_nops();
    ticks = measure_nops() - nothing;
    exact = ticks > 0 && ticks % MEASURE_NOPS == 0;
    for (unsigned i = 0; i < ROUNDS; i++)
        exact = exact && measure_nops() - nothing == ticks;
    machine_interrupts_restore(were_on);
    return exact ? ticks / MEASURE_NOPS : 0;
}

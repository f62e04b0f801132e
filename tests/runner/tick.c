/* What a tick of the time-stamp counter is. */
#include "tests/runner/tick.h"

#include "cpu/clock/measure.h"
#include "cpu/machine.h"
#include "lib/units.h"

/* So many measurements must agree. */
#define ROUNDS 16U

/* A tick is a number of instructions when 1,000 of them take the same whole number of ticks each,
 * every time; the first time is longer under an emulator that translates code as it meets it. */
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

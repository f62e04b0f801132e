/* HLT of an idle processor, with a count of the ticks that it takes. */
#include "cpu/interrupts/idle_halt.h"

#include "cpu/cpu.h"
#include "cpu/machine.h"

/* Each is written by its processor alone. */
static struct {
    bool halted;
    uint64_t began;
    uint64_t ticks;
} __attribute__((aligned(64))) halts[CPU_MAX];

void idle_halt(bool timer_runs)
{
    halts[machine_cpu()].began = machine_ticks();
    halts[machine_cpu()].halted = true;
    if (timer_runs)
        __asm__ volatile("sti\n\thlt\n\tcli" : : : "memory");
    else
        __asm__ volatile("sti\n\tpause\n\tcli" : : : "memory");
    idle_halt_ends();
}

void idle_halt_ends(void)
{
    if (!halts[machine_cpu()].halted)
        return;
    halts[machine_cpu()].halted = false;
    halts[machine_cpu()].ticks += machine_ticks() - halts[machine_cpu()].began;
}

uint64_t idle_halted_ticks(void)
{
    return halts[machine_cpu()].ticks;
}

/* The processor's part that the fault handler needs besides cpu/machine.h, for host tests. */
#include "tests/host/fake/cpu.h"

/* Neither the logic nor free of the processor: so it is no part of the portable sources, and is
 * compiled here, for the tests to enter faults where the processor does. */
#include "vmm/fault/entry_machine.c"

uint64_t fake_cr4;

bool trap_page_fault_none(uint64_t address, uint64_t error, struct trap_frame *frame)
{
    (void)address;
    (void)error;
    (void)frame;
    return false;
}

bool (*trap_page_fault)(uint64_t address, uint64_t error,
                        struct trap_frame *frame) = trap_page_fault_none;

uint64_t cpu_read_cr4(void)
{
    return fake_cr4;
}

bool cpu_smap_on(void)
{
    return (fake_cr4 & CR4_SMAP) != 0;
}

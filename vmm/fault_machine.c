/* The machine's side of faults: from the processor's error code to an access, and back. */
#include "cpu/cpu.h"
#include "cpu/machine.h"
#include "cpu/registers.h"
#include "cpu/trap.h"
#include "paging/layout.h"
#include "vmm/fault.h"

/* EFLAGS.AC: ring 0 may touch user pages although SMAP is on (SDM volume 3, 4.6). */
#define EFLAGS_AC (UINT64_C(1) << 18)

/* The last fault of each processor, to tell progress from none (rule P9). */
static struct {
    uint64_t rip;
    uint64_t address;
    enum status reason;
} last_fault[CPU_MAX];

/* Ring 0 may touch a user page unless SMEP (fetches) or SMAP without AC (data) forbids it. */
static bool kernel_may_touch_user(uint64_t error, const struct trap_frame *frame)
{
    uint64_t cr4 = cpu_read_cr4();

    if ((error & PF_ID) != 0)
        return (cr4 & CR4_SMEP) == 0;
    return (cr4 & CR4_SMAP) == 0 || (frame->rflags & EFLAGS_AC) != 0;
}

static bool on_page_fault(uint64_t address, uint64_t error, struct trap_frame *frame)
{
    unsigned cpu = machine_cpu();
    struct space *space = space_current();
    bool repeated = last_fault[cpu].rip == frame->rip && last_fault[cpu].address == address;
    uint64_t spurious;

    last_fault[cpu].reason = STATUS_NOT_FOUND;
    if (space == NULL || address >= lower_half_end(space->tree.levels))
        return false;
    if ((error & ~(PF_P | PF_WR | PF_US | PF_ID)) != 0) {
        /* A reserved bit or an unknown cause: nothing that a page could mend. */
        last_fault[cpu].reason = STATUS_CORRUPT;
        return false;
    }
    spurious = space->faults.spurious;
    last_fault[cpu].reason =
        fault_resolve(space, address,
                      (struct fault_access){.write = (error & PF_WR) != 0,
                                            .execute = (error & PF_ID) != 0,
                                            .from_user = (error & PF_US) != 0,
                                            .user_allowed = kernel_may_touch_user(error, frame)});
    if (last_fault[cpu].reason != OK)
        return false;
    last_fault[cpu].rip = last_fault[cpu].address = 0;
    if (space->faults.spurious != spurious) {
        /* The same instruction at the same address once more: no progress, so a violation. */
        if (repeated) {
            last_fault[cpu].reason = STATUS_DENIED;
            return false;
        }
        last_fault[cpu].rip = frame->rip;
        last_fault[cpu].address = address;
    }
    return true;
}

void fault_start(void)
{
    trap_page_fault = on_page_fault;
}

enum status fault_last_reason(void)
{
    return last_fault[machine_cpu()].reason;
}

/* The machine's side of faults: from the processor's error code to an access, and back. */
#include "cpu/cpu.h"
#include "cpu/machine.h"
#include "cpu/points.h"
#include "cpu/registers.h"
#include "cpu/trap/trap.h"
#include "paging/kernel/layout.h"
#include "paging/kernel/map.h"
#include "paging/tree/table_access.h"
#include "vmm/fault/entry.h"
#include "vmm/fault/fault.h"
#include "vmm/page/page.h"
#include "vmm/page/transfer.h"

/* EFLAGS.AC: ring 0 may access user pages although SMAP is on (SDM volume 3, 4.6). */
#define EFLAGS_AC (UINT64_C(1) << 18)

/* The last spurious fault of each processor, to detect lack of progress (rule P9), and the reason
 * of the last unresolved fault. */
static struct last_fault {
    uint64_t serial; /* of the space; 0: none */
    uint64_t rip;
    uint64_t address;
    uint64_t progress;
    enum status reason;
} last_faults[CPU_MAX];

/* Returns true if ring 0 may access a user page: neither SMEP (fetch) nor SMAP without AC (data)
 * forbids it. */
static bool kernel_may_touch_user(uint64_t error, const struct trap_frame *frame)
{
    if ((error & PF_ID) != 0)
        return (cpu_read_cr4() & CR4_SMEP) == 0;
    return (frame->rflags & EFLAGS_AC) != 0 || !cpu_smap_on();
}

bool (*fault_upcall)(uint64_t address, uint64_t error, struct trap_frame *frame);
void (*fault_notice)(struct trap_frame *frame);

/* Shifts the number of changes of the set of processors above the sum of their counts. */
#define CHANGES_SHIFT    40U
#define PROGRESS_UNKNOWN 0U

/* Returns the number of faults that another processor has resolved on the fast path, in any
 * space. */
static uint64_t fast_faults_of(unsigned cpu)
{
    const uint64_t *counts = machine_counts_of(cpu);
    uint64_t sum = 0;

    for (unsigned i = 0; i < FAULT_FAST_COUNTS; i++)
        sum += __atomic_load_n(&counts[i], __ATOMIC_RELAXED);
    return sum;
}

/* Returns the progress that the space and the running processor have counted. */
static inline __attribute__((always_inline)) uint64_t progress_alone(const struct space *space)
{
    const struct fault_counts *of = &space->faults;

    return machine_counted() + of->large + of->swap_in + of->swap_cached + of->path + of->shared +
           space->calls + transfers_ended();
}

/* As progress_of, if other processors run the space. Returns PROGRESS_UNKNOWN while the set of its
 * processors changes: then the sum of their counts compares with no other. */
static __attribute__((noinline, cold)) uint64_t progress_with_others(const struct space *space)
{
    uint32_t ended = __atomic_load_n(&space->changes_ended, __ATOMIC_SEQ_CST);
    uint64_t others = __atomic_load_n(&space->tree.processors, __ATOMIC_SEQ_CST) &
                      ~(UINT64_C(1) << machine_cpu());
    uint64_t progress = progress_alone(space);
    uint32_t begun;

    for (; others != 0; others &= others - 1)
        progress += fast_faults_of((unsigned)__builtin_ctzll(others));
    begun = __atomic_load_n(&space->changes_begun, __ATOMIC_SEQ_CST);
    return begun == ended ? progress + ((uint64_t)begun << CHANGES_SHIFT) : PROGRESS_UNKNOWN;
}

/* Returns a number that changes with all that may have changed the running space: faults; calls,
 * which make paths own and leave behind translations that allow less; and ends of transfers, during
 * which an allowed access faults. The slow path detects progress by it. A processor that runs the
 * space alone reads the number of changes only once: a processor that joins or leaves counts its
 * change before it changes the set. */
static uint64_t progress_of(const struct space *space)
{
    uint64_t processors = __atomic_load_n(&space->tree.processors, __ATOMIC_SEQ_CST);

    if (__builtin_expect((processors & (processors - 1)) != 0, 0))
        return progress_with_others(space);
    return progress_alone(space) + ((uint64_t)space->changes_begun << CHANGES_SHIFT);
}

/* A spurious fault at the same instruction and address as the last makes no progress if nothing has
 * happened since the last one began: a violation. A cause of a spurious fault is counted while
 * accesses still fault, so a fault that met it sees progress. */
static bool is_stuck(const struct space *space, const struct trap_frame *frame, uint64_t address,
                     uint64_t progress_before)
{
    struct last_fault *last = &last_faults[machine_cpu()];
    bool stuck = last->serial == space->serial && last->rip == frame->rip &&
                 last->address == address && last->progress != PROGRESS_UNKNOWN &&
                 last->progress == progress_of(space);

    last->serial = space->serial;
    last->rip = frame->rip;
    last->address = address;
    last->progress = progress_before;
    return stuck;
}

/* Loads fault_notice once: another processor may clear it at any time. */
__attribute__((noinline, cold)) static void tell_notice_now(struct trap_frame *frame)
{
    void (*tell)(struct trap_frame * frame) = __atomic_load_n(&fault_notice, __ATOMIC_RELAXED);

    if (tell != NULL)
        tell(frame);
}

static bool resolve_slowly(struct space *space, uint64_t address, struct fault_access access,
                           struct trap_frame *frame)
{
    uint64_t progress = progress_of(space);
    uint64_t spurious = space->faults.spurious;
    enum status reason;

    CODE_POINT(POINT_SLOW);
    /* May wait for other processors and for the disk, with interrupts on if they were. */
    machine_interrupts_restore((frame->rflags & RFLAGS_IF) != 0);
    reason = fault_resolve(space, address, access);
    machine_interrupts_off();
    if (reason == OK && space->faults.spurious != spurious &&
        is_stuck(space, frame, address, progress))
        reason = STATUS_DENIED;
    last_faults[machine_cpu()].reason = reason;
    if (__builtin_expect(fault_notice != NULL, 0) && reason == OK && access.from_user)
        tell_notice_now(frame);
    return reason == OK;
}

/* Calls the program's handler of violations; ring 0 has none. */
static bool upcall_handler(uint64_t address, uint64_t error, struct trap_frame *frame)
{
    return (error & PF_US) != 0 && fault_upcall != NULL && fault_upcall(address, error, frame);
}

/* Rejects faults that no mapping can resolve; otherwise returns OK. */
static enum status fault_unresolvable(const struct space *space, uint64_t address, uint64_t error)
{
    if (space == NULL || address >= lower_half_end(space->tree.levels))
        return STATUS_NOT_FOUND;
    /* A reserved bit or an unknown cause. */
    return (error & ~(PF_P | PF_WR | PF_US | PF_ID)) != 0 ? STATUS_CORRUPT : OK;
}

/* Resolves an allowed ring-0 access to user memory by the fast path, as for ring 3. */
static bool resolve_as_user(uint64_t address, uint64_t error, bool user_allowed)
{
    return (error & PF_US) == 0 && user_allowed && table_access() == TABLES_DIRECT &&
           fault_fast_any(address, error | PF_US);
}

bool fault_slow(uint64_t address, uint64_t error, struct trap_frame *frame)
{
    struct space *space = space_current();
    enum status status = fault_unresolvable(space, address, error);
    struct fault_access access = {.write = (error & PF_WR) != 0,
                                  .execute = (error & PF_ID) != 0,
                                  .from_user = (error & PF_US) != 0,
                                  .user_allowed =
                                      (error & PF_US) != 0 || kernel_may_touch_user(error, frame)};

    CODE_POINT(POINT_DECODE);
    if ((frame->rflags & RFLAGS_IF) != 0)
        INTERRUPTS_CHECK(off);
    if (status != OK)
        last_faults[machine_cpu()].reason = status;
    else if (resolve_as_user(address, error, access.user_allowed) ||
             resolve_slowly(space, address, access, frame))
        return true;
    return upcall_handler(address, error, frame);
}

bool fault_violates(uint64_t address, uint64_t error, struct trap_frame *frame, enum status reason)
{
    struct space *space = space_current();

    if (space != NULL)
        count_event(&space->faults.violations);
    last_faults[machine_cpu()].reason = reason;
    return upcall_handler(address, error, frame);
}

/* The fast path reads tables through the direct map; with another method every fault is slow. */
void fault_start(void)
{
    fault_zero_page = tree_zero_page();
    if (table_access() != TABLES_DIRECT)
        trap_page_fault = fault_slow;
    else
        trap_page_fault = kernel_map_levels() == 5 ? fault_fast_5 : fault_fast_4;
}

enum status fault_last_reason(void)
{
    return last_faults[machine_cpu()].reason;
}

/* The watchdog and the deadline: the time limits of a run. */
#include "tests/runner/watchdog.h"

#include <stddef.h>

#include "cpu/machine.h"
#include "cpu/smp/thread.h"
#include "lib/check.h"
#include "lib/ktap.h"
#include "pmm/pmm.h"
#include "swapdisk/disks.h"

#define NS_PER_SECOND UINT64_C(1000000000)

static struct {
    bool set;
    uint64_t limit_ns; /* UINT64_MAX: no watchdog */
    uint64_t work;     /* at its last change */
    uint64_t since_ns; /* time of that change */
    uint64_t deadline_ns;
    void (*end_run)(void);
} limits;

/* Returns a number that changes when work is done: finished pieces of work, or frames that were
 * allocated or freed. */
static uint64_t work_done(void)
{
    struct pmm_usage usage = pmm_usage();
    uint64_t work = progress_count();

    for (unsigned kind = 0; kind < FRAME_KINDS; kind++)
        work = 31 * work + usage.by_kind[kind];
    return work;
}

/* Looks for progress. Two processors may see the same change at once; both then store the same
 * values. */
static void limits_look(void)
{
    uint64_t since;
    uint64_t work;
    uint64_t now;

    disks_look();
    if (!__atomic_load_n(&limits.set, __ATOMIC_RELAXED))
        return;
    work = work_done();
    now = machine_now_ns();
    since = __atomic_load_n(&limits.since_ns, __ATOMIC_RELAXED);

    if (now >= limits.deadline_ns)
        limits.end_run();
    if (work != __atomic_load_n(&limits.work, __ATOMIC_RELAXED)) {
        __atomic_store_n(&limits.since_ns, now, __ATOMIC_RELAXED);
        __atomic_store_n(&limits.work, work, __ATOMIC_RELAXED);
    } else if (now > since && now - since > limits.limit_ns) {
        PANIC("watchdog: no progress for %lu s", (now - since) / NS_PER_SECOND);
    }
}

void limits_start(uint32_t watchdog, uint32_t deadline, void (*end_run)(void))
{
    CHECK(deadline == 0 || end_run != NULL);
    limits.set = watchdog != 0 || deadline != 0;
    limits.limit_ns = watchdog != 0 ? watchdog * NS_PER_SECOND : UINT64_MAX;
    limits.deadline_ns = deadline != 0 ? deadline * NS_PER_SECOND : UINT64_MAX;
    limits.end_run = end_run;
    limits.since_ns = machine_now_ns();
    limits.work = work_done();
    thread_set_every_second(limits_look);
}

void limits_next(void)
{
    bool were_on = machine_interrupts_off();

    limits_look();
    thread_set_every_second(limits_look);
    machine_interrupts_restore(were_on);
}

void limits_end(void)
{
    __atomic_store_n(&limits.set, false, __ATOMIC_RELAXED);
}

/* The watchdog. */
#include "tests/runner/watchdog.h"

#include "cpu/machine.h"
#include "cpu/smp/thread.h"
#include "lib/check.h"
#include "lib/ktap.h"

static struct {
    uint64_t limit_ns;
    uint64_t progress; /* as it was seen to change last */
    uint64_t since_ns; /* and when */
} watchdog;

/* Two processors that look at the same moment may both note the same change: no harm. */
static void watchdog_look(void)
{
    uint64_t progress = ktap_progress();
    uint64_t now = machine_now_ns();
    uint64_t since = __atomic_load_n(&watchdog.since_ns, __ATOMIC_RELAXED);

    if (progress != __atomic_load_n(&watchdog.progress, __ATOMIC_RELAXED)) {
        __atomic_store_n(&watchdog.since_ns, now, __ATOMIC_RELAXED);
        __atomic_store_n(&watchdog.progress, progress, __ATOMIC_RELAXED);
    } else if (now > since && now - since > watchdog.limit_ns) {
        PANIC("watchdog: no progress for %lu s", (now - since) / 1000000000);
    }
}

void watchdog_start(uint32_t seconds)
{
    if (seconds == 0)
        return;
    watchdog.limit_ns = seconds * UINT64_C(1000000000);
    watchdog.since_ns = machine_now_ns();
    watchdog.progress = ktap_progress();
    thread_set_every_second(watchdog_look);
}

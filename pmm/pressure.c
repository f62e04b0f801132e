/* Memory pressure: the reserve, the pressure levels, and allocation failures for tests. */
#include "cpu/smp/spin.h"
#include "pmm/internal.h"

static struct {
    uint8_t lock;
    struct pmm_watcher *first;
} watchers;

/* ---- the reserve ---- */

int64_t pmm_floor(enum frame_kind kind)
{
    int64_t reserve = __atomic_load_n(&pmm.reserve, __ATOMIC_RELAXED);

    switch (kind) {
    case FRAME_ANONYMOUS: return reserve;
    case FRAME_KERNEL: return reserve / 2;
    default: return 0;
    }
}

void pmm_set_reserve(uint64_t frames)
{
    CHECK(frames <= pmm.total / 2);
    __atomic_store_n(&pmm.reserve, (int64_t)frames, __ATOMIC_RELAXED);
    __atomic_store_n(&pmm.low_mark, (int64_t)(2 * frames + pmm.total / 64), __ATOMIC_RELAXED);
    pmm_note_pressure();
}

uint64_t pmm_reserve(void)
{
    return (uint64_t)__atomic_load_n(&pmm.reserve, __ATOMIC_RELAXED);
}

/* ---- pressure ---- */

/* Returns whether caches may be open. Other CPUs cannot allocate a frame in a cache, so caches stay
 * closed while memory is short or a test makes allocations fail. */
bool pmm_caches_allowed(void)
{
    return __atomic_load_n(&pmm.pressure, __ATOMIC_RELAXED) != PMM_CRITICAL &&
           __atomic_load_n(&pmm.fail_from, __ATOMIC_RELAXED) == 0;
}

enum pmm_pressure pmm_pressure(void)
{
    return __atomic_load_n(&pmm.pressure, __ATOMIC_RELAXED);
}

/* Hysteresis: a level ends only an eighth above the mark at which it began. */
static bool at_or_below(int64_t left, int64_t mark, bool already)
{
    return left <= mark + (already ? mark / 8 + 1 : 0);
}

static enum pmm_pressure pressure_level_of(int64_t left, enum pmm_pressure now)
{
    if (at_or_below(left, 2 * __atomic_load_n(&pmm.reserve, __ATOMIC_RELAXED), now == PMM_CRITICAL))
        return PMM_CRITICAL;
    if (at_or_below(left, __atomic_load_n(&pmm.low_mark, __ATOMIC_RELAXED), now >= PMM_LOW))
        return PMM_LOW;
    return PMM_NORMAL;
}

static void tell_watchers(enum pmm_pressure level)
{
    for (struct pmm_watcher *at = __atomic_load_n(&watchers.first, __ATOMIC_ACQUIRE); at != NULL;
         at = at->next)
        at->changed(at, level);
}

void pmm_note_pressure(void)
{
    enum pmm_pressure now = __atomic_load_n(&pmm.pressure, __ATOMIC_RELAXED);
    enum pmm_pressure level =
        pressure_level_of(__atomic_load_n(&pmm.free_frames, __ATOMIC_RELAXED), now);

    if (level > now) {
        /* Cached frames are free too: drain the caches before reporting a lower level. */
        pmm_drain();
        level = pressure_level_of(__atomic_load_n(&pmm.free_frames, __ATOMIC_RELAXED), now);
    }
    if (level != now && __atomic_compare_exchange_n(&pmm.pressure, &now, level, false,
                                                    __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        if (level == PMM_CRITICAL)
            pmm_drain();
        tell_watchers(level);
    }
}

void pmm_watch(struct pmm_watcher *watcher)
{
    bool were_on = machine_interrupts_off();

    CHECK(watcher->changed != NULL);
    spin_lock(&watchers.lock);
    watcher->next = watchers.first;
    __atomic_store_n(&watchers.first, watcher, __ATOMIC_RELEASE);
    spin_unlock(&watchers.lock);
    machine_interrupts_restore(were_on);
}

/* ---- failures on purpose ---- */

uint64_t pmm_fail_from(uint64_t n, uint64_t count)
{
    uint64_t calls = __atomic_exchange_n(&pmm.fail_calls, 0, __ATOMIC_RELAXED);

    __atomic_store_n(&pmm.fail_count, count, __ATOMIC_RELAXED);
    __atomic_store_n(&pmm.fail_from, n, __ATOMIC_RELAXED);
    if (n != 0)
        pmm_drain();
    return calls;
}

bool pmm_fails_now(void)
{
    uint64_t from = __atomic_load_n(&pmm.fail_from, __ATOMIC_RELAXED);
    uint64_t call;

    if (__builtin_expect(from == 0, 1))
        return false;
    call = __atomic_add_fetch(&pmm.fail_calls, 1, __ATOMIC_RELAXED);
    return call >= from && call - from < __atomic_load_n(&pmm.fail_count, __ATOMIC_RELAXED);
}

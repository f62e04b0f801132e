/*
 * Frames that are zero before they are wanted.
 *
 * Processors without work clear frames into one pool; each processor that wants zeroes takes them
 * from the pool in batches. The pool is filled up to its high mark once it has fallen below the low
 * one, and only while memory is plentiful: what lies here is free memory all the same.
 */
#include "cpu/spin.h"
#include "pmm/pmm_internal.h"

#define POOL_MAX 2048U

/* A batch that a processor takes from the pool. */
#define BATCH 16U

/* The pool's high mark is this part of memory. */
#define POOL_PART 32U

static struct {
    uint8_t lock;
    bool filling; /* below the low mark, and not yet at the high one */
    uint32_t count;
    uint32_t high;
    uint64_t filled;
    uint32_t frames[POOL_MAX];
} pool;

static bool lock_pool(void)
{
    bool were_on = machine_interrupts_off();

    spin_lock(&pool.lock);
    return were_on;
}

static void unlock_pool(bool were_on)
{
    spin_unlock(&pool.lock);
    machine_interrupts_restore(were_on);
}

void zero_pool_start(void)
{
    bool were_on = lock_pool();

    pool.count = 0;
    pool.filled = 0;
    pool.filling = true;
    pool.high = (uint32_t)min_u64(POOL_MAX, pmm.total / POOL_PART);
    unlock_pool(were_on);
}

uint64_t zero_pool_count(void)
{
    return __atomic_load_n(&pool.count, __ATOMIC_RELAXED);
}

/* Takes at most count frames; how many there were. */
static uint32_t pool_take(uint32_t *frames, uint32_t count)
{
    bool were_on = lock_pool();
    uint32_t taken = 0;

    while (taken < count && pool.count > 0)
        frames[taken++] = pool.frames[--pool.count];
    unlock_pool(were_on);
    return taken;
}

static bool pool_put(struct pfn frame)
{
    bool were_on = lock_pool();
    bool room = pool.count < pool.high;

    if (room) {
        pool.frames[pool.count++] = frame.index;
        pool.filled++;
    }
    unlock_pool(were_on);
    return room;
}

void zero_pool_drain(void)
{
    uint32_t frame;

    while (pool_take(&frame, 1) == 1)
        zones_give((struct pfn){frame}, 0);
}

/* Whether the pool wants more. */
static bool pool_wants(void)
{
    bool were_on = lock_pool();
    bool wants;

    if (pool.count <= pool.high / 4)
        pool.filling = true;
    if (pool.count >= pool.high)
        pool.filling = false;
    wants = pool.filling;
    unlock_pool(were_on);
    return wants && pmm_pressure() == PMM_NORMAL && pmm_caches_allowed();
}

/* One frame cleared into the pool; false when there is none to spare. */
static bool fill_one(void)
{
    struct pfn frame;

    if (!pool_wants() || zones_take(0, pmm.low_mark, false, &frame) != OK)
        return false;
    if (PMM_JUNK)
        pmm_junk_check(frame);
    machine_clear_frame(frame_pointer(frame));
    if (pool_put(frame))
        return true;
    zones_give(frame, 0);
    return false;
}

unsigned pmm_idle_fill(unsigned budget)
{
    unsigned cpus = __atomic_load_n(&pmm.cpus, __ATOMIC_RELAXED);
    unsigned filled = 0;

    while (filled < budget && fill_one())
        filled++;
    for (unsigned cpu = 0; filled > 0 && cpu < cpus; cpu++)
        cache_open(&pmm_caches[cpu][PMM_CACHE_ZERO]);
    return filled;
}

/* What the taken cache holds once it was filled from the pool, if it was empty. When nothing is left
 * it is closed, so that nobody looks again before the pool is filled, and stays held. */
static uint32_t fill_from_pool(struct pmm_cache *cache, uint32_t state)
{
    if (state == PMM_CACHE_EMPTY)
        state += pool_take(cache->frames, BATCH);
    if (state == PMM_CACHE_EMPTY) {
        __atomic_store_n(&cache->open, false, __ATOMIC_RELEASE);
        return PMM_CACHE_HELD;
    }
    return state;
}

void pmm_refill_zeroed(struct pmm_cache *cache)
{
    uint32_t state = __atomic_exchange_n(&cache->state, PMM_CACHE_HELD, __ATOMIC_ACQUIRE);

    if (state != PMM_CACHE_HELD)
        state = fill_from_pool(cache, state);
    if (state != PMM_CACHE_HELD)
        __atomic_store_n(&cache->state, state, __ATOMIC_RELEASE);
}

bool pmm_alloc_zeroed(struct pmm_cache *cache, enum frame_kind kind, struct pfn *frame)
{
    uint32_t state = __atomic_exchange_n(&cache->state, PMM_CACHE_HELD, __ATOMIC_ACQUIRE);

    if (state != PMM_CACHE_HELD)
        state = fill_from_pool(cache, state);
    if (state == PMM_CACHE_HELD)
        return false;
    frame->index = cache->frames[state - PMM_CACHE_EMPTY - 1];
    cache->by_kind[kind]++;
    pmm_note(&cache->hits);
    __atomic_store_n(&cache->state, state - 1, __ATOMIC_RELEASE);
    pmm_check_free(*frame);
    pmm_prepare(*frame, kind);
    return true;
}

struct pmm_zero_figures pmm_zero_figures(void)
{
    struct pmm_zero_figures figures = {.pooled = zero_pool_count()};
    unsigned cpus = __atomic_load_n(&pmm.cpus, __ATOMIC_RELAXED);

    for (unsigned cpu = 0; cpu < cpus; cpu++) {
        const struct pmm_cache *cache = &pmm_caches[cpu][PMM_CACHE_ZERO];
        uint32_t state = __atomic_load_n(&cache->state, __ATOMIC_RELAXED);

        figures.pooled += state > PMM_CACHE_EMPTY ? state - PMM_CACHE_EMPTY : 0;
        figures.hits += __atomic_load_n(&cache->hits, __ATOMIC_RELAXED);
        figures.misses += __atomic_load_n(&cache->missed, __ATOMIC_RELAXED);
    }
    figures.filled = __atomic_load_n(&pool.filled, __ATOMIC_RELAXED);
    return figures;
}

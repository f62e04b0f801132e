/*
 * The pool of cleared frames.
 *
 * Idle processors clear frames into one pool; a processor that needs cleared frames takes them from
 * the pool in batches. Filling starts when the pool falls below its low mark and ends at the high
 * one, and only while memory is plentiful. Pooled frames still count as free. Frames that are freed
 * as zero go to the processor's cache, and from there to the pool while it has room.
 */
#include "cpu/smp/spin.h"
#include "cpu/smp/thread.h"
#include "pmm/internal.h"

#define POOL_MAX 2048U

/* A batch that a processor takes from the pool. */
#define BATCH 16U

/* Frames that a full cache gives away at once. */
#define HALF (PMM_CACHE_FRAMES / 2)

/* The pool's high mark is 1/32 of memory, and its low mark 1/4 of the high mark. */
#define POOL_PART 32U
#define LOW_PART  4U

static struct {
    uint8_t lock;
    bool filling; /* below the low mark, and not yet at the high one */
    uint32_t count;
    uint32_t high;
    uint64_t filled;
    unsigned fillers; /* processors in pmm_idle_fill; atomic, as is the next */
    unsigned pauses;
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

bool pmm_zero_pool_frame(uint32_t place, struct pfn *frame)
{
    if (place >= __atomic_load_n(&pool.count, __ATOMIC_RELAXED))
        return false;
    frame->index = __atomic_load_n(&pool.frames[place], __ATOMIC_RELAXED);
    return true;
}

uint64_t zero_pool_count(void)
{
    return __atomic_load_n(&pool.count, __ATOMIC_RELAXED);
}

/* Takes at most count frames and returns how many. At the low mark it wakes an idle processor to
 * fill the pool. */
static uint32_t zero_pool_pool_take(uint32_t *frames, uint32_t count)
{
    bool were_on = lock_pool();
    uint32_t taken = 0;
    bool low;

    while (taken < count && pool.count > 0)
        frames[taken++] = pool.frames[--pool.count];
    low = !pool.filling && pool.count <= pool.high / LOW_PART;
    if (low)
        pool.filling = true;
    unlock_pool(were_on);
    if (low)
        thread_wake_idle();
    return taken;
}

/* Adds at most count zeroed frames. Returns the number added. */
static uint32_t pool_put(const uint32_t *frames, uint32_t count)
{
    bool were_on = lock_pool();
    uint32_t put = 0;

    while (put < count && pool.count < pool.high)
        pool.frames[pool.count++] = frames[put++];
    unlock_pool(were_on);
    return put;
}

void zero_pool_drain(void)
{
    uint32_t frame;

    while (zero_pool_pool_take(&frame, 1) == 1)
        zones_give((struct pfn){frame}, 0);
}

/* Returns true if the pool may hold frames now. */
static bool pool_allowed(void)
{
    return pmm_pressure() == PMM_NORMAL && pmm_caches_allowed();
}

/* Opens every processor's cache of zeroed frames, so that it asks the pool. */
static void open_caches(void)
{
    unsigned cpus = __atomic_load_n(&pmm.cpus, __ATOMIC_RELAXED);

    for (unsigned cpu = 0; cpu < cpus; cpu++)
        cache_open(&pmm_caches[cpu][PMM_CACHE_ZERO]);
}

/* ---- filling ---- */

/* Returns true while the pool is being filled. */
static bool pool_wants(void)
{
    bool were_on = lock_pool();
    bool wants;

    if (pool.count >= pool.high)
        pool.filling = false;
    wants = pool.filling;
    unlock_pool(were_on);
    return wants && pool_allowed();
}

/* Clears one frame into the pool. Returns false if no frame can be spared. */
static bool fill_one(void)
{
    struct pfn frame;

    if (!pool_wants() || zones_take(0, pmm.low_mark, false, &frame) != OK)
        return false;
    if (PMM_JUNK)
        pmm_junk_check(frame);
    machine_clear_frame(frame_pointer(frame));
    if (pool_put(&frame.index, 1) == 0) {
        zones_give(frame, 0);
        return false;
    }
    __atomic_fetch_add(&pool.filled, 1, __ATOMIC_RELAXED);
    return true;
}

unsigned pmm_idle_fill(unsigned budget)
{
    unsigned filled = 0;

    __atomic_fetch_add(&pool.fillers, 1, __ATOMIC_SEQ_CST);
    while (filled < budget && __atomic_load_n(&pool.pauses, __ATOMIC_SEQ_CST) == 0 && fill_one())
        filled++;
    if (filled > 0)
        open_caches();
    __atomic_fetch_sub(&pool.fillers, 1, __ATOMIC_SEQ_CST);
    return filled;
}

void pmm_idle_pause(void)
{
    __atomic_fetch_add(&pool.pauses, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&pool.fillers, __ATOMIC_SEQ_CST) != 0)
        machine_pause();
}

void pmm_idle_resume(void)
{
    unsigned before = __atomic_fetch_sub(&pool.pauses, 1, __ATOMIC_SEQ_CST);

    CHECK(before > 0);
    if (before == 1 && __atomic_load_n(&pool.filling, __ATOMIC_RELAXED))
        thread_wake_idle();
}

/* ---- taking and giving back ---- */

/* Fills the held cache from the pool if it is empty, and returns its state. If the pool is empty
 * too, the cache is closed and stays held, so that no allocation asks until the pool has frames. */
static uint32_t fill_from_pool(struct pmm_cache *cache, uint32_t state)
{
    if (state == PMM_CACHE_EMPTY)
        state += zero_pool_pool_take(cache->frames, BATCH);
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

/* Refills the cache by a batch from the pool and takes one frame of it. */
bool pmm_take_zeroed_slow(struct pmm_cache *cache, uint32_t state, enum frame_kind kind,
                          struct pfn *frame)
{
    if (state != PMM_CACHE_HELD)
        state = fill_from_pool(cache, state);
    if (state == PMM_CACHE_HELD)
        return false;
    frame->index = cache->frames[state - PMM_CACHE_EMPTY - 1];
    cache->by_kind[kind]++;
    pmm_note(&cache->hits);
    __atomic_store_n(&cache->state, state - 1, __ATOMIC_RELEASE);
    if (PMM_JUNK)
        pmm_zero_check(*frame);
    pmm_check_free(*frame);
    pmm_prepare(*frame, kind);
    return true;
}

/* Passes zeroed frames that do not fit into a cache to the pool, or to the allocator. */
static void give_clean(const uint32_t *frames, uint32_t count)
{
    uint32_t kept = pool_allowed() ? pool_put(frames, count) : 0;

    if (kept > 0)
        open_caches();
    for (uint32_t i = kept; i < count; i++)
        zones_give((struct pfn){frames[i]}, 0);
}

void pmm_free_clean_slow(struct pmm_cache *cache, uint32_t state, enum frame_kind kind,
                         struct pfn frame)
{
    if (state == PMM_CACHE_HELD) {
        cache_reopen(cache);
        state = __atomic_exchange_n(&cache->state, PMM_CACHE_HELD, __ATOMIC_ACQUIRE);
    }
    if (state == PMM_CACHE_HELD) {
        count_shared(kind, (uint64_t)-1);
        give_clean(&frame.index, 1);
    } else {
        if (state == PMM_CACHE_EMPTY + PMM_CACHE_FRAMES) {
            give_clean(cache->frames, HALF);
            for (unsigned i = HALF; i < PMM_CACHE_FRAMES; i++)
                cache->frames[i - HALF] = cache->frames[i];
            state -= HALF;
        }
        cache->frames[state - PMM_CACHE_EMPTY] = frame.index;
        cache->by_kind[kind]--;
        __atomic_store_n(&cache->state, state + 1, __ATOMIC_RELEASE);
    }
    pmm_note_pressure();
}

/* ---- figures ---- */

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

/*
 * Physical memory: allocates and frees frames, and keeps the ledger of their use.
 *
 * Single frames come from a cache of the running processor, blocks from the frame allocator that
 * the run has chosen (pmm/alloc/allocator.h). The processor's number is only a hint: a cache is
 * locked by one exchange of its state, and a caller that finds it locked goes to the allocator. So
 * interrupts need not be off, and a thread may migrate at any time.
 *
 * Units: frames of 4 KiB; a block of order n is 2^n frames at a multiple of 2^n, n = 0 to 9 or 18.
 * Owns: every frame of kind FRAME_FREE, and the frame records.
 * State of a frame: FREE -> (alloc) -> an owned kind with count 1 -> (free) -> FREE; the legal
 * transitions are in frame_successors (pmm/frame.h).
 * Fails with: STATUS_NO_MEMORY. Freeing cannot fail; a double free, the freeing of what was never
 * allocated and a wrong order are a CHECK in every build.
 * Context: any, also in a fault; never waits.
 */
#ifndef PMM_PMM_H
#define PMM_PMM_H

#include <stdbool.h>

#include "cpu/machine.h"
#include "lib/bootinfo.h"
#include "lib/status.h"
#include "pmm/alloc/allocator.h"
#include "pmm/cache.h"
#include "pmm/frame.h"

/* Sets the allocator that the next pmm_init starts; NULL, as before the first call: the default. */
void pmm_choose(const struct frame_allocator *allocator);
const struct frame_allocator *pmm_allocator(void);

/* Takes over the free memory of the map (pmm/memory_map.h), at most limit bytes (0: all). The
 * records of all RAM are mapped and zero. The allocator's metadata comes from the end of a free
 * range. The first MiB stays reserved: other processors start there. Returns STATUS_NO_MEMORY if
 * too few frames are left to run. */
MUST_USE enum status pmm_init(uint64_t limit);

/* Returns the bytes of the allocator's metadata. */
uint64_t pmm_metadata_bytes(void);

/* Returns the frames excluded by pmm_init's limit; the ledger counts them as reserved. */
uint64_t pmm_left_out(void);

enum frame_clear { FRAME_UNCLEARED, FRAME_CLEARED };

/* Allocates one frame with count 1; its other record fields are zero, SLOT_NONE or PFN_NONE. Its
 * content is zero with FRAME_CLEARED, otherwise junk. */
MUST_USE static inline enum status pmm_alloc(enum frame_kind kind, enum frame_clear clear,
                                             struct pfn *frame);

/* As pmm_alloc, below 4 GiB: for devices that cannot reach more. */
MUST_USE enum status pmm_alloc_low(enum frame_kind kind, enum frame_clear clear, struct pfn *frame);

/* As pmm_alloc, a block: the record of its first frame stands for all. */
MUST_USE enum status pmm_alloc_order(unsigned order, enum frame_kind kind, enum frame_clear clear,
                                     struct pfn *first);

/* Refills the running processor's empty caches for pmm_take. Returns false if memory is short or
 * the caches are locked. */
bool pmm_refill(void);

/* Frees a frame whose count is 0, or of which the caller holds the only reference. */
static inline void pmm_free(struct pfn frame);

/* Frees frames of one kind whose count, level and live are 0. They bypass the caches: neighbours go
 * back to the allocator together. A frame with one of the flags is first passed to `flagged`, which
 * handles them. */
void pmm_free_many(const struct pfn *frames, unsigned count, enum frame_kind kind, uint8_t flags,
                   void (*flagged)(struct pfn frame));

/* As pmm_free, for a frame that is all zeros, such as an emptied table (rule C12): it serves the
 * next request for a cleared frame on this processor. */
static inline void pmm_free_clean(struct pfn frame);
void pmm_free_order(struct pfn first, unsigned order);

/* Splits a block that its caller alone holds into blocks of a smaller order. Each has the same kind
 * and count 1, and is freed by itself. */
void pmm_split(struct pfn first, unsigned order, unsigned to);

/* Reverses pmm_split: joins blocks of one order, all of count 1 and held by the caller alone, into
 * one aligned block of the same kind with count 1. Their other record fields are lost. */
void pmm_join(struct pfn first, unsigned order, unsigned from);

/* Changes the kind of a frame in use; the image's zero page becomes FRAME_ZERO so. */
void pmm_retype(struct pfn frame, enum frame_kind kind);

struct pmm_usage {
    uint64_t total; /* frames in use or free */
    uint64_t by_kind[FRAME_KINDS];
};

/* Returns the number of frames of each kind: the ledger. Exact while no CPU allocates. The counters
 * are per CPU, so that the sum visits every CPU that has allocated. */
struct pmm_usage pmm_usage(void);

/* Returns one more than the highest frame number; each frame has a record. */
uint32_t pmm_frame_limit(void);

/* Compares every record with the usage, the caches and the allocator, and panics on a difference.
 * No other thread may allocate meanwhile; idle processors are paused. */
void pmm_audit(void);

/* Returns the frames of all caches and of the zero pool to the allocator. */
void pmm_drain(void);

/* Returns the metadata and frames of zone 0 (below 4 GiB) or 1 (above); false if it is empty. */
bool pmm_zone(unsigned number, const void **self, uint64_t *frames);
#define PMM_ZONES 2U

/* ---- running out ---- */

/* The reserve. Anonymous pages may not use it, the kernel's objects may use half of it, and tables,
 * devices and the swap area all of it, since a fault in flight and reclaim must make progress.
 * pmm_init sets it by the size of memory. */
void pmm_set_reserve(uint64_t frames);
uint64_t pmm_reserve(void);

enum pmm_pressure { PMM_NORMAL, PMM_LOW, PMM_CRITICAL };

enum pmm_pressure pmm_pressure(void);

/* Called when the level changes, in the context of the allocation or free that changed it. It may
 * set a flag or wake a thread, but neither allocate nor wait. The caller owns the watcher and keeps
 * it for good; watchers are added at the start only. */
struct pmm_watcher {
    void (*changed)(struct pmm_watcher *watcher, enum pmm_pressure level);
    struct pmm_watcher *next; /* the list's own */
};

void pmm_watch(struct pmm_watcher *watcher);

/* For tests: makes the n-th allocation from now (1 = the next) and count - 1 after it fail; n = 0
 * ends that. Returns the allocations since the last call. */
uint64_t pmm_fail_from(uint64_t n, uint64_t count);

/* ---- zeroed frames ---- */

/* Clears at most budget frames for the pool and returns how many, 0 if the pool is full enough or
 * memory is short. Called by idle processors. When the pool falls to its low mark, a halted
 * processor is woken (thread_wake_idle). */
unsigned pmm_idle_fill(unsigned budget);

/* Pauses pmm_idle_fill for measurements, and returns once no processor is in it. Calls nest; each
 * needs its pmm_idle_resume. */
void pmm_idle_pause(void);
void pmm_idle_resume(void);

struct pmm_zero_figures {
    uint64_t pooled; /* frames in the pool and in the processors' caches of it */
    uint64_t hits;   /* cleared frames that came from the pool, or were given back as zero */
    uint64_t misses; /* cleared frames that were cleared when they were wanted */
    uint64_t filled; /* frames that pmm_idle_fill has cleared */
};

struct pmm_zero_figures pmm_zero_figures(void);

/* ---- the fast path ---- */

/* Takes a frame from the running processor's cache of zeroed frames, or through it from the
 * pool. */
static inline bool pmm_take_zeroed(struct pmm_cache *cache, enum frame_kind kind, struct pfn *frame)
{
    uint32_t state = __atomic_exchange_n(&cache->state, PMM_CACHE_HELD, __ATOMIC_ACQUIRE);
    struct pfn taken;

    if (__builtin_expect(state <= PMM_CACHE_EMPTY, 0))
        return pmm_take_zeroed_slow(cache, state, kind, frame);
    taken.index = cache->frames[(size_t)state - PMM_CACHE_EMPTY - 1];
    cache->by_kind[kind]++;
    pmm_note(&cache->hits);
    __atomic_store_n(&cache->state, state - 1, __ATOMIC_RELEASE);
    *frame = taken;
    if (PMM_JUNK)
        pmm_zero_check(taken);
    pmm_check_free(taken);
    pmm_prepare(taken, kind);
    return true;
}

static inline enum status pmm_alloc(enum frame_kind kind, enum frame_clear clear, struct pfn *frame)
{
    struct pmm_cache *caches = pmm_caches_of(machine_cpu());
    struct pmm_cache *cache = &caches[PMM_CACHE_ANY];
    struct pfn taken;
    uint32_t state;

    CHECK(frame_may_become(FRAME_FREE, kind));
    if (clear == FRAME_CLEARED &&
        __atomic_load_n(&caches[PMM_CACHE_ZERO].state, __ATOMIC_RELAXED) != PMM_CACHE_HELD &&
        pmm_take_zeroed(&caches[PMM_CACHE_ZERO], kind, frame))
        return OK;
    state = __atomic_exchange_n(&cache->state, PMM_CACHE_HELD, __ATOMIC_ACQUIRE);
    if (__builtin_expect(state <= PMM_CACHE_EMPTY, 0))
        return pmm_alloc_slow(cache, state, kind, clear == FRAME_CLEARED, frame);
    taken.index = cache->frames[(size_t)state - PMM_CACHE_EMPTY - 1];
    cache->by_kind[kind]++;
    __atomic_store_n(&cache->state, state - 1, __ATOMIC_RELEASE);
    *frame = taken;
    if (PMM_JUNK)
        pmm_junk_check(taken);
    pmm_check_free(taken);
    pmm_prepare(taken, kind);
    if (clear == FRAME_CLEARED) {
        pmm_note(&caches[PMM_CACHE_ZERO].missed);
        machine_clear_frame(frame_pointer(taken));
    }
    return OK;
}

static inline bool pmm_has_zeroed(const struct pmm_cache *caches)
{
    return __atomic_load_n(&caches[PMM_CACHE_ZERO].state, __ATOMIC_RELAXED) != PMM_CACHE_HELD;
}

/* As pmm_alloc, but only from one of the running processor's caches, so that nothing is called.
 * Returns false if the cache is empty; pmm_refill may help. pmm_has_zeroed says whether zeroed
 * frames may be there. The caller checks the frame's record (pmm_is_free) and writes it; with
 * FRAME_CLEARED it also clears a frame that is not from the zeroed cache. The figures need no
 * atomics: each processor has its own. */
static inline __attribute__((always_inline)) bool
pmm_take(struct pmm_cache *caches, enum pmm_cache_content content, enum frame_kind kind,
         enum frame_clear clear, struct pfn *frame)
{
    struct pmm_cache *cache = &caches[content];
    uint32_t state = __atomic_exchange_n(&cache->state, PMM_CACHE_HELD, __ATOMIC_ACQUIRE);
    uint64_t number; /* in 64 bits from the start, so that it need not be extended */

    if (__builtin_expect(state <= PMM_CACHE_EMPTY, 0)) {
        if (state == PMM_CACHE_EMPTY)
            __atomic_store_n(&cache->state, state, __ATOMIC_RELEASE);
        return false;
    }
    number = cache->frames[(size_t)state - PMM_CACHE_EMPTY - 1];
    frame->index = (uint32_t)number;
    cache->by_kind[kind]++;
    if (content == PMM_CACHE_ZERO)
        cache->hits++;
    else if (clear == FRAME_CLEARED)
        caches[PMM_CACHE_ZERO].missed++;
    __atomic_store_n(&cache->state, state - 1, __ATOMIC_RELEASE);
    if (PMM_JUNK && content == PMM_CACHE_ANY)
        pmm_junk_check(*frame);
    return true;
}

/* Frees a frame into the processor's cache of this content; a zero frame stays zero. */
static inline __attribute__((always_inline)) void pmm_free_into(struct pfn frame,
                                                                enum pmm_cache_content content)
{
    struct pmm_cache *cache = &pmm_caches_of(machine_cpu())[content];
    struct frame *record = frame_record(frame);
    uint32_t state;
    uint8_t kind;

    if (__builtin_expect(frame.index >= pmm_frame_end || !pmm_may_free(record), 0))
        pmm_free_refused(frame);
    kind = record->kind;
    if (PMM_JUNK && content == PMM_CACHE_ZERO)
        pmm_zero_check(frame);
    else if (PMM_JUNK)
        pmm_junk_fill(frame);
    pmm_mark_free(record);
    state = __atomic_exchange_n(&cache->state, PMM_CACHE_HELD, __ATOMIC_ACQUIRE);
    if (__builtin_expect(state - PMM_CACHE_EMPTY >= PMM_CACHE_FRAMES, 0)) {
        if (content == PMM_CACHE_ZERO)
            pmm_free_clean_slow(cache, state, (enum frame_kind)kind, frame);
        else
            pmm_free_slow(cache, state, (enum frame_kind)kind, frame);
        return;
    }
    cache->frames[state - PMM_CACHE_EMPTY] = frame.index;
    cache->by_kind[kind]--;
    __atomic_store_n(&cache->state, state + 1, __ATOMIC_RELEASE);
}

static inline void pmm_free(struct pfn frame)
{
    pmm_free_into(frame, PMM_CACHE_ANY);
}

static inline void pmm_free_clean(struct pfn frame)
{
    pmm_free_into(frame, PMM_CACHE_ZERO);
}

#endif

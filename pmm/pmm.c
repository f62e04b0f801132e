/* Frame allocation behind the per-CPU caches: zones, cache refill, blocks, the ledger. */
#include "pmm/internal.h"

#include "lib/ktap.h"

/* Frames that a cache takes from the allocator at once, or gives back when it is full: 64-bit words
 * of its bitmap, or one block. */
#define BATCH_ORDER 7U
#define BATCH       (1U << BATCH_ORDER)
#define WORD        64U

_Static_assert(BATCH == PMM_CACHE_FRAMES / 2 && BATCH % WORD == 0, "half a cache, whole words");

/* Retries for a frame that the counter has promised: other CPUs may move frames meanwhile. */
#define TAKE_TRIES 1000U

struct pmm_cache pmm_caches[CPU_MAX + 1][PMM_CACHES];
uint32_t pmm_frame_end;
struct pmm pmm;

/* ---- zones ---- */

static enum status zone_take(const struct pmm_zone *zone, unsigned order, struct pfn *first)
{
    enum status status = STATUS_NO_MEMORY;
    uint64_t found = 0;

    if (zone->self != NULL)
        status = pmm.allocator->take(zone->self, machine_cpu(), order, &found);
    if (status == OK)
        first->index = zone->base + (uint32_t)found;
    return status;
}

static enum status any_zone_take(unsigned order, bool low, struct pfn *first)
{
    if (!low && zone_take(&pmm.zones[ZONE_HIGH], order, first) == OK)
        return OK;
    return zone_take(&pmm.zones[ZONE_LOW], order, first);
}

/* Lowers the free count by one if more than floor frames are left. */
static bool claim_frame(int64_t floor)
{
    int64_t left = __atomic_load_n(&pmm.free_frames, __ATOMIC_RELAXED);

    while (left > floor) {
        if (__atomic_compare_exchange_n(&pmm.free_frames, &left, left - 1, true, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED))
            return true;
    }
    return false;
}

/* Takes frames from the zones. A single frame is counted first and then found. A block is found
 * first: its search may fail, and meanwhile other CPUs must not see memory as exhausted. */
enum status zones_take(unsigned order, int64_t floor, bool low, struct pfn *first)
{
    int64_t size = (int64_t)order_frames(order);

    if (order > 0) {
        enum status status = STATUS_NO_MEMORY;

        if (__atomic_load_n(&pmm.free_frames, __ATOMIC_RELAXED) - size >= floor)
            status = any_zone_take(order, low, first);
        if (status == OK)
            __atomic_fetch_sub(&pmm.free_frames, size, __ATOMIC_ACQ_REL);
        return status;
    }
    if (!claim_frame(floor))
        return STATUS_NO_MEMORY;
    for (unsigned tries = low ? 1 : TAKE_TRIES; tries > 0; tries--, machine_pause()) {
        if (any_zone_take(0, low, first) == OK)
            return OK;
    }
    __atomic_fetch_add(&pmm.free_frames, 1, __ATOMIC_ACQ_REL);
    return STATUS_NO_MEMORY;
}

void zones_give(struct pfn first, unsigned order)
{
    const struct pmm_zone *zone = &pmm.zones[zone_of(first)];

    CHECK_MSG(zone->self != NULL && first.index >= zone->base,
              "frame %x is given back to a zone from %x", first.index, zone->base);
    pmm.allocator->give(zone->self, machine_cpu(), first.index - zone->base, order);
    __atomic_fetch_add(&pmm.free_frames, (int64_t)order_frames(order), __ATOMIC_ACQ_REL);
}

void zones_give_group(struct pfn first, uint64_t mask, unsigned count)
{
    const struct pmm_zone *zone = &pmm.zones[zone_of(first)];

    CHECK_MSG(zone->self != NULL && first.index >= zone->base && first.index < pmm_frame_end,
              "frames from %x on are given back to a zone from %x", first.index, zone->base);
    if (pmm.allocator->give_some != NULL) {
        pmm.allocator->give_some(zone->self, machine_cpu(), first.index - zone->base, mask, count);
        __atomic_fetch_add(&pmm.free_frames, count, __ATOMIC_ACQ_REL);
        return;
    }
    for (; mask != 0; mask &= mask - 1)
        zones_give((struct pfn){first.index + (uint32_t)__builtin_ctzll(mask)}, 0);
}

void zones_give_many(const struct pfn *frames, unsigned count)
{
    for (unsigned i = 0; i < count;) {
        uint32_t word = frames[i].index / 64;
        unsigned from = i;
        uint64_t mask = 0;

        for (; i < count && frames[i].index / 64 == word; i++)
            mask |= UINT64_C(1) << frames[i].index % 64;
        zones_give_group((struct pfn){word * 64}, mask, i - from);
    }
}

bool pmm_zone(unsigned number, const void **self, uint64_t *frames)
{
    CHECK(number < PMM_ZONES);
    *self = pmm.zones[number].self;
    *frames = pmm.zones[number].frames;
    return *self != NULL;
}

/* ---- caches ---- */

static void note_cpu(unsigned cpu)
{
    unsigned seen = __atomic_load_n(&pmm.cpus, __ATOMIC_RELAXED);

    while (seen <= cpu && !__atomic_compare_exchange_n(&pmm.cpus, &seen, cpu + 1, true,
                                                       __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

void cache_open(struct pmm_cache *cache)
{
    if (!__atomic_exchange_n(&cache->open, true, __ATOMIC_ACQ_REL))
        __atomic_store_n(&cache->state, PMM_CACHE_EMPTY, __ATOMIC_RELEASE);
}

void cache_close(struct pmm_cache *cache)
{
    uint32_t state = __atomic_exchange_n(&cache->state, PMM_CACHE_HELD, __ATOMIC_ACQUIRE);

    if (state == PMM_CACHE_HELD)
        return;
    while (state-- > PMM_CACHE_EMPTY)
        zones_give((struct pfn){cache->frames[state - PMM_CACHE_EMPTY]}, 0);
    __atomic_store_n(&cache->open, false, __ATOMIC_RELEASE);
}

void pmm_drain(void)
{
    unsigned cpus = __atomic_load_n(&pmm.cpus, __ATOMIC_RELAXED);

    zero_pool_drain();
    for (unsigned cpu = 0; cpu < cpus; cpu++) {
        cache_close(&pmm_caches[cpu][PMM_CACHE_ZERO]);
        cache_close(&pmm_caches[cpu][PMM_CACHE_ANY]);
    }
}

void cache_reopen(struct pmm_cache *cache)
{
    if (!__atomic_load_n(&cache->open, __ATOMIC_RELAXED) && pmm_caches_allowed()) {
        note_cpu((unsigned)((cache - pmm_caches[0]) / PMM_CACHES));
        cache_open(cache);
    }
}

/* Writes 64 consecutive frame numbers, two in one store; the lowest comes last. */
static void pmm_put_word(uint32_t frames[WORD], uint32_t first)
{
    uint64_t pair = (uint64_t)(first + WORD - 2) << 32 | (first + WORD - 1);

#pragma GCC unroll 32
    for (unsigned i = 0; i < WORD; i += 2, pair -= UINT64_C(2) << 32 | 2)
        __builtin_memcpy(&frames[i], &pair, sizeof(pair));
}

/* Takes up to BATCH frames, one word of the allocator's bitmap at a time. */
static uint32_t take_words_of(const struct pmm_zone *zone, uint32_t frames[BATCH])
{
    uint32_t count = 0;
    uint64_t first;
    uint64_t mask;

    while (count <= BATCH - WORD &&
           pmm.allocator->take_some(zone->self, machine_cpu(), &first, &mask) > 0) {
        uint32_t start = zone->base + (uint32_t)first;

        if (mask == UINT64_MAX) {
            pmm_put_word(&frames[count], start);
            count += WORD;
            continue;
        }
        for (; mask != 0; mask &= mask - 1)
            frames[count++] = start + (uint32_t)__builtin_ctzll(mask);
    }
    return count;
}

/* Takes up to BATCH frames from one zone: by words, else as one block, else singly. */
static uint32_t take_batch_of(const struct pmm_zone *zone, uint32_t frames[BATCH])
{
    uint32_t count = 0;
    struct pfn taken;

    if (zone->self == NULL)
        return 0;
    if (pmm.allocator->take_some != NULL) {
        count = take_words_of(zone, frames);
        if (count > 0)
            return count;
    } else if (zone_take(zone, BATCH_ORDER, &taken) == OK) {
        uint32_t block = taken.index; /* the calls below may change taken */

        frame_allocator_split(pmm.allocator, zone->self, block - zone->base, BATCH_ORDER, 0);
        for (; count < BATCH; count += WORD)
            pmm_put_word(&frames[count], block + BATCH - WORD - count);
    }
    while (count < BATCH && zone_take(zone, 0, &taken) == OK)
        frames[count++] = taken.index;
    return count;
}

/* Takes up to BATCH frames; none while memory is short. */
static uint32_t take_batch(uint32_t frames[BATCH])
{
    uint32_t count;

    if (!pmm_caches_allowed() || __atomic_load_n(&pmm.free_frames, __ATOMIC_RELAXED) <
                                     __atomic_load_n(&pmm.low_mark, __ATOMIC_RELAXED) + BATCH)
        return 0;
    count = take_batch_of(&pmm.zones[ZONE_HIGH], frames);
    if (count == 0)
        count = take_batch_of(&pmm.zones[ZONE_LOW], frames);
    __atomic_fetch_sub(&pmm.free_frames, count, __ATOMIC_ACQ_REL);
    return count;
}

/* Allocates from the zones. If they are empty, drains all caches and retries once. */
static enum status take_hard(unsigned order, enum frame_kind kind, bool low, struct pfn *first)
{
    enum status status;

    if (pmm_fails_now())
        return STATUS_NO_MEMORY;
    status = zones_take(order, pmm_floor(kind), low, first);
    if (status != OK) {
        pmm_drain();
        status = zones_take(order, pmm_floor(kind), low, first);
    }
    return status;
}

/* Checks a frame or block from the zones, clears it if asked to, and prepares its record. */
static void hand_out(struct pfn first, unsigned order, enum frame_kind kind, bool clear)
{
    pmm_check_free(first);
    for (uint32_t i = 0; i < order_frames(order); i++) {
        struct pfn frame = {first.index + i};

        if (PMM_JUNK)
            pmm_junk_check(frame);
        if (clear)
            machine_clear_frame(frame_pointer(frame));
    }
    pmm_prepare(first, kind);
    if (order > 0) {
        frame_record(first)->level = (uint8_t)order;
        frame_record(first)->flags = FRAME_BLOCK;
    }
}

/* Allocates a frame for a cache that the caller holds and that is empty, and refills the cache. */
static enum status pmm_refill_cache(struct pmm_cache *cache, enum frame_kind kind,
                                    struct pfn *frame)
{
    uint32_t count = take_batch(cache->frames);
    enum status status = OK;

    if (count > 0)
        frame->index = cache->frames[--count];
    else
        status = take_hard(0, kind, false, frame);
    if (status == OK)
        cache->by_kind[kind]++;
    __atomic_store_n(&cache->state, PMM_CACHE_EMPTY + count, __ATOMIC_RELEASE);
    return status;
}

bool pmm_refill(void)
{
    struct pmm_cache *caches = pmm_caches_of(machine_cpu());
    struct pmm_cache *cache = &caches[PMM_CACHE_ANY];
    uint32_t state;

    pmm_refill_zeroed(&caches[PMM_CACHE_ZERO]);
    state = __atomic_exchange_n(&cache->state, PMM_CACHE_HELD, __ATOMIC_ACQUIRE);
    if (state == PMM_CACHE_HELD)
        return false;
    if (state < PMM_CACHE_EMPTY + PMM_CACHE_LOW)
        state += take_batch(&cache->frames[state - PMM_CACHE_EMPTY]);
    __atomic_store_n(&cache->state, state, __ATOMIC_RELEASE);
    pmm_note_pressure();
    return state > PMM_CACHE_EMPTY;
}

enum status pmm_alloc_slow(struct pmm_cache *cache, uint32_t state, enum frame_kind kind,
                           bool clear, struct pfn *frame)
{
    enum status status;

    if (state == PMM_CACHE_EMPTY) {
        status = pmm_refill_cache(cache, kind, frame);
    } else {
        status = take_hard(0, kind, false, frame);
        if (status == OK)
            count_shared(kind, 1);
        cache_reopen(cache);
    }
    if (status == OK) {
        if (clear)
            pmm_note(&cache[PMM_CACHE_ZERO - PMM_CACHE_ANY].missed);
        hand_out(*frame, 0, kind, clear);
    }
    pmm_note_pressure();
    return status;
}

void pmm_free_slow(struct pmm_cache *cache, uint32_t state, enum frame_kind kind, struct pfn frame)
{
    if (state == PMM_CACHE_HELD) {
        count_shared(kind, (uint64_t)-1);
        zones_give(frame, 0);
        cache_reopen(cache);
    } else {
        CHECK(state == PMM_CACHE_EMPTY + PMM_CACHE_FRAMES);
        /* The oldest are the least likely to be in the processor's data cache. */
        struct pfn oldest[BATCH];

        for (unsigned i = 0; i < BATCH; i++)
            oldest[i].index = cache->frames[i];
        zones_give_many(oldest, BATCH);
        for (unsigned i = BATCH; i < PMM_CACHE_FRAMES; i++)
            cache->frames[i - BATCH] = cache->frames[i];
        cache->frames[PMM_CACHE_FRAMES - BATCH] = frame.index;
        cache->by_kind[kind]--;
        __atomic_store_n(&cache->state, state - BATCH + 1, __ATOMIC_RELEASE);
    }
    pmm_note_pressure();
}

void pmm_free_refused(struct pfn frame)
{
    const struct frame *record = frame_record(frame);

    CHECK_MSG(frame.index < pmm_frame_end, "freeing frame %x past the last", frame.index);
    PANIC("freeing frame %x of kind %u with count %u, lock %u, flags %x, order or level %u",
          frame.index, record->kind, record->count, record->lock, record->flags, record->level);
}

/* ---- blocks, and frames of a zone ---- */

static enum status alloc_hard(unsigned order, enum frame_kind kind, enum frame_clear clear,
                              bool low, struct pfn *first)
{
    enum status status;

    CHECK(frame_may_become(FRAME_FREE, kind) && order_valid(order));
    status = take_hard(order, kind, low, first);
    if (status == OK) {
        count_shared(kind, order_frames(order));
        hand_out(*first, order, kind, clear == FRAME_CLEARED);
    }
    pmm_note_pressure();
    return status;
}

enum status pmm_alloc_low(enum frame_kind kind, enum frame_clear clear, struct pfn *frame)
{
    return alloc_hard(0, kind, clear, true, frame);
}

enum status pmm_alloc_order(unsigned order, enum frame_kind kind, enum frame_clear clear,
                            struct pfn *first)
{
    if (order == 0)
        return pmm_alloc(kind, clear, first);
    CHECK(kind != FRAME_TABLE);
    return alloc_hard(order, kind, clear, false, first);
}

/* Returns the first record of a block that its owner frees, after checks. */
static struct frame *owned_block(struct pfn first, unsigned order)
{
    struct frame *record = frame_record(first);

    CHECK(order > 0 && order_valid(order) && first.index < pmm_frame_end);
    CHECK_MSG((record->flags & FRAME_BLOCK) != 0 && record->level == order && record->count <= 1 &&
                  frame_is_owned(record->kind) && record->lock == 0,
              "frame %x as a block of order %u: kind %u, count %u, flags %x, order %u", first.index,
              order, record->kind, record->count, record->flags, record->level);
    return record;
}

void pmm_free_order(struct pfn first, unsigned order)
{
    struct frame *record;
    enum frame_kind kind;

    if (order == 0) {
        pmm_free(first);
        return;
    }
    record = owned_block(first, order);
    kind = (enum frame_kind)record->kind;
    record->flags = 0;
    pmm_mark_free(record);
    for (uint32_t i = 0; PMM_JUNK && i < order_frames(order); i++)
        pmm_junk_fill((struct pfn){first.index + i});
    count_shared(kind, (uint64_t)0 - order_frames(order));
    zones_give(first, order);
    pmm_note_pressure();
}

void pmm_split(struct pfn first, unsigned order, unsigned to)
{
    enum frame_kind kind = (enum frame_kind)owned_block(first, order)->kind;
    const struct pmm_zone *zone = &pmm.zones[zone_of(first)];

    CHECK(order_valid(to) && to < order);
    frame_allocator_split(pmm.allocator, zone->self, first.index - zone->base, order, to);
    for (uint64_t i = 0; i < order_frames(order); i += order_frames(to)) {
        struct pfn part = {first.index + (uint32_t)i};

        pmm_prepare(part, kind);
        if (to > 0) {
            frame_record(part)->level = (uint8_t)to;
            frame_record(part)->flags = FRAME_BLOCK;
        }
    }
}

void pmm_join(struct pfn first, unsigned order, unsigned from)
{
    const struct pmm_zone *zone = &pmm.zones[zone_of(first)];
    uint8_t kind = frame_record(first)->kind;

    CHECK(order_valid(order) && order_valid(from) && from < order && frame_is_owned(kind));
    CHECK(first.index % order_frames(order) == 0);
    CHECK(first.index + order_frames(order) <= pmm_frame_end);
    for (uint64_t i = 0; i < order_frames(order); i += order_frames(from)) {
        struct pfn part = {first.index + (uint32_t)i};
        struct frame *record = frame_record(part);
        bool block = (record->flags & FRAME_BLOCK) != 0;

        CHECK_MSG(record->kind == kind && record->count == 1 && record->lock == 0 &&
                      (from == 0 ? !block : block && record->level == from),
                  "frame %x of kind %u as a part of order %u: count %u, flags %x, order %u",
                  part.index, record->kind, from, record->count, record->flags, record->level);
        record->flags = 0;
        pmm_mark_free(record);
    }
    frame_allocator_join(pmm.allocator, zone->self, first.index - zone->base, order, from);
    pmm_prepare(first, (enum frame_kind)kind);
    frame_record(first)->level = (uint8_t)order;
    frame_record(first)->flags = FRAME_BLOCK;
}

void pmm_retype(struct pfn frame, enum frame_kind kind)
{
    struct frame *record = frame_record(frame);

    CHECK_MSG(record->kind != FRAME_FREE && kind != FRAME_FREE &&
                  frame_may_become((enum frame_kind)record->kind, kind) &&
                  (record->flags & FRAME_BLOCK) == 0,
              "frame %x of kind %u, flags %x, is to become of kind %u", frame.index, record->kind,
              record->flags, kind);
    count_shared((enum frame_kind)record->kind, (uint64_t)-1);
    count_shared(kind, 1);
    record->kind = (uint8_t)kind;
    if (kind == FRAME_ZERO)
        record->count = COUNT_SATURATED;
}

/* ---- reference counts: the slow cases ---- */

/* Returns the record; panics unless its kind has a reference count. */
static struct frame *counted(struct pfn frame)
{
    struct frame *record = frame_record(frame);

    CHECK_MSG(record->count != 0 &&
                  (record->kind == FRAME_TABLE || record->kind == FRAME_ANONYMOUS),
              "count %u of frame %x, kind %u, is not to be changed", record->count, frame.index,
              record->kind);
    return record;
}

void frame_count_saturate(struct pfn frame)
{
    struct frame *record = counted(frame);

    if (__atomic_exchange_n(&record->count, COUNT_SATURATED, __ATOMIC_ACQ_REL) != COUNT_SATURATED)
        ktap_note("frame %x has a count that stands still: it is never freed", frame.index);
}

uint32_t frame_count_keep(struct pfn frame)
{
    (void)counted(frame);
    return COUNT_SATURATED;
}

/* ---- the ledger ---- */

/* Adds the counters of a cache that another CPU may hold. Each is one aligned word, so that a read
 * is whole but may be slightly old. The race is intended; the sanitizer is told so. */
__attribute__((noinline, no_sanitize("thread"))) static void glance(const struct pmm_cache *cache,
                                                                    uint64_t by_kind[FRAME_KINDS])
{
    const volatile uint64_t *counters = cache->by_kind;

    for (unsigned kind = 0; kind < FRAME_KINDS; kind++)
        by_kind[kind] += counters[kind];
}

/* Adds the counters of a cache. Holds it meanwhile, open or closed, unless its owner was
 * interrupted or keeps it for very long. */
static void add_counts(struct pmm_cache *cache, uint64_t by_kind[FRAME_KINDS])
{
    uint32_t state = PMM_CACHE_HELD;
    bool closed = false;

    for (unsigned tries = 0; tries < TAKE_TRIES && state == PMM_CACHE_HELD && !closed; tries++) {
        state = __atomic_exchange_n(&cache->state, PMM_CACHE_HELD, __ATOMIC_ACQUIRE);
        if (state == PMM_CACHE_HELD)
            closed = !__atomic_exchange_n(&cache->open, true, __ATOMIC_ACQ_REL);
        if (state == PMM_CACHE_HELD && !closed)
            machine_pause();
    }
    glance(cache, by_kind);
    if (state != PMM_CACHE_HELD)
        __atomic_store_n(&cache->state, state, __ATOMIC_RELEASE);
    if (closed)
        __atomic_store_n(&cache->open, false, __ATOMIC_RELEASE);
}

struct pmm_usage pmm_usage(void)
{
    unsigned cpus = __atomic_load_n(&pmm.cpus, __ATOMIC_RELAXED);
    struct pmm_usage usage = {.total = pmm.total};
    uint64_t used = 0;

    for (unsigned kind = 0; kind < FRAME_KINDS; kind++)
        usage.by_kind[kind] = __atomic_load_n(&pmm.by_kind[kind], __ATOMIC_RELAXED);
    for (unsigned cpu = 0; cpu < cpus; cpu++) {
        for (unsigned content = 0; content < PMM_CACHES; content++)
            add_counts(&pmm_caches[cpu][content], usage.by_kind);
    }
    for (unsigned kind = FRAME_FREE + 1; kind < FRAME_KINDS; kind++)
        used += usage.by_kind[kind];
    usage.by_kind[FRAME_FREE] = usage.total - used;
    return usage;
}

uint32_t pmm_frame_limit(void)
{
    return pmm_frame_end;
}

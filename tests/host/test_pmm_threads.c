/*
 * Frames allocated and freed by several threads at once, each a processor.
 *
 * The allocators alone: one owner byte per frame, so that a frame allocated twice shows at once.
 * All of physical memory: owners write to their frames without synchronisation, so that
 * ThreadSanitizer finds two owners even if the bytes agree. Blocks pass between threads, so that
 * many are freed by another thread than the one that allocated them.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/random.h"
#include "pmm/memory_map.h"
#include "pmm/pmm.h"
#include "tests/host/fake/each_allocator.h"
#include "tests/host/fake/machine.h"

#define THREADS 4U
#define STEPS   12000U
#define HELD    48U
#define PLACES  32U

/* A block as one word: first frame and order, 0 for none. */
#define BLOCK(first, order) ((uint64_t)(order) << 48 | ((first) + 1))
#define BLOCK_FIRST(block)  (((block)&UINT64_C(0xffffffffffff)) - 1)
#define BLOCK_ORDER(block)  ((unsigned)((block) >> 48))

static uint64_t places[PLACES];

struct worker {
    pthread_t thread;
    unsigned number;
    uint64_t (*take)(unsigned number, struct random *random);
    void (*give)(unsigned number, uint64_t block);
};

/* Keeps some blocks, exchanges some with other threads, frees some, at random. */
static void *work(void *context)
{
    const struct worker *worker = context;
    struct random random = random_from(worker->number + 17);
    uint64_t held[HELD] = {0};

    fake_machine_be_cpu(worker->number);
    for (unsigned step = 0; step < STEPS; step++) {
        uint64_t *mine = &held[random_below(&random, HELD)];

        if (*mine == 0)
            *mine = worker->take(worker->number, &random);
        else if (random_below(&random, 4) == 0)
            *mine = __atomic_exchange_n(&places[random_below(&random, PLACES)], *mine,
                                        __ATOMIC_ACQ_REL);
        else {
            worker->give(worker->number, *mine);
            *mine = 0;
        }
    }
    for (unsigned i = 0; i < HELD; i++) {
        if (held[i] != 0)
            worker->give(worker->number, held[i]);
    }
    return NULL;
}

static void run_threads(uint64_t (*take)(unsigned, struct random *),
                        void (*give)(unsigned, uint64_t))
{
    struct worker workers[THREADS];

    memset(places, 0, sizeof(places));
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.number = i, .take = take, .give = give};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
    for (unsigned i = 0; i < PLACES; i++) {
        if (places[i] != 0)
            give(0, places[i]);
    }
}

/* Mostly single frames; now and then a block of any order. */
static unsigned random_order(struct random *random)
{
    return random_below(random, 4) != 0 ? 0 : (unsigned)random_below(random, ORDER_HUGE + 1);
}

/* ---- the allocators alone ---- */

#define ZONE_FRAMES 20000U

static struct {
    const struct frame_allocator *allocator;
    void *self;
    uint8_t owner[ZONE_FRAMES]; /* 0: free */
} zone;

/* All that a word of bits has, of which one frame is kept and the others go back together. */
static uint64_t zone_take_some(unsigned number)
{
    uint64_t first;
    uint64_t mask;
    unsigned count = zone.allocator->take_some(zone.self, number, &first, &mask);
    unsigned kept;

    if (count == 0)
        return 0;
    for (uint64_t rest = mask; rest != 0; rest &= rest - 1) {
        if (__atomic_exchange_n(&zone.owner[first + (unsigned)__builtin_ctzll(rest)], 1,
                                __ATOMIC_RELAXED) != 0)
            abort();
    }
    kept = (unsigned)__builtin_ctzll(mask);
    mask &= mask - 1;
    for (uint64_t rest = mask; rest != 0; rest &= rest - 1)
        __atomic_store_n(&zone.owner[first + (unsigned)__builtin_ctzll(rest)], 0, __ATOMIC_RELAXED);
    if (mask != 0)
        zone.allocator->give_some(zone.self, number, first, mask, count - 1);
    return BLOCK(first + kept, 0);
}

static uint64_t zone_take(unsigned number, struct random *random)
{
    unsigned order = random_order(random);
    uint64_t first;

    if (zone.allocator->take_some != NULL && random_below(random, 4) == 0)
        return zone_take_some(number);
    if (zone.allocator->take(zone.self, number, order, &first) != OK)
        return 0;
    for (uint64_t frame = first; frame < first + order_frames(order); frame++) {
        if (__atomic_exchange_n(&zone.owner[frame], 1, __ATOMIC_RELAXED) != 0)
            abort();
    }
    if (order > 0 && random_below(random, 8) == 0) {
        /* In two halves, which go back one by one. */
        unsigned half = order - 1;

        frame_allocator_split(zone.allocator, zone.self, first, order, half);
        memset(&zone.owner[first], 0, order_frames(half));
        zone.allocator->give(zone.self, number, first, half);
        return BLOCK(first + order_frames(half), half);
    }
    return BLOCK(first, order);
}

static void zone_give(unsigned number, uint64_t block)
{
    uint64_t first = BLOCK_FIRST(block);
    unsigned order = BLOCK_ORDER(block);

    for (uint64_t frame = first; frame < first + order_frames(order); frame++) {
        if (__atomic_exchange_n(&zone.owner[frame], 0, __ATOMIC_RELAXED) != 1)
            abort();
    }
    zone.allocator->give(zone.self, number, first, order);
}

static void test_allocators(void **state)
{
    uint64_t size;

    zone.allocator = *state;
    size = round_up(zone.allocator->size(ZONE_FRAMES, THREADS), 64);
    zone.self = aligned_alloc(64, size);
    memset(zone.owner, 0, sizeof(zone.owner));
    zone.allocator->start(zone.self, ZONE_FRAMES, THREADS);
    frame_allocator_add(zone.allocator, zone.self, 5, ZONE_FRAMES - 5);
    run_threads(zone_take, zone_give);
    assert_int_equal(frame_allocator_free_frames(zone.allocator, zone.self, ZONE_FRAMES),
                     ZONE_FRAMES - 5);
    frame_allocator_audit(zone.allocator, zone.self);
    free(zone.self);
}

/* ---- all of physical memory ---- */

static uint64_t *words_of(uint64_t frame)
{
    return frame_pointer((struct pfn){(uint32_t)frame});
}

/* The owner's mark in every frame of a block. */
static void mark(uint64_t block)
{
    for (uint64_t i = 0; i < order_frames(BLOCK_ORDER(block)); i++)
        words_of(BLOCK_FIRST(block) + i)[i % 512] = block + i;
}

static void check_mark(uint64_t block)
{
    for (uint64_t i = 0; i < order_frames(BLOCK_ORDER(block)); i++) {
        if (words_of(BLOCK_FIRST(block) + i)[i % 512] != block + i)
            abort();
    }
}

static uint64_t memory_take(unsigned number, struct random *random)
{
    unsigned order = random_order(random);
    unsigned how = (unsigned)random_below(random, 8);
    enum frame_clear clear = how < 3 ? FRAME_CLEARED : FRAME_UNCLEARED;
    enum status status;
    struct pfn first;

    if (how == 7 && number == 0)
        pmm_idle_fill(8);
    if (how == 6 && number == 1)
        (void)pmm_usage();
    if (order == 0 && how == 5)
        status = pmm_alloc_low(FRAME_DEVICE, clear, &first);
    else
        status = pmm_alloc_order(order, order == 0 ? FRAME_TABLE : FRAME_ANONYMOUS, clear, &first);
    if (status != OK)
        return 0;
    for (unsigned i = 0; clear == FRAME_CLEARED && i < 512; i++) {
        if (words_of(first.index)[i] != 0)
            abort();
    }
    if (order > 0 && how == 4) {
        pmm_split(first, order, 0);
        for (uint32_t i = 1; i < order_frames(order); i++)
            pmm_free((struct pfn){first.index + i});
        order = 0;
    }
    mark(BLOCK(first.index, order));
    return BLOCK(first.index, order);
}

static void memory_give(unsigned number, uint64_t block)
{
    struct pfn first = {(uint32_t)BLOCK_FIRST(block)};

    check_mark(block);
    if (BLOCK_ORDER(block) == 0 && (first.index + number) % 4 == 0) {
        memset(frame_pointer(first), 0, PAGE_SIZE);
        pmm_free_clean(first);
        return;
    }
    pmm_free_order(first, BLOCK_ORDER(block));
}

static void test_memory(void **state)
{
    struct pmm_usage before;
    struct pmm_usage after;

    pmm_choose(*state);
    fake_machine_start(24 * MIB);
    before = pmm_usage();
    run_threads(memory_take, memory_give);
    pmm_audit();
    after = pmm_usage();
    assert_memory_equal(&before, &after, sizeof(before));
    pmm_drain();
    pmm_audit();
    pmm_choose(NULL);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(test_allocators),
                                              cmocka_unit_test(test_memory)};

    return run_for_each_allocator(tests, ARRAY_COUNT(tests), NULL);
}

/* The heap of programs against a model: contents, overlap, alignment, double frees, policies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/heap/heap.h"
#include "lib/heap/internal.h"
#include "lib/random.h"
#include "lib/units.h"

#define HEAP_BYTES (4 * MIB)
#define BLOCKS     600U
#define STEPS      20000U
#define GIVEN_BACK 0 /* content of a page that was given back: blank */

static uint8_t *range;
static struct heap *heap;
static uint64_t give_back_calls;
static bool refuse; /* the source gives no page back */

struct model_block {
    uint8_t *at;
    size_t size;
    uint8_t tag;
};

static struct model_block blocks[BLOCKS];

/* ---- the source ---- */

/* A page that is given back is blank at once: a live byte in it would be lost, and noticed. */
static bool blank(void *context, void *at, size_t size)
{
    assert_ptr_equal(context, &give_back_calls);
    assert_int_equal((uintptr_t)at % HEAP_PAGE, 0);
    assert_int_equal(size % HEAP_PAGE, 0);
    give_back_calls++;
    if (refuse)
        return false;
    memset(at, GIVEN_BACK, size);
    return true;
}

static uint64_t waits_before_the_end; /* 0: no other thread has the lock */
static uint64_t waited;

static bool wait_for_lock(void *context, uint64_t waits)
{
    (void)context;
    if (waits_before_the_end == 0)
        fail_msg("nobody else has the lock");
    assert_true(waits < waits_before_the_end);
    waited++;
    return waits + 1 < waits_before_the_end;
}

static void start(enum heap_policy_kind kind, size_t size)
{
    const struct heap_source source = {
        .context = &give_back_calls, .give_back = blank, .wait = wait_for_lock};

    free(range);
    range = aligned_alloc(HEAP_PAGE, size);
    memset(range, 0, size);
    memset(blocks, 0, sizeof(blocks));
    give_back_calls = 0;
    refuse = false;
    heap = heap_create(range, size, &heap_policies[kind], &source);
    assert_non_null(heap);
    assert_null(heap_audit(heap));
}

/* ---- the model ---- */

static bool holds_tag(const struct model_block *block)
{
    for (size_t i = 0; i < block->size; i++) {
        if (block->at[i] != block->tag)
            return false;
    }
    return true;
}

static bool overlap(const struct model_block *one, const struct model_block *other)
{
    return one->at < other->at + other->size && other->at < one->at + one->size;
}

static void model_free(struct model_block *block)
{
    uint8_t *at = block->at;

    assert_true(holds_tag(block));
    assert_int_equal(heap_free(heap, at), OK);
    *block = (struct model_block){0};
    assert_int_not_equal(heap_free(heap, at), OK);
}

static void model_alloc(struct random *dice, struct model_block *block)
{
    static const size_t most[] = {16, 200, 2048, 5000, 70000};
    size_t alignment = UINT64_C(1) << random_below(dice, 13);
    size_t size = random_below(dice, most[random_below(dice, 5)]) + 1;
    uint8_t *at = heap_alloc(heap, size, alignment);

    if (at == NULL)
        return;
    assert_int_equal((uintptr_t)at % (alignment > 16 ? alignment : 16), 0);
    assert_true(heap_size(heap, at) >= size);
    assert_true(at >= heap->base && at + size <= heap->base + heap->pages * HEAP_PAGE);
    block->at = at;
    block->size = size;
    block->tag = (uint8_t)(random_below(dice, 255) + 1);
    for (unsigned i = 0; i < BLOCKS; i++)
        assert_false(&blocks[i] != block && blocks[i].at != NULL && overlap(&blocks[i], block));
    memset(at, block->tag, size);
}

/* Random blocks come and go under each policy. Whatever a policy gives back is blanked, so that
 * each live byte that it touched would be seen. */
static void random_blocks_keep_their_bytes(void **state)
{
    (void)state;
    for (enum heap_policy_kind kind = 0; kind < HEAP_POLICIES; kind++) {
        struct random dice = {.state = 40 + kind};

        start(kind, HEAP_BYTES);
        for (unsigned step = 0; step < STEPS; step++) {
            struct model_block *block = &blocks[random_below(&dice, BLOCKS)];

            if (block->at != NULL)
                model_free(block);
            else
                model_alloc(&dice, block);
            if (step % 16 == 0)
                (void)heap_step(heap);
            if (step % 1000 == 999) {
                heap_on_notice(heap, step % 2000 == 999);
                assert_null(heap_audit(heap));
            }
        }
        assert_int_equal(heap->given_back > 0, kind != HEAP_NEVER);
        for (unsigned i = 0; i < BLOCKS; i++) {
            if (blocks[i].at != NULL)
                model_free(&blocks[i]);
        }
        assert_int_equal(heap->live_blocks, 0);
        assert_int_equal(heap->live_bytes, 0);
        assert_null(heap_audit(heap));
        /* All memory is one span again. */
        assert_int_equal(heap->page[0].length, heap->pages);
    }
}

/* ---- each rule by itself ---- */

static void classes_fit(void **state)
{
    (void)state;
    for (unsigned i = 0; i < HEAP_CLASSES; i++) {
        uint32_t size = heap_class_size(i);

        assert_int_equal(heap_class_of(size), i);
        assert_int_equal(heap_class_of(size + 1), i + 1);
        assert_int_equal(size % 16, 0);
        assert_true(heap_run_objects(i) >= 8 && heap_run_objects(i) <= HEAP_RUN_OBJECTS);
    }
    assert_int_equal(heap_class_size(HEAP_CLASSES - 1), HEAP_SMALL_MOST);
}

static void wrong_frees_are_refused(void **state)
{
    uint8_t *small;
    uint8_t *other;
    uint8_t *large;

    (void)state;
    start(HEAP_NEVER, HEAP_BYTES);
    small = heap_alloc(heap, 48, 1);
    other = heap_alloc(heap, 48, 1);
    large = heap_alloc(heap, 3 * HEAP_PAGE, 1);
    assert_int_equal(heap_free(heap, NULL), OK);
    assert_int_equal(heap_free(heap, small + 16), STATUS_RANGE);
    assert_int_equal(heap_free(heap, small + 2 * 48), STATUS_NOT_FOUND);
    assert_int_equal(heap_free(heap, large + HEAP_PAGE), STATUS_RANGE);
    assert_int_equal(heap_free(heap, large + 16), STATUS_RANGE);
    assert_int_equal(heap_free(heap, range), STATUS_RANGE);
    assert_int_equal(heap_free(heap, range + HEAP_BYTES), STATUS_RANGE);
    assert_int_equal(heap_free(heap, small), OK);
    assert_int_equal(heap_free(heap, small), STATUS_NOT_FOUND); /* the run is still in use */
    assert_int_equal(heap_free(heap, other), OK);
    assert_int_equal(heap_free(heap, small), STATUS_NOT_FOUND); /* the run is free */
    assert_int_equal(heap_free(heap, large), OK);
    assert_int_equal(heap_free(heap, large), STATUS_NOT_FOUND);
    assert_null(heap_alloc(heap, 16, 3));
    assert_null(heap_alloc(heap, 16, 2 * HEAP_PAGE));
    assert_null(heap_alloc(heap, SIZE_MAX, 1));
    assert_null(heap_alloc(heap, HEAP_BYTES, 1));
    assert_null(heap_audit(heap));
}

/* Fills the heap with blocks of a page, and frees every second one. */
static unsigned checkered(enum heap_policy_kind kind)
{
    static uint8_t *pages[HEAP_BYTES / HEAP_PAGE];
    unsigned count = 0;

    start(kind, HEAP_BYTES);
    while ((pages[count] = heap_alloc(heap, HEAP_PAGE, 1)) != NULL)
        memset(pages[count++], 0x11, HEAP_PAGE);
    assert_int_equal(count, heap->pages);
    for (unsigned i = 0; i < count; i += 2)
        assert_int_equal(heap_free(heap, pages[i]), OK);
    return (count + 1) / 2;
}

static void each_policy_gives_back_when_it_says(void **state)
{
    unsigned freed;

    (void)state;
    freed = checkered(HEAP_NEVER);
    heap_on_notice(heap, true);
    assert_false(heap_step(heap));
    assert_int_equal(heap->given_back, 0);
    assert_int_equal(heap->dirty_free, freed);

    freed = checkered(HEAP_AT_ONCE);
    assert_int_equal(heap->given_back, freed);
    assert_int_equal(heap->dirty_free, 0);

    freed = checkered(HEAP_BACKGROUND);
    heap_on_notice(heap, true);
    assert_int_equal(heap->given_back, 0);
    assert_true(heap_step(heap));
    assert_int_equal(heap->given_back, heap->policy->step_pages);
    while (heap_step(heap))
        assert_null(heap_audit(heap));
    assert_int_equal(heap->given_back, freed);

    freed = checkered(HEAP_ON_NOTICE);
    assert_false(heap_step(heap));
    heap_on_notice(heap, false);
    assert_int_equal(heap->given_back, 0);
    heap_on_notice(heap, true);
    assert_int_equal(heap->given_back, freed);
    assert_null(heap_audit(heap));
}

/* Pages that the kernel refuses stay dirty, and are offered again. */
static void refused_pages_stay_dirty(void **state)
{
    unsigned freed = checkered(HEAP_ON_NOTICE);

    (void)state;
    refuse = true;
    heap_on_notice(heap, true);
    assert_int_equal(heap->given_back, 0);
    assert_int_equal(heap->dirty_free, freed);
    refuse = false;
    assert_int_equal(heap_scavenge(heap, 5, blank, &give_back_calls), 5);
    assert_int_equal(heap_scavenge(heap, SIZE_MAX, blank, &give_back_calls), freed - 5);
    assert_int_equal(heap_scavenge(heap, SIZE_MAX, blank, &give_back_calls), 0);
    assert_null(heap_audit(heap));
}

/* A notice that interrupts the heap's own code is served by the holder of the lock. */
static void notice_beside_the_lock(void **state)
{
    unsigned freed = checkered(HEAP_ON_NOTICE);

    (void)state;
    assert_true(heap_lock(heap));
    heap_on_notice(heap, true);
    assert_int_equal(heap->given_back, 0);
    heap_unlock(heap);
    assert_int_equal(heap->given_back, freed);
    assert_null(heap_audit(heap));
}

/* A thread that has ended with the lock: one caller waits for it, and every call fails. */
static void a_holder_that_has_ended(void **state)
{
    void *block;

    (void)state;
    start(HEAP_BACKGROUND, 64 * HEAP_PAGE);
    block = heap_alloc(heap, 100, 1);
    assert_non_null(block);
    assert_true(heap_lock(heap));
    waits_before_the_end = 7;
    waited = 0;
    assert_null(heap_alloc(heap, 100, 1));
    assert_int_equal(waited, 7);
    assert_int_equal(heap_free(heap, block), STATUS_TIMEOUT);
    assert_int_equal(heap_size(heap, block), 0);
    assert_int_equal(heap_scavenge(heap, SIZE_MAX, blank, &give_back_calls), 0);
    assert_false(heap_step(heap));
    heap_on_notice(heap, true);
    assert_non_null(heap_audit(heap));
    assert_int_equal(waited, 7);
    assert_int_equal(heap->live_blocks, 1);
    heap_unlock(heap); /* it has not ended after all: too late */
    assert_null(heap_alloc(heap, 100, 1));
    waits_before_the_end = 0;
}

static void small_ranges(void **state)
{
    const struct heap_source source = {.context = &give_back_calls, .give_back = blank};

    (void)state;
    for (size_t pages = 1; pages < 200; pages++) {
        void *block;

        if (pages == 1) {
            assert_null(heap_create(range, HEAP_PAGE, &heap_policies[0], &source));
            continue;
        }
        start(HEAP_NEVER, pages * HEAP_PAGE);
        assert_true(heap->base + heap->pages * HEAP_PAGE <= range + pages * HEAP_PAGE);
        assert_true((uint8_t *)&heap->page[heap->pages] <= heap->base);
        block = heap_alloc(heap, heap->pages * HEAP_PAGE, 1);
        assert_non_null(block);
        memset(block, 1, heap->pages * HEAP_PAGE);
        assert_null(heap_audit(heap));
        assert_int_equal(heap_free(heap, block), OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_fit),
        cmocka_unit_test(wrong_frees_are_refused),
        cmocka_unit_test(each_policy_gives_back_when_it_says),
        cmocka_unit_test(refused_pages_stay_dirty),
        cmocka_unit_test(notice_beside_the_lock),
        cmocka_unit_test(a_holder_that_has_ended),
        cmocka_unit_test(small_ranges),
        cmocka_unit_test(random_blocks_keep_their_bytes),
    };
    int result = cmocka_run_group_tests(tests, NULL, NULL);

    free(range);
    return result;
}

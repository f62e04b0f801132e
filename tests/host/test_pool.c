/* Pools: compared with a list of allocated objects; frames that are returned; refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "lib/random.h"
#include "pmm/pmm.h"
#include "pmm/pool.h"
#include "tests/host/fake/child.h"
#include "tests/host/fake/machine.h"

#define MEMORY  (16 * MIB)
#define OBJECTS 3000U

/* The header in front of a frame's objects. */
#define FRAME_HEADER 48U

static struct random dice = {9};
static struct pmm_usage at_start;

static int set_up(void **state)
{
    (void)state;
    fake_machine_start(MEMORY);
    at_start = pmm_usage();
    return 0;
}

static uint64_t frames_in_use(void)
{
    return pmm_usage().by_kind[FRAME_KERNEL] - at_start.by_kind[FRAME_KERNEL];
}

/* ---- chains ---- */

/* However many objects are taken at once, interrupts are off for a few of them only. */
static void long_chains_go_in_steps(void **state)
{
    struct pool pool = {.name = "chain", .object_size = 64};
    uint64_t before = fake_interrupts_opened;
    void *first;

    (void)state;
    assert_int_equal(pool_alloc_chain(&pool, OBJECTS, &first), OK);
    assert_int_equal(pool.in_use, OBJECTS);
    assert_true(fake_interrupts_opened - before >= OBJECTS / 64);
    before = fake_interrupts_opened;
    assert_int_equal(pool_free_chain(&pool, first), OBJECTS / 63 + 1);
    assert_true(fake_interrupts_opened - before >= OBJECTS / 64);
    assert_int_equal(pool.in_use, 0);
    assert_int_equal(frames_in_use(), 0);
    /* More objects than there are: the taken ones are free again. */
    assert_int_equal(pool_alloc_chain(&pool, 1000000, &first), STATUS_NO_MEMORY);
    assert_int_equal(pool.in_use, 0);
    assert_int_equal(frames_in_use(), 0);
}

/* ---- objects beside a list ---- */

struct held {
    uint8_t *object;
    uint8_t fill;
};

static struct held held[OBJECTS];
static unsigned held_count;

static bool all_bytes_are(const uint8_t *object, size_t size, uint8_t byte)
{
    for (size_t i = 0; i < size; i++) {
        if (object[i] != byte)
            return false;
    }
    return true;
}

static void take_one(struct pool *pool)
{
    uint64_t offset;
    void *object;

    assert_int_equal(pool_alloc(pool, &object), OK);
    offset = (uintptr_t)object % PAGE_SIZE;
    assert_int_equal(offset % 16, 0);
    assert_true(offset >= FRAME_HEADER && offset + pool->object_size <= PAGE_SIZE);
    assert_true(all_bytes_are(object, pool->object_size, 0));
    held[held_count] = (struct held){object, (uint8_t)(1 + random_below(&dice, 255))};
    /* An overlapping object would change this. */
    memset(object, held[held_count].fill, pool->object_size);
    held_count++;
}

static void give_one(struct pool *pool)
{
    unsigned which = (unsigned)random_below(&dice, held_count);

    assert_true(all_bytes_are(held[which].object, pool->object_size, held[which].fill));
    pool_free(pool, held[which].object);
    held[which] = held[--held_count];
}

/* No more frames than would hold the objects if each frame were filled to the least. */
static void check_frames(const struct pool *pool)
{
    uint64_t a_frame = (PAGE_SIZE - FRAME_HEADER) / pool->object_size;

    assert_int_equal(pool->in_use, held_count);
    assert_true(frames_in_use() * a_frame >= held_count);
    assert_true(frames_in_use() <= held_count);
    assert_true(machine_interrupts_on());
}

static void random_use(void **state)
{
    static const uint16_t sizes[] = {16, 48, 64, 80, 304, 1344, 2032, 2048};

    (void)state;
    for (unsigned size = 0; size < ARRAY_COUNT(sizes); size++) {
        struct pool pool = {.name = "test", .object_size = sizes[size]};

        held_count = 0;
        for (unsigned i = 0; i < 8000; i++) {
            bool filling = i / 2000 % 2 == 0;

            if (held_count < OBJECTS && random_below(&dice, 100) < (filling ? 65U : 35U))
                take_one(&pool);
            else if (held_count > 0)
                give_one(&pool);
            if (i % 64 == 0)
                check_frames(&pool);
        }
        while (held_count > 0)
            give_one(&pool);
        assert_int_equal(frames_in_use(), 0);
        assert_null(pool.partial);
        pmm_audit();
    }
}

static void frames_are_filled_before_another_is_taken(void **state)
{
    struct pool pool = {.name = "test", .object_size = 64};
    unsigned a_frame = (PAGE_SIZE - FRAME_HEADER) / 64;

    (void)state;
    held_count = 0;
    for (unsigned i = 0; i < 10 * a_frame; i++) {
        assert_int_equal(frames_in_use(), (i + a_frame - 1) / a_frame);
        take_one(&pool);
    }
    while (held_count > 0)
        give_one(&pool);
    assert_int_equal(frames_in_use(), 0);
}

static void running_out_is_a_status(void **state)
{
    struct pool pool = {.name = "test", .object_size = 2048};
    struct pfn frame;
    unsigned taken = 0;
    void *object;
    void *last = NULL;

    (void)state;
    while (pmm_usage().by_kind[FRAME_FREE] > 3)
        assert_int_equal(pmm_alloc(FRAME_DEVICE, FRAME_UNCLEARED, &frame), OK);
    while (pool_alloc(&pool, &object) == OK) {
        taken++;
        last = object;
    }
    assert_int_equal(taken, 3);
    assert_int_equal(pool.in_use, 3);
    assert_true(machine_interrupts_on());
    pool_free(&pool, last);
    assert_int_equal(pool_alloc(&pool, &object), OK);
    assert_int_equal(pool_alloc(&pool, &object), STATUS_NO_MEMORY);
}

static void the_macro_rounds_up(void **state)
{
    struct odd {
        char bytes[33];
    };
    struct pool pool = POOL("odd", struct odd);

    (void)state;
    assert_int_equal(pool.object_size, 48);
    assert_string_equal(pool.name, "odd");
}

/* ---- refusals: each leaves locks held, so each has a process of its own ---- */

static struct pool one = {.name = "one", .object_size = 64};
static struct pool other = {.name = "other", .object_size = 64};

static void *taken(struct pool *pool)
{
    void *object;
    enum status status = pool_alloc(pool, &object);

    CHECK(status == OK);
    return object;
}

static void free_twice(void *context)
{
    void *object = taken(&one);

    (void)context;
    (void)taken(&one);
    pool_free(&one, object);
    pool_free(&one, object);
}

static void free_last_twice(void *context)
{
    void *object = taken(&one);

    (void)context;
    pool_free(&one, object);
    pool_free(&one, object);
}

static void free_to_another(void *context)
{
    (void)context;
    pool_free(&other, taken(&one));
}

static void free_foreign(void *context)
{
    struct pfn frame;
    enum status status = pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &frame);

    (void)context;
    CHECK(status == OK);
    pool_free(&one, (uint8_t *)frame_pointer(frame) + FRAME_HEADER);
}

static void write_after_free(void *context)
{
    uint64_t *object;

    (void)context;
    (void)taken(&one);
    object = taken(&one);
    pool_free(&one, object);
    object[1] = 0;
    (void)taken(&one);
}

static void objects_too_small(void *context)
{
    struct pool pool = {.name = "small", .object_size = 8};

    (void)context;
    (void)taken(&pool);
}

static void objects_too_large(void *context)
{
    struct pool pool = {.name = "large", .object_size = 2064};

    (void)context;
    (void)taken(&pool);
}

static void mistakes_panic(void **state)
{
    static void (*const mistakes[])(void *) = {
        free_twice,       free_last_twice,   free_to_another,  free_foreign,
        write_after_free, objects_too_small, objects_too_large};

    (void)state;
    assert_int_equal(child_count_panics(mistakes, ARRAY_COUNT(mistakes)), ARRAY_COUNT(mistakes));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(long_chains_go_in_steps, set_up),
        cmocka_unit_test_setup(random_use, set_up),
        cmocka_unit_test_setup(frames_are_filled_before_another_is_taken, set_up),
        cmocka_unit_test_setup(running_out_is_a_status, set_up),
        cmocka_unit_test(the_macro_rounds_up),
        cmocka_unit_test_setup(mistakes_panic, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

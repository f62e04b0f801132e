/* Shrinkers: the same body for each member of the table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "tests/host/fake/machine.h"
#include "tests/host/model/space_model_host.h"
#include "vmm/page/page.h"
#include "vmm/page/shrinker.h"
#include "vmm/space/commit.h"
#include "vmm/space/end.h"

#define MEMORY (16 * MIB)
#define SPACES 3U
#define PLACE  (1024 * GIB)

static const struct rights read_write = {.write = true, .user = true};

static struct space *spaces[SPACES];

static int set_up(void **state)
{
    (void)state;
    return model_start_with_swap(MEMORY, 64);
}

static size_t members(void)
{
    return (size_t)(__stop_shrinkers - __start_shrinkers);
}

static uint64_t frames_in_use(void)
{
    struct pmm_usage usage = pmm_usage();

    return usage.total - usage.by_kind[FRAME_FREE];
}

/* Ends a space that keeps all that it has. */
static void leave_ended_space(void)
{
    struct space *space;

    assert_int_equal(space_create(&space), OK);
    assert_int_equal(
        space_map(space, &SPACE_AT(PLACE, PAGE_SIZE, read_write, .flags = SPACE_POPULATED), NULL),
        OK);
    space_set_end_work(0);
    space_destroy(space);
    space_set_end_work(SPACE_END_WORK);
}

/* Leaves in each space the memory that an unmap keeps for the next call. Nothing is mapped
 * afterwards, so that no other object shares a frame with the kept ones. */
static void leave_something(void)
{
    for (unsigned i = 0; i < SPACES; i++) {
        assert_int_equal(space_map(spaces[i], &SPACE_AT(PLACE, 2 * PAGE_SIZE, read_write), NULL),
                         OK);
        assert_int_equal(space_unmap(spaces[i], PLACE, 2 * PAGE_SIZE), OK);
    }
}

static void begin(void)
{
    model_begin(1, 4);
    model_overcommit(OVERCOMMIT_ALWAYS);
    for (unsigned i = 0; i < SPACES; i++)
        assert_int_equal(space_create(&spaces[i]), OK);
}

static void end(void)
{
    space_audit();
    for (unsigned i = 0; i < SPACES; i++)
        space_destroy(spaces[i]);
    model_end();
}

/* ---- each member ---- */

/* Checks that the reported frames are free, and that a second call frees none. A member that is
 * asked first reports entries, whose pages others may have too. */
static void check_frees_all(const struct shrinker *shrinker)
{
    uint64_t before;
    uint64_t freed;

    leave_something();
    if (shrinker->first)
        leave_ended_space();
    before = frames_in_use();
    freed = shrinker->free(UINT64_MAX);
    if (freed == 0)
        fail_msg("%s frees nothing", shrinker->name);
    if (shrinker->first ? frames_in_use() >= before : frames_in_use() != before - freed)
        fail_msg("%s says %lu, and has freed %lu", shrinker->name, freed, before - frames_in_use());
    space_audit();
    assert_int_equal(shrinker->free(UINT64_MAX), 0);
    leave_something(); /* the spaces are as usable as before */
}

/* A space that is locked keeps its memory, and its owner is not waited for. */
static void check_leaves_locked(const struct shrinker *shrinker)
{
    leave_something();
    for (unsigned i = 0; i < SPACES; i++)
        mutex_lock(&spaces[i]->lock);
    (void)shrinker->free(UINT64_MAX);
    for (unsigned i = 0; i < SPACES; i++) {
        if (spaces[i]->kept == 0 || spaces[i]->regions.root == NULL)
            fail_msg("%s takes from a locked space", shrinker->name);
        mutex_unlock(&spaces[i]->lock);
    }
}

static void for_each(void (*check)(const struct shrinker *shrinker))
{
    assert_true(members() >= 2);
    for (size_t i = 0; i < members(); i++) {
        begin();
        check(__start_shrinkers[i]);
        end();
    }
}

static void each_member_frees_what_it_says(void **state)
{
    (void)state;
    for_each(check_frees_all);
}

static void no_member_takes_from_a_locked_space(void **state)
{
    (void)state;
    for_each(check_leaves_locked);
}

/* ---- the table ---- */

static void the_table_stops_when_enough_is_free(void **state)
{
    uint64_t all;

    (void)state;
    begin();
    leave_something();
    all = shrinkers_free(UINT64_MAX, false);
    leave_something();
    assert_in_range(shrinkers_free(1, false), 1, all - 1);
    assert_true(shrinkers_free(UINT64_MAX, false) > 0);
    assert_int_equal(shrinkers_free(UINT64_MAX, false), 0);
    end();
}

/* If no page can be evicted, the shrinkers free the spaces' reserves. */
static void reclaim_uses_the_table(void **state)
{
    (void)state;
    begin();
    leave_something();
    assert_true(page_reclaim_some());
    while (page_reclaim_some()) {
        /* until nothing is kept */
    }
    assert_int_equal(shrinkers_free(UINT64_MAX, false), 0);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_member_frees_what_it_says),
        cmocka_unit_test(no_member_takes_from_a_locked_space),
        cmocka_unit_test(the_table_stops_when_enough_is_free),
        cmocka_unit_test(reclaim_uses_the_table),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}

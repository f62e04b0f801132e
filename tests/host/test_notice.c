/* The low-memory notice: levels in both directions, hysteresis, every member told once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pmm/internal.h"
#include "pmm/pmm.h"
#include "tests/host/fake/machine.h"
#include "vmm/program/notice.h"

#define MEMORY  (16 * MIB)
#define RESERVE 64U
#define MEMBERS 3U

static struct pfn taken[MEMORY / PAGE_SIZE];
static unsigned taken_frames;
static struct notice_member members[MEMBERS];
static unsigned changes;

static void count_change(void)
{
    changes++;
}

static int start_memory(void **state)
{
    (void)state;
    fake_machine_start(MEMORY);
    pmm_set_reserve(RESERVE);
    taken_frames = 0;
    changes = 0;
    notice_on_change(count_change);
    for (unsigned i = 0; i < MEMBERS; i++) {
        members[i] = (struct notice_member){0};
        notice_join(&members[i]);
    }
    return 0;
}

static int end_memory(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MEMBERS; i++)
        notice_leave(&members[i]);
    assert_int_equal(notice_members(), 0);
    while (taken_frames > 0)
        pmm_free(taken[--taken_frames]);
    pmm_audit();
    return 0;
}

/* Tables may use the reserve, so that every mark can be reached. */
static void take_one(void)
{
    assert_int_equal(pmm_alloc(FRAME_TABLE, FRAME_UNCLEARED, &taken[taken_frames]), OK);
    taken_frames++;
    pmm_drain();
    pmm_note_pressure();
}

static void free_one(void)
{
    pmm_free(taken[--taken_frames]);
    pmm_drain();
    pmm_note_pressure();
}

static uint64_t frames_left(void)
{
    return pmm_usage().by_kind[FRAME_FREE];
}

static uint64_t low_mark(void)
{
    return 2 * RESERVE + pmm_usage().total / 64;
}

static void take_until(uint64_t left)
{
    while (frames_left() > left)
        take_one();
}

static void free_until(uint64_t left)
{
    while (frames_left() < left)
        free_one();
}

/* Whether all members are to be told exactly this level; then they have been. */
static bool all_are_told(enum pmm_pressure level)
{
    bool all = true;

    for (unsigned i = 0; i < MEMBERS; i++) {
        enum pmm_pressure now;

        all = all && notice_pending(&members[i], &now) && now == level;
        notice_told(&members[i], level);
        all = all && !notice_pending(&members[i], &now);
    }
    return all;
}

static bool nobody_is_told(void)
{
    bool none = true;

    for (unsigned i = 0; i < MEMBERS; i++) {
        enum pmm_pressure now;

        none = none && !notice_pending(&members[i], &now);
    }
    return none;
}

static void each_level_is_told_both_ways(void **state)
{
    uint64_t mark = low_mark();

    (void)state;
    take_until(mark + 1);
    assert_true(nobody_is_told());
    take_one();
    assert_true(all_are_told(PMM_LOW));
    take_until(2 * RESERVE + 1);
    assert_true(nobody_is_told());
    take_one();
    assert_true(all_are_told(PMM_CRITICAL));
    take_until(0);
    assert_true(nobody_is_told());
    /* Each level ends an eighth and a frame above its mark. */
    free_until(2 * RESERVE + 2 * RESERVE / 8 + 1);
    assert_true(nobody_is_told());
    free_one();
    assert_true(all_are_told(PMM_LOW));
    free_until(mark + mark / 8 + 1);
    assert_true(nobody_is_told());
    free_one();
    assert_true(all_are_told(PMM_NORMAL));
    assert_int_equal(changes, 4);
}

/* Memory that goes up and down inside the hysteresis changes no level. */
static void no_flapping_at_a_mark(void **state)
{
    uint64_t marks[] = {low_mark(), 2 * RESERVE};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        take_until(marks[i]);
        assert_true(all_are_told(i == 0 ? PMM_LOW : PMM_CRITICAL));
        for (unsigned round = 0; round < 50; round++) {
            free_until(marks[i] + marks[i] / 8 + 1);
            assert_true(nobody_is_told());
            take_until(marks[i] - 8);
            assert_true(nobody_is_told());
        }
        assert_int_equal(changes, i + 1);
    }
}

static void members_come_and_go(void **state)
{
    struct notice_member late = {0};
    enum pmm_pressure level;

    (void)state;
    take_until(low_mark());
    /* One that joins when memory is short is told so. */
    notice_join(&late);
    assert_int_equal(notice_members(), MEMBERS + 1);
    assert_true(notice_pending(&late, &level));
    assert_int_equal(level, PMM_LOW);
    notice_told(&late, level);
    /* A change that goes back before it is told is none. */
    take_until(2 * RESERVE);
    free_until(2 * RESERVE + 2 * RESERVE / 8 + 2);
    assert_false(notice_pending(&late, &level));
    /* A member that has left gets no notice; when it joins again it gets the present level. */
    notice_leave(&late);
    take_until(2 * RESERVE);
    assert_false(notice_pending(&late, &level));
    notice_join(&late);
    assert_true(notice_pending(&late, &level));
    assert_int_equal(level, PMM_CRITICAL);
    notice_leave(&late);
    assert_true(all_are_told(PMM_CRITICAL));
}

/* Without members a change of the level calls nothing. */
static void no_member_no_call(void **state)
{
    unsigned before;

    (void)state;
    for (unsigned i = 0; i < MEMBERS; i++)
        notice_leave(&members[i]);
    before = changes;
    take_until(low_mark());
    assert_int_equal(pmm_pressure(), PMM_LOW);
    assert_int_equal(changes, before);
    for (unsigned i = 0; i < MEMBERS; i++)
        notice_join(&members[i]);
    assert_true(all_are_told(PMM_LOW));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_level_is_told_both_ways, start_memory, end_memory),
        cmocka_unit_test_setup_teardown(no_flapping_at_a_mark, start_memory, end_memory),
        cmocka_unit_test_setup_teardown(members_come_and_go, start_memory, end_memory),
        cmocka_unit_test_setup_teardown(no_member_no_call, start_memory, end_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

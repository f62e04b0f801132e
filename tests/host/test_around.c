/* Fault-around: writes that bring the pages of a group. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "cpu/trap/trap.h"
#include "swapdisk/area.h"
#include "tests/host/fake/machine.h"
#include "tests/host/fake/mmu.h"
#include "tests/host/model/space_model_host.h"
#include "vmm/fault/fault.h"
#include "vmm/page/page.h"
#include "vmm/space/commit.h"

#define MEMORY (16 * MIB)
#define SLOTS  64U
#define START  (4 * MIB)
#define PAGES  64U
#define GROUP  16U

static const struct rights read_write = {.write = true, .user = true};
static const struct rights read_only = {.user = true};

static struct space *space;

static int set_up(void **state)
{
    (void)state;
    return model_start_with_swap(MEMORY, SLOTS);
}

/* The first frame after a drain opens the cache, the next one fills it: with enough for some
 * groups. */
static void fill_caches(void)
{
    struct pfn frames[2];

    pmm_drain();
    assert_int_equal(pmm_alloc(FRAME_DEVICE, FRAME_UNCLEARED, &frames[0]), OK);
    assert_int_equal(pmm_alloc(FRAME_DEVICE, FRAME_UNCLEARED, &frames[1]), OK);
    pmm_free(frames[0]);
    pmm_free(frames[1]);
}

static void begin(void)
{
    model_begin(1, 4);
    assert_int_equal(space_create(&space), OK);
    assert_int_equal(space_map(space, &SPACE_AT(START, PAGES * PAGE_SIZE, read_write), NULL), OK);
    assert_int_equal(space_advise(space, START, PAGES * PAGE_SIZE, SPACE_SEQUENTIAL), OK);
    space_switch(space);
    fill_caches();
}

static void end(void)
{
    space_audit();
    space_switch(NULL);
    space_destroy(space);
    page_set_limit(UINT64_MAX);
    space_set_around(GROUP);
    model_end();
}

static uint64_t page_at(unsigned number)
{
    return START + number * PAGE_SIZE;
}

/* As the processor accesses memory; faults, or -1 when it is refused. */
static int touch(uint64_t address, bool write)
{
    struct phys physical;
    int faults = model_touch(address, write, &physical);

    if (faults < 0)
        return faults;
    for (unsigned i = 0; i < PAGE_SIZE / sizeof(uint64_t); i++)
        assert_int_equal(((const uint64_t *)phys_pointer(physical))[i], 0);
    return faults;
}

static unsigned resident(void)
{
    struct space_view view;

    assert_int_equal(space_query(space, START, &view), OK);
    return (unsigned)view.resident;
}

/* A write in order takes one fault a group, and one for the table. */
static void faults_fall_by_the_group(void **state)
{
    (void)state;
    for (unsigned group = 2; group <= GROUP; group *= 2) {
        int faults = 0;

        space_set_around(group);
        begin();
        for (unsigned i = 0; i < PAGES; i++)
            faults += touch(page_at(i), true);
        /* The cache of frames may end within a group, once for so few pages. */
        assert_in_range(faults, PAGES / group, PAGES / group + 1);
        assert_int_equal(space_faults(space).first_write, faults);
        assert_int_equal(space_faults(space).around, PAGES - (unsigned)faults);
        assert_int_equal(resident(), PAGES);
        assert_int_equal(page_clock_size(), PAGES);
        end();
    }
}

/* Also backwards; existing pages stay as they are. */
static void groups_are_what_stands_in_a_row(void **state)
{
    (void)state;
    begin();
    assert_int_equal(touch(page_at(GROUP - 1), true), 1);
    assert_int_equal(resident(), GROUP);
    assert_int_equal(space_advise(space, page_at(20), PAGE_SIZE, SPACE_RANDOM), OK);
    assert_int_equal(space->region_count, 3);
    assert_true(touch(page_at(26), false) >= 0);
    assert_int_equal(touch(page_at(23), true), 1); /* from 21 to 25 */
    assert_int_equal(page_clock_size(), GROUP + 5);
    assert_int_equal(space_faults(space).around, GROUP - 1 + 4);
    assert_int_equal(touch(page_at(20), true), 1);
    assert_int_equal(touch(page_at(27), true), 1); /* to 31 */
    assert_int_equal(space_faults(space).around, GROUP - 1 + 4 + 4);
    end();
}

/* Other regions, guards, unmapped pages and pages without access are not populated. */
static void only_the_region_gets_pages(void **state)
{
    (void)state;
    begin();
    assert_int_equal(space_unmap(space, page_at(4), PAGE_SIZE), OK);
    assert_int_equal(space_protect(space, page_at(9), PAGE_SIZE, read_only), OK);
    assert_int_equal(touch(page_at(6), true), 1);
    assert_int_equal(page_clock_size(), 4);
    assert_int_equal(touch(page_at(4), true), -1);
    assert_int_equal(touch(page_at(9), true), -1);
    /* The hint survives a change of rights, and a fork. */
    assert_int_equal(space_protect(space, page_at(32), PAGE_SIZE * GROUP, read_only), OK);
    assert_int_equal(space_protect(space, page_at(32), PAGE_SIZE * GROUP, read_write), OK);
    assert_int_equal(touch(page_at(40), true), 1);
    assert_int_equal(page_clock_size(), 4 + GROUP);
    end();
}

static void a_limit_is_honoured(void **state)
{
    (void)state;
    begin();
    page_set_limit(18);
    for (unsigned i = 0; i < PAGES; i++) {
        assert_true(touch(page_at(i), true) >= 0);
        assert_true(page_clock_size() <= 18);
    }
    assert_int_equal(commit_pages(), PAGES);
    end();
}

/* With few frames left no page is evicted to populate a neighbour. */
static void nothing_goes_out_for_what_was_not_asked_for(void **state)
{
    (void)state;
    begin();
    assert_int_equal(touch(page_at(0), true), 1);
    model_leave_frames(3);
    assert_int_equal(touch(page_at(GROUP), true), 1);
    assert_int_equal(swap_usage().used, 0);
    assert_int_equal(space_faults(space).first_write, 2);
    assert_in_range(page_clock_size(), GROUP + 1, GROUP + 3);
    model_leave_frames(UINT64_MAX);
    end();
}

static void a_fork_keeps_the_hint(void **state)
{
    struct space *child;

    (void)state;
    begin();
    assert_int_equal(touch(page_at(0), true), 1);
    assert_int_equal(space_fork(space, &child), OK);
    space_switch(child);
    assert_true(touch(page_at(GROUP), true) >= 1);
    assert_int_equal(space_faults(child).around, GROUP - 1);
    space_switch(space);
    assert_int_equal(resident(), GROUP);
    space_audit();
    space_destroy(child);
    end();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_fall_by_the_group),
        cmocka_unit_test(groups_are_what_stands_in_a_row),
        cmocka_unit_test(only_the_region_gets_pages),
        cmocka_unit_test(a_limit_is_honoured),
        cmocka_unit_test(nothing_goes_out_for_what_was_not_asked_for),
        cmocka_unit_test(a_fork_keeps_the_hint),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}

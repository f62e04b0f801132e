/* Ends of spaces: what is given back at once, what is left for later, and who frees that. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "swapdisk/area.h"
#include "tests/host/fake/machine.h"
#include "tests/host/model/space_model_host.h"
#include "vmm/fault/fault.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"
#include "vmm/range/collapse.h"
#include "vmm/section/section.h"
#include "vmm/space/commit.h"
#include "vmm/space/end.h"

#define MEMORY (16 * MIB)
#define SLOTS  64U
#define START  (1024 * GIB)

/* Pages of the spaces that end: more than a table has. */
#define PAGES 700U

/* One step frees at most the pages of a leaf table. */
#define STEP PTE_ENTRIES

static const struct rights read_write = {.write = true, .user = true};

static uint64_t frames_before; /* in use before the space that ends */

static int set_up(void **state)
{
    (void)state;
    return model_start_with_swap(MEMORY, SLOTS);
}

static uint64_t frames_in_use(void)
{
    struct pmm_usage usage = pmm_usage();

    return usage.total - usage.by_kind[FRAME_FREE];
}

static uint64_t pages_in_use(void)
{
    return pmm_usage().by_kind[FRAME_ANONYMOUS];
}

static void write_page(struct space *space, uint64_t address)
{
    assert_int_equal(
        fault_resolve(space, address, (struct fault_access){.write = true, .from_user = true}), OK);
}

static struct space *begin_space(unsigned levels)
{
    struct space *space;

    model_begin(2, levels);
    model_overcommit(OVERCOMMIT_HEURISTIC);
    space_set_end_work(SPACE_END_WORK);
    frames_before = frames_in_use();
    assert_int_equal(space_create(&space), OK);
    return space;
}

static void fill(struct space *space, unsigned pages)
{
    assert_int_equal(space_map(space, &SPACE_AT(START, pages * PAGE_SIZE, read_write), NULL), OK);
    for (unsigned i = 0; i < pages; i++)
        write_page(space, START + i * PAGE_SIZE);
}

/* Begins with a space that has pages. */
static struct space *begin(unsigned pages)
{
    struct space *space = begin_space(4);

    fill(space, pages);
    return space;
}

/* ---- the call ---- */

static void a_small_space_ends_at_once(void **state)
{
    struct space *space = begin(20);

    (void)state;
    space_destroy(space);
    assert_int_equal(space_ends(), 0);
    assert_false(space_ends_step());
    assert_int_equal(frames_in_use(), frames_before);
    model_end();
}

static void end_in_steps(unsigned levels)
{
    struct space *space = begin_space(levels);
    uint64_t left;

    fill(space, PAGES);
    space_destroy(space);
    /* All that others see is as if the space had ended. */
    assert_int_equal(commit_pages(), 0);
    assert_int_equal(space_count(), 0);
    assert_int_equal(space_ends(), 1);
    left = pages_in_use();
    assert_in_range(left, PAGES - SPACE_END_WORK, PAGES);
    while (left > 0) {
        assert_true(space_ends_step());
        assert_in_range(left - pages_in_use(), 0, STEP);
        left = pages_in_use();
    }
    space_finish_ends();
    assert_int_equal(space_ends(), 0);
    assert_int_equal(descriptor_count(), 0);
    assert_int_equal(frames_in_use(), frames_before);
    model_end();
}

static void a_large_space_ends_in_steps(void **state)
{
    (void)state;
    end_in_steps(4);
    end_in_steps(5);
}

/* A step is as short for regions as for pages. */
static void regions_end_in_steps(void **state)
{
    struct space *space = begin_space(4);
    unsigned steps = 0;

    (void)state;
    for (unsigned i = 0; i < 2000; i++)
        assert_int_equal(
            space_map(space, &SPACE_AT(START + 2 * i * PAGE_SIZE, PAGE_SIZE, read_write), NULL),
            OK);
    space_destroy(space);
    assert_int_equal(space_ends(), 1);
    assert_int_equal(commit_pages(), 0);
    while (space_ends_step())
        steps++;
    assert_in_range(steps, 2000 / STEP, 2000);
    assert_int_equal(descriptor_count(), 0);
    assert_int_equal(frames_in_use(), frames_before);
    model_end();
}

/* Evicts all pages that can go. */
static void evict_all(void)
{
    for (unsigned idle = 0; idle < 3;) {
        unsigned evicted;

        if (reclaim_pages(16, &evicted) != OK)
            return;
        idle = evicted > 0 ? 0 : idle + 1;
    }
}

/* An entry in a dead table cannot be locked, and a processor that ends a transfer of its page waits
 * for it. So between steps each page of an ended space can be evicted. */
static void no_page_is_left_in_a_dead_table(void **state)
{
    struct space *space = begin(10);
    uint64_t far = START + 4 * PTE_ENTRIES * PAGE_SIZE;

    (void)state;
    assert_int_equal(
        space_map(space, &SPACE_AT(far, 2 * PTE_ENTRIES * PAGE_SIZE, read_write), NULL), OK);
    for (unsigned i = 0; i < 2 * PTE_ENTRIES; i++)
        write_page(space, far + i * PAGE_SIZE);
    space_destroy(space); /* empties the small table, and leaves the next one as it is */
    assert_int_equal(pages_in_use(), 2 * PTE_ENTRIES);
    assert_true(space_ends_step());
    assert_in_range(pages_in_use(), 1, 2 * PTE_ENTRIES - 1);
    evict_all();
    assert_int_equal(pages_in_use(), 0);
    space_finish_ends();
    assert_int_equal(frames_in_use(), frames_before);
    model_end();
}

/* The last one to end is not the first to be freed whole, or the other way round: all are. */
static void several_end_together(void **state)
{
    struct space *spaces[3] = {begin(PAGES)};

    (void)state;
    for (unsigned i = 1; i < 3; i++) {
        assert_int_equal(space_create(&spaces[i]), OK);
        fill(spaces[i], PAGES);
    }
    space_destroy(spaces[1]);
    assert_true(space_ends_step());
    space_destroy(spaces[0]);
    space_destroy(spaces[2]);
    assert_int_equal(space_ends(), 3);
    space_finish_ends();
    assert_int_equal(space_ends(), 0);
    assert_int_equal(frames_in_use(), frames_before);
    model_end();
}

/* Wired pages are uncharged by the call, and their frames freed later. */
static void wired_pages_are_uncharged_at_once(void **state)
{
    struct space *space = begin(PAGES);

    (void)state;
    assert_int_equal(space_wire(space, START, PAGES * PAGE_SIZE), OK);
    space_destroy(space);
    assert_int_equal(space_wired_pages(), 0);
    assert_true(page_wired() > 0);
    space_audit();
    assert_int_equal(page_wired(), 0);
    model_end();
}

/* Files need to know which pages a space wrote, and a cut or snapshot waits for its leaves. */
static void a_space_with_a_section_ends_at_once(void **state)
{
    struct space *space = begin(PAGES);

    (void)state;
    assert_int_equal(
        space_map(space, &SPACE_AT(2 * START, 300 * PAGE_SIZE, read_write, .flags = SPACE_SHARED),
                  NULL),
        OK);
    for (unsigned i = 0; i < 300; i++)
        write_page(space, 2 * START + i * PAGE_SIZE);
    space_destroy(space);
    assert_int_equal(space_ends(), 0);
    assert_int_equal(frames_in_use(), frames_before);
    model_end();
}

/* Who splits a large page awaits the entries of all its sharers, also of those that have ended. */
static void a_space_with_a_large_page_ends_at_once(void **state)
{
    struct space *space = begin(PAGES);
    struct space *child;

    (void)state;
    assert_int_equal(
        space_map(space, &SPACE_AT(2 * START, 2 * MIB, read_write, .page_level = 2), NULL), OK);
    write_page(space, 2 * START);
    assert_int_equal(space_faults(space).large, 1);
    assert_int_equal(space_fork(space, &child), OK);
    space_destroy(space);
    assert_int_equal(space_ends(), 0);
    write_page(child, 2 * START + PAGE_SIZE);
    space_destroy(child);
    assert_int_equal(space_ends(), 0);
    assert_int_equal(frames_in_use(), frames_before);
    model_end();
}

/* ---- memory that is short ---- */

/* A fault takes the pages of ended spaces before it evicts one. */
static void pages_are_taken_before_any_is_evicted(void **state)
{
    struct space *space = begin(PAGES);
    struct space *next;
    struct reclaim_counts before;

    (void)state;
    page_set_limit(PAGES + 20);
    assert_int_equal(space_create(&next), OK);
    space_destroy(space);
    before = reclaim_counts();
    fill(next, PAGES);
    assert_int_equal(reclaim_counts().looked_at, before.looked_at);
    assert_in_range(pages_in_use(), PAGES, PAGES + 20);
    page_set_limit(UINT64_MAX);
    space_destroy(next);
    model_end();
}

/* Without a free frame and without a page to evict, what ended spaces have is memory, too. */
static void memory_is_not_out_before(void **state)
{
    struct space *space = begin(PAGES);
    struct space *next;

    (void)state;
    space_set_end_work(0);
    space_destroy(space);
    model_leave_frames(0);
    assert_int_equal(space_create(&next), OK);
    assert_int_equal(
        space_map(next, &SPACE_AT(START, 300 * PAGE_SIZE, read_write, .flags = SPACE_WIRED), NULL),
        OK);
    space_destroy(next);
    model_end();
}

/* Frames of ended spaces may be all that is missing for a block. */
static void a_large_page_is_made_of_what_ended(void **state)
{
    struct space *space = begin_space(4);
    struct space *next;

    (void)state;
    fill(space, (unsigned)pmm_usage().by_kind[FRAME_FREE] - 300);
    space_set_end_work(0);
    space_destroy(space);
    assert_int_equal(space_create(&next), OK);
    assert_int_equal(space_map(next, &SPACE_AT(START, 2 * MIB, read_write, .page_level = 2), NULL),
                     OK);
    write_page(next, START);
    assert_int_equal(space_faults(next).large, 1);
    space_destroy(next);
    model_end();
}

/* Flushes for forks that failed: one try takes two at most. */
static unsigned flushes;

static void count_flush(void)
{
    if (++flushes > 100)
        fail_msg("a fork that cannot be is tried again and again");
}

/* What a failed fork leaves is gone at once: freed later, it would pass for new room. */
static void a_fork_that_fails_is_not_tried_for_ever(void **state)
{
    struct space *space = begin_space(4);
    struct space *child;

    (void)state;
    space_set_end_work(0); /* an end leaves all that it may for later */
    fill(space, 300);
    assert_int_equal(space_wire(space, START, 300 * PAGE_SIZE), OK);
    space_switch(space);
    reclaim_allow_zeroes(false); /* pages without a slot would be room for all copies */
    model_leave_frames(40);
    flushes = 0;
    fake_on_flush_space = fake_on_flush_all = count_flush;
    assert_int_equal(space_fork(space, &child), STATUS_NO_MEMORY);
    fake_on_flush_space = fake_on_flush_all = NULL;
    reclaim_allow_zeroes(true);
    assert_true(flushes > 0);
    assert_int_equal(space_ends(), 0);
    assert_int_equal(space_count(), 1);
    space_set_end_work(SPACE_END_WORK);
    space_switch(NULL);
    space_destroy(space);
    model_end();
}

/* Slots of ended spaces serve the next page that goes. */
static void slots_are_taken_when_none_is_free(void **state)
{
    struct space *space = begin(SLOTS);
    struct space *next;
    unsigned evicted;

    (void)state;
    reclaim_allow_zeroes(false);
    evict_all();
    assert_int_equal(swap_usage().used, SLOTS);
    space_set_end_work(0);
    space_destroy(space);
    assert_int_equal(swap_usage().used, SLOTS);
    assert_int_equal(space_create(&next), OK);
    fill(next, 1);
    for (unsigned i = 0, out = 0; i < 3 && out == 0; i++) {
        assert_int_equal(reclaim_pages(1, &evicted), OK);
        out = evicted;
    }
    reclaim_allow_zeroes(true);
    assert_int_equal(pages_in_use(), 0);
    space_destroy(next);
    model_end();
}

/* ---- what is shared ---- */

/* A parent goes on beside what its ended child still shares: writes, eviction, a fork, its end. */
static void a_parent_goes_on(void **state)
{
    struct space *parent = begin(PAGES);
    struct space *child;
    struct space *second;
    unsigned evicted;

    (void)state;
    assert_int_equal(space_fork(parent, &child), OK);
    for (unsigned i = 0; i < PAGES; i += 64)
        write_page(child, START + i * PAGE_SIZE);
    space_set_end_work(0);
    space_destroy(child);
    for (unsigned i = 0; i < PAGES; i += 3)
        write_page(parent, START + i * PAGE_SIZE);
    assert_int_equal(reclaim_pages(16, &evicted), OK);
    assert_int_equal(space_fork(parent, &second), OK);
    assert_true(space_ends_step());
    write_page(second, START + 5 * PAGE_SIZE);
    assert_int_equal(space_unmap(parent, START, 100 * PAGE_SIZE), OK);
    space_audit();
    space_destroy(parent);
    space_destroy(second);
    model_end();
    space_set_end_work(SPACE_END_WORK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_space_ends_at_once),
        cmocka_unit_test(a_large_space_ends_in_steps),
        cmocka_unit_test(regions_end_in_steps),
        cmocka_unit_test(no_page_is_left_in_a_dead_table),
        cmocka_unit_test(several_end_together),
        cmocka_unit_test(wired_pages_are_uncharged_at_once),
        cmocka_unit_test(a_space_with_a_section_ends_at_once),
        cmocka_unit_test(a_space_with_a_large_page_ends_at_once),
        cmocka_unit_test(pages_are_taken_before_any_is_evicted),
        cmocka_unit_test(memory_is_not_out_before),
        cmocka_unit_test(a_large_page_is_made_of_what_ended),
        cmocka_unit_test(a_fork_that_fails_is_not_tried_for_ever),
        cmocka_unit_test(slots_are_taken_when_none_is_free),
        cmocka_unit_test(a_parent_goes_on),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}

/* Wired pages, and mappings that come with their pages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "cpu/trap/trap.h"
#include "tests/host/fake/machine.h"
#include "tests/host/fake/mmu.h"
#include "tests/host/model/space_model_host.h"
#include "vmm/fault/fault.h"
#include "vmm/page/large.h"
#include "vmm/page/page.h"
#include "vmm/page/shrinker.h"
#include "vmm/reclaimer/zero_merge.h"
#include "vmm/space/commit.h"
#include "vmm/space/end.h"

#define MEMORY (24 * MIB)
#define SLOTS  128U
#define START  (4 * MIB)
#define PAGES  40U

static const struct rights read_write = {.write = true, .user = true};
static const struct rights read_only = {.user = true};
static const struct rights no_access = {.none = true};

static struct space *space;

static int set_up(void **state)
{
    (void)state;
    return model_start_with_swap(MEMORY, SLOTS);
}

static void begin(void)
{
    model_begin(1, 4);
    model_overcommit(OVERCOMMIT_HEURISTIC);
    assert_int_equal(space_create(&space), OK);
    space_switch(space);
}

static void end(void)
{
    space_audit();
    space_switch(NULL);
    space_destroy(space);
    assert_int_equal(space_wired_pages(), 0);
    space_finish_ends();
    assert_int_equal(page_wired(), 0);
    space_set_wired_limit(UINT64_MAX);
    page_set_limit(UINT64_MAX);
    model_end();
}

static uint64_t page_at(unsigned number)
{
    return START + number * PAGE_SIZE;
}

/* The page by the tables, a part of a large one too; PFN_NONE: none is there. */
static struct pfn page_of(const struct space *of, uint64_t address)
{
    bool were_on = machine_interrupts_off();
    struct tree_place place = tree_walk(&of->tree, address);
    enum pte_state state = pte_state(place.entry, place.level);
    struct pfn page = PFN_NONE;

    if (state == PTE_LEAF)
        page = pte_frame(place.entry);
    else if (state == PTE_WITHHELD)
        page = pte_payload_frame(place.entry);
    if (!pfn_is_none(page))
        page.index += (uint32_t)(address % pte_span(place.level) / PAGE_SIZE);
    machine_interrupts_restore(were_on);
    return page;
}

/* As the processor accesses memory: how many faults it takes; -1: refused. */
static int touch(uint64_t address, bool write, uint64_t value)
{
    struct phys physical;
    int faults = model_touch(address, write, &physical);

    if (faults < 0)
        return faults;
    if (write)
        *(uint64_t *)phys_pointer(physical) = value;
    else
        assert_int_equal(*(const uint64_t *)phys_pointer(physical), value);
    return faults;
}

static void read_all(unsigned pages, uint64_t tag)
{
    for (unsigned i = 0; i < pages; i++)
        assert_int_equal(touch(page_at(i), false, tag + i), 0);
}

static void write_all(unsigned pages, uint64_t tag)
{
    for (unsigned i = 0; i < pages; i++)
        assert_int_equal(touch(page_at(i), true, tag + i), 0);
}

static void map_wired(unsigned pages)
{
    assert_int_equal(space_map(space, &SPACE_AT(START, pages * PAGE_SIZE, read_write), NULL), OK);
    assert_int_equal(space_wire(space, START, pages * PAGE_SIZE), OK);
}

static struct space_view view_of(uint64_t address)
{
    struct space_view view;

    assert_int_equal(space_query(space, address, &view), OK);
    return view;
}

/* All that can go out does, and all that is zero becomes the zero page. */
static void press(void)
{
    while (page_reclaim_some()) {
    }
    (void)zero_merge(UINT32_MAX);
}

/* ---- guarantees of a wire ---- */

static void wired_pages_stay(void **state)
{
    struct pfn pages[PAGES];

    (void)state;
    begin();
    map_wired(PAGES);
    assert_true(view_of(START).wired);
    assert_int_equal(space_wired_pages(), PAGES);
    assert_int_equal(page_clock_size(), 0);
    for (unsigned i = 0; i < PAGES; i++)
        pages[i] = page_of(space, page_at(i));
    /* Others, which can go. */
    assert_int_equal(
        space_map(space, &SPACE_AT(GIB, PAGES * PAGE_SIZE, read_write, .flags = SPACE_POPULATED),
                  NULL),
        OK);
    assert_int_equal(space_advise(space, START, PAGES * PAGE_SIZE, SPACE_COLD), OK);
    press();
    assert_int_equal(view_of(GIB).resident, 0);
    write_all(PAGES, 100);
    press();
    for (unsigned i = 0; i < PAGES; i++)
        assert_true(pfn_equal(page_of(space, page_at(i)), pages[i]));
    read_all(PAGES, 100);
    end();
}

static void unwired_pages_go(void **state)
{
    (void)state;
    begin();
    map_wired(PAGES);
    write_all(PAGES, 7);
    assert_int_equal(space_unwire(space, page_at(8), 8 * PAGE_SIZE), OK);
    assert_int_equal(space->region_count, 3);
    assert_int_equal(space_wired_pages(), PAGES - 8);
    press();
    assert_int_equal(view_of(page_at(8)).resident, 0);
    assert_int_equal(view_of(page_at(7)).resident, 8);
    assert_false(view_of(page_at(8)).wired);
    /* Not nested, and no error where nothing is wired. */
    assert_int_equal(space_wire(space, START, PAGES * PAGE_SIZE), OK);
    assert_int_equal(space_wire(space, START, PAGES * PAGE_SIZE), OK);
    assert_int_equal(space->region_count, 1);
    read_all(PAGES, 7);
    assert_int_equal(space_unwire(space, START, PAGES * PAGE_SIZE), OK);
    assert_int_equal(space_unwire(space, START, PAGES * PAGE_SIZE), OK);
    assert_int_equal(space_wired_pages(), 0);
    end();
}

/* COW pages, zeroes, and pages that are out become own before they are wired. */
static void whatever_stands_there_is_wired(void **state)
{
    struct space *child;

    (void)state;
    begin();
    assert_int_equal(space_map(space, &SPACE_AT(START, PAGES * PAGE_SIZE, read_write), NULL), OK);
    for (unsigned i = 0; i < 16; i++)
        (void)touch(page_at(i), true, 50 + i);
    press();
    for (unsigned i = 8; i < 24; i++)
        (void)touch(page_at(i), false, i < 16 ? 50 + i : 0);
    assert_int_equal(space_fork(space, &child), OK);
    assert_int_equal(space_wire(space, START, PAGES * PAGE_SIZE), OK);
    read_all(16, 50);
    write_all(PAGES, 90);
    space_audit();
    space_switch(child);
    for (unsigned i = 0; i < PAGES; i++)
        assert_true(touch(page_at(i), false, i < 16 ? 50 + i : 0) >= 0);
    space_switch(space);
    space_destroy(child);
    end();
}

/* ---- calls on wired ranges ---- */

static void a_fork_copies_at_once(void **state)
{
    struct pfn pages[PAGES];
    struct space *child;

    (void)state;
    begin();
    assert_int_equal(space_map(space, &SPACE_AT(START, 2 * PAGES * PAGE_SIZE, read_write), NULL),
                     OK);
    assert_int_equal(space_wire(space, START, PAGES * PAGE_SIZE), OK);
    write_all(PAGES, 300);
    (void)touch(page_at(PAGES), true, 1);
    for (unsigned i = 0; i < PAGES; i++)
        pages[i] = page_of(space, page_at(i));
    assert_int_equal(space_fork(space, &child), OK);
    assert_int_equal(child->wired, 0);
    assert_int_equal(child->region_count, 1);
    /* Without a fault, in the same frames. */
    write_all(PAGES, 600);
    for (unsigned i = 0; i < PAGES; i++) {
        assert_true(pfn_equal(page_of(space, page_at(i)), pages[i]));
        assert_false(pfn_equal(page_of(child, page_at(i)), pages[i]));
    }
    /* Pages that are not wired are shared as usual. */
    assert_true(pfn_equal(page_of(space, page_at(PAGES)), page_of(child, page_at(PAGES))));
    space_audit();
    press();
    space_switch(child);
    for (unsigned i = 0; i < PAGES; i++)
        assert_true(touch(page_at(i), false, 300 + i) >= 0);
    space_switch(space);
    read_all(PAGES, 600);
    space_destroy(child);
    end();
}

/* Memory that ends in the middle of the copies: the parent has all it had. */
static void a_fork_that_fails_changes_nothing(void **state)
{
    struct space *child;
    uint64_t failures = 0;
    enum status status;

    (void)state;
    begin();
    map_wired(PAGES);
    write_all(PAGES, 1000);
    for (uint64_t frames = 0;; frames++) {
        model_leave_frames(frames);
        status = space_fork(space, &child);
        if (status == OK)
            break;
        assert_int_equal(status, STATUS_NO_MEMORY);
        failures++;
        write_all(PAGES, 1000 + frames);
        space_audit();
    }
    model_leave_frames(UINT64_MAX);
    assert_true(failures > PAGES);
    write_all(PAGES, 5);
    space_destroy(child);
    end();
}

static void a_change_of_rights_keeps_pages(void **state)
{
    struct pfn page;

    (void)state;
    begin();
    assert_int_equal(space_map(space, &SPACE_AT(START, PAGES * PAGE_SIZE, read_only), NULL), OK);
    assert_int_equal(commit_pages(), 0);
    assert_int_equal(space_wire(space, START, 20 * PAGE_SIZE), OK);
    assert_int_equal(commit_pages(), 20);
    page = page_of(space, page_at(3));
    assert_int_equal(touch(page_at(3), true, 0), -1);
    assert_int_equal(space_protect(space, page_at(2), 4 * PAGE_SIZE, no_access), OK);
    assert_int_equal(touch(page_at(3), false, 0), -1);
    press();
    assert_true(pfn_equal(page_of(space, page_at(3)), page));
    assert_int_equal(space_protect(space, page_at(1), 4 * PAGE_SIZE, read_write), OK);
    press();
    space_switch(NULL); /* translations that are late go */
    space_switch(space);
    assert_int_equal(touch(page_at(3), true, 44), 0);
    assert_true(pfn_equal(page_of(space, page_at(3)), page));
    assert_int_equal(space_wire(space, page_at(5), PAGE_SIZE), OK); /* no access, but wired */
    assert_int_equal(space_wired_pages(), 20);
    assert_int_equal(space_protect(space, page_at(30), PAGE_SIZE, no_access), OK);
    assert_int_equal(space_wire(space, page_at(29), 3 * PAGE_SIZE), STATUS_DENIED);
    assert_int_equal(space_wired_pages(), 20);
    end();
}

static void pages_are_not_forgotten(void **state)
{
    (void)state;
    begin();
    assert_int_equal(space_map(space, &SPACE_AT(START, PAGES * PAGE_SIZE, read_write), NULL), OK);
    assert_int_equal(space_wire(space, page_at(4), PAGE_SIZE), OK);
    assert_int_equal(touch(page_at(4), true, 9), 0);
    (void)touch(page_at(5), true, 9);
    assert_int_equal(space_advise(space, START, PAGES * PAGE_SIZE, SPACE_DONT_NEED), STATUS_BUSY);
    (void)touch(page_at(5), false, 9);
    assert_int_equal(space_advise(space, page_at(5), PAGE_SIZE, SPACE_DONT_NEED), OK);
    (void)touch(page_at(5), false, 0);
    assert_int_equal(touch(page_at(4), false, 9), 0);
    end();
}

static void an_unmap_ends_the_wire(void **state)
{
    (void)state;
    begin();
    map_wired(PAGES);
    assert_int_equal(space_unmap(space, page_at(10), 10 * PAGE_SIZE), OK);
    assert_int_equal(space_wired_pages(), PAGES - 10);
    assert_int_equal(page_wired(), PAGES - 10);
    assert_int_equal(space_unmap(space, page_at(0), PAGES * PAGE_SIZE), OK);
    assert_int_equal(page_wired(), 0);
    map_wired(3); /* end() destroys the space with these */
    end();
}

static void what_grows_or_moves_stays_wired(void **state)
{
    const uint64_t size = PAGES * PAGE_SIZE;
    uint64_t place;
    struct pfn page;

    (void)state;
    begin();
    map_wired(PAGES);
    write_all(PAGES, 70);
    page = page_of(space, START);
    assert_int_equal(space_remap(space, START, size, size + 10 * PAGE_SIZE), OK);
    assert_int_equal(space->region_count, 1);
    assert_int_equal(space_wired_pages(), PAGES + 10);
    assert_int_equal(touch(page_at(PAGES + 9), true, 1), 0);
    assert_int_equal(space_remap(space, START, size + 10 * PAGE_SIZE, size), OK);
    assert_int_equal(space_wired_pages(), PAGES);
    assert_int_equal(space_map(space,
                               &(struct space_request){
                                   .at = START + size, .size = PAGE_SIZE, .flags = SPACE_GUARD},
                               NULL),
                     OK);
    assert_int_equal(space_remap_moving(space, START, size, size + 5 * PAGE_SIZE, &place), OK);
    assert_true(place != START);
    press();
    assert_true(pfn_equal(page_of(space, place), page));
    assert_int_equal(space_wired_pages(), PAGES + 5);
    for (unsigned i = 0; i < PAGES + 5; i++)
        assert_int_equal(touch(place + i * PAGE_SIZE, true, 0), 0);
    /* A range that cannot be wired does not grow, and does not move. */
    space_set_wired_limit(PAGES + 10);
    assert_int_equal(space_remap(space, place, size, size + 9 * PAGE_SIZE), STATUS_EXISTS);
    assert_int_equal(space_remap(space, place, size + 5 * PAGE_SIZE, size + 20 * PAGE_SIZE),
                     STATUS_LIMIT);
    assert_int_equal(space_wired_pages(), PAGES + 5);
    end();
}

/* ---- large pages ---- */

static void large_pages_are_wired_whole(void **state)
{
    struct space *child;
    struct pfn page;

    (void)state;
    begin();
    assert_int_equal(space_map(space, &SPACE_AT(START, 4 * MIB, read_write, .page_level = 2), NULL),
                     OK);
    assert_int_equal(space_wire(space, START, 2 * MIB), OK);
    assert_int_equal(space_faults(space).large, 1);
    assert_int_equal(page_wired(), PTE_ENTRIES);
    page = page_of(space, START);
    assert_int_equal(touch(page_at(9), true, 77), 0);
    (void)touch(START + 2 * MIB, true, 1);
    assert_true(large_split_one()); /* the other one */
    assert_false(large_split_one());
    assert_int_equal(space_fork(space, &child), OK);
    assert_int_equal(touch(page_at(9), true, 78), 0);
    assert_true(pfn_equal(page_of(space, START), page));
    assert_false(pfn_equal(page_of(child, START), page));
    space_audit();
    /* One page is unmapped: the others are wired page by page. */
    assert_int_equal(space_unmap(space, page_at(20), PAGE_SIZE), OK);
    assert_int_equal(space_wired_pages(), PTE_ENTRIES - 1);
    assert_int_equal(space_unwire(space, page_at(100), 10 * PAGE_SIZE), OK);
    space_audit();
    press();
    assert_int_equal(touch(page_at(9), false, 78), 0);
    assert_true(pfn_equal(page_of(space, page_at(9)), (struct pfn){page.index + 9}));
    space_switch(child);
    assert_true(touch(page_at(9), false, 77) >= 0);
    space_switch(space);
    space_destroy(child);
    end();
}

/* Pages that are wired one by one are not put together, which could move them; large ones
 * neither. */
static void wired_pages_are_not_put_together(void **state)
{
    struct pfn page;

    (void)state;
    begin();
    map_wired(PTE_ENTRIES);
    page = page_of(space, page_at(77));
    write_all(PTE_ENTRIES, 20);
    assert_int_equal(space_map(space,
                               &SPACE_AT(START + 2 * MIB, 2 * MIB, read_write, .page_level = 2,
                                         .flags = SPACE_WIRED),
                               NULL),
                     OK);
    assert_int_equal(space_advise(space, START, 4 * MIB, SPACE_COLLAPSE), OK);
    assert_int_equal(large_frames(), 0);
    assert_true(pfn_equal(page_of(space, page_at(77)), page));
    read_all(PTE_ENTRIES, 20);
    end();
}

/* Where no block is free for the child it gets small pages, and the parent's is taken apart. */
static void a_large_page_is_copied_in_parts(void **state)
{
    struct space *child;
    struct pfn page;

    (void)state;
    begin();
    assert_int_equal(
        space_map(space,
                  &SPACE_AT(START, 2 * MIB, read_write, .page_level = 2, .flags = SPACE_WIRED),
                  NULL),
        OK);
    page = page_of(space, START);
    assert_int_equal(touch(page_at(500), true, 12), 0);
    page_set_limit(2000); /* no large page is given */
    assert_int_equal(space_fork(space, &child), OK);
    assert_int_equal(touch(page_at(500), true, 13), 0);
    assert_true(pfn_equal(page_of(space, START), page));
    space_switch(child);
    assert_true(touch(page_at(500), false, 12) >= 0);
    space_switch(space);
    space_audit();
    space_destroy(child);
    end();
}

/* ---- errors ---- */

static void too_many_are_refused_before_any_work(void **state)
{
    (void)state;
    begin();
    space_set_wired_limit(10);
    assert_int_equal(space_map(space, &SPACE_AT(START, PAGES * PAGE_SIZE, read_write), NULL), OK);
    assert_int_equal(space_wire(space, START, 11 * PAGE_SIZE), STATUS_LIMIT);
    assert_int_equal(view_of(START).resident, 0);
    assert_int_equal(space->region_count, 1);
    assert_int_equal(space_wire(space, START, 6 * PAGE_SIZE), OK);
    assert_int_equal(space_wire(space, page_at(2), 8 * PAGE_SIZE), OK);
    assert_int_equal(space_wire(space, page_at(10), PAGE_SIZE), STATUS_LIMIT);
    assert_int_equal(
        space_map(space, &SPACE_AT(GIB, PAGE_SIZE, read_write, .flags = SPACE_WIRED), NULL),
        STATUS_LIMIT);
    assert_int_equal(space_unwire(space, START, PAGE_SIZE), OK);
    assert_int_equal(
        space_map(space, &SPACE_AT(GIB, PAGE_SIZE, read_write, .flags = SPACE_WIRED), NULL), OK);
    assert_int_equal(
        space_map(space, &SPACE_AT(2 * GIB, PAGE_SIZE, no_access, .flags = SPACE_WIRED), NULL),
        STATUS_DENIED);
    assert_int_equal(space_wire(space, 3 * GIB, PAGE_SIZE), STATUS_NOT_FOUND);
    assert_int_equal(space_unwire(space, page_at(PAGES - 1), 2 * PAGE_SIZE), STATUS_NOT_FOUND);
    assert_int_equal(space_wire(space, START + 1, PAGE_SIZE), STATUS_RANGE);
    assert_int_equal(space_unwire(space, START, 0), STATUS_RANGE);
    end();
}

/* Some pages are wired before, which stay so; then memory ends in the middle. */
static void what_fails_is_rolled_back(void **state)
{
    (void)state;
    begin();
    assert_int_equal(space_map(space, &SPACE_AT(START, PAGES * PAGE_SIZE, read_write), NULL), OK);
    assert_int_equal(space_protect(space, page_at(20), PAGE_SIZE, read_only), OK);
    assert_int_equal(space_wire(space, page_at(5), 5 * PAGE_SIZE), OK);
    page_set_limit(28); /* pages of one's own: 5 of them wired */
    space_set_wired_limit(UINT64_MAX - 1);
    assert_int_equal(space_wire(space, START, PAGES * PAGE_SIZE), STATUS_NO_MEMORY);
    assert_int_equal(space_wired_pages(), 5);
    assert_int_equal(page_wired(), 5);
    assert_true(view_of(page_at(5)).wired);
    assert_false(view_of(START).wired);
    assert_int_equal(space->region_count, 5);
    space_audit();
    assert_int_equal(
        space_map(space, &SPACE_AT(GIB, 28 * PAGE_SIZE, read_write, .flags = SPACE_WIRED), NULL),
        STATUS_NO_MEMORY);
    assert_int_equal(space_query(space, GIB, &(struct space_view){0}), STATUS_NOT_FOUND);
    assert_int_equal(commit_pages(), PAGES);
    assert_int_equal(space_wired_pages(), 5);
    end();
}

/* ---- mappings with their pages ---- */

static void a_populated_mapping_is_all_there(void **state)
{
    const unsigned pages = 600; /* more than a leaf table has */

    (void)state;
    begin();
    assert_int_equal(
        space_map(space, &SPACE_AT(START, pages * PAGE_SIZE, read_write, .flags = SPACE_POPULATED),
                  NULL),
        OK);
    assert_int_equal(view_of(START).resident, pages);
    assert_false(view_of(START).wired);
    write_all(pages, 1);
    assert_int_equal(
        space_map(space, &SPACE_AT(START, PAGE_SIZE, read_write, .flags = SPACE_POPULATED), NULL),
        STATUS_EXISTS);
    /* Neighbours with equal attributes become one region. */
    assert_int_equal(
        space_map(space, &SPACE_AT(START + pages * PAGE_SIZE, PAGE_SIZE, read_write), NULL), OK);
    assert_int_equal(space->region_count, 1);
    assert_int_equal(space_map(space,
                               &SPACE_AT(START - 3 * PAGE_SIZE, 3 * PAGE_SIZE, read_write,
                                         .flags = SPACE_POPULATED),
                               NULL),
                     OK);
    assert_int_equal(space->region_count, 1);
    /* Read-only memory maps zeros; memory without access stays tickets. */
    assert_int_equal(
        space_map(space, &SPACE_AT(GIB, GIB, read_only, .flags = SPACE_POPULATED), NULL), OK);
    assert_int_equal(touch(GIB + 5 * MIB, false, 0), 0);
    assert_int_equal(
        space_map(space, &SPACE_AT(2 * GIB, PAGE_SIZE, no_access, .flags = SPACE_POPULATED), NULL),
        OK);
    end();
}

static void large_pages_are_populated(void **state)
{
    uint64_t faults;

    (void)state;
    begin();
    assert_int_equal(space_map(space,
                               &SPACE_AT(START - PAGE_SIZE, 4 * MIB, read_write, .page_level = 2,
                                         .flags = SPACE_POPULATED),
                               NULL),
                     OK);
    assert_int_equal(view_of(START).resident, 4 * MIB / PAGE_SIZE);
    assert_int_equal(space_faults(space).large, 1);
    faults = space_faults(space).spurious;
    assert_int_equal(faults, 0);
    write_all(512, 3);
    end();
}

static void a_mapping_that_cannot_come_is_not_there(void **state)
{
    struct pmm_usage before;
    struct pmm_usage after;
    enum status status;
    uint64_t failures = 0;

    (void)state;
    begin();
    before = pmm_usage();
    assert_int_equal(space_map(space, &SPACE_AT(START - PAGE_SIZE, PAGE_SIZE, read_write), NULL),
                     OK);
    for (uint64_t frames = 0;; frames++) {
        /* Without any other page that could be evicted instead. */
        model_leave_frames(frames);
        status = space_map(
            space, &SPACE_AT(START, SLOTS * 2 * PAGE_SIZE, read_write, .flags = SPACE_POPULATED),
            NULL);
        if (status == OK)
            break;
        assert_true(status == STATUS_NO_MEMORY || status == STATUS_NO_SPACE);
        failures++;
        assert_int_equal(space->region_count, 1);
        assert_int_equal(commit_pages(), 1);
        assert_int_equal(page_clock_size(), 0);
        space_audit();
    }
    model_leave_frames(UINT64_MAX);
    assert_true(failures > 0); /* its pages are zeros, which need no slot to go */
    assert_int_equal(space_unmap(space, START, SLOTS * 2 * PAGE_SIZE), OK);
    assert_int_equal(space_unmap(space, START - PAGE_SIZE, PAGE_SIZE), OK);
    (void)shrinkers_free(UINT64_MAX, false);
    after = pmm_usage();
    assert_int_equal(after.by_kind[FRAME_TABLE], before.by_kind[FRAME_TABLE]);
    end();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(wired_pages_stay),
        cmocka_unit_test(unwired_pages_go),
        cmocka_unit_test(whatever_stands_there_is_wired),
        cmocka_unit_test(a_fork_copies_at_once),
        cmocka_unit_test(a_fork_that_fails_changes_nothing),
        cmocka_unit_test(a_change_of_rights_keeps_pages),
        cmocka_unit_test(pages_are_not_forgotten),
        cmocka_unit_test(an_unmap_ends_the_wire),
        cmocka_unit_test(what_grows_or_moves_stays_wired),
        cmocka_unit_test(large_pages_are_wired_whole),
        cmocka_unit_test(a_large_page_is_copied_in_parts),
        cmocka_unit_test(wired_pages_are_not_put_together),
        cmocka_unit_test(too_many_are_refused_before_any_work),
        cmocka_unit_test(what_fails_is_rolled_back),
        cmocka_unit_test(a_populated_mapping_is_all_there),
        cmocka_unit_test(large_pages_are_populated),
        cmocka_unit_test(a_mapping_that_cannot_come_is_not_there),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}

/* Calls on ranges of a space: what every one of them refuses, and what advice does to pages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "paging/kernel/layout.h"
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

#define SHARED_TABLES (2 * TLB_RELEASES_MAX)

static const struct rights read_write = {.write = true, .user = true};
static const struct rights read_only = {.user = true};

static struct space *space;

static int set_up(void **state)
{
    (void)state;
    return model_start_with_swap(MEMORY, SLOTS);
}

static void begin(unsigned levels)
{
    model_begin(1, levels);
    model_overcommit(OVERCOMMIT_HEURISTIC);
    assert_int_equal(space_create(&space), OK);
}

static void end(void)
{
    space_audit();
    space_destroy(space);
    model_end();
}

/* ---- ranges that no call takes ---- */

static enum status call_remap_from(uint64_t start, uint64_t size)
{
    return space_remap(space, start, size, PAGE_SIZE);
}

static enum status call_remap_to(uint64_t start, uint64_t size)
{
    return space_remap(space, start, PAGE_SIZE, size);
}

static enum status call_map(uint64_t start, uint64_t size)
{
    return space_map(space, &SPACE_AT(start, size, read_write), NULL);
}

static enum status call_map_zeroes(uint64_t start, uint64_t size)
{
    return space_map(space, &SPACE_AT(start, size, read_write, .flags = SPACE_ZEROES), NULL);
}

static enum status call_guard(uint64_t start, uint64_t size)
{
    return space_map(
        space, &(struct space_request){.at = start, .size = size, .flags = SPACE_GUARD}, NULL);
}

static enum status call_unmap(uint64_t start, uint64_t size)
{
    return space_unmap(space, start, size);
}

static enum status call_protect(uint64_t start, uint64_t size)
{
    return space_protect(space, start, size, read_only);
}

static enum status call_will_need(uint64_t start, uint64_t size)
{
    return space_advise(space, start, size, SPACE_WILL_NEED);
}

static enum status call_dont_need(uint64_t start, uint64_t size)
{
    return space_advise(space, start, size, SPACE_DONT_NEED);
}

static enum status call_cold(uint64_t start, uint64_t size)
{
    return space_advise(space, start, size, SPACE_COLD);
}

static enum status (*const calls[])(uint64_t start, uint64_t size) = {
    call_map,       call_map_zeroes, call_guard, call_unmap,      call_protect,
    call_will_need, call_dont_need,  call_cold,  call_remap_from, call_remap_to};

static void unsound_ranges_are_refused(void **state)
{
    (void)state;
    for (unsigned levels = 4; levels <= 5; levels++) {
        uint64_t limit = lower_half_end(levels);
        const struct {
            uint64_t start;
            uint64_t size;
        } ranges[] = {{START, 0},
                      {START + 1, PAGE_SIZE},
                      {START, PAGE_SIZE + 1},
                      {START, PAGE_SIZE - 1},
                      {0, PAGE_SIZE},
                      {limit, PAGE_SIZE},
                      {limit - PAGE_SIZE, 2 * PAGE_SIZE},
                      {START, limit - START + PAGE_SIZE},
                      {START, UINT64_MAX - START + 1},
                      {START, UINT64_MAX - 4095},
                      {limit | UINT64_C(1) << 62, PAGE_SIZE},
                      {UINT64_C(0xffff800000000000), PAGE_SIZE},
                      {UINT64_MAX - 4095, PAGE_SIZE},
                      {UINT64_MAX - 4095, 2 * PAGE_SIZE}};

        begin(levels);
        assert_int_equal(space_map(space, &SPACE_AT(START, PAGE_SIZE, read_write), NULL), OK);
        for (unsigned call = 0; call < ARRAY_COUNT(calls); call++) {
            for (unsigned i = 0; i < ARRAY_COUNT(ranges); i++)
                assert_int_equal(calls[call](ranges[i].start, ranges[i].size), STATUS_RANGE);
        }
        assert_int_equal(space->region_count, 1);
        end();
    }
}

/* Three pages, a hole, a page, a guard. */
static void holes_and_guards_are_refused(void **state)
{
    uint64_t hole = START + 3 * PAGE_SIZE;

    (void)state;
    begin(4);
    assert_int_equal(space_map(space, &SPACE_AT(START, 3 * PAGE_SIZE, read_write), NULL), OK);
    assert_int_equal(space_map(space, &SPACE_AT(hole + PAGE_SIZE, PAGE_SIZE, read_write), NULL),
                     OK);
    assert_int_equal(space_map(space,
                               &(struct space_request){.at = hole + 2 * PAGE_SIZE,
                                                       .size = PAGE_SIZE,
                                                       .flags = SPACE_GUARD},
                               NULL),
                     OK);
    for (unsigned call = 4; call < 8; call++) { /* protect and advice */
        assert_int_equal(calls[call](START, 5 * PAGE_SIZE), STATUS_NOT_FOUND);
        assert_int_equal(calls[call](hole, PAGE_SIZE), STATUS_NOT_FOUND);
        assert_int_equal(calls[call](hole, 2 * PAGE_SIZE), STATUS_NOT_FOUND);
        assert_int_equal(calls[call](hole + PAGE_SIZE, 2 * PAGE_SIZE), STATUS_NOT_FOUND);
        assert_int_equal(calls[call](hole + 2 * PAGE_SIZE, PAGE_SIZE), STATUS_NOT_FOUND);
        assert_int_equal(calls[call](GIB, PAGE_SIZE), STATUS_NOT_FOUND);
    }
    for (unsigned call = 0; call < 3; call++) /* existing mappings stay */
        assert_int_equal(calls[call](hole, 2 * PAGE_SIZE), STATUS_EXISTS);
    assert_int_equal(space_remap(space, START, 4 * PAGE_SIZE, PAGE_SIZE), STATUS_NOT_FOUND);
    assert_int_equal(space_remap(space, START, 3 * PAGE_SIZE, 5 * PAGE_SIZE), STATUS_EXISTS);
    assert_int_equal(space_remap(space, START, PAGE_SIZE, 2 * PAGE_SIZE), STATUS_EXISTS);
    assert_int_equal(space_unmap(space, START, 6 * PAGE_SIZE), OK);
    assert_int_equal(space_unmap(space, START, 6 * PAGE_SIZE), STATUS_NOT_FOUND);
    assert_int_equal(space->region_count, 0);
    end();
}

/* ---- effects of the calls ---- */

static struct space_view view_of(uint64_t address)
{
    struct space_view view;

    assert_int_equal(space_query(space, address, &view), OK);
    return view;
}

static void advice_moves_pages(void **state)
{
    const uint64_t pages = 600; /* more than a leaf table has */
    const uint64_t size = pages * PAGE_SIZE;

    (void)state;
    begin(4);
    assert_int_equal(space_map(space, &SPACE_AT(START, size, read_write), NULL), OK);
    assert_int_equal(view_of(0).resident, 0);
    assert_int_equal(space_advise(space, START, size, SPACE_WILL_NEED), OK);
    assert_int_equal(view_of(START).resident, pages);
    assert_int_equal(space_advise(space, START + 10 * PAGE_SIZE, 100 * PAGE_SIZE, SPACE_DONT_NEED),
                     OK);
    assert_int_equal(view_of(START).resident, pages - 100);
    assert_int_equal(space->region_count, 1);
    assert_int_equal(space_protect(space, START, size, (struct rights){.none = true}), OK);
    assert_int_equal(view_of(START).resident, pages - 100);
    assert_true(view_of(START).rights.none);
    assert_int_equal(fault_resolve(space, START, (struct fault_access){.from_user = true}),
                     STATUS_DENIED);
    end();
}

/* Cold pages are evicted first: of two groups the one advised as cold. */
static void cold_pages_go_first(void **state)
{
    const uint64_t lot = 16 * PAGE_SIZE;

    (void)state;
    begin(4);
    assert_int_equal(space_map(space, &SPACE_AT(START, 2 * lot, read_write), NULL), OK);
    assert_int_equal(space_advise(space, START, 2 * lot, SPACE_WILL_NEED), OK);
    assert_int_equal(space_advise(space, START + lot, lot, SPACE_COLD), OK);
    assert_true(page_reclaim_some());
    assert_int_equal(space_protect(space, START + lot, lot, read_only), OK);
    assert_int_equal(view_of(START).resident, 16);
    assert_int_equal(view_of(START + lot).resident, 0);
    end();
}

/* Pages of two clocks that are freed together, with their table, leave their own clocks. */
static void pages_leave_their_own_clock(void **state)
{
    const uint64_t pages = PTE_ENTRIES + 40;

    (void)state;
    begin(4);
    assert_int_equal(space_map(space, &SPACE_AT(START, pages * PAGE_SIZE, read_write), NULL), OK);
    for (uint64_t i = 0; i < pages; i++) {
        fake_machine_be_cpu(i % 5 < 2);
        assert_int_equal(space_advise(space, START + i * PAGE_SIZE, PAGE_SIZE, SPACE_WILL_NEED),
                         OK);
    }
    fake_machine_be_cpu(0);
    assert_int_equal(space_advise(space, START, PTE_ENTRIES * PAGE_SIZE, SPACE_DONT_NEED), OK);
    assert_int_equal(page_clock_size(), 40);
    page_clock_audit();
    end();
}

/* The hand is in the long round of a clock that became empty; the only page is in the next
 * clock. */
static void the_hand_leaves_an_empty_clock(void **state)
{
    const uint64_t lot = 30 * PAGE_SIZE;

    (void)state;
    begin(4);
    assert_int_equal(space_map(space, &SPACE_AT(START, lot, read_write), NULL), OK);
    assert_int_equal(space_advise(space, START, lot, SPACE_WILL_NEED), OK);
    assert_int_equal(space_advise(space, START, PAGE_SIZE, SPACE_COLD), OK);
    assert_int_equal(space_unmap(space, START, lot), OK);
    fake_machine_be_cpu(1);
    assert_int_equal(space_map(space, &SPACE_AT(START, PAGE_SIZE, read_write), NULL), OK);
    assert_int_equal(space_advise(space, START, PAGE_SIZE, SPACE_WILL_NEED), OK);
    assert_int_equal(page_clock_size(), 1);
    assert_true(page_reclaim_some());
    assert_int_equal(page_clock_size(), 0);
    fake_machine_be_cpu(0);
    end();
}

/* Withheld pages are evicted like others, before pages in use, and can be read back later. */
static void withheld_pages_go_out(void **state)
{
    const uint64_t lot = 16 * PAGE_SIZE;
    struct space *child;

    (void)state;
    begin(4);
    assert_int_equal(space_map(space, &SPACE_AT(START, 2 * lot, read_write), NULL), OK);
    assert_int_equal(space_advise(space, START, 2 * lot, SPACE_WILL_NEED), OK);
    assert_int_equal(space_fork(space, &child), OK);
    assert_int_equal(space_protect(space, START + lot, lot, (struct rights){.none = true}), OK);
    assert_int_equal(space_protect(child, START + lot, lot, (struct rights){.none = true}), OK);
    assert_true(page_reclaim_some());
    assert_int_equal(view_of(START).resident, 16);
    assert_int_equal(view_of(START + lot).resident, 0);
    assert_int_equal(swap_usage().used, 16);
    assert_int_equal(fault_resolve(space, START + lot, (struct fault_access){.from_user = true}),
                     STATUS_DENIED);
    assert_int_equal(space_protect(space, START + lot, lot, read_only), OK);
    assert_int_equal(fault_resolve(space, START + lot, (struct fault_access){.from_user = true}),
                     OK);
    assert_int_equal(view_of(START + lot).resident, 1);
    space_destroy(child);
    end();
}

static struct tree_place place_of(uint64_t address)
{
    return tree_walk(&space->tree, address);
}

static void replace_entry(uint64_t address, struct pte with)
{
    struct tree_place place = place_of(address);
    bool were_on = machine_interrupts_off();

    assert_true(tree_lock(place.table));
    (void)tree_replace_entry(place.table, place.index, with);
    tree_unlock(place.table);
    machine_interrupts_restore(were_on);
}

/* As the first step of eviction does it on another processor: the flush is still to come. */
static void start_eviction(uint64_t address)
{
    struct pte entry = place_of(address).entry;

    replace_entry(address, pte_transit(pte_frame(entry), pte_rights(entry)));
}

static bool can_read(uint64_t address)
{
    struct phys physical;
    uint64_t error;

    return fake_mmu_translate(address, (struct fake_access){.user = true}, &physical, &error);
}

/* A call that lowers rights or unmaps must flush an entry in transit itself, not rely on the
 * eviction's flush. */
static void a_call_flushes_what_is_in_transit(void **state)
{
    const uint64_t other = START + PAGE_SIZE;

    (void)state;
    begin(4);
    assert_int_equal(space_map(space, &SPACE_AT(START, 2 * PAGE_SIZE, read_write), NULL), OK);
    assert_int_equal(space_advise(space, START, 2 * PAGE_SIZE, SPACE_WILL_NEED), OK);
    space_switch(space);
    assert_true(can_read(START) && can_read(other));
    start_eviction(START);
    start_eviction(other);
    assert_true(can_read(START) && can_read(other));
    assert_int_equal(space_protect(space, START, PAGE_SIZE, (struct rights){.none = true}), OK);
    assert_false(can_read(START));
    assert_int_equal(space_unmap(space, other, PAGE_SIZE), OK);
    assert_false(can_read(other));
    /* The eviction failed. */
    replace_entry(START, pte_withheld(pte_payload_frame(place_of(START).entry)));
    space_switch(NULL);
    end();
}

static void neighbours_merge(void **state)
{
    (void)state;
    begin(4);
    assert_int_equal(space_map(space, &SPACE_AT(START, PAGE_SIZE, read_write), NULL), OK);
    assert_int_equal(
        space_map(space, &SPACE_AT(START + 2 * PAGE_SIZE, PAGE_SIZE, read_write), NULL), OK);
    assert_int_equal(space->region_count, 2);
    assert_int_equal(space_map(space, &SPACE_AT(START + PAGE_SIZE, PAGE_SIZE, read_write), NULL),
                     OK);
    assert_int_equal(space->region_count, 1);
    assert_int_equal(space_protect(space, START + PAGE_SIZE, PAGE_SIZE, read_only), OK);
    assert_int_equal(space->region_count, 3);
    assert_int_equal(space_protect(space, START, 3 * PAGE_SIZE, read_write), OK);
    assert_int_equal(space->region_count, 1);
    assert_int_equal(space_remap(space, START, 3 * PAGE_SIZE, 9 * PAGE_SIZE), OK);
    assert_int_equal(space->region_count, 1);
    assert_int_equal(view_of(0).end, START + 9 * PAGE_SIZE);
    end();
}

/* ---- zeroes ---- */

/* 127 TiB are readable at once for five frames: root, zero page and three zero tables. */
static void zeroes_stand_at_the_highest_levels(void **state)
{
    uint64_t size = 254 * pte_span(4);
    struct tree_census census;

    (void)state;
    begin(4);
    assert_int_equal(
        space_map(space, &SPACE_AT(pte_span(4), size, read_only, .flags = SPACE_ZEROES), NULL), OK);
    census = space_audit();
    assert_int_equal(census.tables[4], 1);
    assert_int_equal(census.tables[1] + census.tables[2] + census.tables[3], 0);
    assert_int_equal(census.zero_links[4], 254);
    assert_int_equal(
        space_map(space, &SPACE_AT(pte_span(4), PAGE_SIZE, read_only, .flags = SPACE_ZEROES), NULL),
        STATUS_EXISTS);
    assert_int_equal(fault_resolve(space, pte_span(4), (struct fault_access){.from_user = true}),
                     OK);
    assert_int_equal(space_faults(space).zero_read, 0);
    assert_int_equal(space_faults(space).spurious, 1);
    assert_int_equal(
        fault_resolve(space, pte_span(4), (struct fault_access){.write = true, .from_user = true}),
        STATUS_DENIED);
    assert_int_equal(space_unmap(space, pte_span(4), size), OK);
    /* A mapping of zeros without access is refused. */
    assert_int_equal(
        space_map(space,
                  &SPACE_AT(START, PAGE_SIZE, (struct rights){.none = true}, .flags = SPACE_ZEROES),
                  NULL),
        OK);
    assert_int_equal(space_audit().zero_links[1], 0);
    end();
}

/* ---- promises ---- */

static void promises_are_refused_before_anything_is_done(void **state)
{
    uint64_t most;
    struct space *child;

    (void)state;
    begin(4);
    model_overcommit(OVERCOMMIT_NEVER);
    most = commit_limit() / 4 * 3 * PAGE_SIZE;
    assert_int_equal(space_map(space, &SPACE_AT(START, most, read_write), NULL), OK);
    assert_int_equal(commit_pages(), most / PAGE_SIZE);
    assert_int_equal(space_map(space, &SPACE_AT(GIB, most, read_write), NULL), STATUS_COMMIT);
    assert_int_equal(space_map(space, &SPACE_AT(GIB, most, read_only), NULL), OK);
    assert_int_equal(space_protect(space, GIB, most, read_write), STATUS_COMMIT);
    assert_int_equal(space_fork(space, &child), STATUS_COMMIT);
    assert_int_equal(space_remap(space, START, most, 2 * most), STATUS_COMMIT);
    assert_int_equal(space_count(), 1);
    assert_int_equal(commit_pages(), most / PAGE_SIZE);
    /* Formerly writable pages may be private: they stay charged. */
    assert_int_equal(space_protect(space, START, most, read_only), OK);
    assert_int_equal(commit_pages(), most / PAGE_SIZE);
    assert_int_equal(space_unmap(space, START, most), OK);
    assert_int_equal(commit_pages(), 0);
    assert_int_equal(space_protect(space, GIB, PAGE_SIZE, read_write), OK);
    assert_int_equal(commit_pages(), 1);
    end();
}

static void the_limit_is_an_ordinary_error(void **state)
{
    struct space *second;
    struct space *third;

    (void)state;
    begin(4);
    space_set_limit(2);
    assert_int_equal(space_create(&second), OK);
    assert_int_equal(space_create(&third), STATUS_LIMIT);
    assert_int_equal(space_fork(space, &third), STATUS_LIMIT);
    space_destroy(second);
    assert_int_equal(space_fork(space, &third), OK);
    space_destroy(third);
    space_set_limit(SPACES_MAX);
    end();
}

/* AUDIT has no limit of its own: 1,500 forks that share a page and the nodes of their regions. */
static void many_spaces_are_audited(void **state)
{
    static struct space *forks[1500];

    (void)state;
    begin(4);
    assert_int_equal(space_map(space, &SPACE_AT(START, PAGE_SIZE, read_write), NULL), OK);
    assert_int_equal(
        fault_resolve(space, START, (struct fault_access){.write = true, .from_user = true}), OK);
    for (unsigned i = 0; i < ARRAY_COUNT(forks); i++)
        assert_int_equal(space_fork(space, &forks[i]), OK);
    (void)space_audit();
    for (unsigned i = 0; i < ARRAY_COUNT(forks); i++)
        space_destroy(forks[i]);
    (void)space_audit();
    end();
}

/* A call that would need one region more changes nothing; one that needs none goes on. */
static void regions_are_limited(void **state)
{
    (void)state;
    begin(4);
    space_set_region_limit(2);
    assert_int_equal(call_map(START, 4 * PAGE_SIZE), OK);
    assert_int_equal(call_map(START + 8 * PAGE_SIZE, PAGE_SIZE), OK);
    assert_int_equal(call_map(START + 16 * PAGE_SIZE, PAGE_SIZE), STATUS_LIMIT);
    assert_int_equal(call_unmap(START + PAGE_SIZE, PAGE_SIZE), STATUS_LIMIT);
    assert_int_equal(space_protect(space, START, PAGE_SIZE, read_only), STATUS_LIMIT);
    assert_int_equal(space->region_count, 2);
    assert_int_equal(call_map(START + 4 * PAGE_SIZE, 4 * PAGE_SIZE), OK);
    assert_int_equal(space->region_count, 1);
    space_set_region_limit(0);
    assert_int_equal(call_unmap(START + PAGE_SIZE, PAGE_SIZE), OK);
    end();
}

/* More tables are unshared by one call than its batch can release at once: room for them is made
 * while no table is locked (rule P4). */
static void one_call_unshares_many_tables(void **state)
{
    struct space *child;

    (void)state;
    begin(4);
    model_overcommit(OVERCOMMIT_ALWAYS);
    assert_int_equal(space_map(space, &SPACE_AT(START, SHARED_TABLES * 2 * MIB, read_write), NULL),
                     OK);
    for (unsigned i = 0; i < SHARED_TABLES; i++)
        assert_int_equal(fault_resolve(space, START + i * 2 * MIB,
                                       (struct fault_access){.write = true, .from_user = true}),
                         OK);
    assert_int_equal(space_fork(space, &child), OK);
    assert_int_equal(space_protect(child, START, SHARED_TABLES * 2 * MIB, read_only), OK);
    assert_int_equal(space_unmap(space, START, SHARED_TABLES * 2 * MIB - PAGE_SIZE), OK);
    space_destroy(child);
    end();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(unsound_ranges_are_refused),
        cmocka_unit_test(holes_and_guards_are_refused),
        cmocka_unit_test(advice_moves_pages),
        cmocka_unit_test(cold_pages_go_first),
        cmocka_unit_test(pages_leave_their_own_clock),
        cmocka_unit_test(the_hand_leaves_an_empty_clock),
        cmocka_unit_test(withheld_pages_go_out),
        cmocka_unit_test(a_call_flushes_what_is_in_transit),
        cmocka_unit_test(neighbours_merge),
        cmocka_unit_test(zeroes_stand_at_the_highest_levels),
        cmocka_unit_test(promises_are_refused_before_anything_is_done),
        cmocka_unit_test(the_limit_is_an_ordinary_error),
        cmocka_unit_test(many_spaces_are_audited),
        cmocka_unit_test(regions_are_limited),
        cmocka_unit_test(one_call_unshares_many_tables),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}

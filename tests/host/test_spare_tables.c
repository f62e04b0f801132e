/* Ranges that are a run of entries of one table, and the tables that stay when they are
 * unmapped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "tests/host/fake/machine.h"
#include "tests/host/model/space_model_host.h"
#include "vmm/fault/fault.h"
#include "vmm/page/page.h"
#include "vmm/space/commit.h"

#define MEMORY (16 * MIB)
#define SLOTS  64U

/* Each on a path of its own below the root. */
#define HERE  (1024 * GIB)
#define THERE (2048 * GIB)

/* Tables on the path of a page, with the four levels that the tests have; the root is none of
 * them. */
#define PATH 3U

static const struct rights read_write = {.write = true, .user = true};

static struct space *space;
static uint64_t tables_before;

static int set_up(void **state)
{
    (void)state;
    return model_start_with_swap(MEMORY, SLOTS);
}

static void begin(void)
{
    model_begin(1, 4);
    model_overcommit(OVERCOMMIT_ALWAYS);
    assert_int_equal(space_create(&space), OK);
    tables_before = pmm_usage().by_kind[FRAME_TABLE];
}

static void end(void)
{
    space_audit();
    space_destroy(space);
    model_end();
}

/* Of the space, without its root. */
static uint64_t tables(void)
{
    return pmm_usage().by_kind[FRAME_TABLE] - tables_before;
}

static void map(uint64_t start, uint64_t size)
{
    assert_int_equal(space_map(space, &SPACE_AT(start, size, read_write), NULL), OK);
}

static void unmap(uint64_t start, uint64_t size)
{
    assert_int_equal(space_unmap(space, start, size), OK);
    space_audit();
}

static void write_page(uint64_t address)
{
    assert_int_equal(
        fault_resolve(space, address, (struct fault_access){.write = true, .from_user = true}), OK);
}

/* ---- staying ---- */

/* The next range at the place needs no memory at all: neither tables nor an object. */
static void the_next_range_finds_them(void **state)
{
    (void)state;
    begin();
    map(HERE, PAGE_SIZE);
    assert_int_equal(tables(), PATH);
    unmap(HERE, PAGE_SIZE);
    assert_int_equal(tables(), PATH);
    (void)pmm_fail_from(1, UINT64_MAX);
    map(HERE + 5 * PAGE_SIZE, 3 * PAGE_SIZE);
    assert_int_equal(pmm_fail_from(0, 0), 0);
    assert_int_equal(tree_walk(&space->tree, HERE + 7 * PAGE_SIZE).level, 1);
    write_page(HERE + 7 * PAGE_SIZE);
    unmap(HERE + 5 * PAGE_SIZE, 3 * PAGE_SIZE);
    assert_int_equal(tables(), PATH);
    assert_int_equal(pmm_usage().by_kind[FRAME_ANONYMOUS], 0);
    end();
}

/* One path a space: another one that becomes empty takes its place. */
static void one_path_stays(void **state)
{
    (void)state;
    begin();
    for (unsigned i = 0; i < 8; i++) {
        map(HERE, PAGE_SIZE);
        map(THERE, PAGE_SIZE);
        unmap(HERE, PAGE_SIZE);
        assert_int_equal(tables(), 2 * PATH);
        unmap(THERE, PAGE_SIZE);
        assert_int_equal(tables(), PATH);
    }
    end();
}

/* Tables in which something is are not given back, and the lowest of a path alone may be. */
static void tables_in_use_stay(void **state)
{
    (void)state;
    begin();
    map(HERE, PAGE_SIZE);
    map(HERE + GIB, PAGE_SIZE);
    assert_int_equal(tables(), PATH + 2);
    unmap(HERE, PAGE_SIZE);
    map(HERE + 4 * PAGE_SIZE, PAGE_SIZE);
    unmap(HERE + GIB, PAGE_SIZE);
    assert_int_equal(tables(), PATH + 2);
    map(THERE, PAGE_SIZE);
    unmap(THERE, PAGE_SIZE);
    assert_int_equal(tables(), 2 * PATH);
    assert_int_equal(space_unmap(space, HERE + 4 * PAGE_SIZE, PAGE_SIZE), OK);
    assert_int_equal(tables(), PATH);
    end();
}

/* ---- going ---- */

static void a_fork_shares_none(void **state)
{
    struct space *child;

    (void)state;
    begin();
    map(HERE, PAGE_SIZE);
    unmap(HERE, PAGE_SIZE);
    assert_int_equal(space_fork(space, &child), OK);
    space_destroy(child);
    assert_int_equal(tables(), 0);
    end();
}

/* Spare tables are freed last; here there is no page to evict. The frame of the spare region is
 * freed too. */
static void they_go_when_memory_is_out(void **state)
{
    (void)state;
    begin();
    map(HERE, PAGE_SIZE);
    unmap(HERE, PAGE_SIZE);
    model_leave_frames(0);
    assert_true(page_reclaim_some());
    assert_int_equal(tables(), 0);
    assert_int_equal(pmm_usage().by_kind[FRAME_FREE], PATH + 1);
    assert_false(page_reclaim_some());
    end();
}

/* A locked space keeps its spare tables, which its caller is about to use. */
static void a_locked_space_keeps_them(void **state)
{
    (void)state;
    begin();
    map(HERE, PAGE_SIZE);
    unmap(HERE, PAGE_SIZE);
    model_leave_frames(0);
    mutex_lock(&space->lock);
    assert_false(page_reclaim_some());
    mutex_unlock(&space->lock);
    assert_int_equal(tables(), PATH);
    end();
}

/* Larger entries replace the empty tables. */
static void they_give_way(void **state)
{
    (void)state;
    begin();
    map(HERE, PAGE_SIZE);
    unmap(HERE, PAGE_SIZE);
    map(HERE, 2 * MIB);
    assert_int_equal(tables(), PATH - 1);
    unmap(HERE, 2 * MIB);
    map(HERE, PAGE_SIZE);
    unmap(HERE, PAGE_SIZE);
    map(HERE, GIB);
    assert_int_equal(tables(), PATH - 2);
    unmap(HERE, GIB);
    map(HERE, PAGE_SIZE);
    unmap(HERE, PAGE_SIZE);
    map(THERE, 2 * MIB);
    write_page(THERE);
    assert_int_equal(space_move(space, THERE, 2 * MIB, HERE), OK);
    space_audit();
    assert_int_equal(tree_walk(&space->tree, HERE).level, 1);
    end();
}

/* ---- failing, and other processors ---- */

/* If any allocation fails, nothing is mapped and nothing is kept. */
static void running_out_leaves_nothing(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= PATH; n++) {
        begin();
        (void)pmm_fail_from(n, UINT64_MAX);
        assert_int_equal(space_map(space, &SPACE_AT(HERE, PAGE_SIZE, read_write), NULL),
                         STATUS_NO_MEMORY);
        (void)pmm_fail_from(0, 0);
        assert_int_equal(tables(), 0);
        assert_int_equal(space->region_count, 0);
        end();
    }
}

/* A fault may have read the ticket on another processor, and be about to read its descriptor. */
static void walks_elsewhere_are_awaited(void **state)
{
    bool were_on;
    bool entered;

    (void)state;
    begin();
    map(HERE, PAGE_SIZE);
    fake_processors = 3;
    fake_machine_be_cpu(1);
    space_switch(space);
    fake_machine_be_cpu(0);
    fake_asked = 0;
    unmap(HERE, PAGE_SIZE);
    assert_int_equal(fake_asked, 2);
    fake_machine_be_cpu(1);
    space_switch(NULL);
    fake_machine_be_cpu(0);
    fake_asked = 0;
    map(HERE, PAGE_SIZE);
    unmap(HERE, PAGE_SIZE);
    assert_int_equal(fake_asked, 0);
    /* Tables wait for those that run or walk the tree, and for no other: rule P5. */
    map(THERE, PAGE_SIZE);
    unmap(THERE, PAGE_SIZE);
    assert_int_equal(fake_asked, 0);
    fake_machine_be_cpu(1);
    were_on = machine_interrupts_off();
    entered = tlb_walk_enter(&space->tree);
    tlb_walk_leave(&space->tree, tlb_walk_enter(&space->tree)); /* a walk inside another */
    fake_machine_be_cpu(0);
    map(HERE, PAGE_SIZE);
    unmap(HERE, PAGE_SIZE); /* the spare tables of the other place go */
    assert_int_equal(fake_asked, 2);
    fake_machine_be_cpu(1);
    tlb_walk_leave(&space->tree, entered);
    fake_machine_be_cpu(0);
    fake_asked = 0;
    map(THERE, PAGE_SIZE);
    unmap(THERE, PAGE_SIZE);
    assert_int_equal(fake_asked, 0);
    machine_interrupts_restore(were_on);
    fake_processors = 1;
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_next_range_finds_them),
        cmocka_unit_test(one_path_stays),
        cmocka_unit_test(tables_in_use_stay),
        cmocka_unit_test(a_fork_shares_none),
        cmocka_unit_test(they_go_when_memory_is_out),
        cmocka_unit_test(a_locked_space_keeps_them),
        cmocka_unit_test(they_give_way),
        cmocka_unit_test(running_out_leaves_nothing),
        cmocka_unit_test(walks_elsewhere_are_awaited),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, set_up, NULL);
}

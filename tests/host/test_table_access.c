/* Host tests of the three ways to the tables, and of the numbers of address spaces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "lib/random.h"
#include "paging/kernel/layout.h"
#include "paging/kernel/map.h"
#include "paging/tree/table_access.h"
#include "pmm/pmm.h"
#include "tests/host/fake/kernel_map.h"
#include "tests/host/fake/machine.h"
#include "vmm/fault/fault.h"
#include "vmm/space/commit.h"
#include "vmm/space/end.h"

#define MEMORY (16 * MIB)

#define START UINT64_C(0x123456000000)
#define PAGES 300U

static unsigned flushes;

static void count_flush(void)
{
    flushes++;
}

/* The machine is made once: frames of the descriptors' table are never given back. */
static int start(void **state)
{
    enum status status;

    (void)state;
    fake_machine_start(MEMORY);
    fake_kernel_map_start();
    commit_choose(OVERCOMMIT_ALWAYS); /* the spaces map more than the machine has */
    status = vmm_init();
    return status == OK ? 0 : -1;
}

static int restore(void **state)
{
    (void)state;
    table_access_choose(TABLES_DIRECT);
    fake_kernel_map_set_levels(4);
    fake_kernel_map_window_full = false;
    fake_on_flush_space = NULL;
    return 0;
}

/* ---- addresses of the recursive slot ---- */

/* From the five indexes of a walk and an offset, as the manual's figures show it. */
static uint64_t compose(const unsigned index[6], unsigned levels, unsigned offset)
{
    uint64_t address = offset;

    for (unsigned level = 1; level <= levels; level++)
        address |= (uint64_t)index[level] << (12 + 9 * (level - 1));
    if (index[levels] >= 256)
        address |= ~UINT64_C(0) << (12 + 9 * levels);
    return address;
}

/* The address of an entry at level n passes n times through the slot, then through the upper
 * indexes of the address. */
static void addresses_follow_the_indexes(void **state)
{
    struct random random = random_from(1);

    (void)state;
    for (unsigned round = 0; round < 20000; round++) {
        unsigned levels = 4 + round % 2;
        unsigned index[6] = {0};
        uint64_t address;

        for (unsigned level = 1; level <= levels; level++)
            index[level] = (unsigned)random_below(&random, 512);
        address = compose(index, levels, (unsigned)random_below(&random, 4096));
        for (unsigned seen = 1; seen <= levels; seen++) {
            unsigned through[6] = {0};

            for (unsigned level = 1; level <= levels; level++)
                through[level] =
                    level + seen > levels ? recursive_index(levels) : index[level + seen];
            assert_int_equal(recursive_address(levels, address, seen),
                             compose(through, levels, index[seen] * 8));
        }
    }
}

/* The slot is in the kernel's half and overlaps no window. */
static void the_slot_has_a_place_of_its_own(void **state)
{
    (void)state;
    assert_int_equal(recursive_base(4), UINT64_C(0xffffc10000000000));
    assert_true(recursive_base(4) >= TOP_WINDOW_BASE + WINDOW_SIZE);
    assert_true(recursive_index(4) > 256 && recursive_index(5) > 256);
    /* With five levels all windows are below the last top entry. */
    assert_true(recursive_index(5) < pte_index(UINT64_C(0xffff800000000000), 5));
    assert_int_equal(recursive_base(5) % pte_span(5), 0);
    assert_int_equal(top_window_address(0), TOP_WINDOW_BASE);
    assert_true(top_window_address(SPACES_MAX - 1) + PAGE_SIZE <= TOP_WINDOW_BASE + WINDOW_SIZE);
}

/* ---- walks ---- */

static void touch(struct space *space, uint64_t address, bool write)
{
    struct fault_access access = {.write = write, .from_user = true};

    assert_int_equal(fault_resolve(space, address, access), OK);
}

static struct space *make_space(struct random *random)
{
    struct rights rights = {.write = true, .user = true};
    struct space *space;

    assert_int_equal(space_create(&space), OK);
    assert_int_equal(space_map(space, &SPACE_AT(START, GIB, rights), NULL), OK);
    assert_int_equal(space_map(space,
                               &(struct space_request){
                                   .at = START + 2 * GIB, .size = 512 * GIB, .flags = SPACE_GUARD},
                               NULL),
                     OK);
    for (unsigned i = 0; i < PAGES; i++)
        touch(space, START + random_below(random, GIB), i % 2 == 0);
    return space;
}

static void assert_same_walk(enum table_access way, const struct space *space, uint64_t address)
{
    bool were_on = machine_interrupts_off();
    struct tree_place wanted = tree_walk_by(TABLES_DIRECT, &space->tree, address);
    struct tree_place found = tree_walk_by(way, &space->tree, address);
    struct pte entry;

    machine_interrupts_restore(were_on);
    assert_int_equal(found.entry.word, wanted.entry.word);
    assert_int_equal(found.table.index, wanted.table.index);
    assert_int_equal(found.level, wanted.level);
    assert_int_equal(found.own, wanted.own);
    if (way != TABLES_RECURSIVE)
        return;
    /* Not only since a walk falls back on the direct map. */
    assert_true(kernel_map_recursive_read(
        recursive_address(space->tree.levels, address, wanted.level), &entry));
    assert_int_equal(entry.word, wanted.entry.word);
}

static void compare_ways(unsigned levels)
{
    struct random random = random_from(levels);
    struct space *space;
    struct space *child;

    fake_kernel_map_set_levels(levels);
    space = make_space(&random);
    assert_int_equal(space_fork(space, &child), OK);
    touch(child, START, true);
    for (unsigned loaded = 0; loaded < 2; loaded++) {
        space_switch(loaded == 0 ? space : child);
        for (unsigned i = 0; i < 2000; i++) {
            uint64_t address = i % 2 == 0 ? START + random_below(&random, 4 * GIB)
                                          : random_below(&random, lower_half_end(levels));

            assert_same_walk(TABLES_RECURSIVE, space_current(), address);
            assert_same_walk(TABLES_WINDOW, space, address);
            assert_same_walk(TABLES_WINDOW, child, address);
        }
    }
    space_audit();
    space_switch(NULL);
    space_destroy(child);
    space_destroy(space);
}

static void all_ways_find_the_same(void **state)
{
    (void)state;
    compare_ways(4);
    compare_ways(5);
}

static void the_slot_is_for_the_loaded_tree(void **state)
{
    struct random random = random_from(3);
    struct space *space = make_space(&random);
    volatile bool panicked;

    (void)state;
    table_access_choose(TABLES_RECURSIVE);
    assert_int_equal(table_access_for(&space->tree), TABLES_DIRECT);
    panicked = PANICS((void)tree_walk_by(TABLES_RECURSIVE, &space->tree, START));
    assert_true(panicked);
    space_switch(space);
    assert_int_equal(table_access_for(&space->tree), TABLES_RECURSIVE);
    space_switch(NULL);
    table_access_choose(TABLES_DIRECT);
    space_destroy(space);
}

/* With the slot in use a path that becomes own empties the TLB at once: before anything is read or
 * changed through it, and before the batch is committed. Without it nothing more is flushed. */
static unsigned flushes_of_own_path(enum table_access way)
{
    struct random random = random_from(4);
    struct space *space = make_space(&random);
    struct tree_reserve reserve = {0};
    struct tlb_batch batch;
    struct space *child;
    unsigned count;

    touch(space, START, true);
    assert_int_equal(space_fork(space, &child), OK);
    assert_int_equal(tree_reserve_fill(&reserve, 4), OK);
    table_access_choose(way);
    fake_on_flush_space = count_flush;
    tlb_begin(&batch, &space->tree);
    flushes = 0;
    assert_int_equal(tree_make_path(&space->tree, START, 1, TREE_CHANGE, &reserve, &batch), OK);
    count = flushes;
    /* Under an unshared table everything is flushed (rule P2), whatever the method. */
    assert_true(batch.whole_space);
    tlb_commit(&batch);
    fake_on_flush_space = NULL;
    table_access_choose(TABLES_DIRECT);
    tree_reserve_drain(&reserve);
    space_destroy(child);
    space_destroy(space);
    return count;
}

static void changed_tables_are_forgotten(void **state)
{
    (void)state;
    assert_int_equal(flushes_of_own_path(TABLES_DIRECT), 0);
    assert_int_equal(flushes_of_own_path(TABLES_WINDOW), 0);
    assert_int_equal(flushes_of_own_path(TABLES_RECURSIVE), 3);
}

/* ---- numbers of spaces ---- */

static void numbers_are_the_lowest_free(void **state)
{
    struct space *spaces[4];

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(space_create(&spaces[i]), OK);
        assert_int_equal(spaces[i]->tree.number, i);
    }
    assert_int_equal(fake_kernel_map_shown, 4);
    space_destroy(spaces[1]);
    assert_int_equal(kernel_map_window_read(1, 511).word, 0);
    assert_int_equal(space_create(&spaces[1]), OK);
    assert_int_equal(spaces[1]->tree.number, 1);
    for (unsigned i = 0; i < 4; i++) {
        const struct pte *top = frame_pointer(spaces[i]->tree.root);

        assert_int_equal(kernel_map_window_read(i, 511).word, top[511].word);
        space_destroy(spaces[i]);
    }
    assert_int_equal(fake_kernel_map_shown, 0);
}

static void the_limit_is_an_error(void **state)
{
    struct pmm_usage before = pmm_usage();
    static struct tree trees[SPACES_MAX];
    struct space *space;

    (void)state;
    for (uint32_t i = 0; i < SPACES_MAX; i++) {
        trees[i].root = (struct pfn){i + 1};
        assert_int_equal(space_number_take(&trees[i]), OK);
        assert_int_equal(trees[i].number, i);
    }
    assert_int_equal(space_create(&space), STATUS_LIMIT);
    space_number_give(&trees[40000]);
    space_number_give(&trees[77]);
    assert_int_equal(space_number_take(&trees[40000]), OK);
    assert_int_equal(trees[40000].number, 77);
    assert_int_equal(space_number_take(&trees[77]), OK);
    assert_int_equal(trees[77].number, 40000);
    for (uint32_t i = 0; i < SPACES_MAX; i++)
        space_number_give(&trees[i]);
    assert_int_equal(pmm_usage().by_kind[FRAME_FREE], before.by_kind[FRAME_FREE]);
}

static void no_window_no_space(void **state)
{
    struct pmm_usage before;
    struct space *space;

    (void)state;
    space_finish_ends(); /* of the tests before */
    before = pmm_usage();
    fake_kernel_map_window_full = true;
    assert_int_equal(space_create(&space), STATUS_NO_MEMORY);
    fake_kernel_map_window_full = false;
    assert_int_equal(pmm_usage().by_kind[FRAME_TABLE], before.by_kind[FRAME_TABLE]);
    assert_int_equal(pmm_usage().by_kind[FRAME_FREE], before.by_kind[FRAME_FREE]);
    assert_int_equal(space_create(&space), OK);
    assert_int_equal(space->tree.number, 0);
    space_destroy(space);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(addresses_follow_the_indexes, restore),
        cmocka_unit_test_teardown(the_slot_has_a_place_of_its_own, restore),
        cmocka_unit_test_teardown(all_ways_find_the_same, restore),
        cmocka_unit_test_teardown(the_slot_is_for_the_loaded_tree, restore),
        cmocka_unit_test_teardown(changed_tables_are_forgotten, restore),
        cmocka_unit_test_teardown(numbers_are_the_lowest_free, restore),
        cmocka_unit_test_teardown(the_limit_is_an_error, restore),
        cmocka_unit_test_teardown(no_window_no_space, restore),
    };

    return cmocka_run_group_tests(tests, start, NULL);
}

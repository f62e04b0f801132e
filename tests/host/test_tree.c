/* The one tree: ranges, forks, copies, drops, the reverse map, beside models of every cell. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "lib/random.h"
#include "paging/kernel/layout.h"
#include "pmm/pmm.h"
#include "tests/host/fake/machine.h"
#include "tests/host/model/space_model_host.h"
#include "tests/host/model/tree_model.h"

#define MEMORY (16 * MIB)

/* Sizes of entries. */
#define SPAN_2 (2 * MIB)
#define SPAN_3 GIB
#define SPAN_4 (512 * GIB)
#define SPAN_5 (512 * SPAN_4)

static const uint64_t bounds4[] = {PAGE_SIZE,
                                   2 * PAGE_SIZE,
                                   SPAN_2 - PAGE_SIZE,
                                   SPAN_2,
                                   SPAN_2 + PAGE_SIZE,
                                   2 * SPAN_2,
                                   2 * SPAN_2 + 8192,
                                   SPAN_3 - SPAN_2,
                                   SPAN_3 - PAGE_SIZE,
                                   SPAN_3,
                                   SPAN_3 + PAGE_SIZE,
                                   SPAN_3 + SPAN_2,
                                   2 * SPAN_3,
                                   2 * SPAN_3 + 3 * SPAN_2,
                                   SPAN_4 - SPAN_3,
                                   SPAN_4 - PAGE_SIZE,
                                   SPAN_4,
                                   SPAN_4 + PAGE_SIZE,
                                   SPAN_4 + SPAN_3,
                                   2 * SPAN_4,
                                   2 * SPAN_4 + SPAN_2,
                                   5 * SPAN_4,
                                   SPAN_5 / 2};

static const uint64_t bounds5[] = {PAGE_SIZE,
                                   SPAN_2,
                                   SPAN_2 + PAGE_SIZE,
                                   SPAN_3,
                                   SPAN_4,
                                   SPAN_4 + SPAN_3,
                                   SPAN_5 / 2,
                                   SPAN_5 - SPAN_4,
                                   SPAN_5 - PAGE_SIZE,
                                   SPAN_5,
                                   SPAN_5 + 4096,
                                   SPAN_5 + SPAN_2,
                                   2 * SPAN_5,
                                   3 * SPAN_5 + SPAN_4,
                                   7 * SPAN_5,
                                   9 * SPAN_5 - PAGE_SIZE,
                                   9 * SPAN_5,
                                   256 * SPAN_5};

static void start(unsigned levels)
{
    if (levels == 4)
        forest_start(MEMORY, 4, bounds4, ARRAY_COUNT(bounds4));
    else
        forest_start(MEMORY, 5, bounds5, ARRAY_COUNT(bounds5));
}

/* ---- random operations ---- */

static unsigned some_tree(struct random *dice, bool exists)
{
    unsigned number = (unsigned)random_below(dice, FOREST_TREES);

    for (unsigned i = 0; i < FOREST_TREES; i++, number = (number + 1) % FOREST_TREES) {
        if (forest.trees[number].exists == exists)
            return number;
    }
    return FOREST_TREES;
}

static struct rights some_rights(struct random *dice, unsigned kinds)
{
    uint64_t number = random_below(dice, kinds);

    if (number == 8)
        return (struct rights){.none = true};
    return (struct rights){
        .write = (number & 1) != 0, .execute = (number & 2) != 0, .user = (number & 4) != 0};
}

static void replace_some(struct random *dice, unsigned number)
{
    unsigned from = (unsigned)random_below(dice, forest.cell_count);
    unsigned most = random_below(dice, 2) == 0 ? 2 : forest.cell_count - from;
    unsigned to = from + 1 + (unsigned)random_below(dice, most);
    struct content with = {(enum content_kind)random_below(dice, 4), random_below(dice, 50),
                           some_rights(dice, 8)};

    if (random_below(dice, 4) == 0)
        forest_protect(number, from, to > forest.cell_count ? forest.cell_count : to,
                       some_rights(dice, 9), random_below(dice, 50));
    else
        forest_replace(number, from, to > forest.cell_count ? forest.cell_count : to, with);
}

/* An exchange as eviction makes it: all leaves of a page become in transit, and leaves again. */
static void go_in_transit(unsigned number, unsigned cell)
{
    struct tree_place place = tree_walk(&forest.trees[number].tree, forest.bounds[cell]);
    struct pfn page = pte_frame(place.entry);
    struct tree_pointer pointers[64];
    unsigned count = tree_find_pointers(page, PTE_LEAF, pointers, 64);

    if (tree_find_pointers(page, PTE_WITHHELD, NULL, 0) > 0)
        return; /* elsewhere its rights were taken away */
    CHECK(count >= 1 && count == frame_record(page)->count);
    (void)machine_interrupts_off();
    for (unsigned i = 0; i < count; i++) {
        struct pte was = ((const struct pte *)frame_pointer(pointers[i].table))[pointers[i].index];

        CHECK(tree_pointer_address(pointers[i]) == forest.bounds[cell]);
        CHECK(tree_lock(pointers[i].table));
        (void)tree_replace_entry(pointers[i].table, pointers[i].index,
                                 pte_transit(page, pte_rights(was)));
        tree_unlock(pointers[i].table);
        CHECK(tree_find_pointers(page, PTE_TRANSIT, NULL, 0) == i + 1);
        CHECK(tree_find_pointers(page, PTE_LEAF, NULL, 0) == count - i - 1);
    }
    machine_interrupts_restore(true);
    for (unsigned i = 0; i < FOREST_TREES; i++) {
        if (forest.trees[i].exists && forest.trees[i].cells[cell].kind == CONTENT_PAGE &&
            forest.trees[i].cells[cell].number == forest.trees[number].cells[cell].number &&
            i != number)
            forest.trees[i].cells[cell].kind = CONTENT_TRANSIT;
    }
    forest.trees[number].cells[cell].kind = CONTENT_TRANSIT;
}

static void put_some(struct random *dice, unsigned number)
{
    unsigned cell = (unsigned)random_below(dice, forest.cell_count);

    if (random_below(dice, 6) == 0 && forest_put_large(number, cell))
        return;
    if (forest.trees[number].cells[cell].kind == CONTENT_PAGE && random_below(dice, 4) == 0)
        go_in_transit(number, cell);
    else if (forest.trees[number].cells[cell].kind >= CONTENT_PAGE || random_below(dice, 3) != 0)
        forest_put(number, cell,
                   (enum content_kind)(CONTENT_PAGE +
                                       random_below(dice, CONTENT_ZERO - CONTENT_PAGE + 1)));
    else /* gives the whole cell a content that differs from its neighbours' */
        forest_replace(number, cell, cell + 1,
                       (struct content){.kind = CONTENT_GUARD, .number = 0});
}

static void random_forest(struct random *dice, unsigned ops)
{
    for (unsigned i = 0; i < ops; i++) {
        unsigned number = some_tree(dice, true);
        unsigned fresh = some_tree(dice, false);
        uint64_t what = random_below(dice, 100);

        if (number == FOREST_TREES)
            forest_create(fresh);
        else if (what < 30)
            replace_some(dice, number);
        else if (what < 82)
            put_some(dice, number);
        else if (what < 92 && fresh < FOREST_TREES)
            forest_fork(fresh, number);
        else if (what >= 92)
            forest_destroy(number);
        forest_check();
        CHECK(machine_interrupts_on());
    }
}

static void trees_hold_what_the_model_says(void **state)
{
    uint64_t ops = model_ops(6000);
    uint64_t seed = model_seed();

    (void)state;
    for (uint64_t round = 0; round * 300 < ops; round++) {
        struct random dice = random_from(seed + round);

        start(round % 2 == 0 ? 4 : 5);
        random_forest(&dice, 300);
        forest_end();
    }
}

/* ---- ranges ---- */

/* In an empty tree: the fewest entries, no table but those on the two boundary paths, and none
 * after the range is taken away again. */
static void ranges_take_the_fewest_entries(void **state)
{
    (void)state;
    for (unsigned levels = 4; levels <= 5; levels++) {
        start(levels);
        forest_create(0);
        for (unsigned from = 0; from < forest.cell_count; from++) {
            for (unsigned to = from + 1; to <= forest.cell_count; to++) {
                struct oracle_census census;

                forest_replace(0, from, to, (struct content){.kind = CONTENT_TICKET, .number = 3});
                census = forest_check();
                assert_true(census.tables <= 2 * (levels - 1) + 1);
                assert_int_equal(census.entries - (census.tables - 1),
                                 forest_fewest(forest.bounds[from], forest.bounds[to]));
                forest_replace(0, from, to, (struct content){.kind = CONTENT_NONE, .number = 0});
                assert_int_equal(forest_check().tables, 1);
            }
        }
        forest_end();
    }
}

/* A ticket of 512 GiB takes one page: split down, and the rest is still the ticket. */
static void tickets_are_split_around_a_page(void **state)
{
    (void)state;
    start(4);
    forest_create(0);
    forest_replace(0, 16, 19, (struct content){.kind = CONTENT_TICKET, .number = 5});
    forest_put(0, 16, CONTENT_PAGE);
    assert_int_equal(forest_check().tables, 4);
    assert_int_equal(forest_entries(0, SPAN_4, 2 * SPAN_4), 3 * 511 + 1);
    forest_end();
    assert_int_equal(forest.pages_free_last, 1);
}

/* Three tables on the path to the first page; that of level 2 is the one in which the range
 * ends. */
static void running_out_changes_nothing(void **state)
{
    enum status status = STATUS_NO_MEMORY;
    struct tlb_batch batch;
    struct tree tree;
    struct pfn frame;

    (void)state;
    start(4);
    forest_create(0);
    forest_replace(0, 3, 9, (struct content){.kind = CONTENT_TICKET, .number = 5});
    forest_fork(1, 0);
    while (pmm_usage().by_kind[FRAME_FREE] > 0)
        assert_int_equal(pmm_alloc(FRAME_DEVICE, FRAME_UNCLEARED, &frame), OK);
    assert_int_equal(tree_create(&tree), STATUS_NO_MEMORY);
    for (unsigned free_frames = 0; status == STATUS_NO_MEMORY; free_frames++) {
        tlb_begin(&batch, &forest.trees[0].tree);
        status =
            tree_prepare_range(&forest.trees[0].tree, forest.bounds[1], forest.bounds[5], &batch);
        tlb_commit(&batch);
        assert_true(free_frames == 3 || pmm_usage().by_kind[FRAME_FREE] == free_frames);
        forest_check();
        assert_int_equal(status, free_frames < 3 ? STATUS_NO_MEMORY : OK);
        pmm_free((struct pfn){300 + free_frames});
    }
    forest_replace(0, 1, 5, (struct content){.kind = CONTENT_GUARD, .number = 0});
    forest_end();
}

/* ---- forks ---- */

/* A fork shares the root's entries; the first change on a path copies a table a level. */
static void forks_copy_one_table_a_level(void **state)
{
    (void)state;
    start(4);
    forest_create(0);
    forest_put(0, 3, CONTENT_PAGE);
    forest_put(0, 4, CONTENT_PAGE);
    forest_put(0, 16, CONTENT_PAGE);
    assert_int_equal(forest_check().tables, 1 + 3 + 3);
    forest_fork(1, 0);
    assert_int_equal(forest_check().tables, 1 + 7);
    forest_put(1, 3, CONTENT_PAGE);
    assert_int_equal(forest_check().tables, 1 + 7 + 3);
    assert_int_equal(forest_check().pages, 4);
    forest_destroy(0);
    assert_int_equal(forest.pages_free_last, 1);
    assert_int_equal(forest_check().tables, 1 + 3 + 3);
    forest_put(1, 16, CONTENT_SWAPPED);
    assert_int_equal(forest_check().tables, 1 + 3 + 3);
    assert_int_equal(forest.pages_free_last, 2);
    forest_end();
    assert_int_equal(forest.pages_free_last, 4);
}

/* Raises table counts past 16 bits by forks without changes, and page counts by forks that copy
 * their tables, until memory is out. */
static void count_many(unsigned forks, bool copy)
{
    static struct tree trees[70000];
    struct tree *parent = &forest.trees[0].tree;
    struct tree_reserve reserve = {0};
    struct tlb_batch batch;
    struct tree_place place;

    start(4);
    forest_start(2 * GIB, 4, bounds4, ARRAY_COUNT(bounds4));
    forest_create(0);
    forest_put(0, 3, CONTENT_PAGE);
    tlb_begin(&batch, parent);
    for (unsigned i = 0; i < forks; i++) {
        assert_int_equal(tree_create(&trees[i]), OK);
        tree_fork(&trees[i], parent, &batch);
        if (!copy)
            continue;
        assert_int_equal(tree_reserve_fill(&reserve, 3), OK);
        assert_int_equal(tree_make_path(&trees[i], SPAN_2, 1, TREE_CHANGE, &reserve, &batch), OK);
    }
    tree_reserve_drain(&reserve);
    tlb_commit(&batch);
    place = tree_walk(parent, SPAN_2);
    if (copy) {
        assert_int_equal(frame_record(pte_frame(place.entry))->count, forks + 1);
        assert_int_equal(tree_find_pointers(pte_frame(place.entry), PTE_LEAF, NULL, 0), forks + 1);
    } else {
        const struct pte *root = frame_pointer(parent->root);

        assert_int_equal(frame_record(pte_frame(root[0]))->count, forks + 1);
    }
    for (unsigned i = 0; i < forks; i++)
        tree_destroy(&trees[forks % 2 == 0 ? i : forks - 1 - i]);
    forest_check();
    assert_int_equal(frame_record(pte_frame(place.entry))->count, 1);
    forest_end();
    assert_int_equal(forest.pages_free_last, 1);
}

static void counts_go_past_sixteen_bits(void **state)
{
    uint64_t spare = (uint64_t)sysconf(_SC_AVPHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

    (void)state;
    count_many(70000, false);
    /* Four tables for each: 1.1 GiB. */
    if (spare > 4 * GIB)
        count_many(70000, true);
    else
        print_message("# too little memory: the count of a page stays at 3,000\n");
    count_many(2999, true);
}

/* ---- drops in steps ---- */

/* Checks a dying table: marked dead, no references, counts equal to its entries. */
static void check_dying(struct pfn table)
{
    const struct frame *record = frame_record(table);
    const struct pte *entries = frame_pointer(table);
    unsigned live = 0;
    unsigned held = 0;

    for (unsigned i = 0; i < PTE_ENTRIES; i++) {
        enum pte_state state = pte_state(entries[i], record->level);

        live += state != PTE_EMPTY;
        if (state != PTE_LEAF && state != PTE_TABLE)
            continue;
        held++;
        assert_true(frame_record(pte_frame(entries[i]))->count > 0);
    }
    assert_int_equal(record->count, 0);
    assert_int_equal(record->flags & FRAME_DEAD, FRAME_DEAD);
    assert_int_equal(record->live, live);
    assert_int_equal(record->table.held, held);
}

/* Takes an entry out of a root and drops it one entry at a time; how many steps that took. */
static unsigned drop_in_steps(struct tree *tree, unsigned index)
{
    struct tree_dropper dropper;
    struct tlb_release release = {.level = tree->levels};
    uint64_t free_frames = pmm_usage().by_kind[FRAME_FREE];
    unsigned steps = 0;

    (void)machine_interrupts_off();
    assert_true(tree_lock(tree->root));
    release.entry = tree_replace_entry(tree->root, index, pte_empty());
    tree_unlock(tree->root);
    machine_interrupts_restore(true);
    tree_drop_begin(&dropper, &release);
    while (!tree_drop_some(&dropper, 1)) {
        assert_true(pmm_usage().by_kind[FRAME_FREE] - free_frames <= 16); /* a group of entries */
        free_frames = pmm_usage().by_kind[FRAME_FREE];
        for (unsigned i = 0; i < dropper.depth; i++)
            check_dying(dropper.tables[i]);
        steps++;
    }
    return steps;
}

/* A fork whose path to the pages of cells 3 and 4, in entry 0 of its root, is its own. */
static void fork_with_own_path(struct tree *child)
{
    struct tree_reserve reserve = {0};
    struct tlb_batch batch;

    tlb_begin(&batch, &forest.trees[0].tree);
    assert_int_equal(tree_create(child), OK);
    tree_fork(child, &forest.trees[0].tree, &batch);
    assert_int_equal(tree_reserve_fill(&reserve, 3), OK);
    assert_int_equal(tree_make_path(child, SPAN_2, 1, TREE_CHANGE, &reserve, &batch), OK);
    tlb_commit(&batch);
    tree_fork_end(&forest.trees[0].tree);
}

/* A drop takes one step per link, per group of a leaf table's entries up to the last with a target,
 * and per table; shared tables cost nothing. */
static void a_drop_goes_in_steps(void **state)
{
    struct tree child;

    (void)state;
    start(4);
    forest_create(0);
    forest_put(0, 3, CONTENT_PAGE);
    forest_put(0, 4, CONTENT_PAGE);
    forest_put(0, 16, CONTENT_PAGE);
    fork_with_own_path(&child);
    /* A link of the tables of levels 3 and 2; entries 0 and 1 of the leaf table, in one group; and
     * three tables, the last of them in the step that says done. */
    assert_int_equal(drop_in_steps(&child, 0), 1 + 1 + 1 + 3 - 1);
    assert_int_equal(forest.pages_free_last, 0);
    assert_int_equal(drop_in_steps(&child, 1), 0);
    tree_destroy(&child);
    forest_check();
    fork_with_own_path(&child);
    forest_destroy(0);
    assert_int_equal(forest.pages_free_last, 0);
    assert_int_equal(drop_in_steps(&child, 0), 1 + 1 + 1 + 3 - 1);
    assert_int_equal(forest.pages_free_last, 2);
    assert_int_equal(drop_in_steps(&child, 1), 3 + 3 - 1);
    assert_int_equal(forest.pages_free_last, 3);
    tree_destroy(&child);
    forest_end();
}

/* ---- locks ---- */

static void locks_are_tried(void **state)
{
    struct tree_reserve reserve = {0};
    struct tree_place place;
    struct tlb_batch batch;
    struct tree *tree = &forest.trees[0].tree;

    (void)state;
    start(4);
    forest_create(0);
    forest_put(0, 3, CONTENT_PAGE);
    place = tree_walk(tree, SPAN_2);
    assert_true(PANICS((void)tree_lock(place.table)));
    (void)machine_interrupts_off();
    assert_true(tree_lock(place.table));
    assert_false(tree_lock(place.table));
    tree_unlock(place.table);
    frame_record(place.table)->flags = FRAME_DEAD;
    assert_false(tree_lock(place.table));
    assert_int_equal(frame_record(place.table)->lock, 0);
    frame_record(place.table)->flags = 0;
    /* A path through a locked table: again from the top. */
    assert_true(tree_lock(tree->root));
    tlb_begin(&batch, tree);
    assert_int_equal(tree_make_path(tree, SPAN_2, 1, TREE_FILL, &reserve, &batch), STATUS_AGAIN);
    tlb_commit(&batch);
    tree_unlock(tree->root);
    machine_interrupts_restore(true);
    forest_end();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(trees_hold_what_the_model_says),
        cmocka_unit_test(ranges_take_the_fewest_entries),
        cmocka_unit_test(tickets_are_split_around_a_page),
        cmocka_unit_test(running_out_changes_nothing),
        cmocka_unit_test(forks_copy_one_table_a_level),
        cmocka_unit_test(counts_go_past_sixteen_bits),
        cmocka_unit_test(a_drop_goes_in_steps),
        cmocka_unit_test(locks_are_tried),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* AUDIT must notice each kind of damage, in a process of its own each; and the printed walk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "paging/print_walk.h"
#include "pmm/pmm.h"
#include "tests/host/fake/child.h"
#include "tests/host/fake/machine.h"
#include "tests/host/model/tree_model.h"

#define MEMORY (16 * MIB)

static const uint64_t bounds[] = {
    PAGE_SIZE,     2 * MIB,  2 * MIB + PAGE_SIZE, 2 * MIB + 2 * PAGE_SIZE, GIB,
    GIB + 2 * MIB, 512 * GIB};

/* Two trees: tree 1 is a fork of tree 0 that has changed a page near another one. */
static int set_up(void **state)
{
    (void)state;
    forest_start(MEMORY, 4, bounds, ARRAY_COUNT(bounds));
    forest_create(0);
    forest_replace(0, 0, 6, (struct content){.kind = CONTENT_TICKET, .number = 9});
    forest_put(0, 1, CONTENT_PAGE);
    forest_put(0, 2, CONTENT_SWAPPED);
    forest_put(0, 4, CONTENT_PAGE);
    forest_fork(1, 0);
    forest_put(1, 2, CONTENT_PAGE);
    return 0;
}

/* The entry of a tree at a cell's first page, and its table. */
static struct pte *entry_of(unsigned tree, unsigned cell, struct frame **table)
{
    struct tree_place place = tree_walk(&forest.trees[tree].tree, forest.bounds[cell]);

    CHECK(place.level == 1);
    *table = frame_record(place.table);
    return (struct pte *)frame_pointer(place.table) + place.index;
}

static void visit_both(tree_visit *visit, void *context)
{
    visit(&forest.trees[0].tree, context);
    visit(&forest.trees[1].tree, context);
}

static void audit(void)
{
    (void)tree_audit(visit_both);
}

/* ---- damage ---- */

enum damage {
    NO_DAMAGE,
    PAGE_COUNT_HIGH,
    PAGE_COUNT_LOW,
    TABLE_COUNT_HIGH,
    TABLE_COUNT_LOW,
    LIVE_HIGH,
    HELD_LOW,
    OWN_FIRST,
    OWN_SECOND,
    PAGE_OF_WRONG_KIND,
    TABLE_OF_WRONG_LEVEL,
    DEAD_TABLE,
    LOCKED_TABLE,
    CORRUPT_ENTRY,
    LOST_ENTRY,
    NAMES_ANOTHER,
    NAMES_NONE,
    LOST_PAGE,
    LOST_TABLE,
    ROOT_COUNT,
    DAMAGES
};

static void damage_page(enum damage damage, struct frame *page)
{
    switch (damage) {
    case PAGE_COUNT_HIGH: page->count++; break;
    case PAGE_COUNT_LOW: page->count--; break;
    case PAGE_OF_WRONG_KIND: page->kind = FRAME_KERNEL; break;
    case NAMES_ANOTHER: page->page.back_index ^= 1; break;
    case NAMES_NONE: page->page.back_table = UINT32_MAX; break;
    default: break;
    }
}

static void damage_table(enum damage damage, struct frame *table)
{
    switch (damage) {
    case TABLE_COUNT_HIGH: table->count++; break;
    case TABLE_COUNT_LOW: table->count--; break;
    case LIVE_HIGH: table->live++; break;
    case HELD_LOW: table->table.held--; break;
    case TABLE_OF_WRONG_LEVEL: table->level = 2; break;
    case DEAD_TABLE: table->flags |= FRAME_DEAD; break;
    case LOCKED_TABLE: table->lock = 1; break;
    default: break;
    }
}

static void do_damage(enum damage damage)
{
    struct frame *table;
    struct pte *first = entry_of(0, 1, &table);
    struct frame *other_table;
    struct pte *second = entry_of(1, 1, &other_table);
    struct pfn frame;

    damage_page(damage, frame_record(pte_frame(*first)));
    damage_table(damage, table);
    if (damage == OWN_FIRST)
        pte_make_own(first);
    if (damage == OWN_SECOND)
        pte_make_own(second);
    if (damage == CORRUPT_ENTRY)
        first->word ^= PTE_PWT;
    if (damage == LOST_ENTRY)
        *first = pte_empty();
    if (damage == LOST_PAGE)
        CHECK(pmm_alloc(FRAME_ANONYMOUS, FRAME_CLEARED, &frame) == OK);
    if (damage == LOST_TABLE)
        CHECK(pmm_alloc(FRAME_TABLE, FRAME_CLEARED, &frame) == OK);
    if (damage == ROOT_COUNT)
        frame_record(forest.trees[1].tree.root)->count++;
}

static void damage_and_audit(void *context)
{
    do_damage(*(enum damage *)context);
    audit();
}

static void audit_notices_every_damage(void **state)
{
    (void)state;
    for (unsigned damage = NO_DAMAGE; damage < DAMAGES; damage++) {
        bool noticed = child_run(damage_and_audit, &damage)->panicked;

        if (noticed != (damage != NO_DAMAGE))
            fail_msg("damage %u was %snoticed", damage, noticed ? "" : "not ");
    }
}

/* ---- corrupt entries are never followed ---- */

static void drop_corrupt(void *context)
{
    struct frame *table;
    struct pte *entry = entry_of(0, 1, &table);

    (void)context;
    entry->word |= PTE_G;
    forest_destroy(1);
    forest_destroy(0);
}

static void share_corrupt(void *context)
{
    struct frame *table;
    struct pte *entry = entry_of(1, 2, &table);

    (void)context;
    entry->word |= UINT64_C(1) << 60;
    forest_fork(2, 1);
    forest_put(2, 1, CONTENT_PAGE);
}

static void path_through_corrupt(void *context)
{
    struct pte *root = frame_pointer(forest.trees[0].tree.root);

    (void)context;
    root[0].word ^= PTE_RW;
    forest_put(0, 1, CONTENT_PAGE);
}

static void destroy_running(void *context)
{
    (void)context;
    machine_load_root(phys_of(forest.trees[0].tree.root));
    forest_destroy(0);
}

static void raise_saturated(void *context)
{
    (void)context;
    tree_hold(tree_zero_page());
}

static void raise_free(void *context)
{
    struct pfn frame;

    (void)context;
    CHECK(pmm_alloc(FRAME_ANONYMOUS, FRAME_CLEARED, &frame) == OK);
    CHECK(tree_release(frame) == 0);
    tree_hold(frame);
}

static void lower_below_zero(void *context)
{
    struct pfn frame;

    (void)context;
    CHECK(pmm_alloc(FRAME_ANONYMOUS, FRAME_CLEARED, &frame) == OK);
    CHECK(tree_release(frame) == 0);
    (void)tree_release(frame);
}

static void replace_unlocked(void *context)
{
    (void)context;
    (void)tree_replace_entry(forest.trees[0].tree.root, 5, pte_guard());
}

static void replace_unprepared(void *context)
{
    struct tlb_batch batch;

    (void)context;
    tlb_begin(&batch, &forest.trees[0].tree);
    tree_replace_range(&forest.trees[0].tree, 600 * GIB, 600 * GIB + PAGE_SIZE, pte_guard(),
                       &batch);
}

static void mistakes_panic(void **state)
{
    static void (*const mistakes[])(void *) = {
        drop_corrupt, share_corrupt,    path_through_corrupt, destroy_running,   raise_saturated,
        raise_free,   lower_below_zero, replace_unlocked,     replace_unprepared};

    (void)state;
    assert_int_equal(child_count_panics(mistakes, ARRAY_COUNT(mistakes)), ARRAY_COUNT(mistakes));
}

/* ---- words ---- */

static void print_walks(void *context)
{
    struct phys root = phys_of(forest.trees[0].tree.root);

    (void)context;
    tree_print_walk(root, 4, forest.bounds[1] + 5);
    tree_print_walk(root, 4, forest.bounds[2]);
    tree_print_walk(root, 4, forest.bounds[6] + GIB);
    tree_print_walk((struct phys){64 * GIB}, 4, 0);
}

static void walks_in_words(void **state)
{
    const struct child_end *end = child_run(print_walks, NULL);

    (void)state;
    assert_false(end->panicked);
    assert_non_null(strstr(end->output, "#   level 4: "));
    assert_non_null(strstr(end->output, "#   level 1: "));
    assert_non_null(strstr(end->output, " COW, frame "));
    assert_non_null(strstr(end->output, "read-only, user, accessed"));
    assert_non_null(strstr(end->output, " swapped\n"));
    assert_non_null(strstr(end->output, "#   level 4: 0000000000000000 empty\n"));
    assert_non_null(strstr(end->output, "the table would be at 1000000000, which is no RAM\n"));
    assert_null(strstr(end->output, "CORRUPT"));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(audit_notices_every_damage),
        cmocka_unit_test(mistakes_panic),
        cmocka_unit_test(walks_in_words),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}

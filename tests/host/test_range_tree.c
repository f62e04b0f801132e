/* Trees of ranges that share nodes beside plain arrays: random changes, shares and ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "lib/random.h"
#include "lib/units.h"
#include "pmm/pool.h"
#include "tests/host/fake/machine.h"
#include "vmm/range_tree/range_tree.h"

#define MEMORY (16 * MIB)

#define TREES 6U
#define SLOTS 3000U

/* Every slot is so wide; a range begins and ends somewhere in its own. */
#define SLOT_SIZE (32 * PAGE_SIZE)

static struct random dice = {5};

/* Trees, and beside each an array of what it should have. */
static struct {
    struct range_tree trees[TREES];
    struct tree_range slots[TREES][SLOTS]; /* end 0: empty */
} test;

/* Of each word 0: how many nodes have a range with it. */
static int64_t held[SLOTS];

static void count(uint64_t word, bool is_held)
{
    assert_true(word < SLOTS);
    held[word] += is_held ? 1 : -1;
    assert_true(held[word] >= 0);
}

static void hook(const struct tree_range *ranges, unsigned many, bool is_held)
{
    for (unsigned i = 0; i < many; i++)
        count(ranges[i].words[0], is_held);
}

/* The last range before one that was found, and the same one from an address in it and in front. */
static void compare_both(unsigned tree, const struct tree_range *at)
{
    unsigned slot = (unsigned)at->words[0];
    const struct tree_range *before;

    while (slot > 0 && test.slots[tree][slot - 1].end == 0)
        slot--;
    assert_ptr_equal(range_tree_find_both(&test.trees[tree], at->start, &before), at);
    assert_true((slot > 0) == (before != NULL));
    if (slot > 0)
        assert_memory_equal(before, &test.slots[tree][slot - 1], sizeof(*before));
    assert_ptr_equal(range_tree_find(&test.trees[tree], at->end - 1), at);
}

static void compare(unsigned tree)
{
    const struct tree_range *at = range_tree_find(&test.trees[tree], 0);
    uint32_t ranges = 0;

    for (unsigned i = 0; i < SLOTS; i++) {
        if (test.slots[tree][i].end == 0)
            continue;
        assert_non_null(at);
        assert_memory_equal(at, &test.slots[tree][i], sizeof(*at));
        assert_true(held[at->words[0]] > 0);
        compare_both(tree, at);
        at = range_tree_next(&test.trees[tree], at);
        ranges++;
    }
    assert_null(at);
    assert_int_equal(range_tree_audit(&test.trees[tree]), ranges);
}

static void compare_gap(unsigned tree)
{
    uint64_t alignment = PAGE_SIZE << random_below(&dice, 6);
    uint64_t size = (1 + random_below(&dice, 64)) * PAGE_SIZE;
    uint64_t low = random_below(&dice, SLOTS * SLOT_SIZE) & ~(PAGE_SIZE - 1);
    uint64_t high = (SLOTS + 2) * SLOT_SIZE;
    uint64_t expected = round_up(low, alignment);
    uint64_t found = 0;
    bool is_there;

    for (unsigned i = 0; i < SLOTS; i++) {
        const struct tree_range *range = &test.slots[tree][i];

        if (range->end == 0 || range->end <= expected)
            continue;
        if (range->start >= expected && range->start - expected >= size)
            break;
        expected = round_up(range->end, alignment);
    }
    is_there = range_tree_find_gap(&test.trees[tree], low, high, size, alignment, &found);
    assert_int_equal(is_there, expected < high && size <= high - expected);
    if (is_there)
        assert_int_equal(found, expected);
}

static struct tree_range some_range(unsigned slot)
{
    uint64_t first = random_below(&dice, 32);
    uint64_t pages = 1 + random_below(&dice, 32 - first);
    uint64_t start = (slot + 1) * SLOT_SIZE + first * PAGE_SIZE;

    return (struct tree_range){
        .start = start, .end = start + pages * PAGE_SIZE, .words = {slot, random_next(&dice)}};
}

static void remove_at(struct range_tree *tree, uint64_t start)
{
    struct tree_range gone;

    range_tree_remove(tree, start, &gone);
    assert_int_equal(gone.start, start);
    count(gone.words[0], false);
}

/* Inserts the range of an empty slot. */
static enum status put(struct range_tree *tree, struct tree_range *old,
                       const struct tree_range *new)
{
    enum status status = range_tree_insert(tree, new, hook);

    if (status != OK)
        return status;
    count(new->words[0], true);
    *old = *new;
    return OK;
}

/* Changes the range of a slot, or moves it to an empty one as a move of pages does: what can fail
 * comes first, then nothing is allocated. */
static void move(struct range_tree *tree, struct tree_range *old, struct tree_range *to)
{
    struct tree_range new = *old;

    if (to->end != 0 || range_tree_own(tree, old->start, old->end, hook) != OK)
        return;
    new.start = (uint64_t)(to - old) * SLOT_SIZE + old->start;
    new.end = (uint64_t)(to - old) * SLOT_SIZE + old->end;
    new.words[0] = old->words[0] + (uint64_t)(to - old);
    if (range_tree_own(tree, new.start, new.end, hook) != OK || range_tree_reserve(tree) != OK)
        return;
    pool_shut(true);
    remove_at(tree, old->start);
    *old = (struct tree_range){0};
    assert_int_equal(put(tree, to, &new), OK);
    range_tree_unreserve(tree);
}

/* Cuts a range, compares the halves, and makes one of them again. */
static void cut(struct range_tree *tree, struct tree_range *old)
{
    uint64_t at = old->start + PAGE_SIZE;
    const struct tree_range *lower;

    if (old->end <= at || range_tree_cut(tree, at, hook) != OK)
        return;
    count(old->words[0], true);
    lower = range_tree_find(tree, old->start);
    assert_true(lower->start == old->start && lower->end == at);
    lower = range_tree_next(tree, lower);
    assert_true(lower->start == at && lower->end == old->end);
    assert_memory_equal(lower->words, old->words, sizeof(old->words));
    pool_shut(true);
    remove_at(tree, at);
    range_tree_resize(tree, old->start, old->start, old->end);
}

static void resize(struct range_tree *tree, struct tree_range *old, const struct tree_range *new)
{
    if (range_tree_own(tree, old->start, old->end, hook) != OK)
        return;
    pool_shut(true);
    range_tree_resize(tree, old->start, new->start, new->end);
    old->start = new->start;
    old->end = new->end;
}

static void discard(struct range_tree *tree, struct tree_range *old)
{
    if (range_tree_own(tree, old->start + 1, old->end - 1, hook) != OK)
        return;
    pool_shut(true);
    assert_true(range_tree_is_own(tree, old->start));
    remove_at(tree, old->start);
    *old = (struct tree_range){0};
}

/* Looks up the last address that a range had before a change: the tree finds the first range that
 * ends after it. */
static void compare_behind(unsigned tree, unsigned slot, const struct tree_range *before)
{
    const struct tree_range *at = range_tree_find(&test.trees[tree], before->end - 1);

    while (slot < SLOTS && test.slots[tree][slot].end < before->end)
        slot++;
    assert_true((slot < SLOTS) == (at != NULL));
    if (at != NULL)
        assert_memory_equal(at, &test.slots[tree][slot], sizeof(*at));
}

/* Changes one slot of a tree; without memory nothing changes. What is own needs none. */
static void change(unsigned tree, unsigned slot, bool remove)
{
    struct range_tree *at = &test.trees[tree];
    struct tree_range *old = &test.slots[tree][slot];
    struct tree_range new = some_range(slot);
    struct tree_range before = *old;

    pool_shut(random_below(&dice, 8) == 0);
    if (old->end == 0)
        (void)put(at, old, &new);
    else if (remove)
        discard(at, old);
    else if (random_below(&dice, 3) == 0)
        move(at, old, &test.slots[tree][random_below(&dice, SLOTS)]);
    else if (random_below(&dice, 2) == 0)
        cut(at, old);
    else
        resize(at, old, &new);
    pool_shut(false);
    if (before.end != 0)
        compare_behind(tree, slot, &before);
}

static void audit(void)
{
    for (unsigned i = 0; i < TREES; i++)
        range_tree_count_references(&test.trees[i]);
    for (unsigned i = 0; i < TREES; i++)
        range_tree_compare_references(&test.trees[i]);
}

static void drop(unsigned tree)
{
    range_tree_drop(&test.trees[tree], hook);
    memset(test.slots[tree], 0, sizeof(test.slots[tree]));
}

/* In steps; in between others that share nodes of the tree change theirs. */
static void drop_in_steps(unsigned tree)
{
    unsigned most = 1 + (unsigned)random_below(&dice, 3 * RANGE_PLACES);

    for (unsigned steps = 0; !range_tree_drop_some(&test.trees[tree], most, hook); steps++) {
        assert_true(steps < SLOTS);
        change((tree + 1) % TREES, (unsigned)random_below(&dice, SLOTS), steps % 2 == 0);
    }
    memset(test.slots[tree], 0, sizeof(test.slots[tree]));
}

static void share(unsigned tree, unsigned from)
{
    if (random_below(&dice, 2) == 0)
        drop(tree);
    else
        drop_in_steps(tree);
    range_tree_share(&test.trees[tree], &test.trees[from]);
    memcpy(test.slots[tree], test.slots[from], sizeof(test.slots[from]));
}

static void end(uint64_t objects)
{
    for (unsigned i = 0; i < TREES; i++)
        drop(i);
    assert_int_equal(pool_objects(), objects);
    for (unsigned i = 0; i < SLOTS; i++)
        assert_int_equal(held[i], 0);
}

static void random_changes(void **state)
{
    uint64_t objects = pool_objects();

    (void)state;
    for (unsigned step = 0; step < 400; step++) {
        unsigned tree = (unsigned)random_below(&dice, TREES);
        unsigned other = (unsigned)random_below(&dice, TREES);
        bool shrinks = random_below(&dice, 2) == 0;
        unsigned changes = random_below(&dice, 3) == 0 ? 2 : 200; /* few: most nodes stay shared */

        if (tree != other && random_below(&dice, 3) == 0)
            share(tree, other);
        for (unsigned i = 0; i < changes; i++)
            change(tree, (unsigned)random_below(&dice, SLOTS), shrinks);
        audit();
        compare_gap(tree);
        if (step % 8 == 0)
            for (unsigned i = 0; i < TREES; i++)
                compare(i);
        compare(tree);
    }
    end(objects);
}

/* Ascending, descending and from both ends: filled and emptied beside a tree that shares all. */
static void hostile_orders(void **state)
{
    uint64_t objects = pool_objects();

    (void)state;
    for (unsigned order = 0; order < 4; order++) {
        for (unsigned pass = 0; pass < 2; pass++) {
            for (unsigned i = 0; i < SLOTS; i++) {
                unsigned slot = (order & 1) != 0 ? SLOTS - 1 - i : i;

                slot = (order & 2) != 0 && i % 2 != 0 ? SLOTS - slot : slot;
                slot = slot < SLOTS ? slot : 0;
                if ((test.slots[0][slot].end == 0) == (pass == 0))
                    change(0, slot, true);
            }
            audit();
            compare(0);
            share(1 + pass, 0);
            compare(1 + pass);
        }
    }
    end(objects);
}

/* A tree that is never shared joins its small nodes: the audit compares neighbours. */
static void small_nodes_join(void **state)
{
    uint64_t objects = pool_objects();

    (void)state;
    for (unsigned i = 0; i < SLOTS; i++)
        change(0, i, false);
    for (unsigned i = 0; i < SLOTS; i++) {
        if (i % 40 != 0 && test.slots[0][i].end != 0)
            change(0, i, true);
        if (i % 100 == 0)
            compare(0);
    }
    compare(0);
    end(objects);
}

static int set_up(void **state)
{
    (void)state;
    fake_machine_start(MEMORY);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_changes),
        cmocka_unit_test(hostile_orders),
        cmocka_unit_test(small_nodes_join),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}

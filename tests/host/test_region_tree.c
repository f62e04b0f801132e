/* The range tree beside a plain array: every short sequence of changes, and long random ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "lib/random.h"
#include "lib/units.h"
#include "vmm/space/region_tree.h"

#define SLOTS 600U

/* Every slot is so wide; a range begins and ends somewhere in its own. */
#define SLOT_SIZE (32 * PAGE_SIZE)

/* All sequences of this many changes of this few ranges are tried: 6^7 of them. */
#define SHORT_SLOTS  6U
#define SHORT_LENGTH 7U

static struct random dice = {5};

static struct {
    struct region_tree tree;
    struct region_node nodes[SLOTS];
    bool inside[SLOTS];
    unsigned slots;
} test;

static void begin(unsigned slots)
{
    memset(&test, 0, sizeof(test));
    test.slots = slots;
}

/* ---- the model: an array ---- */

static struct region_node *plain_find(uint64_t address)
{
    for (unsigned i = 0; i < test.slots; i++) {
        if (test.inside[i] && test.nodes[i].end > address)
            return &test.nodes[i];
    }
    return NULL;
}

static uint32_t plain_count(void)
{
    uint32_t count = 0;

    for (unsigned i = 0; i < test.slots; i++)
        count += test.inside[i];
    return count;
}

/* ---- comparison ---- */

static void compare_all(void)
{
    struct region_node *node = region_tree_find(&test.tree, 0);

    assert_int_equal(region_tree_audit(&test.tree), plain_count());
    for (unsigned i = 0; i < test.slots; i++) {
        if (!test.inside[i])
            continue;
        assert_ptr_equal(node, &test.nodes[i]);
        node = region_tree_next(node);
    }
    assert_null(node);
}

/* ---- changes ---- */

static void insert(unsigned slot, uint64_t start, uint64_t end)
{
    struct region_node *node = &test.nodes[slot];

    memset(node, 0xa5, sizeof(*node));
    node->start = start;
    node->end = end;
    region_tree_insert(&test.tree, node);
    test.inside[slot] = true;
}

static void take_out(unsigned slot)
{
    region_tree_remove(&test.tree, &test.nodes[slot]);
    test.inside[slot] = false;
}

/* A range in the slot: from its first to its last page at the most. */
static void some_range(unsigned slot, uint64_t *start, uint64_t *end)
{
    uint64_t first = random_below(&dice, 32);
    uint64_t pages = 1 + random_below(&dice, 32 - first);

    *start = (slot + 1) * SLOT_SIZE + first * PAGE_SIZE;
    *end = *start + pages * PAGE_SIZE;
}

static void change_some(unsigned slot)
{
    uint64_t start;
    uint64_t end;

    some_range(slot, &start, &end);
    if (!test.inside[slot])
        insert(slot, start, end);
    else if (random_below(&dice, 3) == 0)
        region_tree_resize(&test.nodes[slot], start, end);
    else
        take_out(slot);
}

/* ---- the tests ---- */

/* Ranges of different lengths. */
static void toggle(unsigned slot)
{
    uint64_t start = (slot + 1) * SLOT_SIZE;

    if (test.inside[slot])
        take_out(slot);
    else
        insert(slot, start, start + (slot * 5 % 7 + 1) * PAGE_SIZE);
}

/* Tries all continuations; restores the tree afterwards. */
static void every_sequence(unsigned left)
{
    for (unsigned slot = 0; left > 0 && slot < SHORT_SLOTS; slot++) {
        toggle(slot);
        compare_all();
        if (left > 1) {
            struct region_tree tree = test.tree;
            struct region_node nodes[SHORT_SLOTS];
            bool inside[SHORT_SLOTS];

            memcpy(nodes, test.nodes, sizeof(nodes));
            memcpy(inside, test.inside, sizeof(inside));
            every_sequence(left - 1);
            test.tree = tree;
            memcpy(test.nodes, nodes, sizeof(nodes));
            memcpy(test.inside, inside, sizeof(inside));
        }
        toggle(slot);
    }
}

static void every_short_sequence(void **state)
{
    (void)state;
    begin(SHORT_SLOTS);
    every_sequence(SHORT_LENGTH);
}

static void long_random_sequences(void **state)
{
    static const unsigned sizes[] = {3, 10, 40, 150, SLOTS};

    (void)state;
    for (unsigned round = 0; round < ARRAY_COUNT(sizes); round++) {
        begin(sizes[round]);
        for (unsigned i = 0; i < 4000; i++) {
            uint64_t address;

            change_some((unsigned)random_below(&dice, test.slots));
            address = random_below(&dice, (test.slots + 2) * SLOT_SIZE);
            assert_ptr_equal(region_tree_find(&test.tree, address), plain_find(address));
            if (i % 16 == 0 || test.slots <= 10)
                compare_all();
        }
    }
}

/* The depth is what makes a search cheap: at most twice the logarithm. */
static unsigned depth_of(const struct region_node *node)
{
    unsigned left;
    unsigned right;

    if (node == NULL)
        return 0;
    left = depth_of(RB_LEFT(node, link));
    right = depth_of(RB_RIGHT(node, link));
    return 1 + (left > right ? left : right);
}

static void ascending_ranges_stay_shallow(void **state)
{
    (void)state;
    begin(SLOTS);
    for (unsigned slot = 0; slot < SLOTS; slot++)
        insert(slot, (slot + 1) * SLOT_SIZE, (slot + 1) * SLOT_SIZE + PAGE_SIZE);
    compare_all();
    assert_true(depth_of(RB_ROOT(&test.tree)) <= 20);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_short_sequence),
        cmocka_unit_test(long_random_sequences),
        cmocka_unit_test(ascending_ranges_stay_shallow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

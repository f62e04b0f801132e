/* Stack trimming against a model: below the lowest pointer's red zone all is blank, above
 * nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "lib/random.h"
#include "paging/kernel/layout.h"
#include "swapdisk/area.h"
#include "tests/host/fake/machine.h"
#include "tests/host/fake/mmu.h"
#include "tests/host/model/space_model_host.h"
#include "vmm/space/stack.h"

#define MEMORY (16 * MIB)
#define SLOTS  64U
#define PLAIN  (4 * MIB)
#define PAGES  64U
#define STACK  (PLAIN + PAGES * PAGE_SIZE) /* right behind: the two must not merge */
#define TOP    (STACK + PAGES * PAGE_SIZE)
#define ROUNDS 60U

static const struct rights read_write = {.write = true, .user = true};

static struct space *space;

static int set_up(void **state)
{
    (void)state;
    return model_start_with_swap(MEMORY, SLOTS);
}

static void begin(void)
{
    model_begin(1, 4);
    assert_int_equal(space_create(&space), OK);
    assert_int_equal(space_map(space, &SPACE_AT(PLAIN, PAGES * PAGE_SIZE, read_write), NULL), OK);
    assert_int_equal(
        space_map(space, &SPACE_AT(STACK, PAGES * PAGE_SIZE, read_write, .flags = SPACE_STACK),
                  NULL),
        OK);
    space_switch(space);
}

static void end(void)
{
    space_switch(NULL);
    space_audit();
    space_destroy(space);
    model_end();
}

static uint64_t *bytes_at(uint64_t address, bool write)
{
    struct phys physical;

    assert_true(model_touch(address, write, &physical) >= 0);
    return (uint64_t *)((uintptr_t)DIRECT_MAP_BASE + physical.address);
}

/* Fills each 64 bytes of a page with their address. */
static void fill(uint64_t page)
{
    uint64_t *words = bytes_at(page, true);

    for (unsigned i = 0; i < PAGE_SIZE / 8; i++)
        words[i] = page + i * 8;
}

static bool filled(uint64_t page)
{
    const uint64_t *words = bytes_at(page, false);

    for (unsigned i = 0; i < PAGE_SIZE / 8; i++) {
        if (words[i] != page + i * 8)
            return false;
    }
    return true;
}

static bool blank(uint64_t page)
{
    const uint64_t *words = bytes_at(page, false);

    for (unsigned i = 0; i < PAGE_SIZE / 8; i++) {
        if (words[i] != 0)
            return false;
    }
    return true;
}

static uint64_t resident_stack(void)
{
    struct space_view view;

    assert_int_equal(space_query(space, STACK, &view), OK);
    assert_int_equal(view.start, STACK);
    return view.resident;
}

/* Whether the pages below `edge` are blank, all others as filled. */
static bool cut_at(uint64_t edge)
{
    bool right = true;

    for (uint64_t page = PLAIN; page < TOP; page += PAGE_SIZE)
        right = right && (page >= STACK && page < edge ? blank(page) : filled(page));
    return right;
}

static void fill_all(void)
{
    for (uint64_t page = PLAIN; page < TOP; page += PAGE_SIZE)
        fill(page);
}

static uint64_t trim(const uint64_t *pointers, unsigned count)
{
    uint64_t pages = 0;

    assert_int_equal(space_trim_stacks(space, pointers, count, &pages), OK);
    return pages;
}

/* Pointers anywhere in the stack, in any order: the lowest one counts, less its red zone. */
static void below_the_lowest_pointer(void **state)
{
    struct random dice = random_from(model_seed());

    (void)state;
    begin();
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t pointers[4];
        unsigned count = 1 + (unsigned)random_below(&dice, 4);
        uint64_t lowest = TOP;
        uint64_t before;
        uint64_t edge;

        fill_all();
        before = resident_stack();
        assert_int_equal(before, PAGES);
        for (unsigned i = 0; i < count; i++) {
            pointers[i] = STACK + PAGE_SIZE + 8 * random_below(&dice, (PAGES - 1) * PAGE_SIZE / 8);
            if (random_below(&dice, 2) == 0) /* within a red zone above a page's start */
                pointers[i] = round_down(pointers[i], PAGE_SIZE) + 8 * random_below(&dice, 16);
            lowest = pointers[i] < lowest ? pointers[i] : lowest;
        }
        edge = round_down(lowest - 128, PAGE_SIZE);
        assert_int_equal(trim(pointers, count), (edge - STACK) / PAGE_SIZE);
        assert_int_equal(resident_stack(), before - (edge - STACK) / PAGE_SIZE);
        assert_true(cut_at(edge));
    }
    end();
}

static void ends_of_the_stack(void **state)
{
    const uint64_t lowest[] = {STACK + 8, STACK + 128, STACK + PAGE_SIZE + 127, TOP};
    const uint64_t beside[] = {STACK, TOP + 8, PLAIN + PAGE_SIZE, 0, UINT64_MAX};

    (void)state;
    begin();
    fill_all();
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(trim(&lowest[i], 1), 0);
        assert_true(cut_at(STACK));
    }
    /* Without a pointer nothing is known about a stack; a plain region is none. */
    assert_int_equal(trim(beside, 5), 0);
    assert_int_equal(trim(beside, 0), 0);
    assert_true(cut_at(STACK));
    /* An empty stack still has a red zone. */
    assert_int_equal(trim(&lowest[3], 1), PAGES - 1);
    assert_true(cut_at(TOP - PAGE_SIZE));
    assert_int_equal(trim(&lowest[3], 1), 0);
    end();
}

static void wired_stacks_stay(void **state)
{
    const uint64_t pointer = TOP;

    (void)state;
    begin();
    fill_all();
    assert_int_equal(space_wire(space, STACK, PAGES * PAGE_SIZE), OK);
    assert_int_equal(trim(&pointer, 1), 0);
    assert_true(cut_at(STACK));
    assert_int_equal(space_unwire(space, STACK, PAGES * PAGE_SIZE), OK);
    assert_int_equal(trim(&pointer, 1), PAGES - 1);
    end();
}

/* A fork's stack is its own: trimming it takes nothing from the parent. */
static void forks_keep_theirs(void **state)
{
    const uint64_t pointer = TOP;
    struct space *child;

    (void)state;
    begin();
    fill_all();
    assert_int_equal(space_fork(space, &child), OK);
    space_switch(child);
    {
        uint64_t pages = 0;

        assert_int_equal(space_trim_stacks(child, &pointer, 1, &pages), OK);
        assert_int_equal(pages, PAGES - 1);
    }
    assert_true(cut_at(TOP - PAGE_SIZE));
    space_switch(space);
    assert_true(cut_at(STACK));
    space_destroy(child);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(below_the_lowest_pointer),
        cmocka_unit_test(ends_of_the_stack),
        cmocka_unit_test(wired_stacks_stay),
        cmocka_unit_test(forks_keep_theirs),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}

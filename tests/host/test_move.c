/* Moves of ranges within a space: content, at each alignment, with forks and eviction, and when
 * memory runs out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "cpu/trap/trap.h"
#include "lib/random.h"
#include "swapdisk/area.h"
#include "tests/host/fake/mmu.h"
#include "tests/host/model/space_model_host.h"
#include "vmm/fault/fault.h"
#include "vmm/page/page.h"
#include "vmm/space/commit.h"

#define MEMORY (16 * MIB)
#define SLOTS  512U

/* Checked addresses of a range: its ends, and addresses where tables meet. */
#define PLACES 8U

static const struct rights read_write = {.write = true, .user = true};
static const struct rights read_only = {.user = true};

static struct space *space;
static uint64_t last_tag;

static int set_up(void **state)
{
    (void)state;
    return model_start_with_swap(MEMORY, SLOTS);
}

static void begin(unsigned levels)
{
    model_begin(3, levels);
    model_overcommit(OVERCOMMIT_ALWAYS);
    assert_int_equal(space_create(&space), OK);
    space_switch(space);
}

static void end(void)
{
    space_audit();
    space_switch(NULL);
    space_destroy(space);
    model_end();
}

/* ---- accesses of the running space, through the software MMU ---- */

static bool translate(uint64_t address, bool write, struct phys *physical)
{
    struct fake_access access = {.write = write, .user = true};
    struct trap_frame frame = {.rip = 0x401000};
    uint64_t error;

    while (!fake_mmu_translate(address, access, physical, &error)) {
        bool resolved;

        (void)machine_interrupts_off();
        frame.cr2 = address;
        frame.error = error;
        resolved = trap_page_fault(address, error, &frame);
        machine_interrupts_restore(true);
        if (!resolved)
            return false;
    }
    return true;
}

static uint64_t word_at(uint64_t address)
{
    struct phys physical;

    assert_true(translate(address, false, &physical));
    return *(uint64_t *)phys_pointer(physical);
}

static void write_word(uint64_t address, uint64_t value)
{
    struct phys physical;

    assert_true(translate(address, true, &physical));
    *(uint64_t *)phys_pointer(physical) = value;
}

static bool is_gone(uint64_t address)
{
    struct phys physical;

    return !translate(address, false, &physical);
}

/* ---- a range with something in it ---- */

struct range {
    uint64_t start;
    uint64_t offsets[PLACES]; /* addresses of checked pages; some may be equal */
    uint64_t words[PLACES];   /* the latest of one page is the greatest; 0: never written */
    uint64_t size;
};

static struct range range_of(uint64_t start, uint64_t size)
{
    uint64_t end = start + size;
    const uint64_t places[PLACES] = {start,
                                     end - PAGE_SIZE,
                                     round_up(start, 2 * MIB),
                                     round_down(end, 2 * MIB),
                                     round_up(start, GIB),
                                     round_down(end, GIB) - PAGE_SIZE,
                                     round_down(start + size / 2, PAGE_SIZE),
                                     round_up(start, 512 * GIB)};
    struct range range = {.start = start, .size = size};

    for (unsigned i = 0; i < PLACES; i++)
        range.offsets[i] = places[i] >= start && places[i] < end ? places[i] - start : 0;
    return range;
}

static uint64_t place_in(const struct range *range, unsigned number)
{
    return range->start + range->offsets[number];
}

static void check_range(const struct range *range)
{
    for (unsigned i = 0; i < PLACES; i++) {
        uint64_t wanted = 0;

        for (unsigned j = 0; j < PLACES; j++) {
            if (place_in(range, j) == place_in(range, i) && range->words[j] > wanted)
                wanted = range->words[j];
        }
        assert_int_equal(word_at(place_in(range, i)), wanted);
    }
}

/* Some pages written, some read, some never touched. */
static void touch_some(struct range *range, struct random *dice)
{
    for (unsigned i = 0; i < PLACES; i++) {
        if (random_below(dice, 2) == 0)
            write_word(place_in(range, i), range->words[i] = ++last_tag);
        else if (random_below(dice, 2) == 0)
            (void)word_at(place_in(range, i));
    }
}

static const uint64_t starts[] = {4 * MIB,       4 * MIB + PAGE_SIZE, 6 * MIB - PAGE_SIZE,
                                  GIB,           GIB - 2 * MIB,       GIB + 511 * PAGE_SIZE,
                                  512 * GIB,     512 * GIB - GIB,     512 * GIB - PAGE_SIZE,
                                  3 * GIB + MIB, 1024 * GIB - 4 * MIB};
static const uint64_t sizes[] = {
    PAGE_SIZE,           2 * PAGE_SIZE,     511 * PAGE_SIZE, 2 * MIB,
    2 * MIB + PAGE_SIZE, 5 * MIB,           GIB - PAGE_SIZE, GIB,
    GIB + 2 * MIB,       3 * GIB + 2 * MIB, 512 * GIB,       600 * GIB + PAGE_SIZE};

static struct range some_range(struct random *dice)
{
    uint64_t start = starts[random_below(dice, ARRAY_COUNT(starts))];

    return range_of(start, sizes[random_below(dice, ARRAY_COUNT(sizes))]);
}

/* Each alignment, with and without neighbours that stay, a fork that shares all, and pages that go
 * out before and after. */
static void move_one(struct random *dice)
{
    struct range range = some_range(dice);
    struct range child_range;
    struct range neighbour = range_of(range.start + range.size, PAGE_SIZE);
    uint64_t old = range.start;
    uint64_t old_end = range.start + range.size;
    bool whole = random_below(dice, 2) == 0;
    struct space *child = NULL;
    uint64_t place;

    assert_int_equal(space_map(space, &SPACE_AT(old, range.size, read_write), NULL), OK);
    assert_int_equal(
        space_map(space, &SPACE_AT(old_end, PAGE_SIZE, whole ? read_only : read_write), NULL), OK);
    touch_some(&range, dice);
    (void)word_at(neighbour.start);
    child_range = range;
    if (random_below(dice, 2) == 0)
        assert_int_equal(space_fork(space, &child), OK);
    touch_some(&range, dice);
    if (random_below(dice, 2) == 0)
        (void)page_reclaim_some();
    assert_int_equal(space_remap_moving(space, old, range.size, range.size + 3 * PAGE_SIZE, &place),
                     OK);
    assert_int_not_equal(place, old);
    space_audit();
    assert_true(is_gone(old) && is_gone(old_end - PAGE_SIZE));
    range.start = place;
    check_range(&range);
    assert_int_equal(word_at(place + range.size + 2 * PAGE_SIZE), 0);
    assert_true(is_gone(place + range.size + 3 * PAGE_SIZE));
    check_range(&neighbour);
    touch_some(&range, dice);
    (void)page_reclaim_some();
    check_range(&range);
    if (child != NULL) {
        space_switch(child);
        check_range(&child_range);
        touch_some(&child_range, dice);
        (void)page_reclaim_some();
        check_range(&child_range);
        space_audit();
        space_switch(space);
        check_range(&range);
        space_destroy(child);
    }
    fake_mmu_check();
    assert_int_equal(space_unmap(space, place, range.size + 3 * PAGE_SIZE), OK);
    assert_int_equal(space_unmap(space, old_end, PAGE_SIZE), OK);
    assert_int_equal(space->region_count, 0);
}

static void ranges_move_with_what_they_hold(void **state)
{
    uint64_t rounds = model_ops(100000) / 100;
    struct random dice = random_from(model_seed());

    (void)state;
    for (uint64_t round = 0; round < rounds; round += 50) {
        begin(round % 100 == 0 ? 4 : 5);
        for (unsigned i = 0; i < 50; i++)
            move_one(&dice);
        end();
    }
}

/* All pointers to a page are found after its table moved, and after it alone changed its table:
 * otherwise the page would stay, as busy. */
static void shared_pages_are_evicted_after_a_move(void **state)
{
    struct space *child;
    uint64_t place;

    (void)state;
    begin(4);
    assert_int_equal(space_map(space, &SPACE_AT(4 * MIB, 2 * MIB + PAGE_SIZE, read_write), NULL),
                     OK);
    assert_int_equal(space_map(space, &SPACE_AT(6 * MIB + PAGE_SIZE, PAGE_SIZE, read_only), NULL),
                     OK);
    write_word(4 * MIB, 11);
    write_word(6 * MIB, 12);
    assert_int_equal(space_fork(space, &child), OK);
    write_word(4 * MIB + PAGE_SIZE, 13);
    assert_int_equal(space_remap_moving(space, 4 * MIB, 2 * MIB + PAGE_SIZE, 3 * MIB, &place), OK);
    while (page_reclaim_some())
        ;
    assert_int_equal(page_clock_size(), 0);
    assert_int_equal(swap_usage().used, 3);
    assert_int_equal(word_at(place), 11);
    assert_int_equal(word_at(place + PAGE_SIZE), 13);
    assert_int_equal(word_at(place + 2 * MIB), 12);
    space_switch(child);
    assert_int_equal(word_at(4 * MIB), 11);
    assert_int_equal(word_at(6 * MIB), 12);
    space_switch(space);
    space_destroy(child);
    end();
}

/* Costs that do not depend on the size of a move: tables on the boundary paths, no page copied. */
static void a_gibibyte_moves_by_one_entry(void **state)
{
    struct pmm_usage before;
    struct pmm_usage after;

    (void)state;
    begin(4);
    assert_int_equal(space_map(space, &SPACE_AT(GIB, GIB, read_write), NULL), OK);
    for (unsigned i = 0; i < 64; i++)
        write_word(GIB + i * 16 * MIB, 100 + i);
    before = pmm_usage();
    assert_int_equal(space_move(space, GIB, GIB, GIB + 512 * GIB), OK);
    after = pmm_usage();
    /* The boundary path of the new place, and the old one's is given back. */
    assert_int_equal(after.by_kind[FRAME_TABLE], before.by_kind[FRAME_TABLE]);
    assert_int_equal(after.by_kind[FRAME_ANONYMOUS], before.by_kind[FRAME_ANONYMOUS]);
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(word_at(GIB + 512 * GIB + i * 16 * MIB), 100 + i);
    end();
}

static void unsound_moves_are_refused(void **state)
{
    const uint64_t there = 8 * MIB;

    (void)state;
    begin(4);
    assert_int_equal(space_map(space, &SPACE_AT(4 * MIB, 4 * PAGE_SIZE, read_write), NULL), OK);
    assert_int_equal(space_map(space, &SPACE_AT(there + PAGE_SIZE, PAGE_SIZE, read_write), NULL),
                     OK);
    assert_int_equal(
        space_map(space,
                  &(struct space_request){.at = 16 * MIB, .size = PAGE_SIZE, .flags = SPACE_GUARD},
                  NULL),
        OK);
    assert_int_equal(space_move(space, 4 * MIB, 0, there), STATUS_RANGE);
    assert_int_equal(space_move(space, 4 * MIB, PAGE_SIZE, there + 1), STATUS_RANGE);
    assert_int_equal(space_move(space, 4 * MIB, PAGE_SIZE, UINT64_C(1) << 47), STATUS_RANGE);
    assert_int_equal(space_move(space, 4 * MIB, PAGE_SIZE, 10 * MIB + PAGE_SIZE), STATUS_RANGE);
    assert_int_equal(space_move(space, 4 * MIB, 2 * PAGE_SIZE, there), STATUS_EXISTS);
    assert_int_equal(space_move(space, 4 * MIB, 2 * PAGE_SIZE, 4 * MIB), STATUS_EXISTS);
    assert_int_equal(space_move(space, 4 * MIB, 5 * PAGE_SIZE, there), STATUS_NOT_FOUND);
    assert_int_equal(space_move(space, 16 * MIB, PAGE_SIZE, 18 * MIB), STATUS_NOT_FOUND);
    assert_int_equal(space_move(space, GIB, PAGE_SIZE, 2 * GIB), STATUS_NOT_FOUND);
    assert_int_equal(space->region_count, 3);
    assert_int_equal(space_move(space, 4 * MIB, PAGE_SIZE, there), OK);
    assert_int_equal(space->region_count, 3); /* joined with its neighbour there */
    end();
}

/* With no free frame, one, two, ...: nothing has changed until it succeeds. */
static void running_out_changes_nothing(void **state)
{
    enum status status = STATUS_NO_MEMORY;
    struct space *child;
    uint64_t frames = 0;
    uint64_t place = 0;

    (void)state;
    begin(4);
    assert_int_equal(space_map(space, &SPACE_AT(6 * MIB - PAGE_SIZE, 4 * MIB, read_write), NULL),
                     OK);
    assert_int_equal(space_map(space, &SPACE_AT(10 * MIB - PAGE_SIZE, PAGE_SIZE, read_only), NULL),
                     OK);
    assert_int_equal(space_protect(space, 6 * MIB - PAGE_SIZE, PAGE_SIZE, read_only), OK);
    assert_int_equal(space_protect(space, 6 * MIB - PAGE_SIZE, PAGE_SIZE, read_write), OK);
    for (uint64_t at = 6 * MIB - PAGE_SIZE; at < 8 * MIB; at += 64 * PAGE_SIZE)
        write_word(at, at);
    assert_int_equal(space_fork(space, &child), OK);
    for (; status == STATUS_NO_MEMORY; frames++) {
        while (page_reclaim_some())
            ;
        model_leave_frames(frames);
        status = space_remap_moving(space, 6 * MIB - PAGE_SIZE, 4 * MIB, 5 * MIB, &place);
        space_audit();
        if (status == STATUS_NO_MEMORY)
            assert_int_equal(place, 6 * MIB - PAGE_SIZE);
    }
    assert_int_equal(status, OK);
    assert_true(frames > 6);
    model_leave_frames(UINT64_MAX);
    for (uint64_t at = 6 * MIB - PAGE_SIZE; at < 8 * MIB; at += 64 * PAGE_SIZE)
        assert_int_equal(word_at(at - (6 * MIB - PAGE_SIZE) + place), at);
    space_destroy(child);
    end();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_move_with_what_they_hold),
        cmocka_unit_test(shared_pages_are_evicted_after_a_move),
        cmocka_unit_test(a_gibibyte_moves_by_one_entry),
        cmocka_unit_test(unsound_moves_are_refused),
        cmocka_unit_test(running_out_changes_nothing),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}

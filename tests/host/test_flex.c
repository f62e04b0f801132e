/* Flexpages: what lends, gifts and revokes do to spaces, one property a test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "paging/tree/table_access.h"
#include "swapdisk/area.h"
#include "tests/host/fake/machine.h"
#include "tests/host/model/space_model_host.h"
#include "vmm/fault/fault.h"
#include "vmm/flex/flex.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"
#include "vmm/section/section.h"
#include "vmm/space/commit.h"

#define MEMORY (32 * MIB)
#define SLOTS  512U
#define START  (4 * MIB)
#define OTHER  (64 * MIB + 5 * PAGE_SIZE)
#define PAGES  12U
#define SIZE   (PAGES * PAGE_SIZE)
#define SPACES 5U

#define CHAIN   64U
#define FAN_OUT 256U

static const struct rights read_write = {.write = true, .user = true};
static const struct rights read_only = {.user = true};
static const struct rights no_access = {.none = true};
static const struct fault_access read_access = {.from_user = true};
static const struct fault_access write_access = {.write = true, .from_user = true};

static struct space *spaces[SPACES];

static int set_up(void **state)
{
    (void)state;
    fake_clock_step_ns = UINT64_C(100000000); /* a wait that is in vain ends soon */
    return model_start_with_swap(MEMORY, SLOTS);
}

/* Space 0 has shared memory at START, with a number in each page; the others are empty. */
static void begin(void);
static void end(void);

static struct pte entry_at(struct space *space, uint64_t address)
{
    bool were_on = machine_interrupts_off();
    struct tree_place place = tree_walk(&space->tree, address);

    machine_interrupts_restore(were_on);
    return place.level > 1 ? pte_empty() : place.entry;
}

static uint8_t read(unsigned space, uint64_t address)
{
    return *model_byte(spaces[space], address, read_access);
}

static void write(unsigned space, uint64_t address, uint8_t value)
{
    *model_byte(spaces[space], address, write_access) = value;
}

static bool may(unsigned space, uint64_t address, struct fault_access access)
{
    return fault_resolve(spaces[space], address, access) == OK;
}

static enum status lend(unsigned from, uint64_t start, uint64_t pages, unsigned to, uint64_t at,
                        struct rights rights)
{
    return flex_lend(spaces[from], start, pages * PAGE_SIZE, spaces[to], at, rights);
}

static enum status revoke(unsigned space, uint64_t start, uint64_t pages, struct rights keep,
                          struct flex_taken *taken)
{
    return flex_revoke(spaces[space], start, pages * PAGE_SIZE, keep, false, taken);
}

static void begin(void)
{
    model_begin(1, 4);
    model_overcommit(OVERCOMMIT_ALWAYS);
    for (unsigned i = 0; i < SPACES; i++)
        assert_int_equal(space_create(&spaces[i]), OK);
    assert_int_equal(
        space_map(spaces[0], &SPACE_AT(START, SIZE, read_write, .flags = SPACE_SHARED), NULL), OK);
    for (unsigned i = 0; i < PAGES; i++)
        write(0, START + i * PAGE_SIZE, (uint8_t)(10 + i));
}

static void end(void)
{
    space_audit();
    for (unsigned i = 0; i < SPACES; i++) {
        if (spaces[i] != NULL)
            space_destroy(spaces[i]);
    }
    assert_int_equal(section_count(), 0);
    assert_int_equal(swap_references(), 0);
    assert_int_equal(commit_pages(), 0);
    model_end();
}

/* ---- lending ---- */

static void a_lend_shows_the_pages(void **state)
{
    (void)state;
    begin();
    assert_int_equal(lend(0, START + 2 * PAGE_SIZE, 4, 1, OTHER, read_write), OK);
    assert_int_equal(read(1, OTHER), 12);
    write(1, OTHER + 3 * PAGE_SIZE, 99);
    assert_int_equal(read(0, START + 5 * PAGE_SIZE), 99);
    assert_false(may(1, OTHER - 1, read_access));
    assert_false(may(1, OTHER + 4 * PAGE_SIZE, read_access));
    space_audit();
    end();
}

static void rights_only_narrow_along_a_chain(void **state)
{
    (void)state;
    begin();
    assert_int_equal(lend(0, START, PAGES, 1, OTHER, read_only), OK);
    assert_int_equal(lend(1, OTHER, PAGES, 2, START, read_write), OK);
    assert_true(may(2, START, read_access));
    assert_false(may(2, START, write_access));
    assert_int_equal(space_protect(spaces[2], START, SIZE, read_write), STATUS_DENIED);
    assert_int_equal(space_protect(spaces[1], OTHER, SIZE, read_write), STATUS_DENIED);
    assert_int_equal(space_protect(spaces[1], OTHER, SIZE, no_access), OK);
    assert_int_equal(space_protect(spaces[1], OTHER, SIZE, read_only), OK);
    assert_int_equal(space_protect(spaces[2], START, SIZE,
                                   (struct rights){.write = false, .execute = true, .user = true}),
                     STATUS_DENIED);
    end();
}

/* Space 3 borrows at two places of one lender, which borrows itself. */
static void pages_go_out_and_come_back(void **state)
{
    unsigned evicted;

    (void)state;
    begin();
    assert_int_equal(lend(0, START, PAGES, 1, OTHER, read_write), OK);
    assert_int_equal(lend(1, OTHER, PAGES, 3, START, read_write), OK);
    assert_int_equal(lend(1, OTHER, PAGES, 3, OTHER, read_only), OK);
    write(3, START, 77);
    do {
        assert_int_equal(reclaim_pages(16, &evicted), OK);
    } while (evicted > 0);
    assert_int_equal(pte_state(entry_at(spaces[3], START), 1), PTE_TICKET);
    assert_int_equal(read(3, OTHER), 77);
    assert_int_equal(read(0, START), 77);
    end();
}

static void what_cannot_be_lent_is_refused(void **state)
{
    struct section *section;

    (void)state;
    begin();
    assert_int_equal(lend(0, START + SIZE, 1, 1, OTHER, read_only), STATUS_NOT_FOUND);
    assert_int_equal(lend(0, START, PAGES + 1, 1, OTHER, read_only), STATUS_NOT_FOUND);
    assert_int_equal(lend(0, START, 1, 1, OTHER + 1, read_only), STATUS_RANGE);
    assert_int_equal(lend(0, START, 0, 1, OTHER, read_only), STATUS_RANGE);
    assert_int_equal(lend(0, START, 1, 1, 0, read_only), STATUS_RANGE);
    assert_int_equal(lend(0, START, 1, 1, OTHER, no_access), STATUS_DENIED);
    assert_int_equal(lend(0, START, 1, 0, START + PAGE_SIZE, read_only), STATUS_EXISTS);
    assert_int_equal(
        space_map(spaces[2], &SPACE_AT(START, SIZE, read_write, .flags = SPACE_GUARD), NULL), OK);
    assert_int_equal(lend(2, START, 1, 1, OTHER, read_only), STATUS_NOT_FOUND);
    assert_int_equal(section_create(&pager_zero, NULL, SIZE, read_write, &section), OK);
    assert_int_equal(
        space_map(spaces[3], &SPACE_AT(START, SIZE, read_write, .section = section), NULL), OK);
    assert_int_equal(lend(3, START, 1, 1, OTHER, read_only), STATUS_DENIED);
    section_close(section);
    end();
}

static void what_is_borrowed_does_not_grow(void **state)
{
    uint64_t place;

    (void)state;
    begin();
    assert_int_equal(lend(0, START, 4, 1, OTHER, read_write), OK);
    assert_int_equal(space_remap(spaces[1], OTHER, 4 * PAGE_SIZE, SIZE), STATUS_DENIED);
    assert_int_equal(
        space_map(spaces[1], &SPACE_AT(OTHER + 4 * PAGE_SIZE, PAGE_SIZE, read_write), NULL), OK);
    assert_int_equal(space_remap_moving(spaces[1], OTHER, 4 * PAGE_SIZE, SIZE, &place),
                     STATUS_DENIED);
    assert_int_equal(space_remap(spaces[1], OTHER, 4 * PAGE_SIZE, 2 * PAGE_SIZE), OK);
    assert_true(may(1, OTHER + PAGE_SIZE, write_access));
    assert_false(may(1, OTHER + 2 * PAGE_SIZE, read_access));
    end();
}

static void a_lender_has_a_limit(void **state)
{
    (void)state;
    begin();
    flex_set_limit(3);
    assert_int_equal(lend(0, START, 2, 1, OTHER, read_write), OK);
    assert_int_equal(lend(0, START, 1, 2, OTHER, read_only), OK);
    assert_int_equal(lend(0, START, 1, 3, OTHER, read_only), OK);
    assert_int_equal(lend(0, START, 1, 4, OTHER, read_only), STATUS_LIMIT);
    assert_int_equal(lend(1, OTHER, 1, 4, OTHER, read_only), OK);             /* another lender */
    assert_int_equal(space_unmap(spaces[1], OTHER, PAGE_SIZE), STATUS_LIMIT); /* a cut makes one */
    space_destroy(spaces[4]);
    assert_int_equal(space_fork(spaces[1], &spaces[4]), STATUS_LIMIT);
    assert_int_equal(space_unmap(spaces[3], OTHER, PAGE_SIZE), OK);
    assert_int_equal(space_fork(spaces[1], &spaces[4]), OK);
    flex_set_limit(0);
    end();
}

/* ---- revoking ---- */

static void a_revoke_reaches_all_that_descends(void **state)
{
    struct flex_taken taken;

    (void)state;
    begin();
    assert_int_equal(lend(0, START, PAGES, 1, OTHER, read_write), OK);
    assert_int_equal(lend(1, OTHER + 2 * PAGE_SIZE, 8, 2, START, read_write), OK);
    assert_int_equal(lend(2, START, 8, 3, OTHER, read_only), OK);
    assert_int_equal(revoke(1, OTHER, PAGES, no_access, &taken), OK);
    assert_int_equal(taken.mappings, 2);
    assert_int_equal(taken.flushes, 1);
    assert_false(taken.accessed || taken.dirty);
    assert_true(may(1, OTHER + 3 * PAGE_SIZE, write_access));
    assert_false(may(2, START, read_access));
    assert_false(may(3, OTHER, read_access));
    assert_int_equal(space_map(spaces[2], &SPACE_AT(START, SIZE, read_write), NULL), OK);
    assert_int_equal(revoke(0, START, PAGES, no_access, &taken), OK);
    assert_int_equal(taken.mappings, 1);
    assert_int_equal(revoke(0, START, PAGES, no_access, &taken), OK);
    assert_int_equal(taken.mappings + taken.flushes, 0);
    end();
}

/* The page's frame is marked, too, so that the D bit of a leaf that is gone is not lost. */
static void a_revoke_returns_use(void **state)
{
    struct flex_taken taken;
    struct pfn page;

    (void)state;
    begin();
    page = pte_frame(entry_at(spaces[0], START));
    assert_int_equal(lend(0, START, 2, 1, OTHER, read_write), OK);
    assert_int_equal(read(1, OTHER), 10);
    assert_int_equal(revoke(0, START, 2, no_access, &taken), OK);
    assert_true(taken.accessed && !taken.dirty);
    assert_int_equal(lend(0, START, 2, 1, OTHER, read_write), OK);
    frame_record(page)->flags &= (uint8_t)~FRAME_DIRTY;
    write(1, OTHER, 3);
    assert_int_equal(revoke(0, START, 2, read_only, &taken), OK);
    assert_true(taken.accessed && taken.dirty);
    assert_int_equal(revoke(0, START, 2, no_access, &taken), OK);
    assert_true(taken.accessed && taken.dirty);
    assert_true((frame_record(page)->flags & FRAME_DIRTY) != 0);
    end();
}

static void a_part_is_revoked_by_cutting_all_that_descends(void **state)
{
    struct flex_taken taken;

    (void)state;
    begin();
    assert_int_equal(lend(0, START, PAGES, 1, OTHER, read_write), OK);
    assert_int_equal(lend(1, OTHER, PAGES, 2, START, read_write), OK);
    assert_int_equal(lend(2, START + 3 * PAGE_SIZE, 2, 3, OTHER, read_write), OK);
    for (unsigned i = 1; i < 3; i++)
        write(i, (i == 1 ? OTHER : START) + 4 * PAGE_SIZE, 50);
    assert_int_equal(revoke(0, START + 4 * PAGE_SIZE, 3, no_access, &taken), OK);
    assert_int_equal(taken.mappings, 3);
    for (unsigned page = 0; page < PAGES; page++) {
        bool gone = page >= 4 && page < 7;

        assert_int_equal(may(1, OTHER + page * PAGE_SIZE, write_access), !gone);
        assert_int_equal(may(2, START + page * PAGE_SIZE, write_access), !gone);
    }
    assert_true(may(3, OTHER, write_access));
    assert_false(may(3, OTHER + PAGE_SIZE, read_access));
    space_audit();
    end();
}

static void rights_are_revoked_for_good(void **state)
{
    struct flex_taken taken;

    (void)state;
    begin();
    assert_int_equal(lend(0, START, PAGES, 1, OTHER, read_write), OK);
    assert_int_equal(lend(1, OTHER, PAGES, 2, START, read_write), OK);
    assert_int_equal(space_protect(spaces[2], START, PAGE_SIZE, no_access), OK);
    write(1, OTHER, 40);
    write(2, START + 6 * PAGE_SIZE, 41);
    assert_int_equal(revoke(0, START, PAGES, read_only, &taken), OK);
    assert_int_equal(taken.mappings, 2);
    assert_int_equal(taken.flushes, 1);
    assert_false(may(1, OTHER, write_access));
    assert_false(may(2, START + 6 * PAGE_SIZE, write_access));
    assert_false(may(2, START, read_access)); /* none stays none */
    assert_int_equal(read(2, START + 6 * PAGE_SIZE), 41);
    assert_int_equal(space_protect(spaces[1], OTHER, SIZE, read_write), STATUS_DENIED);
    assert_int_equal(lend(1, OTHER, 1, 3, OTHER, read_write), OK);
    assert_false(may(3, OTHER, write_access));
    assert_true(may(0, START, write_access));
    assert_int_equal(revoke(0, START, PAGES, read_only, &taken), OK);
    assert_int_equal(taken.mappings, 0); /* nothing to lose */
    end();
}

static void own_mappings_go_too_if_asked(void **state)
{
    struct flex_taken taken;

    (void)state;
    begin();
    assert_int_equal(lend(0, START, PAGES, 1, OTHER, read_write), OK);
    assert_int_equal(
        flex_revoke(spaces[0], START + PAGE_SIZE, 2 * PAGE_SIZE, no_access, true, &taken), OK);
    assert_int_equal(taken.mappings, 2);
    assert_int_equal(taken.flushes, 1);
    assert_true(taken.dirty);
    assert_false(may(0, START + PAGE_SIZE, read_access));
    assert_false(may(1, OTHER + 2 * PAGE_SIZE, read_access));
    assert_int_equal(read(0, START), 10);
    assert_int_equal(read(1, OTHER + 3 * PAGE_SIZE), 13);
    assert_int_equal(flex_revoke(spaces[0], START, SIZE, no_access, true, NULL), STATUS_NOT_FOUND);
    assert_int_equal(
        flex_revoke(spaces[0], START + 3 * PAGE_SIZE, PAGE_SIZE, read_only, true, NULL), OK);
    assert_false(may(0, START + 3 * PAGE_SIZE, write_access));
    end();
}

static void a_lender_that_unmaps_revokes(void **state)
{
    (void)state;
    begin();
    assert_int_equal(lend(0, START, PAGES, 1, OTHER, read_write), OK);
    assert_int_equal(lend(1, OTHER, PAGES, 2, START, read_write), OK);
    write(2, START + 5 * PAGE_SIZE, 1);
    assert_int_equal(space_unmap(spaces[1], OTHER + 5 * PAGE_SIZE, PAGE_SIZE), OK);
    assert_false(may(2, START + 5 * PAGE_SIZE, read_access));
    assert_int_equal(read(2, START + 6 * PAGE_SIZE), 16);
    assert_int_equal(read(0, START + 5 * PAGE_SIZE), 1);
    assert_int_equal(space_remap(spaces[1], OTHER, 5 * PAGE_SIZE, PAGE_SIZE), OK);
    assert_int_equal(read(2, START), 10);
    assert_false(may(2, START + PAGE_SIZE, read_access));
    end();
}

static void spaces_end_in_any_order(void **state)
{
    (void)state;
    for (unsigned first = 0; first < 3; first++) {
        begin();
        assert_int_equal(lend(0, START, PAGES, 1, OTHER, read_write), OK);
        assert_int_equal(lend(1, OTHER, PAGES, 2, START, read_write), OK);
        write(2, START, 5);
        space_destroy(spaces[first]);
        spaces[first] = NULL;
        for (unsigned i = 0; i < 3; i++) {
            if (i != first)
                assert_int_equal(may(i, i == 1 ? OTHER : START, read_access), i < first);
        }
        end();
    }
}

static void a_move_keeps_what_is_lent(void **state)
{
    uint64_t apart;

    (void)state;
    begin();
    assert_int_equal(lend(0, START, PAGES, 1, OTHER, read_write), OK);
    assert_int_equal(lend(1, OTHER, PAGES, 2, START, read_write), OK);
    apart = tree_move_alignment(&spaces[1]->tree, 2 * PAGE_SIZE);
    write(2, START + 3 * PAGE_SIZE, 8);
    assert_int_equal(space_move(spaces[1], OTHER + 3 * PAGE_SIZE, 2 * PAGE_SIZE,
                                OTHER + 3 * PAGE_SIZE + 64 * apart),
                     OK);
    assert_int_equal(read(1, OTHER + 3 * PAGE_SIZE + 64 * apart), 8);
    space_audit();
    assert_int_equal(revoke(0, START + 3 * PAGE_SIZE, 1, no_access, NULL), OK);
    assert_false(may(1, OTHER + 3 * PAGE_SIZE + 64 * apart, read_access));
    assert_true(may(1, OTHER + 4 * PAGE_SIZE + 64 * apart, read_access));
    assert_false(may(2, START + 3 * PAGE_SIZE, read_access));
    assert_true(may(2, START + 4 * PAGE_SIZE, read_access));
    end();
}

static void a_fork_of_a_borrower_borrows(void **state)
{
    struct flex_taken taken;

    (void)state;
    begin();
    assert_int_equal(lend(0, START, PAGES, 1, OTHER, read_write), OK);
    assert_int_equal(lend(1, OTHER, PAGES, 2, START, read_write), OK);
    write(1, OTHER, 7);
    space_destroy(spaces[4]);
    assert_int_equal(space_fork(spaces[1], &spaces[4]), OK);
    write(4, OTHER, 8);
    assert_int_equal(read(2, START), 8);
    assert_int_equal(revoke(4, OTHER, PAGES, no_access, &taken), OK);
    assert_int_equal(taken.mappings, 0); /* the parent has lent, not its child */
    assert_int_equal(revoke(0, START, PAGES, no_access, &taken), OK);
    assert_int_equal(taken.mappings, 3);
    assert_false(may(4, OTHER, read_access));
    assert_false(may(2, START, read_access));
    end();
}

static void a_fork_of_a_lender_is_none(void **state)
{
    struct flex_taken taken;

    (void)state;
    begin();
    assert_int_equal(lend(0, START, PAGES, 1, OTHER, read_write), OK);
    space_destroy(spaces[4]);
    assert_int_equal(space_fork(spaces[0], &spaces[4]), OK);
    space_destroy(spaces[0]);
    spaces[0] = NULL;
    assert_false(may(1, OTHER, read_access));
    assert_int_equal(read(4, START), 10);
    assert_int_equal(lend(4, START, PAGES, 1, OTHER, read_write), OK);
    assert_int_equal(revoke(4, START, PAGES, no_access, &taken), OK);
    assert_int_equal(taken.mappings, 1);
    end();
}

/* ---- giving ---- */

static enum status give(unsigned from, uint64_t start, uint64_t pages, unsigned to, uint64_t at,
                        struct rights rights)
{
    return flex_give(spaces[from], start, pages * PAGE_SIZE, spaces[to], at, rights);
}

static void what_is_given_takes_its_lends_along(void **state)
{
    struct flex_taken taken;

    (void)state;
    begin();
    assert_int_equal(lend(0, START, PAGES, 1, OTHER, read_write), OK);
    assert_int_equal(lend(1, OTHER, PAGES, 2, START, read_write), OK);
    assert_int_equal(give(1, OTHER + 2 * PAGE_SIZE, 4, 3, START, read_write), OK);
    assert_false(may(1, OTHER + 2 * PAGE_SIZE, read_access));
    assert_true(may(1, OTHER + 6 * PAGE_SIZE, read_access));
    assert_int_equal(read(3, START), 12);
    write(3, START + PAGE_SIZE, 70);
    assert_int_equal(read(2, START + 3 * PAGE_SIZE), 70);
    space_audit();
    assert_int_equal(revoke(1, OTHER, 2, no_access, NULL), OK);
    assert_true(may(2, START + 3 * PAGE_SIZE, read_access));
    assert_int_equal(revoke(3, START, 4, no_access, &taken), OK);
    assert_int_equal(taken.mappings, 1);
    assert_false(may(2, START + 3 * PAGE_SIZE, read_access));
    assert_int_equal(revoke(0, START, PAGES, no_access, &taken), OK);
    assert_false(may(3, START, read_access));
    end();
}

static void first_hand_memory_is_given_for_good(void **state)
{
    (void)state;
    begin();
    assert_int_equal(lend(0, START, PAGES, 2, OTHER, read_write), OK);
    assert_int_equal(give(0, START, PAGES, 1, OTHER, read_only), OK);
    assert_false(may(0, START, read_access));
    assert_true(may(1, OTHER, read_access));
    assert_int_equal(space_protect(spaces[1], OTHER, SIZE, read_write), STATUS_DENIED);
    assert_true(may(2, OTHER, read_access)); /* lent by space 1 from now on, with its rights */
    assert_false(may(2, OTHER, write_access));
    space_destroy(spaces[0]);
    spaces[0] = NULL;
    assert_int_equal(read(1, OTHER), 10);
    assert_int_equal(revoke(1, OTHER, PAGES, no_access, NULL), OK);
    assert_false(may(2, OTHER, read_access));
    end();
}

/* The range that is given has been lent to a part of itself. */
static void a_space_gives_what_it_lent_to_itself(void **state)
{
    (void)state;
    begin();
    assert_int_equal(lend(0, START, PAGES, 0, START + SIZE, read_write), OK);
    assert_int_equal(give(0, START, 2 * PAGES, 1, START, read_write), OK);
    assert_false(may(0, START, read_access) || may(0, START + SIZE, read_access));
    write(1, START + SIZE, 88);
    assert_int_equal(read(1, START), 88);
    assert_int_equal(revoke(1, START, PAGES, no_access, NULL), OK);
    assert_false(may(1, START + SIZE, read_access));
    assert_int_equal(lend(1, START, PAGES, 1, START + SIZE, read_write), OK);
    assert_int_equal(flex_revoke(spaces[1], START, 2 * SIZE, no_access, true, NULL), OK);
    assert_false(may(1, START, read_access) || may(1, START + SIZE, read_access));
    end();
}

static void a_gift_is_refused_as_a_whole(void **state)
{
    (void)state;
    begin();
    assert_int_equal(lend(0, START, PAGES, 1, OTHER, read_write), OK);
    assert_int_equal(lend(1, OTHER, PAGES, 2, START, read_write), OK);
    assert_int_equal(lend(1, OTHER, PAGES, 3, START, read_write), OK);
    flex_set_limit(2);
    assert_int_equal(lend(4, START, 1, 3, OTHER, read_write), STATUS_NOT_FOUND);
    assert_int_equal(give(1, OTHER, PAGES, 4, START, read_only), STATUS_LIMIT);
    flex_set_limit(1);
    assert_int_equal(give(1, OTHER, PAGES, 4, START, read_only), STATUS_LIMIT);
    flex_set_limit(0);
    assert_int_equal(give(1, OTHER, PAGES, 2, START, read_only), STATUS_EXISTS);
    assert_false(may(4, START, read_access));
    assert_true(may(1, OTHER, write_access));
    assert_true(may(3, START, write_access));
    space_audit();
    assert_int_equal(give(1, OTHER, PAGES, 4, START, read_only), OK);
    assert_false(may(3, START, write_access));
    end();
}

/* ---- many ---- */

/* Returns the entries of a space that map or may map a page in [start, end). */
static uint64_t entries_in(struct space *space, uint64_t start, uint64_t end)
{
    uint64_t found = 0;

    while (start < end) {
        bool were_on = machine_interrupts_off();
        struct tree_place place = tree_walk(&space->tree, start);
        uint64_t span = pte_span(place.level);

        machine_interrupts_restore(were_on);
        found += pte_state(place.entry, place.level) != PTE_EMPTY;
        start = round_down(start, span) + span;
    }
    return found;
}

/* A chain of lends between places of two spaces; each of its places lends to a fan of others. */
static void one_flush_serves_a_chain_with_fans(void **state)
{
    const uint64_t stride = 64 * PAGE_SIZE;
    const uint64_t fans = UINT64_C(1) << 32;
    struct flex_taken taken;
    uint64_t before;

    (void)state;
    begin();
    for (unsigned i = 0; i < CHAIN; i++) {
        unsigned from = i % 2;
        uint64_t at = i == 0 ? START : OTHER + i * stride;

        assert_int_equal(lend(from, at, 2, 1 - from, OTHER + (i + 1) * stride, read_write), OK);
    }
    for (unsigned i = 0; i < FAN_OUT; i++)
        assert_int_equal(lend(CHAIN % 2, OTHER + CHAIN * stride, 2, 2 + i % 3,
                              fans + i * 3 * PAGE_SIZE, read_only),
                         OK);
    write(CHAIN % 2, OTHER + CHAIN * stride, 200);
    for (unsigned i = 0; i < FAN_OUT; i++)
        assert_int_equal(read(2 + i % 3, fans + i * 3 * PAGE_SIZE), 200);
    space_audit();
    before = tlb_counts().everything;
    assert_int_equal(revoke(0, START, 2, no_access, &taken), OK);
    assert_int_equal(tlb_counts().everything, before + 1);
    assert_int_equal(taken.mappings, CHAIN + FAN_OUT);
    assert_int_equal(taken.flushes, 1);
    assert_true(taken.accessed && taken.dirty);
    for (unsigned i = 0; i < SPACES; i++)
        assert_int_equal(entries_in(spaces[i], OTHER, 2 * fans), 0);
    assert_int_equal(read(0, START), 200);
    end();
}

/* A whole table of pages, and parts of others: more than a batch holds. */
static void many_pages_go_with_one_flush(void **state)
{
    const uint64_t pages = 1100;
    const uint64_t start = GIB + 7 * PAGE_SIZE;
    struct flex_taken taken;
    uint64_t before;

    (void)state;
    begin();
    assert_int_equal(
        space_map(spaces[1], &SPACE_AT(start, pages * PAGE_SIZE, read_write, .flags = SPACE_SHARED),
                  NULL),
        OK);
    assert_int_equal(lend(1, start, pages, 2, OTHER, read_write), OK);
    assert_int_equal(lend(2, OTHER, pages, 3, start, read_write), OK);
    for (uint64_t i = 0; i < pages; i++) {
        write(2, OTHER + i * PAGE_SIZE, (uint8_t)i);
        assert_int_equal(read(3, start + i * PAGE_SIZE), (uint8_t)i);
    }
    before = tlb_counts().everything;
    assert_int_equal(revoke(1, start, pages, read_only, &taken), OK);
    assert_int_equal(tlb_counts().everything, before + 1);
    assert_int_equal(revoke(1, start, pages, no_access, &taken), OK);
    assert_int_equal(tlb_counts().everything, before + 2);
    assert_int_equal(taken.flushes, 1);
    assert_int_equal(read(1, start + 5 * PAGE_SIZE), 5);
    end();
}

static bool flushed_behind_the_lock;

static void look_at_flush(void)
{
    flushed_behind_the_lock =
        flushed_behind_the_lock || (machine_cpu() == 1 && spaces[1]->lock.state != MUTEX_FREE);
}

/* With the recursive slot a processor has translations of the tables of the space that it runs. If
 * a revoke takes a table out, they end before the space is unlocked: the next call may use them. */
static void tables_are_flushed_behind_the_lock(void **state)
{
    (void)state;
    begin();
    assert_int_equal(lend(0, START, PAGES, 1, OTHER, read_write), OK);
    assert_int_equal(read(1, OTHER), 10);
    table_access_choose(TABLES_RECURSIVE);
    fake_processors = 3;
    spaces[1]->tree.processors = 2;
    flushed_behind_the_lock = false;
    fake_on_flush_space = look_at_flush;
    assert_int_equal(revoke(0, START, PAGES, no_access, NULL), OK);
    fake_on_flush_space = NULL;
    spaces[1]->tree.processors = 0;
    fake_processors = 1;
    table_access_choose(TABLES_DIRECT);
    assert_true(flushed_behind_the_lock);
    end();
}

/* With so many frames free, each call succeeds, or changes nothing. */
static void short_memory_leaves_nothing_half_done(void **state)
{
    unsigned refused[3] = {0};

    (void)state;
    for (unsigned frames = 0; frames < 40; frames++) {
        struct flex_taken taken = {0};
        enum status lent;
        enum status given;
        enum status revoked;
        uint64_t tables;

        begin();
        assert_int_equal(lend(0, START, PAGES, 1, OTHER, read_write), OK);
        assert_int_equal(lend(1, OTHER, 8, 2, 513 * GIB, read_write), OK);
        assert_true(may(2, 513 * GIB, write_access));
        space_destroy(spaces[4]);
        assert_int_equal(space_fork(spaces[2], &spaces[4]), OK);
        model_leave_frames(frames);
        lent = lend(0, START + PAGE_SIZE, 4, 3, 1025 * GIB, read_only);
        given = give(1, OTHER + 4 * PAGE_SIZE, 4, 3, 2049 * GIB, read_only);
        tables = pmm_usage().by_kind[FRAME_TABLE];
        revoked = revoke(0, START + PAGE_SIZE, 1, no_access, &taken);
        /* The tables of what is borrowed are own. Regions and mappings that are cut may need a
         * frame. */
        assert_true(pmm_usage().by_kind[FRAME_TABLE] <= tables);
        assert_true(revoked == OK || pmm_usage().by_kind[FRAME_FREE] < 2);
        assert_true((lent == OK || lent == STATUS_NO_MEMORY) &&
                    (given == OK || given == STATUS_NO_MEMORY) &&
                    (revoked == OK || revoked == STATUS_NO_MEMORY));
        refused[0] += lent != OK;
        refused[1] += given != OK;
        refused[2] += revoked != OK;
        space_audit();
        model_leave_frames(1000);
        assert_int_equal(may(3, 1026 * GIB - GIB, read_access), lent == OK && revoked != OK);
        assert_int_equal(may(1, OTHER + 4 * PAGE_SIZE, read_access), given != OK);
        assert_int_equal(may(2, 513 * GIB + 5 * PAGE_SIZE, write_access), given != OK);
        assert_int_equal(may(4, 513 * GIB + PAGE_SIZE, write_access), revoked != OK);
        end();
    }
    printf("refused: %u lends, %u gifts, %u revokes\n", refused[0], refused[1], refused[2]);
    assert_in_range(refused[0], 1, 39);
    assert_in_range(refused[1], 1, 39);
    assert_in_range(refused[2], 0, 39);
}

/* Whatever calls found no memory before, the end of a lender needs none. */
static void a_lender_ends_without_memory(void **state)
{
    unsigned refused[2] = {0};

    (void)state;
    for (unsigned frames = 0; frames < 40; frames++) {
        struct flex_taken taken;

        begin();
        assert_int_equal(lend(0, START, PAGES, 1, OTHER, read_write), OK);
        assert_int_equal(lend(1, OTHER, 8, 2, 513 * GIB + 4 * PAGE_SIZE, read_write), OK);
        assert_true(may(2, 513 * GIB + 5 * PAGE_SIZE, write_access));
        space_destroy(spaces[3]);
        space_destroy(spaces[4]);
        spaces[4] = NULL;
        assert_int_equal(space_fork(spaces[2], &spaces[3]), OK);
        model_leave_frames(frames);
        if (space_fork(spaces[2], &spaces[4]) != OK) {
            spaces[4] = NULL;
            refused[0]++;
        }
        refused[1] += revoke(0, START + 3 * PAGE_SIZE, 1, read_only, &taken) != OK;
        model_leave_frames(0);
        space_destroy(spaces[0]);
        spaces[0] = NULL;
        model_leave_frames(1000);
        assert_false(may(1, OTHER, read_access));
        for (unsigned i = 2; i <= (spaces[4] != NULL ? 4U : 3U); i++)
            assert_false(may(i, 513 * GIB + 5 * PAGE_SIZE, read_access));
        end();
    }
    printf("refused: %u forks, %u revokes\n", refused[0], refused[1]);
    assert_in_range(refused[0], 1, 39);
}

/* A cut inside a table that a fork shares: if there is no memory to copy it, nothing is cut. */
static void a_lender_ends_after_a_cut_without_memory(void **state)
{
    const uint64_t pages = 6 * MIB / PAGE_SIZE;
    unsigned refused = 0;

    (void)state;
    for (unsigned frames = 0; frames < 40; frames++) {
        begin();
        assert_int_equal(
            space_map(spaces[1], &SPACE_AT(GIB, 6 * MIB, read_write, .flags = SPACE_SHARED), NULL),
            OK);
        assert_int_equal(lend(1, GIB, pages, 2, GIB, read_write), OK);
        for (unsigned i = 0; i < 3; i++)
            assert_true(may(2, GIB + i * 2 * MIB + PAGE_SIZE, write_access));
        space_destroy(spaces[3]);
        assert_int_equal(space_fork(spaces[2], &spaces[3]), OK);
        model_leave_frames(frames);
        refused += revoke(1, GIB + 3 * MIB, 1, no_access, NULL) != OK;
        model_leave_frames(0);
        space_destroy(spaces[1]);
        spaces[1] = NULL;
        model_leave_frames(1000);
        for (unsigned i = 2; i < 4; i++)
            assert_false(may(i, GIB + PAGE_SIZE, read_access));
        end();
    }
    printf("refused: %u revokes\n", refused);
    assert_in_range(refused, 1, 39);
}

/* Unwiring a range leaves the mappings in it apart that borrow: each is revoked alone. */
static void what_is_unwired_stays_apart(void **state)
{
    (void)state;
    begin();
    assert_int_equal(space_map(spaces[1], &SPACE_AT(OTHER, PAGE_SIZE, read_write), NULL), OK);
    assert_int_equal(lend(0, START, 4, 1, OTHER + PAGE_SIZE, read_write), OK);
    assert_int_equal(lend(0, START + 4 * PAGE_SIZE, 4, 1, OTHER + 5 * PAGE_SIZE, read_write), OK);
    assert_int_equal(space_wire(spaces[1], OTHER, PAGE_SIZE), OK);
    assert_int_equal(space_unwire(spaces[1], OTHER, 9 * PAGE_SIZE), OK);
    space_audit();
    assert_int_equal(revoke(0, START, 4, no_access, NULL), OK);
    assert_false(may(1, OTHER + PAGE_SIZE, read_access));
    assert_int_equal(read(1, OTHER + 5 * PAGE_SIZE), 14);
    end();
}

/* A revoke of a space's own memory that comes to the limit of its regions leaves them as they
 * were. */
static void a_refused_revoke_leaves_regions_whole(void **state)
{
    const uint64_t behind = START + SIZE;
    uint32_t regions;

    (void)state;
    begin();
    assert_int_equal(
        space_map(spaces[0], &SPACE_AT(behind, SIZE, read_write, .flags = SPACE_SHARED), NULL), OK);
    regions = spaces[0]->region_count;
    for (uint32_t more = 0; more < 3; more++) {
        space_set_region_limit(regions + more);
        assert_int_equal(flex_revoke(spaces[0], START + 4 * PAGE_SIZE, SIZE, no_access, true, NULL),
                         STATUS_LIMIT);
        space_audit();
        assert_int_equal(spaces[0]->region_count, regions);
        assert_int_equal(read(0, START + 4 * PAGE_SIZE), 14);
    }
    space_set_region_limit(0);
    assert_int_equal(flex_revoke(spaces[0], START + 4 * PAGE_SIZE, SIZE, no_access, true, NULL),
                     OK);
    assert_int_equal(read(0, START + 3 * PAGE_SIZE), 13);
    end();
}

/* An unmap by a lender that finds no memory for its own tables has revoked nothing. */
static void an_unmap_without_memory_revokes_nothing(void **state)
{
    unsigned refused[2] = {0};

    (void)state;
    for (unsigned frames = 0; frames < 40; frames++) {
        enum status unmapped;
        enum status shrunk;

        begin();
        assert_int_equal(lend(0, START, PAGES, 1, OTHER, read_write), OK);
        space_destroy(spaces[4]);
        assert_int_equal(space_fork(spaces[0], &spaces[4]), OK);
        model_leave_frames(frames);
        unmapped = space_unmap(spaces[0], START + PAGE_SIZE, 2 * PAGE_SIZE);
        shrunk = space_remap(spaces[0], START + 4 * PAGE_SIZE, 8 * PAGE_SIZE, 4 * PAGE_SIZE);
        assert_true((unmapped == OK || unmapped == STATUS_NO_MEMORY) &&
                    (shrunk == OK || shrunk == STATUS_NO_MEMORY));
        refused[0] += unmapped != OK;
        refused[1] += shrunk != OK;
        space_audit();
        model_leave_frames(1000);
        assert_int_equal(may(1, OTHER + 2 * PAGE_SIZE, read_access), unmapped != OK);
        assert_int_equal(may(0, START + 2 * PAGE_SIZE, read_access), unmapped != OK);
        assert_int_equal(may(1, OTHER + 9 * PAGE_SIZE, read_access), shrunk != OK);
        assert_true(may(1, OTHER + 3 * PAGE_SIZE, write_access));
        end();
    }
    printf("refused: %u unmaps, %u times less\n", refused[0], refused[1]);
    assert_in_range(refused[0], 1, 39);
    assert_in_range(refused[1], 1, 39);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lend_shows_the_pages),
        cmocka_unit_test(rights_only_narrow_along_a_chain),
        cmocka_unit_test(pages_go_out_and_come_back),
        cmocka_unit_test(what_cannot_be_lent_is_refused),
        cmocka_unit_test(what_is_borrowed_does_not_grow),
        cmocka_unit_test(a_lender_has_a_limit),
        cmocka_unit_test(a_revoke_reaches_all_that_descends),
        cmocka_unit_test(a_revoke_returns_use),
        cmocka_unit_test(a_part_is_revoked_by_cutting_all_that_descends),
        cmocka_unit_test(rights_are_revoked_for_good),
        cmocka_unit_test(own_mappings_go_too_if_asked),
        cmocka_unit_test(a_lender_that_unmaps_revokes),
        cmocka_unit_test(spaces_end_in_any_order),
        cmocka_unit_test(a_move_keeps_what_is_lent),
        cmocka_unit_test(a_fork_of_a_borrower_borrows),
        cmocka_unit_test(a_fork_of_a_lender_is_none),
        cmocka_unit_test(what_is_given_takes_its_lends_along),
        cmocka_unit_test(first_hand_memory_is_given_for_good),
        cmocka_unit_test(a_space_gives_what_it_lent_to_itself),
        cmocka_unit_test(a_gift_is_refused_as_a_whole),
        cmocka_unit_test(one_flush_serves_a_chain_with_fans),
        cmocka_unit_test(many_pages_go_with_one_flush),
        cmocka_unit_test(tables_are_flushed_behind_the_lock),
        cmocka_unit_test(short_memory_leaves_nothing_half_done),
        cmocka_unit_test(what_is_unwired_stays_apart),
        cmocka_unit_test(a_refused_revoke_leaves_regions_whole),
        cmocka_unit_test(an_unmap_without_memory_revokes_nothing),
        cmocka_unit_test(a_lender_ends_without_memory),
        cmocka_unit_test(a_lender_ends_after_a_cut_without_memory),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}

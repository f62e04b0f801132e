/* First touches of resident pages of sections on the fast path: what it links, what it leaves to
 * the slow path, and what a snapshot or a cut changes for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "cpu/trap/trap.h"
#include "swapdisk/area.h"
#include "tests/host/fake/machine.h"
#include "tests/host/model/space_model_host.h"
#include "vmm/fault/fault.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"
#include "vmm/section/mapping.h"
#include "vmm/section/section.h"
#include "vmm/space/commit.h"

#define MEMORY (16 * MIB)
#define SLOTS  512U
#define START  (4 * MIB)
#define PAGES  600U
#define SIZE   (PAGES * PAGE_SIZE)
#define FAR    512U /* the first page of the section's second leaf table */

#define READ  ((uint64_t)PF_US)
#define WRITE ((uint64_t)(PF_US | PF_WR))

static const struct rights read_write = {.write = true, .user = true};
static const struct rights read_only = {.user = true};
static const struct fault_access write_access = {.write = true, .from_user = true};

static struct section *section;
static struct space *space;

static int set_up(void **state)
{
    (void)state;
    return model_start_with_swap(MEMORY, SLOTS);
}

static uint64_t at(unsigned page)
{
    return START + page * PAGE_SIZE;
}

static void map_part(uint64_t start, unsigned first, unsigned pages, uint32_t flags)
{
    assert_int_equal(space_map(space,
                               &SPACE_AT(start, pages * PAGE_SIZE, read_write, .flags = flags,
                                         .section = section, .offset = first * PAGE_SIZE),
                               NULL),
                     OK);
}

static void begin(void)
{
    model_begin(1, 4);
    model_overcommit(OVERCOMMIT_ALWAYS);
    assert_int_equal(section_create(&pager_zero, NULL, SIZE, read_write, &section), OK);
    assert_int_equal(space_create(&space), OK);
    map_part(START, 0, PAGES, SPACE_SHARED);
    space_switch(space);
}

static void end(void)
{
    space_audit();
    space_switch(NULL);
    space_destroy(space);
    section_close(section);
    assert_int_equal(section_count(), 0);
    assert_int_equal(swap_references(), 0);
    model_end();
}

static struct tree_place place_at(uint64_t address)
{
    bool were_on = machine_interrupts_off();
    struct tree_place place = tree_walk(&space->tree, address);

    machine_interrupts_restore(were_on);
    return place;
}

static struct pte entry_at(uint64_t address)
{
    struct tree_place place = place_at(address);

    assert_int_equal(place.level, 1);
    return pte_read((const struct pte *)frame_pointer(place.table) + place.index);
}

static bool links(uint64_t address, uint64_t error)
{
    bool were_on = machine_interrupts_off();
    bool linked = fault_fast_any(address, error);

    machine_interrupts_restore(were_on);
    return linked;
}

/* Makes a page resident in the section, with its number in it. */
static void fill(unsigned page)
{
    uint64_t value = page + 1;
    uint64_t done;

    assert_int_equal(section_write(section, page * PAGE_SIZE, &value, sizeof(value), &done), OK);
}

static uint64_t value_at(uint64_t address)
{
    return *(const uint64_t *)frame_pointer(pte_frame(entry_at(address)));
}

static void set_around(unsigned pages, uint64_t start, uint64_t size)
{
    space_set_around(pages);
    assert_int_equal(space_advise(space, start, size, SPACE_SEQUENTIAL), OK);
    space_set_around(16);
}

/* ---- one page ---- */

static void a_resident_page_is_linked(void **state)
{
    struct fault_counts before;
    struct pfn page;

    (void)state;
    begin();
    for (unsigned i = 0; i < 4; i++)
        fill(i);
    fill(FAR);
    before = space_faults(space);
    assert_true(links(at(0), READ)); /* and the tables are made */
    assert_int_equal(space_faults(space).path, before.path + 1);
    assert_true(links(at(1) + 123, READ));
    assert_true(links(at(2), WRITE));
    assert_true(links(at(FAR), WRITE)); /* another table of the section */
    assert_true(links(at(3), READ));
    assert_int_equal(space_faults(space).shared, before.shared + 5);
    assert_int_equal(value_at(at(1)), 2);
    assert_int_equal(value_at(at(3)), 4);
    assert_int_equal(value_at(at(FAR)), FAR + 1);
    page = pte_frame(entry_at(at(1)));
    assert_int_equal(entry_at(at(1)).word, pte_leaf(page, 1, PTE_SHARED, read_write).word);
    assert_int_equal(frame_record(page)->count, 2);
    assert_int_equal(frame_record(place_at(at(1)).table)->table.held, 4);
    end();
}

static void what_is_not_resident_is_for_the_slow_path(void **state)
{
    struct pte ticket;
    unsigned evicted;

    (void)state;
    begin();
    assert_false(links(at(5), READ)); /* the tables are made */
    ticket = entry_at(at(5));
    assert_int_equal(pte_state(ticket, 1), PTE_TICKET);
    fill(5);
    assert_true(links(at(5), READ));
    do {
        assert_int_equal(reclaim_pages(16, &evicted), OK);
    } while (evicted > 0);
    assert_int_equal(entry_at(at(5)).word, ticket.word);
    assert_false(links(at(5), READ));
    assert_int_equal(entry_at(at(5)).word, ticket.word);
    assert_int_equal(fault_resolve(space, at(5), write_access), OK);
    assert_int_equal(value_at(at(5)), 6);
    end();
}

static void rights_decide_as_before(void **state)
{
    (void)state;
    begin();
    fill(0);
    assert_int_equal(space_protect(space, START, SIZE, read_only), OK);
    assert_false(links(at(0), WRITE));
    assert_true(links(at(0), READ));
    assert_int_equal(entry_at(at(0)).word & PTE_RW, 0);
    end();
}

/* A frame whose count is nearly saturated is not counted here. */
static void a_count_does_not_run_over(void **state)
{
    struct frame *record;
    uint32_t count;

    (void)state;
    begin();
    fill(0);
    fill(1);
    assert_true(links(at(0), READ));
    record = frame_record(pte_frame(entry_at(at(0))));
    assert_int_equal(space_advise(space, at(0), PAGE_SIZE, SPACE_DONT_NEED), OK);
    count = record->count;
    record->count = COUNT_SATURATED;
    assert_false(links(at(0), READ));
    assert_int_equal(record->count, COUNT_SATURATED);
    record->count = count;
    assert_true(links(at(0), READ));
    end();
}

/* ---- beside others ---- */

/* After a snapshot the table that the mapping has met is of both sections. */
static void a_snapshot_ends_what_is_remembered(void **state)
{
    struct section *snapshot;
    uint64_t value = 0;
    uint64_t done;

    (void)state;
    begin();
    for (unsigned i = 0; i < 4; i++)
        fill(i);
    assert_true(links(at(0), WRITE));
    assert_int_equal(section_snapshot(section, read_only, &snapshot), OK);
    assert_int_equal(pte_state(entry_at(at(0)), 1), PTE_TICKET);
    assert_false(links(at(1), WRITE));
    assert_int_equal(fault_resolve(space, at(1), write_access), OK);
    *(uint64_t *)frame_pointer(pte_frame(entry_at(at(1)))) = 77;
    assert_int_equal(section_read(snapshot, PAGE_SIZE, &value, sizeof(value), &done), OK);
    assert_int_equal(value, 2);
    assert_int_equal(space_advise(space, at(1), PAGE_SIZE, SPACE_DONT_NEED), OK);
    assert_true(links(at(1), READ)); /* the copy, in a table of its own */
    assert_int_equal(value_at(at(1)), 77);
    assert_false(links(at(2), READ)); /* the snapshot has it too */
    section_close(snapshot);
    end();
}

/* Another section may lie where one was that has ended. */
static void an_end_ends_what_is_remembered(void **state)
{
    (void)state;
    begin();
    fill(0);
    assert_true(links(at(0), READ));
    assert_ptr_equal(space->recent.section, section);
    assert_int_equal(space_unmap(space, START, SIZE), OK);
    assert_null(space->recent.section);
    section_close(section);
    assert_int_equal(section_create(&pager_zero, NULL, SIZE, read_write, &section), OK);
    map_part(START, 0, PAGES, SPACE_SHARED);
    fill(1);
    assert_true(links(at(1), WRITE));
    assert_int_equal(value_at(at(1)), 2);
    end();
}

/* During a snapshot, and behind the section's end, nothing is linked. */
static void the_mark_and_the_end_are_seen(void **state)
{
    (void)state;
    begin();
    fill(0);
    fill(1);
    fill(2);
    assert_true(links(at(0), READ));
    section->turn++;
    assert_false(links(at(1), READ));
    section->turn++;
    assert_true(links(at(1), READ));
    section->reach = 2 * PAGE_SIZE;
    assert_false(links(at(2), READ));
    section->reach = SIZE;
    assert_true(links(at(2), READ));
    end();
}

static void held_locks_are_for_the_slow_path(void **state)
{
    struct frame *table;

    (void)state;
    begin();
    fill(0);
    fill(1);
    assert_true(links(at(0), READ));
    space->mappings_lock = 1;
    assert_false(links(at(1), READ));
    space->mappings_lock = 0;
    table = space->recent.table;
    table->lock = 1;
    assert_false(links(at(1), READ));
    table->lock = 0;
    assert_int_equal(space->mappings_lock, 0);
    assert_true(links(at(1), READ));
    end();
}

/* ---- private mappings ---- */

static void a_private_mapping_shows_the_page(void **state)
{
    uint64_t private = 64 * MIB;

    (void)state;
    begin();
    fill(0);
    fill(1);
    map_part(private, 0, 4, 0);
    assert_true(links(private, READ));
    assert_int_equal(pte_class(entry_at(private)), PTE_COW);
    assert_true(tree_has_copies(place_at(private).table));
    assert_false(links(private + PAGE_SIZE, WRITE)); /* a copy */
    assert_int_equal(fault_resolve(space, private + PAGE_SIZE, write_access), OK);
    *(uint64_t *)frame_pointer(pte_frame(entry_at(private + PAGE_SIZE))) = 9;
    assert_true(links(at(1), READ));
    assert_int_equal(value_at(at(1)), 2);
    end();
}

/* ---- groups ---- */

static unsigned linked_between(unsigned from, unsigned to)
{
    unsigned count = 0;

    for (unsigned page = from; page < to; page++)
        count += pte_state(entry_at(at(page)), 1) == PTE_LEAF;
    return count;
}

static void a_group_comes_at_once(void **state)
{
    (void)state;
    begin();
    for (unsigned i = 0; i < 40; i++)
        fill(i);
    set_around(16, START, SIZE);
    assert_true(links(at(21), READ));
    assert_int_equal(linked_between(16, 32), 16);
    assert_int_equal(linked_between(0, 48), 16);
    assert_int_equal(space_faults(space).shared, 1);
    assert_int_equal(space_faults(space).around, 15);
    for (unsigned i = 16; i < 32; i++) {
        assert_int_equal(value_at(at(i)), i + 1);
        assert_int_equal(entry_at(at(i)).word & PTE_A, i == 21 ? PTE_A : 0);
    }
    assert_int_equal(frame_record(place_at(at(21)).table)->table.held, 16);
    assert_int_equal(space_advise(space, START, SIZE, SPACE_RANDOM), OK);
    assert_true(links(at(0), READ));
    assert_int_equal(linked_between(0, 16), 1);
    end();
}

/* A group ends where the mapping does, although the tickets go on; and at pages that are missing.
 */
static void a_group_keeps_to_its_mapping(void **state)
{
    (void)state;
    begin();
    assert_int_equal(space_unmap(space, START, SIZE), OK);
    map_part(at(0), 100, 4, SPACE_SHARED);
    map_part(at(4), 200, 8, SPACE_SHARED);
    for (unsigned i = 100; i < 112; i++)
        fill(i);
    for (unsigned i = 200; i < 212; i++)
        if (i != 202)
            fill(i);
    set_around(16, at(0), 12 * PAGE_SIZE);
    assert_true(links(at(5), WRITE));
    assert_int_equal(linked_between(0, 12), 7);
    assert_int_equal(pte_state(entry_at(at(6)), 1), PTE_TICKET);
    assert_int_equal(value_at(at(4)), 201);
    assert_int_equal(value_at(at(11)), 208);
    assert_true(links(at(3), READ));
    assert_int_equal(value_at(at(0)), 101);
    assert_int_equal(linked_between(0, 4), 4);
    assert_int_equal(pte_state(entry_at(at(6)), 1), PTE_TICKET);
    end();
}

/* Nor does it reach over the section's end, or over a leaf table of the section's. */
static void a_group_keeps_to_the_section(void **state)
{
    (void)state;
    begin();
    assert_int_equal(space_unmap(space, START, SIZE), OK);
    map_part(at(0), FAR - 2, 16, SPACE_SHARED);
    for (unsigned i = FAR - 2; i < FAR + 14; i++)
        fill(i);
    set_around(16, at(0), 16 * PAGE_SIZE);
    section->reach = (FAR + 3) * PAGE_SIZE;
    assert_true(links(at(3), READ));
    assert_int_equal(linked_between(2, 5), 3);
    assert_int_equal(linked_between(0, 16), 3);
    section->reach = SIZE;
    assert_true(links(at(0), READ));
    assert_int_equal(linked_between(0, 2), 2);
    assert_int_equal(linked_between(0, 16), 5);
    end();
}

/* Parts of a mapping, and a fork's copy, keep the hint. */
static void the_hint_stays_with_the_parts(void **state)
{
    struct space *child;

    (void)state;
    begin();
    for (unsigned i = 0; i < 32; i++)
        fill(i);
    set_around(8, START, SIZE);
    assert_int_equal(space_unmap(space, at(8), PAGE_SIZE), OK);
    assert_true(links(at(9), READ));
    assert_int_equal(linked_between(9, 16), 7);
    assert_int_equal(space_fork(space, &child), OK);
    assert_int_equal(section_find(child, at(9))->around, 3);
    space_destroy(child);
    end();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_resident_page_is_linked),
        cmocka_unit_test(what_is_not_resident_is_for_the_slow_path),
        cmocka_unit_test(rights_decide_as_before),
        cmocka_unit_test(a_count_does_not_run_over),
        cmocka_unit_test(a_snapshot_ends_what_is_remembered),
        cmocka_unit_test(an_end_ends_what_is_remembered),
        cmocka_unit_test(the_mark_and_the_end_are_seen),
        cmocka_unit_test(held_locks_are_for_the_slow_path),
        cmocka_unit_test(a_private_mapping_shows_the_page),
        cmocka_unit_test(a_group_comes_at_once),
        cmocka_unit_test(a_group_keeps_to_its_mapping),
        cmocka_unit_test(a_group_keeps_to_the_section),
        cmocka_unit_test(the_hint_stays_with_the_parts),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}

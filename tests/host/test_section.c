/* Shared memory: what spaces that got it by fork see of each other, what each has for itself, and
 * eviction, which finds all shared leaves of a page or leaves it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "cpu/trap/trap.h"
#include "swapdisk/area.h"
#include "tests/host/fake/machine.h"
#include "tests/host/fake/mmu.h"
#include "tests/host/model/space_model_host.h"
#include "vmm/fault/fault.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"
#include "vmm/reclaimer/zero_merge.h"
#include "vmm/section/section.h"
#include "vmm/space/commit.h"

#define MEMORY (16 * MIB)
#define SLOTS  512U
#define START  (4 * MIB)
#define PAGES  24U
#define MANY   300U

static const struct rights read_write = {.write = true, .user = true};
static const struct rights read_only = {.user = true};
static const struct rights no_access = {.none = true};
static const struct fault_access read_access = {.from_user = true};
static const struct fault_access write_access = {.write = true, .from_user = true};

static struct space *parent;
static struct space *child;

static int set_up(void **state)
{
    (void)state;
    return model_start_with_swap(MEMORY, SLOTS);
}

static uint64_t at(unsigned page)
{
    return START + page * PAGE_SIZE;
}

static struct tree_place place_at(const struct space *space, uint64_t address)
{
    bool were_on = machine_interrupts_off();
    struct tree_place place = tree_walk(&space->tree, address);

    machine_interrupts_restore(were_on);
    return place;
}

static struct tree_place place_of(const struct space *space, unsigned page)
{
    return place_at(space, at(page));
}

static struct pte entry_at(const struct space *space, uint64_t address)
{
    struct tree_place place = place_at(space, address);

    return place.level == 1 ? place.entry : pte_empty();
}

static struct pte entry_of(const struct space *space, unsigned page)
{
    return entry_at(space, at(page));
}

/* The entry in the section's own tree. */
static struct pte section_entry(struct space *space, unsigned page)
{
    bool were_on = machine_interrupts_off();
    struct section_place place;
    struct tree_place found;

    assert_true(section_hold_at(space, at(page), &place));
    found = tree_walk(&place.section->tree, place.at);
    machine_interrupts_restore(were_on);
    section_put(place.section);
    return found.level == 1 ? found.entry : pte_empty();
}

static void begin(void)
{
    model_begin(1, 4);
    model_overcommit(OVERCOMMIT_ALWAYS);
    assert_int_equal(space_create(&parent), OK);
    assert_int_equal(
        space_map(parent, &SPACE_AT(START, PAGES * PAGE_SIZE, read_write, .flags = SPACE_SHARED),
                  NULL),
        OK);
    assert_int_equal(space_fork(parent, &child), OK);
}

static void end(void)
{
    space_audit();
    space_destroy(parent);
    if (child != NULL)
        space_destroy(child);
    model_end();
}

/* ---- accesses ---- */

/* Makes an access, which must find a page of a section: its words. */
static uint64_t *words_at(struct space *space, uint64_t address, struct fault_access access)
{
    struct pte entry;

    assert_int_equal(fault_resolve(space, address, access), OK);
    entry = entry_at(space, address);
    assert_int_equal(pte_state(entry, 1), PTE_LEAF);
    assert_int_equal(pte_class(entry), PTE_SHARED);
    return frame_pointer(pte_frame(entry));
}

static uint64_t *word(struct space *space, unsigned page, struct fault_access access)
{
    return words_at(space, at(page), access);
}

static void write(struct space *space, unsigned page, uint64_t value)
{
    *word(space, page, write_access) = value;
}

static uint64_t read(struct space *space, unsigned page)
{
    return *word(space, page, read_access);
}

static void fill(uint64_t tag)
{
    for (unsigned i = 0; i < PAGES; i++)
        write(parent, i, tag + i);
}

static void check_filled(struct space *space, uint64_t tag)
{
    for (unsigned i = 0; i < PAGES; i++)
        assert_int_equal(read(space, i), tag + i);
}

/* ---- visible content ---- */

static void forks_of_forks_see_one_page(void **state)
{
    struct space *grandchild;

    (void)state;
    begin();
    assert_int_equal(space_fork(child, &grandchild), OK);
    assert_int_equal(read(grandchild, 0), 0);
    assert_int_equal(frame_record(pte_frame(entry_of(grandchild, 0)))->kind, FRAME_ANONYMOUS);
    write(parent, 0, 1);
    assert_int_equal(read(child, 0), 1);
    write(child, 0, 2);
    assert_int_equal(read(grandchild, 0), 2);
    space_destroy(parent);
    space_destroy(child);
    child = NULL;
    parent = grandchild;
    assert_int_equal(read(parent, 0), 2);
    assert_int_equal(section_count(), 1);
    end();
    assert_int_equal(section_count(), 0);
}

/* A read in a table that a fork has left shared fills it for all its sharers. */
static void a_read_fills_the_table_of_all(void **state)
{
    uint64_t shared;

    (void)state;
    begin();
    write(parent, 0, 1); /* a table of its own */
    space_destroy(child);
    assert_int_equal(space_fork(parent, &child), OK);
    shared = space_faults(parent).shared;
    assert_int_equal(read(child, 5), 0);
    assert_true(pfn_equal(place_of(parent, 5).table, place_of(child, 5).table));
    assert_int_equal(entry_of(parent, 5).word, entry_of(child, 5).word);
    assert_int_equal(space_faults(parent).shared, shared);
    write(parent, 5, 7);
    assert_false(pfn_equal(place_of(parent, 5).table, place_of(child, 5).table));
    assert_int_equal(read(child, 5), 7);
    assert_int_equal(space_faults(parent).cow_copy + space_faults(child).cow_copy, 0);
    end();
}

static void rights_are_each_ones_own(void **state)
{
    (void)state;
    begin();
    fill(100);
    check_filled(child, 100);
    assert_int_equal(space_protect(child, at(4), 2 * PAGE_SIZE, read_only), OK);
    assert_int_equal(fault_resolve(child, at(5), write_access), STATUS_DENIED);
    write(parent, 5, 1);
    assert_int_equal(read(child, 5), 1);
    assert_int_equal(space_protect(child, at(4), 2 * PAGE_SIZE, no_access), OK);
    assert_int_equal(fault_resolve(child, at(5), read_access), STATUS_DENIED);
    assert_int_equal(pte_state(entry_of(child, 5), 1), PTE_TICKET);
    assert_int_equal(frame_record(pte_frame(entry_of(parent, 5)))->count, 2);
    space_audit();
    assert_int_equal(space_protect(child, at(0), PAGES * PAGE_SIZE, read_write), OK);
    write(child, 5, 3);
    assert_int_equal(read(parent, 5), 3);
    end();
}

/* A range with both kinds: each gets tickets, and pages, of its kind. */
static void protect_knows_both_kinds(void **state)
{
    struct space_view view;

    (void)state;
    begin();
    assert_int_equal(space_map(child, &SPACE_AT(at(PAGES), 4 * PAGE_SIZE, read_write), NULL), OK);
    assert_int_equal(
        space_map(child, &SPACE_AT(at(PAGES + 4), 4 * PAGE_SIZE, read_write, .flags = SPACE_SHARED),
                  NULL),
        OK);
    write(parent, 3, 33);
    write(child, PAGES + 5, 55);
    assert_int_equal(space_protect(child, at(0), (PAGES + 8) * PAGE_SIZE, read_only), OK);
    space_audit();
    assert_int_equal(space_query(child, at(1), &view), OK);
    assert_int_equal(view.kind, REGION_SHARED);
    assert_int_equal(view.end, at(PAGES));
    assert_int_equal(space_query(child, at(PAGES), &view), OK);
    assert_int_equal(view.kind, REGION_PRIVATE);
    assert_int_equal(read(child, 3), 33);
    assert_int_equal(read(child, PAGES + 5), 55);
    assert_int_equal(fault_resolve(child, at(PAGES + 1), read_access), OK);
    assert_true(pfn_equal(pte_frame(entry_of(child, PAGES + 1)), tree_zero_page()));
    end();
}

static void the_middle_goes_in_one_space_only(void **state)
{
    (void)state;
    begin();
    fill(200);
    assert_int_equal(space_unmap(child, at(8), 4 * PAGE_SIZE), OK);
    assert_int_equal(fault_resolve(child, at(9), read_access), STATUS_NOT_FOUND);
    assert_int_equal(read(child, 7), 207);
    assert_int_equal(read(child, 12), 212);
    check_filled(parent, 200);
    /* A new mapping at the same address is independent of it. */
    assert_int_equal(
        space_map(child, &SPACE_AT(at(8), 4 * PAGE_SIZE, read_write, .flags = SPACE_SHARED), NULL),
        OK);
    assert_int_equal(section_count(), 2);
    assert_int_equal(read(child, 9), 0);
    write(child, 9, 1);
    check_filled(parent, 200);
    end();
}

static void what_is_not_needed_is_not_lost(void **state)
{
    (void)state;
    begin();
    fill(300);
    check_filled(child, 300);
    assert_int_equal(space_advise(child, at(3), 9 * PAGE_SIZE, SPACE_DONT_NEED), OK);
    assert_int_equal(pte_state(entry_of(child, 5), 1), PTE_TICKET);
    assert_int_equal(pte_state(entry_of(parent, 5), 1), PTE_LEAF);
    assert_int_equal(space_advise(child, at(3), 9 * PAGE_SIZE, SPACE_WILL_NEED), OK);
    assert_int_equal(entry_of(child, 5).word & PTE_FRAME_MASK,
                     entry_of(parent, 5).word & PTE_FRAME_MASK);
    check_filled(child, 300);
    end();
}

/* ---- moving ---- */

static void a_moved_range_keeps_its_pages(void **state)
{
    uint64_t to = START + 64 * MIB;
    uint64_t place;

    (void)state;
    begin();
    fill(400);
    assert_int_equal(space_move(child, at(4), 4 * PAGE_SIZE, to + 4 * PAGE_SIZE), OK);
    space_audit();
    assert_int_equal(fault_resolve(child, at(5), read_access), STATUS_NOT_FOUND);
    assert_int_equal(fault_resolve(child, to + 6 * PAGE_SIZE, write_access), OK);
    write(parent, 6, 1);
    assert_int_equal(*words_at(child, to + 6 * PAGE_SIZE, read_access), 1);
    write(parent, 6, 406);
    check_filled(parent, 400);
    /* The next range is in use, so it moves; new pages belong to the child and its forks only. */
    assert_int_equal(space_map(child,
                               &(struct space_request){.at = to + 8 * PAGE_SIZE,
                                                       .size = PAGE_SIZE,
                                                       .flags = SPACE_GUARD},
                               NULL),
                     OK);
    assert_int_equal(
        space_remap_moving(child, to + 4 * PAGE_SIZE, 4 * PAGE_SIZE, 6 * PAGE_SIZE, &place), OK);
    assert_int_not_equal(place, to + 4 * PAGE_SIZE);
    space_audit();
    assert_int_equal(section_count(), 2);
    assert_int_equal(*words_at(child, place + 2 * PAGE_SIZE, read_access), 406);
    assert_int_equal(*words_at(child, place + 4 * PAGE_SIZE, write_access), 0);
    check_filled(parent, 400);
    end();
}

/* ---- the account ---- */

static void it_is_promised_once(void **state)
{
    uint64_t before;

    (void)state;
    begin();
    before = commit_pages();
    assert_int_equal(before, PAGES);
    /* Read-only memory of a section has pages too. */
    assert_int_equal(
        space_map(child, &SPACE_AT(at(100), 3 * PAGE_SIZE, read_only, .flags = SPACE_SHARED), NULL),
        OK);
    assert_int_equal(commit_pages(), before + 3);
    assert_int_equal(space_protect(child, at(100), 3 * PAGE_SIZE, read_write), OK);
    assert_int_equal(space_unmap(child, at(100), PAGE_SIZE), OK);
    assert_int_equal(commit_pages(), before + 3);
    assert_int_equal(space_unmap(child, at(101), 2 * PAGE_SIZE), OK);
    assert_int_equal(commit_pages(), before);
    space_destroy(parent);
    parent = child;
    child = NULL;
    assert_int_equal(commit_pages(), before);
    model_overcommit(OVERCOMMIT_NEVER);
    assert_int_equal(
        space_map(parent, &SPACE_AT(at(100), 2 * MEMORY, read_only, .flags = SPACE_SHARED), NULL),
        STATUS_COMMIT);
    assert_int_equal(section_count(), 1);
    end();
}

/* ---- eviction ---- */

static unsigned evict_all(void)
{
    unsigned sum = 0;
    unsigned evicted;

    do {
        assert_int_equal(reclaim_pages(16, &evicted), OK);
        sum += evicted;
    } while (evicted > 0);
    return sum;
}

static void a_page_goes_out_once_for_all(void **state)
{
    struct space *grandchild;

    (void)state;
    begin();
    fill(500);
    check_filled(child, 500);
    assert_int_equal(space_protect(child, at(2), PAGE_SIZE, read_only), OK);
    assert_int_equal(space_fork(child, &grandchild), OK);
    /* Three mappings, two leaf tables. */
    assert_int_equal(frame_record(pte_frame(entry_of(parent, 2)))->count, 3);
    assert_int_equal(evict_all(), PAGES);
    assert_int_equal(page_clock_size(), 0);
    assert_int_equal(swap_references(), PAGES);
    space_audit();
    for (unsigned i = 0; i < PAGES; i++) {
        assert_int_equal(pte_state(entry_of(parent, i), 1), PTE_TICKET);
        assert_int_equal(pte_state(entry_of(grandchild, i), 1), PTE_TICKET);
        assert_int_equal(pte_state(section_entry(parent, i), 1), PTE_SWAPPED);
    }
    assert_int_equal(fault_resolve(child, at(2), write_access), STATUS_DENIED);
    check_filled(grandchild, 500);
    assert_int_equal(space_faults(grandchild).swap_in, PAGES);
    assert_int_equal(swap_references(), 0);
    write(parent, 2, 1);
    assert_int_equal(space_faults(parent).swap_in, 0);
    assert_int_equal(read(child, 2), 1);
    space_destroy(grandchild);
    end();
}

/* The number of mappings does not matter: all their leaves are found. */
static void a_page_of_many_mappings_goes_out(void **state)
{
    static struct space *children[MANY];

    (void)state;
    begin();
    write(parent, 3, 33);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(space_fork(parent, &children[i]), OK);
        assert_int_equal(space_protect(children[i], at(5), PAGE_SIZE, read_only), OK);
        assert_int_equal(read(children[i], 3), 33);
    }
    assert_int_equal(frame_record(pte_frame(section_entry(parent, 3)))->count, 2 + MANY);
    assert_int_equal(evict_all(), 1);
    assert_int_equal(pte_state(section_entry(parent, 3), 1), PTE_SWAPPED);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(pte_state(entry_of(children[i], 3), 1), PTE_TICKET);
        space_destroy(children[i]);
    }
    assert_int_equal(read(child, 3), 33);
    end();
}

static void (*flush)(void);
static void (*before_flush)(void);

static void flush_late(void)
{
    void (*other)(void) = before_flush;

    before_flush = NULL;
    if (other != NULL)
        other();
    flush();
}

/* Another processor's work before it answers the next flush. */
static void while_unanswered(void (*other)(void))
{
    flush = fake_on_flush_space;
    before_flush = other;
    fake_on_flush_space = flush_late;
}

static void all_answered(void)
{
    assert_null(before_flush);
    fake_on_flush_space = flush;
}

/* Stores through a translation that is still cached: the frame of the entry in transit. */
static void store(void)
{
    assert_int_equal(pte_state(section_entry(parent, 7), 1), PTE_TRANSIT);
    *(uint64_t *)frame_pointer(pte_payload_frame(section_entry(parent, 7))) = 42;
}

static void a_store_before_the_flush_goes_out_too(void **state)
{
    (void)state;
    begin();
    for (unsigned i = 0; i < 8; i++)
        write(parent, i, i);
    while_unanswered(store);
    assert_int_equal(evict_all(), 8);
    all_answered();
    assert_int_equal(read(child, 7), 42);
    end();
}

/* A leaf in a table that another processor has locked is skipped: the page stays, with all its
 * references. */
static void a_page_that_is_not_found_everywhere_stays(void **state)
{
    uint64_t busy = reclaim_counts().busy;
    struct frame *table;
    unsigned evicted;

    (void)state;
    begin();
    write(parent, 0, 11);
    write(child, 0, 12);
    table = frame_record(place_of(child, 0).table);
    table->lock = 1;
    assert_int_equal(reclaim_pages(1, &evicted), OK);
    table->lock = 0;
    assert_int_equal(evicted, 0);
    assert_true(reclaim_counts().busy > busy);
    assert_int_equal(pte_state(entry_of(child, 0), 1), PTE_LEAF);
    assert_int_equal(pte_state(section_entry(child, 0), 1), PTE_LEAF);
    space_audit();
    *(uint64_t *)frame_pointer(pte_frame(entry_of(child, 0))) = 13;
    assert_int_equal(read(parent, 0), 13);
    assert_int_equal(evict_all(), 1);
    assert_int_equal(read(child, 0), 13);
    end();
}

/* While a fault makes room, its address gets another section, with the same tickets in the same
 * table. */
static void map_another(void)
{
    fake_machine_be_cpu(1);
    assert_int_equal(space_unmap(parent, at(1), PAGE_SIZE), OK);
    assert_int_equal(
        space_map(parent, &SPACE_AT(at(1), PAGE_SIZE, read_write, .flags = SPACE_SHARED), NULL),
        OK);
    fake_machine_be_cpu(0);
}

static void a_fault_looks_again_what_is_mapped(void **state)
{
    (void)state;
    begin();
    write(parent, 0, 1); /* the table stays */
    write(child, 1, 22);
    assert_int_equal(space_map(child, &SPACE_AT(at(PAGES), 40 * PAGE_SIZE, read_write), NULL), OK);
    for (unsigned i = 0; i < 40; i++)
        assert_int_equal(fault_resolve(child, at(PAGES + i), write_access), OK);
    page_set_limit(20);
    assert_true(page_reclaim_some());
    while (pte_state(section_entry(parent, 1), 1) != PTE_SWAPPED)
        assert_true(page_reclaim_some());
    while_unanswered(map_another);
    assert_int_equal(read(parent, 1), 0);
    all_answered();
    page_set_limit(UINT64_MAX);
    assert_int_equal(read(child, 1), 22);
    end();
}

/* Performs an access, always by the same instruction. One spurious fault is allowed. */
static bool fault_at(uint64_t address)
{
    struct trap_frame frame = {.rip = 0x401000};
    bool resolved;

    (void)machine_interrupts_off();
    resolved = trap_page_fault(address, PF_US, &frame);
    machine_interrupts_restore(true);
    return resolved;
}

/* Another space was faster, twice; in between the page had gone out (rule P9). */
static void another_that_is_faster_is_no_violation(void **state)
{
    (void)state;
    begin();
    assert_int_equal(read(parent, 0), 0);
    space_destroy(child);
    assert_int_equal(space_fork(parent, &child), OK);
    space_switch(child);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(read(parent, 0), 0);
        assert_int_equal(pte_state(entry_of(child, 0), 1), PTE_LEAF); /* in the same table */
        assert_true(fault_at(at(0)));
        assert_int_equal(evict_all(), 1);
    }
    assert_int_equal(space_faults(child).spurious, 3);
    space_switch(NULL);
    end();
}

static void zero_pages_stay_the_sections(void **state)
{
    (void)state;
    begin();
    assert_int_equal(read(child, 0), 0);
    assert_int_equal(space_advise(child, at(0), PAGE_SIZE, SPACE_DONT_NEED), OK);
    assert_int_equal(space_advise(parent, at(0), PAGE_SIZE, SPACE_DONT_NEED), OK);
    assert_int_equal(frame_record(pte_frame(section_entry(child, 0)))->count, 1);
    assert_int_equal(zero_merge(16), 0);
    assert_int_equal(pte_state(section_entry(child, 0), 1), PTE_LEAF);
    write(parent, 0, 5);
    assert_int_equal(read(child, 0), 5);
    end();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(forks_of_forks_see_one_page),
        cmocka_unit_test(a_read_fills_the_table_of_all),
        cmocka_unit_test(rights_are_each_ones_own),
        cmocka_unit_test(protect_knows_both_kinds),
        cmocka_unit_test(the_middle_goes_in_one_space_only),
        cmocka_unit_test(what_is_not_needed_is_not_lost),
        cmocka_unit_test(a_moved_range_keeps_its_pages),
        cmocka_unit_test(it_is_promised_once),
        cmocka_unit_test(a_page_goes_out_once_for_all),
        cmocka_unit_test(a_page_of_many_mappings_goes_out),
        cmocka_unit_test(a_store_before_the_flush_goes_out_too),
        cmocka_unit_test(a_page_that_is_not_found_everywhere_stays),
        cmocka_unit_test(a_fault_looks_again_what_is_mapped),
        cmocka_unit_test(another_that_is_faster_is_no_violation),
        cmocka_unit_test(zero_pages_stay_the_sections),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}

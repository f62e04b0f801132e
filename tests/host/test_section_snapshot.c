/* Snapshots of sections: no write of one shows in the other, whatever was mapped, evicted, forked
 * or cut; and a page in use ends the wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "paging/sole/sole.h"
#include "paging/tree/table_access.h"
#include "swapdisk/area.h"
#include "tests/host/fake/machine.h"
#include "tests/host/model/space_model_host.h"
#include "vmm/fault/fault.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"
#include "vmm/section/section.h"
#include "vmm/space/commit.h"

#define MEMORY (16 * MIB)
#define SLOTS  512U
#define START  (4 * MIB)
#define OTHER  (64 * MIB)
#define PAGES  20U
#define SIZE   (PAGES * PAGE_SIZE)

static const struct rights read_write = {.write = true, .user = true};
static const struct rights read_only = {.user = true};
static const struct rights read_execute = {.execute = true, .user = true};
static const struct fault_access read_access = {.from_user = true};
static const struct fault_access write_access = {.write = true, .from_user = true};

static uint8_t content[SIZE];
static const struct archive archive = {.bytes = content, .size = SIZE};

static struct section *section;
static struct section *snapshot;
static struct space *space;

static int set_up(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SIZE; i++)
        content[i] = (uint8_t)(i * 31 + i / PAGE_SIZE + 1);
    return model_start_with_swap(MEMORY, SLOTS);
}

static void map(struct section *which, uint64_t at, struct rights rights)
{
    assert_int_equal(space_map(space,
                               &SPACE_AT(at, SIZE, rights, .flags = SPACE_SHARED, .section = which),
                               NULL),
                     OK);
}

static void begin(const struct pager *pager)
{
    model_begin(1, 4);
    model_overcommit(OVERCOMMIT_ALWAYS);
    assert_int_equal(section_create(pager, &archive, SIZE, read_write, &section), OK);
    assert_int_equal(space_create(&space), OK);
    map(section, START, read_write);
}

static void take(struct rights most)
{
    assert_int_equal(section_snapshot(section, most, &snapshot), OK);
    space_audit();
}

static void end(void)
{
    space_audit();
    space_destroy(space);
    if (section != NULL)
        section_close(section);
    if (snapshot != NULL)
        section_close(snapshot);
    section = snapshot = NULL;
    assert_int_equal(section_count(), 0);
    assert_int_equal(swap_references(), 0);
    assert_int_equal(commit_pages(), 0);
    model_end();
}

static struct pte entry_at(uint64_t address)
{
    bool were_on = machine_interrupts_off();
    struct tree_place place = tree_walk(&space->tree, address);

    machine_interrupts_restore(were_on);
    return place.entry;
}

static uint8_t read(uint64_t address)
{
    return *model_byte(space, address, read_access);
}

static void write(uint64_t address, uint8_t value)
{
    *model_byte(space, address, write_access) = value;
}

static uint8_t read_of(struct section *which, uint64_t offset)
{
    uint64_t done;
    uint8_t byte;

    assert_int_equal(section_read(which, offset, &byte, 1, &done), OK);
    return byte;
}

static void write_to(struct section *which, uint64_t offset, uint8_t value)
{
    uint64_t done;

    assert_int_equal(section_write(which, offset, &value, 1, &done), OK);
}

static void evict_all(void)
{
    unsigned evicted;

    do {
        assert_int_equal(reclaim_pages(16, &evicted), OK);
    } while (evicted > 0);
}

/* ---- what a snapshot shows ---- */

static void later_writes_do_not_show(void **state)
{
    (void)state;
    begin(&pager_zero);
    write(START, 1);
    write(START + 3 * PAGE_SIZE, 3);
    take(read_only);
    assert_int_equal(pte_state(entry_at(START), 1), PTE_TICKET);
    write(START, 11);
    write_to(section, 3 * PAGE_SIZE, 33);
    write(START + 5 * PAGE_SIZE, 55);
    space_audit();
    assert_int_equal(read_of(snapshot, 0), 1);
    assert_int_equal(read_of(snapshot, 3 * PAGE_SIZE), 3);
    assert_int_equal(read_of(snapshot, 5 * PAGE_SIZE), 0);
    map(snapshot, OTHER, read_only);
    assert_int_equal(read(OTHER), 1);
    assert_int_equal(read(OTHER + 5 * PAGE_SIZE), 0);
    assert_int_equal(read(START), 11);
    assert_int_equal(read(START + 3 * PAGE_SIZE), 33);
    space_audit();
    end();
}

static void a_frozen_one_refuses_writes(void **state)
{
    uint64_t done;
    uint8_t byte = 1;

    (void)state;
    begin(&pager_zero);
    assert_int_equal(section_snapshot(section, read_execute, &snapshot), STATUS_DENIED);
    take(read_only);
    assert_int_equal(
        space_map(space,
                  &SPACE_AT(OTHER, SIZE, read_write, .flags = SPACE_SHARED, .section = snapshot),
                  NULL),
        STATUS_DENIED);
    assert_int_equal(section_write(snapshot, 0, &byte, 1, &done), STATUS_DENIED);
    assert_int_equal(section_resize(snapshot, 0), STATUS_DENIED);
    end();
}

static enum status put_nothing(const void *source, uint64_t page, struct pfn frame)
{
    (void)source;
    (void)page;
    (void)frame;
    return OK;
}

/* What one section wrote back, the other would read for a page that it has not yet. */
static void a_pager_that_writes_back_refuses_it(void **state)
{
    struct pager writes_back = pager_archive;
    struct section *reader;

    (void)state;
    writes_back.put = put_nothing;
    begin(&writes_back);
    assert_int_equal(section_snapshot(section, read_only, &snapshot), STATUS_DENIED);
    assert_null(snapshot);
    /* A clone of one that is only read would write to its source, too. */
    assert_int_equal(section_create(&writes_back, &archive, SIZE, read_only, &reader), OK);
    assert_int_equal(section_snapshot(reader, read_write, &snapshot), STATUS_DENIED);
    assert_int_equal(section_snapshot(reader, read_only, &snapshot), OK);
    section_close(reader);
    end();
}

static void a_writable_one_is_a_clone(void **state)
{
    (void)state;
    begin(&pager_archive);
    write(START, 1);
    take(read_write);
    map(snapshot, OTHER, read_write);
    write(OTHER, 2);
    write(OTHER + PAGE_SIZE, 22);
    write(START + 2 * PAGE_SIZE, 3);
    assert_int_equal(read(START), 1);
    assert_int_equal(read(START + PAGE_SIZE), content[PAGE_SIZE]);
    assert_int_equal(read(OTHER + 2 * PAGE_SIZE), content[2 * PAGE_SIZE]);
    space_audit();
    assert_int_equal(section_resize(snapshot, PAGE_SIZE), OK);
    assert_int_equal(read(START + 2 * PAGE_SIZE), 3);
    assert_int_equal(read(START + PAGE_SIZE), content[PAGE_SIZE]);
    end();
}

static void both_go_out_and_come_back(void **state)
{
    (void)state;
    begin(&pager_archive);
    for (unsigned i = 0; i < PAGES; i++)
        write(START + i * PAGE_SIZE, (uint8_t)(100 + i));
    take(read_only);
    map(snapshot, OTHER, read_only);
    assert_int_equal(read(OTHER + PAGE_SIZE), 101);
    write(START + PAGE_SIZE, 1);
    evict_all();
    assert_int_equal(page_clock_size(), 0);
    space_audit();
    for (unsigned i = 0; i < PAGES; i++) {
        assert_int_equal(read(START + i * PAGE_SIZE), i == 1 ? 1 : 100 + i);
        write(START + i * PAGE_SIZE, 7);
        assert_int_equal(read(OTHER + i * PAGE_SIZE), 100 + i);
    }
    end();
}

/* A page that came back, from its slot or its pager, is the section's alone again. */
static void a_page_that_came_back_is_recalled(void **state)
{
    (void)state;
    begin(&pager_archive);
    write(START, 1);
    evict_all();
    write(START + PAGE_SIZE, 2);
    assert_int_equal(read(START), 1);
    take(read_only);
    assert_int_equal(pte_state(entry_at(START), 1), PTE_TICKET);
    assert_int_equal(pte_state(entry_at(START + PAGE_SIZE), 1), PTE_TICKET);
    write(START, 3);
    write(START + PAGE_SIZE, 4);
    assert_int_equal(read_of(snapshot, 0), 1);
    assert_int_equal(read_of(snapshot, PAGE_SIZE), 2);
    end();
}

static void what_is_cut_off_stays_in_the_snapshot(void **state)
{
    (void)state;
    begin(&pager_zero);
    write(START + 8 * PAGE_SIZE, 8);
    write(START + 2 * PAGE_SIZE + 100, 2);
    take(read_only);
    map(snapshot, OTHER, read_only);
    assert_int_equal(read(OTHER + 8 * PAGE_SIZE), 8);
    assert_int_equal(section_resize(section, 2 * PAGE_SIZE + 50), OK);
    assert_int_equal(section_resize(section, SIZE), OK);
    assert_int_equal(read(START + 8 * PAGE_SIZE), 0);
    assert_int_equal(read(START + 2 * PAGE_SIZE + 100), 0);
    assert_int_equal(read(OTHER + 8 * PAGE_SIZE), 8);
    assert_int_equal(read(OTHER + 2 * PAGE_SIZE + 100), 2);
    end();
}

static void snapshots_of_snapshots(void **state)
{
    struct section *second;

    (void)state;
    begin(&pager_zero);
    write(START, 1);
    take(read_only);
    write(START, 2);
    assert_int_equal(section_snapshot(section, read_only, &second), OK);
    write(START, 3);
    assert_int_equal(read_of(snapshot, 0), 1);
    assert_int_equal(read_of(second, 0), 2);
    section_close(snapshot);
    assert_int_equal(section_snapshot(second, read_only, &snapshot), OK);
    section_close(second);
    write(START, 4);
    assert_int_equal(read_of(snapshot, 0), 2);
    section_close(section);
    section = NULL;
    assert_int_equal(read_of(snapshot, 0), 2);
    end();
}

static void the_last_owner_does_not_copy(void **state)
{
    uint64_t pages;

    (void)state;
    begin(&pager_zero);
    for (unsigned i = 0; i < PAGES; i++)
        write(START + i * PAGE_SIZE, 1);
    pages = page_clock_size();
    take(read_only);
    assert_int_equal(page_clock_size(), pages);
    write(START, 2);
    assert_int_equal(page_clock_size(), pages + 1);
    section_close(snapshot);
    snapshot = NULL;
    assert_int_equal(page_clock_size(), pages);
    for (unsigned i = 0; i < PAGES; i++)
        write(START + i * PAGE_SIZE, 3);
    assert_int_equal(page_clock_size(), pages);
    end();
}

/* More snapshots than a walk around the ring looks at in one step. */
#define DEEP 70U

/* Returns whether a short look finds that others have a section's page, too. */
static bool has_second(struct section *which, uint64_t at)
{
    bool were_on = machine_interrupts_off();
    struct tree_place place = tree_walk_by(TABLES_DIRECT, &which->tree, at);
    bool found = sole_has_second(pte_frame(place.entry));

    machine_interrupts_restore(were_on);
    return found;
}

/* Each section of a chain writes one page in turn; the uppermost copies the others when they are
 * written, and owns them when all others are gone. */
static void a_deep_chain(void **state)
{
    struct section *chain[DEEP + 1];
    uint64_t pages;

    (void)state;
    begin(&pager_zero);
    for (unsigned i = 0; i < PAGES; i++)
        write(START + i * PAGE_SIZE, 1);
    chain[0] = section;
    for (unsigned i = 1; i <= DEEP; i++) {
        assert_int_equal(section_snapshot(chain[i - 1], read_write, &chain[i]), OK);
        write_to(chain[i], i % PAGES * PAGE_SIZE, (uint8_t)(100 + i));
    }
    pages = page_clock_size();
    assert_int_equal(pages, PAGES + DEEP);
    for (unsigned i = 0; i < PAGES; i++)
        assert_int_equal(has_second(chain[DEEP], i * PAGE_SIZE), i != DEEP % PAGES);
    map(chain[DEEP], OTHER, read_write);
    for (unsigned i = 0; i < PAGES; i++)
        assert_int_equal(read(OTHER + i * PAGE_SIZE), 100 + DEEP - (DEEP - i) % PAGES);
    /* All but the page that the uppermost one wrote are copied by the touch. */
    assert_int_equal(page_clock_size(), pages + PAGES - 1);
    space_audit();
    space_destroy(space);
    for (unsigned i = 1; i < DEEP; i++)
        section_close(chain[i]);
    section_close(chain[DEEP]);
    assert_int_equal(page_clock_size(), PAGES);
    assert_int_equal(space_create(&space), OK);
    map(section, START, read_write);
    for (unsigned i = 0; i < PAGES; i++)
        write(START + i * PAGE_SIZE, 2);
    assert_int_equal(page_clock_size(), PAGES);
    end();
}

/* ---- leaves and holds when it is taken ---- */

static void a_childs_leaves_are_recalled(void **state)
{
    struct space *child;

    (void)state;
    begin(&pager_zero);
    write(START, 1);
    assert_int_equal(space_fork(space, &child), OK);
    assert_int_equal(fault_resolve(child, START + PAGE_SIZE, write_access), OK);
    take(read_only);
    assert_int_equal(fault_resolve(child, START, write_access), OK);
    write(START, 5);
    assert_int_equal(read_of(snapshot, 0), 1);
    space_destroy(child);
    end();
}

static struct pfn held;

static void hold(uint64_t at)
{
    struct page_reserve reserve = {.page = PFN_NONE};
    struct section_place place = {.section = section, .at = at};

    assert_int_equal(section_bring(NULL, &place, SECTION_USE, &reserve, &held), OK);
}

static void a_page_held_for_ever_refuses_it(void **state)
{
    uint64_t step = fake_clock_step_ns;
    uint64_t promised;

    (void)state;
    begin(&pager_zero);
    write(START, 1);
    hold(0);
    promised = commit_pages();
    fake_clock_step_ns = UINT64_C(1000000000);
    assert_int_equal(section_snapshot(section, read_only, &snapshot), STATUS_TIMEOUT);
    fake_clock_step_ns = step;
    snapshot = NULL;
    assert_int_equal(commit_pages(), promised);
    page_release(held);
    assert_int_equal(read(START), 1);
    take(read_only);
    end();
}

static unsigned waited;

/* A fault on another processor has the page; once it has let go, it waits at the mark. */
static void release_and_touch(void)
{
    struct page_reserve reserve = {.page = PFN_NONE};
    struct section_place place = {.section = section, .at = 0};
    struct pfn page;

    if (!section_is_marked(section))
        return;
    if (waited == 0)
        page_release(held);
    if (waited++ < 3)
        assert_int_equal(section_bring(NULL, &place, SECTION_USE, &reserve, &page), STATUS_AGAIN);
}

static void a_fault_waits_at_the_mark(void **state)
{
    void (*relax)(void) = fake_on_relax;

    (void)state;
    begin(&pager_zero);
    write(START, 1);
    hold(0);
    waited = 0;
    fake_on_relax = release_and_touch;
    take(read_only);
    fake_on_relax = relax;
    assert_true(waited > 1);
    write(START, 2);
    assert_int_equal(read_of(snapshot, 0), 1);
    end();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(later_writes_do_not_show),
        cmocka_unit_test(a_frozen_one_refuses_writes),
        cmocka_unit_test(a_pager_that_writes_back_refuses_it),
        cmocka_unit_test(a_writable_one_is_a_clone),
        cmocka_unit_test(both_go_out_and_come_back),
        cmocka_unit_test(a_page_that_came_back_is_recalled),
        cmocka_unit_test(what_is_cut_off_stays_in_the_snapshot),
        cmocka_unit_test(snapshots_of_snapshots),
        cmocka_unit_test(the_last_owner_does_not_copy),
        cmocka_unit_test(a_deep_chain),
        cmocka_unit_test(a_childs_leaves_are_recalled),
        cmocka_unit_test(a_page_held_for_ever_refuses_it),
        cmocka_unit_test(a_fault_waits_at_the_mark),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}

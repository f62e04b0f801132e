/* Trees of sections by size: one to five levels. What a section costs at each size; what stays when
 * it grows and is cut between levels, with leaves, snapshots and slots; and what is freed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "cpu/trap/trap.h"
#include "lib/bytes.h"
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
#define FAR    (64 * MIB)
#define LEVELS 5U

#define READ  ((uint64_t)PF_US)
#define WRITE ((uint64_t)(PF_US | PF_WR))

static const struct rights read_write = {.write = true, .user = true};
static const struct rights read_only = {.user = true};
static const struct fault_access read_access = {.from_user = true};
static const struct fault_access write_access = {.write = true, .from_user = true};

static struct section *section;
static struct space *space;

/* Fills a page with its number. */
static enum status numbered_get(const void *source, uint64_t page, struct pfn frame)
{
    uint64_t *words = frame_pointer(frame);

    (void)source;
    for (unsigned i = 0; i < PAGE_SIZE / sizeof(*words); i++)
        words[i] = page + 1;
    return OK;
}

static const struct pager numbered = {.name = "numbered", .get = numbered_get};

static int set_up(void **state)
{
    (void)state;
    return model_start_with_swap(MEMORY, SLOTS);
}

/* The largest size of a tree of so many levels; of five, the largest of a section. */
static uint64_t room(unsigned levels)
{
    return levels == LEVELS ? SECTION_SIZE_MAX : plain_room(levels);
}

static void begin(const struct pager *pager, uint64_t size, struct rights most)
{
    model_begin(1, 4);
    model_overcommit(OVERCOMMIT_ALWAYS);
    assert_int_equal(section_create(pager, NULL, size, most, &section), OK);
    assert_int_equal(space_create(&space), OK);
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

static uint64_t tables(void)
{
    return pmm_usage().by_kind[FRAME_TABLE];
}

static void put(struct section *where, uint64_t at, uint64_t value)
{
    uint64_t done;

    assert_int_equal(section_write(where, at, &value, sizeof(value), &done), OK);
}

static uint64_t get(struct section *where, uint64_t at)
{
    uint64_t value = 0;
    uint64_t done;

    assert_int_equal(section_read(where, at, &value, sizeof(value), &done), OK);
    return value;
}

static void map(uint64_t start, uint64_t offset, uint64_t pages, struct rights rights)
{
    assert_int_equal(space_map(space,
                               &SPACE_AT(start, pages * PAGE_SIZE, rights, .flags = SPACE_SHARED,
                                         .section = section, .offset = offset),
                               NULL),
                     OK);
}

static struct pte entry_at(uint64_t address)
{
    bool were_on = machine_interrupts_off();
    struct tree_place place = tree_walk(&space->tree, address);

    machine_interrupts_restore(were_on);
    return place.level == 1 ? place.entry : pte_empty();
}

static uint64_t *word_at(uint64_t address, struct fault_access access)
{
    struct pte entry;

    assert_int_equal(fault_resolve(space, address, access), OK);
    entry = entry_at(address);
    assert_int_equal(pte_state(entry, 1), PTE_LEAF);
    return (uint64_t *)((uint8_t *)frame_pointer(pte_frame(entry)) + address % PAGE_SIZE);
}

static bool links(uint64_t address, uint64_t error)
{
    bool were_on = machine_interrupts_off();
    bool linked = fault_fast_any(address, error);

    machine_interrupts_restore(were_on);
    return linked;
}

static void evict_all(void)
{
    unsigned evicted;

    do {
        assert_int_equal(reclaim_pages(16, &evicted), OK);
    } while (evicted > 0);
}

/* ---- what it costs ---- */

/* A section has the fewest levels, and a page at its end costs a table for each. */
static void a_tree_is_as_high_as_its_size(void **state)
{
    (void)state;
    for (unsigned levels = 1; levels <= LEVELS; levels++) {
        for (unsigned more = 0; more < 2 && (more == 0 || levels < LEVELS); more++) {
            uint64_t size = more ? room(levels) + 8 : room(levels);
            uint64_t before;

            begin(&numbered, 1, read_only);
            section_close(section);
            before = tables();
            assert_int_equal(section_create(&numbered, NULL, size, read_only, &section), OK);
            assert_int_equal(section->tree.levels, levels + more);
            assert_int_equal(tables(), before + 1);
            assert_int_equal(get(section, size - 8), (size - 8) / PAGE_SIZE + 1);
            assert_int_equal(tables(), before + levels + more);
            section_close(section);
            assert_int_equal(tables(), before);
            assert_int_equal(section_create(&numbered, NULL, 1, read_only, &section), OK);
            end();
        }
    }
}

/* A snapshot of a section of one table is that table's copy, with all its pages. */
static void a_snapshot_costs_a_table(void **state)
{
    struct section *snapshot;
    struct section *third;
    uint64_t before;

    (void)state;
    begin(&pager_zero, 512 * PAGE_SIZE, read_write);
    for (unsigned i = 0; i < 512; i += 3)
        put(section, i * PAGE_SIZE, i + 1);
    before = tables();
    assert_int_equal(section_snapshot(section, read_write, &snapshot), OK);
    assert_int_equal(section_snapshot(snapshot, read_only, &third), OK);
    assert_int_equal(tables(), before + 2);
    put(section, 0, 77);
    put(snapshot, 3 * PAGE_SIZE, 78);
    assert_int_equal(tables(), before + 2);
    space_audit();
    assert_int_equal(get(section, 0), 77);
    assert_int_equal(get(snapshot, 0), 1);
    assert_int_equal(get(third, 0), 1);
    assert_int_equal(get(section, 3 * PAGE_SIZE), 4);
    assert_int_equal(get(third, 3 * PAGE_SIZE), 4);
    evict_all();
    for (unsigned i = 6; i < 512; i += 3) {
        assert_int_equal(get(section, i * PAGE_SIZE), i + 1);
        assert_int_equal(get(snapshot, i * PAGE_SIZE), i + 1);
        assert_int_equal(get(third, i * PAGE_SIZE), i + 1);
    }
    section_close(snapshot);
    section_close(third);
    assert_int_equal(tables(), before);
    end();
}

/* ---- growth and cuts between levels ---- */

/* At each level pages come at the section's end. What is below the end stays by each step up and
 * down: leaves in the space, pages in memory and in slots. */
static void pages_stay_at_each_step(void **state)
{
    uint64_t before;

    (void)state;
    begin(&pager_zero, room(1), read_write);
    before = tables();
    map(START, 0, 4, read_write);
    *word_at(START, write_access) = 1;
    for (unsigned levels = 2; levels <= LEVELS; levels++) {
        assert_int_equal(section_resize(section, room(levels)), OK);
        assert_int_equal(section->tree.levels, levels);
        put(section, room(levels - 1) - PAGE_SIZE, levels);
        put(section, room(levels - 1), levels + 100);
        assert_int_equal(pte_state(entry_at(START), 1), PTE_LEAF);
        if (levels == 3)
            evict_all();
        assert_int_equal(*word_at(START, read_access), 1);
        space_audit();
    }
    for (unsigned levels = LEVELS; levels-- > 1;) {
        assert_int_equal(get(section, room(levels)), levels + 101);
        assert_int_equal(section_resize(section, room(levels)), OK);
        assert_int_equal(section->tree.levels, levels);
        assert_int_equal(get(section, room(levels) - PAGE_SIZE), levels + 1);
        assert_int_equal(*word_at(START, read_access), 1);
        space_audit();
    }
    assert_int_equal(tables() - before, 3); /* the space's */
    assert_int_equal(section_resize(section, room(2)), OK);
    assert_int_equal(get(section, room(1)), 0); /* what was cut off does not come back */
    end();
}

/* A cut from the highest tree to one page frees all tables but that of the page. */
static void a_cut_frees_the_tables(void **state)
{
    uint64_t before;

    (void)state;
    begin(&pager_zero, room(LEVELS), read_write);
    before = tables();
    for (unsigned i = 0; i < 40; i++)
        put(section, i * plain_room(1), i + 1);
    put(section, room(3), 9);
    put(section, room(LEVELS) - PAGE_SIZE, 9);
    assert_true(tables() > before + 40);
    assert_int_equal(section_resize(section, PAGE_SIZE), OK);
    assert_int_equal(tables(), before); /* its root was there */
    assert_int_equal(get(section, 0), 1);
    assert_int_equal(section_resize(section, 0), OK);
    assert_int_equal(section_resize(section, 2 * PAGE_SIZE), OK);
    assert_int_equal(get(section, 0), 0);
    end();
}

/* A snapshot keeps its tree when its section's becomes lower, and the other way round. */
static void a_snapshot_keeps_its_tree(void **state)
{
    struct section *snapshot;
    struct section *clone;

    (void)state;
    begin(&pager_zero, room(3), read_write);
    put(section, 0, 1);
    put(section, room(2), 2);
    put(section, room(3) - PAGE_SIZE, 3);
    assert_int_equal(section_snapshot(section, read_only, &snapshot), OK);
    assert_int_equal(section_snapshot(section, read_write, &clone), OK);
    assert_int_equal(section_resize(section, PAGE_SIZE), OK);
    assert_int_equal(section->tree.levels, 1);
    space_audit();
    put(section, 0, 4);
    assert_int_equal(get(snapshot, 0), 1);
    assert_int_equal(get(clone, room(2)), 2);
    assert_int_equal(section_resize(clone, room(4)), OK);
    put(clone, room(4) - PAGE_SIZE, 5);
    put(clone, room(2), 6);
    space_audit();
    assert_int_equal(get(snapshot, room(2)), 2);
    assert_int_equal(get(snapshot, room(3) - PAGE_SIZE), 3);
    section_close(snapshot);
    assert_int_equal(section_resize(clone, room(2)), OK);
    assert_int_equal(get(clone, 0), 1);
    assert_int_equal(get(section, 0), 4);
    section_close(clone);
    end();
}

/* A space has met a table that a cut frees, and frames of it are something else by then. */
static void a_freed_table_is_forgotten(void **state)
{
    (void)state;
    begin(&pager_zero, room(2), read_write);
    put(section, 0, 1);
    put(section, room(1), 2);
    map(START, 0, 1, read_write);
    map(FAR, room(1), 2, read_write);
    assert_true(links(FAR, READ));
    assert_int_equal(space->recent.window, 1);
    assert_int_equal(section_resize(section, PAGE_SIZE), OK);
    assert_int_equal(space->recent.window, SECTION_NO_WINDOW);
    assert_int_equal(section_resize(section, room(2)), OK);
    put(section, room(1), 3);
    assert_true(links(FAR, WRITE));
    assert_int_equal(*word_at(FAR, read_access), 3);
    assert_true(links(START, WRITE));
    assert_int_equal(*word_at(START, read_access), 1);
    end();
}

/* Without memory for roots nothing changes; without memory for a path the tree stays high. */
static void memory_may_be_short(void **state)
{
    (void)state;
    begin(&pager_zero, room(1), read_write);
    put(section, PAGE_SIZE, 1);
    for (unsigned fails = 1; fails <= 3; fails++) {
        uint64_t before = tables();

        pmm_fail_from(fails, UINT64_MAX);
        assert_int_equal(section_resize(section, room(4)), STATUS_NO_MEMORY);
        pmm_fail_from(0, 0);
        assert_int_equal(section_size(section), room(1));
        assert_int_equal(section->tree.levels, 1);
        assert_int_equal(tables(), before);
        put(section, PAGE_SIZE, 1);
    }
    assert_int_equal(section_resize(section, 0), OK);
    assert_int_equal(section_resize(section, room(4)), OK);
    section_close(section);
    assert_int_equal(section_create(&pager_zero, NULL, room(4), read_write, &section), OK);
    pmm_fail_from(1, UINT64_MAX);
    assert_int_equal(section_resize(section, PAGE_SIZE), OK);
    pmm_fail_from(0, 0);
    assert_int_equal(section->tree.levels, 4);
    assert_int_equal(get(section, 0), 0);
    assert_int_equal(section_resize(section, PAGE_SIZE), OK);
    assert_int_equal(section->tree.levels, 1);
    end();
}

/* A byte behind the section's end on its last page is mapped by the fast path, as all of it is. */
static void the_last_page_is_whole(void **state)
{
    (void)state;
    begin(&pager_zero, PAGE_SIZE + 100, read_write);
    put(section, 0, 4);
    put(section, PAGE_SIZE, 5);
    map(START, 0, 4, read_write);
    assert_true(links(START, READ)); /* the table is remembered */
    assert_true(links(START + PAGE_SIZE + 3000, READ));
    assert_int_equal(*word_at(START + PAGE_SIZE, read_access), 5);
    assert_false(links(START + 2 * PAGE_SIZE, READ));
    end();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tree_is_as_high_as_its_size),
        cmocka_unit_test(a_snapshot_costs_a_table),
        cmocka_unit_test(pages_stay_at_each_step),
        cmocka_unit_test(a_cut_frees_the_tables),
        cmocka_unit_test(a_snapshot_keeps_its_tree),
        cmocka_unit_test(a_freed_table_is_forgotten),
        cmocka_unit_test(memory_may_be_short),
        cmocka_unit_test(the_last_page_is_whole),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}

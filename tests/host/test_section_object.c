/* Sections as objects: every pager through one body of accesses, forks, eviction and sizes; what is
 * cut off leaves every space; and errors of a pager. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "swapdisk/area.h"
#include "swapdisk/format/little.h"
#include "tests/host/fake/machine.h"
#include "tests/host/model/space_model_host.h"
#include "vmm/fault/fault.h"
#include "vmm/files/image.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"
#include "vmm/section/section.h"
#include "vmm/space/commit.h"

#define MEMORY (16 * MIB)
#define SLOTS  512U
#define START  (4 * MIB)
#define OTHER  (64 * MIB)
#define PAGES  20U
#define TAIL   100U /* bytes on the last page */
#define SIZE   ((PAGES - 1) * PAGE_SIZE + TAIL)

static const struct rights read_write = {.write = true, .user = true};
static const struct rights read_only = {.user = true};
static const struct rights read_execute = {.execute = true, .user = true};
static const struct fault_access read_access = {.from_user = true};
static const struct fault_access write_access = {.write = true, .from_user = true};

static uint8_t content[SIZE];
static const struct archive archive = {.bytes = content, .size = SIZE};

/* The same content as an image: words are set to a base and what set_up finds to be missing. They
 * begin and end the section, and lie on two pages, next to one another. */
#define BASE UINT64_C(0xfedcba9876543210)
static uint8_t unset[SIZE];
static const struct archive unset_archive = {.bytes = unset, .size = SIZE};
static struct image_word words[] = {{.at = 0},
                                    {.at = PAGE_SIZE - 7},
                                    {.at = PAGE_SIZE + 1},
                                    {.at = 4996},
                                    {.at = 4 * PAGE_SIZE - 1},
                                    {.at = 4 * PAGE_SIZE + 96},
                                    {.at = 9 * PAGE_SIZE},
                                    {.at = SIZE - 8}};
static const struct image image = {.below = &pager_archive,
                                   .source = &unset_archive,
                                   .base = BASE,
                                   .words = words,
                                   .count = ARRAY_COUNT(words)};

static unsigned asked;
static enum status answer;
static void (*while_asked)(void);

/* A pager that counts, and fails when told to. */
static enum status slow_get(const void *source, uint64_t page, struct pfn frame)
{
    void (*other)(void) = while_asked;

    asked++;
    while_asked = NULL;
    if (other != NULL)
        other();
    return answer != OK ? answer : pager_archive.get(source, page, frame);
}

static unsigned ended;

static void slow_end(const void *source)
{
    assert_ptr_equal(source, &archive);
    ended++;
}

static const struct pager slow_pager = {.name = "slow", .get = slow_get, .end = slow_end};

/* Each pager, and whether its pages begin as the archive. */
static const struct member {
    const struct pager *pager;
    const void *source;
    bool filled;
} members[] = {{&pager_zero, NULL, false},
               {&pager_archive, &archive, true},
               {&slow_pager, &archive, true},
               {&pager_image, &image, true}};

static const struct member *member;
static unsigned levels = 1; /* of the section's tree, at least */
static struct section *section;
static struct space *space;
static struct space *other;

static int set_up(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SIZE; i++)
        content[i] = (uint8_t)(i * 31 + i / PAGE_SIZE + 1);
    memcpy(unset, content, SIZE);
    for (unsigned i = 0; i < ARRAY_COUNT(words); i++) {
        words[i].addend = get_le64(content + words[i].at) - BASE;
        memset(unset + words[i].at, 0xee, 8);
    }
    return model_start_with_swap(MEMORY, SLOTS);
}

static uint8_t first_byte(unsigned offset)
{
    return member->filled ? content[offset] : 0;
}

static struct space_request window(uint64_t at, uint64_t pages, struct rights rights,
                                   uint64_t offset)
{
    return SPACE_AT(at, pages * PAGE_SIZE, rights, .flags = SPACE_SHARED, .section = section,
                    .offset = offset);
}

static void map(struct space *where, uint64_t at, uint64_t pages, uint64_t offset)
{
    struct space_request request = window(at, pages, read_write, offset);

    assert_int_equal(space_map(where, &request, NULL), OK);
}

static void begin(const struct member *which)
{
    member = which;
    answer = OK;
    model_begin(1, 4);
    model_overcommit(OVERCOMMIT_ALWAYS);
    assert_int_equal(section_create(which->pager, which->source, SIZE, read_write, &section), OK);
    assert_int_equal(plain_grow(&section->tree, levels), OK);
    assert_int_equal(space_create(&space), OK);
    assert_int_equal(space_create(&other), OK);
    map(space, START, PAGES + 4, 0);
    map(other, OTHER, PAGES - 2, 2 * PAGE_SIZE);
}

static void end(void)
{
    space_audit();
    space_destroy(space);
    space_destroy(other);
    section_close(section);
    assert_int_equal(section_count(), 0);
    assert_int_equal(swap_references(), 0);
    model_end();
}

/* ---- accesses ---- */

static struct pte *entry_at(struct space *where, uint64_t address)
{
    bool were_on = machine_interrupts_off();
    struct tree_place place = tree_walk(&where->tree, address);

    machine_interrupts_restore(were_on);
    return place.level == 1 ? (struct pte *)frame_pointer(place.table) + place.index : NULL;
}

/* Returns the byte; a write marks the entry dirty, as a processor does. */
static uint8_t *byte_at(struct space *where, uint64_t address, struct fault_access access)
{
    struct pte *entry;

    assert_int_equal(fault_resolve(where, address, access), OK);
    entry = entry_at(where, address);
    assert_int_equal(pte_class(*entry), PTE_SHARED);
    entry->word |= access.write ? PTE_D : 0;
    return (uint8_t *)frame_pointer(pte_frame(*entry)) + address % PAGE_SIZE;
}

static uint8_t read(unsigned offset)
{
    return *byte_at(space, START + offset, read_access);
}

static uint8_t read_other(unsigned offset)
{
    return *byte_at(other, OTHER - 2 * PAGE_SIZE + offset, read_access);
}

static void write(unsigned offset, uint8_t value)
{
    *byte_at(space, START + offset, write_access) = value;
}

static unsigned evict_all(void)
{
    unsigned evicted;
    unsigned sum = 0;

    do {
        assert_int_equal(reclaim_pages(16, &evicted), OK);
        sum += evicted;
    } while (evicted > 0);
    return sum;
}

/* ---- one body for every pager ---- */

static void check_sharing(void)
{
    assert_int_equal(read(5000), first_byte(5000));
    write(3 * PAGE_SIZE + 7, 77);
    assert_int_equal(read_other(3 * PAGE_SIZE + 7), 77);
    assert_int_equal(read_other(3 * PAGE_SIZE + 8), first_byte(3 * PAGE_SIZE + 8));
    assert_int_equal(read(SIZE - 1), first_byte(SIZE - 1));
    assert_int_equal(read(SIZE), 0);
    assert_int_equal(fault_resolve(space, START + PAGES * PAGE_SIZE, read_access), STATUS_RANGE);
    assert_int_equal(fault_resolve(space, START + PAGES * PAGE_SIZE, write_access), STATUS_RANGE);
}

static void check_calls(void)
{
    uint8_t bytes[3 * PAGE_SIZE];
    uint64_t done;

    memset(bytes, 0xee, sizeof(bytes));
    assert_int_equal(section_write(section, 6 * PAGE_SIZE + 50, bytes, sizeof(bytes), &done), OK);
    assert_int_equal(done, sizeof(bytes));
    assert_int_equal(read(6 * PAGE_SIZE + 49), first_byte(6 * PAGE_SIZE + 49));
    assert_int_equal(read_other(7 * PAGE_SIZE), 0xee);
    write(8 * PAGE_SIZE, 9);
    assert_int_equal(section_read(section, 8 * PAGE_SIZE - 1, bytes, 3, &done), OK);
    assert_true(done == 3 && bytes[0] == 0xee && bytes[1] == 9 && bytes[2] == 0xee);
    assert_int_equal(section_read(section, SIZE - 1, bytes, 3, &done), OK);
    assert_int_equal(done, 1);
    assert_int_equal(section_read(section, SIZE, bytes, 3, &done), STATUS_RANGE);
    assert_int_equal(done, 0);
}

static void check_eviction(void)
{
    assert_true(evict_all() >= 4);
    assert_int_equal(page_clock_size(), 0);
    space_audit();
    assert_int_equal(read(3 * PAGE_SIZE + 7), 77);
    assert_int_equal(read_other(7 * PAGE_SIZE), 0xee);
    assert_int_equal(read(5000), first_byte(5000));
    evict_all(); /* read back from a slot, it goes to a slot again */
    assert_int_equal(read(3 * PAGE_SIZE + 7), 77);
}

static void check_fork(void)
{
    struct space *child;

    assert_int_equal(space_fork(space, &child), OK);
    *byte_at(child, START + 10 * PAGE_SIZE, write_access) = 10;
    assert_int_equal(read(10 * PAGE_SIZE), 10);
    space_destroy(child);
    assert_int_equal(read_other(10 * PAGE_SIZE), 10);
}

static void check_sizes(void)
{
    uint64_t promised = commit_pages();

    write(4 * PAGE_SIZE + 200, 42);
    assert_int_equal(section_resize(section, 4 * PAGE_SIZE + 100), OK);
    assert_int_equal(commit_pages(), promised - (PAGES - 5));
    assert_int_equal(fault_resolve(space, START + 5 * PAGE_SIZE, read_access), STATUS_RANGE);
    assert_int_equal(fault_resolve(other, OTHER + 8 * PAGE_SIZE, read_access), STATUS_RANGE);
    assert_int_equal(read(4 * PAGE_SIZE + 99), first_byte(4 * PAGE_SIZE + 99));
    assert_int_equal(read(4 * PAGE_SIZE + 200), 0);
    space_audit();
    write(4 * PAGE_SIZE + 300, 43); /* behind the end, on its page */
    assert_int_equal(section_resize(section, 12 * PAGE_SIZE), OK);
    assert_int_equal(read(4 * PAGE_SIZE + 300), 0);
    assert_int_equal(read_other(10 * PAGE_SIZE), 0);
    assert_int_equal(read(8 * PAGE_SIZE), 0);
    assert_int_equal(read(3 * PAGE_SIZE + 7), 77);
    assert_int_equal(section_resize(section, SECTION_SIZE_MAX + 1), STATUS_RANGE);
    assert_int_equal(section_resize(section, 0), OK);
    assert_int_equal(fault_resolve(space, START, read_access), STATUS_RANGE);
    assert_int_equal(page_clock_size(), 0);
}

static void every_kind_passes_one_body(void **state)
{
    const unsigned levels_max = TREE_LEVELS_MAX;

    (void)state;
    for (unsigned i = 0; i < levels_max * ARRAY_COUNT(members); i++) {
        levels = 1 + i % levels_max;
        begin(&members[i / levels_max]);
        check_sharing();
        check_calls();
        check_fork();
        check_eviction();
        assert_int_equal(section->tree.levels, levels);
        check_sizes();
        assert_int_equal(section->tree.levels, 1);
        end();
    }
    levels = 1;
}

/* ---- what a pager's pages are ---- */

static void a_clean_page_is_asked_for_again(void **state)
{
    (void)state;
    begin(&members[2]);
    asked = 0;
    for (unsigned i = 0; i < PAGES; i++)
        (void)read(i * PAGE_SIZE);
    write(7 * PAGE_SIZE, 1);
    assert_int_equal(asked, PAGES);
    assert_int_equal(evict_all(), PAGES);
    assert_int_equal(swap_references(), 1);
    (void)read_other(8 * PAGE_SIZE);
    assert_int_equal(read(7 * PAGE_SIZE), 1);
    assert_int_equal(asked, PAGES + 1);
    space_destroy(space);
    assert_int_equal(space_create(&space), OK);
    ended = 0;
    end();
    assert_int_equal(ended, 1);
}

static void an_error_is_told_and_tried_anew(void **state)
{
    uint64_t done;
    uint8_t byte;

    (void)state;
    begin(&members[2]);
    answer = STATUS_IO;
    asked = 0;
    assert_int_equal(fault_resolve(space, START, read_access), STATUS_IO);
    assert_int_equal(fault_resolve(other, OTHER, write_access), STATUS_IO);
    assert_int_equal(section_read(section, 0, &byte, 1, &done), STATUS_IO);
    assert_int_equal(asked, 3);
    assert_int_equal(page_clock_size(), 0);
    space_audit();
    answer = OK;
    assert_int_equal(read(0), content[0]);
    end();
}

/* ---- rights, windows, promises ---- */

static void a_mapping_stays_within_the_most_rights(void **state)
{
    struct space_request request;

    (void)state;
    begin(&members[1]);
    request = window(OTHER + 64 * MIB, 1, read_execute, 0);
    assert_int_equal(space_map(space, &request, NULL), STATUS_DENIED);
    assert_int_equal(space_protect(space, START, PAGE_SIZE, read_execute), STATUS_DENIED);
    assert_int_equal(space_protect(space, START, PAGE_SIZE, read_only), OK);
    assert_int_equal(fault_resolve(space, START, write_access), STATUS_DENIED);
    assert_int_equal(space_protect(space, START, PAGE_SIZE, read_write), OK);
    assert_int_equal(fault_resolve(space, START, write_access), OK);
    request = window(OTHER + 64 * MIB, 1, read_write, 100);
    assert_int_equal(space_map(space, &request, NULL), STATUS_RANGE);
    request = window(OTHER + 64 * MIB, 1, read_write, SECTION_SIZE_MAX);
    assert_int_equal(space_map(space, &request, NULL), STATUS_RANGE);
    end();
}

static void a_mapping_grows_into_the_section(void **state)
{
    uint64_t at;

    (void)state;
    begin(&members[1]);
    assert_int_equal(space_remap(other, OTHER, (PAGES - 2) * PAGE_SIZE, (PAGES + 6) * PAGE_SIZE),
                     OK);
    assert_int_equal(fault_resolve(other, OTHER + PAGES * PAGE_SIZE, read_access), STATUS_RANGE);
    assert_int_equal(section_resize(section, (PAGES + 4) * PAGE_SIZE), OK);
    write((PAGES + 1) * PAGE_SIZE, 5);
    assert_int_equal(read_other((PAGES + 1) * PAGE_SIZE), 5);
    assert_int_equal(space_unmap(space, START, 2 * PAGE_SIZE), OK);
    assert_int_equal(space_map(space,
                               &SPACE_AT(START + (PAGES + 4) * PAGE_SIZE, PAGE_SIZE, read_only,
                                         .flags = SPACE_GUARD),
                               NULL),
                     OK);
    assert_int_equal(space_remap_moving(space, START + 2 * PAGE_SIZE, (PAGES + 2) * PAGE_SIZE,
                                        (PAGES + 3) * PAGE_SIZE, &at),
                     OK);
    assert_int_equal(*byte_at(space, at + (PAGES - 1) * PAGE_SIZE, read_access), 5);
    end();
}

static void only_what_may_be_written_is_promised(void **state)
{
    struct section *text;
    uint64_t promised;

    (void)state;
    begin(&members[1]);
    promised = commit_pages();
    assert_int_equal(section_create(&pager_archive, &archive, SIZE, read_only, &text), OK);
    assert_int_equal(commit_pages(), promised);
    section_close(text);
    assert_int_equal(section_create(&pager_zero, NULL, SIZE, read_only, &text), OK);
    assert_int_equal(commit_pages(), promised + PAGES);
    section_close(text);
    assert_int_equal(commit_pages(), promised);
    end();
}

/* ---- a fault under way while the section becomes smaller ---- */

static void cut(void)
{
    fake_machine_be_cpu(1);
    assert_int_equal(section_resize(section, 2 * PAGE_SIZE), OK);
    fake_machine_be_cpu(0);
}

/* The size is changed while the pager is asked for a page that stays. */
static void a_fault_may_be_under_way(void **state)
{
    (void)state;
    begin(&members[2]);
    write(6 * PAGE_SIZE, 3);
    while_asked = cut;
    assert_int_equal(read(PAGE_SIZE), content[PAGE_SIZE]);
    assert_int_equal(fault_resolve(space, START + 6 * PAGE_SIZE, read_access), STATUS_RANGE);
    assert_int_equal(section_size(section), 2 * PAGE_SIZE);
    end();
}

static struct pfn held;
static unsigned waited;

/* A fault on another processor has the page of place 6 and is about to map it. */
static void release_held(void)
{
    bool were_on = machine_interrupts_off();
    struct tree_place place = tree_walk_by(TABLES_DIRECT, &section->tree, 6 * PAGE_SIZE);

    machine_interrupts_restore(were_on);
    if (waited++ != 1)
        return;
    assert_int_equal(pte_state(place.entry, 1), PTE_LEAF);
    page_release(held);
}

static void a_page_in_use_is_awaited(void **state)
{
    struct section_place place;
    struct page_reserve reserve = {.page = PFN_NONE};
    void (*relax)(void) = fake_on_relax;

    (void)state;
    begin(&members[0]);
    write(6 * PAGE_SIZE, 3);
    assert_true(section_hold_at(space, START + 6 * PAGE_SIZE, &place));
    assert_int_equal(section_bring(space, &place, SECTION_USE, &reserve, &held), OK);
    section_put(place.section);
    waited = 0;
    fake_on_relax = release_held;
    assert_int_equal(section_resize(section, PAGE_SIZE), OK);
    fake_on_relax = relax;
    assert_int_equal(waited, 2);
    assert_int_equal(page_clock_size(), 0);
    end();
}

/* Holds the page of place 6 as a fault does, and keeps it. */
static void hold_page_6(struct section_place *place)
{
    struct page_reserve reserve = {.page = PFN_NONE};

    assert_true(section_hold_at(space, START + 6 * PAGE_SIZE, place));
    assert_int_equal(section_bring(space, place, SECTION_USE, &reserve, &held), OK);
    section_put(place->section);
}

/* A disk command that never ends holds its frame for ever (rule D1). */
static void a_page_held_for_ever_ends_the_wait(void **state)
{
    uint64_t promised = commit_pages();
    uint64_t step = fake_clock_step_ns;
    struct section_place place;

    (void)state;
    begin(&members[0]);
    write(6 * PAGE_SIZE, 3);
    assert_int_equal(read_other(6 * PAGE_SIZE), 3);
    hold_page_6(&place);
    fake_clock_step_ns = UINT64_C(1000000000);
    assert_int_equal(section_resize(section, PAGE_SIZE), STATUS_TIMEOUT);
    assert_int_equal(section_size(section), PAGE_SIZE);
    assert_false(section_is_at(space, START + 6 * PAGE_SIZE, &place));
    assert_int_equal(fault_resolve(space, START + 6 * PAGE_SIZE, read_access), STATUS_RANGE);
    assert_int_equal(section_resize(section, 8 * PAGE_SIZE), STATUS_TIMEOUT);
    assert_int_equal(section_size(section), PAGE_SIZE);
    assert_int_equal(frame_record(held)->count, 2);
    page_release(held);
    assert_int_equal(section_resize(section, 8 * PAGE_SIZE), OK);
    fake_clock_step_ns = step;
    assert_int_equal(commit_pages(), promised + 8);
    assert_int_equal(read(6 * PAGE_SIZE), 0);
    end();
}

/* The section ends while a page that was cut off is still held. */
static void a_held_page_outlives_its_section(void **state)
{
    uint64_t step = fake_clock_step_ns;
    struct section_place place;

    (void)state;
    begin(&members[0]);
    write(6 * PAGE_SIZE, 3);
    hold_page_6(&place);
    fake_clock_step_ns = UINT64_C(1000000000);
    assert_int_equal(section_resize(section, PAGE_SIZE), STATUS_TIMEOUT);
    fake_clock_step_ns = step;
    space_destroy(space);
    space_destroy(other);
    section_close(section);
    assert_int_equal(section_count(), 0);
    assert_int_equal(frame_record(held)->count, 1);
    page_release(held);
    model_end();
}

/* If there is no memory for the tail's page, the next call with that size makes the tail zero. */
static void a_tail_may_need_memory(void **state)
{
    (void)state;
    begin(&members[0]);
    write(2 * TAIL, 5);
    evict_all();
    pmm_fail_from(1, UINT64_MAX);
    assert_int_equal(section_resize(section, TAIL), STATUS_NO_MEMORY);
    pmm_fail_from(0, 0);
    assert_int_equal(section_size(section), TAIL);
    assert_int_equal(section_resize(section, TAIL), OK);
    assert_int_equal(read(2 * TAIL), 0);
    end();
}

/* ---- images ---- */

static void assert_content(void)
{
    static uint8_t bytes[SIZE];
    uint64_t done;

    assert_int_equal(section_read(section, 0, bytes, SIZE, &done), OK);
    assert_memory_equal(bytes, content, SIZE);
}

/* Every byte is right, in any order of the pages; nothing is written when they go. */
static void an_image_is_made_again(void **state)
{
    uint64_t written;

    (void)state;
    begin(&members[3]);
    for (unsigned page = PAGES; page-- > 0;)
        read(page * PAGE_SIZE);
    assert_content();
    written = reclaim_counts().written;
    assert_int_equal(evict_all(), PAGES);
    assert_int_equal(reclaim_counts().written, written);
    assert_int_equal(swap_references(), 0);
    assert_content();
    write(PAGE_SIZE - 1, 1); /* on a word: the slot is newer */
    evict_all();
    assert_int_equal(read(PAGE_SIZE - 1), 1);
    assert_int_equal(read(PAGE_SIZE), content[PAGE_SIZE]);
    end();
}

/* The status of the source is the image's; its end is called once. */
static void an_image_is_as_its_source(void **state)
{
    struct image above = image;
    uint8_t byte;
    uint64_t done;

    (void)state;
    above.below = &slow_pager;
    above.source = &archive;
    begin(&members[0]);
    ended = 0;
    section_close(section);
    space_destroy(other);
    space_destroy(space);
    assert_int_equal(space_create(&space), OK);
    assert_int_equal(space_create(&other), OK);
    assert_int_equal(image_open(&above, SIZE, read_only, &section), OK);
    answer = STATUS_CORRUPT;
    assert_int_equal(section_read(section, 0, &byte, 1, &done), STATUS_CORRUPT);
    answer = OK;
    assert_int_equal(section_read(section, 0, &byte, 1, &done), OK);
    assert_int_equal(byte, content[0]);
    assert_int_equal(commit_pages(), 0);
    end();
    assert_int_equal(ended, 1);
}

static void wrong_images_are_refused(void **state)
{
    static const struct image_word overlap[] = {{.at = 8}, {.at = 15}};
    static const struct image_word falls[] = {{.at = 4096}, {.at = 64}};
    static const struct image_word behind[] = {{.at = SIZE - 7}};
    static const struct image_word wraps[] = {{.at = UINT64_MAX - 3}};
    const struct image_word *const lists[] = {overlap, falls, behind, wraps};
    static const struct pager writes = {.name = "writes", .get = slow_get, .put = slow_get};
    struct image wrong = image;

    (void)state;
    begin(&members[0]);
    for (unsigned i = 0; i < ARRAY_COUNT(lists); i++) {
        struct section *opened;

        wrong.words = lists[i];
        wrong.count = i < 2 ? 2 : 1;
        assert_int_equal(image_open(&wrong, SIZE, read_only, &opened), STATUS_CORRUPT);
        assert_int_equal(image_open(&wrong, 7, read_only, &opened), STATUS_CORRUPT);
        assert_int_equal(image_open(&wrong, SECTION_SIZE_MAX + 1, read_only, &opened),
                         STATUS_RANGE);
        wrong.count = 0;
        assert_int_equal(image_open(&wrong, 7, read_only, &opened), OK);
        section_close(opened);
        wrong.below = &pager_zero;
        assert_int_equal(image_open(&wrong, SIZE, read_only, &opened), STATUS_DENIED);
        wrong.below = &writes;
        assert_int_equal(image_open(&wrong, SIZE, read_only, &opened), STATUS_DENIED);
        wrong.below = &pager_archive;
    }
    end();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_passes_one_body),
        cmocka_unit_test(an_image_is_made_again),
        cmocka_unit_test(an_image_is_as_its_source),
        cmocka_unit_test(wrong_images_are_refused),
        cmocka_unit_test(a_clean_page_is_asked_for_again),
        cmocka_unit_test(an_error_is_told_and_tried_anew),
        cmocka_unit_test(a_mapping_stays_within_the_most_rights),
        cmocka_unit_test(a_mapping_grows_into_the_section),
        cmocka_unit_test(only_what_may_be_written_is_promised),
        cmocka_unit_test(a_fault_may_be_under_way),
        cmocka_unit_test(a_page_in_use_is_awaited),
        cmocka_unit_test(a_page_held_for_ever_ends_the_wait),
        cmocka_unit_test(a_held_page_outlives_its_section),
        cmocka_unit_test(a_tail_may_need_memory),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}

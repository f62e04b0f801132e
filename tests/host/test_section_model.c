/* Sections against a plain model: arrays of bytes. Random reads and writes through mappings and by
 * calls, sizes, snapshots, forks, shared and private windows that come, go, move and change their
 * rights, eviction, pages of zeroes, failing pagers, short memory and failing allocations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "lib/random.h"
#include "swapdisk/area.h"
#include "tests/host/model/space_model_host.h"
#include "vmm/fault/fault.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"
#include "vmm/reclaimer/zero_merge.h"
#include "vmm/section/section.h"
#include "vmm/space/commit.h"

#define MEMORY     (16 * MIB)
#define SLOTS      512U
#define PAGES_MAX  24U
#define BYTES_MAX  (PAGES_MAX * PAGE_SIZE)
#define OBJECTS    3U
#define WINDOWS    6U
#define SPACES     3U
#define APART      (4 * MIB)
#define OPERATIONS 4000U

/* Faults of one access: a page comes from its slot, is copied, becomes own. */
#define FAULTS_MAX 4U

enum window_rights { NO_ACCESS, READ_ONLY, READ_WRITE, WINDOW_RIGHTS };

static const struct rights rights_of[WINDOW_RIGHTS] = {
    {.none = true}, {.user = true}, {.write = true, .user = true}};

/* A section, or a snapshot of one. */
struct object {
    struct section *section; /* NULL: none */
    bool frozen;
    uint64_t size;
    uint8_t bytes[BYTES_MAX]; /* behind the end: what the last page shows, or zero */
};

/* A page of a window. */
struct window_page {
    bool mapped;
    bool copied; /* of a private window: it shows its own bytes */
    enum window_rights rights;
};

/* Shows pages [first, first + PAGES_MAX) of an object, in one of the spaces. */
struct window {
    bool copies;
    unsigned object;
    unsigned first;
    struct window_page pages[PAGES_MAX];
    uint8_t bytes[BYTES_MAX];
};

struct range {
    unsigned from;
    unsigned to;
};

static uint8_t source_bytes[BYTES_MAX];
static struct random randomness;
static bool pager_fails;
static bool memory_fails;
static bool failing; /* an allocation of the operation under way may fail */

static struct object objects[OBJECTS];
static struct space *spaces[SPACES];
static struct window windows[SPACES][WINDOWS];

static const struct archive source = {.bytes = source_bytes, .size = BYTES_MAX};

static enum status get_or_fail(const void *from, uint64_t page, struct pfn frame)
{
    return pager_fails && random_below(&randomness, 4) == 0 ? STATUS_IO
                                                            : pager_archive.get(from, page, frame);
}

static const struct pager failing_pager = {.name = "failing", .get = get_or_fail};

static unsigned draw(unsigned limit)
{
    return (unsigned)random_below(&randomness, limit);
}

static struct range draw_range(void)
{
    unsigned from = draw(PAGES_MAX);

    if (draw(3) == 0)
        return (struct range){0, PAGES_MAX};
    return (struct range){from, from + 1 + draw(PAGES_MAX - from)};
}

static uint64_t address_of(unsigned window)
{
    return (1 + window) * APART;
}

static uint64_t reach_of(const struct object *object)
{
    return round_up(object->size, PAGE_SIZE);
}

static unsigned mapped_in(const struct window *window, struct range range)
{
    unsigned mapped = 0;

    for (unsigned i = range.from; i < range.to; i++)
        mapped += window->pages[i].mapped;
    return mapped;
}

static bool is_whole(const struct window *window)
{
    return mapped_in(window, (struct range){0, PAGES_MAX}) == PAGES_MAX;
}

static bool is_empty(const struct window *window)
{
    return mapped_in(window, (struct range){0, PAGES_MAX}) == 0;
}

/* ---- memory that fails ---- */

static void fail_soon(void)
{
    failing = memory_fails && draw(3) == 0;
    if (failing)
        pmm_fail_from(1 + draw(12), 1 + draw(3));
}

static void fail_no_more(void)
{
    pmm_fail_from(0, 0);
    failing = false;
}

/* Returns true if a call did what it should. False: it had no memory, and nothing has changed. */
static bool succeeded(enum status status, enum status expected)
{
    if (status == STATUS_NO_MEMORY && failing)
        return false;
    assert_int_equal(status, expected);
    return status == OK;
}

/* ---- accesses ---- */

static struct pte *entry_at(struct space *space, uint64_t address)
{
    bool were_on = machine_interrupts_off();
    struct tree_place place = tree_walk(&space->tree, address);

    machine_interrupts_restore(were_on);
    assert_int_equal(place.level, 1);
    return (struct pte *)frame_pointer(place.table) + place.index;
}

/* Resolves one fault; a failing pager is asked until it answers. */
static enum status resolve(struct space *space, uint64_t address, bool write)
{
    struct fault_access access = {.write = write, .from_user = true};
    enum status status = fault_resolve(space, address, access);

    while ((status == STATUS_IO && pager_fails) || (status == STATUS_NO_MEMORY && failing)) {
        if (status == STATUS_NO_MEMORY)
            fail_no_more();
        status = fault_resolve(space, address, access);
    }
    return status;
}

static enum status status_of_access(const struct window *window, unsigned number, bool write)
{
    const struct window_page *page = &window->pages[number];
    const struct object *object = &objects[window->object];

    if (!page->mapped)
        return STATUS_NOT_FOUND;
    if (page->rights == NO_ACCESS || (write && page->rights != READ_WRITE))
        return STATUS_DENIED;
    return page->copied || (window->first + number) * PAGE_SIZE < reach_of(object) ? OK
                                                                                   : STATUS_RANGE;
}

static uint8_t *page_bytes(struct window *window, unsigned number)
{
    struct object *object = &objects[window->object];

    return window->pages[number].copied ? &window->bytes[number * PAGE_SIZE]
                                        : &object->bytes[(window->first + number) * PAGE_SIZE];
}

/* A first write through a private window copies the page. */
static void model_write(struct window *window, unsigned number, unsigned place, uint8_t value)
{
    if (window->copies && !window->pages[number].copied) {
        memcpy(&window->bytes[number * PAGE_SIZE], page_bytes(window, number), PAGE_SIZE);
        window->pages[number].copied = true;
    }
    page_bytes(window, number)[place] = value;
}

/* Accesses a byte through a window, as an instruction would that faults until it may go on. */
static void access_window(unsigned which, unsigned number, bool write)
{
    struct window *window = &windows[which][number];
    unsigned page = draw(PAGES_MAX);
    unsigned place = draw(PAGE_SIZE);
    uint64_t address = address_of(number) + page * PAGE_SIZE + place;
    enum status status = resolve(spaces[which], address, write);
    uint8_t value = (uint8_t)(draw(3) == 0 ? 0 : random_next(&randomness));
    struct pte *entry;
    uint8_t *byte;

    assert_int_equal(status, status_of_access(window, page, write));
    if (status != OK)
        return;
    entry = entry_at(spaces[which], address);
    for (unsigned i = 0; write && (entry->word & PTE_RW) == 0; i++) {
        assert_in_range(i, 0, FAULTS_MAX);
        assert_int_equal(resolve(spaces[which], address, true), OK);
        entry = entry_at(spaces[which], address);
    }
    byte = (uint8_t *)frame_pointer(pte_frame(*entry)) + place;
    assert_int_equal(*byte, page_bytes(window, page)[place]);
    if (write) {
        entry->word |= PTE_D;
        *byte = value;
        model_write(window, page, place, value);
    }
}

/* ---- calls of sections ---- */

static struct object *draw_object(void)
{
    struct object *object = &objects[draw(OBJECTS)];

    return object->section != NULL ? object : &objects[0];
}

static void call_section(bool write)
{
    struct object *object = draw_object();
    uint8_t bytes[2 * PAGE_SIZE];
    uint64_t at = draw(BYTES_MAX);
    uint64_t count = 1 + draw(sizeof(bytes) - 1);
    uint64_t inside = at < object->size ? min_u64(count, object->size - at) : 0;
    uint64_t done;
    enum status status;

    memset(bytes, (int)draw(3) == 0 ? 0 : (int)draw(256), sizeof(bytes));
    status = write ? section_write(object->section, at, bytes, count, &done)
                   : section_read(object->section, at, bytes, count, &done);
    if (write && object->frozen) {
        assert_int_equal(status, STATUS_DENIED);
        return;
    }
    if ((status != STATUS_IO || !pager_fails) && (status != STATUS_NO_MEMORY || !failing)) {
        assert_int_equal(status, inside > 0 ? OK : STATUS_RANGE);
        assert_int_equal(done, inside);
    }
    if (write)
        memcpy(object->bytes + at, bytes, done);
    else
        assert_memory_equal(bytes, object->bytes + at, done);
}

/* If there is no memory for the tail of the new last page, the size has changed, as the call says;
 * the same call again completes it. */
static void resize(void)
{
    struct object *object = draw_object();
    uint64_t to = draw(4) == 0 ? draw(PAGES_MAX + 1) * PAGE_SIZE : draw(BYTES_MAX + 1);
    uint64_t from = min_u64(to, object->size);
    bool fails = pager_fails;
    enum status status;

    pager_fails = false;
    status = section_resize(object->section, to);
    if (status == STATUS_NO_MEMORY && failing) {
        fail_no_more();
        status = section_resize(object->section, to);
    }
    pager_fails = fails;
    if (object->frozen) {
        assert_int_equal(status, STATUS_DENIED);
        return;
    }
    assert_int_equal(status, OK);
    memset(object->bytes + from, 0, BYTES_MAX - from);
    object->size = to;
}

static bool is_shown(unsigned object)
{
    bool shown = false;

    for (unsigned i = 0; i < SPACES * WINDOWS; i++) {
        const struct window *window = &windows[i / WINDOWS][i % WINDOWS];

        shown = shown || (!is_empty(window) && window->object == object);
    }
    return shown;
}

/* Makes a snapshot of an object, or closes one that nothing shows. */
static void snapshot(void)
{
    unsigned number = 1 + draw(OBJECTS - 1);
    struct object *object = &objects[number];
    const struct object *from = draw_object();
    bool frozen = draw(2) == 0;

    if (object->section != NULL) {
        if (!is_shown(number)) {
            section_close(object->section);
            object->section = NULL;
        }
        return;
    }
    if (!succeeded(section_snapshot(from->section, rights_of[frozen ? READ_ONLY : READ_WRITE],
                                    &object->section),
                   OK)) {
        object->section = NULL;
        return;
    }
    object->frozen = frozen;
    object->size = from->size;
    memcpy(object->bytes, from->bytes, BYTES_MAX);
}

/* ---- calls of spaces ---- */

static void map_window(unsigned which, unsigned number)
{
    struct window *window = &windows[which][number];
    unsigned object = draw(OBJECTS);
    bool copies = draw(2) == 0;
    unsigned first = draw(PAGES_MAX);
    enum status expected;

    object = objects[object].section != NULL ? object : 0;
    expected = objects[object].frozen && !copies ? STATUS_DENIED : OK;
    if (!succeeded(
            space_map(spaces[which],
                      &SPACE_AT(address_of(number), BYTES_MAX, rights_of[READ_WRITE],
                                .flags = copies ? 0 : SPACE_SHARED,
                                .section = objects[object].section, .offset = first * PAGE_SIZE),
                      NULL),
            expected))
        return;
    *window = (struct window){.copies = copies, .object = object, .first = first};
    for (unsigned i = 0; i < PAGES_MAX; i++)
        window->pages[i] = (struct window_page){.mapped = true, .rights = READ_WRITE};
}

static void unmap_window(unsigned which, unsigned number)
{
    struct window *window = &windows[which][number];
    struct range range = draw_range();

    if (succeeded(space_unmap(spaces[which], address_of(number) + range.from * PAGE_SIZE,
                              (range.to - range.from) * PAGE_SIZE),
                  mapped_in(window, range) > 0 ? OK : STATUS_NOT_FOUND))
        memset(&window->pages[range.from], 0, (range.to - range.from) * sizeof(window->pages[0]));
}

static void protect_window(unsigned which, unsigned number)
{
    struct window *window = &windows[which][number];
    struct range range = draw_range();
    enum window_rights rights = (enum window_rights)draw(WINDOW_RIGHTS);
    enum status expected = mapped_in(window, range) < range.to - range.from ? STATUS_NOT_FOUND : OK;

    if (mapped_in(window, range) > 0 && rights == READ_WRITE && !window->copies &&
        objects[window->object].frozen)
        expected = STATUS_DENIED;
    if (!succeeded(space_protect(spaces[which], address_of(number) + range.from * PAGE_SIZE,
                                 (range.to - range.from) * PAGE_SIZE, rights_of[rights]),
                   expected))
        return;
    for (unsigned i = range.from; i < range.to; i++)
        window->pages[i].rights = rights;
}

static void discard_window(unsigned which, unsigned number)
{
    struct window *window = &windows[which][number];
    struct range range = draw_range();

    if (!succeeded(space_advise(spaces[which], address_of(number) + range.from * PAGE_SIZE,
                                (range.to - range.from) * PAGE_SIZE, SPACE_DONT_NEED),
                   mapped_in(window, range) < range.to - range.from ? STATUS_NOT_FOUND : OK))
        return;
    for (unsigned i = range.from; i < range.to; i++)
        window->pages[i].copied = false;
}

/* A window whose pages have one region and are all there moves to a free place. */
static void move_window(unsigned which, unsigned number)
{
    struct window *window = &windows[which][number];
    unsigned to = draw(WINDOWS);

    for (unsigned i = 1; i < PAGES_MAX; i++) {
        if (window->pages[i].rights != window->pages[0].rights)
            return;
    }
    if (!is_whole(window) || !is_empty(&windows[which][to]))
        return;
    if (succeeded(space_move(spaces[which], address_of(number), BYTES_MAX, address_of(to)), OK)) {
        windows[which][to] = *window;
        memset(window, 0, sizeof(*window));
    }
}

/* One space becomes a fork of another. */
static void fork_space(void)
{
    unsigned from = draw(SPACES);
    unsigned to = (from + 1 + draw(SPACES - 1)) % SPACES;

    space_destroy(spaces[to]);
    if (succeeded(space_fork(spaces[from], &spaces[to]), OK)) {
        memcpy(windows[to], windows[from], sizeof(windows[to]));
        return;
    }
    fail_no_more();
    assert_int_equal(space_create(&spaces[to]), OK);
    memset(windows[to], 0, sizeof(windows[to]));
}

/* The swap area is in memory: a page for which it has none stays. */
static void evict_some(void)
{
    unsigned evicted;

    (void)succeeded(reclaim_pages(1 + draw(16), &evicted), OK);
}

/* A tree may have more levels than its size needs; the next cut takes them. */
static void raise_tree(void)
{
    struct section *section = draw_object()->section;
    enum status status = plain_grow(&section->tree, 1 + draw(TREE_LEVELS_MAX));

    assert_true(status == OK || (failing && status == STATUS_NO_MEMORY));
}

static void operate(void)
{
    unsigned which = draw(SPACES);
    unsigned window = draw(WINDOWS);

    switch (draw(24)) {
    case 0:
    case 1:
        if (is_empty(&windows[which][window]))
            map_window(which, window);
        break;
    case 2: unmap_window(which, window); break;
    case 3: fork_space(); break;
    case 4: evict_some(); break;
    case 5: resize(); break;
    case 6: call_section(true); break;
    case 7: call_section(false); break;
    case 8: discard_window(which, window); break;
    case 9: protect_window(which, window); break;
    case 10: move_window(which, window); break;
    case 11: snapshot(); break;
    case 12: (void)zero_merge(1 + draw(32)); break;
    case 13: raise_tree(); break;
    default: access_window(which, window, draw(2) == 0);
    }
}

/* ---- runs ---- */

static int set_up(void **state)
{
    (void)state;
    for (unsigned i = 0; i < BYTES_MAX; i++)
        source_bytes[i] = (uint8_t)(1 + i * 7 + i / PAGE_SIZE);
    return model_start_with_swap(MEMORY, SLOTS);
}

static void begin(const struct pager *pager, uint64_t seed)
{
    bool filled = pager->get != NULL;

    randomness = random_from(seed);
    memset(windows, 0, sizeof(windows));
    memset(objects, 0, sizeof(objects));
    objects[0].size = BYTES_MAX;
    if (filled)
        memcpy(objects[0].bytes, source_bytes, BYTES_MAX);
    model_begin(seed, 4);
    model_overcommit(OVERCOMMIT_ALWAYS);
    assert_int_equal(section_create(pager, filled ? &source : NULL, BYTES_MAX,
                                    rights_of[READ_WRITE], &objects[0].section),
                     OK);
    for (unsigned i = 0; i < SPACES; i++)
        assert_int_equal(space_create(&spaces[i]), OK);
}

static void end(void)
{
    for (unsigned i = 0; i < SPACES; i++)
        space_destroy(spaces[i]);
    for (unsigned i = 0; i < OBJECTS; i++) {
        if (objects[i].section != NULL)
            section_close(objects[i].section);
    }
    assert_int_equal(section_count(), 0);
    assert_int_equal(swap_references(), 0);
    assert_int_equal(commit_pages(), 0);
    model_end();
}

static void run(const struct pager *pager, uint64_t seed)
{
    uint64_t operations = model_ops(OPERATIONS);

    begin(pager, seed + model_seed());
    for (uint64_t i = 0; i < operations; i++) {
        fail_soon();
        operate();
        fail_no_more();
        if (i % 200 == 0)
            space_audit();
    }
    end();
}

static void blank_memory_is_an_array(void **state)
{
    (void)state;
    run(&pager_zero, 1);
    run(&pager_zero, 2);
}

static void an_archive_is_an_array(void **state)
{
    (void)state;
    run(&pager_archive, 3);
    run(&pager_archive, 4);
}

static void a_failing_pager_loses_nothing(void **state)
{
    (void)state;
    pager_fails = true;
    run(&failing_pager, 5);
    pager_fails = false;
}

static void few_pages_at_a_time_suffice(void **state)
{
    (void)state;
    page_set_limit(20);
    run(&pager_archive, 6);
    run(&pager_zero, 7);
    page_set_limit(UINT64_MAX);
}

static void failing_allocations_change_nothing(void **state)
{
    (void)state;
    memory_fails = true;
    run(&pager_archive, 8);
    run(&pager_zero, 9);
    page_set_limit(20);
    run(&pager_archive, 10);
    page_set_limit(UINT64_MAX);
    memory_fails = false;
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(blank_memory_is_an_array),
        cmocka_unit_test(an_archive_is_an_array),
        cmocka_unit_test(a_failing_pager_loses_nothing),
        cmocka_unit_test(few_pages_at_a_time_suffice),
        cmocka_unit_test(failing_allocations_change_nothing),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}

/* Sections against a plain model: an array of bytes. Random reads and writes through mappings and
 * by calls, sizes, forks, windows that come and go, eviction, failing pagers and short memory. */
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
#include "vmm/section/section.h"

#define MEMORY     (16 * MIB)
#define SLOTS      512U
#define PAGES_MAX  24U
#define BYTES_MAX  (PAGES_MAX * PAGE_SIZE)
#define WINDOWS    6U
#define SPACES     3U
#define APART      (4 * MIB)
#define OPERATIONS 6000U

static const struct rights read_write = {.write = true, .user = true};

/* What a window shows: pages [first, first + PAGES_MAX) of the section, in one of the spaces. */
struct window {
    bool mapped;
    unsigned first;
};

static uint8_t source_bytes[BYTES_MAX];
static uint8_t model[BYTES_MAX]; /* behind the end: what the last page shows, or zero */
static uint64_t size;
static struct random randomness;
static bool pager_fails;

static struct section *section;
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

static uint64_t address_of(unsigned window)
{
    return (1 + window) * APART;
}

static uint64_t reach(void)
{
    return round_up(size, PAGE_SIZE);
}

/* ---- operations ---- */

static struct pte *entry_at(struct space *space, uint64_t address)
{
    bool were_on = machine_interrupts_off();
    struct tree_place place = tree_walk(&space->tree, address);

    machine_interrupts_restore(were_on);
    assert_int_equal(place.level, 1);
    return (struct pte *)frame_pointer(place.table) + place.index;
}

/* Accesses a byte through a window; a failing pager is asked until it answers. */
static void access_window(unsigned which, unsigned window, bool write)
{
    struct fault_access access = {.write = write, .from_user = true};
    uint64_t offset = draw(BYTES_MAX);
    uint64_t at = windows[which][window].first * PAGE_SIZE + offset;
    uint64_t address = address_of(window) + offset;
    enum status status = fault_resolve(spaces[which], address, access);
    struct pte *entry;
    uint8_t *byte;

    if (at >= reach()) {
        assert_int_equal(status, STATUS_RANGE);
        return;
    }
    while (status == STATUS_IO && pager_fails)
        status = fault_resolve(spaces[which], address, access);
    assert_int_equal(status, OK);
    entry = entry_at(spaces[which], address);
    byte = (uint8_t *)frame_pointer(pte_frame(*entry)) + address % PAGE_SIZE;
    assert_int_equal(*byte, model[at]);
    if (write) {
        entry->word |= PTE_D;
        model[at] = *byte = (uint8_t)random_next(&randomness);
    }
}

static void call_section(bool write)
{
    uint8_t bytes[2 * PAGE_SIZE];
    uint64_t at = draw(BYTES_MAX);
    uint64_t count = 1 + draw(sizeof(bytes) - 1);
    uint64_t inside = at < size ? min_u64(count, size - at) : 0;
    uint64_t done;
    enum status status;

    memset(bytes, (int)draw(256), sizeof(bytes));
    status = write ? section_write(section, at, bytes, count, &done)
                   : section_read(section, at, bytes, count, &done);
    assert_true(status == (inside > 0 ? OK : STATUS_RANGE) || (pager_fails && status == STATUS_IO));
    assert_true(done == inside || status == STATUS_IO);
    if (write)
        memcpy(model + at, bytes, done);
    else
        assert_memory_equal(bytes, model + at, done);
}

/* If the tail of the new last page cannot be read, the size has changed, or not, as the call says:
 * then the calls are repeated with a pager that answers. */
static void resize(void)
{
    uint64_t to = draw(4) == 0 ? draw(PAGES_MAX + 1) * PAGE_SIZE : draw(BYTES_MAX + 1);
    bool failed = pager_fails;
    uint64_t from = min_u64(to, size);

    pager_fails = false;
    assert_int_equal(section_resize(section, to), OK);
    pager_fails = failed;
    memset(model + from, 0, BYTES_MAX - from);
    size = to;
}

static void change_window(void)
{
    unsigned which = draw(SPACES);
    unsigned number = draw(WINDOWS);
    struct window *window = &windows[which][number];
    uint64_t address = address_of(number);

    if (window->mapped) {
        assert_int_equal(space_unmap(spaces[which], address, BYTES_MAX), OK);
    } else {
        window->first = draw(PAGES_MAX);
        assert_int_equal(
            space_map(spaces[which],
                      &SPACE_AT(address, BYTES_MAX, read_write, .flags = SPACE_SHARED,
                                .section = section, .offset = window->first * PAGE_SIZE),
                      NULL),
            OK);
    }
    window->mapped = !window->mapped;
}

/* One space becomes a fork of another. */
static void fork_space(void)
{
    unsigned from = draw(SPACES);
    unsigned to = (from + 1 + draw(SPACES - 1)) % SPACES;

    space_destroy(spaces[to]);
    assert_int_equal(space_fork(spaces[from], &spaces[to]), OK);
    memcpy(windows[to], windows[from], sizeof(windows[to]));
}

static void evict_some(void)
{
    unsigned evicted;

    assert_int_equal(reclaim_pages(1 + draw(16), &evicted), OK);
}

static void operate(void)
{
    unsigned which = draw(SPACES);
    unsigned window = draw(WINDOWS);

    switch (draw(16)) {
    case 0: change_window(); break;
    case 1: fork_space(); break;
    case 2: evict_some(); break;
    case 3: resize(); break;
    case 4: call_section(true); break;
    case 5: call_section(false); break;
    case 6:
        if (windows[which][window].mapped)
            assert_int_equal(
                space_advise(spaces[which], address_of(window), BYTES_MAX, SPACE_DONT_NEED), OK);
        break;
    default:
        if (windows[which][window].mapped)
            access_window(which, window, draw(2) == 0);
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

static void run(const struct pager *pager, uint64_t seed, bool fails)
{
    bool filled = pager->get != NULL;

    randomness = random_from(seed);
    pager_fails = fails;
    memset(windows, 0, sizeof(windows));
    memcpy(model, source_bytes, BYTES_MAX);
    if (!filled)
        memset(model, 0, BYTES_MAX);
    size = BYTES_MAX;
    model_begin(seed, 4);
    model_overcommit(OVERCOMMIT_ALWAYS);
    assert_int_equal(section_create(pager, filled ? &source : NULL, size, read_write, &section),
                     OK);
    for (unsigned i = 0; i < SPACES; i++)
        assert_int_equal(space_create(&spaces[i]), OK);
    for (unsigned i = 0; i < OPERATIONS; i++) {
        operate();
        if (i % 200 == 0)
            space_audit();
    }
    for (unsigned i = 0; i < SPACES; i++)
        space_destroy(spaces[i]);
    section_close(section);
    assert_int_equal(section_count(), 0);
    assert_int_equal(swap_references(), 0);
    model_end();
}

static void blank_memory_is_an_array(void **state)
{
    (void)state;
    run(&pager_zero, 1, false);
    run(&pager_zero, 2, false);
}

static void an_archive_is_an_array(void **state)
{
    (void)state;
    run(&pager_archive, 3, false);
    run(&pager_archive, 4, false);
}

static void a_failing_pager_loses_nothing(void **state)
{
    (void)state;
    run(&failing_pager, 5, true);
}

static void few_pages_at_a_time_suffice(void **state)
{
    (void)state;
    page_set_limit(20);
    run(&pager_archive, 6, false);
    run(&pager_zero, 7, false);
    page_set_limit(UINT64_MAX);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(blank_memory_is_an_array),
        cmocka_unit_test(an_archive_is_an_array),
        cmocka_unit_test(a_failing_pager_loses_nothing),
        cmocka_unit_test(few_pages_at_a_time_suffice),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}

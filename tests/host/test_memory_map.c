/* The memory map: firmware's descriptors in every disorder, beside an oracle that looks at each
 * page by itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/random.h"
#include "pmm/memory_map.h"
#include "tests/host/fake/machine.h"

/* Pages of the maps that the oracle looks at. */
#define PAGES 256U
#define LIMIT (PAGES * PAGE_SIZE)

static struct memory_region regions[BOOTINFO_REGIONS_MAX];

static struct memory_region region(uint64_t start, uint64_t pages, enum memory_kind kind)
{
    return (struct memory_region){.start = {start}, .pages = pages, .kind = kind};
}

/* ---- the oracle ---- */

/* From the least careful to the most: pmm/memory_map.h, 'the more careful one wins'. */
static const enum memory_kind careful[] = {
    MEMORY_USABLE,   MEMORY_BOOT_SERVICES, MEMORY_LOADER,       MEMORY_ACPI_TABLES,
    MEMORY_ACPI_NVS, MEMORY_RUNTIME_DATA,  MEMORY_RUNTIME_CODE, MEMORY_UNUSABLE,
    MEMORY_DEVICE,   MEMORY_RESERVED};

_Static_assert(ARRAY_COUNT(careful) == MEMORY_KINDS, "each kind once");

static unsigned care_of(enum memory_kind kind)
{
    unsigned rank = 0;

    while (careful[rank] != kind)
        rank++;
    return rank;
}

/* Returns true if the region covers the page: usable memory must cover all of it, other kinds any
 * byte. The part past the address width is cut off. */
static bool speaks_of(const struct memory_region *of, uint64_t page, uint64_t limit)
{
    __uint128_t start = of->start.address;
    __uint128_t end = start + (__uint128_t)of->pages * PAGE_SIZE;
    __uint128_t first = page;
    __uint128_t last = first + PAGE_SIZE;

    if (of->pages == 0 || page >= limit)
        return false;
    if (end > limit)
        end = limit;
    if (care_of(of->kind) <= care_of(MEMORY_LOADER))
        return start <= first && last <= end;
    return start < last && first < end;
}

/* The kind of a page by the descriptors; MEMORY_KINDS when none speaks of it. */
static enum memory_kind oracle(unsigned count, uint64_t page, uint64_t limit)
{
    enum memory_kind kind = MEMORY_KINDS;

    for (unsigned i = 0; i < count; i++) {
        if (speaks_of(&regions[i], page, limit) &&
            (kind == MEMORY_KINDS || care_of(regions[i].kind) > care_of(kind)))
            kind = regions[i].kind;
    }
    return kind;
}

static const struct memory_range *range_at(uint64_t address)
{
    const struct memory_map *map = memory_map();

    for (uint32_t i = 0; i < map->count; i++) {
        if (map->ranges[i].start <= address && address < map->ranges[i].end)
            return &map->ranges[i];
    }
    return NULL;
}

static void check_order(void)
{
    const struct memory_map *map = memory_map();

    for (uint32_t i = 0; i < map->count; i++) {
        const struct memory_range *range = &map->ranges[i];

        assert_true(range->start < range->end);
        assert_int_equal((range->start | range->end) % PAGE_SIZE, 0);
        if (i == 0)
            continue;
        assert_true(range[-1].end <= range->start);
        assert_false(range[-1].end == range->start && range[-1].kind == range->kind &&
                     range[-1].kernel == range->kernel);
    }
}

static void compare(unsigned count, uint64_t limit)
{
    bool usable = false;

    for (uint64_t page = 0; page < LIMIT; page += PAGE_SIZE)
        usable = usable || memory_is_free(oracle(count, page, limit));
    assert_int_equal(memory_map_build(regions, count, limit), usable ? OK : STATUS_NOT_FOUND);
    check_order();
    for (uint64_t page = 0; page < LIMIT; page += PAGE_SIZE) {
        const struct memory_range *range = range_at(page);
        enum memory_kind kind = oracle(count, page, limit);

        if (range == NULL ? kind != MEMORY_KINDS : kind != range->kind || range->kernel)
            fail_msg("page %lx is %s, but should be %s", page,
                     range == NULL ? "nothing" : memory_kind_name(range->kind),
                     kind == MEMORY_KINDS ? "nothing" : memory_kind_name(kind));
        assert_int_equal(memory_map_touches_ram(page, page + PAGE_SIZE),
                         kind != MEMORY_KINDS && memory_is_ram(kind));
    }
    assert_null(range_at(limit));
}

/* ---- maps ---- */

static void random_maps(void **state)
{
    struct random dice = random_from(3);

    (void)state;
    for (unsigned round = 0; round < 3000; round++) {
        unsigned count = (unsigned)random_below(&dice, 24);
        uint64_t limit =
            random_below(&dice, 3) == 0 ? PAGE_SIZE * (1 + random_below(&dice, PAGES)) : LIMIT;

        for (unsigned i = 0; i < count; i++) {
            uint64_t start = random_below(&dice, PAGES) * PAGE_SIZE;
            uint64_t pages = random_below(&dice, 40);

            if (random_below(&dice, 8) == 0)
                start += random_below(&dice, PAGE_SIZE);
            if (random_below(&dice, 30) == 0)
                pages = UINT64_MAX >> random_below(&dice, 14);
            if (random_below(&dice, 40) == 0)
                start = UINT64_MAX - random_below(&dice, 1 << 20);
            regions[i] = region(start, pages, (enum memory_kind)random_below(&dice, MEMORY_KINDS));
        }
        compare(count, limit);
    }
}

static void a_tidy_map_stays(void **state)
{
    const struct memory_map *map = memory_map();

    (void)state;
    regions[0] = region(0, 160, MEMORY_USABLE);
    regions[1] = region(160 * PAGE_SIZE, 96, MEMORY_RESERVED);
    regions[2] = region(256 * PAGE_SIZE, 64, MEMORY_USABLE);
    regions[3] = region(320 * PAGE_SIZE, 64, MEMORY_USABLE);
    assert_int_equal(memory_map_build(regions, 4, GIB), OK);
    assert_int_equal(map->count, 3);
    assert_int_equal(map->ranges[2].start, 256 * PAGE_SIZE);
    assert_int_equal(map->ranges[2].end, 384 * PAGE_SIZE);
}

static void absurd_descriptors(void **state)
{
    (void)state;
    regions[0] = region(UINT64_MAX, UINT64_MAX, MEMORY_RESERVED);
    regions[1] = region(0, UINT64_MAX, MEMORY_USABLE);
    regions[2] = region(PAGE_SIZE - 1, UINT64_MAX / PAGE_SIZE + 1, MEMORY_LOADER);
    regions[3] = region(100 * PAGE_SIZE + 1, UINT64_C(1) << 52, MEMORY_USABLE);
    regions[4] = region(7 * PAGE_SIZE, 0, MEMORY_RESERVED);
    compare(5, LIMIT);
    regions[0] = region(LIMIT - 1, UINT64_MAX, MEMORY_RESERVED);
    compare(5, LIMIT);
    compare(0, LIMIT);
    regions[0] = region(LIMIT, 1, MEMORY_USABLE);
    compare(1, LIMIT);
    /* Pieces of pages only. */
    regions[0] = region(5, 1, MEMORY_USABLE);
    compare(1, LIMIT);
    regions[0] = region(0, 1, MEMORY_USABLE);
    compare(1, LIMIT);
}

static void too_many_ranges(void **state)
{
    (void)state;
    /* One large region under many holes: two ranges for each hole. */
    regions[0] = region(0, UINT64_C(1) << 20, MEMORY_USABLE);
    for (unsigned i = 1; i < BOOTINFO_REGIONS_MAX; i++)
        regions[i] = region((uint64_t)i * 4 * PAGE_SIZE, 1, MEMORY_RESERVED);
    assert_int_equal(memory_map_build(regions, BOOTINFO_REGIONS_MAX, UINT64_C(1) << 40), OK);
    assert_int_equal(memory_map()->count, 2 * (BOOTINFO_REGIONS_MAX - 1) + 1);
    /* The kernel's reservations fill the rest of the room. */
    for (uint64_t i = 0; i < MEMORY_RANGES_MAX; i++) {
        uint64_t at = (UINT64_C(1) << 30) + i * 2 * PAGE_SIZE;
        enum status status = memory_map_reserve(at, at + PAGE_SIZE);

        check_order();
        if (status == OK)
            continue;
        assert_int_equal(status, STATUS_LIMIT);
        assert_true(memory_map()->count > MEMORY_RANGES_MAX - 2);
        assert_false(range_at(at)->kernel);
        return;
    }
    fail_msg("the map never was full");
}

/* ---- reservations ---- */

static void reservations_split_ranges(void **state)
{
    const struct memory_map *map = memory_map();

    (void)state;
    regions[0] = region(0, 16, MEMORY_USABLE);
    regions[1] = region(16 * PAGE_SIZE, 16, MEMORY_BOOT_SERVICES);
    assert_int_equal(memory_map_build(regions, 2, GIB), OK);
    assert_int_equal(memory_map_reserve(4 * PAGE_SIZE, 6 * PAGE_SIZE), OK);
    assert_int_equal(map->count, 4);
    assert_int_equal(memory_map_reserve(0, 4 * PAGE_SIZE), OK);
    assert_int_equal(map->count, 4);
    assert_int_equal(memory_map_reserve(30 * PAGE_SIZE, 32 * PAGE_SIZE), OK);
    assert_int_equal(map->count, 5);
    for (uint64_t page = 0; page < 32; page++) {
        const struct memory_range *range = range_at(page * PAGE_SIZE);

        assert_int_equal(range->kernel, page < 6 || page >= 30);
        assert_int_equal(range->kind, page < 16 ? MEMORY_USABLE : MEMORY_BOOT_SERVICES);
    }
    assert_int_equal(memory_map_reserve(15 * PAGE_SIZE, 17 * PAGE_SIZE), STATUS_RANGE);
    assert_int_equal(memory_map_reserve(31 * PAGE_SIZE, 33 * PAGE_SIZE), STATUS_RANGE);
    assert_int_equal(memory_map_reserve(64 * PAGE_SIZE, 65 * PAGE_SIZE), STATUS_RANGE);
    assert_int_equal(map->count, 5);
    assert_true(PANICS((void)memory_map_reserve(PAGE_SIZE, PAGE_SIZE)));
    assert_true(PANICS((void)memory_map_reserve(1, PAGE_SIZE)));
    assert_true(PANICS((void)memory_map_build(regions, BOOTINFO_REGIONS_MAX + 1, GIB)));
    assert_true(PANICS((void)memory_map_build(regions, 1, GIB + 1)));
}

static void random_reservations(void **state)
{
    struct random dice = random_from(5);

    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        bool taken[PAGES] = {false};

        regions[0] = region(0, PAGES, MEMORY_USABLE);
        assert_int_equal(memory_map_build(regions, 1, LIMIT), OK);
        for (unsigned i = 0; i < 40; i++) {
            uint64_t from = random_below(&dice, PAGES);
            uint64_t to = from + 1 + random_below(&dice, 12);
            const struct memory_range *range = range_at(from * PAGE_SIZE);
            bool fits = to <= PAGES && range->end >= to * PAGE_SIZE;

            assert_int_equal(memory_map_reserve(from * PAGE_SIZE, to * PAGE_SIZE),
                             fits ? OK : STATUS_RANGE);
            for (uint64_t page = from; fits && page < to; page++)
                taken[page] = true;
        }
        for (uint64_t page = 0; page < PAGES; page++)
            assert_int_equal(range_at(page * PAGE_SIZE)->kernel, taken[page]);
    }
}

static void kinds_have_names(void **state)
{
    (void)state;
    for (unsigned a = 0; a < MEMORY_KINDS; a++) {
        assert_non_null(memory_kind_name((enum memory_kind)a));
        for (unsigned b = 0; b < a; b++)
            assert_string_not_equal(memory_kind_name((enum memory_kind)a),
                                    memory_kind_name((enum memory_kind)b));
    }
    assert_true(PANICS((void)memory_kind_name(MEMORY_KINDS)));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_maps),
        cmocka_unit_test(a_tidy_map_stays),
        cmocka_unit_test(absurd_descriptors),
        cmocka_unit_test(too_many_ranges),
        cmocka_unit_test(reservations_split_ranges),
        cmocka_unit_test(random_reservations),
        cmocka_unit_test(kinds_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Host tests of the memory map's conversion: strange strides, lies, more than fits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "efi/firmware/memory_map.h"

#define WB      (UINT64_C(1) << 3)
#define SPECIAL (UINT64_C(1) << 18)
#define RUNTIME (UINT64_C(1) << 63)

/* The specification's descriptor, written down once more. */
static void put_descriptor(uint8_t *at, uint32_t type, uint64_t start, uint64_t pages,
                           uint64_t attributes)
{
    memset(at, 0xee, 40);
    memcpy(at, &type, 4);
    memcpy(at + 8, &start, 8);
    memcpy(at + 24, &pages, 8);
    memcpy(at + 32, &attributes, 8);
}

static struct bootinfo info;

/* Converts a copy of exactly this size. */
static enum status convert(const void *bytes, size_t size, size_t stride)
{
    void *copy = malloc(size > 0 ? size : 1);
    enum status status;

    if (size > 0)
        memcpy(copy, bytes, size);
    memset(&info, 0x55, sizeof(info));
    status = memory_map_convert(copy, size, stride, &info);
    free(copy);
    return status;
}

static void types(void **state)
{
    static const enum memory_kind kinds[] = {
        MEMORY_RESERVED,      MEMORY_LOADER,       MEMORY_LOADER,       MEMORY_BOOT_SERVICES,
        MEMORY_BOOT_SERVICES, MEMORY_RUNTIME_CODE, MEMORY_RUNTIME_DATA, MEMORY_USABLE,
        MEMORY_UNUSABLE,      MEMORY_ACPI_TABLES,  MEMORY_ACPI_NVS,     MEMORY_DEVICE,
        MEMORY_DEVICE,        MEMORY_RESERVED,     MEMORY_RESERVED,     MEMORY_RESERVED,
        MEMORY_RESERVED};
    static const uint32_t others[] = {17, 0x6fffffff, 0x70000000, 0x80000001, UINT32_MAX};
    uint8_t bytes[40];

    (void)state;
    for (uint32_t type = 0; type < ARRAY_COUNT(kinds); type++) {
        put_descriptor(bytes, type, 0x1000, 1, WB);
        assert_int_equal(convert(bytes, 40, 40), OK);
        assert_int_equal(info.region_count, 1);
        assert_int_equal(info.regions[0].kind, kinds[type]);
    }
    for (size_t i = 0; i < ARRAY_COUNT(others); i++) {
        put_descriptor(bytes, others[i], 0x1000, 1, WB);
        assert_int_equal(convert(bytes, 40, 40), OK);
        assert_int_equal(info.regions[0].kind, MEMORY_RESERVED);
    }
}

static void attributes(void **state)
{
    uint8_t bytes[4 * 40];

    (void)state;
    put_descriptor(bytes, 7, 0x100000, 256, WB);
    put_descriptor(bytes + 40, 7, 0x200000, 256, 0);
    put_descriptor(bytes + 80, 7, 0x300000, 256, WB | SPECIAL);
    put_descriptor(bytes + 120, 6, 0x400000, 1, WB | RUNTIME);
    assert_int_equal(convert(bytes, sizeof(bytes), 40), OK);
    assert_int_equal(info.region_count, 4);
    assert_int_equal(info.regions_dropped, 0);
    assert_true(info.regions[0].write_back && !info.regions[0].runtime);
    assert_int_equal(info.regions[0].start.address, 0x100000);
    assert_int_equal(info.regions[0].pages, 256);
    assert_false(info.regions[1].write_back);
    assert_int_equal(info.regions[1].kind, MEMORY_USABLE);
    assert_int_equal(info.regions[2].kind, MEMORY_RESERVED);
    assert_true(info.regions[3].runtime && info.regions[3].write_back);
}

static void strides(void **state)
{
    static const size_t all[] = {40, 41, 43, 47, 48, 56, 64, 129, 4096};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(all); i++) {
        size_t stride = all[i];
        uint8_t *bytes = calloc(3, stride);

        for (size_t at = 0; at < 3; at++)
            put_descriptor(bytes + at * stride, 7, (at + 1) * 0x10000, at + 5, WB);
        /* The last descriptor's appended fields may be missing or broken off. */
        assert_int_equal(convert(bytes, 3 * stride, stride), OK);
        assert_int_equal(info.region_count, 3);
        for (size_t at = 0; at < 3; at++) {
            assert_int_equal(info.regions[at].start.address, (at + 1) * 0x10000);
            assert_int_equal(info.regions[at].pages, at + 5);
        }
        assert_int_equal(convert(bytes, 3 * stride - 1, stride), OK);
        assert_int_equal(info.region_count, 2);
        free(bytes);
    }
}

static void lying_sizes(void **state)
{
    uint8_t bytes[80];

    (void)state;
    put_descriptor(bytes, 7, 0x1000, 1, WB);
    put_descriptor(bytes + 40, 7, 0x2000, 1, WB);
    for (size_t stride = 0; stride < 40; stride++) {
        assert_int_equal(convert(bytes, sizeof(bytes), stride), STATUS_CORRUPT);
        assert_int_equal(info.region_count, 0);
    }
    assert_int_equal(convert(bytes, 0, 48), STATUS_CORRUPT);
    assert_int_equal(convert(bytes, 39, 40), STATUS_CORRUPT);
    assert_int_equal(convert(bytes, 80, 81), STATUS_CORRUPT);
    assert_int_equal(convert(bytes, 80, SIZE_MAX), STATUS_CORRUPT);
    assert_int_equal(convert(bytes, 80, 80), OK);
    assert_int_equal(info.region_count, 1);
}

/* Empty, huge and unaligned regions are passed on: pmm/ judges. */
static void strange_regions(void **state)
{
    uint8_t bytes[3 * 48];

    (void)state;
    put_descriptor(bytes, 7, 0x1000, 0, WB);
    put_descriptor(bytes + 48, 7, 0x1234, UINT64_MAX, WB);
    put_descriptor(bytes + 96, 7, UINT64_MAX - 0xfff, 2, WB);
    assert_int_equal(convert(bytes, sizeof(bytes), 48), OK);
    assert_int_equal(info.region_count, 3);
    assert_int_equal(info.regions[0].pages, 0);
    assert_int_equal(info.regions[1].start.address, 0x1234);
    assert_true(info.regions[1].pages == UINT64_MAX);
    assert_true(info.regions[2].start.address == UINT64_MAX - 0xfff);
}

static void more_than_fit(void **state)
{
    size_t count = BOOTINFO_REGIONS_MAX + 7;
    uint8_t *bytes = calloc(count, 48);

    (void)state;
    for (size_t i = 0; i < count; i++)
        put_descriptor(bytes + i * 48, 7, i * 0x1000, 1, WB);
    assert_int_equal(convert(bytes, BOOTINFO_REGIONS_MAX * 48, 48), OK);
    assert_int_equal(info.regions_dropped, 0);
    assert_int_equal(convert(bytes, count * 48, 48), OK);
    assert_int_equal(info.region_count, BOOTINFO_REGIONS_MAX);
    assert_int_equal(info.regions_dropped, 7);
    assert_int_equal(info.regions[BOOTINFO_REGIONS_MAX - 1].start.address,
                     (BOOTINFO_REGIONS_MAX - 1) * 0x1000);
    /* Nothing behind the array was touched. */
    assert_true(info.rsdp.address == UINT64_C(0x5555555555555555));
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types),           cmocka_unit_test(attributes),
        cmocka_unit_test(strides),         cmocka_unit_test(lying_sizes),
        cmocka_unit_test(strange_regions), cmocka_unit_test(more_than_fit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Host tests of addresses from the firmware's tables: the memory map, and tables of both depths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "efi/firmware/reachable.h"
#include "paging/kernel/map.h"
#include "paging/pte.h"

#define TABLES        8
#define ENTRIES       512U
#define TABLE(number) (0x1000UL * (number))

/* Table n is at physical address n * 4 KiB; table 0 is none. */
static uint64_t tables[TABLES][ENTRIES];
static struct bootinfo info;
static struct reachable reachable;
static uint64_t mapped_device;

static uint64_t read_entry(struct phys entry)
{
    assert_in_range(entry.address, TABLE(1), TABLE(TABLES) - 1);
    return tables[entry.address / 0x1000][entry.address % 0x1000 / 8];
}

/* Records the address that is mapped; no register is accessed. */
void *kernel_map_device(struct phys base, uint64_t size, enum device_caching caching)
{
    assert_true(size == PAGE_SIZE && caching == DEVICE_UNCACHED);
    mapped_device = base.address;
    return tables[1];
}

static int clear(void **state)
{
    (void)state;
    memset(tables, 0, sizeof(tables));
    memset(&info, 0, sizeof(info));
    reachable =
        (struct reachable){.info = &info, .root = {TABLE(1)}, .levels = 4, .read = read_entry};
    return 0;
}

static void add_region(uint64_t start, uint64_t pages, enum memory_kind kind)
{
    info.regions[info.region_count++] =
        (struct memory_region){.start = {start}, .pages = pages, .kind = kind};
}

static bool is_device(uint64_t start, uint64_t size)
{
    return reachable_is_device(&info, (struct phys){start}, size);
}

static bool is_mapped(uint64_t start, uint64_t size)
{
    return reachable_is_mapped(&reachable, (struct phys){start}, size);
}

static void memory_in_use(void **state)
{
    (void)state;
    add_region(0x100000, 0x100, MEMORY_USABLE);
    add_region(0x300000, 1, MEMORY_RESERVED);
    add_region(0x301000, 1, MEMORY_DEVICE);
    add_region(0x302000, 1, MEMORY_RUNTIME_DATA);
    add_region(0x500000, 0, MEMORY_USABLE);
    add_region(0xfffffffffffff000, 1, MEMORY_ACPI_NVS);
    assert_false(is_device(0x100000, 8));
    assert_false(is_device(0x1ffff8, 8));
    assert_true(is_device(0x200000, 8));
    assert_false(is_device(0xffff8, 0x10));
    assert_true(is_device(0xffff8, 8));
    assert_false(is_device(0, 0x1000000));
    assert_true(is_device(0x300000, 0x2000));
    assert_false(is_device(0x300000, 0x2001));
    assert_true(is_device(0x500000, 8));
    assert_true(is_device(0xfed00000, 0x400));
    assert_false(is_device(0xfffffffffffff000, 8));
    assert_false(is_device(0xfffffffffffffff8, 16));
    assert_false(is_device(0x200000, 0));
}

static void pages_of_every_size(void **state)
{
    (void)state;
    tables[1][0] = TABLE(2) | PTE_P | PTE_RW;
    tables[2][0] = 0UL | PTE_P | PTE_RW | PTE_PS;
    tables[2][1] = TABLE(3) | PTE_P | PTE_RW;
    tables[3][0] = 0x40000000UL | PTE_P | PTE_RW | PTE_PS;
    tables[3][1] = TABLE(4) | PTE_P | PTE_RW;
    tables[4][0] = 0x40200000UL | PTE_P | PTE_RW;
    tables[4][1] = 0x40201000UL | PTE_P;
    tables[4][2] = 0x40203000UL | PTE_P | PTE_RW;
    tables[4][3] = 0x40203000UL | PTE_P | PTE_RW | pte_nx;
    assert_true(is_mapped(0, 0x40000000));
    assert_true(is_mapped(0x3ffffff8, 0x10));
    assert_true(is_mapped(0x40000000, 0x201000));
    assert_false(is_mapped(0x40200ff9, 8)); /* runs into a page that is read-only */
    assert_false(is_mapped(0x40201000, 1));
    assert_false(is_mapped(0x40202000, 1)); /* maps another address */
    assert_true(is_mapped(0x40203000, 1));
    assert_false(is_mapped(0x40204000, 1));
    assert_false(is_mapped(0x80000000, 1));
    assert_false(is_mapped(UINT64_C(1) << 39, 1));
    assert_false(is_mapped(0x1000, 0));
}

static void ends_of_the_address_space(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ENTRIES; i++)
        tables[1][i] = TABLE(2) | PTE_P | PTE_RW;
    for (unsigned i = 0; i < ENTRIES; i++)
        tables[2][i] = (0x7f8000000000 + ((uint64_t)i << 30)) | PTE_P | PTE_RW | PTE_PS;
    assert_true(is_mapped(0x7ffffffff000, 0x1000));
    assert_false(is_mapped(0x7ffffffff000, 0x1001));
    assert_false(is_mapped(0x800000000000, 8));
    assert_false(is_mapped(UINT64_C(0xffffff8000000000), 8));
    assert_false(is_mapped(UINT64_MAX - 7, 8));
    assert_false(is_mapped(UINT64_MAX - 3, 8));
}

static void five_levels(void **state)
{
    (void)state;
    reachable.levels = 5;
    tables[1][0] = TABLE(2) | PTE_P | PTE_RW;
    tables[1][1] = TABLE(2) | PTE_P | PTE_RW;
    tables[2][0] = TABLE(3) | PTE_P | PTE_RW;
    tables[3][3] = 0xc0000000UL | PTE_P | PTE_RW | PTE_PS;
    assert_true(is_mapped(0xfed00000, 0x400));
    assert_false(is_mapped((UINT64_C(1) << 48) + 0xfed00000, 0x400)); /* maps another address */
    assert_false(is_mapped(UINT64_C(1) << 56, 8));
    tables[2][0] &= ~PTE_RW;
    assert_false(is_mapped(0xfed00000, 0x400));
}

static void both_must_hold(void **state)
{
    (void)state;
    tables[1][0] = TABLE(2) | PTE_P | PTE_RW;
    tables[2][3] = 0xc0000000UL | PTE_P | PTE_RW | PTE_PS;
    assert_true(reachable_device(&reachable, (struct phys){0xfed00000}, 8));
    assert_false(reachable_device(&reachable, (struct phys){0x1000}, 8));
    add_region(0xfed00000, 1, MEMORY_USABLE);
    assert_false(reachable_device(&reachable, (struct phys){0xfed00000}, 8));
}

/* The firmware, or an earlier application, may have moved the APIC onto memory. */
static void local_apic_base_false(void **state)
{
    (void)state;
    mapped_device = 0;
    add_region(0x100000, 0x100, MEMORY_USABLE);
    add_region(0xfee00000, 1, MEMORY_DEVICE);
    assert_null(reachable_map_local_apic(&info, 0));
    assert_null(reachable_map_local_apic(&info, 0x100000));
    assert_null(reachable_map_local_apic(&info, 0x1ff000));
    assert_int_equal(mapped_device, 0);
    assert_non_null(reachable_map_local_apic(&info, 0xfee00000));
    assert_int_equal(mapped_device, 0xfee00000);
    assert_non_null(reachable_map_local_apic(&info, 0x200000));
    assert_int_equal(mapped_device, 0x200000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(memory_in_use, clear),
        cmocka_unit_test_setup(local_apic_base_false, clear),
        cmocka_unit_test_setup(pages_of_every_size, clear),
        cmocka_unit_test_setup(ends_of_the_address_space, clear),
        cmocka_unit_test_setup(five_levels, clear),
        cmocka_unit_test_setup(both_must_hold, clear),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Host tests of the ACPI reader: sound tables of every revision, and every kind of lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "efi/acpi/acpi.h"
#include "lib/units.h"

/*
 * The simulated machine's memory from BASE on:
 *
 *   0        0x1000   0x4000          0x8000      0x9000     0xa000
 *   | root   | tables | tables, again | free      | runtime  | not in the map
 */
#define BASE         UINT64_C(0x7f000000)
#define MEMORY_SIZE  0xa000U
#define RSDP_AT      0x10U
#define XSDT_AT      0x200U
#define RSDT_AT      0x804U /* no more aligned than it must be */
#define TABLE_AT     0x1003U
#define LATER_AT     0x2000U
#define CROSSING_AT  0x3ff0U /* lies across two regions that adjoin */
#define FREE_AT      0x8000U
#define FREE_EDGE_AT 0x7ff0U /* runs from tables' memory into free memory */

static uint8_t memory[MEMORY_SIZE];
static struct bootinfo info;
static struct acpi acpi;
static uint8_t *mapped; /* the copy handed out last */
static bool map_refuses;

/* Hands out a copy of exactly the size that was asked for, valid until the next call only. */
static const void *map(struct phys address, uint64_t size)
{
    free(mapped);
    mapped = NULL;
    if (map_refuses)
        return NULL;
    assert_true(address.address >= BASE && size <= MEMORY_SIZE &&
                address.address - BASE <= MEMORY_SIZE - size);
    mapped = malloc(size);
    memcpy(mapped, memory + (address.address - BASE), size);
    return mapped;
}

static void put(size_t at, uint64_t value, size_t size)
{
    for (size_t i = 0; i < size; i++)
        memory[at + i] = (uint8_t)(value >> 8 * i);
}

/* Makes size bytes sum to zero by the byte at `at`. */
static void seal(size_t start, size_t size, size_t at)
{
    uint8_t sum = 0;

    memory[at] = 0;
    for (size_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + memory[start + i]);
    memory[at] = (uint8_t)-sum;
}

static void put_table(size_t at, const char *signature, uint32_t length, uint8_t revision)
{
    memcpy(memory + at, signature, 4);
    put(at + 4, length, 4);
    memory[at + 8] = revision;
    seal(at, length, at + 9);
}

static void put_rsdp(uint8_t revision, uint64_t rsdt, uint64_t xsdt)
{
    memset(memory + RSDP_AT, 0, 36);
    memcpy(memory + RSDP_AT, "RSD PTR ", 8);
    memory[RSDP_AT + 15] = revision;
    put(RSDP_AT + 16, rsdt, 4);
    if (revision >= 2) {
        put(RSDP_AT + 20, 36, 4);
        put(RSDP_AT + 24, xsdt, 8);
    }
    seal(RSDP_AT, 20, RSDP_AT + 8);
    if (revision >= 2)
        seal(RSDP_AT, 36, RSDP_AT + 32);
}

/* Root tables that name the same addresses; 0 ends the list. */
static void put_roots(const uint64_t *addresses)
{
    uint32_t count = 0;

    for (; addresses[count] != 0; count++) {
        put(XSDT_AT + 36 + 8 * count, addresses[count], 8);
        put(RSDT_AT + 36 + 4 * count, addresses[count], 4);
    }
    put_table(XSDT_AT, "XSDT", 36 + 8 * count, 1);
    put_table(RSDT_AT, "RSDT", 36 + 4 * count, 1);
}

static int start(void **state)
{
    static const struct memory_region regions[] = {
        {.start = {0}, .pages = 160, .kind = MEMORY_USABLE},
        {.start = {BASE}, .pages = 4, .kind = MEMORY_ACPI_TABLES},
        {.start = {BASE + 0x4000}, .pages = 4, .kind = MEMORY_ACPI_NVS},
        {.start = {BASE + 0x8000}, .pages = 1, .kind = MEMORY_USABLE},
        {.start = {BASE + 0x9000}, .pages = 1, .kind = MEMORY_RUNTIME_DATA},
        /* Lies: their sizes wrap, to almost nothing and to 4 GiB. */
        {.start = {0x1000}, .pages = UINT64_MAX, .kind = MEMORY_RESERVED},
        {.start = {0}, .pages = (UINT64_C(1) << 52) + 0x100000, .kind = MEMORY_RESERVED},
        {.start = {BASE}, .pages = 0, .kind = MEMORY_RESERVED},
    };
    static const uint64_t addresses[] = {BASE + TABLE_AT, BASE + LATER_AT, 0};

    (void)state;
    memset(memory, 0, sizeof(memory));
    memset(&info, 0, sizeof(info));
    memcpy(info.regions, regions, sizeof(regions));
    info.region_count = ARRAY_COUNT(regions);
    info.rsdp.address = BASE + RSDP_AT;
    map_refuses = false;
    put_roots(addresses);
    put_rsdp(2, BASE + RSDT_AT, BASE + XSDT_AT);
    put_table(TABLE_AT, "AAAA", 60, 1);
    put_table(LATER_AT, "BBBB", 36, 1);
    return 0;
}

static int end(void **state)
{
    (void)state;
    free(mapped);
    mapped = NULL;
    return 0;
}

static enum status open_acpi(void)
{
    return acpi_open(&info, map, &acpi);
}

static void both_revisions(void **state)
{
    const struct acpi_header *table;

    (void)state;
    assert_int_equal(open_acpi(), OK);
    assert_int_equal(acpi.entry_size, 8);
    assert_int_equal(acpi_find(&acpi, "BBBB", &table), OK);
    assert_memory_equal(table->signature, "BBBB", 4);
    assert_int_equal(acpi_find(&acpi, "AAAA", &table), OK);
    assert_int_equal(acpi_find(&acpi, "CCCC", &table), STATUS_NOT_FOUND);

    put_rsdp(0, BASE + RSDT_AT, 0);
    /* Revision 0 ends after 20 bytes; the bytes behind it belong to other data. */
    memset(memory + RSDP_AT + 20, 0xcc, 16);
    assert_int_equal(open_acpi(), OK);
    assert_int_equal(acpi.entry_size, 4);
    assert_int_equal(acpi_find(&acpi, "BBBB", &table), OK);
    assert_int_equal(acpi_find(&acpi, "CCCC", &table), STATUS_NOT_FOUND);
}

static void root_pointer_lies(void **state)
{
    (void)state;
    info.rsdp.address = 0;
    assert_int_equal(open_acpi(), STATUS_NOT_FOUND);
    info.rsdp.address = BASE + FREE_AT;
    assert_int_equal(open_acpi(), STATUS_RANGE);
    info.rsdp.address = UINT64_MAX - 4;
    assert_int_equal(open_acpi(), STATUS_RANGE);
    info.rsdp.address = BASE + MEMORY_SIZE - 10;
    assert_int_equal(open_acpi(), STATUS_RANGE);
    info.rsdp.address = BASE + RSDP_AT;

    memory[RSDP_AT + 8]++; /* the first checksum */
    assert_int_equal(open_acpi(), STATUS_CORRUPT);
    put_rsdp(2, BASE + RSDT_AT, BASE + XSDT_AT);
    memory[RSDP_AT + 32]++; /* the second */
    assert_int_equal(open_acpi(), STATUS_CORRUPT);
    put_rsdp(2, BASE + RSDT_AT, BASE + XSDT_AT);
    memory[RSDP_AT] = 'r';
    seal(RSDP_AT, 20, RSDP_AT + 8);
    assert_int_equal(open_acpi(), STATUS_CORRUPT);

    put_rsdp(2, BASE + RSDT_AT, BASE + XSDT_AT);
    put(RSDP_AT + 20, 35, 4); /* shorter than its required fields */
    seal(RSDP_AT, 35, RSDP_AT + 32);
    assert_int_equal(open_acpi(), STATUS_CORRUPT);
    put(RSDP_AT + 20, UINT32_MAX, 4);
    assert_int_equal(open_acpi(), STATUS_CORRUPT);

    put_rsdp(2, 0, 0);
    assert_int_equal(open_acpi(), STATUS_NOT_FOUND);
    map_refuses = true;
    assert_int_equal(open_acpi(), STATUS_RANGE);
}

/* A longer root pointer of a later revision, and one at the end of its memory. */
static void longer_root_pointer(void **state)
{
    (void)state;
    put(RSDP_AT + 20, 48, 4);
    memory[RSDP_AT + 40] = 0x77;
    seal(RSDP_AT, 48, RSDP_AT + 32);
    assert_int_equal(open_acpi(), OK);
    memory[RSDP_AT + 40] = 0x78;
    assert_int_equal(open_acpi(), STATUS_CORRUPT);
}

static void broken_roots(void **state)
{
    const struct acpi_header *table;

    (void)state;
    /* A damaged XSDT is passed over for the RSDT. */
    memory[XSDT_AT + 9]++;
    assert_int_equal(open_acpi(), OK);
    assert_int_equal(acpi.entry_size, 4);
    assert_int_equal(acpi_find(&acpi, "BBBB", &table), OK);
    memory[RSDT_AT + 9]++;
    assert_int_equal(open_acpi(), STATUS_CORRUPT);
    /* A sound table, but another one. */
    put_table(RSDT_AT, "RSDX", 44, 1);
    assert_int_equal(open_acpi(), STATUS_CORRUPT);
    put_rsdp(2, 0, BASE + FREE_AT);
    assert_int_equal(open_acpi(), STATUS_RANGE);
    put_rsdp(2, 0, UINT64_MAX - 8);
    assert_int_equal(open_acpi(), STATUS_RANGE);
}

static void table_lies(void **state)
{
    static const uint32_t lengths[] = {0, 1, 35, 16 * MIB + 1, UINT32_MAX};
    const struct acpi_header *table;

    (void)state;
    assert_int_equal(open_acpi(), OK);
    for (size_t i = 0; i < ARRAY_COUNT(lengths); i++) {
        put(TABLE_AT + 4, lengths[i], 4);
        assert_int_equal(acpi_find(&acpi, "AAAA", &table), STATUS_CORRUPT);
        /* The others are still found. */
        assert_int_equal(acpi_find(&acpi, "BBBB", &table), OK);
    }
    put(TABLE_AT + 4, MEMORY_SIZE, 4); /* runs out of the tables' memory */
    assert_int_equal(acpi_find(&acpi, "AAAA", &table), STATUS_RANGE);
    put_table(TABLE_AT, "AAAA", 60, 1);
    memory[TABLE_AT + 59] ^= 0x10;
    assert_int_equal(acpi_find(&acpi, "AAAA", &table), STATUS_CORRUPT);
    /* A sound table of the same name behind a damaged one counts. */
    put_table(LATER_AT, "AAAA", 40, 1);
    assert_int_equal(acpi_find(&acpi, "AAAA", &table), OK);
    assert_int_equal(table->length, 40);
}

static void entry_lies(void **state)
{
    static const uint64_t addresses[] = {UINT64_MAX,
                                         UINT64_MAX - 100,
                                         1,
                                         BASE + FREE_AT,
                                         BASE + FREE_EDGE_AT,
                                         BASE + MEMORY_SIZE - 8,
                                         BASE + MEMORY_SIZE,
                                         BASE + CROSSING_AT,
                                         BASE + LATER_AT,
                                         0};
    const struct acpi_header *table;

    (void)state;
    put_roots(addresses);
    put_table(FREE_AT, "FREE", 40, 1);
    put_table(FREE_EDGE_AT, "EDGE", 40, 1);
    put_table(CROSSING_AT, "CCCC", 200, 1);
    assert_int_equal(open_acpi(), OK);
    assert_int_equal(acpi_find(&acpi, "BBBB", &table), OK);
    assert_int_equal(acpi_find(&acpi, "CCCC", &table), OK);
    assert_int_equal(table->length, 200);
    /* A table in used memory, wholly or in part, is never read. */
    assert_int_equal(acpi_find(&acpi, "FREE", &table), STATUS_RANGE);
    assert_int_equal(acpi_find(&acpi, "EDGE", &table), STATUS_RANGE);
    /* Null entries are skipped. */
    put(XSDT_AT + 36, 0, 8);
    put(XSDT_AT + 44, 0, 8);
    put_table(XSDT_AT, "XSDT", 36 + 8 * 9, 1);
    assert_int_equal(open_acpi(), OK);
    assert_int_equal(acpi_find(&acpi, "CCCC", &table), OK);
    /* A root whose length ends inside an entry: the incomplete entry is ignored. */
    put_table(XSDT_AT, "XSDT", 36 + 8 * 8 + 7, 1);
    assert_int_equal(open_acpi(), OK);
    assert_int_equal(acpi_find(&acpi, "BBBB", &table), STATUS_RANGE);
}

struct spcr_fields {
    uint8_t interface, space, bits, access, baud;
    uint64_t address;
    uint16_t pci_id;
    uint8_t bus, device, function;
    uint32_t clock, precise_baud, length;
    uint8_t revision;
};

static enum status read_spcr(struct spcr_fields fields, struct acpi_spcr *spcr)
{
    memset(memory + TABLE_AT, 0, 100);
    memory[TABLE_AT + 36] = fields.interface;
    memory[TABLE_AT + 40] = fields.space;
    memory[TABLE_AT + 41] = fields.bits;
    memory[TABLE_AT + 43] = fields.access;
    put(TABLE_AT + 44, fields.address, 8);
    memory[TABLE_AT + 58] = fields.baud;
    put(TABLE_AT + 64, fields.pci_id, 2);
    memory[TABLE_AT + 68] = fields.bus;
    memory[TABLE_AT + 69] = fields.device;
    memory[TABLE_AT + 70] = fields.function;
    put(TABLE_AT + 76, fields.clock, 4);
    put(TABLE_AT + 80, fields.precise_baud, 4);
    put_table(TABLE_AT, "SPCR", fields.length, fields.revision);
    assert_int_equal(open_acpi(), OK);
    return acpi_find_spcr(&acpi, spcr);
}

/* COM1 as QEMU and most PCs describe it. */
static const struct spcr_fields com1 = {.space = 1,
                                        .bits = 8,
                                        .address = 0x3f8,
                                        .baud = 7,
                                        .pci_id = 0xffff,
                                        .length = 80,
                                        .revision = 1};

static void spcr_sound(void **state)
{
    static const uint8_t codes[] = {0, 3, 4, 6, 7};
    static const uint32_t bauds[] = {0, 9600, 19200, 57600, 115200};
    struct spcr_fields fields = com1;
    struct acpi_spcr spcr;

    (void)state;
    assert_int_equal(read_spcr(fields, &spcr), OK);
    assert_int_equal(spcr.registers.space, ACPI_SPACE_IO);
    assert_int_equal(spcr.registers.address, 0x3f8);
    assert_int_equal(spcr.registers.access_size, 1);
    assert_int_equal(spcr.clock, 0);
    assert_false(spcr.on_pci);
    for (size_t i = 0; i < ARRAY_COUNT(codes); i++) {
        fields.baud = codes[i];
        assert_int_equal(read_spcr(fields, &spcr), OK);
        assert_int_equal(spcr.baud, bauds[i]);
    }

    /* In memory, four bytes a register, with its own clock: 12h, revision 3. */
    fields = (struct spcr_fields){.interface = 0x12,
                                  .access = 3,
                                  .bits = 32,
                                  .address = UINT64_C(0xfe03e000),
                                  .pci_id = 0xffff,
                                  .clock = 48000000,
                                  .length = 80,
                                  .revision = 3};
    assert_int_equal(read_spcr(fields, &spcr), OK);
    assert_int_equal(spcr.registers.space, ACPI_SPACE_MEMORY);
    assert_int_equal(spcr.registers.access_size, 4);
    assert_int_equal(spcr.clock, 48000000);
    assert_int_equal(spcr.baud, 0);
    /* Revision 2 had no clock there. */
    fields.revision = 2;
    assert_int_equal(read_spcr(fields, &spcr), OK);
    assert_int_equal(spcr.clock, 0);
    /* Without an access size, the register's width counts. */
    fields.access = 0;
    assert_int_equal(read_spcr(fields, &spcr), OK);
    assert_int_equal(spcr.registers.access_size, 4);
    /* Revision 4: the plain baud rate has priority over its code. */
    fields.revision = 4;
    fields.length = 88;
    fields.baud = 3;
    fields.precise_baud = 1500000;
    assert_int_equal(read_spcr(fields, &spcr), OK);
    assert_int_equal(spcr.baud, 1500000);
    fields.precise_baud = 0;
    assert_int_equal(read_spcr(fields, &spcr), OK);
    assert_int_equal(spcr.baud, 9600);
}

static void spcr_on_pci(void **state)
{
    struct spcr_fields fields = com1;
    struct acpi_spcr spcr;

    (void)state;
    fields.pci_id = 0x0002;
    fields.bus = 3;
    fields.device = 31;
    fields.function = 7;
    fields.address = 0;
    assert_int_equal(read_spcr(fields, &spcr), OK);
    assert_true(spcr.on_pci);
    assert_int_equal(spcr.bus, 3);
    assert_int_equal(spcr.device, 31);
    assert_int_equal(spcr.function, 7);
    fields.device = 32;
    assert_int_equal(read_spcr(fields, &spcr), STATUS_CORRUPT);
    fields.device = 0;
    fields.function = 8;
    assert_int_equal(read_spcr(fields, &spcr), STATUS_CORRUPT);
}

static void spcr_of_no_use(void **state)
{
    struct spcr_fields fields = com1;
    struct acpi_spcr spcr;

    (void)state;
    assert_int_equal(open_acpi(), OK);
    assert_int_equal(acpi_find_spcr(&acpi, &spcr), STATUS_NOT_FOUND);
    fields.address = 0; /* redirection is off */
    assert_int_equal(read_spcr(fields, &spcr), STATUS_UNSUPPORTED);
    fields = com1;
    fields.interface = 3; /* an ARM PL011 */
    assert_int_equal(read_spcr(fields, &spcr), STATUS_UNSUPPORTED);
    fields = com1;
    fields.space = 2;
    assert_int_equal(read_spcr(fields, &spcr), STATUS_UNSUPPORTED);
    fields.space = 0x7f;
    assert_int_equal(read_spcr(fields, &spcr), STATUS_UNSUPPORTED);
    fields = com1;
    fields.access = 5;
    assert_int_equal(read_spcr(fields, &spcr), STATUS_UNSUPPORTED);
    fields = com1;
    fields.baud = 5;
    assert_int_equal(read_spcr(fields, &spcr), STATUS_CORRUPT);
    for (uint32_t length = 36; length < 80; length++) {
        fields = com1;
        fields.length = length;
        assert_int_equal(read_spcr(fields, &spcr), STATUS_CORRUPT);
    }
}

static enum status read_fadt(uint32_t length, uint32_t flags, uint32_t block, uint8_t block_length,
                             uint8_t space, uint64_t extended, struct acpi_pm_timer *timer)
{
    memset(memory + TABLE_AT, 0, 300);
    put(TABLE_AT + 76, block, 4);
    memory[TABLE_AT + 91] = block_length;
    put(TABLE_AT + 112, flags, 4);
    memory[TABLE_AT + 208] = space;
    memory[TABLE_AT + 209] = 32;
    put(TABLE_AT + 212, extended, 8);
    put_table(TABLE_AT, "FACP", length, 4);
    assert_int_equal(open_acpi(), OK);
    return acpi_find_pm_timer(&acpi, timer);
}

static void pm_timer(void **state)
{
    struct acpi_pm_timer timer;

    (void)state;
    assert_int_equal(open_acpi(), OK);
    assert_int_equal(acpi_find_pm_timer(&acpi, &timer), STATUS_NOT_FOUND);
    assert_int_equal(read_fadt(116, 0, 0x608, 4, 0, 0, &timer), OK);
    assert_int_equal(timer.counter.space, ACPI_SPACE_IO);
    assert_int_equal(timer.counter.address, 0x608);
    assert_false(timer.wide);
    assert_int_equal(read_fadt(244, 1 << 8, 0x608, 4, 1, 0x708, &timer), OK);
    assert_int_equal(timer.counter.address, 0x708);
    assert_true(timer.wide);
    /* The extended block is past the end of an older table. */
    assert_int_equal(read_fadt(219, 0, 0x608, 4, 1, 0x708, &timer), OK);
    assert_int_equal(timer.counter.address, 0x608);
    assert_int_equal(read_fadt(244, 0, 0, 0, 0, 0xfed00000, &timer), OK);
    assert_int_equal(timer.counter.space, ACPI_SPACE_MEMORY);

    assert_int_equal(read_fadt(244, 0, 0, 0, 1, 0, &timer), STATUS_UNSUPPORTED);
    assert_int_equal(read_fadt(116, 0, 0x608, 3, 0, 0, &timer), STATUS_UNSUPPORTED);
    assert_int_equal(read_fadt(244, 1 << 20, 0x608, 4, 1, 0x608, &timer), STATUS_UNSUPPORTED);
    assert_int_equal(read_fadt(244, 0, 0x608, 4, 2, 0x608, &timer), STATUS_UNSUPPORTED);
    for (uint32_t length = 36; length < 116; length++)
        assert_int_equal(read_fadt(length, 0, 0x608, 4, 0, 0, &timer), STATUS_CORRUPT);
}

/* Each bit of root pointer and tables turned over: no read outside, and no damaged table taken. */
static void flipped_bits(void **state)
{
    static const size_t ranges[][2] = {{RSDP_AT, 36}, {XSDT_AT, 52}, {RSDT_AT, 44}, {TABLE_AT, 80}};
    const struct acpi_header *table;
    struct acpi_spcr spcr;

    (void)state;
    assert_int_equal(read_spcr(com1, &spcr), OK);
    for (size_t range = 0; range < ARRAY_COUNT(ranges); range++) {
        for (size_t bit = 0; bit < ranges[range][1] * 8; bit++) {
            uint8_t *byte = &memory[ranges[range][0] + bit / 8];

            *byte ^= (uint8_t)(1 << bit % 8);
            if (range == 0)
                assert_int_equal(open_acpi(), STATUS_CORRUPT);
            else if (range == 3 && open_acpi() == OK)
                assert_int_not_equal(acpi_find(&acpi, "SPCR", &table), OK);
            else if (range == 1)
                assert_true(open_acpi() == OK && acpi.entry_size == 4);
            else if (range == 2)
                assert_true(open_acpi() == OK && acpi.entry_size == 8);
            *byte ^= (uint8_t)(1 << bit % 8);
        }
    }
}

static void hpet(void **state)
{
    struct phys registers;

    (void)state;
    assert_int_equal(open_acpi(), OK);
    assert_int_equal(acpi_find_hpet(&acpi, &registers), STATUS_NOT_FOUND);
    memset(memory + TABLE_AT, 0, 64);
    memory[TABLE_AT + 41] = 64;
    put(TABLE_AT + 44, 0xfed00000, 8);
    put_table(TABLE_AT, "HPET", 56, 1);
    assert_int_equal(open_acpi(), OK);
    assert_int_equal(acpi_find_hpet(&acpi, &registers), OK);
    assert_int_equal(registers.address, 0xfed00000);
    put_table(TABLE_AT, "HPET", 55, 1);
    assert_int_equal(acpi_find_hpet(&acpi, &registers), STATUS_CORRUPT);
    memory[TABLE_AT + 40] = ACPI_SPACE_IO;
    put_table(TABLE_AT, "HPET", 56, 1);
    assert_int_equal(acpi_find_hpet(&acpi, &registers), STATUS_UNSUPPORTED);
    memory[TABLE_AT + 40] = ACPI_SPACE_MEMORY;
    put(TABLE_AT + 44, 0, 8);
    put_table(TABLE_AT, "HPET", 56, 1);
    assert_int_equal(acpi_find_hpet(&acpi, &registers), STATUS_UNSUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(both_revisions, start, end),
        cmocka_unit_test_setup_teardown(root_pointer_lies, start, end),
        cmocka_unit_test_setup_teardown(longer_root_pointer, start, end),
        cmocka_unit_test_setup_teardown(broken_roots, start, end),
        cmocka_unit_test_setup_teardown(table_lies, start, end),
        cmocka_unit_test_setup_teardown(entry_lies, start, end),
        cmocka_unit_test_setup_teardown(spcr_sound, start, end),
        cmocka_unit_test_setup_teardown(spcr_on_pci, start, end),
        cmocka_unit_test_setup_teardown(spcr_of_no_use, start, end),
        cmocka_unit_test_setup_teardown(pm_timer, start, end),
        cmocka_unit_test_setup_teardown(hpet, start, end),
        cmocka_unit_test_setup_teardown(flipped_bits, start, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

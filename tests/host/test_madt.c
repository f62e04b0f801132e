/* The MADT, sound and damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "efi/acpi/madt.h"
#include "lib/random.h"

#define HEADER 44U

static uint8_t table[4096];
static uint32_t length;
static struct madt madt;

static void begin(void)
{
    memset(table, 0, sizeof(table));
    memcpy(table, "APIC", 4);
    length = HEADER;
}

static uint8_t *add(uint8_t type, uint8_t size)
{
    uint8_t *entry = table + length;

    entry[0] = type;
    entry[1] = size;
    length += size;
    return entry;
}

static void add_local(uint8_t id, uint32_t flags)
{
    uint8_t *entry = add(0, 8);

    entry[3] = id;
    memcpy(entry + 4, &flags, 4);
}

static void add_x2(uint32_t id, uint32_t flags)
{
    uint8_t *entry = add(9, 16);

    memcpy(entry + 4, &id, 4);
    memcpy(entry + 8, &flags, 4);
}

/* The parser reads a copy that ends where the table ends, so that the sanitizer sees a byte more.
 */
static enum status parse(void)
{
    uint8_t *copy = malloc(length);
    enum status status;

    assert_non_null(copy);
    memcpy(copy, table, length);
    status = madt_parse(copy, length, &madt);
    free(copy);
    return status;
}

static void processors_are_listed(void **state)
{
    (void)state;
    begin();
    add_local(0, 1);
    add(1, 12); /* an I/O APIC */
    add_local(2, 1);
    add_local(4, 0);
    add_local(6, 2); /* may be brought online, but is not */
    add_x2(0x12345, 1);
    assert_int_equal(parse(), OK);
    assert_int_equal(madt.count, 3);
    assert_int_equal(madt.disabled, 2);
    assert_int_equal(madt.ids[0], 0);
    assert_int_equal(madt.ids[1], 2);
    assert_int_equal(madt.ids[2], 0x12345);
}

static void an_id_counts_once(void **state)
{
    (void)state;
    begin();
    add_local(1, 1);
    add_x2(1, 1);
    add_local(1, 1);
    add_local(0xff, 1);
    add_x2(UINT32_MAX, 1);
    assert_int_equal(parse(), OK);
    assert_int_equal(madt.count, 1);
    assert_int_equal(madt.repeated, 2);
}

static void more_than_fit_are_counted(void **state)
{
    (void)state;
    begin();
    for (unsigned i = 0; i < MADT_PROCESSORS_MAX + 5; i++)
        add_x2(i, 1);
    assert_int_equal(parse(), OK);
    assert_int_equal(madt.count, MADT_PROCESSORS_MAX);
    assert_int_equal(madt.left_out, 5);
}

static void damaged_tables_are_refused(void **state)
{
    (void)state;
    begin();
    assert_int_equal(parse(), STATUS_CORRUPT); /* no processor */
    add_local(0, 0);
    assert_int_equal(parse(), STATUS_CORRUPT);
    begin();
    add_local(0, 1);
    table[length++] = 0; /* a type without a length */
    assert_int_equal(parse(), STATUS_CORRUPT);
    begin();
    add_local(0, 1);
    add(1, 0); /* would never end */
    length += 2;
    assert_int_equal(parse(), STATUS_CORRUPT);
    begin();
    add_local(0, 1);
    add(0, 7)[3] = 1; /* too short for its type */
    assert_int_equal(parse(), STATUS_CORRUPT);
    begin();
    add_local(0, 1);
    add(9, 8);
    assert_int_equal(parse(), STATUS_CORRUPT);
    begin();
    add_local(0, 1);
    add_local(1, 1);
    length -= 1; /* cut off */
    assert_int_equal(parse(), STATUS_CORRUPT);
    length = HEADER - 1;
    assert_int_equal(parse(), STATUS_CORRUPT);
}

/* For any bytes, the parser stays in the table and lists only sound entries. */
static void noise_does_no_harm(void **state)
{
    struct random random = random_from(1);

    (void)state;
    for (unsigned round = 0; round < 20000; round++) {
        begin();
        length = HEADER + (uint32_t)random_below(&random, 200);
        for (uint32_t i = HEADER; i < length; i++)
            table[i] = (uint8_t)random_below(&random, round % 2 == 0 ? 256 : 18);
        if (parse() != OK)
            continue;
        assert_in_range(madt.count, 1, MADT_PROCESSORS_MAX);
        for (unsigned i = 0; i < madt.count; i++) {
            for (unsigned j = 0; j < i; j++)
                assert_int_not_equal(madt.ids[i], madt.ids[j]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(processors_are_listed),     cmocka_unit_test(an_id_counts_once),
        cmocka_unit_test(more_than_fit_are_counted), cmocka_unit_test(damaged_tables_are_refused),
        cmocka_unit_test(noise_does_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

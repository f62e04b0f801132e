/* Vectors and error codes in words, the search for symbols, the clock's scale, CRC-32C by table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/clock/time.h"
#include "cpu/crash/symbols.h"
#include "cpu/crc32c.h"
#include "cpu/trap/trap.h"
#include "lib/units.h"

#define TEXT_SIZE 160U

/* ---- error codes ---- */

static void assert_page_fault(uint64_t error, const char *words)
{
    char text[TEXT_SIZE];

    assert_int_equal(trap_page_fault_words(error, text, sizeof(text)), strlen(words));
    assert_string_equal(text, words);
}

static void page_faults_are_told_in_words(void **state)
{
    (void)state;
    assert_page_fault(0, "read by the kernel: not present");
    assert_page_fault(PF_WR, "write by the kernel: not present");
    assert_page_fault(PF_US, "read by a program: not present");
    assert_page_fault(PF_ID | PF_US, "instruction fetch by a program: not present");
    assert_page_fault(PF_P | PF_WR, "write by the kernel: the page is read-only, or the user's");
    assert_page_fault(PF_P | PF_WR | PF_US,
                      "write by a program: the page is read-only, or not the user's");
    assert_page_fault(PF_P, "read by the kernel: the page is the user's");
    assert_page_fault(PF_P | PF_ID, "instruction fetch by the kernel: the page is not executable, "
                                    "or the user's");
    assert_page_fault(PF_P | PF_PK | PF_WR | PF_US,
                      "write by a program: refused by a protection key");
    assert_page_fault(PF_P | PF_SS | PF_US | PF_WR,
                      "shadow-stack write by a program: the page is read-only, or not the user's");
    assert_page_fault(PF_P | PF_SGX, "read by the kernel: refused by an enclave's rules");
}

/* TCG reports a reserved bit as code 8, processors as code 9. */
static void a_reserved_bit_comes_before_present(void **state)
{
    (void)state;
    assert_page_fault(PF_RSVD, "read by the kernel: a reserved bit is set in an entry");
    assert_page_fault(PF_RSVD | PF_P, "read by the kernel: a reserved bit is set in an entry");
    assert_page_fault(PF_RSVD | PF_WR | PF_US,
                      "write by a program: a reserved bit is set in an entry");
    assert_true(trap_page_fault_valid(PF_RSVD));
    assert_true(trap_page_fault_valid(PF_RSVD | PF_P));
}

static void unknown_bits_are_refused_and_named(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 64; bit++) {
        uint64_t error = UINT64_C(1) << bit | PF_P;

        if ((error & ~PF_KNOWN) != 0)
            assert_false(trap_page_fault_valid(error));
        else
            assert_true(trap_page_fault_valid(error));
    }
    assert_page_fault(UINT64_C(0x100) | PF_WR,
                      "write by the kernel: unknown bits 0x100 in the error code 0x102");
    assert_page_fault(UINT64_C(1) << 63, "read by the kernel: unknown bits 0x8000000000000000 in "
                                         "the error code 0x8000000000000000");
}

static void impossible_combinations_are_refused(void **state)
{
    (void)state;
    assert_false(trap_page_fault_valid(PF_P | PF_ID | PF_WR));
    assert_false(trap_page_fault_valid(PF_P | PF_ID | PF_PK));
    assert_false(trap_page_fault_valid(PF_PK));
    assert_false(trap_page_fault_valid(PF_SGX | PF_US));
    assert_page_fault(PF_P | PF_ID | PF_WR, "an impossible error code 0x13");
}

static void assert_selector(uint64_t error, const char *words)
{
    char text[TEXT_SIZE];

    assert_int_equal(trap_selector_words(error, text, sizeof(text)), strlen(words));
    assert_string_equal(text, words);
}

static void selectors_are_told_in_words(void **state)
{
    (void)state;
    assert_selector(0, "no selector");
    assert_selector(0x28, "selector 0x28 of the GDT");
    assert_selector(0x2c, "selector 0x28 of the LDT");
    assert_selector(0x04, "selector 0x0 of the LDT");
    assert_selector(14 * 8 + 2, "vector 14 of the IDT");
    assert_selector(14 * 8 + 3, "vector 14 of the IDT, while an event was delivered");
    assert_selector(0x10000, "unknown bits in the error code 0x10000");
}

static void words_fit_the_buffer_they_are_given(void **state)
{
    (void)state;
    for (size_t size = 0; size < 60; size++) {
        char *text = malloc(size + 1);
        size_t whole;

        assert_non_null(text);
        text[size] = '~';
        whole = trap_page_fault_words(PF_P | PF_WR, text, size);
        assert_int_equal(whole,
                         strlen("write by the kernel: the page is read-only, or the user's"));
        assert_int_equal(text[size], '~');
        if (size > 0)
            assert_int_equal(strlen(text), size <= whole ? size - 1 : whole);
        free(text);
    }
}

static void every_vector_has_a_name(void **state)
{
    (void)state;
    assert_string_equal(trap_mnemonic(TRAP_PF), "#PF");
    assert_string_equal(trap_name(TRAP_DF), "double fault");
    assert_string_equal(trap_mnemonic(9), "reserved");
    assert_string_equal(trap_mnemonic(31), "reserved");
    assert_string_equal(trap_mnemonic(32), "interrupt");
    for (unsigned vector = 0; vector < TRAP_VECTORS; vector++) {
        assert_non_null(trap_mnemonic(vector));
        assert_non_null(trap_name(vector));
    }
}

/* cpu/trap/trap.S has the same list: a wrong entry there would shift the whole frame. */
static void error_codes_are_pushed_for_ten_vectors(void **state)
{
    static const uint32_t pushed = UINT32_C(1) << 8 | UINT32_C(1) << 10 | UINT32_C(1) << 11 |
                                   UINT32_C(1) << 12 | UINT32_C(1) << 13 | UINT32_C(1) << 14 |
                                   UINT32_C(1) << 17 | UINT32_C(1) << 21 | UINT32_C(1) << 29 |
                                   UINT32_C(1) << 30;

    (void)state;
    for (unsigned vector = 0; vector < TRAP_VECTORS; vector++)
        assert_int_equal(trap_has_error(vector), vector < 32 && (pushed >> vector & 1) != 0);
}

/* ---- symbols ---- */

/* alpha at 0x1000, beta at 0x1010, gamma at 0x1800; the text ends at 0x2000. */
static const uint32_t small_table[] = {
    SYMBOLS_MAGIC, 3,  17,         0x2000,     0x1000,     0,          0x1010, 6,
    0x1800,        11, 0x68706c61, 0x65620061, 0x67006174, 0x616d6d61, 0,
};

#define SMALL_TABLE_SIZE (16U + 3 * 8 + 17)

static void assert_symbol(uint32_t offset, const char *name, uint32_t distance)
{
    struct symbol symbol = {NULL, 0};

    assert_true(symbols_find(small_table, SMALL_TABLE_SIZE, offset, &symbol));
    assert_string_equal(symbol.name, name);
    assert_int_equal(symbol.distance, distance);
}

static void functions_are_found_at_their_edges(void **state)
{
    struct symbol symbol;

    (void)state;
    assert_symbol(0x1000, "alpha", 0);
    assert_symbol(0x100f, "alpha", 0xf);
    assert_symbol(0x1010, "beta", 0);
    assert_symbol(0x17ff, "beta", 0x7ef);
    assert_symbol(0x1800, "gamma", 0);
    assert_symbol(0x1fff, "gamma", 0x7ff);
    assert_false(symbols_find(small_table, SMALL_TABLE_SIZE, 0xfff, &symbol));
    assert_false(symbols_find(small_table, SMALL_TABLE_SIZE, 0, &symbol));
    assert_false(symbols_find(small_table, SMALL_TABLE_SIZE, 0x2000, &symbol));
    assert_false(symbols_find(small_table, SMALL_TABLE_SIZE, UINT32_MAX, &symbol));
}

/* Cut off anywhere, the table finds nothing, and the sanitizer sees that nothing past it is read.
 */
static void a_cut_table_finds_nothing(void **state)
{
    (void)state;
    for (size_t size = 0; size < SMALL_TABLE_SIZE; size++) {
        void *cut = malloc(size == 0 ? 1 : size);
        struct symbol symbol;

        assert_non_null(cut);
        memcpy(cut, small_table, size);
        assert_false(symbols_find(cut, size, 0x1010, &symbol));
        free(cut);
    }
}

/* Each word of the table takes hostile values; whatever is found lies inside the table. */
static void a_damaged_table_stays_inside_itself(void **state)
{
    static const uint32_t hostile[] = {0,          1,          4,          17,         18,
                                       0x1fffffff, 0x20000000, 0x7fffffff, 0x80000000, UINT32_MAX};

    (void)state;
    for (size_t word = 0; word < SMALL_TABLE_SIZE / 4; word++) {
        for (size_t value = 0; value < ARRAY_COUNT(hostile); value++) {
            uint32_t *table = malloc(SMALL_TABLE_SIZE);
            struct symbol symbol;

            assert_non_null(table);
            memcpy(table, small_table, SMALL_TABLE_SIZE);
            table[word] = hostile[value];
            for (uint32_t offset = 0xff0; offset < 0x2010; offset += 15) {
                if (symbols_find(table, SMALL_TABLE_SIZE, offset, &symbol))
                    assert_true(strlen(symbol.name) < SMALL_TABLE_SIZE);
            }
            free(table);
        }
    }
}

static void a_name_without_an_end_is_no_name(void **state)
{
    uint8_t *table = malloc(SMALL_TABLE_SIZE);
    struct symbol symbol;

    (void)state;
    assert_non_null(table);
    memcpy(table, small_table, SMALL_TABLE_SIZE);
    table[SMALL_TABLE_SIZE - 1] = 'x';
    assert_false(symbols_find(table, SMALL_TABLE_SIZE, 0x1800, &symbol));
    free(table);
}

/* Against the plain search from the front, with tables of every small size. */
static void the_search_agrees_with_a_plain_one(void **state)
{
    uint32_t table[4 + 2 * 40 + 1];
    struct symbol symbol;

    (void)state;
    for (uint32_t count = 0; count <= 40; count++) {
        memcpy(table, (uint32_t[]){SYMBOLS_MAGIC, count, 4, 4096}, 16);
        for (uint32_t i = 0; i < count; i++) {
            table[4 + 2 * i] = 10 + i * i;
            table[5 + 2 * i] = 3;
        }
        table[4 + 2 * count] = 0;
        for (uint32_t offset = 0; offset < 1800; offset++) {
            uint32_t at = count;

            for (uint32_t i = 0; i < count && 10 + i * i <= offset; i++)
                at = i;
            assert_int_equal(symbols_find(table, 16 + 8 * (size_t)count + 4, offset, &symbol),
                             at < count);
            if (at < count)
                assert_int_equal(symbol.distance, offset - (10 + at * at));
        }
    }
}

/* ---- the clock's scale ---- */

__extension__ typedef unsigned __int128 uint128;

static void ticks_become_nanoseconds(void **state)
{
    static const uint64_t rates[] = {1,          3579545,    100000000,  999999999,  1000000000,
                                     1000000001, 2599993885, 5000000000, 20000000000};
    static const uint64_t seconds[] = {0, 1, 59, 86400, 31536000, 315360000};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(rates); i++) {
        struct time_scale scale = time_scale_of(rates[i]);

        for (size_t j = 0; j < ARRAY_COUNT(seconds); j++) {
            uint64_t ticks = rates[i] * seconds[j] + rates[i] / 3;
            uint64_t exact = (uint64_t)((uint128)ticks * 1000000000 / rates[i]);
            uint64_t ns = time_scale_ns(scale, ticks);

            assert_true(ns <= exact);
            assert_true(exact - ns <= 1 + (exact >> 31));
        }
    }
    assert_int_equal(time_scale_ns(time_scale_of(1000000000), 123456789), 123456789);
}

static void time_never_runs_backwards(void **state)
{
    struct time_scale scale = time_scale_of(2599993885);
    uint64_t last = 0;

    (void)state;
    for (uint64_t ticks = UINT64_C(1) << 60; ticks < (UINT64_C(1) << 60) + 10000; ticks++) {
        uint64_t now = time_scale_ns(scale, ticks);

        assert_true(now >= last);
        last = now;
    }
}

/* ---- CRC-32C ---- */

static void check_values_are_those_of_the_rfc(void **state)
{
    uint8_t bytes[32];

    (void)state;
    memset(bytes, 0, sizeof(bytes));
    assert_int_equal(crc32c_by_table(0, bytes, sizeof(bytes)), 0x8a9136aa);
    memset(bytes, 0xff, sizeof(bytes));
    assert_int_equal(crc32c_by_table(0, bytes, sizeof(bytes)), 0x62a8ab43);
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)i;
    assert_int_equal(crc32c_by_table(0, bytes, sizeof(bytes)), 0x46dd794e);
    for (size_t cut = 0; cut <= sizeof(bytes); cut++)
        assert_int_equal(
            crc32c_by_table(crc32c_by_table(0, bytes, cut), bytes + cut, sizeof(bytes) - cut),
            0x46dd794e);
    assert_int_equal(crc32c_by_table(0, bytes, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(page_faults_are_told_in_words),
        cmocka_unit_test(a_reserved_bit_comes_before_present),
        cmocka_unit_test(unknown_bits_are_refused_and_named),
        cmocka_unit_test(impossible_combinations_are_refused),
        cmocka_unit_test(selectors_are_told_in_words),
        cmocka_unit_test(words_fit_the_buffer_they_are_given),
        cmocka_unit_test(every_vector_has_a_name),
        cmocka_unit_test(error_codes_are_pushed_for_ten_vectors),
        cmocka_unit_test(functions_are_found_at_their_edges),
        cmocka_unit_test(a_cut_table_finds_nothing),
        cmocka_unit_test(a_damaged_table_stays_inside_itself),
        cmocka_unit_test(a_name_without_an_end_is_no_name),
        cmocka_unit_test(the_search_agrees_with_a_plain_one),
        cmocka_unit_test(ticks_become_nanoseconds),
        cmocka_unit_test(time_never_runs_backwards),
        cmocka_unit_test(check_values_are_those_of_the_rfc),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

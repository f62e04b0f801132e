/* Traces: both formats, each limit, and each kind of damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "efi/options/options.h"
#include "efi/trace/trace.h"

#define RECORD 24U

/* Reads a text as CSV, `step` bytes at a time. */
static const char *read_csv(const char *text, size_t step)
{
    size_t size = strlen(text);

    trace_begin(TRACE_CSV);
    for (size_t at = 0; at < size; at += step) {
        if (!trace_feed(text + at, size - at < step ? size - at : step))
            break;
    }
    return trace_end();
}

static void expect_pages(unsigned count, const uint16_t *pages)
{
    const struct trace *trace = trace_given();

    assert_non_null(trace);
    assert_int_equal(trace->requests, count);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(trace->page[i], pages[i]);
}

static void csv_of_each_delimiter(void **state)
{
    static const char delimiters[] = ",\t|:";

    (void)state;
    for (unsigned i = 0; delimiters[i] != '\0'; i++) {
        for (size_t step = 1; step < 40; step += 6) {
            char text[96];
            char d = delimiters[i];

            snprintf(text, sizeof(text),
                     "time%cobject%csize\n1%c77%c4096\n2%c5%c4096\r\n\n3%c77%c4096", d, d, d, d, d,
                     d, d, d);
            assert_null(read_csv(text, step));
            expect_pages(3, (uint16_t[]){0, 1, 0});
            assert_int_equal(trace_given()->pages, 2);
        }
    }
}

static void first_line_without_letters_is_a_request(void **state)
{
    (void)state;
    assert_null(read_csv("1,2\n2,3\n3,2\n", 64));
    expect_pages(3, (uint16_t[]){0, 1, 0});
    /* More digits than letters: a request. As many letters as digits: a header. */
    assert_null(read_csv("12,0xab,4096\n2,171,4096\n", 64));
    expect_pages(2, (uint16_t[]){0, 0});
    assert_null(read_csv("ab,0xab,40\n2,171,4096\n", 64));
    expect_pages(1, (uint16_t[]){0});
}

static void numbers_in_three_bases(void **state)
{
    (void)state;
    assert_null(
        read_csv("1,16,1\n2,0x10,1\n3,020,1\n4, 16 ,1\n5,0,1\n6,18446744073709551615,1\n", 7));
    expect_pages(6, (uint16_t[]){0, 0, 0, 0, 1, 2});
}

/* The delimiter is chosen by weight: 3 commas weigh 9, 3 bars 6; 3 colons weigh as much as a comma,
 * which is looked for first. */
static void delimiter_by_weight(void **state)
{
    (void)state;
    assert_null(read_csv("1,2,4096,|||\n", 64));
    expect_pages(1, (uint16_t[]){0});
    assert_null(read_csv("1,7,4096,a:b:c:d:e\n", 64));
    expect_pages(1, (uint16_t[]){0});
    assert_string_equal(read_csv("1:2:3,4:5:6\n", 64), "line 1: the size is no number of 64 bits");
}

static void requests_that_count_apart(void **state)
{
    (void)state;
    assert_null(read_csv("1,5,0\n2,6,4096\n3,7,4097\n", 64));
    expect_pages(2, (uint16_t[]){0, 1});
    assert_int_equal(trace_given()->left_out, 1);
    assert_int_equal(trace_given()->large, 1);
}

static void damaged_csv(void **state)
{
    static const struct {
        const char *text;
        const char *problem;
    } cases[] = {
        {"", "it has no request"},
        {"time,object,size\n", "it has no request"},
        {"1,2,0\n", "it has no request"},
        {"12345\n", "line 1: no tab, comma, bar or colon parts its columns"},
        {"1,2,3\n4\n", "line 2: it has one column; the second one is the object"},
        {"1,2,3\n4,,3\n", "line 2: the object is no number of 64 bits"},
        {"1,2,3\n4,5x,3\n", "line 2: the object is no number of 64 bits"},
        {"1,2,3\n4,09,3\n", "line 2: the object is no number of 64 bits"},
        {"1,2,3\n4,0x,3\n", "line 2: the object is no number of 64 bits"},
        {"1,2,3\n4,-1,3\n", "line 2: the object is no number of 64 bits"},
        {"1,18446744073709551616,3\n", "line 1: the object is no number of 64 bits"},
        {"1,2,x\n", "line 1: the size is no number of 64 bits"},
        {"1,2,\n", "line 1: the size is no number of 64 bits"},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_string_equal(read_csv(cases[i].text, 3), cases[i].problem);
        assert_null(trace_given());
    }
}

static void lines_have_a_limit(void **state)
{
    char line[TRACE_LINE_SIZE + 3];

    (void)state;
    memset(line, ' ', sizeof(line));
    memcpy(line, "1,2", 3);
    line[TRACE_LINE_SIZE] = '\n';
    line[TRACE_LINE_SIZE + 1] = '\0';
    assert_null(read_csv(line, 100));
    line[TRACE_LINE_SIZE] = ' ';
    assert_string_equal(read_csv(line, 100), "line 1: longer than 256 characters");
}

/* ---- oracleGeneral ---- */

static void put_record(uint8_t *to, uint64_t object, uint32_t size)
{
    memset(to, 0xff, RECORD);
    memcpy(to + 4, &object, sizeof(object));
    memcpy(to + 12, &size, sizeof(size));
}

static const char *read_records(const uint8_t *bytes, size_t size, size_t step)
{
    trace_begin(TRACE_ORACLE);
    for (size_t at = 0; at < size; at += step) {
        if (!trace_feed(bytes + at, size - at < step ? size - at : step))
            break;
    }
    return trace_end();
}

static void records(void **state)
{
    uint8_t bytes[4 * RECORD];

    (void)state;
    put_record(bytes, UINT64_MAX, 4096);
    put_record(bytes + RECORD, 10, 4096); /* a byte that ends a line of text */
    put_record(bytes + 2 * RECORD, UINT64_MAX, 0);
    put_record(bytes + 3 * RECORD, UINT64_MAX, 5000);
    for (size_t step = 1; step <= sizeof(bytes); step += 5) {
        assert_null(read_records(bytes, sizeof(bytes), step));
        expect_pages(3, (uint16_t[]){0, 1, 0});
        assert_int_equal(trace_given()->left_out, 1);
        assert_int_equal(trace_given()->large, 1);
    }
    assert_string_equal(read_records(bytes, sizeof(bytes) - 1, 9),
                        "record 4: it ends after a part of its 24 bytes");
    assert_null(trace_given());
    assert_string_equal(read_records(bytes, 0, 1), "it has no request");
}

static void requests_and_objects_have_limits(void **state)
{
    size_t most = (size_t)(TRACE_REQUESTS_MAX + 1) * RECORD;
    uint8_t *bytes = malloc(most);

    (void)state;
    assert_non_null(bytes);
    for (unsigned i = 0; i <= TRACE_REQUESTS_MAX; i++)
        put_record(bytes + (size_t)i * RECORD, (i % TRACE_PAGES_MAX) * UINT64_C(0x100000001), 1);
    assert_null(read_records(bytes, most - RECORD, 4096));
    assert_int_equal(trace_given()->requests, TRACE_REQUESTS_MAX);
    assert_int_equal(trace_given()->pages, TRACE_PAGES_MAX);
    for (unsigned i = 0; i < TRACE_REQUESTS_MAX; i++)
        assert_int_equal(trace_given()->page[i], i % TRACE_PAGES_MAX);
    assert_string_equal(read_records(bytes, most, 4096), "record 32769: more than 32,768 requests");
    put_record(bytes + 3000 * RECORD, UINT64_MAX, 1);
    assert_string_equal(read_records(bytes, most, 4096), "record 3001: more than 2,048 objects");
    free(bytes);
}

/* ---- the option ---- */

static unsigned parse(const char *load, struct options *options)
{
    struct option_sources sources = {.load = load};

    return options_parse(&sources, options, NULL);
}

static void the_option_takes_a_path(void **state)
{
    struct options options;
    char text[128];

    (void)state;
    assert_int_equal(parse("trace=/traces/a.csv", &options), 0);
    assert_string_equal(options.trace, "traces\\a.csv");
    assert_int_equal(parse("trace=\\b.oracleGeneral", &options), 0);
    assert_string_equal(options.trace, "b.oracleGeneral");
    assert_int_equal(parse("trace=none", &options), 0);
    assert_string_equal(options.trace, "");
    assert_int_equal(parse("", &options), 0);
    assert_string_equal(options.trace, "");
    for (unsigned i = 0; i < 4; i++) {
        static const char *const bad[] = {"trace=", "trace=.csv", "trace=a.csv.zst", "trace=a.CSV"};

        assert_int_equal(parse(bad[i], &options), 1);
        assert_string_equal(options.trace, "");
    }
    snprintf(text, sizeof(text), "trace=%059u.csv", 0);
    assert_int_equal(parse(text, &options), 0);
    snprintf(text, sizeof(text), "trace=%060u.csv", 0);
    assert_int_equal(parse(text, &options), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(csv_of_each_delimiter),
        cmocka_unit_test(first_line_without_letters_is_a_request),
        cmocka_unit_test(numbers_in_three_bases),
        cmocka_unit_test(delimiter_by_weight),
        cmocka_unit_test(requests_that_count_apart),
        cmocka_unit_test(damaged_csv),
        cmocka_unit_test(lines_have_a_limit),
        cmocka_unit_test(records),
        cmocka_unit_test(requests_and_objects_have_limits),
        cmocka_unit_test(the_option_takes_a_path),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

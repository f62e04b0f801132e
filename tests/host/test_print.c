/* Printing: formats against the C library's, sinks, pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/print.h"
#include "lib/random.h"
#include "tests/host/fake/machine.h"

static struct random dice = {11};

/* Formats with the same words for both; the compiler checks the arguments. */
#define SAME(...)                                                                                  \
    do {                                                                                           \
        char ours[256];                                                                            \
        char theirs[256];                                                                          \
        size_t length = print_to(ours, sizeof(ours), __VA_ARGS__);                                 \
                                                                                                   \
        assert_int_equal(length, snprintf(theirs, sizeof(theirs), __VA_ARGS__));                   \
        assert_string_equal(ours, theirs);                                                         \
    } while (0)

static void plain_text(void **state)
{
    (void)state;
    SAME("nothing to convert");
    SAME("100%% of %s", "it");
    SAME("%s%s%c%s", "a", "", 'b', "c");
    SAME("[%5s] [%-5s] [%.2s] [%7.3s] [%-7.3s] [%.0s]", "ab", "ab", "abc", "abcdef", "abcdef", "x");
    SAME("[%*s] [%-*s] [%.*s]", 6, "six", 6, "six", 2, "six");
    SAME("[%3c] [%-3c] [%c]", 'x', 'y', 'z');
}

static void corners_of_numbers(void **state)
{
    static const long longs[] = {0, 1, -1, 9, 10, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN};

    (void)state;
    for (unsigned i = 0; i < sizeof(longs) / sizeof(longs[0]); i++) {
        SAME("%ld %lu %lx", longs[i], (unsigned long)longs[i], (unsigned long)longs[i]);
        SAME("%d %u %x", (int)longs[i], (unsigned)longs[i], (unsigned)longs[i]);
        SAME("%lld %llu %llx", (long long)longs[i], (unsigned long long)longs[i],
             (unsigned long long)longs[i]);
        SAME("%zu %zx", (size_t)longs[i], (size_t)longs[i]);
        SAME("%24ld|%-24ld|%024ld", longs[i], longs[i], longs[i]);
    }
    SAME("%p %20p %-20p|", (void *)0x1234, (void *)0xffff800000000000, (void *)1);
    SAME("%#x %#lx %#10x %#-10x %#010x", 1U, 0xabcdefUL, 0x12U, 0x34U, 0x56U);
}

/* A conversion of a number, put together at random, in both. */
static void random_numbers(void **state)
{
    static const char *const flags[] = {"", "-", "0", "#", "-#", "0#", "-0"};
    static const char *const letters[] = {"d", "u", "x", "ld", "lu", "lx", "lld", "zx"};

    (void)state;
    for (unsigned i = 0; i < 200000; i++) {
        char format[32];
        char ours[64];
        char theirs[64];
        const char *letter = letters[random_below(&dice, 8)];
        const char *flag = flags[random_below(&dice, 7)];
        /* '#' means something with 'x' only, and nothing with a zero. */
        uint64_t value = random_next(&dice) >> random_below(&dice, 60) | 1;
        size_t length;

        if (strchr(letter, 'x') == NULL && strchr(flag, '#') != NULL)
            continue;
        snprintf(format, sizeof(format), "<%%%s%u%s>", flag, 1 + (unsigned)random_below(&dice, 30),
                 letter);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        length = print_to(ours, sizeof(ours), format, value);
        assert_int_equal(length, snprintf(theirs, sizeof(theirs), format, value));
#pragma GCC diagnostic pop
        if (strcmp(ours, theirs) != 0)
            fail_msg("%s of %lx: '%s', the C library says '%s'", format, value, ours, theirs);
    }
}

static void random_texts(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 20000; i++) {
        char text[40];
        unsigned size = (unsigned)random_below(&dice, sizeof(text));
        int width = (int)random_below(&dice, 40);
        int precision = (int)random_below(&dice, 40);

        for (unsigned at = 0; at < size; at++)
            text[at] = (char)(' ' + random_below(&dice, 95));
        text[size] = '\0';
        SAME("[%*.*s|%-*.*s]", width, precision, text, precision, width, text);
    }
}

static void buffers_are_never_overrun(void **state)
{
    (void)state;
    for (size_t size = 0; size < 12; size++) {
        char buffer[16];

        memset(buffer, '#', sizeof(buffer));
        assert_int_equal(print_to(buffer, size, "%s-%04x", "abc", 0x12U), 8);
        for (size_t at = 0; at < sizeof(buffer); at++) {
            if (at + 1 < size && at < 8)
                assert_int_equal(buffer[at], "abc-0012"[at]);
            else if (size > 0 && at == (size < 9 ? size - 1 : 8))
                assert_int_equal(buffer[at], '\0');
            else
                assert_int_equal(buffer[at], '#');
        }
    }
}

/* An unknown conversion is printed as it is, so that the mistake shows. */
static void strange_conversions(void **state)
{
    const char *formats[][2] = {{"%q|", "%q|"}, {"%5y|", "%y|"}, {"at the end %", "at the end "}};
    const char *volatile nothing = NULL;
    char buffer[64];

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
        print_to(buffer, sizeof(buffer), formats[i][0]);
#pragma GCC diagnostic pop
        assert_string_equal(buffer, formats[i][1]);
    }
    print_to(buffer, sizeof(buffer), "%s", nothing);
    assert_string_equal(buffer, "(null)");
}

/* ---- sinks ---- */

struct memory_sink {
    struct print_sink sink; /* first, so that a sink is its memory */
    char text[2048];
    size_t length;
    unsigned pieces;
    size_t largest;
};

static void keep(struct print_sink *sink, const char *text, size_t size)
{
    struct memory_sink *memory = (struct memory_sink *)sink;

    assert_true(memory->length + size <= sizeof(memory->text));
    memcpy(memory->text + memory->length, text, size);
    memory->length += size;
    memory->pieces++;
    if (size > memory->largest)
        memory->largest = size;
}

static struct memory_sink make_sink(void)
{
    return (struct memory_sink){.sink = {.write = keep}};
}

static void sinks_come_and_go(void **state)
{
    struct memory_sink a = make_sink();
    struct memory_sink b = make_sink();

    (void)state;
    print("to nobody\n");
    print_attach(&a.sink);
    print("to %c\n", 'a');
    print_attach(&b.sink);
    print("to both\n");
    print_detach(&a.sink);
    print("to %s\n", "b");
    print_detach(&a.sink);
    print_detach(&b.sink);
    print("to nobody again\n");
    assert_string_equal(a.text, "to a\nto both\n");
    assert_string_equal(b.text, "to both\nto b\n");
    print_attach(&a.sink);
    assert_true(PANICS(print_attach(&a.sink)));
    print_detach(&a.sink);
}

static void long_lines_come_in_pieces(void **state)
{
    struct memory_sink sink = make_sink();
    char expected[1200];

    (void)state;
    print_attach(&sink.sink);
    print("%s%*s%01000d", "begin", 100, "middle", 5);
    print_detach(&sink.sink);
    snprintf(expected, sizeof(expected), "%s%*s%01000d", "begin", 100, "middle", 5);
    assert_int_equal(sink.length, strlen(expected));
    assert_memory_equal(sink.text, expected, sink.length);
    assert_true(sink.pieces > 1 && sink.largest <= 256);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_text),
        cmocka_unit_test(corners_of_numbers),
        cmocka_unit_test(random_numbers),
        cmocka_unit_test(random_texts),
        cmocka_unit_test(buffers_are_never_overrun),
        cmocka_unit_test(strange_conversions),
        cmocka_unit_test(sinks_come_and_go),
        cmocka_unit_test(long_lines_come_in_pieces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Host tests of the options' parser: both sources, every key, every kind of mistake. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "efi/options/keys.h"
#include "efi/options/options.h"
#include "lib/print.h"
#include "lib/units.h"
#include "pmm/alloc/internal.h"
#include "vmm/policy/policy.h"

#define MESSAGES_MAX 32

/* The messages of one parse. */
struct messages {
    struct option_reporter reporter;
    unsigned count;
    char text[MESSAGES_MAX][400];
};

/* Only its name is used. */
FRAME_ALLOCATOR(test) = {.name = "an-allocator-of-a-test"};

static struct messages messages;
static struct options options;

static void keep(struct option_reporter *reporter, const char *text)
{
    struct messages *all = (struct messages *)reporter;

    assert_true(all->count < MESSAGES_MAX);
    assert_null(strchr(text, '\n'));
    snprintf(all->text[all->count++], sizeof(all->text[0]), "%s", text);
}

/* Parses copies that end exactly where the sources do, so that reading on is seen. */
static unsigned parse(const char *load, const char *file, size_t file_size)
{
    char *load_copy = load != NULL ? strdup(load) : NULL;
    char *file_copy = file != NULL ? malloc(file_size > 0 ? file_size : 1) : NULL;
    struct option_sources sources = {load_copy, file_copy, file_size};
    unsigned silent;
    unsigned errors;

    if (file_size > 0)
        memcpy(file_copy, file, file_size);
    messages.count = 0;
    messages.reporter.report = keep;
    silent = options_parse(&sources, &options, NULL);
    errors = options_parse(&sources, &options, &messages.reporter);
    assert_int_equal(silent, errors);
    assert_int_equal(errors, messages.count);
    free(load_copy);
    free(file_copy);
    return errors;
}

static unsigned parse_load(const char *load)
{
    return parse(load, NULL, 0);
}

static unsigned parse_file(const char *file)
{
    return parse(NULL, file, strlen(file));
}

static void defaults(void **state)
{
    (void)state;
    assert_int_equal(parse(NULL, NULL, 0), 0);
    assert_string_equal(options.run, "");
    assert_int_equal(options.memory_limit, 0);
    assert_int_equal(options.seed, 1);
    assert_int_equal(options.cpus, 0);
    assert_int_equal(options.swap, SWAP_AUTO);
    assert_int_equal(options.serial, SERIAL_AUTO);
    assert_int_equal(options.exit, EXIT_AUTO);
    assert_false(options.wipe);
    assert_int_equal(options.la57, LA57_AUTO);
    assert_int_equal(options.tables, TABLES_DIRECT);
    assert_int_equal(options.watchdog, OPTION_WATCHDOG);
    assert_int_equal(options.deadline, 0);
    assert_int_equal(options.seconds, OPTION_SECONDS);
    assert_int_equal(options.overcommit, OVERCOMMIT_HEURISTIC);
    assert_int_equal(options.spaces, OPTION_SPACES);
    assert_int_equal(options.regions, 0);
    assert_int_equal(parse("", "", 0), 0);
    assert_int_equal(parse(" \t ", "\n\n", 2), 0);
}

static void every_key(void **state)
{
    static const uint8_t uuid[OPTION_UUID_SIZE] = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
                                                   0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10};

    (void)state;
    assert_int_equal(parse_load("run=cow,zero-* mem=64M cpus=2 seed=0xfeedfacecafebeef "
                                "swap=01234567-89ab-cdef-FEDC-BA9876543210 serial=0x2f8 "
                                "exit=debug-exit la57=1 tables=window wipe=1 pmm=buddy "
                                "watchdog=0 deadline=90 seconds=7 overcommit=never spaces=300 "
                                "tags=9 policy=lirs regions=4294967295 "
                                "files=01234567-89ab-cdef-FEDC-BA9876543210"),
                     0);
    assert_string_equal(options.run, "cow,zero-*");
    assert_true(options.files);
    assert_memory_equal(options.files_uuid, uuid, sizeof(uuid));
    assert_int_equal(options.memory_limit, 64 * MIB);
    assert_int_equal(options.cpus, 2);
    assert_true(options.seed == UINT64_C(0xfeedfacecafebeef));
    assert_int_equal(options.swap, SWAP_SET);
    assert_int_equal(options.swap_sets, 1);
    assert_int_equal(options.swap_set[0].priority, 0);
    assert_memory_equal(options.swap_set[0].uuid, uuid, sizeof(uuid));
    assert_int_equal(options.serial, SERIAL_PORT);
    assert_int_equal(options.serial_port, 0x2f8);
    assert_int_equal(options.exit, EXIT_DEBUG);
    assert_int_equal(options.la57, LA57_ON);
    assert_int_equal(options.tables, TABLES_WINDOW);
    assert_true(options.wipe);
    assert_string_equal(frame_allocator(options.pmm)->name, "buddy");
    assert_string_equal(policy_at(options.policy - 1)->name, "lirs");
    assert_int_equal(options.watchdog, 0);
    assert_int_equal(options.deadline, 90);
    assert_int_equal(options.seconds, 7);
    assert_int_equal(options.overcommit, OVERCOMMIT_NEVER);
    assert_int_equal(options.spaces, 300);
    assert_int_equal(options.tags, 9);
    assert_int_equal(options.regions, UINT32_MAX);
}

#define SET_A "01234567-89ab-cdef-fedc-ba9876543210"
#define SET_B "11111111-2222-3333-4444-555555555555"

/* Lists of sets, each with its priority; a bad one leaves the options alone. */
static void lists_of_sets(void **state)
{
    static const char *const bad[] = {SET_A ",",
                                      "," SET_A,
                                      SET_A ",," SET_B,
                                      SET_A "," SET_A,
                                      SET_A ":",
                                      SET_A ":x",
                                      SET_A ":32768",
                                      SET_A ":-1",
                                      SET_A ":1:2",
                                      SET_A "," SET_B ":",
                                      SET_A ",auto",
                                      "none," SET_A,
                                      SET_A ":1," SET_A ":2",
                                      SET_A ";" SET_B,
                                      SET_A ":0x",
                                      SET_A ","
                                            "00000000-0000-0000-0000-000000000000",
                                      ":5",
                                      SET_A ":99999999999999999999"};
    char many[17 * 40] = "swap=";

    (void)state;
    assert_int_equal(parse_load("swap=" SET_A ":32767," SET_B), 0);
    assert_int_equal(options.swap, SWAP_SET);
    assert_int_equal(options.swap_sets, 2);
    assert_int_equal(options.swap_set[0].priority, 32767);
    assert_int_equal(options.swap_set[1].priority, 0);
    assert_int_equal(options.swap_set[1].uuid[15], 0x55);
    assert_int_equal(parse_load("swap=" SET_B ":0x10"), 0);
    assert_int_equal(options.swap_sets, 1);
    assert_int_equal(options.swap_set[0].priority, 16);
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        char text[128];

        print_to(text, sizeof(text), "swap=%s", bad[i]);
        assert_int_equal(parse_load(text), 1);
        assert_int_equal(options.swap, SWAP_AUTO);
        assert_int_equal(options.swap_sets, 0);
    }
    /* 16 sets are the most. */
    for (unsigned i = 0; i < 17; i++) {
        size_t used = strlen(many);

        print_to(many + used, sizeof(many) - used, "%s%08x%s", i > 0 ? "," : "", i + 1, &SET_A[8]);
        assert_int_equal(parse_load(many), i < 16 ? 0 : 1);
        assert_int_equal(options.swap_sets, i < 16 ? i + 1 : 0);
    }
}

static void words(void **state)
{
    static const struct {
        const char *text;
        int value;
    } serial[] = {{"serial=auto", SERIAL_AUTO},  {"serial=none", SERIAL_NONE},
                  {"serial=spcr", SERIAL_SPCR},  {"serial=pci", SERIAL_PCI},
                  {"serial=com1", SERIAL_COM1},  {"serial=0x100", SERIAL_PORT},
                  {"serial=0xFFF8", SERIAL_PORT}},
      ends[] = {{"exit=auto", EXIT_AUTO},
                {"exit=poweroff", EXIT_POWEROFF},
                {"exit=reboot", EXIT_REBOOT},
                {"exit=halt", EXIT_HALT},
                {"exit=debug-exit", EXIT_DEBUG}},
      la57[] = {{"la57=auto", LA57_AUTO}, {"la57=0", LA57_OFF}, {"la57=1", LA57_ON}},
      tables[] = {{"tables=direct", TABLES_DIRECT},
                  {"tables=recursive", TABLES_RECURSIVE},
                  {"tables=window", TABLES_WINDOW}};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(serial); i++) {
        assert_int_equal(parse_load(serial[i].text), 0);
        assert_int_equal(options.serial, serial[i].value);
    }
    for (size_t i = 0; i < ARRAY_COUNT(ends); i++) {
        assert_int_equal(parse_load(ends[i].text), 0);
        assert_int_equal(options.exit, ends[i].value);
    }
    for (size_t i = 0; i < ARRAY_COUNT(la57); i++) {
        assert_int_equal(parse_load(la57[i].text), 0);
        assert_int_equal(options.la57, la57[i].value);
    }
    for (size_t i = 0; i < ARRAY_COUNT(tables); i++) {
        assert_int_equal(parse_load(tables[i].text), 0);
        assert_int_equal(options.tables, tables[i].value);
    }
    assert_int_equal(parse_load("swap=none"), 0);
    assert_int_equal(options.swap, SWAP_NONE);
    assert_int_equal(parse_load("swap=auto"), 0);
    assert_int_equal(options.swap, SWAP_AUTO);
    assert_int_equal(parse_load("wipe=0"), 0);
    assert_false(options.wipe);
}

static void memory_sizes(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } sizes[] = {{"mem=33554432", 32 * MIB},  {"mem=32M", 32 * MIB},
                 {"mem=32768k", 32 * MIB},    {"mem=1g", GIB},
                 {"mem=0x2000000", 32 * MIB}, {"mem=17179869183G", 0}};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        uint64_t bytes = sizes[i].bytes != 0 ? sizes[i].bytes : UINT64_C(17179869183) * GIB;

        assert_int_equal(parse_load(sizes[i].text), 0);
        assert_true(options.memory_limit == bytes);
    }
}

static const char *const bad[] = {"run=",
                                  "run=,",
                                  "run=a,",
                                  "run=,a",
                                  "run=a,,b",
                                  "run=a/b",
                                  "run=a;b",
                                  "mem=",
                                  "mem=M",
                                  "mem=31M",
                                  "mem=33554431",
                                  "mem=5X",
                                  "mem=64MB",
                                  "mem=-1",
                                  "mem=17179869184G",
                                  "mem=17179869185G",
                                  "mem=99999999999999999999",
                                  "cpus=",
                                  "cpus=0",
                                  "cpus=4097",
                                  "cpus=two",
                                  "seed=",
                                  "seed=0x",
                                  "seed=0x1g",
                                  "seed=18446744073709551616",
                                  "seed=1.5",
                                  "swap=",
                                  "files=",
                                  "files=auto",
                                  "files=00000000-0000-0000-0000-000000000000",
                                  "swap=yes",
                                  "swap=01234567-89ab-cdef-fedc-ba987654321",
                                  "swap=01234567-89ab-cdef-fedc-ba98765432100",
                                  "swap=0123456789-ab-cdef-fedc-ba9876543210",
                                  "swap=g1234567-89ab-cdef-fedc-ba9876543210",
                                  "swap=00000000-0000-0000-0000-000000000000",
                                  "serial=",
                                  "serial=com2",
                                  "serial=3f8",
                                  "serial=0xff",
                                  "serial=0xfff9",
                                  "serial=0x10000",
                                  "serial=760",
                                  "exit=",
                                  "exit=off",
                                  "exit=AUTO",
                                  "la57=",
                                  "la57=2",
                                  "la57=yes",
                                  "tables=",
                                  "tables=slot",
                                  "pmm=",
                                  "pmm=slab",
                                  "policy=",
                                  "policy=lru2",
                                  "wipe=",
                                  "wipe=2",
                                  "wipe=01",
                                  "wipe=yes",
                                  "watchdog=",
                                  "watchdog=-1",
                                  "watchdog=86401",
                                  "watchdog=1s",
                                  "seconds=0",
                                  "seconds=86401",
                                  "overcommit=",
                                  "overcommit=sometimes",
                                  "spaces=0",
                                  "spaces=65537",
                                  "tags=0",
                                  "tags=33",
                                  "regions=",
                                  "regions=4294967296"};

static void bad_values(void **state)
{

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        const char *value = strchr(bad[i], '=') + 1;
        char expected[80];

        assert_int_equal(parse_load(bad[i]), 1);
        snprintf(expected, sizeof(expected), "load options, token 1: key \"%.*s\"",
                 (int)(value - bad[i] - 1), bad[i]);
        assert_memory_equal(messages.text[0], expected, strlen(expected));
        assert_non_null(strstr(messages.text[0], value));
        assert_non_null(strstr(messages.text[0], "accepted: "));
    }
    /* A value that was refused leaves nothing behind. */
    assert_int_equal(parse_load("serial=0x10000"), 1);
    assert_int_equal(options.serial, SERIAL_AUTO);
    assert_int_equal(parse_load("swap=01234567-89ab-cdef-fedc-ba987654321x"), 1);
    assert_int_equal(options.swap, SWAP_AUTO);
}

/* What a message offers is accepted: each word of each key, also a registered allocator with a long
 * name. */
static void offered_words(void **state)
{
    unsigned tried = 0;

    (void)state;
    for (size_t i = 0; i < OPTION_KEYS; i++) {
        char text[80];

        if (option_keys[i].word == NULL)
            continue;
        snprintf(text, sizeof(text), "%s=?", option_keys[i].name);
        assert_int_equal(parse_load(text), 1);
        for (unsigned place = 0; option_keys[i].word(place) != NULL; place++, tried++) {
            const char *word = option_keys[i].word(place);

            assert_non_null(strstr(strstr(messages.text[0], "accepted: "), word));
            snprintf(text, sizeof(text), "%s=%s", option_keys[i].name, word);
            assert_int_equal(parse_load(text), 0);
            snprintf(text, sizeof(text), "%s=?", option_keys[i].name);
            assert_int_equal(parse_load(text), 1);
        }
    }
    assert_int_equal(parse_load("pmm=an-allocator-of-a-test"), 0);
    assert_string_equal(frame_allocator(options.pmm)->name, "an-allocator-of-a-test");
    assert_true(tried >= 20);
}

/* Without pmm= the run uses the default, whichever allocators are registered. */
static void default_allocator(void **state)
{
    (void)state;
    assert_int_equal(parse_load("run=cow"), 0);
    assert_string_equal(frame_allocator(options.pmm)->name, "llfree");
}

static void run_length(void **state)
{
    char text[4 + OPTION_RUN_SIZE + 1] = "run=";

    (void)state;
    memset(text + 4, 'a', OPTION_RUN_SIZE - 1);
    assert_int_equal(parse_load(text), 0);
    assert_int_equal(strlen(options.run), OPTION_RUN_SIZE - 1);
    text[4 + OPTION_RUN_SIZE - 1] = 'a';
    assert_int_equal(parse_load(text), 1);
    assert_string_equal(options.run, "");
    assert_non_null(strstr(messages.text[0], "..."));
}

static void program_name(void **state)
{
    static const char *const names[] = {"faultline.efi",       "\\EFI\\BOOT\\BOOTX64.EFI",
                                        "FS0:\\Faultline.Efi", "faultline",
                                        "FS1:FAULTLINE",       "fs0:\\tools\\faultline",
                                        "./faultline",         "\"FS0:\\my tools\\faultline.efi\""};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        char text[80];

        snprintf(text, sizeof(text), "%s seed=7", names[i]);
        assert_int_equal(parse_load(text), 0);
        assert_int_equal(options.seed, 7);
        assert_int_equal(parse_load(names[i]), 0);
    }
    /* Only as the first word, and only a program's name. */
    assert_int_equal(parse_load("seed=7 faultline.efi"), 1);
    assert_int_equal(parse_load("faultline.efi faultline.efi"), 1);
    assert_int_equal(parse_load("myfaultline"), 1);
    assert_int_equal(parse_load("poweroff"), 1);
    /* The number of a token does not count the name. */
    assert_int_equal(parse_load("faultline.efi seed=1 bogus=2"), 1);
    assert_string_equal(messages.text[0],
                        "load options, token 2: unknown key \"bogus\" with value \"2\"; accepted: "
                        "run, mem, cpus, seed, swap, files, serial, exit, la57, "
                        "tables, wipe, pmm, watchdog, deadline, seconds, overcommit, spaces, "
                        "tags, policy, regions, report, menu, prompt, trace");
    /* A setting that ends so is a setting. */
    assert_int_equal(parse_load("run=x.efi"), 0);
    assert_string_equal(options.run, "x.efi");
}

static void all_errors_are_reported(void **state)
{
    (void)state;
    assert_int_equal(parse("bogus=1 seed=2 seed=3 =5 nonsense", "mem=1\nwhat\nSeed=4\n", 18), 7);
    assert_string_equal(messages.text[0], "faultline.cfg, line 1: key \"mem\" has a bad value "
                                          "\"1\"; accepted: bytes, or a number with K, M or G, at "
                                          "least 32M");
    assert_string_equal(messages.text[1],
                        "faultline.cfg, line 2: \"what\" has no '='; expected key=value");
    assert_non_null(strstr(messages.text[2], "line 3: unknown key \"Seed\""));
    assert_non_null(strstr(messages.text[3], "token 1: unknown key \"bogus\""));
    assert_string_equal(messages.text[4],
                        "load options, token 3: key \"seed\" with value \"3\" was "
                        "given before in token 2; accepted: once");
    assert_non_null(strstr(messages.text[5], "token 4: unknown key \"\""));
    assert_non_null(strstr(messages.text[6], "token 5: \"nonsense\" has no '='"));
}

static void file_format(void **state)
{
    (void)state;
    assert_int_equal(parse_file("\xef\xbb\xbf# a comment\r\n\r\n  seed = 9  \r\nrun=cow # why\r\n"
                                "\t# run=twice\r\nmem=64M"),
                     0);
    assert_int_equal(options.seed, 9);
    assert_string_equal(options.run, "cow");
    assert_int_equal(options.memory_limit, 64 * MIB);

    assert_int_equal(parse_file("seed=1#2"), 1);
    assert_int_equal(parse("seed=1 # 2", NULL, 0), 2); /* no comments in load options */
    assert_int_equal(parse_file("seed=1\nseed=1\n"), 1);
    assert_non_null(strstr(messages.text[0], "line 2"));
    assert_non_null(strstr(messages.text[0], "in line 1"));
    assert_int_equal(parse_file("seed=\x1b[2J"), 1);
    assert_non_null(strstr(messages.text[0], "\"?[2J\""));

    assert_int_equal(parse(NULL, "\xff\xfes\0e\0", 6), 1);
    assert_non_null(strstr(messages.text[0], "UTF-16"));
    assert_int_equal(parse(NULL, "\xfe\xff\0s", 4), 1);
    assert_int_equal(parse(NULL, "seed=3\0", 7), 1);
    assert_int_equal(parse(NULL, "\xef", 1), 1);
    assert_int_equal(parse(NULL, "\xef\xbb\xbf", 3), 0);
}

static void load_options_win(void **state)
{
    static const char file[] = "seed=1\nexit=halt\nmem=64M\n";

    (void)state;
    assert_int_equal(parse("mem=128M seed=5", file, sizeof(file) - 1), 0);
    assert_int_equal(options.memory_limit, 128 * MIB);
    assert_int_equal(options.seed, 5);
    assert_int_equal(options.exit, EXIT_HALT);
}

/* Load options as the firmware passes them, in memory of exactly their size. */
static enum option_text text_of(const void *bytes, size_t size, char *text, size_t text_size)
{
    void *copy = malloc(size > 0 ? size : 1);
    enum option_text kind;

    if (size > 0)
        memcpy(copy, bytes, size);
    kind = options_text(copy, size, text, text_size);
    free(copy);
    return kind;
}

static void load_option_text(void **state)
{
    static const uint16_t wide[] = u"seed=7\twipe=1";
    static const uint16_t quote[] = u"run=“cow”";
    static const uint16_t blank[] = u"  \t ";
    char text[64];

    (void)state;
    assert_int_equal(text_of(wide, sizeof(wide), text, sizeof(text)), OPTION_TEXT_READ);
    assert_string_equal(text, "seed=7 wipe=1");
    /* Without its terminator, and with several. */
    assert_int_equal(text_of(wide, sizeof(wide) - 2, text, sizeof(text)), OPTION_TEXT_READ);
    assert_string_equal(text, "seed=7 wipe=1");
    assert_int_equal(text_of(u"ab\0\0", 10, text, sizeof(text)), OPTION_TEXT_READ);
    assert_string_equal(text, "ab");
    /* Characters that no option has stay visible to the parser, which refuses them. */
    assert_int_equal(text_of(quote, sizeof(quote), text, sizeof(text)), OPTION_TEXT_READ);
    assert_string_equal(text, "run=\x7f"
                              "cow\x7f");
    assert_int_equal(parse_load(text), 1);
    /* From a tool that does not widen. */
    assert_int_equal(text_of("seed=7", 7, text, sizeof(text)), OPTION_TEXT_READ);
    assert_string_equal(text, "seed=7");
    assert_int_equal(text_of("seed=7", 6, text, sizeof(text)), OPTION_TEXT_READ);
    assert_string_equal(text, "seed=7");

    assert_int_equal(text_of(NULL, 0, text, sizeof(text)), OPTION_TEXT_NONE);
    assert_int_equal(text_of(u"", 2, text, sizeof(text)), OPTION_TEXT_NONE);
    assert_int_equal(text_of("", 1, text, sizeof(text)), OPTION_TEXT_NONE);
    assert_int_equal(text_of(blank, sizeof(blank), text, sizeof(text)), OPTION_TEXT_NONE);

    assert_int_equal(text_of(wide, sizeof(wide), text, 14), OPTION_TEXT_READ);
    assert_int_equal(text_of(wide, sizeof(wide), text, 13), OPTION_TEXT_LONG);
    assert_string_equal(text, "");
}

/* A mistake in the bytes is an error of the run: the parser complains, or the kind says so. */
static void assert_error(const void *bytes, size_t size)
{
    char text[64];
    enum option_text kind = text_of(bytes, size, text, sizeof(text));

    if (kind == OPTION_TEXT_READ)
        assert_true(parse_load(text) > 0);
    else
        assert_int_equal(kind, OPTION_TEXT_BINARY);
}

static void unreadable_load_options(void **state)
{
    static const uint16_t control[] = u"swap=none \x01";
    static const uint16_t inside[] = u"swap=n\x07one";
    static const uint16_t cyrillic[] = u"своп=нет swap=none";
    static const uint16_t only_cyrillic[] = u"своп";
    static const uint16_t no_break[] = u"swap=none\u00a0run=cow";
    static const uint16_t hidden[] = u"run=cow\0swap=none";
    static const uint8_t numbers[] = {'A', 0, 0, 0, 1, 0, 0, 0};
    static const uint8_t almost_mark[] = {0, 0, 'B', 'P'};
    static const uint8_t odd[] = {'s', 0, 'e', 0, 'e', 0, 'd', 0, '='};

    (void)state;
    assert_error(control, sizeof(control));
    assert_error(inside, sizeof(inside));
    assert_error(cyrillic, sizeof(cyrillic));
    assert_error(only_cyrillic, sizeof(only_cyrillic));
    assert_error(no_break, sizeof(no_break));
    assert_error(hidden, sizeof(hidden));
    assert_error(numbers, sizeof(numbers));
    assert_error(almost_mark, sizeof(almost_mark));
    assert_error(odd, sizeof(odd));
    assert_error("swap=none\1", 11);
    assert_error("swap=non\xe9", 10);
    assert_error("run=cow\0swap=none", 18);
    assert_error("abc", 4);
}

static void firmware_marks(void **state)
{
    static const uint8_t edk2[] = {0x4e, 0xac, 0x08, 0x81, 0x11, 0x9f, 0x59, 0x4d,
                                   0x85, 0x0e, 0xe2, 0x1a, 0x52, 0x2c, 0x59, 0xb2};
    static const uint8_t ami[] = {0, 0, 'B', 'O'};
    char text[64] = "x";

    (void)state;
    assert_int_equal(text_of(edk2, sizeof(edk2), text, sizeof(text)), OPTION_TEXT_FIRMWARE);
    assert_string_equal(text, "");
    assert_int_equal(text_of(ami, sizeof(ami), text, sizeof(text)), OPTION_TEXT_FIRMWARE);
    assert_int_equal(text_of(edk2, sizeof(edk2) - 1, text, sizeof(text)), OPTION_TEXT_READ);
    assert_true(parse_load(text) > 0);
}

static void byte_order_marks(void **state)
{
    static const uint16_t little[] = u"\ufeffseed=7";
    static const uint8_t big[] = {0xfe, 0xff, 0, 's', 0, 'e', 0, 'e', 0, 'd', 0, '=', 0, '7'};
    static const char utf8[] = "\xef\xbb\xbfseed=7";
    char text[64];

    (void)state;
    assert_int_equal(text_of(little, sizeof(little), text, sizeof(text)), OPTION_TEXT_READ);
    assert_string_equal(text, "seed=7");
    assert_int_equal(text_of(big, sizeof(big), text, sizeof(text)), OPTION_TEXT_READ);
    assert_string_equal(text, "seed=7");
    assert_int_equal(text_of(utf8, sizeof(utf8), text, sizeof(text)), OPTION_TEXT_READ);
    assert_string_equal(text, "seed=7");
    assert_int_equal(text_of("\xff\xfe", 2, text, sizeof(text)), OPTION_TEXT_NONE);
    assert_int_equal(text_of("\xef\xbb\xbf", 3, text, sizeof(text)), OPTION_TEXT_NONE);
    /* Three letters in a byte each are no letter and a half of UTF-16. */
    assert_int_equal(text_of("a=b", 4, text, sizeof(text)), OPTION_TEXT_READ);
    assert_string_equal(text, "a=b");
}

static bool matches(const char *run, const char *name)
{
    struct options asked = {0};

    snprintf(asked.run, sizeof(asked.run), "%s", run);
    return option_run_matches(&asked, name);
}

static void globs(void **state)
{
    (void)state;
    assert_true(matches("", "anything"));
    assert_true(matches("cow", "cow"));
    assert_false(matches("cow", "cows"));
    assert_false(matches("cow", "co"));
    assert_false(matches("cow", ""));
    assert_true(matches("cow*", "cow"));
    assert_true(matches("cow*", "cow-fork"));
    assert_true(matches("*cow", "my-cow"));
    assert_false(matches("*cow", "my-cow-x"));
    assert_true(matches("*", ""));
    assert_true(matches("*o*o*", "foo-boo"));
    assert_true(matches("a*b*c", "aXbXbc"));
    assert_false(matches("a*b*c", "aXbXb"));
    assert_true(matches("*ab", "aab"));
    assert_true(matches("c?w", "cow"));
    assert_false(matches("c?w", "cw"));
    assert_true(matches("zero,cow", "cow"));
    assert_true(matches("zero,c*", "cow"));
    assert_false(matches("zero,swap", "cow"));
    assert_false(matches("zero,swap", "zero,swap"));
    assert_false(matches("a*a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
}

/* Any bytes at all: no read outside, no message outside its buffer, both passes agree. */
static void random_bytes(void **state)
{
    static const char letters[] = "runmecpsdawlixt=0123456789xXKMG,*? #\t\r\n\"\\.efi-\xef\xff";
    unsigned seed = 12345;

    (void)state;
    for (unsigned round = 0; round < 20000; round++) {
        char bytes[48];
        char text[32];
        size_t size = round % sizeof(bytes);

        for (size_t i = 0; i < size; i++) {
            seed = seed * 1103515245 + 12345;
            bytes[i] =
                round % 3 == 0 ? (char)(seed >> 16) : letters[(seed >> 16) % (sizeof(letters) - 1)];
        }
        text_of(bytes, size, text, sizeof(text));
        parse(NULL, bytes, size);
        bytes[size > 0 ? size - 1 : 0] = '\0';
        parse(bytes, NULL, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(every_key),
        cmocka_unit_test(lists_of_sets),
        cmocka_unit_test(words),
        cmocka_unit_test(memory_sizes),
        cmocka_unit_test(bad_values),
        cmocka_unit_test(offered_words),
        cmocka_unit_test(default_allocator),
        cmocka_unit_test(run_length),
        cmocka_unit_test(program_name),
        cmocka_unit_test(all_errors_are_reported),
        cmocka_unit_test(file_format),
        cmocka_unit_test(load_options_win),
        cmocka_unit_test(load_option_text),
        cmocka_unit_test(unreadable_load_options),
        cmocka_unit_test(firmware_marks),
        cmocka_unit_test(byte_order_marks),
        cmocka_unit_test(globs),
        cmocka_unit_test(random_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

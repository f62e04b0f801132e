/* The pictures of a run: the story that a log tells, what the screen then says, and its pixels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/screen/screen.h"

/* A font of PSF version 1 without a table of letters: glyph i is letter i, each a block of its own
 * pattern, so that two letters have different pixels. */
#define GLYPH_HEIGHT 16U

static uint8_t font_data[4 + 256 * GLYPH_HEIGHT] = {0x36, 0x04, 0, GLYPH_HEIGHT};
static struct font font;

static struct screen screen;
static struct screen other_screen;
static struct story story;
static struct screen_facts facts;

static const char log_start[] = "KTAP version 1\n"
                                "# Faultline abc1234\n"
                                "# seed: 7\n"
                                "# processor: Some CPU version 2, Intel family 6\n"
                                "1..3\n";

static const char log_first[] =
    "    KTAP version 1\n"
    "    1..2\n"
    "    # How few tickets?\n"
    "    ok 1 wordaaaa wordbbbb wordcccc wordaaaa wordbbbb wordcccc wordaaaa wordbbbb wordcccc\n"
    "    ok 2 the ledger is even # SKIP no second processor\n"
    "    # metric ticket-range.a=1 pages\n"
    "    # answer: 4 tickets do, not 2,048, for 8 MiB; and more.\n"
    "ok 1 ticket-range\n";

static const char log_second[] = "    KTAP version 1\n"
                                 "    1..6\n"
                                 "    # What does an exit cost?\n"
                                 "    ok 1 fine\n"
                                 "    not ok 2 full_scan: nothing is left\n";

static const char log_end[] = "not ok 2 ticket-exit\n"
                              "ok 3 levels # SKIP it has too many spaces\n"
                              "# failed: ticket-exit: check 2: full_scan: nothing is left\n"
                              "# verdict: fail\n";

static void tell(const char *name, const char *text)
{
    if (name != NULL)
        story_begin(&story, name);
    story_add(&story, text, strlen(text));
}

static void tell_all(void)
{
    memset(&story, 0, sizeof(story));
    tell(NULL, log_start);
    tell("ticket-range", log_first);
    tell("ticket-exit", log_second);
    tell(NULL, log_end);
}

static int make_font(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 256 * GLYPH_HEIGHT; i++)
        font_data[4 + i] = i / GLYPH_HEIGHT == ' ' ? 0 : (uint8_t)(i / GLYPH_HEIGHT);
    return font_open(font_data, sizeof(font_data), &font) == OK ? 0 : -1;
}

/* Opens a screen on exactly as many pixels as it has, so that a sanitizer sees one too many. */
static bool open_screen(struct screen *one, uint32_t width, uint32_t height)
{
    struct screen_pixels pixels = {
        .at = calloc((size_t)width * height, 4), .width = width, .height = height, .pitch = width};

    memset(one, 0, sizeof(*one));
    return screen_open(one, &pixels, &font);
}

static void close_screen(struct screen *one)
{
    free((void *)one->pixels.at);
}

/* Returns whether the screen says a text in one row. */
static bool says(const struct screen *one, const char *text)
{
    for (unsigned row = 0; row < one->rows; row++) {
        char line[SCREEN_COLUMNS + 1] = "";

        for (unsigned column = 0; column < one->columns; column++)
            line[column] = one->shown[row][column].letter;
        if (strstr(line, text) != NULL)
            return true;
    }
    return false;
}

/* Returns whether every word that begins with "word" is whole. */
static bool words_are_whole(const struct screen *one)
{
    for (unsigned row = 0; row < one->rows; row++) {
        char line[SCREEN_COLUMNS + 1] = "";

        for (unsigned column = 0; column < one->columns; column++)
            line[column] = one->shown[row][column].letter;
        for (char *at = line; (at = strstr(at, "wo")) != NULL; at += 2) {
            if (strncmp(at, "word", 4) != 0 || strcspn(at, " ") != 8)
                return false;
        }
    }
    return true;
}

static void fill_facts(unsigned seed)
{
    static const struct screen_region regions[] = {
        {4096, SCREEN_ANONYMOUS}, {1 << 24, SCREEN_SHARED}, {4096, SCREEN_KERNEL}};

    memset(&facts, 0, sizeof(facts));
    facts.memory_bytes = UINT64_C(512) << 20;
    facts.memory_cell = 65536;
    facts.memory_cells = SCREEN_MEMORY_CELLS;
    facts.swap_bytes = UINT64_C(255) << 20;
    facts.swap_cell = UINT64_C(256) << 10;
    facts.swap_cells = 1020;
    facts.swap_place = "on disk";
    for (unsigned i = 0; i < SCREEN_MEMORY_CELLS; i++)
        facts.memory[i] = (uint8_t)(1 + (i * 7 + seed) % (SCREEN_KINDS - 1));
    for (unsigned i = 0; i < SCREEN_SWAP_CELLS; i++)
        facts.swap[i] = (uint8_t)(1 + (i + seed) % (SCREEN_KINDS - 1));
    facts.space = 1 + seed;
    facts.space_bytes = UINT64_C(8192) + (1 << 24);
    facts.space_limit = UINT64_C(128) << 40;
    facts.regions = 3 - seed % 3;
    memcpy(facts.region, regions, sizeof(regions));
    facts.free = 92405 * seed;
    facts.keys = "p pause";
    strcpy(facts.next, "wordaaaa, wordbbb, wordccc, wordddd, wordeee, wordfff, wordggg");
}

static const struct {
    uint32_t width;
    uint32_t height;
} sizes[] = {{640, 480}, {800, 600}, {1024, 768}, {1280, 800}, {1366, 768}, {1920, 1080}};

static void story_is_told(void **state)
{
    (void)state;
    tell_all();
    assert_string_equal(story.version, "abc1234");
    assert_string_equal(story.machine, "Some CPU");
    assert_string_equal(story.verdict, "fail");
    assert_int_equal(story.done, 3);
    assert_int_equal(story.failed, 1);
    assert_int_equal(story.skipped, 1);
    assert_int_equal(story.checks_passed, 2);
    assert_int_equal(story.checks_failed, 1);
    assert_int_equal(story.checks_skipped, 1);
    assert_string_equal(story.heads[0].text, "4 tickets do, not 2,048, for 8 MiB");
    assert_int_equal(story.failures, 1);
    assert_string_equal(story.failure[0].name, "ticket-exit");
    assert_int_equal(story.failure[0].check, 2);
    assert_string_equal(story.reason[0].text, "no second processor");
}

static void a_failure_is_named(void **state)
{
    (void)state;
    tell_all();
    fill_facts(1);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        assert_true(open_screen(&screen, sizes[i].width, sizes[i].height));
        screen_draw_end(&screen, &story, &facts);
        assert_true(says(&screen, "ticket-exit"));
        assert_true(says(&screen, "check 2 of 6: full_scan: nothing is left"));
        assert_true(says(&screen, "again: run=ticket-exit seed=7"));
        assert_true(says(&screen, "verdict fail"));
        assert_true(says(&screen, "NO ticket-exit"));
        close_screen(&screen);
    }
}

static void a_run_under_way(void **state)
{
    (void)state;
    memset(&story, 0, sizeof(story));
    tell(NULL, log_start);
    tell("ticket-range", log_first);
    tell("ticket-exit", log_second);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        fill_facts(2);
        assert_true(open_screen(&screen, sizes[i].width, sizes[i].height));
        screen_draw_run(&screen, &story, &facts);
        assert_true(says(&screen, "2 of 3, check 2 of 6"));
        assert_true(says(&screen, "memory, 512 MiB, a cell is 64 KiB"));
        assert_true(says(&screen, "in transit"));
        if (sizes[i].width >= 800)
            assert_true(says(&screen, "NO 2 full_scan: nothing is left"));
        if (sizes[i].width >= 1024)
            assert_true(says(&screen, "ok 1 ticket-range"));
        close_screen(&screen);
    }
}

static void words_stay_whole(void **state)
{
    (void)state;
    memset(&story, 0, sizeof(story));
    tell(NULL, log_start);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        fill_facts(3);
        facts.next[0] = '\0';
        memset(&story.now, 0, sizeof(story.now));
        tell("ticket-range", log_first);
        tell("x",
             "    KTAP version 1\n    1..2\n    # wordaaaa wordbbbb wordcccc wordaaaa wordbbbb "
             "wordcccc\n    ok 1 wordaaaa wordbbbb wordcccc wordaaaa wordbbbb wordcccc "
             "wordaaaa wordbbbb wordcccc wordaaaa wordbbbb wordcccc\n");
        assert_true(open_screen(&screen, sizes[i].width, sizes[i].height));
        screen_draw_run(&screen, &story, &facts);
        assert_true(words_are_whole(&screen));
        screen_draw_page(&screen, "log", "keys", log_first, strlen(log_first), 0);
        assert_true(words_are_whole(&screen));
        close_screen(&screen);
    }
    assert_int_equal(screen_fit("abc def", 6), 3);
    assert_int_equal(screen_fit("abc def", 7), 7);
    assert_int_equal(screen_fit("abcdefgh", 6), 6);
}

/* Drawing the changes leaves the pixels of a whole new picture. */
static void changes_are_complete(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        memset(&story, 0, sizeof(story));
        tell(NULL, log_start);
        assert_true(open_screen(&screen, sizes[i].width, sizes[i].height));
        assert_true(open_screen(&other_screen, sizes[i].width, sizes[i].height));
        fill_facts(1);
        tell("ticket-range", log_first);
        screen_draw_run(&screen, &story, &facts);
        tell("ticket-exit", log_second);
        fill_facts(5);
        screen_draw_run(&screen, &story, &facts);
        screen_draw_run(&other_screen, &story, &facts);
        assert_memory_equal((void *)screen.pixels.at, (void *)other_screen.pixels.at,
                            (size_t)sizes[i].width * sizes[i].height * 4);
        tell(NULL, log_end);
        screen_draw_end(&screen, &story, &facts);
        screen_draw_run(&screen, &story, &facts);
        screen_draw_run(&other_screen, &story, &facts);
        assert_memory_equal((void *)screen.pixels.at, (void *)other_screen.pixels.at,
                            (size_t)sizes[i].width * sizes[i].height * 4);
        close_screen(&screen);
        close_screen(&other_screen);
    }
}

static void pages_follow_each_other(void **state)
{
    static char text[20000];
    size_t size = 0;
    size_t at = 0;
    unsigned pages = 0;

    (void)state;
    for (unsigned i = 0; size < sizeof(text) - 64; i++)
        size += (size_t)snprintf(text + size, sizeof(text) - size, "line %u of the log\n", i);
    assert_true(open_screen(&screen, 800, 600));
    while (at < size) {
        size_t next = screen_draw_page(&screen, "log", "keys", text, size, at);

        assert_true(next > at);
        assert_true(next == size || text[next - 1] == '\n');
        at = next;
        pages++;
    }
    assert_true(pages > 10);
    close_screen(&screen);
}

/* Words of many lengths wrap at other places than letters do: all reach a page. */
static void pages_show_every_word(void **state)
{
    static char text[8192];
    static char found[8192];
    unsigned last = 0;
    size_t size = 0;

    (void)state;
    for (unsigned i = 0; i < 120; i++)
        size += (size_t)snprintf(text + size, sizeof(text) - size, "word%04u%.*s%s", i, i % 45,
                                 "---------------------------------------------",
                                 i % 30 > 12 && i % 4 != 0 ? "\n" : " ");
    assert_true(open_screen(&screen, 640, 480));
    for (size_t at = 0; at < size;) {
        size_t length = 0;

        at = screen_draw_page(&screen, "log", "keys", text, size, at);
        for (unsigned row = 1; row + 1 < screen.rows; row++) {
            for (unsigned column = 0; column < screen.columns; column++)
                found[length++] = screen.shown[row][column].letter;
        }
        found[length] = '\0';
        for (const char *word = found; (word = strstr(word, "word")) != NULL; word++) {
            assert_int_equal(strtoul(word + 4, NULL, 10), last);
            last++;
        }
    }
    assert_int_equal(last, 120);
    close_screen(&screen);
}

/* With more failures than there is room for, the rest of the picture stays. */
static void many_failures(void **state)
{
    static const char failing[] = "    KTAP version 1\n    1..6\n    # Why?\n    not ok 1 wordaaaa "
                                  "wordbbbb wordcccc wordaaaa wordbbbb wordcccc wordaaaa wordbbbb\n"
                                  "not ok 1 a-name-of-20-letters\n";

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        memset(&story, 0, sizeof(story));
        tell(NULL, log_start);
        for (unsigned failure = 0; failure < 20; failure++)
            tell("a-name-of-20-letters", failing);
        tell(NULL, "Bail out! wordaaaa wordbbbb wordcccc wordaaaa wordbbbb wordcccc wordaaaa "
                   "wordbbbb wordcccc wordaaaa wordbbbb\n# verdict: fail\n");
        fill_facts(1);
        facts.log = "went over the line; it is in the log area of the swap disk as well, and it is "
                    "kept in memory, from which the next start saves it on the boot volume";
        assert_true(open_screen(&screen, sizes[i].width, sizes[i].height));
        screen_draw_end(&screen, &story, &facts);
        assert_true(words_are_whole(&screen));
        assert_true(says(&screen, "more: the log has them"));
        assert_true(says(&screen, "0 checks hold, 20 failed"));
        assert_true(says(&screen, "The log"));
        assert_true(says(&screen, "volume"));
        assert_true(says(&screen, "make report"));
        assert_true(says(&screen, "p pause"));
        assert_true(says(&screen, " a-name-of-20-letters "));
        close_screen(&screen);
    }
}

static void long_names_are_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        memset(&story, 0, sizeof(story));
        tell(NULL, "# Faultline v1234.5-7890-g0123456789-dirty\n1..3\n");
        tell("a-name-of-20-letters", log_second);
        fill_facts(1);
        facts.seconds = 6001;
        assert_true(open_screen(&screen, sizes[i].width, sizes[i].height));
        screen_draw_run(&screen, &story, &facts);
        assert_true(says(&screen, "a-name-of-20-letters "));
        assert_true(says(&screen, " 0 failed   100:01"));
        tell(NULL, "ok 2 a-name-of-20-letters\n# verdict: pass\n");
        screen_draw_end(&screen, &story, &facts);
        assert_true(says(&screen, "ok a-name-of-20-letters  2"));
        close_screen(&screen);
    }
}

/* No result touches that of the next column: the letter left of each mark is blank. */
static void columns_of_results(void **state)
{
    static const char result[] = "    KTAP version 1\n    1..3\n    # Why?\n    ok 1 a\n"
                                 "    ok 2 b # SKIP c\n    ok 3 d\nok 1 %s\n";
    static const char *const names[] = {"name-of-15-char", "a-name-of-20-letters"};

    (void)state;
    for (size_t i = 0; i < 2 * sizeof(sizes) / sizeof(*sizes); i++) {
        unsigned marks = 0;

        memset(&story, 0, sizeof(story));
        tell(NULL, log_start);
        for (unsigned one = 0; one < 20; one++) {
            char text[256];

            snprintf(text, sizeof(text), result, names[i % 2]);
            tell(names[i % 2], text);
        }
        fill_facts(1);
        assert_true(open_screen(&screen, sizes[i / 2].width, sizes[i / 2].height));
        screen_draw_end(&screen, &story, &facts);
        for (unsigned row = 0; row < screen.rows; row++) {
            for (unsigned column = 0; column + 25 < screen.columns; column++) {
                if (screen.shown[row][column].letter != 'o' ||
                    screen.shown[row][column + 1].letter != 'k')
                    continue;
                assert_true(screen.shown[row][column - 1].letter <= ' ');
                marks++;
            }
        }
        assert_int_equal(marks, 20);
        assert_true(says(&screen, i % 2 == 0 ? "-char  " : "letters  2+1"));
        close_screen(&screen);
    }
}

/* A screen with more columns of the font than a picture can have. */
static void a_very_wide_screen(void **state)
{
    (void)state;
    memset(&story, 0, sizeof(story));
    tell(NULL, log_start);
    tell("ticket-range", log_first);
    tell("ticket-exit", log_second);
    fill_facts(2);
    assert_true(open_screen(&screen, 3840, 480));
    screen_draw_run(&screen, &story, &facts);
    assert_true(says(&screen, "ok 1 ticket-range"));
    assert_true(says(&screen, "next  wordaaaa"));
    close_screen(&screen);
}

static void small_screens(void **state)
{
    (void)state;
    assert_false(open_screen(&screen, 632, 480));
    close_screen(&screen);
    assert_false(open_screen(&screen, 640, 464));
    close_screen(&screen);
}

/* The line between the columns begins at the progress and ends at the lower edge, without a gap. */
static void the_columns_are_parted(void **state)
{
    uint32_t x = 0;
    uint32_t line;

    (void)state;
    tell_all();
    fill_facts(0);
    assert_true(open_screen(&screen, 1280, 800));
    screen_draw_run(&screen, &story, &facts);
    line = screen.pixels.at[799 * 1280U];
    for (x = 1; x < 1280 && screen.pixels.at[799 * 1280U + x] == line; x++)
        continue;
    assert_in_range(x, 1280 / 2, 1280 * 3 / 4);
    line = screen.pixels.at[799 * 1280U + x];
    for (uint32_t y = GLYPH_HEIGHT + GLYPH_HEIGHT / 6; y < 800; y++)
        assert_int_equal(screen.pixels.at[y * 1280U + x], line);
    close_screen(&screen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_columns_are_parted),  cmocka_unit_test(story_is_told),
        cmocka_unit_test(a_failure_is_named),      cmocka_unit_test(a_run_under_way),
        cmocka_unit_test(words_stay_whole),        cmocka_unit_test(changes_are_complete),
        cmocka_unit_test(pages_follow_each_other), cmocka_unit_test(pages_show_every_word),
        cmocka_unit_test(many_failures),           cmocka_unit_test(long_names_are_whole),
        cmocka_unit_test(a_very_wide_screen),      cmocka_unit_test(small_screens),
        cmocka_unit_test(columns_of_results),
    };

    return cmocka_run_group_tests(tests, make_font, NULL);
}

/* Host tests of the fonts: both formats, damaged ones, and those that the image carries. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "efi/console/font.h"
#include "lib/units.h"

#define FONT_FOLDER "/usr/share/consolefonts"

static struct font font;
static uint8_t *data; /* exactly as long as the font */

static enum status open_copy(const void *bytes, size_t size)
{
    free(data);
    data = malloc(size > 0 ? size : 1);
    if (size > 0)
        memcpy(data, bytes, size);
    return font_open(data, size, &font);
}

static int end(void **state)
{
    (void)state;
    free(data);
    data = NULL;
    return 0;
}

/* Reads every glyph that can be asked for, to its last byte. */
static unsigned touch_glyphs(void)
{
    unsigned sum = 0;

    for (unsigned letter = 0; letter < 256; letter++) {
        const uint8_t *glyph = font_glyph(&font, (char)letter);

        for (uint32_t i = 0; i < font.row_bytes * font.height; i++)
            sum += glyph[i];
    }
    return sum;
}

static size_t put_u32(uint8_t *at, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> 8 * i);
    return 4;
}

/* A PSF 2 font whose glyph n is filled with byte n. */
static size_t make_2(uint8_t *bytes, uint32_t header, uint32_t flags, uint32_t count,
                     uint32_t width, uint32_t height)
{
    static const uint8_t magic[] = {0x72, 0xb5, 0x4a, 0x86};
    uint32_t glyph = (width + 7) / 8 * height;

    memset(bytes, 0, header);
    memcpy(bytes, magic, 4);
    put_u32(bytes + 8, header);
    put_u32(bytes + 12, flags);
    put_u32(bytes + 16, count);
    put_u32(bytes + 20, glyph);
    put_u32(bytes + 24, height);
    put_u32(bytes + 28, width);
    for (uint32_t i = 0; i < count; i++)
        memset(bytes + header + i * glyph, (int)i, glyph);
    return header + (size_t)count * glyph;
}

static void psf2_without_table(void **state)
{
    static uint8_t bytes[40 + 256 * 48];
    size_t size = make_2(bytes, 40, 0, 256, 12, 24);

    (void)state;
    assert_int_equal(open_copy(bytes, size), OK);
    assert_int_equal(font.width, 12);
    assert_int_equal(font.height, 24);
    assert_int_equal(font.row_bytes, 2);
    assert_int_equal(font_glyph(&font, 'A')[47], 'A');
    assert_int_equal(font_glyph(&font, '\xe4')[0], '?');
    touch_glyphs();
    /* One byte short. */
    assert_int_equal(open_copy(bytes, size - 1), STATUS_CORRUPT);
    /* Too few glyphs for ASCII: a missing one is drawn as the question mark, or as the first. */
    size = make_2(bytes, 32, 0, 64, 8, 16);
    assert_int_equal(open_copy(bytes, size), OK);
    assert_int_equal(font_glyph(&font, 'A')[0], '?');
    assert_int_equal(font_glyph(&font, ' ')[0], ' ');
    size = make_2(bytes, 32, 0, 8, 8, 16);
    assert_int_equal(open_copy(bytes, size), OK);
    assert_int_equal(font_glyph(&font, 'A')[0], 0);
}

static void psf2_with_table(void **state)
{
    /* Glyph 0: 'B' and e acute; 1: a sequence of 'A' and an accent; 2: '?' and 'A'; 3: 'B' again;
     * then 'z', for a glyph that the font does not have. */
    static const uint8_t table[] = {'B',  0xc3, 0xa9, 0xff, 0xfe, 'A',  0xcc, 0x81,
                                    0xff, '?',  'A',  0xff, 'B',  0xff, 'z',  0xff};
    uint8_t bytes[32 + 4 * 16 + sizeof(table)];
    size_t size = make_2(bytes, 32, 1, 4, 8, 16);

    (void)state;
    memcpy(bytes + size, table, sizeof(table));
    assert_int_equal(open_copy(bytes, size + sizeof(table)), OK);
    assert_int_equal(font_glyph(&font, 'B')[0], 0);
    assert_int_equal(font_glyph(&font, 'A')[0], 2);
    assert_int_equal(font_glyph(&font, 'x')[0], 2);
    assert_int_equal(font_glyph(&font, 'z')[0], 2);
    /* Cut off anywhere, the rest of the table still serves. */
    for (size_t cut = 0; cut <= sizeof(table); cut++) {
        assert_int_equal(open_copy(bytes, size + cut), OK);
        touch_glyphs();
    }
}

static void psf1(void **state)
{
    /* Glyph n is character 255 - n, and part of a sequence that does not count. */
    static uint8_t bytes[4 + 512 * 8 + 256 * 8];
    size_t at = 4 + 256 * 8;

    (void)state;
    bytes[0] = 0x36;
    bytes[1] = 0x04;
    bytes[2] = 0;
    bytes[3] = 8;
    for (size_t i = 0; i < 256; i++)
        memset(bytes + 4 + i * 8, (int)i, 8);
    assert_int_equal(open_copy(bytes, at), OK);
    assert_int_equal(font.width, 8);
    assert_int_equal(font.height, 8);
    assert_int_equal(font.glyph_count, 256);
    assert_int_equal(font_glyph(&font, 'A')[7], 'A');
    assert_int_equal(open_copy(bytes, at - 1), STATUS_CORRUPT);

    bytes[2] = 2;
    for (unsigned i = 0; i < 256; i++) {
        const uint8_t entry[] = {(uint8_t)(255 - i), 0, 0xfe, 0xff, 'A', 0, 0xff, 0xff};

        memcpy(bytes + at + i * 8, entry, sizeof(entry));
    }
    assert_int_equal(open_copy(bytes, at + 256 * 8), OK);
    assert_int_equal(font_glyph(&font, 'A')[0], 255 - 'A');
    assert_int_equal(open_copy(bytes, at + 256 * 8 - 3), OK);
    touch_glyphs();
    /* 512 glyphs do not fit there. */
    bytes[2] = 1;
    assert_int_equal(open_copy(bytes, at), STATUS_CORRUPT);
    assert_int_equal(open_copy(bytes, 4 + 512 * 8), OK);
    assert_int_equal(font.glyph_count, 512);
}

static void contradictions(void **state)
{
    static const struct {
        size_t at;
        uint32_t value;
        enum status status;
    } changes[] = {
        {0, 0x864ab573, STATUS_CORRUPT}, /* magic */
        {8, 0, STATUS_CORRUPT},          /* header shorter than itself */
        {8, 31, STATUS_CORRUPT},
        {8, 33, STATUS_CORRUPT}, /* pushes the last glyph out */
        {8, UINT32_MAX, STATUS_CORRUPT},
        {16, 0, STATUS_CORRUPT}, /* glyphs */
        {16, 65, STATUS_CORRUPT},
        {16, 65537, STATUS_CORRUPT},
        {16, UINT32_MAX, STATUS_CORRUPT},
        {20, 15, STATUS_CORRUPT}, /* a glyph smaller than its rows */
        {20, 17, STATUS_CORRUPT},
        {20, UINT32_MAX, STATUS_CORRUPT},
        {24, 0, STATUS_CORRUPT}, /* height */
        {24, 17, STATUS_CORRUPT},
        {24, 65, STATUS_UNSUPPORTED},
        {24, UINT32_MAX, STATUS_UNSUPPORTED},
        {28, 0, STATUS_CORRUPT}, /* width */
        {28, 9, STATUS_CORRUPT},
        {28, 33, STATUS_UNSUPPORTED},
        {28, UINT32_MAX, STATUS_UNSUPPORTED},
    };
    uint8_t bytes[32 + 64 * 16];
    size_t size = make_2(bytes, 32, 0, 64, 8, 16);

    (void)state;
    assert_int_equal(open_copy(bytes, size), OK);
    for (size_t i = 0; i < ARRAY_COUNT(changes); i++) {
        uint8_t before[4];

        memcpy(before, bytes + changes[i].at, 4);
        put_u32(bytes + changes[i].at, changes[i].value);
        assert_int_equal(open_copy(bytes, size), changes[i].status);
        memcpy(bytes + changes[i].at, before, 4);
    }
    for (size_t cut = 0; cut < 32; cut++)
        assert_int_equal(open_copy(bytes, cut), STATUS_CORRUPT);
    assert_int_equal(open_copy("\x36\x04\0", 3), STATUS_CORRUPT);
    assert_int_equal(open_copy("\x36\x04\0\0", 4), STATUS_CORRUPT);
}

/* Unpacks a font of the package; returns its size, 0 when it is not installed. */
static size_t read_packaged(const char *size_name, uint8_t *bytes, size_t room)
{
    char command[200];
    size_t size;
    FILE *pipe;

    snprintf(command, sizeof(command), "gzip -dc %s/spleen-%s.psfu.gz", FONT_FOLDER, size_name);
    pipe = popen(command, "r");
    assert_non_null(pipe);
    size = fread(bytes, 1, room, pipe);
    pclose(pipe);
    return size;
}

static void packaged_fonts(void **state)
{
    static const struct {
        const char *name;
        uint32_t width;
        uint32_t height;
    } fonts[] = {{"8x16", 8, 16}, {"12x24", 12, 24}, {"16x32", 16, 32}, {"32x64", 32, 64}};
    static uint8_t bytes[512 * 1024];

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(fonts); i++) {
        size_t size = read_packaged(fonts[i].name, bytes, sizeof(bytes));
        uint32_t first;

        assert_true(size > 0 && size < sizeof(bytes));
        assert_int_equal(open_copy(bytes, size), OK);
        assert_int_equal(font.width, fonts[i].width);
        assert_int_equal(font.height, fonts[i].height);
        touch_glyphs();
        /* Each printable character has a glyph of its own, and a blank is blank. */
        for (char a = '!'; a <= '~'; a++) {
            for (char b = (char)(a + 1); b <= '~'; b++)
                assert_true(font.index[(int)a] != font.index[(int)b]);
        }
        first = 0;
        for (uint32_t byte = 0; byte < font.glyph_bytes; byte++)
            first |= font_glyph(&font, ' ')[byte];
        assert_int_equal(first, 0);
    }
}

/* A real font with damage anywhere: opened or refused, never read outside. */
static void damaged_fonts(void **state)
{
    static uint8_t bytes[512 * 1024];
    size_t size = read_packaged("8x16", bytes, sizeof(bytes));
    unsigned seed = 1;

    (void)state;
    assert_true(size > 0);
    for (unsigned round = 0; round < 500; round++) {
        size_t cut;
        size_t at;
        uint8_t before;

        seed = seed * 1103515245 + 12345;
        at = round < 32 ? round : (seed >> 8) % size;
        before = bytes[at];
        bytes[at] = (uint8_t)(seed >> 16);
        cut = round % 4 == 0 ? (seed >> 10) % size : size;
        if (open_copy(bytes, cut) == OK)
            touch_glyphs();
        bytes[at] = before;
    }
}

static void choice(void **state)
{
    static const uint32_t widths[] = {8, 12, 16, 32};
    static const struct {
        uint32_t width;
        uint32_t height;
        size_t font;
    } screens[] = {{640, 480, 0},   {800, 600, 0},   {1024, 768, 0},  {1199, 900, 0},
                   {1200, 900, 1},  {1280, 720, 1},  {1280, 600, 0},  {1366, 768, 1},
                   {1600, 900, 1},  {1600, 1200, 2}, {1920, 1080, 2}, {2560, 1080, 2},
                   {3200, 1800, 2}, {3440, 1440, 2}, {3840, 2160, 3}, {7680, 4320, 3}};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(screens); i++)
        assert_int_equal(
            font_choose(widths, ARRAY_COUNT(widths), screens[i].width, screens[i].height),
            screens[i].font);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(psf2_without_table, end),
        cmocka_unit_test_teardown(psf2_with_table, end),
        cmocka_unit_test_teardown(psf1, end),
        cmocka_unit_test_teardown(contradictions, end),
        cmocka_unit_test_teardown(packaged_fonts, end),
        cmocka_unit_test_teardown(damaged_fonts, end),
        cmocka_unit_test(choice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

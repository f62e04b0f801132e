/* Cells of text, rectangles and patterns on pixels. */
#include <stdarg.h>

#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/print.h"
#include "lib/units.h"
#include "tests/screen/internal.h"

/* 0xRRGGBB. Letters have a green part of 0x60 and more, grounds have less: a program that reads
 * pictures tells them apart by that. */
static const uint32_t screen_palette[COLOURS] = {
    [COLOUR_BACK] = 0x101418,  [COLOUR_BAR] = 0x1f2328,  [COLOUR_LINE] = 0x30363d,
    [COLOUR_TEXT] = 0xf0f6fc,  [COLOUR_DIM] = 0x9198a1,  [COLOUR_GOOD] = 0x6fd08c,
    [COLOUR_BAD] = 0xff8a80,   [COLOUR_BLUE] = 0x56b4e9, [COLOUR_ORANGE] = 0xf0964a,
    [COLOUR_GREEN] = 0x4ac0a0, [COLOUR_PINK] = 0xe59ac8, [COLOUR_GREY] = 0x9aa4ae,
    [COLOUR_FREE] = 0x3a4149,  [COLOUR_DEEP] = 0x2a5570,
};

static uint32_t screen_word(const struct screen *screen, enum colour colour)
{
    uint32_t rgb = screen_palette[colour];

    if (!screen->pixels.red_first)
        return rgb;
    return (rgb & 0xff) << 16 | (rgb & 0xff00) | rgb >> 16;
}

void screen_fill(struct screen *screen, uint32_t x, uint32_t y, uint32_t width, uint32_t height,
                 enum colour colour)
{
    const struct screen_pixels *pixels = &screen->pixels;
    uint32_t right = (uint32_t)min_u64((uint64_t)x + width, pixels->width);
    uint32_t bottom = (uint32_t)min_u64((uint64_t)y + height, pixels->height);
    uint32_t word = screen_word(screen, colour);

    for (uint32_t row = y; row < bottom; row++) {
        for (uint32_t column = x; column < right; column++)
            pixels->at[(size_t)row * pixels->pitch + column] = word;
    }
}

void screen_fill_bar(struct screen *screen)
{
    uint32_t x = screen->columns * screen->font->width;

    screen_fill(screen, x, 0, screen->pixels.width - x, screen->font->height, COLOUR_BAR);
}

/* Returns the colour of a pixel of a pattern of m x m pixels. */
static enum colour pattern_pixel(enum screen_kind kind, uint32_t x, uint32_t y, uint32_t m)
{
    uint32_t edge = m / 7 > 0 ? m / 7 : 1;
    bool outline = x < edge || y < edge || x >= m - edge || y >= m - edge;
    bool centre = x >= m / 4 && x < m - m / 4 && y >= m / 4 && y < m - m / 4;
    uint32_t rising = x + y > m - 1 ? x + y - (m - 1) : m - 1 - x - y;
    uint32_t falling = x > y ? x - y : y - x;

    switch (kind) {
    case SCREEN_RESERVED: return rising <= m / 8 ? COLOUR_GREY : COLOUR_BACK;
    case SCREEN_KERNEL: return x * 3 / m != 1 ? COLOUR_GREY : COLOUR_BACK;
    case SCREEN_TABLE: return y * 3 / m != 1 ? COLOUR_ORANGE : COLOUR_BACK;
    case SCREEN_ANONYMOUS: return COLOUR_BLUE;
    case SCREEN_SHARED: return centre ? COLOUR_BLUE : COLOUR_DEEP;
    case SCREEN_POOL: return outline ? COLOUR_GREEN : COLOUR_BACK;
    case SCREEN_OUT: return rising <= m / 8 || falling <= m / 8 ? COLOUR_PINK : COLOUR_BACK;
    case SCREEN_FREE: return outline ? COLOUR_FREE : COLOUR_BACK;
    case SCREEN_NOTHING:
    case SCREEN_KINDS: break;
    }
    return COLOUR_BACK;
}

void screen_pattern(struct screen *screen, uint32_t x, uint32_t y, uint32_t size,
                    enum screen_kind kind)
{
    const struct screen_pixels *pixels = &screen->pixels;
    volatile uint32_t *at = pixels->at + (size_t)y * pixels->pitch + x;

    if (x + size > pixels->width || y + size > pixels->height)
        return;
    for (uint32_t row = 0; row < size; row++) {
        for (uint32_t column = 0; column < size; column++)
            at[column] = screen_word(screen, pattern_pixel(kind, column, row, size));
        at += pixels->pitch;
    }
}

/* Draws a letter with its top left corner at a pixel, each of its pixels `scale` wide and high. */
static void draw_letter(struct screen *screen, uint32_t x, uint32_t y, uint32_t scale,
                        const struct screen_cell *cell)
{
    const struct font *font = screen->font;
    const uint8_t *bits = font_glyph(font, cell->letter);
    uint32_t colour = screen_word(screen, cell->colour);
    uint32_t ground = screen_word(screen, cell->ground);
    volatile uint32_t *at = screen->pixels.at + (size_t)y * screen->pixels.pitch + x;

    for (uint32_t row = 0; row < font->height * scale; row++) {
        const uint8_t *line = bits + (size_t)(row / scale) * font->row_bytes;

        for (uint32_t column = 0; column < font->width * scale; column++) {
            uint32_t pixel = column / scale;

            at[column] = (line[pixel / 8] & 0x80 >> pixel % 8) != 0 ? colour : ground;
        }
        at += screen->pixels.pitch;
    }
}

void screen_show(struct screen *screen)
{
    for (unsigned row = 0; row < screen->rows; row++) {
        for (unsigned column = 0; column < screen->columns; column++) {
            const struct screen_cell *wanted = &screen->wanted[row][column];
            struct screen_cell *shown = &screen->shown[row][column];

            if (shown->letter == wanted->letter && shown->ground == wanted->ground &&
                (shown->colour == wanted->colour || wanted->letter == ' '))
                continue;
            *shown = *wanted;
            draw_letter(screen, column * screen->font->width, row * screen->font->height, 1,
                        wanted);
        }
    }
}

void screen_put_double(struct screen *screen, unsigned row, unsigned column, enum colour colour,
                       const char *text)
{
    for (; *text != '\0' && column + 2 <= screen->columns && row + 2 <= screen->rows;
         text++, column += 2) {
        struct screen_cell cell = {*text, (uint8_t)colour, COLOUR_BACK};

        draw_letter(screen, column * screen->font->width, row * screen->font->height, 2, &cell);
    }
}

void screen_begin_picture(struct screen *screen, enum screen_picture picture)
{
    struct screen_cell blank = {' ', COLOUR_TEXT, COLOUR_BACK};

    if (screen->picture == picture)
        return;
    screen_fill(screen, 0, 0, screen->pixels.width, screen->pixels.height, COLOUR_BACK);
    for (unsigned row = 0; row < SCREEN_ROWS; row++) {
        for (unsigned column = 0; column < SCREEN_COLUMNS; column++)
            screen->shown[row][column] = blank;
    }
    memset(screen->memory, SCREEN_NOTHING, sizeof(screen->memory));
    memset(screen->swap, SCREEN_NOTHING, sizeof(screen->swap));
    screen->strip = 0;
    screen->progress = UINT32_MAX;
    screen->picture = picture;
}

void screen_blank(struct screen *screen)
{
    struct screen_cell blank = {' ', COLOUR_TEXT, COLOUR_BACK};

    for (unsigned row = 0; row < screen->rows; row++) {
        for (unsigned column = 0; column < screen->columns; column++)
            screen->wanted[row][column] = blank;
    }
}

void screen_ground(struct screen *screen, unsigned row, unsigned from, unsigned to,
                   enum colour ground)
{
    for (unsigned column = from; column < to && column < screen->columns; column++)
        screen->wanted[row][column].ground = (uint8_t)ground;
}

size_t screen_fit(const char *text, size_t width)
{
    size_t length = strlen(text);
    size_t end = width;

    if (length <= width)
        return length;
    while (end > 0 && text[end] != ' ')
        end--;
    while (end > 0 && text[end - 1] == ' ')
        end--;
    return end > 0 ? end : width;
}

static void put_letters(struct screen *screen, unsigned row, unsigned column, enum colour colour,
                        const char *text, size_t length)
{
    for (size_t i = 0; i < length && column + i < screen->columns && row < screen->rows; i++) {
        struct screen_cell *cell = &screen->wanted[row][column + i];
        bool printable = text[i] >= ' ' && text[i] <= '~';

        cell->letter = printable ? text[i] : '?';
        cell->colour = (uint8_t)colour;
    }
}

unsigned screen_put(struct screen *screen, unsigned row, unsigned column, unsigned width,
                    enum colour colour, const char *text)
{
    size_t length = screen_fit(text, width);

    put_letters(screen, row, column, colour, text, length);
    return (unsigned)length;
}

unsigned screen_put_format(struct screen *screen, unsigned row, unsigned column, unsigned width,
                           enum colour colour, const char *format, ...)
{
    char text[STORY_LINE];
    va_list arguments;

    va_start(arguments, format);
    print_to_va(text, sizeof(text), format, arguments);
    va_end(arguments);
    return screen_put(screen, row, column, width, colour, text);
}

unsigned screen_put_wrapped(struct screen *screen, unsigned row, unsigned column, unsigned width,
                            unsigned rows, enum colour colour, const char *text)
{
    unsigned used = 0;

    while (*text != '\0' && used < rows) {
        size_t length = screen_fit(text, width);

        put_letters(screen, row + used, column, colour, text, length);
        text += length;
        while (*text == ' ')
            text++;
        used++;
    }
    return used;
}

unsigned screen_wrapped_rows(const char *text, unsigned width)
{
    unsigned rows = 0;

    for (; *text != '\0'; rows++) {
        text += screen_fit(text, width);
        while (*text == ' ')
            text++;
    }
    return rows;
}

const char *screen_bytes(uint64_t bytes, char text[24])
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
    unsigned unit = 0;

    while (bytes >= 1024 && bytes % 1024 == 0 && unit + 1 < ARRAY_COUNT(units)) {
        bytes /= 1024;
        unit++;
    }
    /* An odd number of KiB is rounded, since 522,868 KiB is hard to read. */
    while (bytes >= 10000 && unit > 0 && unit + 1 < ARRAY_COUNT(units)) {
        bytes = (bytes + 512) / 1024;
        unit++;
    }
    print_to(text, 24, "%lu %s", bytes, units[unit]);
    return text;
}

const char *screen_number(uint64_t value, char text[28])
{
    char digits[24];
    size_t length = print_to(digits, sizeof(digits), "%lu", value);
    size_t at = 0;

    for (size_t i = 0; i < length; i++) {
        text[at++] = digits[i];
        if (i + 1 < length && (length - i - 1) % 3 == 0)
            text[at++] = ',';
    }
    text[at] = '\0';
    return text;
}

bool screen_open(struct screen *screen, const struct screen_pixels *pixels, const struct font *font)
{
    screen->pixels = *pixels;
    screen->pixels.width = (uint32_t)min_u64(pixels->width, SCREEN_COLUMNS * font->width);
    screen->font = font;
    screen->columns = (unsigned)min_u64(pixels->width / font->width, SCREEN_COLUMNS);
    screen->rows = (unsigned)min_u64(pixels->height / font->height, SCREEN_ROWS);
    screen->picture = SCREEN_NO_PICTURE;
    return screen->columns >= SCREEN_COLUMNS_MIN && screen->rows >= SCREEN_ROWS_MIN;
}

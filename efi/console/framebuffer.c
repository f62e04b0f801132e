/* The text console on the framebuffer. */
#include "efi/console/framebuffer.h"

#include "cpu/crash/crash.h"
#include "efi/console/font.h"
#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/print.h"
#include "lib/units.h"
#include "paging/kernel/map.h"

/* Room for an 8K screen with its font, and for a tall narrow one. */
#define COLUMNS_MAX 256U
#define ROWS_MAX    144U

/* A smaller screen shows no readable log. */
#define COLUMNS_MIN 40U
#define ROWS_MIN    10U

/* A longer line of the log is shown as several. */
#define LINE_SIZE 400U

#define TAB_WIDTH 8U

enum colour { COLOUR_PLAIN, COLOUR_GOOD, COLOUR_BAD, COLOUR_DIM, COLOURS };

struct cell {
    char letter; /* 0: blank, as the cleared screen shows it */
    uint8_t colour;
};

/* 0xRRGGBB. */
static const uint32_t palette[COLOURS] = {0xd0d0d0, 0x70d070, 0xff7060, 0x8c8c8c};

extern const uint8_t font_8x16[], font_8x16_end[];
extern const uint8_t font_12x24[], font_12x24_end[];
extern const uint8_t font_16x32[], font_16x32_end[];
extern const uint8_t font_32x64[], font_32x64_end[];

static const struct {
    const uint8_t *data;
    const uint8_t *end;
} fonts[] = {
    {font_8x16, font_8x16_end},
    {font_12x24, font_12x24_end},
    {font_16x32, font_16x32_end},
    {font_32x64, font_32x64_end},
};

static const uint32_t font_widths[ARRAY_COUNT(fonts)] = {8, 12, 16, 32};

static struct {
    struct framebuffer screen;
    volatile uint32_t *pixels; /* NULL: off */
    size_t font_number;
    struct font font;
    unsigned columns;
    unsigned rows;
    unsigned first_row; /* of the current line */
    unsigned length;    /* of the current line */
    unsigned cursor;    /* column of the next character in the current line */
    bool lent;          /* to a picture */
    bool wrapped;       /* the current line continues a long one, in its colour */
    enum colour colour;
    char line[LINE_SIZE];
    struct cell cells[ROWS_MAX][COLUMNS_MAX];
} console;

static uint32_t pixel_of(uint32_t rgb)
{
    if (!console.screen.red_first)
        return rgb;
    return (rgb & 0xff) << 16 | (rgb & 0xff00) | rgb >> 16;
}

static void draw(unsigned row, unsigned column)
{
    const struct cell *cell = &console.cells[row][column];
    const struct font *font = &console.font;
    const uint8_t *bits = font_glyph(font, cell->letter != 0 ? cell->letter : ' ');
    uint32_t colour = pixel_of(palette[cell->colour]);
    volatile uint32_t *at = console.pixels + (size_t)row * font->height * console.screen.pitch +
                            (size_t)column * font->width;

    for (uint32_t y = 0; y < font->height; y++) {
        for (uint32_t x = 0; x < font->width; x++)
            at[x] = (bits[x / 8] & 0x80 >> x % 8) != 0 ? colour : 0;
        bits += font->row_bytes;
        at += console.screen.pitch;
    }
}

/* Draws a character if the cell changes. Blanks of all colours are equal. */
static void show(unsigned row, unsigned column, struct cell cell)
{
    struct cell *old = &console.cells[row][column];

    if (cell.letter == ' ')
        cell = (struct cell){0};
    if (old->letter == cell.letter && old->colour == cell.colour)
        return;
    *old = cell;
    draw(row, column);
}

/* Scrolls up by a third of the screen, at least by the given rows. Larger steps draw less. */
static void scroll(unsigned at_least)
{
    unsigned step = console.rows / 3;

    if (step < at_least)
        step = at_least;
    CHECK(step <= console.first_row);
    for (unsigned row = 0; row < console.rows; row++) {
        for (unsigned column = 0; column < console.columns; column++)
            show(row, column,
                 row + step < console.rows ? console.cells[row + step][column] : (struct cell){0});
    }
    console.first_row -= step;
}

static bool begins_with(const char *text, size_t size, const char *word)
{
    size_t length = strlen(word);

    return size >= length && memcmp(text, word, length) == 0;
}

/* Returns the colour of a line of the log. */
static enum colour colour_of(const char *text, size_t size)
{
    while (size > 0 && *text == ' ') {
        text++;
        size--;
    }
    if (begins_with(text, size, "not ok") || begins_with(text, size, "Bail out!") ||
        begins_with(text, size, "# failed:") || begins_with(text, size, "# verdict: fail") ||
        begins_with(text, size, "# verdict: crash"))
        return COLOUR_BAD;
    if (begins_with(text, size, "ok ") || begins_with(text, size, "# verdict: pass"))
        return COLOUR_GOOD;
    if (begins_with(text, size, "# metric"))
        return COLOUR_DIM;
    return COLOUR_PLAIN;
}

static unsigned rows_of_line(void)
{
    unsigned rows = (console.length + console.columns - 1) / console.columns;

    return rows > 0 ? rows : 1;
}

/* Draws the current line, which may be unfinished. */
static void show_line(void)
{
    unsigned end = console.first_row + rows_of_line();

    if (end > console.rows)
        scroll(end - console.rows);
    if (!console.wrapped)
        console.colour = colour_of(console.line, console.length);
    for (unsigned i = 0; i < console.length; i++)
        show(console.first_row + i / console.columns, i % console.columns,
             (struct cell){console.line[i], (uint8_t)console.colour});
}

static void next_line(bool wrapped)
{
    show_line();
    console.first_row += rows_of_line();
    console.length = console.cursor = 0;
    console.wrapped = wrapped;
}

/* Returns the longest line: whole rows, at most a third of the screen, so that scrolling works. */
static unsigned line_limit(void)
{
    unsigned rows = LINE_SIZE / console.columns;

    if (rows > console.rows / 3)
        rows = console.rows / 3;
    return rows * console.columns;
}

/* Returns how many letters of an unfinished word end the row before the cursor; 0 for a word that
 * fills the row, which must be cut. */
static unsigned word_at_end(void)
{
    unsigned size = 0;

    while (size < console.columns && console.line[console.cursor - size - 1] != ' ')
        size++;
    return size == console.columns ? 0 : size;
}

/* Begins the next part of a long line, with the word that the next letter goes on with. */
static void next_part(char letter)
{
    unsigned size = letter != ' ' && console.cursor == console.length ? word_at_end() : 0;
    char *word = console.line + console.cursor - size;
    char moved[COLUMNS_MAX];

    memcpy(moved, word, size);
    memset(word, ' ', size);
    next_line(true);
    memcpy(console.line, moved, size);
    console.cursor = console.length = size;
}

/* At the end of a row, moves the word that has begun there to the next row. */
static void move_word_down(void)
{
    unsigned end = console.cursor;
    unsigned start;
    unsigned size;

    if (end == 0 || end % console.columns != 0 || end != console.length)
        return;
    size = word_at_end();
    start = end - size;
    if (size == 0 || end + size >= line_limit())
        return;
    memcpy(console.line + end, console.line + start, size);
    memset(console.line + start, ' ', size);
    console.cursor = console.length = end + size;
}

static void framebuffer_put(char letter)
{
    if (console.cursor == line_limit())
        next_part(letter);
    if (letter != ' ')
        move_word_down();
    console.line[console.cursor++] = letter;
    if (console.length < console.cursor)
        console.length = console.cursor;
}

void console_write(const char *text, size_t size)
{
    if (console.lent && crash_begun())
        console_take_back();
    if (console.pixels == NULL || console.lent)
        return;
    for (size_t i = 0; i < size; i++) {
        unsigned char letter = (unsigned char)text[i];

        if (letter == '\n') {
            next_line(false);
        } else if (letter == '\r') {
            console.cursor = 0;
        } else if (letter == '\t') {
            do
                framebuffer_put(' ');
            while (console.cursor % TAB_WIDTH != 0);
        } else if (letter >= ' ' && letter != 0x7f) {
            framebuffer_put(text[i]);
        }
    }
    show_line();
}

static bool open_font(void)
{
    size_t size = (size_t)(fonts[console.font_number].end - fonts[console.font_number].data);

    return font_open(fonts[console.font_number].data, size, &console.font) == OK;
}

/* Computes rows and columns; returns false if they are too few. */
static bool framebuffer_lay_out(void)
{
    const struct framebuffer *screen = &console.screen;
    uint64_t rows = min_u64(screen->height, screen->size / 4 / screen->pitch);

    console.columns = (unsigned)min_u64(screen->width / console.font.width, COLUMNS_MAX);
    console.rows = (unsigned)min_u64(rows / console.font.height, ROWS_MAX);
    return console.columns >= COLUMNS_MIN && console.rows >= ROWS_MIN;
}

static void clear_screen(void)
{
    const struct framebuffer *screen = &console.screen;
    uint64_t height = min_u64(screen->height, screen->size / 4 / screen->pitch);

    for (uint64_t y = 0; y < height; y++) {
        for (uint32_t x = 0; x < screen->width; x++)
            console.pixels[y * screen->pitch + x] = 0;
    }
}

/* Returns the bytes of the framebuffer that hold its rows. */
static uint64_t framebuffer_size(const struct framebuffer *screen)
{
    return min_u64((uint64_t)screen->pitch * screen->height * 4, screen->size);
}

void console_start(const struct reachable *reachable)
{
    const struct framebuffer *screen = &reachable->info->screen;

    if (screen->width == 0 || screen->pitch < screen->width ||
        !reachable_device(reachable, screen->base, framebuffer_size(screen)))
        return;
    console.screen = *screen;
    console.font_number =
        font_choose(font_widths, ARRAY_COUNT(fonts), screen->width,
                    (uint32_t)min_u64(screen->height, screen->size / 4 / screen->pitch));
    if (!open_font() || !framebuffer_lay_out())
        return;
    console.pixels = (volatile uint32_t *)(uintptr_t)screen->base.address;
    clear_screen();
}

void framebuffer_relocated(void)
{
    const struct framebuffer *screen = &console.screen;

    if (console.pixels == NULL)
        return;
    console.pixels = NULL;
    if (open_font())
        console.pixels =
            kernel_map_device(screen->base, framebuffer_size(screen), DEVICE_WRITE_COMBINING);
}

bool console_lend(struct console_loan *loan)
{
    const struct framebuffer *screen = &console.screen;

    if (console.pixels == NULL)
        return false;
    console.lent = true;
    *loan = (struct console_loan){
        .pixels = console.pixels,
        .screen = screen,
        .height = (uint32_t)min_u64(screen->height, screen->size / 4 / screen->pitch),
        .font = &console.font};
    return true;
}

void console_take_back(void)
{
    console.lent = false;
    clear_screen();
    memset(console.cells, 0, sizeof(console.cells));
    console.first_row = console.length = console.cursor = 0;
}

bool console_on(void)
{
    return console.pixels != NULL;
}

const char *console_description(void)
{
    static char text[64];

    if (console.pixels == NULL)
        return "none";
    print_to(text, sizeof(text), "%ux%u pixels, %ux%u characters of %ux%u", console.screen.width,
             console.screen.height, console.columns, console.rows, console.font.width,
             console.font.height);
    return text;
}

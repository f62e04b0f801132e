/* Console fonts in the PSF formats 1 and 2. */
#include "efi/console/font.h"

#include <stdbool.h>

#include "lib/bytes.h"
#include "lib/check.h"

/* PSF 1: magic, mode, size of a glyph; then the glyphs, each 8 pixels wide. */
#define PSF1_MAGIC       "\x36\x04"
#define PSF1_MODE        2U
#define PSF1_CHARSIZE    3U
#define PSF1_HEADER_SIZE 4U
#define PSF1_MODE512     0x01U
#define PSF1_MODEHASTAB  0x02U
#define PSF1_MODESEQ     0x04U
#define PSF1_STARTSEQ    0xfffeU
#define PSF1_SEPARATOR   0xffffU

/* PSF 2: a header of 32-bit little-endian fields, then the glyphs. */
#define PSF2_MAGIC       "\x72\xb5\x4a\x86"
#define PSF2_HEADER_SIZE 8U
#define PSF2_FLAGS       12U
#define PSF2_LENGTH      16U
#define PSF2_CHARSIZE    20U
#define PSF2_HEIGHT      24U
#define PSF2_WIDTH       28U
#define PSF2_FIXED_SIZE  32U
#define PSF2_HAS_UNICODE 0x01U
#define PSF2_SEPARATOR   0xffU
#define PSF2_STARTSEQ    0xfeU

/* Upper bound: a larger count means a corrupt font. */
#define GLYPHS_MAX 65536U

/* With fewer columns, too many lines of the log wrap. */
#define COLUMNS_WANTED 100U

/* With fewer rows, the pictures of a run have no room (tests/screen). */
#define ROWS_WANTED 30U

#define NO_GLYPH UINT32_MAX

static uint32_t read_u32(const uint8_t *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

/* Assigns a glyph to a character that has none yet. */
static void claim(struct font *font, uint32_t code, uint32_t glyph)
{
    if (code < FONT_CODES && font->index[code] == NO_GLYPH)
        font->index[code] = glyph;
}

/* Reads PSF 1's table: 16-bit characters of each glyph, then perhaps sequences, then a
 * separator. */
static void read_table_1(struct font *font, const uint8_t *table, size_t size)
{
    uint32_t glyph = 0;
    bool in_sequence = false;

    for (size_t at = 0; at + 2 <= size && glyph < font->glyph_count; at += 2) {
        uint32_t code = table[at] | (uint32_t)table[at + 1] << 8;

        if (code == PSF1_SEPARATOR) {
            glyph++;
            in_sequence = false;
        } else if (code == PSF1_STARTSEQ) {
            in_sequence = true;
        } else if (!in_sequence) {
            claim(font, code, glyph);
        }
    }
}

/* Reads PSF 2's table: the same in UTF-8, where each ASCII character is its own byte. */
static void read_table_2(struct font *font, const uint8_t *table, size_t size)
{
    uint32_t glyph = 0;
    bool in_sequence = false;

    for (size_t at = 0; at < size && glyph < font->glyph_count; at++) {
        if (table[at] == PSF2_SEPARATOR) {
            glyph++;
            in_sequence = false;
        } else if (table[at] == PSF2_STARTSEQ) {
            in_sequence = true;
        } else if (!in_sequence) {
            claim(font, table[at], glyph);
        }
    }
}

/* Fills the index. Without a table, a glyph's place is its character. Characters without a glyph
 * get the fallback. */
static void fill_index(struct font *font, bool has_table)
{
    uint32_t fallback;

    for (uint32_t code = 0; code < FONT_CODES && !has_table; code++)
        font->index[code] = code < font->glyph_count ? code : NO_GLYPH;
    fallback = font->index['?'] != NO_GLYPH ? font->index['?'] : 0;
    for (uint32_t code = 0; code < FONT_CODES; code++) {
        if (font->index[code] == NO_GLYPH)
            font->index[code] = fallback;
    }
}

/* Checks the header's numbers against the size of the data, and returns where the table begins. */
static enum status place_glyphs(struct font *font, const uint8_t *data, size_t size, size_t header,
                                size_t *table_at)
{
    uint64_t glyphs_size;

    if (font->width == 0 || font->height == 0 || font->glyph_count == 0 ||
        font->glyph_count > GLYPHS_MAX)
        return STATUS_CORRUPT;
    if (font->width > FONT_WIDTH_MAX || font->height > FONT_HEIGHT_MAX)
        return STATUS_UNSUPPORTED;
    font->row_bytes = (font->width + 7) / 8;
    glyphs_size = (uint64_t)font->glyph_bytes * font->glyph_count;
    if (font->glyph_bytes < font->row_bytes * font->height || header > size ||
        glyphs_size > size - header)
        return STATUS_CORRUPT;
    font->glyphs = data + header;
    *table_at = header + (size_t)glyphs_size;
    return OK;
}

static enum status open_1(const uint8_t *data, size_t size, struct font *font)
{
    uint8_t mode = data[PSF1_MODE];
    bool has_table = (mode & (PSF1_MODEHASTAB | PSF1_MODESEQ)) != 0;
    size_t table_at;
    enum status status;

    font->width = 8;
    font->height = font->glyph_bytes = data[PSF1_CHARSIZE];
    font->glyph_count = (mode & PSF1_MODE512) != 0 ? 512 : 256;
    status = place_glyphs(font, data, size, PSF1_HEADER_SIZE, &table_at);
    if (status != OK)
        return status;
    if (has_table)
        read_table_1(font, data + table_at, size - table_at);
    fill_index(font, has_table);
    return OK;
}

static enum status open_2(const uint8_t *data, size_t size, struct font *font)
{
    uint32_t header = read_u32(data + PSF2_HEADER_SIZE);
    bool has_table = (read_u32(data + PSF2_FLAGS) & PSF2_HAS_UNICODE) != 0;
    size_t table_at;
    enum status status;

    if (header < PSF2_FIXED_SIZE)
        return STATUS_CORRUPT;
    font->width = read_u32(data + PSF2_WIDTH);
    font->height = read_u32(data + PSF2_HEIGHT);
    font->glyph_bytes = read_u32(data + PSF2_CHARSIZE);
    font->glyph_count = read_u32(data + PSF2_LENGTH);
    status = place_glyphs(font, data, size, header, &table_at);
    if (status != OK)
        return status;
    if (has_table)
        read_table_2(font, data + table_at, size - table_at);
    fill_index(font, has_table);
    return OK;
}

enum status font_open(const void *data, size_t size, struct font *font)
{
    memset(font, 0, sizeof(*font));
    for (uint32_t code = 0; code < FONT_CODES; code++)
        font->index[code] = NO_GLYPH;
    if (size >= PSF2_FIXED_SIZE && memcmp(data, PSF2_MAGIC, 4) == 0)
        return open_2(data, size, font);
    if (size >= PSF1_HEADER_SIZE && memcmp(data, PSF1_MAGIC, 2) == 0)
        return open_1(data, size, font);
    return STATUS_CORRUPT;
}

const uint8_t *font_glyph(const struct font *font, char letter)
{
    unsigned char code = (unsigned char)letter;

    CHECK(font->glyphs != NULL);
    return font->glyphs + (size_t)font->glyph_bytes * font->index[code < FONT_CODES ? code : '?'];
}

size_t font_choose(const uint32_t *widths, size_t count, uint32_t screen_width,
                   uint32_t screen_height)
{
    size_t choice = 0;

    for (size_t i = 1; i < count; i++) {
        if (screen_width / widths[i] >= COLUMNS_WANTED &&
            screen_height / (2 * widths[i]) >= ROWS_WANTED)
            choice = i;
    }
    return choice;
}

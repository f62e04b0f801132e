/*
 * Console fonts in the PSF formats 1 and 2: pure logic, tested on the host with damaged fonts too.
 *
 * Units: pixels; rows of a glyph are whole bytes, leftmost pixel in the highest bit. Owns: nothing;
 * a struct font points into the font's data, which must outlive it. Fails with: STATUS_CORRUPT (not
 * a font, or its fields disagree), STATUS_UNSUPPORTED (glyphs larger than the console draws).
 * Looking up a glyph cannot fail. Context: any; allocates nothing. Spec: the PC Screen Font formats
 * as the Linux kbd project documents them (psf.txt).
 */
#ifndef EFI_CONSOLE_FONT_H
#define EFI_CONSOLE_FONT_H

#include <stddef.h>
#include <stdint.h>

#include "lib/status.h"

#define FONT_WIDTH_MAX  32U
#define FONT_HEIGHT_MAX 64U

/* Characters with a glyph of their own: ASCII. */
#define FONT_CODES 128U

struct font {
    uint32_t width;
    uint32_t height;
    uint32_t row_bytes;
    uint32_t glyph_bytes;
    uint32_t glyph_count;
    const uint8_t *glyphs;
    uint32_t index[FONT_CODES]; /* of each character's glyph */
};

/* Reads a font of size bytes. */
MUST_USE enum status font_open(const void *data, size_t size, struct font *font);

/* Returns the glyph of a character, row_bytes * height bytes. A character that is not ASCII or not
 * in the font gets the glyph of the question mark. */
const uint8_t *font_glyph(const struct font *font, char letter);

/* Chooses among fonts with these ascending widths and twice that height: the widest with at least
 * 100 columns and 30 rows on the screen, else the first. */
size_t font_choose(const uint32_t *widths, size_t count, uint32_t screen_width,
                   uint32_t screen_height);

#endif

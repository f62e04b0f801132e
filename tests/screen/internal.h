/* Drawing for the pictures: cells of text, rectangles and patterns. */
#ifndef TESTS_SCREEN_INTERNAL_H
#define TESTS_SCREEN_INTERNAL_H

#include "tests/screen/screen.h"

enum colour {
    COLOUR_BACK,
    COLOUR_BAR,
    COLOUR_LINE,
    COLOUR_TEXT,
    COLOUR_DIM,
    COLOUR_GOOD,
    COLOUR_BAD,
    COLOUR_BLUE,
    COLOUR_ORANGE,
    COLOUR_GREEN,
    COLOUR_PINK,
    COLOUR_GREY,
    COLOUR_FREE,
    COLOUR_DEEP,
    COLOURS
};

/* Empties the screen for a picture of this kind, if it shows another one. */
void screen_begin_picture(struct screen *screen, enum screen_picture picture);

/* Makes all cells of the wanted text blank; the next calls write it anew. */
void screen_blank(struct screen *screen);

/* Writes text at a place, cut between words to at most `width` columns. Returns the columns that it
 * takes. */
unsigned screen_put(struct screen *screen, unsigned row, unsigned column, unsigned width,
                    enum colour colour, const char *text);
unsigned screen_put_format(struct screen *screen, unsigned row, unsigned column, unsigned width,
                           enum colour colour, const char *format, ...)
    __attribute__((format(printf, 6, 7)));

/* Writes text in several rows of `width` columns, broken between words. Returns the rows. */
unsigned screen_put_wrapped(struct screen *screen, unsigned row, unsigned column, unsigned width,
                            unsigned rows, enum colour colour, const char *text);

/* Returns the rows that a text takes with columns of this width, which is not zero. */
unsigned screen_wrapped_rows(const char *text, unsigned width);

/* Changes the background of columns [from, to) of a row. */
void screen_ground(struct screen *screen, unsigned row, unsigned from, unsigned to,
                   enum colour ground);

/* Fills the pixels right of the last column of the first row with the bar's background. */
void screen_fill_bar(struct screen *screen);

/* Draws the cells whose text has changed. */
void screen_show(struct screen *screen);

void screen_fill(struct screen *screen, uint32_t x, uint32_t y, uint32_t width, uint32_t height,
                 enum colour colour);

/* Draws the pattern of a kind, size pixels wide and high. */
void screen_pattern(struct screen *screen, uint32_t x, uint32_t y, uint32_t size,
                    enum screen_kind kind);

/* Draws text at twice the font's size, from a cell on. */
void screen_put_double(struct screen *screen, unsigned row, unsigned column, enum colour colour,
                       const char *text);

/* Writes a number of bytes in the largest unit that divides it. */
const char *screen_bytes(uint64_t bytes, char text[24]);

/* Writes a number with commas. */
const char *screen_number(uint64_t value, char text[28]);

#endif

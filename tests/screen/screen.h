/*
 * The pictures of a run on a framebuffer: one while it runs, one at its end.
 *
 * Pure code over pixels, which the host compiles too (ovmf/draw-screen.c draws any size from a
 * log). The story of a run comes from the lines of its log; figures of the machine come from the
 * caller. Text is drawn in cells of the font and only where it changes; lines break between words.
 *
 * Units: pixels, or cells of the font for text. Owns: nothing; the caller has the objects, which
 * are large. State of a screen: open -> draw, any number of times. Fails with: false from
 * screen_open if the screen is too small; drawing cannot fail. Context: any; one call at a time.
 */
#ifndef TESTS_SCREEN_SCREEN_H
#define TESTS_SCREEN_SCREEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "efi/console/font.h"

/* ---- the story: what the log has told so far ---- */

#define STORY_LINE     320U
#define STORY_TEXT     160U
#define STORY_NAME     24U
#define STORY_RESULTS  96U
#define STORY_FAILURES 12U
#define STORY_CHECKS   16U
#define STORY_HEADS    3U
#define STORY_REASONS  6U

enum story_outcome { STORY_PASSED, STORY_FAILED, STORY_SKIPPED };

struct story_result {
    char name[STORY_NAME];
    enum story_outcome outcome;
    unsigned checks;  /* made, and not skipped */
    unsigned skipped; /* checks */
};

struct story_failure {
    char name[STORY_NAME]; /* "the run" for a failure outside of all experiments */
    unsigned check;        /* its number; 0: no check */
    unsigned checks;       /* planned by its experiment */
    char text[STORY_TEXT];
};

struct story_check {
    unsigned number;
    enum story_outcome outcome;
    char text[STORY_TEXT];
};

struct story_head {
    unsigned number; /* of the experiment */
    enum story_outcome outcome;
    char name[STORY_NAME];
    char text[STORY_TEXT]; /* the answer up to its first semicolon; empty: it has none */
};

struct story_reason {
    char text[STORY_TEXT];
    unsigned checks;
};

struct story {
    char line[STORY_LINE]; /* the line that is coming in */
    size_t length;
    uint64_t lines;
    char version[32];
    char machine[48];
    char seed[24];
    unsigned planned; /* experiments */
    unsigned done;
    unsigned failed;
    unsigned skipped;
    struct {
        char name[STORY_NAME];
        char question[STORY_TEXT];
        char head[STORY_TEXT];
        unsigned planned; /* checks; 0: no experiment runs */
        unsigned done;
        unsigned failed;
        unsigned skipped;
        bool has_question;
    } now;
    unsigned checks_seen; /* of the experiment that runs; the last STORY_CHECKS are kept */
    struct story_check checks[STORY_CHECKS];
    unsigned heads_seen;
    struct story_head heads[STORY_HEADS];
    unsigned results;
    struct story_result result[STORY_RESULTS];
    unsigned failures;
    struct story_failure failure[STORY_FAILURES];
    unsigned reasons; /* for skipped checks; later ones are counted only */
    struct story_reason reason[STORY_REASONS];
    unsigned checks_passed;
    unsigned checks_failed;
    unsigned checks_skipped;
    char bail_out[STORY_TEXT];
    char verdict[12]; /* empty until the last line */
};

/* Takes in text of the log, in pieces of any size. */
void story_add(struct story *story, const char *text, size_t size);

/* Names the experiment whose lines follow: its name is in its last line only. */
void story_begin(struct story *story, const char *name);

/* ---- the machine's figures ---- */

#define SCREEN_MEMORY_CELLS 8192U
#define SCREEN_SWAP_CELLS   1024U
#define SCREEN_REGIONS      16U

enum screen_kind {
    SCREEN_NOTHING, /* no cell */
    SCREEN_RESERVED,
    SCREEN_KERNEL,
    SCREEN_TABLE,
    SCREEN_ANONYMOUS,
    SCREEN_SHARED,
    SCREEN_POOL, /* cleared in advance */
    SCREEN_OUT,  /* in transit from or to the disk */
    SCREEN_FREE,
    SCREEN_KINDS
};

struct screen_region {
    uint64_t bytes;
    enum screen_kind kind;
};

struct screen_facts {
    uint64_t memory_bytes;
    uint64_t memory_cell; /* bytes of a cell */
    uint32_t memory_cells;
    uint8_t memory[SCREEN_MEMORY_CELLS]; /* enum screen_kind */
    uint64_t swap_bytes;                 /* 0: there is none */
    uint64_t swap_cell;
    uint32_t swap_cells;
    uint8_t swap[SCREEN_SWAP_CELLS];
    const char *swap_place; /* "on disk", "in memory" */
    uint64_t space;         /* number of the running space, 0: the kernel's own */
    uint64_t space_bytes;
    uint64_t space_limit; /* bytes of the lower half */
    unsigned regions;     /* that are shown */
    unsigned regions_more;
    struct screen_region region[SCREEN_REGIONS]; /* by address */
    uint64_t anonymous;                          /* frames */
    uint64_t tables;
    uint64_t free;
    uint64_t first_writes; /* faults of the running space */
    uint64_t first_reads;
    uint64_t cow;
    uint64_t refused;
    uint64_t pages_read;
    uint64_t pages_written;
    uint64_t in_flight;
    uint64_t disk_errors;
    uint64_t seconds;
    char next[STORY_TEXT]; /* names of the experiments that follow, between commas */
    const char *keys;      /* help on keys; NULL without a keyboard */
    const char *log;       /* where the log is, for the end */
    bool paused;
};

/* ---- the screen ---- */

#define SCREEN_COLUMNS     256U
#define SCREEN_ROWS        144U
#define SCREEN_COLUMNS_MIN 80U
#define SCREEN_ROWS_MIN    30U

struct screen_pixels {
    volatile uint32_t *at; /* written and never read */
    uint32_t width;
    uint32_t height;
    uint32_t pitch; /* pixels from one row to the next */
    bool red_first;
};

struct screen_cell {
    char letter; /* 0: not known, drawn at the next chance */
    uint8_t colour;
    uint8_t ground;
};

enum screen_picture { SCREEN_NO_PICTURE, SCREEN_RUNNING, SCREEN_ENDING, SCREEN_PAGE };

struct screen {
    struct screen_pixels pixels;
    const struct font *font;
    unsigned columns;
    unsigned rows;
    enum screen_picture picture; /* that is shown */
    uint32_t cell;               /* pixels of a memory cell */
    uint64_t strip;              /* check value of the regions as drawn */
    unsigned progress;           /* pixels of the line as drawn */
    uint8_t memory[SCREEN_MEMORY_CELLS];
    uint8_t swap[SCREEN_SWAP_CELLS];
    struct screen_cell shown[SCREEN_ROWS][SCREEN_COLUMNS];
    struct screen_cell wanted[SCREEN_ROWS][SCREEN_COLUMNS];
};

/* Starts on these pixels; draws nothing yet, and never to the right of SCREEN_COLUMNS. Returns
 * false if they have too few cells of the font, which must outlive the screen. */
bool screen_open(struct screen *screen, const struct screen_pixels *pixels,
                 const struct font *font);

/* Draws the running picture, or its changes. */
void screen_draw_run(struct screen *screen, const struct story *story,
                     const struct screen_facts *facts);

/* Draws the end of a run whose story is complete, or cut short. */
void screen_draw_end(struct screen *screen, const struct story *story,
                     const struct screen_facts *facts);

/* Draws a page of text, such as a part of the log. `text` has size bytes; the page begins at byte
 * `from`. Returns the byte after the last one shown. */
size_t screen_draw_page(struct screen *screen, const char *title, const char *keys,
                        const char *text, size_t size, size_t from);

/* Returns how many characters of a text fit into `width` columns without a cut inside a word: the
 * whole text, or up to a blank. A word that is longer than the width is cut there. */
size_t screen_fit(const char *text, size_t width);

#endif

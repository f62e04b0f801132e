/*
 * The options' text, turned into struct options: pure logic, tested on the host.
 *
 * Two sources have the same keys: the firmware's load options (tokens between blanks) and the file
 * \faultline.cfg (a key=value a line, '#' begins a comment). The load options win. Whatever is not
 * understood is an error that names source, place, key, value and what is accepted; all errors are
 * reported, not only the first.
 *
 * Units: bytes. Owns: nothing; texts are borrowed during the call.
 * Fails with: a number of errors; the options then hold what was understood, so that the consoles
 * can be chosen to report on.
 * Context: any; allocates nothing.
 */
#ifndef EFI_OPTIONS_OPTIONS_H
#define EFI_OPTIONS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/options.h"
#include "lib/status.h"

/* Load options and file are refused beyond these. */
#define OPTION_TEXT_SIZE 2048U
#define OPTION_FILE_SIZE 16384U

/* Contents of the load options. */
enum option_text {
    OPTION_TEXT_NONE,     /* nothing but blanks */
    OPTION_TEXT_READ,     /* text, copied to the buffer */
    OPTION_TEXT_FIRMWARE, /* a known mark of the firmware's boot manager: no options */
    OPTION_TEXT_BINARY,   /* neither text nor a known mark: an error */
    OPTION_TEXT_LONG      /* text that does not fit the buffer: an error */
};

struct option_sources {
    const char *load; /* the load options as text, or NULL */
    const char *file; /* the file's content, or NULL */
    size_t file_size;
};

/* Told of each error, one line without newline. */
struct option_reporter {
    void (*report)(struct option_reporter *reporter, const char *text);
};

/* Returns the character, or '?' for one that a terminal might act on. */
static inline char option_printable(char letter)
{
    return letter >= ' ' && letter <= '~' ? letter : '?';
}

/* Converts load options to text: UTF-16 or one byte a character, with or without a byte-order
 * mark. A character outside of printable ASCII becomes DEL, which the parser then refuses. */
enum option_text options_text(const void *bytes, size_t size, char *text, size_t text_size);

/* Fills the options: defaults, then file, then load options. Returns the number of errors, each
 * reported to the reporter unless it is NULL. */
MUST_USE unsigned options_parse(const struct option_sources *sources, struct options *options,
                                struct option_reporter *reporter);

/* Whether an experiment of this name is asked for; every one is while run= was not given. */
bool option_run_matches(const struct options *options, const char *name);

#endif

/*
 * Parses the options' text into struct options. Pure logic, tested on the host.
 *
 * Two sources have the same keys: the firmware's load options (tokens between blanks) and the file
 * \faultline.cfg (a key=value a line, '#' begins a comment). The load options win. An
 * error names source, place, key, value and the accepted values; all errors are reported.
 *
 * Units: bytes. Owns: nothing; texts are borrowed during the call.
 * Fails with: the number of errors. The options then have the values without errors, since the
 * consoles that report the errors need them.
 * Context: any; allocates nothing.
 */
#ifndef EFI_OPTIONS_OPTIONS_H
#define EFI_OPTIONS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/options.h"
#include "lib/status.h"

/* Limits of the load options and the file. */
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

/* Receives each error as a line without newline. */
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

/* Fills the options: defaults, then file, then load options. Returns the number of errors, and
 * reports each unless the reporter is NULL. */
MUST_USE unsigned options_parse(const struct option_sources *sources, struct options *options,
                                struct option_reporter *reporter);

/* Returns whether run= matches the name of an experiment; without run=, every name matches. */
bool option_run_matches(const struct options *options, const char *name);

#endif

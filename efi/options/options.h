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

/* What the load options' bytes turned out to be. */
enum option_text {
    OPTION_TEXT_NONE,   /* nothing but blanks */
    OPTION_TEXT_READ,   /* text, now in the buffer */
    OPTION_TEXT_BINARY, /* data of the firmware's own boot manager: to be ignored */
    OPTION_TEXT_LONG    /* text that does not fit the buffer */
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

/* Turns load options as the firmware passes them (UCS-2, or bytes from tools that forget to
 * widen them) into text; what is not ASCII in a text becomes '?'. */
enum option_text options_text(const void *bytes, size_t size, char *text, size_t text_size);

/* Fills the options: defaults, then file, then load options. Returns the number of errors, each
 * reported to the reporter unless it is NULL. */
MUST_USE unsigned options_parse(const struct option_sources *sources, struct options *options,
                                struct option_reporter *reporter);

/* Whether an experiment of this name is asked for; every one is while run= was not given. */
bool option_run_matches(const struct options *options, const char *name);

#endif

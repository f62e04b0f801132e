/*
 * Shared by the files of the options' parser: pieces of text, and the table of keys.
 *
 * Units: bytes. Owns: nothing; a piece borrows the text of its source. Context: any.
 * Fails with: false if a value is not accepted; the options are then unchanged.
 */
#ifndef EFI_OPTIONS_KEYS_H
#define EFI_OPTIONS_KEYS_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/options.h"

/* A piece of a source's text, not terminated. */
struct piece {
    const char *at;
    size_t size;
};

struct option_key {
    const char *name;
    bool (*parse)(struct piece value, struct options *options);
    /* Returns the word at this place that the key accepts, NULL behind the last. NULL: no words. */
    const char *(*word)(unsigned place);
    const char *accepted; /* description of other values for an error; NULL: none */
};

#define OPTION_KEYS 24U

extern const struct option_key option_keys[OPTION_KEYS];

static inline bool is_blank(char letter)
{
    return letter == ' ' || letter == '\t' || letter == '\r' || letter == '\n';
}

static inline char lower_case(char letter)
{
    return letter >= 'A' && letter <= 'Z' ? (char)(letter - 'A' + 'a') : letter;
}

/* Returns the piece without blanks at its ends. */
struct piece piece_trim(struct piece piece);

/* Returns whether the piece equals the word. */
bool piece_is(struct piece piece, const char *word);

/* Returns the value of a hexadecimal digit, 255 for another character. */
unsigned option_digit(char letter);

/* Parses a whole piece as a number: decimal, or hexadecimal after 0x. */
bool piece_number(struct piece piece, uint64_t *number);

/* Parses a set's UUID, which is not the nil UUID: 8-4-4-4-12 hexadecimal digits. */
bool option_parse_set(struct piece value, uint8_t uuid[OPTION_UUID_SIZE]);

/* Parses the list of sets that swap= names. */
bool option_parse_sets(struct piece value, struct options *options);

/* Returns the place of a letter, or the piece's size if it has none. */
size_t piece_find(struct piece piece, char letter);

#endif

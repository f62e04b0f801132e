/* Text of the options: what the firmware passes, and the patterns of run=. */
#include "efi/options/keys.h"
#include "efi/options/options.h"

#include "lib/bytes.h"
#include "lib/check.h"

/* The unit at an index: a byte, or two little-endian ones. */
static unsigned text_unit(const unsigned char *bytes, size_t index, bool wide)
{
    return wide ? bytes[2 * index] | (unsigned)bytes[2 * index + 1] << 8 : bytes[index];
}

static bool option_text_all_zero(const unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != 0)
            return false;
    }
    return true;
}

/* Reads units up to the terminator, after which only zeroes may follow. Binary data has control
 * characters or is mostly not ASCII; a text with a stray typographic quote is still text. */
static enum option_text read_units(const unsigned char *bytes, size_t count, bool wide, char *text,
                                   size_t text_size)
{
    size_t unit_size = wide ? 2 : 1;
    size_t length = 0;
    size_t ascii = 0;
    size_t visible = 0;

    for (; length < count && text_unit(bytes, length, wide) != 0; length++) {
        unsigned unit = text_unit(bytes, length, wide);
        bool blank = unit == ' ' || unit == '\t' || unit == '\r' || unit == '\n';
        bool printable = unit >= ' ' && unit <= '~';

        if (!blank && (unit < ' ' || (unit >= 0x7f && unit < 0xa0)))
            return OPTION_TEXT_BINARY;
        ascii += blank || printable;
        visible += !blank;
        if (length + 1 < text_size)
            text[length] = blank ? ' ' : printable ? (char)unit : '?';
    }
    if (!option_text_all_zero(bytes + length * unit_size, (count - length) * unit_size) ||
        (wide ? ascii * 2 < length : ascii < length))
        return OPTION_TEXT_BINARY;
    if (visible == 0)
        return OPTION_TEXT_NONE;
    if (length >= text_size)
        return OPTION_TEXT_LONG;
    text[length] = '\0';
    return OPTION_TEXT_READ;
}

enum option_text options_text(const void *bytes, size_t size, char *text, size_t text_size)
{
    enum option_text result = OPTION_TEXT_BINARY;

    CHECK(text_size > 0);
    if (size % 2 == 0)
        result = read_units(bytes, size / 2, true, text, text_size);
    if (result == OPTION_TEXT_BINARY)
        result = read_units(bytes, size, false, text, text_size);
    if (result != OPTION_TEXT_READ)
        text[0] = '\0';
    return result;
}

/* Whether a pattern with * and ? matches the whole name. On a mismatch the last star takes one
 * letter more; no earlier star ever needs to be tried again. */
static bool glob_matches(struct piece pattern, const char *name)
{
    size_t at = 0;
    size_t star = SIZE_MAX;
    const char *star_name = name;

    while (*name != '\0') {
        if (at < pattern.size && pattern.at[at] == '*') {
            star = at++;
            star_name = name;
        } else if (at < pattern.size && (pattern.at[at] == '?' || pattern.at[at] == *name)) {
            at++;
            name++;
        } else if (star != SIZE_MAX) {
            at = star + 1;
            name = ++star_name;
        } else {
            return false;
        }
    }
    while (at < pattern.size && pattern.at[at] == '*')
        at++;
    return at == pattern.size;
}

bool option_run_matches(const struct options *options, const char *name)
{
    struct piece rest = {options->run, strlen(options->run)};

    if (rest.size == 0)
        return true;
    while (rest.size > 0) {
        size_t end = piece_find(rest, ',');

        if (glob_matches((struct piece){rest.at, end}, name))
            return true;
        if (end < rest.size)
            end++;
        rest = (struct piece){rest.at + end, rest.size - end};
    }
    return false;
}

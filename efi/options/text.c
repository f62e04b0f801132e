/* Converts load options to text, and matches the patterns of run=. */
#include "efi/options/keys.h"
#include "efi/options/options.h"

#include "lib/bytes.h"
#include "lib/check.h"

/* Replaces a character that no option has: DEL, which no key and no value accepts. */
#define UNREADABLE_LETTER '\x7f'

/* Optional data that firmware adds to the boot entries that it makes itself. */
static const unsigned char edk2_mark[] = {0x4e, 0xac, 0x08, 0x81, 0x11, 0x9f, 0x59, 0x4d,
                                          0x85, 0x0e, 0xe2, 0x1a, 0x52, 0x2c, 0x59, 0xb2};
static const unsigned char ami_mark[] = {0x00, 0x00, 'B', 'O'};

/* Load options as an array of units. */
struct units {
    const unsigned char *bytes;
    size_t count;
    size_t size; /* bytes of a unit: 1 or 2 */
    bool big_endian;
};

static unsigned text_unit(const struct units *units, size_t index)
{
    const unsigned char *at = units->bytes + index * units->size;

    if (units->size == 1)
        return at[0];
    return units->big_endian ? (unsigned)at[0] << 8 | at[1] : at[0] | (unsigned)at[1] << 8;
}

static bool option_text_all_zero(const unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != 0)
            return false;
    }
    return true;
}

static bool begins_with_mark(const unsigned char *bytes, size_t size, const char *mark,
                             size_t mark_size)
{
    return size >= mark_size && memcmp(bytes, mark, mark_size) == 0;
}

static bool is_firmware_mark(const unsigned char *bytes, size_t size)
{
    return (size == sizeof(edk2_mark) && memcmp(bytes, edk2_mark, size) == 0) ||
           (size == sizeof(ami_mark) && memcmp(bytes, ami_mark, size) == 0);
}

/* Returns whether the bytes are text of one byte a character: none before the terminator is 0, and
 * all after it are. */
static bool is_narrow(const unsigned char *bytes, size_t size)
{
    size_t length = 0;

    while (length < size && bytes[length] != 0)
        length++;
    return option_text_all_zero(bytes + length, size - length);
}

/* Skips a byte-order mark, which says how wide units are; without one the bytes decide. */
static struct units find_units(const unsigned char *bytes, size_t size)
{
    if (begins_with_mark(bytes, size, "\xff\xfe", 2))
        return (struct units){bytes + 2, (size - 2) / 2, 2, false};
    if (begins_with_mark(bytes, size, "\xfe\xff", 2))
        return (struct units){bytes + 2, (size - 2) / 2, 2, true};
    if (begins_with_mark(bytes, size, "\xef\xbb\xbf", 3))
        return (struct units){bytes + 3, size - 3, 1, false};
    if (is_narrow(bytes, size))
        return (struct units){bytes, size, 1, false};
    return (struct units){bytes, size / 2, 2, false};
}

/* Copies the units before the terminator. Data after it could be options, so it must be zero. */
static enum option_text read_units(const struct units *units, const unsigned char *end, char *text,
                                   size_t text_size)
{
    size_t length = 0;
    size_t visible = 0;
    const unsigned char *rest;

    for (; length < units->count && text_unit(units, length) != 0; length++) {
        unsigned unit = text_unit(units, length);
        bool blank = unit < 0x80 && is_blank((char)unit);
        bool printable = unit >= ' ' && unit <= '~';

        visible += !blank;
        if (length + 1 < text_size)
            text[length] = blank ? ' ' : printable ? (char)unit : UNREADABLE_LETTER;
    }
    rest = units->bytes + length * units->size;
    if (!option_text_all_zero(rest, (size_t)(end - rest)))
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
    enum option_text result;
    struct units units;

    CHECK(text_size > 0);
    text[0] = '\0';
    if (size == 0)
        return OPTION_TEXT_NONE;
    if (is_firmware_mark(bytes, size))
        return OPTION_TEXT_FIRMWARE;
    units = find_units(bytes, size);
    result = read_units(&units, (const unsigned char *)bytes + size, text, text_size);
    if (result != OPTION_TEXT_READ)
        text[0] = '\0';
    return result;
}

/* Returns whether a pattern with * and ? matches the whole name. On a mismatch, the last star takes
 * one more letter; earlier stars need no retry. */
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

/* Reading a trace. */
#include "efi/trace/trace.h"

#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/print.h"
#include "lib/units.h"

#define RECORD_SIZE  24U
#define PROBLEM_SIZE 96U

/* Places of the table that finds a page by its object: a power of two, at most half of it used. */
#define PLACES (2 * TRACE_PAGES_MAX)

/* The columns of a line. */
enum column { COLUMN_TIME, COLUMN_OBJECT, COLUMN_SIZE, COLUMNS };

static struct {
    bool reading;
    enum trace_format format;
    unsigned line;  /* of the file, from 1; or the record */
    char delimiter; /* 0: the first line is not complete */
    unsigned used;  /* bytes of a line or record that is not complete */
    uint8_t part[TRACE_LINE_SIZE];
    uint64_t objects[TRACE_PAGES_MAX]; /* by page */
    uint16_t place[PLACES];            /* page + 1; 0: free */
    char problem[PROBLEM_SIZE];
} reader;

static struct trace trace;
static bool given;

static bool trace_wrong(const char *what)
{
    print_to(reader.problem, sizeof(reader.problem), "%s %u: %s",
             reader.format == TRACE_CSV ? "line" : "record", reader.line, what);
    return false;
}

/* ---- requests ---- */

/* Returns the page of an object; TRACE_PAGES_MAX if there is no room for another one. */
static unsigned page_of(uint64_t object)
{
    uint64_t at = object * UINT64_C(0x9e3779b97f4a7c15) >> 32;

    for (;; at++) {
        uint16_t *place = &reader.place[at % PLACES];

        if (*place != 0 && reader.objects[*place - 1] == object)
            return *place - 1U;
        if (*place != 0)
            continue;
        if (trace.pages == TRACE_PAGES_MAX)
            return TRACE_PAGES_MAX;
        reader.objects[trace.pages++] = object;
        *place = (uint16_t)trace.pages;
        return trace.pages - 1;
    }
}

static bool add_request(uint64_t object, uint64_t size)
{
    unsigned page;

    if (size == 0) {
        trace.left_out++;
        return true;
    }
    if (trace.requests == TRACE_REQUESTS_MAX)
        return trace_wrong("more than 32,768 requests");
    page = page_of(object);
    if (page == TRACE_PAGES_MAX)
        return trace_wrong("more than 2,048 objects");
    trace.large += size > PAGE_SIZE;
    trace.page[trace.requests++] = (uint16_t)page;
    return true;
}

static uint64_t little(const uint8_t *bytes, unsigned size)
{
    uint64_t value = 0;

    while (size-- > 0)
        value = value << 8 | bytes[size];
    return value;
}

static bool take_record(void)
{
    return add_request(little(reader.part + 4, 8), little(reader.part + 12, 4));
}

/* ---- lines ---- */

static bool is_digit(uint8_t letter)
{
    return letter >= '0' && letter <= '9';
}

static bool is_letter(uint8_t letter)
{
    return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z');
}

static char find_delimiter(void)
{
    static const char possible[] = {'\t', ',', '|', ':'};
    unsigned best = 0;
    char found = '\0';

    for (unsigned i = 0; i < sizeof(possible); i++) {
        unsigned count = 0;

        for (unsigned at = 0; at < reader.used; at++)
            count += reader.part[at] == (uint8_t)possible[i];
        if (count * (sizeof(possible) - i) > best) {
            best = count * (unsigned)(sizeof(possible) - i);
            found = possible[i];
        }
    }
    return found;
}

/* Returns whether the first line names the columns. */
static bool is_header(void)
{
    unsigned digits = 0;
    unsigned letters = 0;

    for (unsigned i = 0; i < reader.used; i++) {
        digits += is_digit(reader.part[i]);
        letters += is_letter(reader.part[i]);
    }
    return digits <= letters;
}

/* Returns the value of a digit in any base; 255 for another character. */
static unsigned trace_digit(uint8_t letter)
{
    if (is_digit(letter))
        return letter - '0';
    if (letter >= 'a' && letter <= 'f')
        return letter - 'a' + 10U;
    if (letter >= 'A' && letter <= 'F')
        return letter - 'A' + 10U;
    return 255;
}

/* Reads a number as strtoull does with base 0; nothing may follow it. */
static bool read_number(const uint8_t *at, unsigned size, uint64_t *number)
{
    unsigned base = 10;

    if (size > 2 && at[0] == '0' && (at[1] | 0x20) == 'x') {
        base = 16;
        at += 2;
        size -= 2;
    } else if (size > 1 && at[0] == '0') {
        base = 8;
    }
    *number = 0;
    for (unsigned i = 0; i < size; i++) {
        unsigned digit = trace_digit(at[i]);

        if (digit >= base || *number > (UINT64_MAX - digit) / base)
            return false;
        *number = *number * base + digit;
    }
    return size > 0;
}

static bool take_column(unsigned column, const uint8_t *at, unsigned size, uint64_t *values)
{
    while (size > 0 && at[0] == ' ') {
        at++;
        size--;
    }
    while (size > 0 && at[size - 1] == ' ')
        size--;
    if (column == COLUMN_TIME || column >= COLUMNS)
        return true; /* has no effect on what is read */
    if (read_number(at, size, &values[column]))
        return true;
    return trace_wrong(column == COLUMN_OBJECT ? "the object is no number of 64 bits"
                                               : "the size is no number of 64 bits");
}

static bool take_columns(void)
{
    uint64_t values[COLUMNS] = {0, 0, 1};
    unsigned column = 0;
    unsigned begin = 0;

    for (unsigned at = 0; at <= reader.used; at++) {
        if (at < reader.used && reader.part[at] != (uint8_t)reader.delimiter)
            continue;
        if (!take_column(column, reader.part + begin, at - begin, values))
            return false;
        column++;
        begin = at + 1;
    }
    if (column < COLUMN_SIZE)
        return trace_wrong("it has one column; the second one is the object");
    return add_request(values[COLUMN_OBJECT], values[COLUMN_SIZE]);
}

static bool take_line(void)
{
    if (reader.used > 0 && reader.part[reader.used - 1] == '\r')
        reader.used--;
    if (reader.used == 0)
        return true;
    if (reader.delimiter == '\0') {
        reader.delimiter = find_delimiter();
        if (reader.delimiter == '\0')
            return trace_wrong("no tab, comma, bar or colon parts its columns");
        if (is_header())
            return true;
    }
    return take_columns();
}

/* ---- the file ---- */

bool trace_format_of(const char *name, enum trace_format *format)
{
    static const char *const endings[] = {[TRACE_CSV] = ".csv", [TRACE_ORACLE] = ".oracleGeneral"};
    size_t size = strlen(name);

    for (unsigned i = 0; i < ARRAY_COUNT(endings); i++) {
        size_t ending = strlen(endings[i]);

        if (size > ending && memcmp(name + size - ending, endings[i], ending) == 0) {
            *format = (enum trace_format)i;
            return true;
        }
    }
    return false;
}

void trace_begin(enum trace_format format)
{
    memset(&reader, 0, sizeof(reader));
    memset(&trace, 0, sizeof(trace));
    given = false;
    reader.reading = true;
    reader.format = format;
    reader.line = 1;
}

/* Takes the line or record that is complete. */
static bool take_line_or_record(void)
{
    bool right = reader.format == TRACE_CSV ? take_line() : take_record();

    reader.used = 0;
    reader.line++;
    return right;
}

static bool take_byte(uint8_t byte)
{
    if (reader.format == TRACE_CSV && byte == '\n')
        return take_line_or_record();
    if (reader.used == TRACE_LINE_SIZE)
        return trace_wrong("longer than 256 characters");
    reader.part[reader.used++] = byte;
    return reader.format == TRACE_CSV || reader.used < RECORD_SIZE || take_line_or_record();
}

bool trace_feed(const void *bytes, size_t size)
{
    const uint8_t *at = bytes;

    CHECK(reader.reading);
    for (size_t i = 0; i < size && reader.problem[0] == '\0'; i++)
        take_byte(at[i]);
    return reader.problem[0] == '\0';
}

const char *trace_end(void)
{
    CHECK(reader.reading);
    reader.reading = false;
    if (reader.problem[0] == '\0' && reader.used > 0) {
        if (reader.format == TRACE_CSV)
            take_line_or_record();
        else
            trace_wrong("it ends after a part of its 24 bytes");
    }
    if (reader.problem[0] != '\0')
        return reader.problem;
    if (trace.requests == 0)
        return "it has no request";
    given = true;
    return NULL;
}

const struct trace *trace_given(void)
{
    return given ? &trace : NULL;
}

/* Formatted printing to the attached consoles. */
#include "lib/print.h"

#include <stdint.h>

#include "lib/bytes.h"

/* Text is handed to the sinks in pieces of this size; a log line fits. */
#define PIECE_SIZE 256

/* Where formatted characters go: a caller's buffer, or pieces to the sinks. */
struct output {
    char *buffer;
    size_t size;
    size_t length; /* of the whole text, also past the buffer's end */
    bool to_sinks;
};

/* One conversion, between its '%' and its letter. */
struct conversion {
    bool left;
    bool zeroes;
    bool prefix;
    int width;
    int precision; /* -1: none */
    int longs;     /* 0: int, 1: long and size_t, 2: long long */
};

static struct print_sink *sinks;

/* The only sink at the moment; NULL: all of them. */
static struct print_sink *diverted;

/* The text that begins each line; NULL: none. */
static const char *line_start;
static bool line_begun;

void print_attach(struct print_sink *sink)
{
    struct print_sink **end = &sinks;

    while (*end != NULL) {
        CHECK(*end != sink);
        end = &(*end)->next;
    }
    sink->next = NULL;
    *end = sink;
}

void print_detach(struct print_sink *sink)
{
    for (struct print_sink **at = &sinks; *at != NULL; at = &(*at)->next) {
        if (*at == sink) {
            *at = sink->next;
            return;
        }
    }
}

void print_set_line_start(const char *text)
{
    line_start = text;
    line_begun = false;
}

bool print_has_line_start(void)
{
    return line_start != NULL;
}

void print_divert(struct print_sink *sink)
{
    diverted = sink;
}

static void write_all(const char *text, size_t length)
{
    if (diverted != NULL) {
        diverted->write(diverted, text, length);
        return;
    }
    for (struct print_sink *sink = sinks; sink != NULL; sink = sink->next)
        sink->write(sink, text, length);
}

static void write_lines(const char *text, size_t length)
{
    while (length > 0) {
        size_t part = 0;

        while (part < length && text[part] != '\n')
            part++;
        part += part < length;
        if (!line_begun)
            write_all(line_start, strlen(line_start));
        write_all(text, part);
        line_begun = text[part - 1] != '\n';
        text += part;
        length -= part;
    }
}

static void flush_piece(struct output *out)
{
    if (line_start != NULL)
        write_lines(out->buffer, out->length);
    else
        write_all(out->buffer, out->length);
    out->length = 0;
}

static void print_put(struct output *out, char letter)
{
    if (out->to_sinks && out->length == out->size)
        flush_piece(out);
    if (out->length < out->size)
        out->buffer[out->length] = letter;
    out->length++;
}

static void put_padding(struct output *out, char letter, int count)
{
    for (; count > 0; count--)
        print_put(out, letter);
}

static void print_put_text(struct output *out, const struct conversion *how, const char *text)
{
    int length = 0;

    if (text == NULL)
        text = "(null)";
    while ((how->precision < 0 || length < how->precision) && text[length] != '\0')
        length++;
    if (!how->left)
        put_padding(out, ' ', how->width - length);
    for (int i = 0; i < length; i++)
        print_put(out, text[i]);
    if (how->left)
        put_padding(out, ' ', how->width - length);
}

static void put_letter(struct output *out, const struct conversion *how, char letter)
{
    if (!how->left)
        put_padding(out, ' ', how->width - 1);
    print_put(out, letter);
    if (how->left)
        put_padding(out, ' ', how->width - 1);
}

static void put_number(struct output *out, const struct conversion *how, uint64_t value,
                       bool negative, unsigned base)
{
    char digits[20]; /* 2^64 has 20 decimal digits */
    int count = 0;
    int length;

    do {
        digits[count++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    length = count + (negative ? 1 : 0) + (how->prefix ? 2 : 0);

    if (!how->left && !how->zeroes)
        put_padding(out, ' ', how->width - length);
    if (negative)
        print_put(out, '-');
    if (how->prefix) {
        print_put(out, '0');
        print_put(out, 'x');
    }
    if (!how->left && how->zeroes)
        put_padding(out, '0', how->width - length);
    while (count > 0)
        print_put(out, digits[--count]);
    if (how->left)
        put_padding(out, ' ', how->width - length);
}

/* Reads flags, width, precision and size; returns the place of the conversion's letter. */
static const char *parse_conversion(const char *at, struct conversion *how, va_list *arguments)
{
    *how = (struct conversion){.precision = -1};
    for (;; at++) {
        if (*at == '-')
            how->left = true;
        else if (*at == '0')
            how->zeroes = true;
        else if (*at == '#')
            how->prefix = true;
        else
            break;
    }
    if (*at == '*') {
        how->width = va_arg(*arguments, int);
        at++;
    }
    for (; *at >= '0' && *at <= '9'; at++)
        how->width = how->width * 10 + (*at - '0');
    if (*at == '.') {
        how->precision = 0;
        at++;
        if (*at == '*') {
            how->precision = va_arg(*arguments, int);
            at++;
        }
        for (; *at >= '0' && *at <= '9'; at++)
            how->precision = how->precision * 10 + (*at - '0');
    }
    for (; *at == 'l' || *at == 'z'; at++)
        how->longs++;
    return at;
}

static void put_signed(struct output *out, const struct conversion *how, va_list *arguments)
{
    int64_t value = how->longs > 0 ? va_arg(*arguments, long) : va_arg(*arguments, int);
    uint64_t magnitude = value < 0 ? UINT64_C(0) - (uint64_t)value : (uint64_t)value;

    put_number(out, how, magnitude, value < 0, 10);
}

static void put_unsigned(struct output *out, const struct conversion *how, va_list *arguments,
                         unsigned base)
{
    uint64_t value =
        how->longs > 0 ? va_arg(*arguments, unsigned long) : va_arg(*arguments, unsigned);

    put_number(out, how, value, false, base);
}

static void put_converted(struct output *out, struct conversion *how, char letter,
                          va_list *arguments)
{
    switch (letter) {
    case 'c': put_letter(out, how, (char)va_arg(*arguments, int)); break;
    case 's': print_put_text(out, how, va_arg(*arguments, const char *)); break;
    case 'd': put_signed(out, how, arguments); break;
    case 'u': put_unsigned(out, how, arguments, 10); break;
    case 'x': put_unsigned(out, how, arguments, 16); break;
    case 'p':
        how->prefix = true;
        put_number(out, how, (uintptr_t)va_arg(*arguments, void *), false, 16);
        break;
    case '%': print_put(out, '%'); break;
    default:
        print_put(out, '%');
        print_put(out, letter);
        break;
    }
}

static void format_into(struct output *out, const char *format, va_list arguments)
{
    struct conversion how;
    va_list rest;

    va_copy(rest, arguments);
    for (const char *at = format; *at != '\0'; at++) {
        if (*at != '%') {
            print_put(out, *at);
            continue;
        }
        at = parse_conversion(at + 1, &how, &rest);
        if (*at == '\0')
            break;
        put_converted(out, &how, *at, &rest);
    }
    va_end(rest);
}

void print_va(const char *format, va_list arguments)
{
    char piece[PIECE_SIZE];
    struct output out = {.buffer = piece, .size = sizeof(piece), .to_sinks = true};

    format_into(&out, format, arguments);
    flush_piece(&out);
}

void print(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    print_va(format, arguments);
    va_end(arguments);
}

size_t print_to_va(char *buffer, size_t size, const char *format, va_list arguments)
{
    struct output out = {.buffer = buffer, .size = size};

    format_into(&out, format, arguments);
    if (size > 0)
        buffer[out.length < size ? out.length : size - 1] = '\0';
    return out.length;
}

size_t print_to(char *buffer, size_t size, const char *format, ...)
{
    va_list arguments;
    size_t length;

    va_start(arguments, format);
    length = print_to_va(buffer, size, format, arguments);
    va_end(arguments);
    return length;
}

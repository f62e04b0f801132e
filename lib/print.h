/*
 * Formatted printing to all attached consoles.
 *
 * Formats: %c %s %d %u %x %p %% with '-', '0', '#', width, precision of %s, and the sizes l, ll, z;
 * the compiler checks the arguments. Anything else prints itself, so that a mistake shows.
 *
 * Units: bytes. Owns: nothing; a sink is a static object of the console that attaches it.
 * Fails with: nothing. Context: any, also in a fault and in a crash; it takes no lock, since a
 * crash must be able to print while another line is being printed.
 */
#ifndef LIB_PRINT_H
#define LIB_PRINT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "lib/check.h"

/* A console: write takes size bytes of text with bare newlines and cannot fail. */
struct print_sink {
    void (*write)(struct print_sink *sink, const char *text, size_t size);
    struct print_sink *next; /* the list's own */
};

/* Adds a sink at the end; it is written to from the next call on. A sink is attached once. */
void print_attach(struct print_sink *sink);

/* Takes a sink off again; one that is not attached is no error. */
void print_detach(struct print_sink *sink);

/* Begins each line that follows with a text, until it is NULL again; NULL at the start. The last
 * line printed must be whole. */
void print_set_line_start(const char *text);

/* Returns whether lines begin with a text. */
bool print_has_line_start(void);

/* Sends everything to one sink, attached or not, instead of all; NULL ends it. */
void print_divert(struct print_sink *sink);

void print(const char *format, ...) PRINTF_LIKE(1, 2);
void print_va(const char *format, va_list arguments);

/* Formats into a buffer of size bytes, always terminated when size > 0; returns the length that
 * the whole text has, as snprintf does. */
size_t print_to(char *buffer, size_t size, const char *format, ...) PRINTF_LIKE(3, 4);
size_t print_to_va(char *buffer, size_t size, const char *format, va_list arguments);

#endif

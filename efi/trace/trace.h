/*
 * A trace: requests of a program for objects, as a string of pages. Each object is one page.
 *
 * Two formats, as libCacheSim reads them. CSV: a request a line; columns time, object and size, of
 * which the last may be missing. The delimiter is the one of tab , | : that the first line has most
 * often, weighted 4, 3, 2, 1; the first line is a header unless it has more digits than letters; a
 * number begins with 0x (hexadecimal), 0 (octal) or another digit. oracleGeneral: 24 bytes a
 * request, little-endian: time (4), object (8), size (4), next request for the object (8). Requests
 * of size 0 are left out.
 *
 * Units: requests; pages by number, from 0, in the order of their first request. Owns: one trace,
 * which moves with the image.
 * State: none -> (begin) -> reading -> (feed)* -> (end) -> given | none.
 * Fails with: a sentence without its place, NULL if all is well; there is no trace then.
 * Context: one processor until the trace is given; read-only afterwards.
 */
#ifndef EFI_TRACE_TRACE_H
#define EFI_TRACE_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/status.h"

#define TRACE_REQUESTS_MAX 32768U
#define TRACE_PAGES_MAX    2048U
#define TRACE_LINE_SIZE    256U

enum trace_format { TRACE_CSV, TRACE_ORACLE };

struct trace {
    unsigned requests;
    unsigned pages;
    unsigned left_out; /* requests of size 0 */
    unsigned large;    /* requests for objects of more than a page */
    uint16_t page[TRACE_REQUESTS_MAX];
};

/* Finds the format that a file's name says by its ending; returns false for another one. */
bool trace_format_of(const char *name, enum trace_format *format);

/* Begins to read a file; forgets an earlier trace. */
void trace_begin(enum trace_format format);

/* Takes the file's next bytes. Returns false once they are wrong or too many. */
bool trace_feed(const void *bytes, size_t size);

/* Ends the file. Returns NULL, and the trace is given; or what is wrong, borrowed until the next
 * trace_begin. */
MUST_USE const char *trace_end(void);

/* Returns the trace; NULL: none is given. */
const struct trace *trace_given(void);

#endif

/*
 * A page of the log area: a piece of a run's log, which survives the run.
 *
 * The area is a ring of pages of 4 KiB. Each page names its set, its run and its place in the run,
 * so a reader takes the pages in any order, and a page that a power cut has torn fails its
 * checksum.
 *
 * Units: bytes. Owns: nothing; pure. Fails with: false. Context: any.
 * Spec: docs/disk-safety.md.
 */
#ifndef SWAPDISK_FORMAT_LOG_PAGE_H
#define SWAPDISK_FORMAT_LOG_PAGE_H

#include <stdbool.h>
#include <stdint.h>

#define LOG_PAGE_SIZE 4096U
#define LOG_PAGE_TEXT 4032U

/* The largest number of a run in the area: the run after it has a number as well. */
#define LOG_RUN_LAST (UINT64_MAX - 1)

struct log_page {
    uint8_t set_uuid[16];
    uint64_t run;      /* from 1; a later run has a larger number */
    uint64_t sequence; /* of this page in its run, from 0 */
    uint32_t length;   /* bytes of text, at most LOG_PAGE_TEXT */
    const char *text;
};

/* Encodes a page and its checksum. */
void log_page_encode(uint8_t page[LOG_PAGE_SIZE], const struct log_page *log);

/* Decodes a page; `text` is then in the page. Returns false if it is not a sound page of a log. */
bool log_page_decode(const uint8_t page[LOG_PAGE_SIZE], struct log_page *log);

/* Returns whether a page that does not decode was one of a log before it was damaged. */
bool log_page_damaged(const uint8_t page[LOG_PAGE_SIZE]);

#endif

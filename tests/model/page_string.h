/*
 * Strings of page references: what the best and the best-informed replacement make of them.
 *
 * Units: pages by number, below PAGE_STRING_PAGES; a string holds each change of the page in use.
 * Owns: scratch arrays, so one caller at a time. Context: thread. Fails with: nothing.
 */
#ifndef TESTS_MODEL_PAGE_STRING_H
#define TESTS_MODEL_PAGE_STRING_H

#include <stdbool.h>
#include <stdint.h>

#define PAGE_STRING_MAX   16384U
#define PAGE_STRING_PAGES 1024U

struct page_string {
    unsigned length;
    bool full; /* references did not fit any more */
    uint16_t pages[PAGE_STRING_MAX];
};

/* Adds a reference, unless it is to the page of the last one. */
void page_string_add(struct page_string *string, unsigned page);

/* Faults if the page goes whose next use is farthest (Belady's OPT): no policy has fewer. */
uint64_t page_string_opt(const struct page_string *string, unsigned memory);

/* Faults if the page goes whose last use is longest ago, with every use known. */
uint64_t page_string_lru(const struct page_string *string, unsigned memory);

#endif

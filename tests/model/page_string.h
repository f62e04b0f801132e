/*
 * Strings of page references, and their faults under optimal replacement and under an LRU that
 * knows every use.
 *
 * Units: pages by number, below PAGE_STRING_PAGES; a string holds each change of the page in use.
 * Owns: scratch arrays, so one caller at a time. Context: thread. Fails with: nothing.
 */
#ifndef TESTS_MODEL_PAGE_STRING_H
#define TESTS_MODEL_PAGE_STRING_H

#include <stdbool.h>
#include <stdint.h>

#define PAGE_STRING_MAX   32768U
#define PAGE_STRING_PAGES 2048U

struct page_string {
    unsigned length;
    bool full; /* references did not fit any more */
    uint16_t pages[PAGE_STRING_MAX];
};

/* Adds a reference, unless it is to the page of the last one. */
void page_string_add(struct page_string *string, unsigned page);

/* Returns the faults if the page whose next use is farthest is evicted (Belady's OPT): no policy
 * has fewer. */
uint64_t page_string_opt(const struct page_string *string, unsigned memory);

/* Returns the faults of LRU with every use known. */
uint64_t page_string_lru(const struct page_string *string, unsigned memory);

#endif

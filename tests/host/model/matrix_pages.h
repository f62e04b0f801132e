/*
 * The pages of the matrices of disk faults: a range of one space, in which each page holds its own
 * address.
 *
 * State: matrix_pages_map -> the calls below -> space_destroy by the test.
 * Fails with: a failed assertion of cmocka. Context: host tests, between model_begin and model_end.
 */
#ifndef TESTS_HOST_MODEL_MATRIX_PAGES_H
#define TESTS_HOST_MODEL_MATRIX_PAGES_H

#include "paging/pte.h"
#include "tests/host/model/space_model_host.h"

#define MATRIX_PAGES 24U

extern const struct fault_access matrix_read;
extern const struct fault_access matrix_write;

/* Creates a space with the pages, all written, and returns it. */
struct space *matrix_pages_map(void);

uint64_t matrix_page_at(unsigned number);

/* Returns the leaf entry of a page, which has a table. */
struct pte matrix_entry(const struct space *space, unsigned number);

/* Writes the pages from `from` up to, but not including, `to`. */
void matrix_write_pages(struct space *space, unsigned from, unsigned to);

/* Evicts all pages. */
void matrix_evict_pages(void);

/* Returns whether a status tells the owner that a page or a call has failed by a disk. */
bool matrix_is_told(enum status status);

/* Reads a page. Returns false if its owner is told, which must not be if it is in memory; otherwise
 * the page is as it was written. */
bool matrix_page_is_right(struct space *space, unsigned number, bool in_memory);

#endif

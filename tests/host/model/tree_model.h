/*
 * Trees without vmm/: the minimal layer above a tree, and a model of each cell's content.
 *
 * Cells lie between chosen bounds. A page is at a cell's first address; tickets, guards and zeros
 * fill the whole cell. Pages carry a tag in their first word.
 *
 * Units: bounds are numbered, cell i is [bound i, bound i + 1). Fails with: a panic with values.
 * Context: host tests.
 */
#ifndef TESTS_HOST_MODEL_TREE_MODEL_H
#define TESTS_HOST_MODEL_TREE_MODEL_H

#include "paging/tree/tree.h"
#include "tests/host/model/tree_oracle.h"

#define FOREST_TREES 8U
#define FOREST_CELLS 64U
#define FOREST_SLOTS 256U

enum content_kind {
    CONTENT_NONE,
    CONTENT_TICKET,
    CONTENT_GUARD,
    CONTENT_ZEROES,   /* links of the zero ladder */
    CONTENT_PAGE,     /* a leaf; number: its tag */
    CONTENT_WITHHELD, /* number: its tag */
    CONTENT_TRANSIT,  /* number: its tag */
    CONTENT_SWAPPED,  /* number: the slot */
    CONTENT_ZERO,     /* the zero page */
    CONTENT_LARGE,    /* 2 MiB from the cell's start; number: the tag of its first and last page */
    CONTENT_BLANK     /* a ticket of the first page alone; number: its descriptor */
};

struct content {
    enum content_kind kind;
    uint64_t number;
    struct rights rights; /* of pages and zeroes */
};

struct forest_tree {
    struct tree tree;
    bool exists;
    struct content cells[FOREST_CELLS];
};

struct forest {
    unsigned levels;
    unsigned cell_count;
    uint64_t bounds[FOREST_CELLS + 1];
    struct forest_tree trees[FOREST_TREES];
    uint32_t slots[FOREST_SLOTS]; /* counts */
    uint64_t pages_free_last;
    uint64_t last_tag;
    uint64_t tables_at_start;
};

extern struct forest forest;

/* Starts a simulated machine and an empty forest with these bounds, ascending. */
void forest_start(uint64_t memory, unsigned levels, const uint64_t *bounds, unsigned bound_count);

/* Checks that no frame and no slot is left in use. */
void forest_end(void);

void forest_create(unsigned number);
void forest_fork(unsigned child, unsigned parent);
void forest_destroy(unsigned number);

/* Makes cells [from, to) tickets, guards, zeroes or empty. */
void forest_replace(unsigned number, unsigned from, unsigned to, struct content with);

/* Gives cells [from, to) these rights; tickets get this number. */
void forest_protect(unsigned number, unsigned from, unsigned to, struct rights rights,
                    uint64_t ticket);

/* Gives the first page of a cell one entry, not empty; the number is chosen. */
void forest_put(unsigned number, unsigned cell, enum content_kind kind);

/* Returns the least number of entries that can cover [start, end). */
unsigned forest_fewest(uint64_t start, uint64_t end);

/* Returns how many entries cover [start, end) in a tree. */
unsigned forest_entries(unsigned number, uint64_t start, uint64_t end);

/* Makes the first 2 MiB of a cell a large page. Returns false if the cell is too small or not
 * aligned. */
bool forest_put_large(unsigned number, unsigned cell);

/* Audits the trees, and compares every cell with the model. */
struct oracle_census forest_check(void);

#endif

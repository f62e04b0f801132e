/*
 * A second AUDIT, written from docs/rules.md alone: it shares no code with paging/tree/audit.c.
 *
 * It counts the pointers to every frame in arrays of its own and compares: counts (C1), classes and
 * R/W (E1), that own means the only pointer, live and held (C4), zero page never writable (C8), the
 * rights in upper entries (E2), the ring and the reverse map of every page (R1), and that no frame
 * is reachable and free. Panics with values on a difference.
 *
 * Units: frames. Owns: nothing between calls. Context: host tests, no walk under way.
 */
#ifndef TESTS_HOST_MODEL_TREE_ORACLE_H
#define TESTS_HOST_MODEL_TREE_ORACLE_H

#include "paging/tree/tree.h"

/* Totals, for tests that expect certain values. */
struct oracle_census {
    uint64_t tables; /* roots included */
    uint64_t pages;
    uint64_t entries; /* not empty, in the lower halves, tables counted once */
};

struct oracle_census oracle_check(const struct tree *trees, unsigned count);

#endif

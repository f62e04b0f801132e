/*
 * Kept paths: tables that an unmapped range leaves empty stay for the next one.
 *
 * A program that unmaps a range often maps one at the same place soon: a stack, a buffer, a part of
 * the heap. So the lowest table of the last path that became empty in a space stays in its tree
 * with those above it, at most levels - 1 tables a space. They are given back when another path of
 * the space becomes empty, before a fork shares them, at the space's end, and when memory is out.
 * The ledger has them as tables, and AUDIT finds them, since they stand in the tree.
 *
 * Units: bytes. Owns: nothing; space->kept says where the path is, by the first address of its
 * lowest table, and that table's level. A range call that goes another way may have used or given
 * back the tables meanwhile: that is seen by a look. State: none (0) -> spare_tables_keep -> kept
 * -> spare_tables_free -> none. Fails with: nothing. Context: the space is locked, no TLB batch is
 * open. Rules: C10, C12.
 */
#ifndef VMM_RANGE_SPARE_TABLES_H
#define VMM_RANGE_SPARE_TABLES_H

#include "paging/tree/run.h"
#include "vmm/space/space.h"

/* The table of a run has become empty, and is kept instead of the one before. */
void spare_tables_keep_other(struct space *space, const struct tree_run *run);

static inline void spare_tables_keep(struct space *space, const struct tree_run *run)
{
    uint64_t place = round_down(run->start, pte_span(run->bottom + 1)) | run->bottom;

    if (space->kept != place)
        spare_tables_keep_other(space, run);
}

/* Frees the tables that are kept and empty; returns how many. When memory is short the shrinker
 * does so for the spaces that are not locked. */
unsigned spare_tables_free(struct space *space);

#endif

/*
 * Spare tables: tables that an unmap leaves empty are kept for the next map call.
 *
 * A program that unmaps a range often maps one at the same place soon: a stack, a buffer, a part of
 * the heap. So the lowest table of the last path that became empty in a space stays in its tree
 * with those above it, at most levels - 1 tables a space. They are freed when another path of the
 * space becomes empty, before a fork would share them, at the space's end, and when memory is out.
 * The ledger counts them as tables, and AUDIT finds them, since they are in the tree.
 *
 * Units: bytes. Owns: nothing; space->kept has the first address and the level of the path's lowest
 * table. Another range call may have used or freed the tables meanwhile, so each user looks first.
 * State: none (0) -> spare_tables_keep -> kept -> spare_tables_free -> none. Fails with: nothing.
 * Context: the space is locked, no TLB batch is open. Rules: C10, C12.
 */
#ifndef VMM_RANGE_SPARE_TABLES_H
#define VMM_RANGE_SPARE_TABLES_H

#include "paging/tree/run.h"
#include "vmm/space/space.h"

/* Keeps the table of a run, which has become empty, and frees those kept before. */
void spare_tables_keep_other(struct space *space, const struct tree_run *run);

static inline void spare_tables_keep(struct space *space, const struct tree_run *run)
{
    uint64_t place = round_down(run->start, pte_span(run->bottom + 1)) | run->bottom;

    if (space->kept != place)
        spare_tables_keep_other(space, run);
}

/* Frees the kept tables that are empty. Returns their number. If memory is short, a shrinker does
 * so for spaces that are not locked. */
unsigned spare_tables_free(struct space *space);

#endif

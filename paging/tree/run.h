/*
 * Runs: range calls on the entries of one table.
 *
 * Most ranges that programs map and unmap are a run of entries of one table: a page or some, within
 * the 2 MiB of a leaf table; 2 MiB or some, within 1 GiB. Such a range has one path and not two,
 * and needs no step that does not concern it: a walk without a lock finds the path; tables that are
 * missing are filled before anybody can see them, and linked by one store. Those that become empty
 * stay until the caller has them given back. What does not fit goes the way of all ranges
 * (paging/tree/range.c): a run across two tables, a path that is shared or ends at a ticket, the
 * recursive way to the tables.
 *
 * Units: bytes, ranges half-open; levels as in paging/tree/tree.h. Owns: tables taken and not yet
 * linked. State: tree_run_find -> tree_run_take -> tree_run_put or tree_run_give, to map;
 * tree_run_find -> tree_run_clear -> tree_run_empty if it has stopped -> tree_run_give_back, to
 * unmap. Fails with: STATUS_NO_MEMORY from tree_run_take; putting and emptying cannot fail (rule
 * C7). Context: as range calls: the space's regions are locked from the first step to the last.
 * Rules: C7, C10, C12, P2, P4 to P6.
 */
#ifndef PAGING_TREE_RUN_H
#define PAGING_TREE_RUN_H

#include "paging/tree/tree.h"

/* Not initialized as a whole: most of it is not used. */
struct tree_run {
    const struct tree *tree;
    uint64_t start;
    uint16_t count;    /* of entries */
    uint8_t bottom;    /* level of the run's table */
    uint8_t lowest;    /* level of the lowest table that is there: bottom or above */
    struct pfn table;  /* that one */
    struct pte *place; /* its entry for start */
    struct pfn fresh[TREE_LEVELS_MAX - 1]; /* set aside for the levels below, by level less 1 */
};

/* Whether the range, which is sound, is a run, and the path to it is there and own as far as there
 * are tables, with nothing below. */
MUST_USE bool tree_run_find(struct tree_run *run, const struct tree *tree, uint64_t start,
                            uint64_t end);

/* Whether the run's table is there. */
static inline bool tree_run_is_there(const struct tree_run *run)
{
    return run->lowest == run->bottom;
}

/* Whether each of its entries is empty, where nothing is mapped: above level 1 there may still be
 * tables that hold nothing. */
MUST_USE static inline bool tree_run_is_blank(const struct tree_run *run)
{
    if (run->bottom == 1 || !tree_run_is_there(run))
        return true;
    for (unsigned i = 0; i < run->count; i++) {
        if (pte_read(&run->place[i]).word != 0)
            return false;
    }
    return true;
}

/* Sets aside the tables that are missing. STATUS_NO_MEMORY: none are. */
MUST_USE enum status tree_run_take_missing(struct tree_run *run);
MUST_USE static inline enum status tree_run_take(struct tree_run *run)
{
    return tree_run_is_there(run) ? OK : tree_run_take_missing(run);
}

/* Gives them back, when nothing is put. */
void tree_run_give(struct tree_run *run);

/* Every entry of a run that is blank becomes `with`: a ticket or a guard. No translation is
 * stale. */
void tree_run_put(const struct tree_run *run, struct pte with);

/* Entries of a run whose table is there become empty, up to the first that names something or that
 * a processor may have cached: how many. If all are, no translation is stale. */
MUST_USE unsigned tree_run_clear(const struct tree_run *run);

/* The same for whatever stands in the run from an entry on: what they named is dropped. */
void tree_run_empty(const struct tree_run *run, unsigned from, struct tlb_batch *batch);

/* Whether nothing is in the run's table any more, which is there and not the root. */
MUST_USE static inline bool tree_run_is_last(const struct tree_run *run)
{
    return frame_record(run->table)->live == 0 && run->bottom < run->tree->levels;
}

/* Frees the tables of the path that are empty, from the lowest on; returns how many. They are free
 * when the batch is committed. */
unsigned tree_run_give_back(const struct tree_run *run, struct tlb_batch *batch);

#endif

/*
 * Runs: range calls on the entries of one table.
 *
 * Most ranges that programs map and unmap are a run of entries of one table: some pages within the
 * 2 MiB of a leaf table, or some multiples of 2 MiB within 1 GiB. Such a range has one path instead
 * of two, so a shorter procedure suffices. A walk without locks finds the path. Missing tables are
 * filled before they are visible, and linked by one store. Tables that become empty stay until the
 * caller frees them. All other ranges use paging/tree/range.c: a run across two tables, a path that
 * is shared or ends at a ticket, or access through the recursive slot.
 *
 * Units: bytes, ranges half-open; levels as in paging/tree/tree.h. Owns: tables taken and not yet
 * linked. State: tree_run_find -> tree_run_take -> tree_run_put or tree_run_give, to map;
 * tree_run_find -> tree_run_replace -> tree_run_replace_rest if it has stopped ->
 * tree_run_give_back, to unmap. Fails with: STATUS_NO_MEMORY from tree_run_take; putting and
 * emptying cannot fail (rule C7). Context: as range calls: the space's regions are locked from the
 * first step to the last. Rules: C7, C10, C12, P2, P4 to P6.
 */
#ifndef PAGING_TREE_RUN_H
#define PAGING_TREE_RUN_H

#include "paging/tree/tree.h"

/* Only the fields in use are initialised. */
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

/* Returns true if a sound range is a run, and its path is own down to the lowest table, with
 * nothing mapped below. */
MUST_USE bool tree_run_find(struct tree_run *run, const struct tree *tree, uint64_t start,
                            uint64_t end);

/* Returns true if the run's table exists. */
static inline bool tree_run_is_there(const struct tree_run *run)
{
    return run->lowest == run->bottom;
}

/* Returns true if all its entries are empty. Even where nothing is mapped, entries above level 1
 * may reference empty tables. */
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

/* Allocate the missing tables; all or none. Fail with STATUS_NO_MEMORY. */
MUST_USE enum status tree_run_take_missing(struct tree_run *run);
MUST_USE static inline enum status tree_run_take(struct tree_run *run)
{
    return tree_run_is_there(run) ? OK : tree_run_take_missing(run);
}

/* Frees the tables that tree_run_take has allocated, if they are not used. */
void tree_run_give(struct tree_run *run);

/* Sets every entry of a blank run to `with`: a ticket or a guard. No translation becomes stale. */
void tree_run_put(const struct tree_run *run, struct pte with);

/* Runs of at most this many leaves may change with one look at who else runs the tree. */
#define TREE_RUN_ALONE 32U

/* Replaces entries of a run by `with`, a ticket or empty, up to the first that needs a batch.
 * Returns how many. Entries without a target, and not cached, never need one. If no other processor
 * runs the tree, neither do own pages and zero pages of a short run: this processor's translations
 * are flushed at once, and the pages are dropped. */
MUST_USE unsigned tree_run_replace(const struct tree_run *run, struct pte with);

/* Replaces all entries of the run from an index on, and drops their targets. */
void tree_run_replace_rest(const struct tree_run *run, unsigned from, struct pte with,
                           struct tlb_batch *batch);

/* Gives entries of a short run of leaves other rights, up to the first that is neither an own page
 * nor a ticket. Returns how many; 0 if other processors run the tree. Tickets become `ticket`; leaf
 * has the bits of an own page with the new rights, and is empty if there is no access. */
MUST_USE unsigned tree_run_protect(const struct tree_run *run, struct pte ticket, struct pte leaf);

/* Gives all entries of a run of leaves from an index on other rights. */
void tree_run_protect_rest(const struct tree_run *run, unsigned from, struct pte ticket,
                           struct rights rights, struct tlb_batch *batch);

/* Returns true if the run's table is empty and not the root. */
MUST_USE static inline bool tree_run_is_last(const struct tree_run *run)
{
    return frame_record(run->table)->live == 0 && run->bottom < run->tree->levels;
}

/* Frees the path's empty tables, from the lowest up, at the batch's commit. Returns how many. */
unsigned tree_run_give_back(const struct tree_run *run, struct tlb_batch *batch);

#endif

/*
 * Three ways to the tables.
 *
 * An entry stands in a table, and a table is a frame: how does the kernel reach it?
 *
 *   direct     through the direct map of all memory: a walk from the root, a load a level
 *   recursive  through the top table's entry that names the top table itself: the processor does
 *              the walk, and an entry of the loaded tree has an address of its own
 *   window     the top table of space n stands at a fixed place, whether space n is loaded or not;
 *              the rest of the walk is direct
 *
 * All three are there always. Walks read by the one that was chosen. Changes go through the direct
 * map, but for those of a range call on the loaded tree: its path is own and stays so while the
 * regions are locked, so the recursive slot may be used (rule A3). Wherever the recursive slot
 * cannot be used, for a tree that is not loaded or a table that went away in the middle, the direct
 * map serves. The fast path of faults is written for the direct map and is off with the others.
 *
 * With the recursive slot in use the processor sets D also on entries that name tables (rule E8),
 * and translations of tables' addresses go stale when such an entry changes: table_way_changed.
 *
 * Units: addresses in bytes, levels 1 to 5. Owns: the choice. Fails with: nothing.
 * Context: table_access_choose with one processor; the rest as a walk (interrupts off).
 * Spec: Intel SDM volume 3, 4.5 and 4.10.4. Rules: A3, P2.
 */
#ifndef PAGING_TREE_TABLE_ACCESS_H
#define PAGING_TREE_TABLE_ACCESS_H

#include "lib/options.h"
#include "paging/tlb/tlb.h"
#include "paging/tree/tree.h"

/* Chooses the way of walks from now on, and forgets what other ways left in the TLB. */
void table_access_choose(enum table_access way);
extern enum table_access table_access_chosen;
static inline enum table_access table_access(void)
{
    return table_access_chosen;
}

const char *table_access_name(enum table_access way);

/* The chosen way, or the direct map where that cannot reach this tree. */
enum table_access table_access_for(const struct tree *tree);

/* The entry of a level on an address's path, in the table that it stands in. */
static inline struct pte *table_way_direct(struct pfn table, unsigned level, uint64_t address)
{
    return (struct pte *)frame_pointer(table) + pte_index(address, level);
}

/* The entry by another way than the direct map, and its place in the recursive slot. */
struct pte table_access_read_other(enum table_access way, const struct tree *tree, struct pfn table,
                                   unsigned level, uint64_t address);
struct pte *table_way_slot(const struct tree *tree, unsigned level, uint64_t address);

/* Reads the entry of a level on an address's path. The tables above it have been walked: table is
 * the one that it stands in. TABLES_RECURSIVE: the tree is loaded. */
static inline struct pte table_access_read(enum table_access way, const struct tree *tree,
                                           struct pfn table, unsigned level, uint64_t address)
{
    if (way == TABLES_DIRECT)
        return pte_read(table_way_direct(table, level, address));
    return table_access_read_other(way, tree, table, level, address);
}

/* The same entry, to be changed: along an own path, with nobody else at it. */
static inline struct pte *table_access_edit(enum table_access way, const struct tree *tree,
                                            struct pfn table, unsigned level, uint64_t address)
{
    if (way == TABLES_RECURSIVE)
        return table_way_slot(tree, level, address);
    return table_way_direct(table, level, address);
}

/* An entry that names a table was changed in a loaded tree: this processor forgets at once where
 * the recursive slot showed tables, since it may be about to go there, the others by the batch. */
void table_way_changed(struct tlb_batch *batch);

#endif

/*
 * Three methods to reach page tables.
 *
 *   direct     through the direct map of all memory: a walk from the root, one load per level
 *   recursive  through the top table's entry that references the top table itself: the processor
 *              walks, and each entry of the loaded tree has a virtual address
 *   window     the top table of space n is mapped at a fixed address, whether the space is loaded
 *              or not; the rest of the walk is direct
 *
 * All three exist at all times. Walks read by the chosen one. Changes use the direct map, with one
 * exception: range calls on the loaded tree may use the recursive slot, since their path is own and
 * stays own while the regions are locked (rule A3). Where the recursive slot cannot be used (a tree
 * that is not loaded, a table that was removed) the direct map is used instead. The fast path of
 * faults requires the direct map.
 *
 * With the recursive slot the processor sets D also on links (rule E8), and cached translations of
 * tables become stale when a link changes: table_access_changed.
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

/* Chooses the method of walks, and flushes translations of the others. */
void table_access_choose(enum table_access way);
extern enum table_access table_access_chosen;
static inline enum table_access table_access(void)
{
    return table_access_chosen;
}

const char *table_access_name(enum table_access way);

/* Returns the chosen method, or the direct map if that one cannot reach this tree. */
enum table_access table_access_for(const struct tree *tree);

/* Returns the entry of an address in its table, through the direct map. */
static inline struct pte *table_access_direct(struct pfn table, unsigned level, uint64_t address)
{
    return (struct pte *)frame_pointer(table) + pte_index(address, level);
}

/* Return the entry by a method other than the direct map, and its address in the recursive slot. */
struct pte table_access_read_other(enum table_access way, const struct tree *tree, struct pfn table,
                                   unsigned level, uint64_t address);
struct pte *table_access_slot(const struct tree *tree, unsigned level, uint64_t address);

/* Reads the entry of an address in `table`, to which the caller has walked. TABLES_RECURSIVE: the
 * tree must be loaded. */
static inline struct pte table_access_read(enum table_access way, const struct tree *tree,
                                           struct pfn table, unsigned level, uint64_t address)
{
    if (way == TABLES_DIRECT)
        return pte_read(table_access_direct(table, level, address));
    return table_access_read_other(way, tree, table, level, address);
}

/* Returns the address of the same entry, for a change along an own path without concurrency. */
static inline struct pte *table_access_edit(enum table_access way, const struct tree *tree,
                                            struct pfn table, unsigned level, uint64_t address)
{
    if (way == TABLES_RECURSIVE)
        return table_access_slot(tree, level, address);
    return table_access_direct(table, level, address);
}

/* Called after a link of a loaded tree changed: flushes translations of the recursive slot, on this
 * processor at once, since it may use them next, and on the others by the batch. */
void table_access_changed(struct tlb_batch *batch);

/* Sets a new table's level and base address; alone, it is its own ring. */
static inline void tree_place_table(struct pfn table, unsigned level, uint64_t address)
{
    uint64_t base = round_down(address, pte_span(level + 1)) >> 21;
    struct frame *record = frame_record(table);

    record->level = (uint8_t)level;
    record->table.base_low = (uint32_t)base;
    record->base_high = (uint8_t)(base >> 32);
    record->table.ring_or_section = table.index;
}

#endif

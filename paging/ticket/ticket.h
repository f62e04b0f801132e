/*
 * Splitting a ticket on the fast path of faults: all tables down to a leaf table at once.
 *
 * The first touch of a page often ends at a ticket above level 1. The tables below it are filled
 * with the ticket before they are visible, and linked by one store into the own table above, under
 * its lock. No translation becomes stale, since nothing was present there. All other paths belong
 * to tree_make_path: those that are shared, begin at the root, or need memory that is not at hand.
 *
 * Units: bytes. Owns: nothing; the tables belong to the tree. Fails with: NULL: nothing has
 * changed. Context: a fault, interrupts off from the walk on (rule P4). Rules: P4, P6, T2.
 */
#ifndef PAGING_TICKET_TICKET_H
#define PAGING_TICKET_TICKET_H

#include "paging/pte.h"
#include "paging/tree/tree.h"

/* Splits the ticket where the walk of an address ends above level 1, on an own path, down to a leaf
 * table. All entries of the new tables are the ticket. Takes frames of the processor's cache only.
 * Returns the record of the leaf table, which is locked, and sets *leaf to its entry of the
 * address. NULL: the walk ends elsewhere, or the cache has too few frames. */
MUST_USE struct frame *ticket_split(const struct tree *tree, uint64_t address, struct pte ticket,
                                    struct pte **leaf);

#endif

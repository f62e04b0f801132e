/*
 * The one entry of a page: the reverse map's short way, for pages that nothing shares.
 *
 * Most pages have one entry. With the caller's hold it then makes up the page's whole count, and
 * while its table is locked no other can appear: a copy of the table needs the lock, and raises the
 * count first (rule C4). So one look under that lock answers what paging/tree/rmap.c answers by
 * walks around a ring: which entries there are, that there are no others, and which one to change.
 *
 * Units: pages. Owns: nothing; sole_lock hands a table's lock to its caller. Fails with: PTE_EMPTY:
 * the page may have other references, or a lock is held; the caller asks the reverse map.
 * Context: interrupts off from sole_lock to the unlock of the table (rule P4). Rules: C4, R1.
 */
#ifndef PAGING_SOLE_SOLE_H
#define PAGING_SOLE_SOLE_H

#include "paging/pte.h"
#include "paging/tree/tree.h"

/* Locks the table of the one entry of an anonymous page that the caller holds, and stores in *at
 * which that is. Returns the entry's state: leaf, in transit or withheld. */
MUST_USE enum pte_state sole_lock(struct pfn page, struct tree_pointer *at);

/* Replaces the entry that sole_lock found by another one of the page, or by a swapped one. The
 * table's counts stay; the page's back pointer ends with its last entry. Returns the old entry. */
struct pte sole_exchange(struct pfn page, struct tree_pointer at, struct pte with);

/* Returns true if a second entry of a page is in one of the first 64 tables of its ring, from that
 * of the back pointer on: most shared pages show so, without a walk around a long ring. False:
 * there may be others. The caller has locked the table of one of the page's entries. */
bool sole_has_second(struct pfn page);

#endif

/*
 * Collapse: pages of 4 KiB become pages of 2 MiB again, and those become pages of 1 GiB.
 *
 * Splitting is what writes to a shared page, changes of a part and want of memory do
 * (vmm/page/large.h); this is the way back, on request. Where all 512 pages are one block in order
 * still, nothing is copied. Otherwise, where 2 MiB are free as a whole, their content moves there,
 * and what was never touched becomes zeroes. Pages that are out on the swap disk are brought in
 * first. What others share stays, and so does what is in use at the moment or has not the rights of
 * its region all over.
 *
 * Units: bytes; pages of level 2 and 3. Owns: nothing between calls.
 * Fails with: STATUS_AGAIN, STATUS_NO_MEMORY, what bringing in fails with.
 * Context: thread, with the space's lock; it waits for other processors and for the disk.
 * Rules: P2, P6, E8, C2, R1. The steps are in paging/tree/merge.c.
 */
#ifndef VMM_RANGE_COLLAPSE_H
#define VMM_RANGE_COLLAPSE_H

#include "vmm/space/space.h"

/* Collapses every large page that lies in [start, end) as a whole, and in one region. The range is
 * covered by regions other than guards. Returns the worst result: OK: nothing is left to merge.
 * STATUS_AGAIN: a page is in use, shared, or has other rights. STATUS_NO_MEMORY: no block is free.
 * Others: a page could not be brought in. */
MUST_USE enum status collapse_range(struct space *space, uint64_t start, uint64_t end);

/* Since start, in large pages. */
struct collapse_counts {
    uint64_t in_place;
    uint64_t copied;
    uint64_t refused;    /* in use, shared, or unlike the rest */
    uint64_t no_block;   /* none was free, or pages are counted one by one (page_set_limit) */
    uint64_t brought_in; /* pages of 4 KiB */
};

struct collapse_counts collapse_counts(void);

#endif

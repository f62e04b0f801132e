/*
 * Collapse: merges pages of 4 KiB into pages of 2 MiB, and those into pages of 1 GiB.
 *
 * Writes to a shared page, changes of a part, and shortage of memory split large pages
 * (vmm/page/large.h); this reverses it, on request. If all 512 pages are still one block in order,
 * nothing is copied. Otherwise their content is copied to a free block of 2 MiB, if there is one;
 * untouched pages become zeros there, and swapped pages are read first. Pages that are shared, in
 * use, or without the rights of their region are left alone.
 *
 * Units: bytes; pages of level 2 and 3. Owns: nothing between calls. Fails with: STATUS_AGAIN,
 * STATUS_NO_MEMORY, and the errors of reading a swapped page. Context: thread, with the space's
 * lock; it waits for other processors and for the disk. Rules: P2, P6, E8, C2, R1. The steps are in
 * paging/tree/merge.c.
 */
#ifndef VMM_RANGE_COLLAPSE_H
#define VMM_RANGE_COLLAPSE_H

#include "vmm/space/space.h"

/* Collapses every large page that lies in [start, end) as a whole, and in one region. The range is
 * covered by regions other than guards. Returns the worst result. OK: nothing is left to merge.
 * STATUS_AGAIN: a page is in use, shared, or has other rights. STATUS_NO_MEMORY: no block is free.
 * Others: a swapped page could not be read. */
MUST_USE enum status collapse_range(struct space *space, uint64_t start, uint64_t end);

/* Counts since the start, in large pages. */
struct collapse_counts {
    uint64_t in_place;
    uint64_t copied;
    uint64_t refused;    /* in use, shared, or with other rights */
    uint64_t no_block;   /* none was free, or page_set_limit has set a limit */
    uint64_t brought_in; /* swapped pages read, of 4 KiB */
};

struct collapse_counts collapse_counts(void);

#endif

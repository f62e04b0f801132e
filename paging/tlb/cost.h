/*
 * What dropping translations costs on this processor: one page at a time, and all at once.
 *
 * A page costs its INVLPG and what that makes slower afterwards, since it empties the
 * paging-structure caches. All at once costs the load of CR3 and the misses of a working set that
 * was cached before. Where the second is less than so many of the first, a batch drops all.
 *
 * Units: ticks of the time-stamp counter. Owns: a few frames while it measures.
 * Fails with: STATUS_NO_MEMORY. Context: thread of the kernel's own root, on one processor, whose
 * figure serves for all.
 */
#ifndef PAGING_TLB_COST_H
#define PAGING_TLB_COST_H

#include <stdint.h>

#include "lib/status.h"
#include "paging/tlb/tlb.h"

/* Pages that are in use when all is dropped: what the smallest level of today's TLBs holds. */
#define TLB_COST_WORKING_SET 64U

MUST_USE enum status tlb_cost_measure(struct tlb_cost *cost);

#endif

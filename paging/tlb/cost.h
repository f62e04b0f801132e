/*
 * The measured cost of TLB flushes on this processor: by page, and of the whole space.
 *
 * A page costs its INVLPG and the slower walks afterwards, since INVLPG empties the
 * paging-structure caches. A whole flush costs the load of CR3 and the misses of the working set.
 * The ratio of the two is the number of pages from which a batch flushes the whole space.
 *
 * Units: ticks of the time-stamp counter. Owns: a few frames while it measures.
 * Fails with: STATUS_NO_MEMORY. Context: thread in the kernel's own root, on one processor;
 * its figure serves for all.
 */
#ifndef PAGING_TLB_COST_H
#define PAGING_TLB_COST_H

#include <stdint.h>

#include "lib/status.h"
#include "paging/tlb/tlb.h"

/* Pages of the working set: the size of the smallest first-level TLB in use today. */
#define TLB_COST_WORKING_SET 64U

MUST_USE enum status tlb_cost_measure(struct tlb_cost *cost);

#endif

/*
 * Zero merge: replaces pages that contain only zeros by the zero page.
 *
 * The steps (rule R3): check the page and skip it if it is not zero; put its entry in transit, so
 * that accesses wait; shoot down; check again, now that no processor can write; then map the zero
 * page, or restore the entry. Programs read the same values throughout. Pages with several
 * references, withheld pages and pages in the swap cache are skipped.
 *
 * It runs only on request: it reads every page and needs a shootdown for every few zero pages,
 * which pays only if programs clear memory and keep it. It advances the hands of the clocks
 * (vmm/page/page.h), but ignores A bits.
 *
 * Units: pages. Owns: nothing between calls. Fails with: nothing; a page that is in use stays.
 * Context: thread, without any lock or TLB batch; it waits for other processors. Rules: R3, E5, P2.
 */
#ifndef VMM_RECLAIMER_ZERO_MERGE_H
#define VMM_RECLAIMER_ZERO_MERGE_H

#include <stdint.h>

/* Checks this many resident pages, each once. Returns how many frames were freed. */
unsigned zero_merge(unsigned budget);

/* Since start. */
struct zero_merge_counts {
    uint64_t looked_at;
    uint64_t protected;  /* contained only zeros at the first check */
    uint64_t changed;    /* of these: written before the second check */
    uint64_t given_back; /* of these: frames freed */
};

struct zero_merge_counts zero_merge_counts(void);

#endif

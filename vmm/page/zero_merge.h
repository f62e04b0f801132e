/*
 * Merge-back: pages of programs that hold nothing but zeroes become the zero page again.
 *
 * The order of things (rule R3): look, and pass over what is not zero; protect, by putting the
 * page's entry in transit, so that whoever touches it waits; shoot down; look again, now that
 * nobody can write; then replace the entry by one that shows the zero page, or bring it back. What
 * programs read never changes. A page that several entries name, that is withheld or still tied to
 * a slot of the swap area is left alone.
 *
 * Nothing runs it unless asked: it costs a look at every page and a shootdown for each few pages
 * that are zero, and pays only where programs clear memory and keep it. Its looks are turns of the
 * hand of the clocks (vmm/page/page.h), without a look at A bits: pages keep their order.
 *
 * Units: pages. Owns: nothing between calls. Fails with: nothing; a page that is in use stays.
 * Context: thread, without any lock or TLB batch; it waits for other processors. Rules: R3, E5, P2.
 */
#ifndef VMM_PAGE_ZERO_MERGE_H
#define VMM_PAGE_ZERO_MERGE_H

#include <stdint.h>

/* Looks at so many resident pages, each once; returns how many frames came back. */
unsigned zero_merge(unsigned budget);

/* Since start. */
struct zero_merge_counts {
    uint64_t looked_at;
    uint64_t protected;  /* held zeroes at the first look */
    uint64_t changed;    /* of these: written before the second */
    uint64_t given_back; /* of these: frames that are free again */
};

struct zero_merge_counts zero_merge_counts(void);

#endif

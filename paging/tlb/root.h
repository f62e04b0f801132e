/*
 * The part of a tree that the TLB code needs: its root, the processors that run it or walk it, and
 * the translations that others may have cached. The rest of the tree is in paging/tree/tree.h.
 *
 * Owns: nothing; the tree owns its root. Context: any.
 */
#ifndef PAGING_TLB_ROOT_H
#define PAGING_TLB_ROOT_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/units.h"
#include "paging/tlb/pcid.h"

struct tree {
    struct pfn root;
    uint16_t number;     /* of the space, for the window of top tables */
    uint8_t levels;      /* 4 or 5; plain: 1 to 5 */
    bool forking;        /* the root's lock: no path is made own until the fork is flushed */
    bool plain;          /* no processor walks it (paging/plain/plain.h) */
    uint64_t end;        /* of its addresses */
    uint64_t processors; /* those that run the tree, a bit each; atomic */
    uint64_t walkers;    /* those that walk it without running it (rule P5), likewise */
    struct pcid_context context; /* for processors that ran the tree before */
};

#endif

/*
 * Between the two halves of LLFree: pmm/alloc/llfree.c (trees and reservations) and
 * pmm/alloc/llfree_lower.c (areas of 2 MiB and their bits).
 *
 * There are no locks: each change is one compare-and-swap of one word. A counter never exceeds the
 * free frames below it: frames are claimed from the top down (tree counter, area counter, bits) and
 * freed from the bottom up.
 *
 * Units: frames. Owns: the metadata handed to start.
 * Context: any, also in a fault; never waits.
 * Spec: Wrenger et al., LLFree: Scalable and Optionally-Persistent Page-Frame Allocation, USENIX
 * ATC'23, section 4.
 */
#ifndef PMM_ALLOC_LLFREE_INTERNAL_H
#define PMM_ALLOC_LLFREE_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/status.h"

#define AREA_FRAMES 512U
#define AREA_WORDS  (AREA_FRAMES / 64U)

/* Areas of a tree: 32 MiB, so that a machine of 64 MiB has more than one tree. */
#define TREE_AREAS  16U
#define TREE_FRAMES (TREE_AREAS * AREA_FRAMES)

/* An area's word: the free frames, or a mark that it is taken as one block of 2 MiB. */
#define AREA_FREE_MASK UINT16_C(0x3ff)
#define AREA_HUGE      (UINT16_C(1) << 15)

struct llfree_area {
    uint64_t taken[AREA_WORDS]; /* one bit per frame; all clear while the area is AREA_HUGE */
};

_Static_assert(sizeof(struct llfree_area) == 64, "an area's bits are one cache line");

struct llfree_lower {
    struct llfree_area *areas;
    uint16_t *words; /* of the areas */
    uint64_t count;  /* areas */
};

/* Initialises count areas; every frame is taken. */
void lower_start(struct llfree_lower *lower, uint64_t count);

/* Frees frames of one area, at the start. */
void lower_add(struct llfree_lower *lower, uint64_t first, uint64_t count);

/* Takes a block of order 0 to 9 from the areas [from, to), beginning at the area of the frame near.
 * The caller has claimed the frames in the tree. Returns STATUS_NO_MEMORY if the free frames are
 * too scattered. */
MUST_USE enum status lower_take(struct llfree_lower *lower, uint64_t from, uint64_t to,
                                uint64_t near, unsigned order, uint64_t *first);

/* Takes up to `most` single frames of one word of bits, which the caller has claimed in the tree:
 * bit i of the mask is frame first + i. Returns how many; 0 if no area has a free frame now. */
unsigned lower_take_some(struct llfree_lower *lower, uint64_t from, uint64_t to, uint64_t near,
                         unsigned most, uint64_t *first, uint64_t *mask);

/* Takes all 64 frames from first on, a multiple of 64, if all are free. */
bool lower_take_word(struct llfree_lower *lower, uint64_t first);

/* Takes a whole area as one block. Returns false unless all of it is free. */
bool lower_take_area(struct llfree_lower *lower, uint64_t area);

void lower_give(struct llfree_lower *lower, uint64_t first, unsigned order);

/* Frees the count frames of one word that the mask names; first is the word's first frame. */
void lower_give_some(struct llfree_lower *lower, uint64_t first, uint64_t mask, unsigned count);

/* Turns an area taken as one block into 512 taken frames. */
void lower_split_area(struct llfree_lower *lower, uint64_t area);

/* Turns an area of 512 taken frames into one that is taken as one block. */
void lower_join_area(struct llfree_lower *lower, uint64_t area);

bool lower_is_free(const struct llfree_lower *lower, uint64_t frame);

/* Returns the free frames of an area by its bits; panics if its word differs. */
uint64_t lower_audit_area(const struct llfree_lower *lower, uint64_t area);

#endif

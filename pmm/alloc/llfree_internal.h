/*
 * Between the two halves of LLFree: pmm/alloc/llfree.c (trees and reservations) and
 * pmm/alloc/llfree_lower.c (areas of 2 MiB and their bits).
 *
 * No lock anywhere: every change is one compare-and-swap of one word, and every counter promises
 * no more than what lies below it. Frames are claimed from the top down (a counter first, then the
 * area's, then bits) and given back from the bottom up, so that what a counter says is there to
 * be found.
 *
 * Units: frames. Owns: the metadata handed to start.
 * Context: any, also in a fault; nobody waits for anybody.
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

/* An area's word: how many frames are free, or that it is taken as one block of 2 MiB. */
#define AREA_FREE_MASK UINT16_C(0x3ff)
#define AREA_HUGE      (UINT16_C(1) << 15)

struct llfree_area {
    uint64_t taken[AREA_WORDS]; /* a bit a frame; all clear while the area is AREA_HUGE */
};

_Static_assert(sizeof(struct llfree_area) == 64, "an area's bits are one cache line");

struct llfree_lower {
    struct llfree_area *areas;
    uint16_t *words; /* of the areas */
    uint64_t count;  /* areas */
};

/* Makes count areas with every frame taken. */
void lower_start(struct llfree_lower *lower, uint64_t count);

/* Makes taken frames of one area free, at the start. */
void lower_add(struct llfree_lower *lower, uint64_t first, uint64_t count);

/* Takes a block of order 0 to 9 from the areas [from, to), beginning at the one of the frame near.
 * The caller has claimed as many frames of the tree; STATUS_NO_MEMORY when they are scattered. */
MUST_USE enum status lower_take(struct llfree_lower *lower, uint64_t from, uint64_t to,
                                uint64_t near, unsigned order, uint64_t *first);

/* Takes single frames that lie in one word of bits, at most so many, which the caller has claimed
 * of the tree: bit i of the mask is frame first + i. How many; 0 when no area has any at the
 * moment. */
unsigned lower_take_some(struct llfree_lower *lower, uint64_t from, uint64_t to, uint64_t near,
                         unsigned most, uint64_t *first, uint64_t *mask);

/* The same for the one word with the frame first, a multiple of 64, if all of its frames are
 * free. */
bool lower_take_word(struct llfree_lower *lower, uint64_t first);

/* Takes one whole free area as a block; false when it is not free as a whole. */
bool lower_take_area(struct llfree_lower *lower, uint64_t area);

void lower_give(struct llfree_lower *lower, uint64_t first, unsigned order);

/* The count single frames of a word of bits that mask names; first is the word's first. */
void lower_give_some(struct llfree_lower *lower, uint64_t first, uint64_t mask, unsigned count);

/* Turns an area taken as one block into 512 taken frames. */
void lower_split_area(struct llfree_lower *lower, uint64_t area);

/* Turns an area of 512 taken frames into one that is taken as one block. */
void lower_join_area(struct llfree_lower *lower, uint64_t area);

bool lower_is_free(const struct llfree_lower *lower, uint64_t frame);

/* Free frames of an area by its bits; panics when its word says something else. */
uint64_t lower_audit_area(const struct llfree_lower *lower, uint64_t area);

#endif

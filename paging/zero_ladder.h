/*
 * The zero ladder: the shared zero page and zero tables, which map zeros of every entry size.
 *
 * Five consecutive frames: the zero page, and one zero table for each level 1 to 4. Each entry of
 * the level-1 table maps the zero page; each entry of a higher one links the table below. So one
 * level-4 entry that links the level-3 table maps 512 GiB of readable zeros. One ladder serves all
 * rights: the entry that links it carries them. The entries inside allow all but writes, since
 * their class is COW (rule C8).
 *
 * The frames are never counted, freed or written. Walks stop at a link to one, as at a ticket, and
 * a write splits the link along its own path.
 *
 * Units: a link at level n maps the zero page for n = 1, else the zero table of level n - 1. Owns:
 * the frames' records, which are saturated. Fails with: nothing. Context: any; building happens
 * before the frames become read-only. Spec: Intel SDM volume 3, 4.5. Rules: C8, E1, E2, A2.
 */
#ifndef PAGING_ZERO_LADDER_H
#define PAGING_ZERO_LADDER_H

#include "paging/pte.h"

/* The zero page and the tables of levels 1 to 4. */
#define ZERO_LADDER_FRAMES 5U

/* The first frame of the ladder: the zero page. */
extern struct pfn zero_ladder_first;

/* Writes the tables. frames: where they are writable now; first: their first frame number. */
void zero_ladder_build(void *frames, struct pfn first);

/* Sets the ladder and initialises its frame records. Called once, before any tree exists. */
void zero_ladder_init(struct pfn first);

static inline struct pfn tree_zero_page(void)
{
    return zero_ladder_first;
}

static inline bool zero_ladder_has(struct pfn frame)
{
    return frame.index - zero_ladder_first.index < ZERO_LADDER_FRAMES;
}

/* Returns an entry of this level that maps zeros with these rights. */
static inline struct pte zero_ladder_entry(unsigned level, struct rights rights)
{
    struct pfn frame = {zero_ladder_first.index + level - 1};

    CHECK(level >= 1 && level <= ZERO_LADDER_FRAMES);
    return level == 1 ? pte_leaf(frame, 1, PTE_COW, rights) : pte_link(frame, PTE_COW, rights);
}

#endif

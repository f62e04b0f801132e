/*
 * The zero ladder: memory that reads as zero, of every size that one entry can stand for.
 *
 * Five frames, one behind the other: the zero page, and a zero table of each level 1 to 4. Every
 * entry of the zero table of level 1 shows the zero page, every entry of the one above it links
 * that table, and so on: an entry of level 4 that links the zero table of level 3 is 512 GiB of
 * readable zeroes. One ladder serves all rights: the entry that links it carries them, and those
 * inside allow everything but a write, which the class COW keeps from all of them (rule C8).
 *
 * The frames are never counted, freed or written: a link to one is a terminal of walks, like a
 * ticket, and a write splits it down its own path.
 *
 * Units: level n of a link is that of the table it stands in: it shows the page for 1, else the
 * zero table of level n - 1. Owns: the frames' records, which are saturated.
 * Fails with: nothing. Context: any; building happens before the frames become read-only.
 * Spec: Intel SDM volume 3, 4.5. Rules: C8, E1, E2, A2.
 */
#ifndef PAGING_ZERO_LADDER_H
#define PAGING_ZERO_LADDER_H

#include "paging/pte.h"

/* The zero page and the tables of levels 1 to 4. */
#define ZERO_LADDER_FRAMES 5U

/* Its first frame, the zero page. */
extern struct pfn zero_ladder_first;

/* Writes the tables; frames says where they can be written now, first which frames they are. */
void zero_ladder_build(void *frames, struct pfn first);

/* Names the ladder, and gives its frames their records. Once, before any tree is made. */
void zero_ladder_init(struct pfn first);

static inline bool zero_ladder_has(struct pfn frame)
{
    return frame.index - zero_ladder_first.index < ZERO_LADDER_FRAMES;
}

/* The entry of a table of this level that shows zeroes with these rights. */
static inline struct pte zero_ladder_entry(unsigned level, struct rights rights)
{
    struct pfn frame = {zero_ladder_first.index + level - 1};

    CHECK(level >= 1 && level <= ZERO_LADDER_FRAMES);
    return level == 1 ? pte_leaf(frame, 1, PTE_COW, rights) : pte_link(frame, PTE_COW, rights);
}

#endif

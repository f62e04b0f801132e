/*
 * Between the files of address spaces: space.c, region.c.
 *
 * Owns: nothing. Context: as space.h says.
 */
#ifndef VMM_SPACE_INTERNAL_H
#define VMM_SPACE_INTERNAL_H

#include <bsd/sys/queue.h>

#include "pmm/pool.h"
#include "vmm/space.h"

/* A space with its place in the list of all: the space comes first. */
struct space_record {
    struct space space;
    LIST_ENTRY(space_record) link;
};

_Static_assert(offsetof(struct space_record, space) == 0, "a space is its record");

/* Gives a tree the lowest free number and shows its root in the window of top tables.
 * STATUS_LIMIT: all are taken; STATUS_NO_MEMORY. */
MUST_USE enum status space_number_take(struct tree *tree);

/* Gives the number back, before the root goes. Waits for every processor at times. */
void space_number_give(const struct tree *tree);

/* What regions are cut from. */
extern struct pool region_pool;

int region_compare(const struct region *a, const struct region *b);

void space_lock(struct space *space);
void space_unlock(struct space *space);

/* Adds a region that overlaps none, with one more count on its descriptor (NULL: a guard). */
MUST_USE enum status region_insert(struct space *space, uint64_t start, uint64_t end,
                                   struct descriptor *descriptor);

/* Takes a region out and its count off the descriptor. */
void region_remove(struct space *space, struct region *region);

#endif

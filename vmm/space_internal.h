/*
 * Between the files of address spaces: space.c, space_number.c, region.c, map.c, protect.c, advise.c,
 * populate.c, remap.c, move.c.
 *
 * Owns: nothing. Context: as space.h says; the space's lock is held, where not said otherwise.
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

void space_lock(struct space *space);
void space_unlock(struct space *space);

/* STATUS_RANGE unless the range is whole pages of the lower half, page 0 left out. */
MUST_USE enum status space_check_range(const struct space *space, uint64_t start, uint64_t size);

/* What stands in the entries of a range that is mapped. */
enum space_blank {
    BLANK_TICKETS, /* what the region says: tickets, or guards */
    BLANK_ZEROES   /* zeroes where there is access, so that reads do not fault */
};

/* The bodies of space_map and space_unmap, for calls that hold the lock and have checked the range;
 * what is promised is accounted in them. STATUS_NO_MEMORY: the caller makes room and starts over. */
MUST_USE enum status space_fill_range(struct space *space, uint64_t start, uint64_t end,
                                      const struct region_what *what, enum space_blank blank);
MUST_USE enum status space_empty_range(struct space *space, uint64_t start, uint64_t end);

/* Makes a page of every page of [start, end), which lies in one region, as an access would that is a
 * write where the region allows it. The lock is held, so that it stays the region's. */
MUST_USE enum status space_populate(struct space *space, const struct region *region,
                                    uint64_t start, uint64_t end);

/* ---- regions (region.c) ---- */

static inline struct region *region_of(struct region_node *node)
{
    return (struct region *)node;
}

/* The first region that ends after the address; the one after a region. NULL: none. */
static inline struct region *region_find(const struct space *space, uint64_t address)
{
    return region_of(region_tree_find(&space->regions, address));
}

static inline struct region *region_next(struct region *region)
{
    return region_of(region_tree_next(&region->node));
}

static inline uint64_t region_pages(const struct region *region)
{
    return (region->node.end - region->node.start) / PAGE_SIZE;
}

/* Adds a range that overlaps no region: to a neighbour that says the same, or as a region of its
 * own, which takes one more count of the descriptor. STATUS_NO_MEMORY. */
MUST_USE enum status region_add(struct space *space, uint64_t start, uint64_t end,
                                const struct region_what *what);

/* Makes a boundary at each end of the range: a region across it becomes two. No entry changes (T1).
 * STATUS_NO_MEMORY: everything is as before. */
MUST_USE enum status region_cut(struct space *space, uint64_t start, uint64_t end);

/* Takes the regions of a range out, at whose ends there are boundaries. */
void region_remove_range(struct space *space, uint64_t start, uint64_t end);

/* Joins neighbours that say the same, from the one that touches start to the one that touches end.
 */
void region_merge_range(struct space *space, uint64_t start, uint64_t end);

/* Gives the region [start, end) the free range [to, new_end), and joins it with neighbours there that
 * say the same. */
void region_move(struct space *space, uint64_t start, uint64_t end, uint64_t to, uint64_t new_end);

/* The region at start, when every page of the range is in a region that is no guard; else NULL. */
struct region *region_find_covered(const struct space *space, uint64_t start, uint64_t end);

/* Gives the regions of a range, at whose ends there are boundaries, another descriptor. */
void region_set_descriptor(struct space *space, uint64_t start, uint64_t end,
                           struct descriptor *descriptor);

/* Copies all regions into a space that has none, which no other processor knows yet; takes all of
 * them out of a space that nobody uses any more. */
MUST_USE enum status region_copy_all(struct space *child, const struct space *parent);
void region_remove_all(struct space *space);

/* Compares the regions with each other and with the space's figures; panics on a difference. */
void region_audit(const struct space *space);

#endif

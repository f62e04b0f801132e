/*
 * Regions of a space, for the calls on ranges: finding, adding, cutting, joining and removing them.
 *
 * Units: bytes; ranges are half-open and whole pages. Owns: a region's count of its descriptor.
 * Fails with: STATUS_NO_MEMORY; nothing has changed then.
 * Context: thread; the space's lock is held, where not said otherwise. Rules: T1, T2, P1.
 */
#ifndef VMM_SPACE_REGION_H
#define VMM_SPACE_REGION_H

#include "vmm/space/space.h"

/* The end of a space: locks it for good, so that no one who looks for kept memory finds it, and
 * takes it off the list. Then, when nothing of a section is mapped in it, frees it. */
void space_retire(struct space *space);
void space_free(struct space *space);

/* Visits all spaces, for AUDIT: no call creates or ends one meanwhile. */
void space_visit_all(void (*visit)(const struct space *space, void *context), void *context);

static inline void space_lock(struct space *space)
{
    mutex_lock(&space->lock);
    space->calls++;
}

static inline void space_unlock(struct space *space)
{
    mutex_unlock(&space->lock);
}

/* Finds an unlocked space for which `keeps` returns true (called without the lock), and locks it.
 * Returns NULL if there is none. */
struct space *space_lock_one_that_keeps(bool (*keeps)(const struct space *space));

static inline struct region *region_of(struct region_node *node)
{
    return (struct region *)node;
}

static inline struct region_node *node_of(struct region *region)
{
    return (struct region_node *)region;
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

/* The neighbours of an address in a gap; NULL: none. */
struct region_gap {
    struct region *before;
    struct region *next; /* as region_find: it may begin at the address */
};

static inline struct region_gap region_find_gap(const struct space *space, uint64_t address)
{
    struct region_node *before;
    struct region_node *next = region_tree_find_both(&space->regions, address, &before);

    return (struct region_gap){region_of(before), region_of(next)};
}

/* Adds a range in a gap: to a neighbour with equal attributes, or as a new region. Takes over the
 * caller's count of the descriptor, except on failure: STATUS_NO_MEMORY. */
MUST_USE enum status region_add(struct space *space, struct region_gap gap, uint64_t start,
                                uint64_t end, const struct region_attributes *what);

/* Makes a boundary at each end of the range: a region across it becomes two. No entry changes (T1).
 * STATUS_NO_MEMORY: everything is as before. */
MUST_USE enum status region_cut(struct space *space, uint64_t start, uint64_t end);

/* Takes the regions of a range out, at whose ends there are boundaries; or one. */
void region_remove_range(struct space *space, uint64_t start, uint64_t end);
void region_remove(struct space *space, struct region *region);

/* Says of the regions of a range, at whose ends there are boundaries, whether they are wired, which
 * commits them, and that nothing is on its way any more; joins neighbours that then say the
 * same. */
void region_settle(struct space *space, uint64_t start, uint64_t end, bool wired);

/* Joins neighbours that say the same, from the one that touches start to the one that touches end.
 */
void region_merge_range(struct space *space, uint64_t start, uint64_t end);

/* Gives the region [start, end) the free range [to, new_end), and joins it with neighbours there
 * that say the same. */
void region_move(struct space *space, uint64_t start, uint64_t end, uint64_t to, uint64_t new_end);

/* The region at start, when every page of the range is in a region that is no guard; else NULL. */
struct region *region_find_covered(const struct space *space, uint64_t start, uint64_t end);

/* What says the same rights of private regions and of shared ones; without shared regions NULL. */
struct region_descriptors {
    struct descriptor *blank;
    struct descriptor *shared;
};

/* Gives the regions of a range, at whose ends there are boundaries, other descriptors. */
void region_set_descriptors(struct space *space, uint64_t start, uint64_t end,
                            const struct region_descriptors *descriptors);

/* Copy all regions into an empty space that is not visible yet; remove all regions from a space
 * that is no longer in use. */
MUST_USE enum status region_copy_all(struct space *child, const struct space *parent);
void region_remove_all(struct space *space);

/* Compares the regions with each other and with the space's figures; panics on a difference. */
void region_audit(const struct space *space);

#endif

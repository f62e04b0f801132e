/*
 * Regions of a space, for the calls on ranges: finding, adding, cutting, merging and removing them.
 *
 * Units: bytes; ranges are half-open and whole pages. Owns: a region's count of its descriptor.
 * Fails with: STATUS_NO_MEMORY; nothing has changed then. Context: thread; the space's lock is held
 * unless a comment says otherwise. Rules: T1, T2, P1.
 */
#ifndef VMM_SPACE_REGION_H
#define VMM_SPACE_REGION_H

#include "paging/kernel/layout.h"
#include "vmm/space/space.h"

_Static_assert(sizeof(struct region) == sizeof(struct tree_range) &&
                   offsetof(struct region, what) == offsetof(struct tree_range, words),
               "a range of the tree is its region");

/* Returns STATUS_RANGE unless the range is whole pages of the lower half without page 0. */
MUST_USE static inline enum status space_check_range(const struct space *space, uint64_t start,
                                                     uint64_t size)
{
    uint64_t limit = lower_half_end(space->tree.levels);

    if (size == 0 || (start | size) % PAGE_SIZE != 0 || start < PAGE_SIZE || start >= limit ||
        size > limit - start)
        return STATUS_RANGE;
    return OK;
}

/* Visits all spaces, for AUDIT. No call may create or end one meanwhile. */
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

/* Return the first region that ends after the address, and the next region; NULL if there is
 * none. */
static inline const struct region *region_find(const struct space *space, uint64_t address)
{
    return (const struct region *)range_tree_find(&space->regions, address);
}

static inline const struct region *region_next(const struct space *space,
                                               const struct region *region)
{
    return (const struct region *)range_tree_next(&space->regions,
                                                  (const struct tree_range *)region);
}

/* Makes what the tree has about the regions of a range the space's own, so that a call below that
 * cannot fail may change them: with those that touch its ends, or without. STATUS_NO_MEMORY:
 * nothing has changed. Pointers to regions end (rule C14). */
MUST_USE enum status region_own(struct space *space, uint64_t start, uint64_t end);
MUST_USE static inline enum status region_own_inside(struct space *space, uint64_t start,
                                                     uint64_t end)
{
    return space->regions.shared ? region_own(space, start + 1, end - 1) : OK;
}

/* Why a region is not merged with equal neighbours. */
enum region_apart {
    REGION_MERGES,
    REGION_POPULATES, /* being populated: until then */
    REGION_TIED       /* of a mapping that is lent or borrowed, whose ends are ends of regions */
};

/* Sets why the regions of a range are not merged; none of them crosses its ends. Those that change
 * are own. */
void region_set_apart(struct space *space, uint64_t start, uint64_t end, enum region_apart apart);

/* Makes guards of the regions of a range, which are own; they keep their descriptors. */
void region_make_guards(struct space *space, uint64_t start, uint64_t end);

static inline uint64_t region_pages(const struct region *region)
{
    return (region->node.end - region->node.start) / PAGE_SIZE;
}

/* The neighbours of an address in a gap; NULL: none. */
struct region_gap {
    const struct region *before;
    const struct region *next; /* as region_find: may begin at the address */
};

static inline struct region_gap region_find_gap(const struct space *space, uint64_t address)
{
    const struct tree_range *before;
    const struct tree_range *next = range_tree_find_both(&space->regions, address, &before);

    return (struct region_gap){(const struct region *)before, (const struct region *)next};
}

/* Adds a range in a gap: to a neighbour with equal attributes, or as a new region. Takes over the
 * caller's count of the descriptor, unless it fails with STATUS_NO_MEMORY. Afterwards the region
 * and its neighbours are own. */
MUST_USE enum status region_add(struct space *space, struct region_gap gap, uint64_t start,
                                uint64_t end, const struct region_attributes *what);

/* Splits the regions that cross an end of the range, and makes all of it own. No entry changes
 * (rule T1). STATUS_NO_MEMORY: nothing has changed. */
MUST_USE enum status region_cut(struct space *space, uint64_t start, uint64_t end);

/* Remove the regions of a range, none of which crosses its ends; or the region at start. They are
 * own. */
void region_remove_range(struct space *space, uint64_t start, uint64_t end);
void region_remove(struct space *space, uint64_t start);

/* Sets or clears the wired attribute of the regions of a range, and ends populating; wired
 * regions become committed. Merges neighbours with equal attributes. No region crosses the range's
 * ends, and all are own. */
void region_settle(struct space *space, uint64_t start, uint64_t end, bool wired);

/* Merges neighbours with equal attributes, from the region that touches start to the one that
 * touches end. They are own. */
void region_merge_range(struct space *space, uint64_t start, uint64_t end);

/* Cuts the range [start, end), and reserves what region_move needs. Fails as region_cut. Otherwise
 * region_move follows, before any other change of regions. */
MUST_USE enum status region_prepare_move(struct space *space, uint64_t start, uint64_t end,
                                         uint64_t to, uint64_t new_end);

/* Moves the region [start, end), which is own, to the free range [to, new_end), and merges it there
 * with neighbours that have equal attributes. */
void region_move(struct space *space, uint64_t start, uint64_t end, uint64_t to, uint64_t new_end);

/* Returns the region at start if regions other than guards cover the whole range; otherwise
 * NULL. `first`: as region_find of start. */
const struct region *region_find_covered_from(const struct space *space, const struct region *first,
                                              uint64_t start, uint64_t end);

/* The same; usually one region covers the range. */
static inline const struct region *region_find_covered(const struct space *space, uint64_t start,
                                                       uint64_t end)
{
    const struct region *first = region_find(space, start);

    if (first != NULL && first->node.start <= start && end <= first->node.end &&
        first->what.kind != REGION_GUARD)
        return first;
    return region_find_covered_from(space, first, start, end);
}

/* Descriptors with the same rights for each kind of region; those of sections' pages are NULL if
 * there are no such regions. */
struct region_descriptors {
    struct descriptor *blank;
    struct descriptor *shared;
    struct descriptor *copies;
};

static inline struct descriptor *region_descriptor(const struct region_descriptors *descriptors,
                                                   enum region_kind kind)
{
    return kind == REGION_SHARED ? descriptors->shared
           : kind == REGION_COPY ? descriptors->copies
                                 : descriptors->blank;
}

/* What two regions must have in common beside the descriptor, as one word. */
#define ATTRIBUTES_SIZE                                                                            \
    (sizeof(struct region_attributes) - offsetof(struct region_attributes, kind))

_Static_assert(ATTRIBUTES_SIZE == 8 && sizeof(enum region_kind) == 4, "no byte between the fields");

static inline bool attributes_equal(const struct region_attributes *a,
                                    const struct region_attributes *b)
{
    return a->descriptor == b->descriptor &&
           __builtin_memcmp(&a->kind, &b->kind, ATTRIBUTES_SIZE) == 0 && a->apart == REGION_MERGES;
}

/* Returns true if a section backs the regions of a kind. */
static inline bool region_has_section(enum region_kind kind)
{
    return kind == REGION_SHARED || kind == REGION_COPY;
}

/* Changes the descriptors of the regions of a range, none of which crosses its ends. They are
 * own. */
void region_set_descriptors(struct space *space, uint64_t start, uint64_t end,
                            const struct region_descriptors *descriptors);

/* The same for place.next alone, whose neighbour below is place.before. Takes over the caller's
 * count of the descriptor. It and what touches it are own. */
void region_take_descriptor(struct space *space, struct region_gap place,
                            struct descriptor *descriptor);

/* Makes all regions those of an empty space, too, which is not visible yet: at a cost that does not
 * depend on their number, but for the wired ones, which are not wired there. STATUS_NO_MEMORY. */
MUST_USE enum status region_copy_all(struct space *child, struct space *parent);

/* Removes about so many regions from a space that is no longer in use; a node that another space
 * shares costs as much as one. Returns true once none is left. */
MUST_USE bool region_remove_some(struct space *space, unsigned most);

#endif

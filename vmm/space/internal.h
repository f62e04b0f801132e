/*
 * Between the files of address spaces: space.c, space_number.c, region.c, map.c, protect.c,
 * advise.c, populate.c, remap.c, move.c, wire.c, wire_fork.c, section.c.
 *
 * Owns: nothing. Context: as space.h says; the space's lock is held, where not said otherwise.
 */
#ifndef VMM_SPACE_INTERNAL_H
#define VMM_SPACE_INTERNAL_H

#include <bsd/sys/queue.h>

#include "pmm/pool.h"
#include "vmm/fault/fault.h"
#include "vmm/space/space.h"

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

/* Finds a space that is not locked and keeps something, as `keeps` says of it without its lock, and
 * locks it. NULL: there is none. */
struct space *space_lock_one_that_keeps(bool (*keeps)(const struct space *space));

static inline void space_lock(struct space *space)
{
    mutex_lock(&space->lock);
    space->calls++;
}

static inline void space_unlock(struct space *space)
{
    mutex_unlock(&space->lock);
}

/* STATUS_RANGE unless the range is whole pages of the lower half, page 0 left out. */
MUST_USE enum status space_check_range(const struct space *space, uint64_t start, uint64_t size);

/* What stands in the entries of a range that is mapped. */
enum space_blank {
    BLANK_TICKETS, /* what the region says: tickets, or guards */
    BLANK_ZEROES   /* zeroes where there is access, so that reads do not fault */
};

/* The bodies of space_map and space_unmap, for calls that hold the lock and have checked the range;
 * what is promised is accounted in them. The region takes a count of its own of the descriptor.
 * STATUS_NO_MEMORY: the caller makes room and starts over. */
MUST_USE enum status space_fill_range(struct space *space, uint64_t start, uint64_t end,
                                      const struct region_attributes *what, enum space_blank blank);

/* first is the region that covers start, or the next one. */
MUST_USE enum status space_empty_range(struct space *space, struct region *first, uint64_t start,
                                       uint64_t end);

/* The range is covered: what its descriptor says of it is what this one says, and is accounted.
 * Failure is as that of space_protect. */
MUST_USE enum status space_change_descriptor(struct space *space, uint64_t start, uint64_t end,
                                             struct descriptor *descriptor);

/* Makes a page of every page of [start, end), which lies in one region, as an access would that is
 * a write where the region allows it. The lock is held, so that it stays the region's. */
MUST_USE enum status space_populate(struct space *space, const struct region *region,
                                    uint64_t start, uint64_t end);

/* Fills the entries [from, to) of a locked leaf table on an own path with cleared pages, as far as
 * they are the descriptor's tickets and this processor's caches have frames; how many. No limit of
 * resident pages is looked at. */
unsigned space_fill_tickets(struct pfn table, unsigned from, unsigned to,
                            const struct descriptor *descriptor);

/* One step of that, by an access of the caller's: fills a run of tickets from start on, or resolves
 * one access. *filled: pages, 0 when others were there at the same time. */
MUST_USE enum status space_bring(struct space *space, const struct region *region, uint64_t start,
                                 uint64_t end, struct fault_access access, unsigned *filled);

/* Calls visit for each lowest entry on the range, with its table locked: at names it, and of large
 * pages it has a level above 1. Needs the lock only for the range to stay what it is. */
void space_visit_pages(const struct space *space, uint64_t start, uint64_t end,
                       void (*visit)(struct pte *at, unsigned level, void *context), void *context);

/* Whether a locked entry names a page, as a leaf or withheld: the zero page is none. */
bool space_names_page(struct pte entry, unsigned level, struct pfn *page);

/* space_fill_range with its pages, wired or not: the region then stands apart until one of the two
 * behind it is called, neither of which can fail. *came: it was at pages that it failed, which
 * nothing that the caller does would mend. */
MUST_USE enum status space_fill_now(struct space *space, uint64_t start, uint64_t end,
                                    const struct region_attributes *what, bool wired, bool *came);
void space_fill_keep(struct space *space, uint64_t start, uint64_t end, bool wired);
void space_fill_undo(struct space *space, uint64_t start, uint64_t end, bool wired);

/* ---- wired pages (wire.c, wire_fork.c) ---- */

/* After a change of rights of a range: its wired pages are their space's own again. */
void wire_mend(struct space *space, uint64_t start, uint64_t end);

/* In a fork whose flush is over, between tree_fork and tree_fork_end: the child gets copies of what
 * is wired in the parent, whose pages and tables of them are its own afterwards. When memory does
 * not suffice for that, the child's tree is empty. */
MUST_USE enum status wire_fork(struct space *child, struct space *parent);

/* ---- regions (region.c) ---- */

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

/* The neighbours of an address in a gap; NULL: there is none. */
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

/* Adds a range to the gap in which it lies: to a neighbour that says the same, or as a region of
 * its own. The caller's count of the descriptor goes with it. STATUS_NO_MEMORY: it does not. */
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

/* Copies all regions into a space that has none, which no other processor knows yet; takes all of
 * them out of a space that nobody uses any more. */
MUST_USE enum status region_copy_all(struct space *child, const struct space *parent);
void region_remove_all(struct space *space);

/* Compares the regions with each other and with the space's figures; panics on a difference. */
void region_audit(const struct space *space);

#endif

/*
 * Between the files of calls on ranges.
 *
 * Owns: nothing. Fails with: as space.h says. Context: thread; the space's lock is held, where not
 * said otherwise.
 */
#ifndef VMM_RANGE_INTERNAL_H
#define VMM_RANGE_INTERNAL_H

#include "vmm/fault/fault.h"
#include "vmm/space/commit.h"
#include "vmm/space/region.h"

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

#endif

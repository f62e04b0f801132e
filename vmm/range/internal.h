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

/* Initial entries of a range that is mapped. */
enum space_blank {
    BLANK_TICKETS, /* what the region says: tickets, or guards */
    BLANK_ZEROES   /* zeroes where there is access, so that reads do not fault */
};

/* Maps a range behind another, or unmaps one, for callers that hold the lock and have checked the
 * range; charges or uncharges its pages. Shared memory goes on with the section of an object. The
 * region takes a count of its own of the descriptor. STATUS_NO_MEMORY: the caller reclaims and
 * retries. */
MUST_USE enum status space_fill_range(struct space *space, uint64_t start, uint64_t end,
                                      const struct region_attributes *what, enum space_blank blank);

/* first is the region that covers start, or the next one. */
MUST_USE enum status space_empty_range(struct space *space, struct region *first, uint64_t start,
                                       uint64_t end);

/* Gives a covered range another descriptor with the same rights. Fails as space_protect. */
MUST_USE enum status space_change_descriptor(struct space *space, uint64_t start, uint64_t end,
                                             struct descriptor *descriptor);

/* Populates [start, end), which lies in one region, as an access to each page would: a write where
 * the region allows it. With the lock held the range stays the region's. */
MUST_USE enum status space_populate(struct space *space, const struct region *region,
                                    uint64_t start, uint64_t end);

/* One step of that, with the caller's access: fills a run of tickets from start on, or resolves one
 * access. Returns the pages in *filled, 0 if others changed the entry meanwhile. */
MUST_USE enum status space_bring(struct space *space, const struct region *region, uint64_t start,
                                 uint64_t end, struct fault_access access, unsigned *filled);

/* Calls visit for each lowest entry of the range, with its table locked; for large pages its level
 * is above 1. The space's lock is needed only to keep the range unchanged. */
void space_visit_pages(const struct space *space, uint64_t start, uint64_t end,
                       void (*visit)(struct pte *at, unsigned level, void *context), void *context);

/* True if a locked entry references a page, as a leaf or withheld; the zero page does not count. */
bool space_entry_page(struct pte entry, unsigned level, struct pfn *page);

/* As space_fill_range, populated, wired or not. The region does not join its neighbours until
 * space_fill_keep or space_fill_undo is called; neither can fail. *came: populating was begun, so
 * that a retry after a failure is useless. */
MUST_USE enum status space_fill_now(struct space *space, uint64_t start, uint64_t end,
                                    const struct region_attributes *what, bool wired, bool *came);
void space_fill_keep(struct space *space, uint64_t start, uint64_t end, bool wired);
void space_fill_undo(struct space *space, uint64_t start, uint64_t end, bool wired);

/* ---- wired pages (wire.c, wire_fork.c) ---- */

/* After a change of rights of a range: its wired pages are their space's own again. */
void wire_mend(struct space *space, uint64_t start, uint64_t end);

/* Copies the parent's wired pages for the child, between tree_fork and tree_fork_end, after the
 * flush. The parent's wired pages and their tables are its own afterwards. If memory is short, the
 * child's tree is empty. */
MUST_USE enum status wire_fork(struct space *child, struct space *parent);

#endif

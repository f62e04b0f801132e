/*
 * Between the files of calls on ranges.
 *
 * Owns: nothing. Fails with: as space.h says. Context: thread; the space's lock is held unless a
 * comment says otherwise.
 */
#ifndef VMM_RANGE_INTERNAL_H
#define VMM_RANGE_INTERNAL_H

#include "vmm/fault/fault.h"
#include "vmm/space/commit.h"
#include "vmm/space/region.h"

/* Initial entries of a range that is mapped. */
enum space_blank {
    BLANK_TICKETS, /* tickets of the region's descriptor, or guards */
    BLANK_ZEROES   /* zeros if there is access, so that reads do not fault */
};

/* Maps a range that continues the mapping before it, and charges its pages. The caller has checked
 * the range. If the mapping before it is of a section object, the object continues. The region
 * takes its own count of the descriptor. STATUS_NO_MEMORY: the caller reclaims and retries. */
MUST_USE enum status space_fill_range(struct space *space, uint64_t start, uint64_t end,
                                      const struct region_attributes *what, enum space_blank blank);

/* Unmaps a checked range and uncharges its pages; `first` is the region that covers start, or the
 * next one. Fails as space_fill_range. */
MUST_USE enum status space_empty_range(struct space *space, const struct region *first,
                                       uint64_t start, uint64_t end);

/* Changes the descriptor of a covered range to one with the same rights. Fails as space_protect. */
MUST_USE enum status space_change_descriptor(struct space *space, uint64_t start, uint64_t end,
                                             struct descriptor *descriptor);

/* Populates [start, end), which lies in one region, as an access to each page would: a write if the
 * region allows it. The space's lock keeps the region as it is. */
MUST_USE enum status space_populate(struct space *space, const struct region *region,
                                    uint64_t start, uint64_t end);

/* One step of space_populate, with the caller's access: fills a run of tickets from start on, or
 * resolves one access. Sets *filled to the number of pages, 0 if others changed the entry
 * meanwhile. */
MUST_USE enum status space_bring(struct space *space, const struct region *region, uint64_t start,
                                 uint64_t end, struct fault_access access, unsigned *filled);

/* Calls visit for each lowest entry of the range, with its table locked; `level` is above 1 for
 * large pages. The space's lock is needed only to keep the range unchanged. */
void space_visit_pages(const struct space *space, uint64_t start, uint64_t end,
                       void (*visit)(struct pte *at, unsigned level, void *context), void *context);

/* Returns true, and the page, if a locked entry references one as a leaf or withheld; the zero page
 * does not count. */
bool space_entry_page(struct pte entry, unsigned level, struct pfn *page);

/* As space_fill_range, but populates the range, and wires it if asked to. The region does not merge
 * with its neighbours until space_fill_keep or space_fill_undo is called; neither can fail. Sets
 * *came once populating has begun: a retry after a failure is then useless. */
MUST_USE enum status space_fill_now(struct space *space, uint64_t start, uint64_t end,
                                    const struct region_attributes *what, bool wired, bool *came);
void space_fill_keep(struct space *space, uint64_t start, uint64_t end, bool wired);
void space_fill_undo(struct space *space, uint64_t start, uint64_t end, bool wired);

/* ---- wired pages (wire.c, wire_fork.c) ---- */

/* Makes the wired pages of a range own again, after a change of rights or a fork. */
void wire_mend(struct space *space, uint64_t start, uint64_t end);

/* Copies the parent's wired pages for the child. Called between tree_fork and tree_fork_end, after
 * the flush. Afterwards the parent's wired pages and their tables are own again. If memory runs
 * out, leaves the child's tree empty. */
MUST_USE enum status wire_fork(struct space *child, struct space *parent);

/* Empties the tree of a fork that fails, so that the parent's tables are its own again. */
void fork_unmap_child(struct space *child);

#endif

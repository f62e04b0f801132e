/*
 * Large pages: 2 MiB and 1 GiB of memory that one entry maps, on request.
 *
 * A large page is a block of frames; only its first frame's record is in use. It is in no clock:
 * when memory is short, one is split into pages of 4 KiB, which join the clock and are evicted one
 * by one. A 1 GiB page is split into 2 MiB pages first. A write to a shared large page, and an
 * unmap or change of rights of a part, split it for all sharers (rules C2 and R1).
 *
 * Units: levels as in entries: 2 is 2 MiB, 3 is 1 GiB. Owns: the list of large pages; in the record
 * of a large page its links. State: large_alloc, or parts are put together (vmm/range/collapse.h)
 * -> (an entry names it: large_publish) -> resident -> split, freed, or merged into a larger page
 * (large_take). A wired page is in no list (page_wire), and neither are its parts after a split.
 * Protectors: the list's lock, taken with interrupts off, inside table locks and the ring's. Fails
 * with: STATUS_NO_MEMORY: no block is free as a whole, or the limit forbids it; the caller takes
 * small pages then. Context: a fault or a thread.
 */
#ifndef VMM_PAGE_LARGE_H
#define VMM_PAGE_LARGE_H

#include "lib/status.h"
#include "paging/tree/tree.h"
#include "pmm/pmm.h"

/* Allocates a block for a leaf of this level. */
MUST_USE enum status large_alloc(unsigned level, enum frame_clear clear, struct pfn *page);

/* Adds the page to the list. An entry maps the page. */
void large_publish(struct pfn page);

/* Removes the page from the list before it becomes part of a larger one. Returns false, with the
 * page still in the list, if others hold it. The caller has locked the table that maps it. */
MUST_USE bool large_take(struct pfn page);
/* Removes the page from the list before it is wired (page_wire). */
void large_withdraw(struct pfn page);

/* Frees a page that has lost its last reference. */
void large_gone(struct pfn page);

/* Called when the tree splits a page: adds its parts to the clock or to the list, by their size.
 * Returns false, with nothing changed, unless the page's count is `entries` + `holds`. */
bool large_split_parts(struct pfn page, unsigned order, unsigned to, uint32_t entries,
                       uint32_t holds);

/* Splits a large page into smaller ones. Returns false if none can be split now. The caller has no
 * table locked and no TLB batch open. */
bool large_split_one(void);

/* Returns the number of frames in large pages. */
uint64_t large_frames(void);

/* Returns the number of large pages split since the start. */
uint64_t large_splits(void);

#endif

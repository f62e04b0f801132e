/*
 * Large pages: 2 MiB and 1 GiB of memory that one entry maps, on request.
 *
 * A large page is a block of frames whose first frame's record stands for all. It is in no clock:
 * when memory is short one is split into pages of 4 KiB, which join the clock and go out one by
 * one. A 1 GiB page is split into 2 MiB pages first. Whatever needs a part of a large page, a write
 * to a shared one, an unmap or a change of rights of a part, splits it for all who share it
 * (rules C2 and R1, paging/tree/rmap.c).
 *
 * Units: levels as in entries: 2 is 2 MiB, 3 is 1 GiB. Owns: the list of large pages; in the record
 * of a large page its links. State: large_alloc, or parts are put together (vmm/range/collapse.h)
 * -> (an entry names it: large_publish) -> resident -> split, gone, or large_take: a part itself.
 * One that is wired is in no list (page_wire), and so are its parts when it is split. Protectors:
 * the list's lock, taken with interrupts off, inside table locks and the ring's. Fails with:
 * STATUS_NO_MEMORY: no block is free as a whole, or the limit forbids it; the caller takes small
 * pages then. Context: a fault or a thread.
 */
#ifndef VMM_PAGE_LARGE_H
#define VMM_PAGE_LARGE_H

#include "lib/status.h"
#include "paging/tree/tree.h"
#include "pmm/pmm.h"

/* A block for a leaf of this level. */
MUST_USE enum status large_alloc(unsigned level, enum frame_clear clear, struct pfn *page);

/* Into the list: an entry names it. */
void large_publish(struct pfn page);

/* Out of the list, to become a part of a larger one: false when others hold it, and it stays. The
 * table that names it is locked. */
MUST_USE bool large_take(struct pfn page);
/* Out of the list: the page becomes wired (page_wire). */
void large_withdraw(struct pfn page);

/* The last pointer has gone. */
void large_gone(struct pfn page);

/* The tree splits a page: its parts are published as what they are. */
void large_split_parts(struct pfn page, unsigned order, unsigned to);

/* Splits some large page into smaller ones; false when there is none, or none can be split at the
 * moment. No table lock and no TLB batch is open. */
bool large_split_one(void);

/* Frames in large pages. */
uint64_t large_frames(void);

/* Large pages split since the start. */
uint64_t large_splits(void);

#endif

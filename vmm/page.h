/*
 * The pages of programs: how many may be resident, in which order they are looked at, and what
 * becomes of one that nobody names any more.
 *
 * Units: frames of 4 KiB. Owns: the list of resident pages (the clock).
 * State of a page: page_alloc -> (published by an entry: page_publish) -> resident, in the clock
 *   -> page_withdraw (being evicted) -> gone, or back by page_publish; page_gone frees it.
 * Fails with: STATUS_NO_MEMORY when neither a free frame nor a page to evict is left; what
 * evicting fails with (STATUS_IO, STATUS_NO_SPACE).
 * Context: a fault or a thread without any table lock; page_alloc may wait for the disk.
 */
#ifndef VMM_PAGE_H
#define VMM_PAGE_H

#include "lib/status.h"
#include "paging/tree.h"
#include "pmm/pmm.h"

/* How many anonymous pages may be resident; UINT64_MAX: as many as there is memory for. */
void page_set_limit(uint64_t frames);
uint64_t page_limit(void);

/* A frame for a page, evicting others when the limit or memory says so. */
MUST_USE enum status page_alloc(enum frame_clear clear, struct pfn *page);

/* As page_alloc when there is a free frame within the limit; never evicts, never waits. */
bool page_try_alloc(enum frame_clear clear, struct pfn *page);

/* Evicts some pages for whoever needs memory of another kind, a table or an object: true when there is
 * more than before, so that it is worth another try. No table lock and no TLB batch is open. */
bool page_make_room(void);

/* Into the clock, behind all others; out of it. */
void page_publish(struct pfn page);
void page_withdraw(struct pfn page);

/* The page under the hand, which moves on by one; PFN_NONE when the clock is empty. The page gets
 * one more count, so that it stays while it is looked at. */
struct pfn page_clock_next(void);

/* Puts a page that is in the clock under the hand. */
void page_next_to_go(struct pfn page);

/* Pages in the clock. */
uint64_t page_clock_size(void);

/* Ties a page to the slot that it was read from: it takes over one count of the slot. Untying gives
 * the count back (rule C9). */
void page_tie(struct pfn page, struct slot slot);
void page_untie(struct pfn page);

/* As page_untie, if the page's count is 1: then nobody has found it through the tie. */
MUST_USE bool page_untie_alone(struct pfn page);

/* What the tree calls. */
const struct tree_hooks *page_hooks(void);

/* Takes one count off; at zero the page is gone. */
void page_release(struct pfn page);

/* Compares clock, ledger, slots and the census of all trees; panics on a difference. */
void page_audit(const struct tree_census *census);

#endif

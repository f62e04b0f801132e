/*
 * Transfers: entries in transit while their page is read, written, copied or checked.
 *
 * An entry of a tree is in transit while its page is read, written, copied or checked. No lock is
 * held meanwhile; other faults on the entry wait. Forks and unmaps may copy or drop entries in
 * transit, so the end of a transfer searches for all of them.
 *
 * Units: pages. Owns: nothing; the caller has a hold on the page from begin to end, and FRAME_IO is
 * set for that time. State: a page that comes: transfer_begin_in -> (content is read) ->
 * transfer_end. A page that leaves: page_withdraw -> transfer_begin_out -> transfer_take_entry for
 * each entry -> flush of everything -> (content is saved or looked at) -> transfer_end. Fails with:
 * nothing. Context: a fault or a thread; transfer_end holds no lock. Rules: C9, E5, R1 to R3.
 */
#ifndef VMM_PAGE_TRANSFER_H
#define VMM_PAGE_TRANSFER_H

#include "paging/tree/tree.h"
#include "pmm/pmm.h"

/* The new state of the entries in transit. */
enum transfer_result {
    TRANSFER_LEAF,   /* leaves of the page: COW, or shared for a section's page */
    TRANSFER_UNUSED, /* the same with A clear: nothing has used the page yet */
    TRANSFER_ZERO,   /* the zero page; withheld entries keep the page */
    TRANSFER_SLOT,   /* swapped: the content is in the slot alone */
    TRANSFER_TICKET  /* a ticket, or empty: the content can be made again, as a pager does */
};

struct transfer_end {
    enum transfer_result result;
    struct slot slot;  /* TRANSFER_SLOT: each entry takes a count of it */
    struct pte ticket; /* TRANSFER_TICKET */
};

/* Begins a transfer into a fresh page, which only the caller can find: the locked entry references
 * it in transit, and the caller gets a hold. With a slot, adds the page to the swap cache, which
 * takes over one count of the slot; with SLOT_NONE does not. */
void transfer_begin_in(struct pfn page, struct tree_pointer at, struct rights rights,
                       struct slot slot);

/* Begins a transfer of a page that is in no clock, and that the caller holds. */
void transfer_begin_out(struct pfn page);

/* Puts one of its entries, in a locked table, in transit. The record keeps its D bit (rule E8). */
void transfer_take_entry(struct pfn page, struct tree_pointer at);

/* As transfer_take_entry, for the entry that sole_lock found. */
void transfer_take_sole(struct pfn page, struct tree_pointer at);

/* Ends a transfer: all entries in transit become the result. A page that stays resident is in a
 * clock before an entry maps it. A page that went to its slot leaves the swap cache, where others
 * may have found it. The caller keeps its hold. */
void transfer_end(struct pfn page, const struct transfer_end *end);

/* Returns the number of transfers that have ended, each counted while its entries are still in
 * transit. */
uint64_t transfers_ended(void);

/* Return the number of transfers begun, and of those that have no entry in transit any more. While
 * the first is larger, a page may be in no clock. */
uint64_t transfers_begun(void);
uint64_t transfers_finished(void);

#endif

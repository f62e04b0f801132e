/*
 * Reclaim: evicts pages to the swap area.
 *
 * The steps (rules R1, R2, E5): pick a page by the clock; find every entry that references it, and
 * skip it unless their number equals its count; put them in transit; shoot down; write; turn them
 * into swapped entries. A page in the swap cache is clean and needs no write.
 *
 * Units: pages. Owns: nothing between calls.
 * Fails with: STATUS_NO_SPACE (no slot), STATUS_IO, STATUS_TIMEOUT: the pages concerned stay.
 * Context: a fault or a thread without any lock; it waits for the disk.
 */
#ifndef VMM_PAGE_RECLAIM_H
#define VMM_PAGE_RECLAIM_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/status.h"
#include "paging/tree/tree.h"

/* Tries to evict this many pages, at most 16, and sets *evicted to their number. Fewer without an
 * error means that the other pages are in use. */
MUST_USE enum status reclaim_pages(unsigned wanted, unsigned *evicted);

/* Frees up to `wanted` slots that only resident pages have, out of the swap cache: those pages must
 * be written when they go (rule D20). Returns how many. Looks at each page once. */
unsigned reclaim_free_cached_slots(unsigned wanted);

/* A round of the clocks in several calls: only after the last one is it certain that no page can
 * go. */
struct reclaim_round {
    uint64_t looks;    /* pages left to look at; 0: the round is over */
    uint64_t spared;   /* with this many looks left, used pages are no longer spared */
    uint64_t absences; /* ended before the round or by it (absences_ended) */
    bool clean_only;   /* the swap area takes no page */
};

void reclaim_round_begin(struct reclaim_round *round);

/* As reclaim_pages, continuing where the round's last call stopped. After an error the round only
 * evicts pages that need no write. */
MUST_USE enum status reclaim_some(struct reclaim_round *round, unsigned wanted, unsigned *evicted);

/* Returns true if other threads had pages out of the clocks since the round began, by reclaim or a
 * transfer: then the round does not prove that memory is out. Waits until one of these operations
 * ends, unless interrupts are off, where a thread of this processor could not end its own. */
bool reclaim_round_await_others(const struct reclaim_round *round);

/* Sets whether pages of zeros become the zero page when they go, which is so from the start.
 * Otherwise they go to slots like all others, so that each page that is used again is a fault. */
void reclaim_allow_zeroes(bool allowed);

/* Begin and end a time in which the caller keeps pages out of the clocks without a transfer. */
void reclaim_absence_begin(void);
void reclaim_absence_end(void);

struct section_family;

/* Functions by which reclaim reaches the shared leaves of a section's page (FRAME_SHARED); only the
 * section can find them. */
struct reclaim_shared {
    /* Returns the family of this entry's section, with a hold; NULL if it is ending and so has no
     * leaves. The entry's table is locked, with interrupts off. */
    struct section_family *(*hold)(struct tree_pointer at);
    void (*release)(struct section_family *family);
    /* Clears the A bits of the shared leaves of the page at byte `place` of the section. Returns
     * true if one was set. The caller holds no lock. */
    bool (*take_accessed)(struct section_family *family, uint64_t place, struct pfn page);
    /* Turns the shared leaves into tickets. Returns how many: the caller owns that many references
     * to the page, and drops them after a flush of everything (rules P2, P3). A leaf that cannot be
     * reached now keeps its reference, which shows in the page's count. The caller holds no lock;
     * the section's own entry is in transit, so no new leaf appears. */
    unsigned (*recall)(struct section_family *family, uint64_t place, struct pfn page);
    /* Returns true if a clean page can be dropped, because the section's pager can make it
     * again. */
    bool (*comes_again)(const struct section_family *family);
};

/* Sets the functions; called before the first such page exists, and possibly again. */
void reclaim_set_shared(const struct reclaim_shared *shared);

/* Since start. */
struct reclaim_counts {
    uint64_t looked_at;
    uint64_t second_chances; /* pages used since the hand's last pass */
    uint64_t written;
    uint64_t clean;    /* evicted without a write */
    uint64_t zeroes;   /* of these: became the zero page, without a slot */
    uint64_t uncached; /* slots taken from resident pages when none was free */
    uint64_t wasted;   /* went unused after they had been read ahead */
    uint64_t busy;     /* had references that were not found */
};

struct reclaim_counts reclaim_counts(void);

#endif

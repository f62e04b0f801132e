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

/* Tries to evict this many pages, at most 16; returns in *evicted how many were. Fewer without an
 * error means that the rest is in use. */
MUST_USE enum status reclaim_pages(unsigned wanted, unsigned *evicted);

/* A round of the clocks in several calls: only after the last one is it certain that no page can
 * go. */
struct reclaim_round {
    uint64_t looks;    /* left; 0: the round is over, every page was considered */
    uint64_t spared;   /* with this many looks left, used pages are no longer spared */
    uint64_t absences; /* that have ended: before the round, and the round's own */
    bool clean_only;   /* the swap area takes no page */
};

void reclaim_round_begin(struct reclaim_round *round);

/* As reclaim_pages, from the place where the round's last call stopped. After an error the round
 * only evicts pages that need no write. */
MUST_USE enum status reclaim_some(struct reclaim_round *round, unsigned wanted, unsigned *evicted);

/* Returns true if other threads had pages out of the clocks since the round began, by reclaim or a
 * transfer: the round proves nothing then. Waits until one such absence ends, unless interrupts are
 * off: then a thread of this processor could not end its own. */
bool reclaim_round_await_others(const struct reclaim_round *round);

struct section;

/* What reclaim needs of pages that are shared for real (FRAME_SHARED): only their owner, a section,
 * knows the shared leaves. */
struct reclaim_shared {
    /* Returns the section whose entry this is, held, or NULL if it is ending and so has no leaves.
     * The entry's table is locked with interrupts off. */
    struct section *(*hold)(struct tree_pointer at);
    void (*release)(struct section *section);
    /* Takes the A bits of the shared leaves of the page at a place of the section, in bytes; true
     * if one was set. No lock is held. */
    bool (*take_accessed)(struct section *section, uint64_t place, struct pfn page);
    /* Turns the shared leaves into tickets. Returns how many: the caller owns that many references
     * to the page, and drops them after a flush of everything (rules P2, P3). Leaves that cannot be
     * reached now keep their references, which shows in the page's count. No lock is held; the
     * section's own entry is in transit, so that no new leaves come. */
    unsigned (*recall)(struct section *section, uint64_t place, struct pfn page);
    /* True if a page that was not written since it came can be dropped: its owner makes it
     * again. */
    bool (*comes_again)(const struct section *section);
};

/* Sets the functions, before such a page exists. May be called again. */
void reclaim_set_shared(const struct reclaim_shared *shared);

/* Since start. */
struct reclaim_counts {
    uint64_t looked_at;
    uint64_t second_chances; /* pages that had been used since the hand came by */
    uint64_t written;
    uint64_t clean; /* went without a write */
    uint64_t busy;  /* named by more entries than could be found */
};

struct reclaim_counts reclaim_counts(void);

#endif

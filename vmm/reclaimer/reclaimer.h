/*
 * The background reclaimer: evicts and writes pages before a fault has to wait for it.
 *
 * Faults take frames; the reclaimer works while less than `low` pages may still become resident,
 * and stops at `high` (page_room). Then it writes behind: pages near their turn that are dirty
 * become clean while they stay mapped, so that a fault that needs a frame drops one and waits for
 * no write. Faults evict for themselves only when no frame is left, in turn (page_alloc).
 *
 * A policy chooses its victims one by one, at the faults; under a policy the reclaimer does
 * nothing.
 *
 * Units: pages. Owns: nothing between calls; its thread, from start to stop. State: stopped ->
 * reclaimer_start -> asleep <-> at work -> reclaimer_stop -> stopped. Fails with: STATUS_LIMIT,
 * STATUS_NO_MEMORY (reclaimer_start). Context: a step: a thread without any lock, which may wait
 * for the disk. Rules: C9, D10 to D12, D14.
 */
#ifndef VMM_RECLAIMER_RECLAIMER_H
#define VMM_RECLAIMER_RECLAIMER_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/status.h"

struct reclaimer_marks {
    uint64_t low;   /* it begins to work with less room than this */
    uint64_t high;  /* and evicts up to this */
    uint64_t ahead; /* pages near their turn that it keeps clean; 0: none */
};

/* Sets the marks; low <= high. All zeroes: it has nothing to do. */
void reclaimer_set_marks(struct reclaimer_marks wanted);

/* Performs one batch of work. Returns true if more is to be done. */
bool reclaimer_step(void);

/* Writes up to `wanted` dirty pages near their turn, at most 16, and keeps them mapped: read-only
 * from before the write on, in the swap cache after it. A page that was written meanwhile has
 * been copied, and its slot is free again. Returns how many pages became clean. */
unsigned write_behind(unsigned wanted);

/* Since start. */
struct reclaimer_counts {
    uint64_t steps;
    uint64_t evicted; /* by steps */
    uint64_t cleaned; /* written behind, and still in use then */
    uint64_t vain;    /* written behind, but copied or freed meanwhile */
};

struct reclaimer_counts reclaimer_counts(void);

/* Start and stop its thread, which has low priority: it runs when no program of its processor does.
 * Stopping waits for its last batch. */
MUST_USE enum status reclaimer_start(unsigned cpu, struct reclaimer_marks marks);
void reclaimer_stop(void);

#endif

/*
 * Reclaim: pages go out to the swap area.
 *
 * The order of things (rules R1, R2, E5): pick by the clock, find every entry that names the page
 * and refuse it unless there are as many as its count says; exchange them for 'in transit'; shoot
 * down; write; exchange for 'swapped'. A page that is still tied to the slot it was read from is
 * clean, and goes without a write.
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

/* Tries to evict so many pages, at most 16; evicted says how many went. Fewer without an error
 * means that the rest is in use. */
MUST_USE enum status reclaim_pages(unsigned wanted, unsigned *evicted);

/* Calls that have ended. */
uint64_t reclaim_calls(void);

/* Whether anybody else evicts pages, or has done so since there were so many calls: then what could
 * not be found may soon be there. Returns when one of those that run is over, or at once with
 * interrupts off, where a thread of this processor would be waited for in vain. */
bool reclaim_await_another(uint64_t calls);

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

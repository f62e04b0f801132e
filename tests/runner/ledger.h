/*
 * The ledger: counts of objects in use. Comparing it before and after a step finds leaks.
 *
 * Units: frames, slots, objects. Owns: nothing. Context: thread.
 */
#ifndef TESTS_RUNNER_LEDGER_H
#define TESTS_RUNNER_LEDGER_H

#include <stdbool.h>

#include "pmm/pmm.h"

struct ledger {
    struct pmm_usage frames;
    uint64_t slots;
    unsigned descriptors;
    uint64_t descriptor_frames; /* of their table, which grows as generations are used up (E6) */
    unsigned spaces;
    unsigned ends; /* ended spaces that still have memory */
    unsigned threads;
    uint64_t objects; /* of all pools: spaces, regions */
};

/* Counts the objects in use, after the ends of spaces are finished. */
struct ledger ledger_take(void);

/* Returns whether all counts are as before; logs those that differ. */
bool ledger_even(const struct ledger *before);

/* Returns how many more frames of a kind are in use than before; likewise finishes the ends. */
int64_t ledger_growth(const struct ledger *before, enum frame_kind kind);

#endif

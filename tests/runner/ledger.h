/*
 * The ledger: what is in use, taken before and after, so that a leak shows at the step that made
 * it.
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
    unsigned threads;
    uint64_t objects; /* of all pools: spaces, regions */
};

struct ledger ledger_take(void);

/* Whether nothing is in use that was not before, nor the other way round; says what differs. */
bool ledger_even(const struct ledger *before);

/* Frames of a kind more than before. */
int64_t ledger_growth(const struct ledger *before, enum frame_kind kind);

#endif

/*
 * The machine's figures for the pictures of a run.
 *
 * Units: as in tests/screen/screen.h. Owns: nothing. Fails with: nothing; what cannot be read
 * without waiting keeps its former value. Context: thread. It reads without locks while others
 * write: a figure may be a moment old.
 */
#ifndef TESTS_RUNNER_SAMPLE_H
#define TESTS_RUNNER_SAMPLE_H

#include "tests/screen/screen.h"

/* Reads frames, slots, counters and the running space; a few milliseconds. */
void sample_machine(struct screen_facts *facts);

#endif

/*
 * A policy of the kernel over a string of page references, without pages: the files of vmm/policy/
 * and vmm/ghosts/ learn of each use at once, or by the A bits that a processor would set.
 *
 * Units: pages by number, as page_string.h. Owns: scratch arrays, so one caller at a time; the
 * policy's nodes meanwhile, so no policy may be running. Context: thread.
 * Fails with: STATUS_NO_MEMORY.
 */
#ifndef TESTS_MODEL_POLICY_STRING_H
#define TESTS_MODEL_POLICY_STRING_H

#include "lib/status.h"
#include "tests/model/page_string.h"
#include "vmm/policy/policy.h"

/* Counts the faults of a policy in `memory` pages. harvest 0: it learns of each use at once.
 * Otherwise by A bits alone: those of its candidates, and all after this many references each,
 * if it asks for harvests. */
MUST_USE enum status policy_string_faults(const struct policy *policy,
                                          const struct page_string *string, unsigned memory,
                                          unsigned harvest, uint64_t *faults);

#endif

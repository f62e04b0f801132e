/*
 * Workloads over records in the pages of a program: each verifies its own result.
 *
 * A record is one word in 512 bytes, so that a page has 8 of them; all accesses go through
 * record_read and record_write, which make the string of page references.
 *
 * Units: records by number, from 0. Owns: nothing; the caller maps WORK_PAGES pages at WORK_START.
 * Context: thread, in the space that is mapped. Fails with: false, when a result is wrong.
 */
#ifndef TESTS_EXPERIMENTS_POLICY_WORKLOADS_H
#define TESTS_EXPERIMENTS_POLICY_WORKLOADS_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/model/page_string.h"

#define WORK_START   UINT64_C(0x600000000)
#define WORK_PAGES   128U
#define WORK_MEMORY  64U /* pages that are resident at once */
#define WORK_RECORDS (WORK_PAGES * 8)

struct workload {
    const char *name;
    bool (*run)(void);
};

extern const struct workload workloads[];
extern const unsigned workload_count;

/* Begins a string of references; work_ended_well is false if an access was refused meanwhile. */
void work_begin(struct page_string *string);
bool work_ended_well(void);

#endif

/*
 * A part of the experiment large-page: small pages become large ones.
 *
 * Context: the experiment's thread, in the space, which runs.
 */
#ifndef TESTS_EXPERIMENTS_LARGE_PAGE_MERGE_H
#define TESTS_EXPERIMENTS_LARGE_PAGE_MERGE_H

#include "vmm/space/space.h"

/* Checks that it makes. */
#define LARGE_PAGE_MERGE_CHECKS 6U

void large_page_merge(struct space *space);

#endif

/*
 * Runs each test once for each registered frame allocator.
 *
 * A test gets the allocator as *state. Owns: the list, for the life of the program.
 */
#ifndef TESTS_HOST_FAKE_EACH_ALLOCATOR_H
#define TESTS_HOST_FAKE_EACH_ALLOCATOR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pmm/alloc/allocator.h"

/* Adds tests to the group: all of them with the first allocator that `is_tested` accepts (NULL:
 * each is), then with the next one. */
void each_allocator_add(const struct CMUnitTest *tests, size_t count,
                        bool (*is_tested)(const struct frame_allocator *allocator));

/* Runs the one group, so that the program prints one plan. Returns the number of failed tests. */
int each_allocator_run(void);

/* Adds tests and runs the group. */
int run_for_each_allocator(const struct CMUnitTest *tests, size_t count,
                           bool (*is_tested)(const struct frame_allocator *allocator));

#endif

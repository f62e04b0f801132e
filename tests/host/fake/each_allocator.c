/* Each test with each frame allocator. */
#include "tests/host/fake/each_allocator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *name_of(const char *test, const struct frame_allocator *allocator)
{
    size_t size = strlen(test) + strlen(allocator->name) + 2;
    char *name = malloc(size);

    assert_non_null(name);
    snprintf(name, size, "%s %s", test, allocator->name);
    return name;
}

static struct CMUnitTest *all;
static size_t used;

void each_allocator_add(const struct CMUnitTest *tests, size_t count,
                        bool (*is_tested)(const struct frame_allocator *allocator))
{
    const struct frame_allocator *allocator;

    all = realloc(all, (used + count * frame_allocator_count()) * sizeof(*all));
    assert_non_null(all);
    for (unsigned place = 0; (allocator = frame_allocator(place)) != NULL; place++) {
        if (is_tested != NULL && !is_tested(allocator))
            continue;
        for (size_t i = 0; i < count; i++) {
            all[used] = tests[i];
            all[used].name = name_of(tests[i].name, allocator);
            all[used++].initial_state = (void *)(uintptr_t)allocator;
        }
    }
}

int each_allocator_run(void)
{
    int failed = _cmocka_run_group_tests("each allocator", all, used, NULL, NULL);

    for (size_t i = 0; i < used; i++)
        free((void *)(uintptr_t)all[i].name);
    free(all);
    return failed;
}

int run_for_each_allocator(const struct CMUnitTest *tests, size_t count,
                           bool (*is_tested)(const struct frame_allocator *allocator))
{
    each_allocator_add(tests, count, is_tested);
    return each_allocator_run();
}

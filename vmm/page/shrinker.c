/* The table of shrinkers. */
#include "vmm/page/shrinker.h"

#include <stddef.h>

#include "lib/check.h"

uint64_t shrinkers_free(uint64_t pages)
{
    uint64_t freed = 0;

    for (const struct shrinker *const *at = __start_shrinkers;
         at < __stop_shrinkers && freed < pages; at++) {
        CHECK((*at)->free != NULL);
        freed += (*at)->free(pages - freed);
    }
    return freed;
}

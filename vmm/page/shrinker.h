/*
 * Shrinkers: memory that is kept for the next use, and is freed when nothing else can be reclaimed.
 *
 * A file that keeps memory registers a shrinker with SHRINKER; the linker collects them, so that a
 * new one touches no other file. Reclaim calls them after it has found no page to evict, or before
 * it looks for one (`first`): while memory is there they cost nothing.
 *
 * Units: pages. Owns: nothing. Context: a fault or a thread, without any lock or TLB batch.
 */
#ifndef VMM_PAGE_SHRINKER_H
#define VMM_PAGE_SHRINKER_H

#include <stdbool.h>
#include <stdint.h>

struct shrinker {
    const char *name;
    /* Tries to free this many pages, and returns how many it freed: 0 if nothing is kept or its
     * lock is taken. It neither allocates nor sleeps. */
    uint64_t (*free)(uint64_t pages);
    bool first; /* asked before a page is evicted: nothing uses what it frees; may overstate */
};

/* Registers a shrinker, by a pointer: the linker may leave gaps between larger objects. */
#define SHRINKER(id, free_pages, is_first)                                                         \
    static const struct shrinker shrinker_##id = {#id, (free_pages), (is_first)};                  \
    static const struct shrinker *const shrinker_##id##_entry                                      \
        __attribute__((used, section("shrinkers"))) = &shrinker_##id

/* The table, in link order. Without a member both ends are NULL. */
extern const struct shrinker *const __start_shrinkers[] __attribute__((weak));
extern const struct shrinker *const __stop_shrinkers[] __attribute__((weak));

/* Calls shrinkers until they have freed this many pages. Returns how many they freed. */
uint64_t shrinkers_free(uint64_t pages, bool first_only);

#endif

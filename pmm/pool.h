/*
 * Pools: objects of one size, cut from frames.
 *
 * Paging needs no heap: regions, address spaces and threads come from here. A frame whose objects
 * are all free goes back to pmm/, so the ledger is even when everything has been given back.
 *
 * Units: bytes. Owns: the frames of its objects. State of an object: free -> alloc -> in use ->
 * free. Fails with: STATUS_NO_MEMORY. Freeing cannot fail; a foreign or doubly freed object is a
 * CHECK. Context: thread; never waits.
 */
#ifndef PMM_POOL_H
#define PMM_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/status.h"

struct pool_frame;

struct pool {
    const char *name;
    uint16_t object_size; /* 16 to 2,048 bytes, a multiple of 16 */
    uint8_t lock;
    uint32_t in_use;            /* objects; a leak shows here */
    struct pool_frame *partial; /* frames with a free object */
};

#define POOL(pool_name, type)                                                                      \
    {                                                                                              \
        .name = (pool_name), .object_size = (uint16_t)((sizeof(type) + 15) & ~(size_t)15)          \
    }

/* Allocates an object and clears it. */
MUST_USE enum status pool_alloc(struct pool *pool, void **object);

/* As pool_alloc, but without clearing: the caller sets every field. */
MUST_USE enum status pool_alloc_uncleared(struct pool *pool, void **object);

void pool_free(struct pool *pool, void *object);

/* Allocates count objects, or none. They form a list: each begins with the address of the next, the
 * last with NULL; the rest of each object is junk. Freeing returns the frames that became free. */
MUST_USE enum status pool_alloc_chain(struct pool *pool, uint32_t count, void **first);
uint32_t pool_free_chain(struct pool *pool, void *first);

/* Returns the objects in use, of all pools, for the ledger. */
uint64_t pool_objects(void);

/* For experiments and tests: return the calls of pool_alloc so far, and make every pool fail with
 * STATUS_NO_MEMORY, which shows the paths that need one. */
uint64_t pool_calls(void);
void pool_shut(bool shut);

#endif

/*
 * Between the files of physical memory: pmm.c (allocation), free_many.c, init.c (the start),
 * pressure.c (running out), zero_pool.c (cleared frames), audit.c.
 *
 * Owns: the one struct pmm. Units: frames. Context: any.
 */
#ifndef PMM_INTERNAL_H
#define PMM_INTERNAL_H

#include "lib/units.h"
#include "pmm/pmm.h"

/* Frames below 4 GiB, for devices with 32-bit addresses, are a zone of their own. */
#define LOW_FRAMES (UINT32_C(1) << 20)

enum zone_name { ZONE_LOW, ZONE_HIGH };

_Static_assert(ZONE_HIGH + 1 == PMM_ZONES, "two zones");

struct pmm_zone {
    void *self; /* NULL: the zone has no free memory */
    uint32_t base;
    uint64_t frames;
};

/* Protectors: (c) constant after pmm_init; everything else is changed by atomic operations. */
struct pmm {
    const struct frame_allocator *allocator; /* (c) */
    struct pmm_zone zones[PMM_ZONES];        /* (c) */
    uint64_t total;                          /* (c) */
    uint64_t metadata;                       /* (c) bytes */
    uint64_t left_out;                       /* (c) frames past the limit */
    int64_t free_frames;           /* free frames in the zones: neither cached nor pooled */
    uint64_t by_kind[FRAME_KINDS]; /* changes counted in no cache, modulo 2^64 */
    unsigned cpus;                 /* one more than the highest that has allocated */
    int64_t reserve;
    int64_t low_mark; /* pressure is low with this many frames in the zones */
    enum pmm_pressure pressure;
    uint64_t fail_from; /* 0: no allocation is made to fail */
    uint64_t fail_count;
    uint64_t fail_calls;
};

extern struct pmm pmm;

/* Takes a block from the zones if floor frames stay free. low: from the low zone only. */
MUST_USE enum status zones_take(unsigned order, int64_t floor, bool low, struct pfn *first);
void zones_give(struct pfn first, unsigned order);

/* Frees the frames of one group of 64 that the mask names. */
void zones_give_group(struct pfn first, uint64_t mask, unsigned count);

/* Frees single frames; neighbours in one group of 64 go back together. */
void zones_give_many(const struct pfn *frames, unsigned count);

/* Returns the frames that an allocation of this kind must leave free. */
int64_t pmm_floor(enum frame_kind kind);

/* Returns true if the caches may be used now. */
bool pmm_caches_allowed(void);

/* Frees a cache's frames and closes it, unless it is held. */
void cache_close(struct pmm_cache *cache);

/* Opens a closed cache; it is empty then. */
void cache_open(struct pmm_cache *cache);

/* Opens one of the running processor's caches, if caches may be used now. */
void cache_reopen(struct pmm_cache *cache);

void zero_pool_drain(void);
void zero_pool_start(void);
uint64_t zero_pool_count(void);

/* Counts an allocation for pmm_fail_from. Returns true if it must fail. */
bool pmm_fails_now(void);

/* Updates the pressure level after frames were allocated or freed. */
void pmm_note_pressure(void);

static inline unsigned zone_of(struct pfn frame)
{
    return frame.index < LOW_FRAMES ? ZONE_LOW : ZONE_HIGH;
}

static inline void count_shared(enum frame_kind kind, uint64_t more)
{
    __atomic_fetch_add(&pmm.by_kind[kind], more, __ATOMIC_RELAXED);
}

#endif

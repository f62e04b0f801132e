/*
 * The interface of the frame allocators: LLFree, bitmap, stack and buddy behind one table.
 *
 * An allocator knows frames by number only, 0 to frames - 1 of its zone; it never touches a frame
 * or its record. All that it keeps lies in one piece of metadata that its caller provides, so that
 * none of them allocates anything, and the same code runs in the kernel and on the host.
 *
 * Units: frames; a block of order n is 2^n frames at a multiple of 2^n. Orders 0 to 9, and 18.
 * Owns: nothing; the metadata is the caller's. State: size -> start (every frame is taken) -> add
 * (ranges become free) -> take, give, split, join. Fails with: STATUS_NO_MEMORY from take, when
 * there is no such block. Giving back what was not taken is a CHECK in every build. Context: any,
 * also in a fault and on several processors at once; start, add and audit alone. Spec: Wrenger et
 * al., LLFree, USENIX ATC'23; Knuth, TAOCP vol. 1, 2.5 (next-fit, buddy).
 */
#ifndef PMM_ALLOC_ALLOCATOR_H
#define PMM_ALLOC_ALLOCATOR_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/options.h"
#include "lib/status.h"

#define ORDER_HUGE 9U  /* 2 MiB */
#define ORDER_GIB  18U /* 1 GiB */

static inline bool order_valid(unsigned order)
{
    return order <= ORDER_HUGE || order == ORDER_GIB;
}

static inline uint64_t order_frames(unsigned order)
{
    return UINT64_C(1) << order;
}

struct frame_allocator {
    const char *name;

    /* Bytes of metadata for so many frames and processors; self is aligned to 64 bytes. */
    uint64_t (*size)(uint64_t frames, unsigned cpus);

    /* Makes the metadata, whatever was in it; all frames are taken. */
    void (*start)(void *self, uint64_t frames, unsigned cpus);

    /* Makes taken frames free, at the start. */
    void (*add)(void *self, uint64_t first, uint64_t count);

    /* cpu is a hint below cpus: any is right, the running processor's is fast. */
    enum status (*take)(void *self, unsigned cpu, unsigned order, uint64_t *first);
    void (*give)(void *self, unsigned cpu, uint64_t first, unsigned order);

    /* Takes some single frames, one at least if the allocator has any at hand: they lie in the 64
     * from first on, a multiple of 64, as the mask says. How many; 0 when take may still find one,
     * or it may not. NULL where that is done no faster than one by one. */
    unsigned (*take_some)(void *self, unsigned cpu, uint64_t *first, uint64_t *mask);

    /* Gives back the count single frames first + i whose bit i is set; first is a multiple of 64.
     * NULL where that is done no faster than one by one. */
    void (*give_some)(void *self, unsigned cpu, uint64_t first, uint64_t mask, unsigned count);

    /* Makes blocks of the smaller order out of a taken block, each to be given back alone. */
    void (*split)(void *self, uint64_t first, unsigned order, unsigned to);

    /* The way back: all blocks of the smaller order that make up an aligned one of the larger are
     * taken, and are given back as that one from now on. */
    void (*join)(void *self, uint64_t first, unsigned order, unsigned from);

    /* Exact when nobody takes or gives. */
    uint64_t (*free_frames)(const void *self);

    bool (*is_free)(const void *self, uint64_t frame);

    /* Walks everything and panics where two places disagree. */
    void (*audit)(const void *self);
};

const struct frame_allocator *frame_allocator(enum pmm_kind way);

/* The longest run of free frames below the given number, and how many whole free blocks of the
 * order there are; both walk. */
uint64_t frame_allocator_longest_run(const struct frame_allocator *allocator, const void *self,
                                     uint64_t frames);
uint64_t frame_allocator_whole_blocks(const struct frame_allocator *allocator, const void *self,
                                      uint64_t frames, unsigned order);

#endif

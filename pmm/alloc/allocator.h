/*
 * The interface of the frame allocators: LLFree, bitmap, stack and buddy behind one table.
 *
 * An allocator knows frames only by number, 0 to frames - 1 of its zone; it never touches a frame
 * or its record. Its whole state lies in metadata that the caller provides. So no allocator
 * allocates memory itself, and the same code runs in the kernel and on the host.
 *
 * Units: frames; a block of order n is 2^n frames at a multiple of 2^n. Orders 0 to 9, and 18.
 * Owns: nothing; the metadata is the caller's. State: size -> start (every frame is taken) -> add
 * (ranges become free) -> take, give, split, join. Fails with: STATUS_NO_MEMORY from take, if no
 * such block is free. Freeing a block that is not allocated is a CHECK in every build. Context:
 * any, also in a fault and on several processors at once; start, add and audit alone. Spec: Wrenger
 * et al., LLFree, USENIX ATC'23; Knuth, TAOCP vol. 1, 2.5 (next-fit, buddy).
 */
#ifndef PMM_ALLOC_ALLOCATOR_H
#define PMM_ALLOC_ALLOCATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

    /* Returns the bytes of metadata needed. The caller aligns self to 64 bytes. */
    uint64_t (*size)(uint64_t frames, unsigned cpus);

    /* Initialises the metadata. All frames are taken at first. */
    void (*start)(void *self, uint64_t frames, unsigned cpus);

    /* Frees a range of frames, once at the start. NULL if `give` takes single frames
     * that were never taken. */
    void (*add)(void *self, uint64_t first, uint64_t count);

    /* Takes a block. cpu is a hint: any number below cpus is correct, the running processor's is
     * fastest. */
    enum status (*take)(void *self, unsigned cpu, unsigned order, uint64_t *first);
    void (*give)(void *self, unsigned cpu, uint64_t first, unsigned order);

    /* Takes single frames out of one group of 64 and returns how many: frame first + i for each bit
     * i of the mask; first is a multiple of 64. 0 means that it found no group; take may still find
     * a frame. NULL if the allocator can only take frames one by one. */
    unsigned (*take_some)(void *self, unsigned cpu, uint64_t *first, uint64_t *mask);

    /* Frees single frames of one group of 64: first + i for each of the count bits i of the mask.
     * NULL if the allocator has no faster way than one by one. */
    void (*give_some)(void *self, unsigned cpu, uint64_t first, uint64_t mask, unsigned count);

    /* Splits a taken block into blocks of a smaller order, which are freed one by one. NULL for an
     * allocator that does not remember its blocks. */
    void (*split)(void *self, uint64_t first, unsigned order, unsigned to);

    /* Reverses split: joins taken blocks of the smaller order into one aligned block, which is
     * freed as a whole. NULL where split is. */
    void (*join)(void *self, uint64_t first, unsigned order, unsigned from);

    /* Returns the free frames; exact only while no processor takes or frees. NULL if the allocator
     * keeps no count: is_free then counts them. */
    uint64_t (*free_frames)(const void *self);

    bool (*is_free)(const void *self, uint64_t frame);

    /* Checks all metadata and panics on a contradiction; NULL if there can be none. */
    void (*audit)(const void *self);
};

/* Frees a range of frames, once at the start. */
void frame_allocator_add(const struct frame_allocator *allocator, void *self, uint64_t first,
                         uint64_t count);

/* Returns how many of the first `frames` frames are free; exact only while no processor takes or
 * frees. */
uint64_t frame_allocator_free_frames(const struct frame_allocator *allocator, const void *self,
                                     uint64_t frames);

static inline void frame_allocator_split(const struct frame_allocator *allocator, void *self,
                                         uint64_t first, unsigned order, unsigned to)
{
    if (allocator->split != NULL)
        allocator->split(self, first, order, to);
}

static inline void frame_allocator_join(const struct frame_allocator *allocator, void *self,
                                        uint64_t first, unsigned order, unsigned from)
{
    if (allocator->join != NULL)
        allocator->join(self, first, order, from);
}

static inline void frame_allocator_audit(const struct frame_allocator *allocator, const void *self)
{
    if (allocator->audit != NULL)
        allocator->audit(self);
}

/* Returns the allocator at a place of the table, from 0; NULL behind the last. The table has the
 * order in which the allocators were linked, by the names of their files. */
const struct frame_allocator *frame_allocator(unsigned place);

/* Returns the allocator of this name, or NULL. */
const struct frame_allocator *frame_allocator_named(const char *name);

unsigned frame_allocator_count(void);

/* Returns the place of the one that is used unless another is asked for: LLFree. */
unsigned frame_allocator_default(void);

/* Return the longest run of free frames, and the number of free blocks of an order. Both walk all
 * metadata. */
uint64_t frame_allocator_longest_run(const struct frame_allocator *allocator, const void *self,
                                     uint64_t frames);
uint64_t frame_allocator_whole_blocks(const struct frame_allocator *allocator, const void *self,
                                      uint64_t frames, unsigned order);

#endif

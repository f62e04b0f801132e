/* The table of frame allocators, and helpers that work on any of them. */
#include "pmm/alloc/allocator.h"

#include "lib/check.h"
#include "pmm/alloc/internal.h"

const struct frame_allocator *frame_allocator(enum pmm_kind way)
{
    switch (way) {
    case PMM_LLFREE: return &llfree_allocator;
    case PMM_BITMAP: return &bitmap_allocator;
    case PMM_STACK: return &stack_allocator;
    case PMM_BUDDY: return &buddy_allocator;
    case PMM_KINDS: break;
    }
    PANIC("there is no frame allocator %u", way);
}

uint64_t frame_allocator_longest_run(const struct frame_allocator *allocator, const void *self,
                                     uint64_t frames)
{
    uint64_t longest = 0;
    uint64_t run = 0;

    for (uint64_t frame = 0; frame < frames; frame++) {
        run = allocator->is_free(self, frame) ? run + 1 : 0;
        if (run > longest)
            longest = run;
    }
    return longest;
}

uint64_t frame_allocator_whole_blocks(const struct frame_allocator *allocator, const void *self,
                                      uint64_t frames, unsigned order)
{
    uint64_t size = order_frames(order);
    uint64_t blocks = 0;

    for (uint64_t first = 0; first + size <= frames; first += size) {
        uint64_t frame = first;

        while (frame < first + size && allocator->is_free(self, frame))
            frame++;
        blocks += frame == first + size;
    }
    return blocks;
}

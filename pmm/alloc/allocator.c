/* The table of frame allocators, and helpers that work on any of them. */
#include "pmm/alloc/allocator.h"

#include <stddef.h>

#include "lib/bytes.h"
#include "lib/check.h"

#define DEFAULT_NAME "llfree"

/* Bounds of the section that FRAME_ALLOCATOR fills; the linker defines them. */
extern const struct frame_allocator *const __start_frame_allocators[];
extern const struct frame_allocator *const __stop_frame_allocators[];

const struct frame_allocator *frame_allocator(unsigned place)
{
    const struct frame_allocator *const *entry = __start_frame_allocators + place;

    return entry < __stop_frame_allocators ? *entry : NULL;
}

const struct frame_allocator *frame_allocator_named(const char *name)
{
    const struct frame_allocator *allocator;

    for (unsigned place = 0; (allocator = frame_allocator(place)) != NULL; place++) {
        if (strcmp(allocator->name, name) == 0)
            return allocator;
    }
    return NULL;
}

unsigned frame_allocator_count(void)
{
    return (unsigned)(__stop_frame_allocators - __start_frame_allocators);
}

unsigned frame_allocator_default(void)
{
    for (unsigned place = 0; place < frame_allocator_count(); place++) {
        if (strcmp(frame_allocator(place)->name, DEFAULT_NAME) == 0)
            return place;
    }
    PANIC("the image has no frame allocator %s", DEFAULT_NAME);
}

void frame_allocator_add(const struct frame_allocator *allocator, void *self, uint64_t first,
                         uint64_t count)
{
    if (allocator->add != NULL) {
        allocator->add(self, first, count);
        return;
    }
    for (uint64_t frame = first; frame < first + count; frame++)
        allocator->give(self, 0, frame, 0);
}

uint64_t frame_allocator_free_frames(const struct frame_allocator *allocator, const void *self,
                                     uint64_t frames)
{
    uint64_t free = 0;

    if (allocator->free_frames != NULL)
        return allocator->free_frames(self);
    for (uint64_t frame = 0; frame < frames; frame++)
        free += allocator->is_free(self, frame);
    return free;
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

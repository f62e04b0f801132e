/*
 * Shared by the files of the heap: its lock, and walks of its records.
 *
 * Owns: nothing. Context: the caller holds the lock, but in heap_lock. Fails with: nothing.
 */
#ifndef LIB_HEAP_INTERNAL_H
#define LIB_HEAP_INTERNAL_H

#include "lib/heap/heap.h"

/* No page: number 0 is never in a list, as lists hold numbers + 1. */
#define HEAP_NONE 0U

/* Takes the lock. Returns false if the heap is lost. */
bool heap_lock(struct heap *heap);

/* Unlocks it, after the work that a notice has left to the holder. */
void heap_unlock(struct heap *heap);

/* Returns the bytes of a size class. */
uint32_t heap_class_size(unsigned size_class);

/* Returns the class of a size up to HEAP_SMALL_MOST. */
unsigned heap_class_of(size_t size);

/* Returns the pages of a run of a class, and its objects. */
uint32_t heap_run_pages(unsigned size_class);
uint32_t heap_run_objects(unsigned size_class);

/* As heap_scavenge, with the lock held; looks at the records of about `look` pages at most. */
size_t heap_scavenge_locked(struct heap *heap, size_t look, size_t most,
                            bool (*functor)(void *context, void *at, size_t size), void *context);

/* Takes a span of this many pages, all of one kind afterwards. Returns its first page + 1, or
 * HEAP_NONE. */
uint32_t heap_take_span(struct heap *heap, uint32_t pages, enum heap_kind first,
                        enum heap_kind rest);

/* Frees pages that were a run or a large block, and joins the free neighbours. */
void heap_free_span(struct heap *heap, uint32_t first, uint32_t pages);

static inline uint8_t *heap_address(const struct heap *heap, uint32_t page)
{
    return heap->base + page * HEAP_PAGE;
}

#endif

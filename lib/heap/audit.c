/* Compares the heap's records with each other. */
#include "lib/heap/internal.h"

static const char *audit_run(const struct heap *heap, uint32_t at)
{
    const struct heap_page *run = &heap->page[at];
    uint32_t used = 0;

    if (run->size_class >= HEAP_CLASSES || run->length != heap_run_pages(run->size_class))
        return "a run's length is not that of its class";
    for (unsigned i = 0; i < HEAP_RUN_OBJECTS; i++) {
        if ((run->bits[i / 64] >> i % 64 & 1) == 0)
            continue;
        used++;
        if (i >= heap_run_objects(run->size_class))
            return "a bit behind a run's last object is set";
    }
    if (used != run->used || used == 0)
        return "a run's count is not that of its bits";
    return NULL;
}

static const char *audit_span(const struct heap *heap, uint32_t at, uint64_t *dirty)
{
    uint32_t length = heap->page[at].length;

    if (length == 0 || at + length > heap->pages)
        return "a span exceeds the heap";
    for (uint32_t i = 0; i < length; i++) {
        if (heap->page[at + i].kind != HEAP_FREE)
            return "a page of a span is in use";
        *dirty += heap->page[at + i].dirty;
    }
    if (heap->page[at + length - 1].length != length)
        return "the two ends of a span differ";
    if (at + length < heap->pages && heap->page[at + length].kind == HEAP_FREE)
        return "two spans that touch are not one";
    return NULL;
}

static const char *audit_block(const struct heap *heap, uint32_t at, uint64_t *live)
{
    const struct heap_page *first = &heap->page[at];
    uint8_t rest = first->kind == HEAP_RUN ? HEAP_RUN_REST : HEAP_LARGE_REST;

    if (first->kind != HEAP_RUN && first->kind != HEAP_LARGE)
        return "the rest of a block has no beginning";
    if (first->length == 0 || at + first->length > heap->pages)
        return "a block exceeds the heap";
    for (uint32_t i = 0; i < first->length; i++) {
        if (heap->page[at + i].head != at || (i > 0 && heap->page[at + i].kind != rest))
            return "a page of a block does not belong to it";
    }
    *live += first->kind == HEAP_RUN ? (uint64_t)first->used * heap_class_size(first->size_class)
                                     : first->length * HEAP_PAGE;
    return first->kind == HEAP_RUN ? audit_run(heap, at) : NULL;
}

/* Returns the spans in the lists, and whether each is in the list of its length. */
static uint64_t listed_spans(const struct heap *heap, bool *sound)
{
    uint64_t count = 0;

    *sound = true;
    for (unsigned list = 0; list < HEAP_SPAN_LISTS; list++) {
        if ((heap->spans[list] != HEAP_NONE) != (heap->span_lists >> list & 1))
            *sound = false;
        for (uint32_t at = heap->spans[list]; at != HEAP_NONE; at = heap->page[at - 1].next) {
            uint32_t length = heap->page[at - 1].length;

            *sound = *sound && heap->page[at - 1].kind == HEAP_FREE &&
                     (length == list + 1 || (list == HEAP_SPAN_LISTS - 1 && length > list));
            if (++count > heap->pages)
                return count;
        }
    }
    return count;
}

static const char *audit_locked(const struct heap *heap)
{
    const char *problem = NULL;
    uint64_t dirty = 0;
    uint64_t live = 0;
    uint64_t spans = 0;
    bool sound;

    for (uint32_t at = 0; at < heap->pages; at += heap->page[at].length) {
        bool free = heap->page[at].kind == HEAP_FREE;

        problem = free ? audit_span(heap, at, &dirty) : audit_block(heap, at, &live);
        if (problem != NULL)
            return problem;
        spans += free;
    }
    if (listed_spans(heap, &sound) != spans || !sound)
        return "the lists do not have all spans";
    if (dirty != heap->dirty_free)
        return "the count of dirty free pages is wrong";
    return live == heap->live_bytes ? NULL : "the count of live bytes is wrong";
}

const char *heap_audit(struct heap *heap)
{
    const char *problem;

    if (!heap_lock(heap))
        return "a thread has ended with the heap's lock";
    problem = audit_locked(heap);
    heap_unlock(heap);
    return problem;
}

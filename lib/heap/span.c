/* The heap's spans of free pages: lists by length, merging, giving pages back. */
#include "lib/heap/internal.h"

static unsigned span_list_of(uint32_t pages)
{
    if (pages >= HEAP_SPAN_LISTS)
        return HEAP_SPAN_LISTS - 1;
    return pages > 0 ? pages - 1 : 0;
}

/* ---- lists ---- */

static void span_insert(struct heap *heap, uint32_t first, uint32_t pages)
{
    unsigned list = span_list_of(pages);
    struct heap_page *record = &heap->page[first];

    record->length = pages;
    heap->page[first + pages - 1].length = pages;
    record->prev = HEAP_NONE;
    record->next = heap->spans[list];
    if (record->next != HEAP_NONE)
        heap->page[record->next - 1].prev = first + 1;
    heap->spans[list] = first + 1;
    heap->span_lists |= UINT64_C(1) << list;
}

static void span_remove(struct heap *heap, uint32_t first)
{
    struct heap_page *record = &heap->page[first];
    unsigned list = span_list_of(record->length);

    if (record->prev != HEAP_NONE)
        heap->page[record->prev - 1].next = record->next;
    else
        heap->spans[list] = record->next;
    if (record->next != HEAP_NONE)
        heap->page[record->next - 1].prev = record->prev;
    if (heap->spans[list] == HEAP_NONE)
        heap->span_lists &= ~(UINT64_C(1) << list);
}

/* Returns the first page + 1 of a span of at least this many pages: from the shortest list that has
 * one; in the last list, the first that is long enough. */
static uint32_t span_find(const struct heap *heap, uint32_t pages)
{
    uint64_t lists = heap->span_lists & (UINT64_MAX << span_list_of(pages));
    uint32_t found;

    if (lists == 0)
        return HEAP_NONE;
    found = heap->spans[__builtin_ctzll(lists)];
    while (found != HEAP_NONE && heap->page[found - 1].length < pages)
        found = heap->page[found - 1].next;
    return found;
}

/* ---- taking and freeing ---- */

uint32_t heap_take_span(struct heap *heap, uint32_t pages, enum heap_kind first,
                        enum heap_kind rest)
{
    uint32_t found = span_find(heap, pages);
    uint32_t length;

    if (found == HEAP_NONE)
        return HEAP_NONE;
    length = heap->page[found - 1].length;
    span_remove(heap, found - 1);
    if (length > pages)
        span_insert(heap, found - 1 + pages, length - pages);
    for (uint32_t i = 0; i < pages; i++) {
        struct heap_page *record = &heap->page[found - 1 + i];

        record->kind = (uint8_t)(i == 0 ? first : rest);
        record->head = found - 1;
        heap->dirty_free -= record->dirty;
        record->dirty = true;
    }
    heap->page[found - 1].length = pages;
    return found;
}

void heap_free_span(struct heap *heap, uint32_t first, uint32_t pages)
{
    bool clean =
        heap->policy->at_once &&
        heap->source.give_back(heap->source.context, heap_address(heap, first), pages * HEAP_PAGE);

    for (uint32_t i = 0; i < pages; i++) {
        heap->page[first + i].kind = HEAP_FREE;
        heap->page[first + i].dirty = !clean;
    }
    if (clean)
        heap->given_back += pages;
    else
        heap->dirty_free += pages;
    if (first + pages < heap->pages && heap->page[first + pages].kind == HEAP_FREE) {
        uint32_t after = heap->page[first + pages].length;

        span_remove(heap, first + pages);
        pages += after;
    }
    if (first > 0 && heap->page[first - 1].kind == HEAP_FREE) {
        uint32_t before = heap->page[first - 1].length;

        span_remove(heap, first - before);
        first -= before;
        pages += before;
    }
    span_insert(heap, first, pages);
}

/* ---- giving back ---- */

/* Returns the number of dirty pages in a row from `at`, before `end`. */
static uint32_t dirty_in_a_row(const struct heap *heap, uint32_t at, uint32_t end)
{
    uint32_t count = 0;

    while (at + count < end && heap->page[at + count].dirty)
        count++;
    return count;
}

/* Returns the pages from `at` to the end of the block, run or span that it is in, or begins. */
static uint32_t pages_to_next(const struct heap *heap, uint32_t at)
{
    return heap->page[at].kind == HEAP_FREE ? 1 : heap->page[at].length;
}

size_t heap_scavenge_locked(struct heap *heap, size_t look, size_t most,
                            bool (*functor)(void *context, void *at, size_t size), void *context)
{
    uint32_t at =
        heap->page[heap->cursor].kind == HEAP_FREE ? heap->cursor : heap->page[heap->cursor].head;
    size_t seen = 0;
    size_t done = 0;

    while (seen < heap->pages && seen < look && done < most && heap->dirty_free > 0) {
        uint32_t pages = pages_to_next(heap, at);

        if (heap->page[at].kind == HEAP_FREE && heap->page[at].dirty) {
            size_t room = most - done;
            uint32_t end = room < heap->pages - at ? at + (uint32_t)room : heap->pages;

            for (uint32_t i = at; i < end; i++) {
                if (heap->page[i].kind != HEAP_FREE)
                    end = i;
            }
            pages = dirty_in_a_row(heap, at, end);
            if (functor(context, heap_address(heap, at), pages * HEAP_PAGE)) {
                for (uint32_t i = 0; i < pages; i++)
                    heap->page[at + i].dirty = false;
                heap->dirty_free -= pages;
                heap->given_back += pages;
                done += pages;
            }
        }
        seen += pages;
        at = at + pages < heap->pages ? at + pages : 0;
    }
    heap->cursor = at;
    return done;
}

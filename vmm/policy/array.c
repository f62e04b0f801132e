/* Arrays in single frames, found by directories of frames. */
#include "vmm/policy/array.h"

#include "pmm/pmm.h"

#define PFNS_PER_FRAME ((uint32_t)(PAGE_SIZE / sizeof(struct pfn)))

static struct pfn *array_frame(const struct paged_array *array, uint32_t number)
{
    struct pfn *directory = frame_pointer(array->directories[number / PFNS_PER_FRAME]);

    return &directory[number % PFNS_PER_FRAME];
}

void *array_at(const struct paged_array *array, uint32_t index)
{
    uint8_t *first;

    CHECK_MSG(index < array_count(array), "element %u of %u", index, array_count(array));
    first = frame_pointer(*array_frame(array, index / array->each));
    return first + (size_t)(index % array->each) * array->size;
}

uint32_t array_count(const struct paged_array *array)
{
    return array->frames * array->each;
}

void array_close(struct paged_array *array)
{
    while (array->frames > 0) {
        array->frames--;
        pmm_free(*array_frame(array, array->frames));
        if (array->frames % PFNS_PER_FRAME == 0)
            pmm_free(array->directories[array->frames / PFNS_PER_FRAME]);
    }
}

/* Adds a frame, with a new directory if this is the first frame of one. */
static enum status array_grow(struct paged_array *array)
{
    struct pfn *directory = &array->directories[array->frames / PFNS_PER_FRAME];
    bool first = array->frames % PFNS_PER_FRAME == 0;
    enum status status = OK;

    if (first)
        status = pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, directory);
    if (status != OK)
        return status;
    status = pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, array_frame(array, array->frames));
    if (status == OK)
        array->frames++;
    else if (first)
        pmm_free(*directory);
    return status;
}

enum status array_open(struct paged_array *array, uint64_t count, uint32_t size)
{
    enum status status = OK;
    uint64_t frames;

    CHECK(count > 0 && size > 0 && size <= PAGE_SIZE);
    *array = (struct paged_array){.each = (uint32_t)(PAGE_SIZE / size), .size = size};
    frames = (count + array->each - 1) / array->each;
    if (frames > (uint64_t)ARRAY_DIRECTORIES * PFNS_PER_FRAME)
        return STATUS_NO_MEMORY;
    while (status == OK && array->frames < frames)
        status = array_grow(array);
    if (status != OK)
        array_close(array);
    return status;
}

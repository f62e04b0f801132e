/*
 * Arrays in single frames, for the data that a policy has for each page or slot.
 *
 * Units: elements. Owns: its frames, from array_open to array_close. Fails with: STATUS_NO_MEMORY.
 * Context: any; the caller serializes.
 */
#ifndef VMM_POLICY_ARRAY_H
#define VMM_POLICY_ARRAY_H

#include "lib/status.h"
#include "lib/units.h"

#define ARRAY_DIRECTORIES 128U

struct paged_array {
    uint32_t each;   /* elements of a frame */
    uint32_t size;   /* bytes of an element */
    uint32_t frames; /* with elements; directories are not counted */
    struct pfn directories[ARRAY_DIRECTORIES];
};

/* Makes an array of at least `count` elements, all zero. */
MUST_USE enum status array_open(struct paged_array *array, uint64_t count, uint32_t size);
void array_close(struct paged_array *array);

void *array_at(const struct paged_array *array, uint32_t index);
uint32_t array_count(const struct paged_array *array);

#endif

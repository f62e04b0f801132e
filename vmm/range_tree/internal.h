/*
 * Between the files of the range tree: its nodes.
 *
 * Owns: nothing. Fails with: as range_tree.h says. Context: as there.
 */
#ifndef VMM_RANGE_TREE_INTERNAL_H
#define VMM_RANGE_TREE_INTERNAL_H

#include "lib/check.h"
#include "lib/units.h"
#include "vmm/range_tree/range_tree.h"

/* Neighbours that together have no more places are joined, if both are own. */
#define RANGE_JOINED (RANGE_PLACES * 3 / 4)

_Static_assert(sizeof(struct range_node) == 1008, "four in a frame");
_Static_assert(sizeof(struct range_place) == sizeof(struct tree_range) &&
                   offsetof(struct range_place, low) == offsetof(struct tree_range, start) &&
                   offsetof(struct range_place, high) == offsetof(struct tree_range, end),
               "what a place covers stands where a range stands");

/* Allocates a node without places, of count 1; frees an own node whose places are gone. */
MUST_USE enum status range_node_alloc(unsigned level, struct range_node **node);
void range_node_free(struct range_node *node);

static inline bool range_node_is_own(const struct range_node *node)
{
    return __atomic_load_n(&node->count, __ATOMIC_ACQUIRE) == 1;
}

static inline uint64_t place_low(const struct range_node *node, unsigned i)
{
    return node->ranges[i].start;
}

static inline uint64_t place_high(const struct range_node *node, unsigned i)
{
    return node->ranges[i].end;
}

/* Returns the largest gap at a place: before it, and in the subtree there. */
static inline uint64_t place_gap(const struct range_node *node, unsigned i)
{
    uint64_t before = i > 0 ? place_low(node, i) - place_high(node, i - 1) : 0;

    return node->level > 0 ? max_u64(before, node->places[i].gap) : before;
}

/* Returns the first place that ends after the address; `used` if none does. */
static inline unsigned find_place(const struct range_node *node, uint64_t address)
{
    unsigned from = 0;
    unsigned to = node->used;

    while (from < to) {
        unsigned middle = (from + to) / 2;

        if (place_high(node, middle) > address)
            to = middle;
        else
            from = middle + 1;
    }
    return from;
}

/* Returns the place of a node above a leaf below which the address is, or would be added. */
static inline unsigned find_child(const struct range_node *node, uint64_t address)
{
    unsigned at = find_place(node, address);

    return at - (at == node->used);
}

static inline void path_forget(struct range_tree *tree)
{
    tree->path.from = 0;
    tree->path.to = 0;
}

/* Returns the largest gap of a node; `most` is a bound that ends the search where it is met. */
static inline uint64_t node_gap(const struct range_node *node, uint64_t most)
{
    uint64_t gap = 0;

    for (unsigned i = 0; i < node->used && gap < most; i++)
        gap = max_u64(gap, place_gap(node, i));
    return gap;
}

static inline struct range_place sum_with(struct range_node *node, uint64_t gap)
{
    return (struct range_place){.low = place_low(node, 0),
                                .high = place_high(node, node->used - 1U),
                                .gap = gap,
                                .node = node};
}

static inline struct range_place sum_up(struct range_node *node)
{
    return sum_with(node, node_gap(node, UINT64_MAX));
}

static inline void copy_places(struct range_node *to, unsigned at, const struct range_node *from,
                               unsigned first, unsigned count)
{
    CHECK(at + count <= RANGE_PLACES && first + count <= from->used);
    __builtin_memcpy(&to->ranges[at], &from->ranges[first], count * sizeof(struct tree_range));
}

/* Sets the number of places, and ends them: no address is behind the end. */
static inline void end_places(struct range_node *node, unsigned used)
{
    node->used = (uint16_t)used;
    node->ranges[used].start = 0;
    node->ranges[used].end = UINT64_MAX;
}

static inline void set_used(struct range_node *node, unsigned used)
{
    CHECK(used <= RANGE_PLACES);
    end_places(node, used);
}

#endif

/*
 * The range tree: disjoint ranges in a red-black tree by address. Each node also records the span
 * of its subtree and the largest gap in it.
 *
 * Finding the range at an address, and finding a gap, both walk down one path: O(log n). With an
 * alignment above a page, a gap may be large enough and still contain no aligned range; each such
 * gap before the result costs one more walk. A gap of size + alignment - 4 KiB always suffices,
 * which bounds the extra walks to gaps between those sizes.
 *
 * The tree is generic: a node is the first member of the caller's object.
 *
 * Units: bytes or any other, ranges half-open. Owns: nothing; nodes are the caller's.
 * State of a node: outside -> region_tree_insert -> inside -> region_tree_remove -> outside.
 * Fails with: nothing; an overlap is a CHECK. Context: any, one call on a tree at a time.
 */
#ifndef VMM_SPACE_REGION_TREE_H
#define VMM_SPACE_REGION_TREE_H

#include <bsd/sys/tree.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct region_node {
    RB_ENTRY(region_node) link;
    uint64_t start;
    uint64_t end;
    /* Of the subtree whose root is this node: */
    uint64_t low;  /* the lowest start */
    uint64_t high; /* the highest end */
    uint64_t gap;  /* the largest gap between two neighbours */
};

RB_HEAD(region_tree, region_node);

/* Inserts a node. Its range is set, and overlaps no other. */
void region_tree_insert(struct region_tree *tree, struct region_node *node);

/* Inserts between known neighbours (region_tree_find_both); NULL: none. */
void region_tree_insert_between(struct region_tree *tree, struct region_node *before,
                                struct region_node *node, struct region_node *next);

void region_tree_remove(struct region_tree *tree, struct region_node *node);

/* Changes the range of a node that is in a tree. The order of the nodes must not change. */
void region_tree_resize(struct region_node *node, uint64_t start, uint64_t end);

/* Returns the first range that ends after the address, and in *before the last that ends at or
 * before it; NULL: none. */
static inline struct region_node *
region_tree_find_both(const struct region_tree *tree, uint64_t address, struct region_node **before)
{
    struct region_node *at = RB_ROOT(tree);
    struct region_node *found = NULL;
    struct region_node *last = NULL;

    while (at != NULL) {
        if (at->end > address) {
            found = at;
            at = RB_LEFT(at, link);
        } else {
            last = at;
            at = RB_RIGHT(at, link);
        }
    }
    *before = last;
    return found;
}

static inline struct region_node *region_tree_find(const struct region_tree *tree, uint64_t address)
{
    struct region_node *before;

    return region_tree_find_both(tree, address, &before);
}

/* Return the next and the previous node by address; NULL at the ends. */
struct region_node *region_tree_next(struct region_node *node);
struct region_node *region_tree_before(struct region_node *node);

/* Finds the lowest multiple of alignment (a power of two) in [low, high) with a free range of size
 * below high. Returns false if there is none. */
bool region_tree_find_gap(const struct region_tree *tree, uint64_t low, uint64_t high,
                          uint64_t size, uint64_t alignment, uint64_t *start);

/* Checks order, colours, parents, and the sums of each node; panics with values on a difference.
 * Returns the number of nodes. */
uint32_t region_tree_audit(const struct region_tree *tree);

#endif

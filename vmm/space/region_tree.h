/*
 * The range tree of a space's mappings: disjoint ranges in a red-black tree by address.
 *
 * Finding the range at an address walks down one path: O(log n). The tree is generic: a node is the
 * first member of the caller's object.
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
};

RB_HEAD(region_tree, region_node);

/* Inserts a node. Its range is set, and overlaps no other. */
void region_tree_insert(struct region_tree *tree, struct region_node *node);

void region_tree_remove(struct region_tree *tree, struct region_node *node);

/* Changes the range of a node that is in a tree. The order of the nodes must not change. */
void region_tree_resize(struct region_node *node, uint64_t start, uint64_t end);

/* Returns the first range that ends after the address; NULL: none. */
static inline struct region_node *region_tree_find(const struct region_tree *tree, uint64_t address)
{
    struct region_node *at = RB_ROOT(tree);
    struct region_node *found = NULL;

    while (at != NULL) {
        if (at->end > address) {
            found = at;
            at = RB_LEFT(at, link);
        } else {
            at = RB_RIGHT(at, link);
        }
    }
    return found;
}

/* Returns the next node by address; NULL: none. */
struct region_node *region_tree_next(struct region_node *node);

/* Checks order, colours and parents; panics with values on a difference. Returns the number of
 * nodes. */
uint32_t region_tree_audit(const struct region_tree *tree);

#endif

/*
 * Plain trees: trees of 1 to 5 levels that no processor walks.
 *
 * A plain tree has no kernel half: all entries of its root are its own, so that a tree of n levels
 * has room for the span of an entry of level n + 1. It has as many levels as it needs, and gets
 * more or fewer of them while walks go on: the table at address 0 of one level and the root of a
 * lower tree are the same table. The number of the root is stored as one word, and the root's
 * record says its level; so a walk reads both at once, and finds the old tree or the new one.
 *
 * Units: addresses in bytes, levels. Owns: its root, with one count. State: plain_create ->
 * (plain_grow | plain_lower)* -> plain_destroy. Protectors: the caller has one lock for all calls
 * that change the root; walks need none. Fails with: STATUS_NO_MEMORY. Context: as tree.h says.
 * Rules: C11, P2, P5.
 */
#ifndef PAGING_PLAIN_PLAIN_H
#define PAGING_PLAIN_PLAIN_H

#include "paging/tree/tree.h"

/* Returns the bytes for which a tree of so many levels has room. */
static inline uint64_t plain_room(unsigned levels)
{
    return pte_span(levels + 1);
}

/* Returns the fewest levels with room for so many bytes, 1 to TREE_LEVELS_MAX. */
unsigned plain_levels_for(uint64_t bytes);

/* Creates an empty tree. */
MUST_USE enum status plain_create(struct tree *tree, unsigned levels);

/* Drops everything that the tree references, then its root. No walk may be in it. */
void plain_destroy(struct tree *tree);

/* Returns the tree as it is now, for calls of tree.h. It is valid until interrupts are on again. */
struct tree plain_view(const struct tree *tree);

/* As tree_walk. An address for which the tree has no room ends the walk above the root: one level
 * higher, at an empty entry. */
struct tree_place plain_walk(const struct tree *tree, uint64_t address);

/* Shares every entry of the parent's root with the child's, which is empty and has as many levels.
 * The root of one level is a leaf table, which joins the ring of its source. */
void plain_fork(struct tree *child, struct tree *parent);

/* Adds roots on top, up to so many levels. STATUS_NO_MEMORY: nothing has changed. */
MUST_USE enum status plain_grow(struct tree *tree, unsigned levels);

/* Makes the table at address 0 the root of a tree of fewer levels; the path to it is own. Returns
 * the old root, with all else: once no walk can be in it, plain_drop drops that. */
struct pfn plain_lower(struct tree *tree, unsigned levels);
void plain_drop(struct pfn root);

#endif

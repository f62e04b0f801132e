/*
 * A tree of disjoint ranges that several owners share until one of them changes it.
 *
 * A B-tree. Each reference to a node, from a root or from the node above, is one count of the node.
 * range_tree_share makes a second root of a tree in constant time. A node is *own* if one root
 * reaches it alone: it and all above it have count 1. A change writes to own nodes only;
 * range_tree_own copies those on its way that are not (rule C14). So a tree never changes under
 * another owner, and each pays only for the paths that it changes.
 *
 * A range has two words of its owner's. Words that need a count of their own are counted by node,
 * not by tree: insert and cut take over a count from the caller, remove gives one back, and the
 * hook is called when a node with ranges is copied, and when one is freed.
 *
 * Units: bytes or any other, ranges half-open, starts above 0. Owns: its nodes. State: {0} (empty)
 * -> any calls -> range_tree_drop -> {0}. Fails with: STATUS_NO_MEMORY; the ranges are as before
 * then. An overlap, a change of what is not there or not own, is a CHECK. Context: any; one call on
 * a tree at a time, also to find, but trees that share nodes may be used at once.
 */
#ifndef VMM_RANGE_TREE_RANGE_TREE_H
#define VMM_RANGE_TREE_RANGE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/status.h"

struct tree_range {
    uint64_t start;
    uint64_t end;
    uint64_t words[2];
};

#define RANGE_PLACES 30U

/* A subtree in the node above it. */
struct range_place {
    uint64_t low;
    uint64_t high;
    uint64_t gap; /* the largest between two ranges below */
    struct range_node *node;
};

struct range_node {
    uint32_t count; /* atomic */
    uint16_t level; /* 0: a leaf */
    uint16_t used;
    uint64_t audit; /* references that AUDIT has met */
    union {
        struct tree_range ranges[RANGE_PLACES + 1]; /* one of [0, UINT64_MAX) behind the last */
        struct range_place places[RANGE_PLACES + 1];
        struct range_node *next; /* of a spare node */
    };
};

/* Each level needs 15 times the inserts of the one below: more than can ever be made. */
#define RANGE_LEVELS 12U

/* The way from the root to the leaf that was looked at last, by level. The next call often is about
 * the same one. */
struct range_path {
    uint64_t from, to; /* the addresses that lead there; both 0: no way is known */
    uint8_t top;       /* level of the root */
    uint8_t at[RANGE_LEVELS];
    struct range_node *nodes[RANGE_LEVELS];
};

struct range_tree {
    struct range_node *root;  /* NULL: empty */
    struct range_node *spare; /* nodes reserved for the next insert */
    uint32_t spares;
    bool shared; /* was so since it was empty; otherwise all nodes are own */
    struct range_path path;
};

/* Called with `held` true when a node with these ranges appears, and false when one goes. */
typedef void range_hook(const struct tree_range *ranges, unsigned count, bool held);

/* Makes an empty tree an owner of all that another one has. */
void range_tree_share(struct range_tree *tree, struct range_tree *from);

/* Empties a tree, and frees its spare nodes. */
void range_tree_drop(struct range_tree *tree, range_hook *hook);

/* Drops about so many ranges of a tree that does nothing else any more: whole leaves, and nodes
 * that others share, which cost as much as a range. Returns true once the tree is empty. */
MUST_USE bool range_tree_drop_some(struct range_tree *tree, unsigned most, range_hook *hook);

/* Frees the node that an empty tree keeps for its next range; returns the frames that are free. */
uint64_t range_tree_trim(struct range_tree *tree);

/* Makes the nodes own that have a range which touches or overlaps [from, to], and those to which a
 * range at `from` would be added. If it fails, some of them are. Pointers into the tree end. */
MUST_USE enum status range_tree_own_nodes(struct range_tree *tree, uint64_t from, uint64_t to,
                                          range_hook *hook);

MUST_USE static inline enum status range_tree_own(struct range_tree *tree, uint64_t from,
                                                  uint64_t to, range_hook *hook)
{
    return tree->shared ? range_tree_own_nodes(tree, from, to, hook) : OK;
}

/* Returns true if the nodes on the way to the range at an address are own. */
bool range_tree_is_own(const struct range_tree *tree, uint64_t address);

/* Inserts a range. Nothing is own before that need not be. */
MUST_USE enum status range_tree_insert(struct range_tree *tree, const struct tree_range *range,
                                       range_hook *hook);

/* Cuts the range around an address into two with the same words. */
MUST_USE enum status range_tree_cut(struct range_tree *tree, uint64_t address, range_hook *hook);

/* Reserves nodes, so that an insert into own nodes cannot fail, whatever is removed before; frees
 * what is left of them. */
MUST_USE enum status range_tree_reserve(struct range_tree *tree);
void range_tree_unreserve(struct range_tree *tree);

/* Remove the range at start, and set *gone to it; change a range, whose place in the order stays.
 * The nodes on the way are own. */
void range_tree_remove(struct range_tree *tree, uint64_t start, struct tree_range *gone);
void range_tree_resize(struct range_tree *tree, uint64_t start, uint64_t new_start,
                       uint64_t new_end);

/* Finds the way to an address: to the leaf with the first range that ends after it, or to the last
 * one, and to the place there. The tree has a root. */
unsigned range_path_walk(struct range_path *path, struct range_node *root, uint64_t address);

/* As range_path_walk, if the path does not lead there already. */
static inline unsigned range_path_find(struct range_tree *tree, uint64_t address)
{
    struct range_path *path = &tree->path;

    if (address - path->from < path->to - path->from) {
        unsigned at = path->at[0];
        const struct tree_range *range = &path->nodes[0]->ranges[at];

        if (range->end > address && (at == 0 || range[-1].end <= address))
            return at;
    }
    return range_path_walk(path, tree->root, address);
}

/* Returns the first range that ends after the address; NULL: none. Valid until the tree changes.
 * Nothing changes but the way that is remembered. */
static inline const struct tree_range *range_tree_find(const struct range_tree *tree,
                                                       uint64_t address)
{
    const struct tree_range *range;

    if (tree->root == NULL)
        return NULL;
    (void)range_path_find((struct range_tree *)tree, address);
    range = &tree->path.nodes[0]->ranges[tree->path.at[0]];
    return range->start != 0 ? range : NULL;
}

/* Returns the last range in front of the leaf of the path; NULL: it is the first one. */
const struct tree_range *range_path_before(const struct range_path *path);

/* As range_tree_find, and sets *before to the last range that ends at or before the address. */
static inline const struct tree_range *range_tree_find_both(const struct range_tree *tree,
                                                            uint64_t address,
                                                            const struct tree_range **before)
{
    const struct tree_range *range;
    unsigned at;

    *before = NULL;
    if (tree->root == NULL)
        return NULL;
    at = range_path_find((struct range_tree *)tree, address);
    range = &tree->path.nodes[0]->ranges[at];
    *before = at > 0 ? range - 1 : tree->path.top > 0 ? range_path_before(&tree->path) : NULL;
    return range->start != 0 ? range : NULL;
}

/* Returns the range after one that was found; NULL: none. A tree of one leaf ends where it ends. */
static inline const struct tree_range *range_tree_next(const struct range_tree *tree,
                                                       const struct tree_range *range)
{
    if (range[1].start != 0)
        return &range[1];
    return tree->root->level > 0 ? range_tree_find(tree, range->end) : NULL;
}

/* Finds the lowest multiple of alignment (a power of two) in [low, high) with a free range of size
 * below high. Returns false if there is none. */
bool range_tree_find_gap(const struct range_tree *tree, uint64_t low, uint64_t high, uint64_t size,
                         uint64_t alignment, uint64_t *start);

/* Checks the order and the sums of a tree, and its fill if it was never shared; returns its number
 * of ranges. */
uint32_t range_tree_audit(const struct range_tree *tree);

/* For AUDIT, of all trees that share nodes: the first counts the references of each node from this
 * tree, the second compares them with the node's count, after the first was called for all. */
void range_tree_count_references(const struct range_tree *tree);
void range_tree_compare_references(const struct range_tree *tree);

#endif

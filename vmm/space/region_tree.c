/* The range tree. */

/*
 * <bsd/sys/tree.h> calls this for the two nodes of a rotation and their parent, and in a removal
 * for some nodes of the path. It does not update the whole path from an inserted or removed node to
 * the root. This file does, after the rotations, from the lowest node whose subtree changed. A node
 * that a rotation moved off that path is correct already: the rotation has updated it, and its
 * children did not change.
 */
#define RB_AUGMENT(node) region_tree_sum_up(node)

#include "vmm/space/region_tree.h"

#include <stddef.h>

#include "lib/check.h"
#include "lib/units.h"

/* Computes a node's low, high and gap from its own range and its children. */
static inline void region_tree_sum_up(struct region_node *node)
{
    const struct region_node *left = RB_LEFT(node, link);
    const struct region_node *right = RB_RIGHT(node, link);
    uint64_t low = node->start;
    uint64_t high = node->end;
    uint64_t gap = 0;

    if (left != NULL) {
        gap = max_u64(left->gap, low - left->high);
        low = left->low;
    }
    if (right != NULL) {
        gap = max_u64(gap, max_u64(right->gap, right->low - high));
        high = right->high;
    }
    node->low = low;
    node->high = high;
    node->gap = gap;
}

static inline int region_tree_compare(const struct region_node *a, const struct region_node *b)
{
    return a->start < b->start ? -1 : a->start > b->start;
}

/* As RB_GENERATE_STATIC, whose __unused only BSD's compilers know. */
RB_GENERATE_INTERNAL(region_tree, region_node, link, region_tree_compare,
                     __attribute__((unused)) static)

static void region_tree_sum_up_path(struct region_node *node)
{
    for (; node != NULL; node = RB_PARENT(node, link))
        region_tree_sum_up(node);
}

/* ---- changing ---- */

/* Of two neighbours, either the first has no right child or the second has no left child; the node
 * goes there. */
void region_tree_insert_between(struct region_tree *tree, struct region_node *before,
                                struct region_node *node, struct region_node *next)
{
    CHECK_MSG(node->start < node->end && (before == NULL || before->end <= node->start) &&
                  (next == NULL || node->end <= next->start),
              "range %lx to %lx overlaps one that ends at %lx or one that begins at %lx",
              node->start, node->end, before == NULL ? 0 : before->end,
              next == NULL ? UINT64_MAX : next->start);
    if (next != NULL && RB_LEFT(next, link) == NULL) {
        RB_SET(node, next, link);
        RB_LEFT(next, link) = node;
    } else if (before != NULL) {
        CHECK(RB_RIGHT(before, link) == NULL);
        RB_SET(node, before, link);
        RB_RIGHT(before, link) = node;
    } else {
        CHECK(RB_EMPTY(tree));
        RB_SET(node, NULL, link);
        RB_ROOT(tree) = node;
    }
    region_tree_RB_INSERT_COLOR(tree, node);
    region_tree_sum_up_path(node);
}

void region_tree_insert(struct region_tree *tree, struct region_node *node)
{
    struct region_node *before;
    struct region_node *next = region_tree_find_both(tree, node->start, &before);

    region_tree_insert_between(tree, before, node, next);
}

/* Removes a node with two children: its successor takes its place. The successor's old parent is
 * the lowest node whose subtree changes. */
__attribute__((noinline)) static void remove_with_children(struct region_tree *tree,
                                                           struct region_node *node)
{
    struct region_node *next = RB_NEXT(region_tree, NULL, node);
    struct region_node *lowest = RB_PARENT(next, link) == node ? next : RB_PARENT(next, link);

    CHECK(RB_REMOVE(region_tree, tree, node) == node);
    region_tree_sum_up_path(lowest);
}

/* A node with at most one child is replaced by that child: as RB_REMOVE does it, with the sums
 * computed afterwards. */
void region_tree_remove(struct region_tree *tree, struct region_node *node)
{
    struct region_node *left = RB_LEFT(node, link);
    struct region_node *right = RB_RIGHT(node, link);
    struct region_node *parent = RB_PARENT(node, link);
    struct region_node *child = left != NULL ? left : right;

    if (left != NULL && right != NULL) {
        remove_with_children(tree, node);
        return;
    }
    if (child != NULL)
        RB_PARENT(child, link) = parent;
    if (parent == NULL)
        RB_ROOT(tree) = child;
    else if (RB_LEFT(parent, link) == node)
        RB_LEFT(parent, link) = child;
    else
        RB_RIGHT(parent, link) = child;
    if (RB_COLOR(node, link) == RB_BLACK)
        region_tree_RB_REMOVE_COLOR(tree, parent, child);
    region_tree_sum_up_path(parent);
}

void region_tree_resize(struct region_node *node, uint64_t start, uint64_t end)
{
    CHECK_MSG(start < end, "range %lx to %lx", start, end);
    node->start = start;
    node->end = end;
    region_tree_sum_up_path(node);
}

/* ---- finding ---- */

struct region_node *region_tree_next(struct region_node *node)
{
    return RB_NEXT(region_tree, NULL, node);
}

struct region_node *region_tree_before(struct region_node *node)
{
    return RB_PREV(region_tree, NULL, node);
}

/* A search in ascending order: no gap below `at` fits. */
struct gap_search {
    uint64_t at;
    uint64_t size;
    uint64_t alignment;
};

/* Returns true if the range fits between `at` and this region. */
static bool fits_before(struct gap_search *search, uint64_t end)
{
    uint64_t start = round_up(search->at, search->alignment);

    if (start < search->at || start >= end || end - start < search->size)
        return false;
    search->at = start;
    return true;
}

/* Searches the gap before a subtree, and those in it. Skips a subtree in which no gap is large
 * enough. Recursion is as deep as the tree: at most 2 log n. */
static bool search_subtree(const struct region_node *node, struct gap_search *search)
{
    if (node == NULL || node->high <= search->at)
        return false;
    if (node->gap < search->size) {
        if (fits_before(search, node->low))
            return true;
        search->at = node->high;
        return false;
    }
    if (search_subtree(RB_LEFT(node, link), search) || fits_before(search, node->start))
        return true;
    search->at = max_u64(search->at, node->end);
    return search_subtree(RB_RIGHT(node, link), search);
}

bool region_tree_find_gap(const struct region_tree *tree, uint64_t low, uint64_t high,
                          uint64_t size, uint64_t alignment, uint64_t *start)
{
    struct gap_search search = {.at = low, .size = size, .alignment = alignment};

    CHECK(size > 0 && alignment > 0 && (alignment & (alignment - 1)) == 0);
    if (!search_subtree(RB_ROOT(tree), &search) && !fits_before(&search, high))
        return false;
    *start = search.at;
    return search.at < high && size <= high - search.at;
}

/* ---- proof ---- */

static bool is_red(const struct region_node *node)
{
    return node != NULL && RB_COLOR(node, link) == RB_RED;
}

/* Returns the number of nodes of a subtree, and sets *black to the number of black nodes on each of
 * its paths. */
static uint32_t audit_subtree(struct region_node *node, unsigned *black)
{
    struct region_node *left;
    struct region_node *right;
    struct region_node before;
    unsigned black_right;
    uint32_t count;

    *black = 0;
    if (node == NULL)
        return 0;
    left = RB_LEFT(node, link);
    right = RB_RIGHT(node, link);
    count = 1 + audit_subtree(left, black) + audit_subtree(right, &black_right);
    CHECK_MSG(*black == black_right, "%u and %u black nodes under the range at %lx", *black,
              black_right, node->start);
    CHECK_MSG(!is_red(node) || (!is_red(left) && !is_red(right)), "red under red at %lx",
              node->start);
    CHECK((left == NULL || RB_PARENT(left, link) == node) &&
          (right == NULL || RB_PARENT(right, link) == node));
    CHECK_MSG(node->start < node->end && (left == NULL || left->high <= node->start) &&
                  (right == NULL || node->end <= right->low),
              "range %lx to %lx is out of order", node->start, node->end);
    before = *node;
    region_tree_sum_up(node);
    CHECK_MSG(before.low == node->low && before.high == node->high && before.gap == node->gap,
              "the range at %lx says %lx to %lx, gap %lx; it is %lx to %lx, gap %lx", node->start,
              before.low, before.high, before.gap, node->low, node->high, node->gap);
    *black += !is_red(node);
    return count;
}

uint32_t region_tree_audit(const struct region_tree *tree)
{
    struct region_node *root = RB_ROOT(tree);
    unsigned black;

    CHECK(root == NULL || (RB_PARENT(root, link) == NULL && !is_red(root)));
    return audit_subtree(root, &black);
}

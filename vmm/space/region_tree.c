/* The range tree. */

/*
 * <bsd/sys/tree.h> calls this for the two nodes of a rotation and for the parent above them, and in
 * a removal for some nodes of a path; it does not go up from where a node was put in or taken out.
 * So that is done here, from the lowest node whose subtree changed, after the rotations: a node
 * that a rotation has moved off that path has been summed up by the rotation from children that did
 * not change.
 */
#define RB_AUGMENT(node) region_tree_sum_up(node)

#include "vmm/space/region_tree.h"

#include <stddef.h>

#include "lib/check.h"
#include "lib/units.h"

/* Computes a node's summary of its subtree from itself and its children. */
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

/* Of two neighbours the one has nothing on its right, or the other nothing on its left: there the
 * node's place is. */
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

/* A node with two children: the next one takes its place, and leaves its own, which is the lowest
 * whose subtree changes. */
__attribute__((noinline)) static void remove_with_children(struct region_tree *tree,
                                                           struct region_node *node)
{
    struct region_node *next = RB_NEXT(region_tree, NULL, node);
    struct region_node *lowest = RB_PARENT(next, link) == node ? next : RB_PARENT(next, link);

    CHECK(RB_REMOVE(region_tree, tree, node) == node);
    region_tree_sum_up_path(lowest);
}

/* Any other leaves its place to its only child, if it has one: RB_REMOVE's half for this, without
 * the sums that are made after it. */
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

/* A search in ascending order: all gaps below `at` are too small. */
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

/* Searches the gap before a subtree, and those in it. Whole subtrees are passed over when no gap in
 * them is large enough. The depth is that of the tree: at most twice its logarithm. */
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

/* ---- whole trees ---- */

/* One call of region_tree_clone. */
struct cloning {
    struct region_node *(*copy)(const struct region_node *node, void *context);
    void *context;
};

static struct region_node *clone_subtree(const struct region_node *from, const struct cloning *how)
{
    struct region_node *left;
    struct region_node *right;
    struct region_node *to;

    if (from == NULL)
        return NULL;
    left = clone_subtree(RB_LEFT(from, link), how);
    to = how->copy(from, how->context);
    right = clone_subtree(RB_RIGHT(from, link), how);
    RB_PARENT(to, link) = NULL;
    RB_LEFT(to, link) = left;
    RB_RIGHT(to, link) = right;
    if (left != NULL)
        RB_PARENT(left, link) = to;
    if (right != NULL)
        RB_PARENT(right, link) = to;
    return to;
}

void region_tree_clone(struct region_tree *tree, const struct region_tree *from,
                       struct region_node *(*copy)(const struct region_node *node, void *context),
                       void *context)
{
    struct cloning how = {.copy = copy, .context = context};

    CHECK(RB_EMPTY(tree));
    RB_ROOT(tree) = clone_subtree(RB_ROOT(from), &how);
}

static void drain_subtree(struct region_node *node,
                          void (*gone)(struct region_node *node, void *context), void *context)
{
    struct region_node *right;

    if (node == NULL)
        return;
    right = RB_RIGHT(node, link);
    drain_subtree(RB_LEFT(node, link), gone, context);
    gone(node, context);
    drain_subtree(right, gone, context);
}

void region_tree_drain(struct region_tree *tree,
                       void (*gone)(struct region_node *node, void *context), void *context)
{
    struct region_node *root = RB_ROOT(tree);

    RB_INIT(tree);
    drain_subtree(root, gone, context);
}

/* ---- proof ---- */

static bool is_red(const struct region_node *node)
{
    return node != NULL && RB_COLOR(node, link) == RB_RED;
}

/* Counts the nodes of a subtree; black is how many black nodes each of its paths has. */
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

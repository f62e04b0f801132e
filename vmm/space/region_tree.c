/* The range tree of mappings. */
#include "vmm/space/region_tree.h"

#include "lib/check.h"

static inline int region_tree_compare(const struct region_node *a, const struct region_node *b)
{
    return a->start < b->start ? -1 : a->start > b->start;
}

/* As RB_GENERATE_STATIC, whose __unused only BSD's compilers know. */
RB_GENERATE_INTERNAL(region_tree, region_node, link, region_tree_compare,
                     __attribute__((unused)) static)

void region_tree_insert(struct region_tree *tree, struct region_node *node)
{
    const struct region_node *next = region_tree_find(tree, node->start);

    CHECK_MSG(node->start < node->end && (next == NULL || node->end <= next->start),
              "range %lx to %lx overlaps one that begins at %lx", node->start, node->end,
              next == NULL ? UINT64_MAX : next->start);
    CHECK(RB_INSERT(region_tree, tree, node) == NULL);
}

void region_tree_remove(struct region_tree *tree, struct region_node *node)
{
    CHECK(RB_REMOVE(region_tree, tree, node) == node);
}

void region_tree_resize(struct region_node *node, uint64_t start, uint64_t end)
{
    CHECK_MSG(start < end, "range %lx to %lx", start, end);
    node->start = start;
    node->end = end;
}

struct region_node *region_tree_next(struct region_node *node)
{
    return RB_NEXT(region_tree, NULL, node);
}

/* ---- proof ---- */

static bool is_red(const struct region_node *node)
{
    return node != NULL && RB_COLOR(node, link) == RB_RED;
}

/* What is known of the nodes that were visited, in order. */
struct region_tree_walk {
    uint64_t end; /* of the last range */
    uint32_t count;
};

/* Visits a subtree; returns the number of black nodes on each of its paths. */
static unsigned audit_subtree(const struct region_node *node, struct region_tree_walk *walk)
{
    const struct region_node *left;
    const struct region_node *right;
    unsigned black;
    unsigned black_right;

    if (node == NULL)
        return 0;
    left = RB_LEFT(node, link);
    right = RB_RIGHT(node, link);
    CHECK((left == NULL || RB_PARENT(left, link) == node) &&
          (right == NULL || RB_PARENT(right, link) == node));
    CHECK_MSG(!is_red(node) || (!is_red(left) && !is_red(right)), "red under red at %lx",
              node->start);
    black = audit_subtree(left, walk);
    CHECK_MSG(walk->end <= node->start && node->start < node->end,
              "range %lx to %lx is out of order: one before ends at %lx", node->start, node->end,
              walk->end);
    walk->end = node->end;
    walk->count++;
    black_right = audit_subtree(right, walk);
    CHECK_MSG(black == black_right, "%u and %u black nodes under the range at %lx", black,
              black_right, node->start);
    return black + !is_red(node);
}

uint32_t region_tree_audit(const struct region_tree *tree)
{
    const struct region_node *root = RB_ROOT(tree);
    struct region_tree_walk walk = {0};

    CHECK(root == NULL || (RB_PARENT(root, link) == NULL && !is_red(root)));
    (void)audit_subtree(root, &walk);
    return walk.count;
}

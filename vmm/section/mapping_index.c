/* The index of a section's mappings. */

/* <bsd/sys/tree.h> calls this for the nodes of a rotation; this file updates the path above an
 * inserted or removed node afterwards. */
#define RB_AUGMENT(node) mapping_index_sum_up(node)

#include "vmm/section/mapping_index.h"

#include <stddef.h>

#include "lib/check.h"
#include "lib/units.h"

static inline void mapping_index_sum_up(struct mapping_index_node *node)
{
    const struct mapping_index_node *left = RB_LEFT(node, link);
    const struct mapping_index_node *right = RB_RIGHT(node, link);

    node->high =
        max_u64(node->to, max_u64(left == NULL ? 0 : left->high, right == NULL ? 0 : right->high));
}

static inline int mapping_index_compare(const struct mapping_index_node *a,
                                        const struct mapping_index_node *b)
{
    if (a->from != b->from)
        return a->from < b->from ? -1 : 1;
    return a->serial < b->serial ? -1 : a->serial > b->serial;
}

/* As RB_GENERATE_STATIC, whose __unused only BSD's compilers know. */
RB_GENERATE_INTERNAL(mapping_index_tree, mapping_index_node, link, mapping_index_compare,
                     __attribute__((unused)) static)

static void mapping_index_sum_up_path(struct mapping_index_node *node)
{
    for (; node != NULL; node = RB_PARENT(node, link))
        mapping_index_sum_up(node);
}

/* ---- changing ---- */

void mapping_index_insert(struct mapping_index *index, struct mapping_index_node *node)
{
    CHECK_MSG(node->from < node->to, "a mapping of %lx to %lx", node->from, node->to);
    node->serial = ++index->serials;
    index->count++;
    CHECK(RB_INSERT(mapping_index_tree, &index->tree, node) == NULL);
    mapping_index_sum_up_path(node);
}

/* Removes a node. If it has two children, its successor takes its place; then the lowest node whose
 * subtree changes is the successor's old parent. */
void mapping_index_remove(struct mapping_index *index, struct mapping_index_node *node)
{
    struct mapping_index_node *lowest = RB_PARENT(node, link);

    CHECK(index->count > 0);
    index->count--;
    if (RB_LEFT(node, link) != NULL && RB_RIGHT(node, link) != NULL) {
        struct mapping_index_node *next = RB_NEXT(mapping_index_tree, NULL, node);

        lowest = RB_PARENT(next, link) == node ? next : RB_PARENT(next, link);
    }
    CHECK(RB_REMOVE(mapping_index_tree, &index->tree, node) == node);
    mapping_index_sum_up_path(lowest);
}

void mapping_index_set_end(struct mapping_index_node *node, uint64_t to)
{
    CHECK_MSG(node->from < to, "a mapping of %lx to %lx", node->from, to);
    node->to = to;
    mapping_index_sum_up_path(node);
}

/* ---- finding ---- */

/* Returns the first node of a subtree, in order, that overlaps the range. If some node of the left
 * subtree ends after the range begins, the first overlap is in that subtree or nowhere: that node
 * overlaps, or begins after the range, and so do all nodes after it. */
static struct mapping_index_node *first_overlap(struct mapping_index_node *node, uint64_t from,
                                                uint64_t to)
{
    while (node != NULL && node->high > from) {
        struct mapping_index_node *left = RB_LEFT(node, link);

        if (left != NULL && left->high > from)
            node = left;
        else if (node->from >= to)
            return NULL;
        else if (node->to > from)
            return node;
        else
            node = RB_RIGHT(node, link);
    }
    return NULL;
}

/* Returns the first node after another one, in order, that overlaps the range. */
static struct mapping_index_node *next_overlap(struct mapping_index_node *node, uint64_t from,
                                               uint64_t to)
{
    struct mapping_index_node *found = first_overlap(RB_RIGHT(node, link), from, to);

    while (found == NULL) {
        struct mapping_index_node *parent = RB_PARENT(node, link);

        if (parent == NULL)
            return NULL;
        if (RB_LEFT(parent, link) == node) {
            if (parent->from >= to)
                return NULL;
            found = parent->to > from ? parent : first_overlap(RB_RIGHT(parent, link), from, to);
        }
        node = parent;
    }
    return found;
}

/* Returns the last node, in order, that is not after the cursor. */
static struct mapping_index_node *last_before(const struct mapping_index *index,
                                              const struct mapping_cursor *cursor)
{
    const struct mapping_index_node key = {.from = cursor->from, .serial = cursor->serial};
    struct mapping_index_node *at = RB_ROOT(&index->tree);
    struct mapping_index_node *last = NULL;

    while (at != NULL) {
        if (mapping_index_compare(at, &key) <= 0) {
            last = at;
            at = RB_RIGHT(at, link);
        } else {
            at = RB_LEFT(at, link);
        }
    }
    return last;
}

struct mapping_index_node *mapping_index_next(const struct mapping_index *index,
                                              struct mapping_cursor *cursor, uint64_t from,
                                              uint64_t to)
{
    struct mapping_index_node *last = cursor->serial == 0 ? NULL : last_before(index, cursor);
    struct mapping_index_node *found = last == NULL ? first_overlap(RB_ROOT(&index->tree), from, to)
                                                    : next_overlap(last, from, to);

    if (found != NULL)
        *cursor = (struct mapping_cursor){.from = found->from, .serial = found->serial};
    return found;
}

/* ---- proof ---- */

static bool index_node_is_red(const struct mapping_index_node *node)
{
    return node != NULL && RB_COLOR(node, link) == RB_RED;
}

/* Returns the number of nodes of a subtree, and sets *black to the number of black nodes on each of
 * its paths. */
static uint32_t audit_index_subtree(struct mapping_index_node *node, unsigned *black)
{
    struct mapping_index_node *left;
    struct mapping_index_node *right;
    uint64_t high;
    unsigned black_right;
    uint32_t count;

    *black = 0;
    if (node == NULL)
        return 0;
    left = RB_LEFT(node, link);
    right = RB_RIGHT(node, link);
    count = 1 + audit_index_subtree(left, black) + audit_index_subtree(right, &black_right);
    CHECK_MSG(*black == black_right, "%u and %u black nodes under a mapping of %lx", *black,
              black_right, node->from);
    CHECK(!index_node_is_red(node) || (!index_node_is_red(left) && !index_node_is_red(right)));
    CHECK((left == NULL ||
           (RB_PARENT(left, link) == node && mapping_index_compare(left, node) < 0)) &&
          (right == NULL ||
           (RB_PARENT(right, link) == node && mapping_index_compare(node, right) < 0)));
    high = node->high;
    mapping_index_sum_up(node);
    CHECK_MSG(high == node->high, "a mapping of %lx says %lx; its subtree ends at %lx", node->from,
              high, node->high);
    *black += !index_node_is_red(node);
    return count;
}

void mapping_index_audit(const struct mapping_index *index)
{
    struct mapping_index_node *root = RB_ROOT(&index->tree);
    unsigned black;
    uint32_t count = audit_index_subtree(root, &black);

    CHECK(root == NULL || (RB_PARENT(root, link) == NULL && !index_node_is_red(root)));
    CHECK_MSG(count == index->count, "an index has %u mappings and says %u", count, index->count);
}

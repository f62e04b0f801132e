/*
 * Changes of the shared tree of ranges: at a place of a leaf, then upwards along the path to it.
 * Only own nodes are written (rule C14).
 */
#include "vmm/range_tree/internal.h"

/* No place of a node has changed in its range, gap or fill. */
#define NO_PLACE UINT32_MAX

#define INLINE static inline __attribute__((always_inline))

__attribute__((noinline)) static bool nodes_are_own(const struct range_path *path)
{
    for (unsigned level = 0; level <= path->top; level++) {
        if (!range_node_is_own(path->nodes[level]))
            return false;
    }
    return true;
}

INLINE bool path_is_own(const struct range_tree *tree)
{
    return !tree->shared || nodes_are_own(&tree->path);
}

/* Goes to the range at start, whose nodes are own; returns its place. */
INLINE unsigned path_find_start(struct range_tree *tree, uint64_t start)
{
    unsigned at;

    CHECK_MSG(tree->root != NULL && start != 0, "no range at %lx", start);
    at = tree->path.at[0];
    if (tree->path.to == 0 || tree->path.nodes[0]->ranges[at].start != start)
        at = range_path_find(tree, start);
    CHECK_MSG(tree->path.nodes[0]->ranges[at].start == start && path_is_own(tree),
              "no range at %lx that is own", start);
    return at;
}

/* ---- spare nodes ---- */

static enum status spare_fill(struct range_tree *tree, unsigned wanted)
{
    while (tree->spares < wanted) {
        struct range_node *node;
        enum status status = range_node_alloc(0, &node);

        if (status != OK) {
            range_tree_unreserve(tree);
            return status;
        }
        node->next = tree->spare;
        tree->spare = node;
        tree->spares++;
    }
    return OK;
}

static struct range_node *spare_take(struct range_tree *tree, unsigned level)
{
    struct range_node *node = tree->spare;

    CHECK(node != NULL && tree->spares > 0);
    tree->spare = node->next;
    tree->spares--;
    node->level = (uint16_t)level;
    set_used(node, 0);
    return node;
}

/* An insert splits each level at most once, and may add a root. What is removed before makes no
 * node full: what is joined is not. */
enum status range_tree_reserve(struct range_tree *tree)
{
    return spare_fill(tree, tree->root != NULL ? tree->root->level + 2U : 1U);
}

void range_tree_unreserve(struct range_tree *tree)
{
    while (tree->spare != NULL) {
        struct range_node *spare = tree->spare;

        tree->spare = spare->next;
        tree->spares--;
        range_node_free(spare);
    }
    CHECK(tree->spares == 0);
}

/* Reserves what an insert at the end of this path splits: the full nodes from the leaf up. */
__attribute__((noinline)) static enum status reserve_splits(struct range_tree *tree)
{
    const struct range_path *path = &tree->path;
    unsigned full = 0;

    while (full <= path->top && path->nodes[full]->used == RANGE_PLACES)
        full++;
    CHECK(full + 1 < RANGE_LEVELS);
    return spare_fill(tree, full + (full > path->top));
}

INLINE enum status path_reserve(struct range_tree *tree)
{
    return tree->path.nodes[0]->used < RANGE_PLACES ? OK : reserve_splits(tree);
}

/* ---- places ---- */

/* Sums up the child at a place, as sum_up, after a change at a place of it: of this and the next
 * one, and of the gaps around. Returns the place, or NO_PLACE if the sum is the same. */
static unsigned sum_near(struct range_node *node, unsigned at, unsigned changed)
{
    struct range_place *place = &node->places[at];
    struct range_place before = *place;
    uint64_t gap = 0;

    for (unsigned i = changed; i < before.node->used && i <= changed + 2; i++)
        gap = max_u64(gap, place_gap(before.node, i));
    /* No other gap is larger than the largest one was. */
    *place = sum_with(before.node, gap >= before.gap ? gap : node_gap(before.node, before.gap));
    return place->low == before.low && place->high == before.high && place->gap == before.gap
               ? NO_PLACE
               : at;
}

INLINE void open_place(struct range_node *node, unsigned at, const struct tree_range *place)
{
    unsigned behind = node->used - at;

    CHECK(node->used < RANGE_PLACES && at <= node->used);
    if (behind > 0)
        __builtin_memmove(&node->ranges[at + 1], &node->ranges[at],
                          behind * sizeof(struct tree_range));
    node->ranges[at] = *place;
    end_places(node, node->used + 1U);
}

INLINE void close_place(struct range_node *node, unsigned at)
{
    unsigned behind = node->used - 1U - at;

    CHECK(at < node->used);
    if (behind > 0)
        __builtin_memmove(&node->ranges[at], &node->ranges[at + 1],
                          behind * sizeof(struct tree_range));
    end_places(node, node->used - 1U);
}

/* ---- inserting ---- */

/* Moves the upper half of a full node into a new one; a node that grows at its end stays full. */
static struct range_node *split(struct range_tree *tree, struct range_node *node, unsigned at)
{
    struct range_node *upper = spare_take(tree, node->level);
    unsigned left = at == RANGE_PLACES ? RANGE_PLACES : RANGE_PLACES / 2;

    copy_places(upper, 0, node, left, RANGE_PLACES - left);
    set_used(upper, RANGE_PLACES - left);
    set_used(node, left);
    return upper;
}

/* Puts a place into a node, or into the upper half that it is split into; returns that half. */
static struct range_node *put_place(struct range_tree *tree, struct range_node *node, unsigned at,
                                    const struct tree_range *place)
{
    struct range_node *upper = NULL;

    if (node->used == RANGE_PLACES) {
        upper = split(tree, node, at);
        if (at >= node->used) {
            at -= node->used;
            node = upper;
        }
    }
    open_place(node, at, place);
    return upper;
}

static void add_root(struct range_tree *tree, struct range_node *upper)
{
    struct range_node *lower = tree->root;
    struct range_node *root = spare_take(tree, lower->level + 1U);

    root->places[0] = sum_up(lower);
    root->places[1] = sum_up(upper);
    set_used(root, 2);
    tree->root = root;
}

/* Puts a range at a place of the path's leaf into a node on it that is full. */
__attribute__((noinline)) static void put_splitting(struct range_tree *tree, unsigned at,
                                                    const struct tree_range *range)
{
    const struct range_path *path = &tree->path;
    struct range_node *upper = put_place(tree, path->nodes[0], at, range);
    unsigned level = 1;

    for (; level <= path->top && upper != NULL; level++) {
        struct range_node *node = path->nodes[level];
        union {
            struct range_place sum;
            struct tree_range place;
        } new = {.sum = sum_up(upper)};

        at = path->at[level];
        node->places[at] = sum_up(node->places[at].node);
        upper = put_place(tree, node, at + 1, &new.place);
    }
    for (; level <= path->top && at != NO_PLACE; level++)
        at = sum_near(path->nodes[level], path->at[level], at);
    if (upper != NULL)
        add_root(tree, upper);
    path_forget(tree);
}

/* Puts a range at a place of the path's leaf. The nodes on the path are own. */
INLINE void path_put(struct range_tree *tree, unsigned at, const struct tree_range *range)
{
    const struct range_path *path = &tree->path;

    CHECK(path->nodes[0]->used < RANGE_PLACES || tree->spares > 0);
    if (path->nodes[0]->used == RANGE_PLACES) {
        put_splitting(tree, at, range);
        return;
    }
    open_place(path->nodes[0], at, range);
    for (unsigned level = 1; level <= path->top && at != NO_PLACE; level++)
        at = sum_near(path->nodes[level], path->at[level], at);
}

enum status range_tree_insert(struct range_tree *tree, const struct tree_range *range,
                              range_hook *hook)
{
    const struct range_node *leaf;
    enum status status = OK;
    unsigned at;

    CHECK(range->start - 1 < range->end - 1); /* and start is not 0 */
    if (tree->root == NULL)
        status = range_node_alloc(0, &tree->root);
    if (status != OK)
        return status;
    at = range_path_find(tree, range->start);
    if (!path_is_own(tree)) {
        status = range_tree_own(tree, range->start, range->end, hook);
        at = range_path_find(tree, range->start);
    }
    if (status == OK)
        status = path_reserve(tree);
    if (status != OK)
        return status;
    leaf = tree->path.nodes[0];
    CHECK_MSG(leaf->ranges[at].start - 1 >= range->end - 1,
              "range %lx to %lx overlaps one from %lx", range->start, range->end,
              leaf->ranges[at].start);
    path_put(tree, at, range);
    return OK;
}

enum status range_tree_cut(struct range_tree *tree, uint64_t address, range_hook *hook)
{
    enum status status = range_tree_own(tree, address, address, hook);
    struct tree_range *lower;
    struct tree_range upper;
    unsigned at;

    CHECK_MSG(tree->root != NULL, "no range around %lx", address);
    if (status != OK)
        return status;
    at = range_path_find(tree, address);
    lower = &tree->path.nodes[0]->ranges[at];
    CHECK_MSG(at < tree->path.nodes[0]->used && lower->start < address && path_is_own(tree),
              "no range around %lx", address);
    status = path_reserve(tree);
    if (status != OK)
        return status;
    upper = *lower;
    upper.start = address;
    lower->end = address;
    path_put(tree, at + 1, &upper);
    return OK;
}

/* ---- removing and resizing ---- */

/* Joins the children at a place and behind it if they are small enough and own; returns whether it
 * did. */
static bool join(struct range_tree *tree, struct range_node *node, unsigned at)
{
    struct range_node *lower;
    struct range_node *upper;

    if (at + 1 >= node->used)
        return false;
    lower = node->places[at].node;
    upper = node->places[at + 1].node;
    if (lower->used + upper->used > (int)RANGE_JOINED || !range_node_is_own(lower) ||
        !range_node_is_own(upper))
        return false;
    copy_places(lower, lower->used, upper, 0, upper->used);
    set_used(lower, lower->used + (unsigned)upper->used);
    range_node_free(upper);
    path_forget(tree);
    close_place(node, at + 1);
    node->places[at] = sum_up(lower);
    return true;
}

/* Mends a node after a child at a place has lost a range: an empty child goes, a small one joins a
 * neighbour. `below`: its place that has changed. Returns the node's own, or NO_PLACE. */
static unsigned mend(struct range_tree *tree, struct range_node *node, unsigned at, unsigned below)
{
    struct range_node *child = node->places[at].node;
    unsigned changed;

    if (child->used == 0) {
        range_node_free(child);
        path_forget(tree);
        close_place(node, at);
        return at;
    }
    changed = sum_near(node, at, below);
    if (child->used > RANGE_JOINED / 2)
        return changed;
    if (join(tree, node, at))
        changed = at;
    if (at > 0 && join(tree, node, at - 1))
        changed = at - 1;
    return changed;
}

/* A root above one child, or above none, is not needed. */
static void lower_root(struct range_tree *tree)
{
    struct range_node *root = tree->root;

    while (root != NULL && root->level > 0 && root->used <= 1 && range_node_is_own(root)) {
        tree->root = root->used == 1 ? root->places[0].node : NULL;
        range_node_free(root);
        path_forget(tree);
        root = tree->root;
    }
}

/* Ends a path where its leaf ends, after a change there: what is behind leads to the next one. */
INLINE void path_end(struct range_path *path)
{
    const struct range_node *leaf = path->nodes[0];

    if (path->to != UINT64_MAX && leaf->used > 0)
        path->to = place_high(leaf, leaf->used - 1U);
}

void range_tree_remove(struct range_tree *tree, uint64_t start, struct tree_range *gone)
{
    unsigned changed = path_find_start(tree, start);
    struct range_path *path = &tree->path;

    *gone = path->nodes[0]->ranges[changed];
    close_place(path->nodes[0], changed);
    path_end(path);
    if (path->top == 0)
        return;
    for (unsigned level = 1; level <= path->top && changed != NO_PLACE; level++)
        changed = mend(tree, path->nodes[level], path->at[level], changed);
    lower_root(tree);
}

void range_tree_resize(struct range_tree *tree, uint64_t start, uint64_t new_start,
                       uint64_t new_end)
{
    unsigned changed = path_find_start(tree, start);
    struct range_path *path = &tree->path;
    struct tree_range *range = &path->nodes[0]->ranges[changed];

    CHECK_MSG(new_start < new_end && (changed == 0 || range[-1].end <= new_start) &&
                  new_end - 1 <= range[1].start - 1,
              "%lx becomes %lx to %lx", start, new_start, new_end);
    range->start = new_start;
    range->end = new_end;
    path_end(path);
    for (unsigned level = 1; level <= path->top && changed != NO_PLACE; level++)
        changed = sum_near(path->nodes[level], path->at[level], changed);
}

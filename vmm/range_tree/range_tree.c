/* The shared tree of ranges: its nodes and their counts, finding, and its proof. */
#include "vmm/range_tree/range_tree.h"

#include "pmm/pool.h"
#include "vmm/range_tree/internal.h"

static struct pool range_pool = POOL("range node", struct range_node);

/* ---- counts ---- */

enum status range_node_alloc(unsigned level, struct range_node **node)
{
    void *object;
    enum status status = pool_alloc_uncleared(&range_pool, &object);

    if (status != OK)
        return status;
    *node = object;
    (*node)->count = 1;
    (*node)->level = (uint16_t)level;
    (*node)->audit = 0;
    set_used(*node, 0);
    return OK;
}

void range_node_free(struct range_node *node)
{
    CHECK(range_node_is_own(node));
    pool_free(&range_pool, node);
}

static void node_hold(struct range_node *node)
{
    CHECK(__atomic_fetch_add(&node->count, 1, __ATOMIC_RELAXED) > 0);
}

/* Gives one reference back; recursion is as deep as the tree. */
static void node_put(struct range_node *node, range_hook *hook)
{
    uint32_t before = __atomic_fetch_sub(&node->count, 1, __ATOMIC_ACQ_REL);

    CHECK(before > 0);
    if (before > 1)
        return;
    if (node->level == 0)
        hook(node->ranges, node->used, false);
    for (unsigned i = 0; node->level > 0 && i < node->used; i++)
        node_put(node->places[i].node, hook);
    pool_free(&range_pool, node);
}

void range_tree_share(struct range_tree *tree, struct range_tree *from)
{
    CHECK(tree->root == NULL && tree->spare == NULL);
    if (from->root == NULL)
        return;
    node_hold(from->root);
    tree->root = from->root;
    tree->shared = true;
    from->shared = true;
}

void range_tree_drop(struct range_tree *tree, range_hook *hook)
{
    range_tree_unreserve(tree);
    if (tree->root != NULL)
        node_put(tree->root, hook);
    *tree = (struct range_tree){0};
}

/* Gives back a reference to a node that may be shared. Returns false if it was the last one, and
 * leaves the node own. */
static bool leave_node(struct range_node *node)
{
    if (range_node_is_own(node))
        return false;
    if (__atomic_fetch_sub(&node->count, 1, __ATOMIC_ACQ_REL) > 1)
        return true;
    __atomic_store_n(&node->count, 1, __ATOMIC_RELAXED);
    return false;
}

/* Drops the last leaf of a tree, the last node that is shared, or a node whose places are gone.
 * Returns the number of its ranges, at least 1. */
static unsigned drop_last(struct range_tree *tree, range_hook *hook)
{
    struct range_node *above = NULL;
    struct range_node *node = tree->root;
    bool left = leave_node(node);
    unsigned count = 1;

    while (!left && node->level > 0 && node->used > 0) {
        above = node;
        node = above->places[above->used - 1].node;
        left = leave_node(node);
    }
    if (!left) {
        if (node->level == 0)
            hook(node->ranges, node->used, false);
        count += node->used;
        pool_free(&range_pool, node);
    }
    if (above == NULL)
        tree->root = NULL;
    else
        end_places(above, above->used - 1U);
    return count;
}

bool range_tree_drop_some(struct range_tree *tree, unsigned most, range_hook *hook)
{
    range_tree_unreserve(tree);
    path_forget(tree);
    while (tree->root != NULL && most > 0) {
        unsigned count = drop_last(tree, hook);

        most = most > count ? most - count : 0;
    }
    if (tree->root != NULL)
        return false;
    *tree = (struct range_tree){0};
    return true;
}

uint64_t range_tree_trim(struct range_tree *tree)
{
    struct range_node *root = tree->root;

    if (root == NULL || root->used > 0 || !range_node_is_own(root))
        return 0;
    CHECK(root->level == 0 && tree->spare == NULL);
    *tree = (struct range_tree){0};
    *(void **)(void *)root = NULL; /* a chain of one */
    return pool_free_chain(&range_pool, root);
}

/* Makes the node behind a reference own. The reference's own node is so already. */
static enum status own_node(struct range_node **reference, range_hook *hook)
{
    struct range_node *node = *reference;
    struct range_node *copy;
    enum status status;

    if (range_node_is_own(node))
        return OK;
    status = range_node_alloc(node->level, &copy);
    if (status != OK)
        return status;
    copy_places(copy, 0, node, 0, node->used);
    set_used(copy, node->used);
    if (copy->level == 0)
        hook(copy->ranges, copy->used, true);
    for (unsigned i = 0; copy->level > 0 && i < copy->used; i++)
        node_hold(copy->places[i].node);
    *reference = copy;
    node_put(node, hook);
    return OK;
}

static enum status own_below(struct range_node **reference, uint64_t from, uint64_t to,
                             range_hook *hook)
{
    enum status status = own_node(reference, hook);
    struct range_node *node = *reference;
    unsigned i;

    if (status != OK || node->level == 0)
        return status;
    i = find_child(node, from - 1);
    do {
        status = own_below(&node->places[i].node, from, to, hook);
        i++;
    } while (status == OK && i < node->used &&
             (place_low(node, i) <= to || place_high(node, i - 1) <= from));
    return status;
}

enum status range_tree_own_nodes(struct range_tree *tree, uint64_t from, uint64_t to,
                                 range_hook *hook)
{
    CHECK(from > 0 && from <= to);
    path_forget(tree);
    return tree->root != NULL ? own_below(&tree->root, from, to, hook) : OK;
}

bool range_tree_is_own(const struct range_tree *tree, uint64_t address)
{
    const struct range_node *node = tree->root;

    CHECK(node != NULL);
    while (range_node_is_own(node)) {
        if (node->level == 0)
            return true;
        node = node->places[find_child(node, address)].node;
    }
    return false;
}

/* ---- finding ---- */

unsigned range_path_walk(struct range_path *path, struct range_node *root, uint64_t address)
{
    struct range_node *node = root;
    unsigned level = node->level;

    CHECK(level < RANGE_LEVELS);
    if (address - path->from < path->to - path->from) {
        path->at[0] = (uint8_t)find_place(path->nodes[0], address);
        return path->at[0];
    }
    path->top = (uint8_t)level;
    path->from = 0;
    path->to = UINT64_MAX;
    for (; level > 0; level--) {
        unsigned at = find_child(node, address);

        if (at > 0)
            path->from = place_high(node, at - 1);
        if (at + 1U < node->used)
            path->to = place_high(node, at);
        path->nodes[level] = node;
        path->at[level] = (uint8_t)at;
        node = node->places[at].node;
    }
    path->nodes[0] = node;
    path->at[0] = (uint8_t)find_place(node, address);
    return path->at[0];
}

const struct tree_range *range_path_before(const struct range_path *path)
{
    const struct range_node *node;
    unsigned level = 1;

    while (level <= path->top && path->at[level] == 0)
        level++;
    if (level > path->top)
        return NULL;
    node = path->nodes[level]->places[path->at[level] - 1U].node;
    while (node->level > 0)
        node = node->places[node->used - 1U].node;
    return &node->ranges[node->used - 1U];
}

/* A search in ascending order: no gap below `at` fits. */
struct range_search {
    uint64_t at;
    uint64_t size;
    uint64_t alignment;
};

/* Returns true if the size fits between `at` and this end. */
static bool search_fits(struct range_search *search, uint64_t end)
{
    uint64_t start = round_up(search->at, search->alignment);

    if (start < search->at || start >= end || end - start < search->size)
        return false;
    search->at = start;
    return true;
}

static bool search_below(const struct range_node *node, struct range_search *search)
{
    for (unsigned i = find_place(node, search->at); i < node->used; i++) {
        if (search_fits(search, place_low(node, i)))
            return true;
        if (node->level > 0 && node->places[i].gap >= search->size &&
            search_below(node->places[i].node, search))
            return true;
        search->at = max_u64(search->at, place_high(node, i));
    }
    return false;
}

bool range_tree_find_gap(const struct range_tree *tree, uint64_t low, uint64_t high, uint64_t size,
                         uint64_t alignment, uint64_t *start)
{
    struct range_search search = {.at = low, .size = size, .alignment = alignment};

    CHECK(size > 0 && alignment > 0 && (alignment & (alignment - 1)) == 0);
    if ((tree->root == NULL || !search_below(tree->root, &search)) && !search_fits(&search, high))
        return false;
    *start = search.at;
    return search.at < high && size <= high - search.at;
}

/* ---- proof ---- */

static void audit_place(const struct range_node *node, unsigned i, bool shared)
{
    struct range_place sum = sum_up(node->places[i].node);

    CHECK_MSG(__builtin_memcmp(&sum, &node->places[i], sizeof(sum)) == 0,
              "a place says %lx to %lx, gap %lx; it is %lx to %lx, gap %lx", node->places[i].low,
              node->places[i].high, node->places[i].gap, sum.low, sum.high, sum.gap);
    CHECK(sum.node->level + 1 == node->level);
    /* So the nodes of a tree are in proportion to its ranges, in whatever order they came. Beside
     * a shared node a small one stays alone: with one range at least. */
    CHECK(shared || i == 0 ||
          node->places[i - 1].node->used + sum.node->used > (int)RANGE_JOINED / 2);
}

static uint32_t audit_below(const struct range_node *node, bool shared)
{
    uint32_t count = 0;

    CHECK(node->count > 0 && node->used > 0 && node->used <= RANGE_PLACES &&
          node->ranges[node->used].start == 0 && node->ranges[node->used].end == UINT64_MAX);
    for (unsigned i = 0; i < node->used; i++) {
        CHECK(place_low(node, i) < place_high(node, i) &&
              (i == 0 || place_high(node, i - 1) <= place_low(node, i)));
        if (node->level > 0)
            audit_place(node, i, shared);
        count += node->level > 0 ? audit_below(node->places[i].node, shared) : 1;
    }
    return count;
}

uint32_t range_tree_audit(const struct range_tree *tree)
{
    const struct range_node *root = tree->root;

    if (root == NULL || (root->level == 0 && root->used == 0))
        return 0;
    CHECK(tree->shared || ((root->level == 0 || root->used > 1) && root->count == 1));
    return audit_below(root, tree->shared);
}

/* Counts one reference; the first one goes on below. */
static void count_reference(struct range_node *node)
{
    if (node->audit++ > 0)
        return;
    for (unsigned i = 0; node->level > 0 && i < node->used; i++)
        count_reference(node->places[i].node);
}

/* Compares and forgets the references; the first visit goes on below. */
static void compare_references(struct range_node *node)
{
    if (node->audit == 0)
        return;
    CHECK_MSG(node->audit == node->count, "a node has %u counts and %lu references", node->count,
              node->audit);
    node->audit = 0;
    for (unsigned i = 0; node->level > 0 && i < node->used; i++)
        compare_references(node->places[i].node);
}

void range_tree_count_references(const struct range_tree *tree)
{
    CHECK(tree->spare == NULL);
    if (tree->root != NULL)
        count_reference(tree->root);
}

void range_tree_compare_references(const struct range_tree *tree)
{
    if (tree->root != NULL)
        compare_references(tree->root);
}

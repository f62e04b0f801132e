/* LIRS: pages with a low recency between two uses keep nearly all of memory; the others pass
 * through a short queue. S. Jiang and X. Zhang, LIRS: an efficient low inter-reference recency set
 * replacement policy, SIGMETRICS 2002. There are at most as many ghosts as pages in memory. */
#include "vmm/policy/node.h"

/* Chain 0 has the stack, whose newest end is its top; chain 1 has the queue, and the ghosts. */
enum { LIRS_STACK = 1 };
enum { LIRS_QUEUE = 1, LIRS_GHOSTS };

static uint64_t lirs_low; /* pages of low recency, marked HOT */

static void lirs_start(void)
{
    lirs_low = 0;
}

static uint64_t lirs_low_most(void)
{
    return policy_capacity() - min_u64(policy_capacity(), max_u64(2, policy_capacity() / 100));
}

/* Removes nodes from the bottom of the stack until a page of low recency is there; ghosts among
 * them are forgotten. */
static void lirs_prune(void)
{
    struct policy_node *node;

    while ((node = policy_oldest(LIRS_STACK)) != NULL && !policy_is_marked(node, POLICY_HOT)) {
        policy_put(node, 0);
        if (!policy_is_marked(node, POLICY_RESIDENT))
            policy_forget(node);
    }
}

static void lirs_lower(void)
{
    struct policy_node *node;

    lirs_prune();
    node = policy_oldest(LIRS_STACK);
    CHECK(node != NULL && lirs_low > 0);
    policy_unmark(node, POLICY_HOT);
    lirs_low--;
    policy_put(node, 0);
    policy_put_in(node, 1, LIRS_QUEUE);
    lirs_prune();
}

static void lirs_raise(struct policy_node *node)
{
    CHECK(!policy_is_marked(node, POLICY_HOT));
    policy_mark(node, POLICY_HOT);
    lirs_low++;
    policy_put(node, LIRS_STACK);
    policy_put_in(node, 1, 0);
    while (lirs_low > lirs_low_most())
        lirs_lower();
}

/* Handles a use of a resident page, and an arrival. A page that is still in the stack was used
 * recently before, and becomes one of low recency. */
static void lirs_used(struct policy_node *node)
{
    bool low = policy_is_marked(node, POLICY_HOT);

    if (!low && (node->list[0] != 0 || lirs_low < lirs_low_most())) {
        lirs_raise(node);
        return;
    }
    policy_put(node, LIRS_STACK);
    if (low)
        lirs_prune();
    else
        policy_put_in(node, 1, LIRS_QUEUE);
}

static struct policy_node *lirs_next(void)
{
    if (policy_size_in(1, LIRS_QUEUE) == 0)
        lirs_lower();
    return policy_oldest_in(1, LIRS_QUEUE);
}

/* Keeps an evicted page as a ghost while it is in the stack. Another processor may have raised the
 * page after `next` named it: then it leaves no ghost, since pages of low recency are resident. */
static bool lirs_went(struct policy_node *node)
{
    if (node->list[0] == 0 || policy_is_marked(node, POLICY_HOT))
        return false;
    policy_put_in(node, 1, LIRS_GHOSTS);
    while (policy_size_in(1, LIRS_GHOSTS) > policy_capacity())
        policy_forget(policy_oldest_in(1, LIRS_GHOSTS));
    return true;
}

static void lirs_left(const struct policy_node *node)
{
    if (policy_is_marked(node, POLICY_HOT))
        lirs_low--;
}

POLICY(lirs) = {.name = "lirs",
                .source = "Jiang and Zhang 2002",
                .harvests = true,
                .start = lirs_start,
                .insert = lirs_used,
                .used = lirs_used,
                .next = lirs_next,
                .went = lirs_went,
                .left = lirs_left};

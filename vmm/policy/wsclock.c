/* WSClock: the hand skips pages that were used, or that are in the working set: used within the
 * last arrivals, as many as WSCLOCK_WINDOW says. R. W. Carr and J. L. Hennessy, WSClock, a simple
 * and effective algorithm for virtual memory management, SOSP 1981. */
#include "vmm/policy/node.h"

/* The working set's window, in arrivals: this fraction of memory's pages. */
#define WSCLOCK_WINDOW 4U

static uint32_t wsclock_now(void)
{
    return (uint32_t)policy_arrivals();
}

static void wsclock_insert(struct policy_node *node)
{
    node->stamp = wsclock_now();
    policy_put(node, 1);
}

/* Returns the page whose last use is the oldest; among equals, the first under the hand. */
static struct policy_node *wsclock_longest_ago(void)
{
    struct policy_node *best = policy_oldest(1);

    for (struct policy_node *at = policy_after(best); at != policy_oldest(1);
         at = policy_after(at)) {
        if (wsclock_now() - at->stamp > wsclock_now() - best->stamp)
            best = at;
    }
    return best;
}

static struct policy_node *wsclock_next(void)
{
    CHECK(policy_size(1) > 0);
    for (uint64_t looks = policy_size(1); looks > 0; looks--) {
        struct policy_node *node = policy_oldest(1);

        if (policy_is_marked(node, POLICY_USED)) {
            policy_unmark(node, POLICY_USED);
            node->stamp = wsclock_now();
        } else if (wsclock_now() - node->stamp > policy_capacity() / WSCLOCK_WINDOW) {
            return node;
        }
        policy_put(node, 1);
    }
    return wsclock_longest_ago();
}

POLICY(wsclock) = {.name = "wsclock",
                   .source = "Carr and Hennessy 1981",
                   .insert = wsclock_insert,
                   .used = policy_mark_used,
                   .next = wsclock_next};

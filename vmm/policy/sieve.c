/* SIEVE: a hand moves from the oldest page to the newest and evicts the first that was not used
 * since its last pass; pages keep their order. Y. Zhang and others, SIEVE is simpler than LRU, NSDI
 * 2024. */
#include "vmm/policy/node.h"

static struct policy_node *sieve_hand; /* NULL: before the oldest */

static void sieve_start(void)
{
    sieve_hand = NULL;
}

static void sieve_insert(struct policy_node *node)
{
    policy_put(node, 1);
}

static struct policy_node *sieve_next(void)
{
    CHECK(policy_size(1) > 0);
    if (sieve_hand == NULL)
        sieve_hand = policy_oldest(1);
    while (policy_is_marked(sieve_hand, POLICY_USED)) {
        policy_unmark(sieve_hand, POLICY_USED);
        sieve_hand = policy_after(sieve_hand);
    }
    return sieve_hand;
}

static void sieve_left(const struct policy_node *node)
{
    if (node == sieve_hand)
        sieve_hand = node->links[0].next;
}

POLICY(sieve) = {.name = "sieve",
                 .source = "Zhang 2024",
                 .start = sieve_start,
                 .insert = sieve_insert,
                 .used = policy_mark_used,
                 .next = sieve_next,
                 .left = sieve_left};

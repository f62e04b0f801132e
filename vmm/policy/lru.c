/* LRU by sampled A bits: evicts the page whose last seen use is the oldest. R. L. Mattson and
 * others, Evaluation techniques for storage hierarchies, IBM Systems Journal 9(2), 1970. */
#include "vmm/policy/node.h"

static void lru_insert(struct policy_node *node)
{
    policy_put(node, 1);
}

static struct policy_node *lru_next(void)
{
    return policy_oldest(1);
}

POLICY(lru) = {.name = "lru",
               .source = "Mattson 1970",
               .harvests = true,
               .insert = lru_insert,
               .used = lru_insert,
               .next = lru_next};

/* Ageing: each round halves a page's age of 8 bits, and a use sets its highest bit; the page of the
 * lowest age is evicted. A. S. Tanenbaum, Operating systems: design and implementation, 1987; first
 * as the shift registers of F. J. Corbato's paging experiment, 1968. */
#include "vmm/policy/node.h"

#define AGEING_USED 0x80U

/* Sets a page's age, and puts the page in the list of that age. */
static void ageing_set(struct policy_node *node, unsigned age)
{
    CHECK(age < POLICY_LISTS - 1);
    policy_put(node, 1 + age);
}

static void ageing_insert(struct policy_node *node)
{
    ageing_set(node, AGEING_USED);
}

static void ageing_used(struct policy_node *node)
{
    ageing_set(node, (node->list[0] - 1U) | AGEING_USED);
}

static struct policy_node *ageing_next(void)
{
    unsigned list = 1;

    CHECK(policy_resident() > 0);
    while (policy_size(list) == 0)
        list++;
    return policy_oldest(list);
}

static void ageing_round(void)
{
    for (uint32_t i = 0; i < policy_node_peak(); i++) {
        struct policy_node *node = policy_node_at(i);

        if (policy_is_marked(node, POLICY_RESIDENT))
            ageing_set(node, (node->list[0] - 1U) / 2);
    }
}

POLICY(ageing) = {.name = "ageing",
                  .source = "Tanenbaum 1987",
                  .harvests = true,
                  .insert = ageing_insert,
                  .used = ageing_used,
                  .next = ageing_next,
                  .round = ageing_round};

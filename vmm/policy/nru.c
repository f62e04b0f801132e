/* NRU, not recently used: evicts the first page of the lowest class. The class is 2 if the page was
 * used in this round, and 1 more if it is dirty. The VMS and textbook scheme: A. S. Tanenbaum,
 * Operating systems: design and implementation, Prentice-Hall, 1987. */
#include "vmm/policy/node.h"

#define NRU_UNUSED 1U
#define NRU_USED   3U

static void nru_put(struct policy_node *node, unsigned list)
{
    policy_put(node, list + (policy_is_marked(node, POLICY_DIRTY) ? 1 : 0));
}

static void nru_used(struct policy_node *node)
{
    nru_put(node, NRU_USED);
}

static struct policy_node *nru_next(void)
{
    unsigned list = NRU_UNUSED;

    CHECK(policy_resident() > 0);
    while (policy_size(list) == 0)
        list++;
    return policy_oldest(list);
}

static void nru_round(void)
{
    for (unsigned list = NRU_USED; list <= NRU_USED + 1; list++) {
        while (policy_size(list) > 0)
            nru_put(policy_oldest(list), NRU_UNUSED);
    }
}

POLICY(nru) = {.name = "nru",
               .source = "Tanenbaum 1987",
               .harvests = true,
               .insert = nru_used,
               .used = nru_used,
               .next = nru_next,
               .round = nru_round};

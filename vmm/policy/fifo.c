/* FIFO: evicts the page that came first. L. A. Belady, A study of replacement algorithms for a
 * virtual-storage computer, IBM Systems Journal 5(2), 1966. */
#include "vmm/policy/node.h"

static void fifo_insert(struct policy_node *node)
{
    policy_put(node, 1);
}

static struct policy_node *fifo_next(void)
{
    return policy_oldest(1);
}

POLICY(fifo) = {.name = "fifo",
                .source = "Belady 1966",
                .blind = true,
                .insert = fifo_insert,
                .next = fifo_next};

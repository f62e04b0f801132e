/* CLOCK: FIFO, but a used page gets a second chance. F. J. Corbato, A paging experiment with the
 * Multics system, MIT Project MAC, MAC-M-384, 1968. */
#include "vmm/policy/node.h"

static void clock_insert(struct policy_node *node)
{
    policy_put(node, 1);
}

static struct policy_node *clock_next(void)
{
    while (policy_is_marked(policy_oldest(1), POLICY_USED)) {
        struct policy_node *node = policy_oldest(1);

        policy_unmark(node, POLICY_USED);
        policy_put(node, 1);
    }
    return policy_oldest(1);
}

POLICY(clock) = {.name = "clock",
                 .source = "Corbato 1968",
                 .insert = clock_insert,
                 .used = policy_mark_used,
                 .next = clock_next};

/* 2Q: a new page joins a FIFO of a quarter of memory; a page that returns after it left the FIFO
 * joins an LRU list. T. Johnson and D. Shasha, 2Q: a low overhead high performance buffer
 * management replacement algorithm, VLDB 1994, the full version. */
#include "vmm/policy/node.h"

enum { TWO_Q_IN = 1, TWO_Q_OUT, TWO_Q_MAIN, TWO_Q_COMING };

/* Takes the ghost out of A1out before room is made for its page: otherwise the victim's new ghost
 * could push it out. */
static void two_q_ghost_hit(struct policy_node *ghost)
{
    policy_put(ghost, TWO_Q_COMING);
}

static void two_q_insert(struct policy_node *node)
{
    policy_put(node, node->list[0] == 0 ? TWO_Q_IN : TWO_Q_MAIN);
}

static void two_q_used(struct policy_node *node)
{
    if (node->list[0] == TWO_Q_MAIN)
        policy_put(node, TWO_Q_MAIN);
}

static struct policy_node *two_q_next(void)
{
    if (policy_size(TWO_Q_IN) > policy_capacity() / 4 || policy_size(TWO_Q_MAIN) == 0)
        return policy_oldest(TWO_Q_IN);
    return policy_oldest(TWO_Q_MAIN);
}

static bool two_q_went(struct policy_node *node)
{
    if (node->list[0] != TWO_Q_IN)
        return false;
    policy_put(node, TWO_Q_OUT);
    while (policy_size(TWO_Q_OUT) > policy_capacity() / 2 + 1)
        policy_forget(policy_oldest(TWO_Q_OUT));
    return true;
}

POLICY(two_q) = {.name = "2q",
                 .source = "Johnson and Shasha 1994",
                 .harvests = true,
                 .ghost_hit = two_q_ghost_hit,
                 .insert = two_q_insert,
                 .used = two_q_used,
                 .next = two_q_next,
                 .went = two_q_went};

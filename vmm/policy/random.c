/* Random: evicts any page. L. A. Belady, A study of replacement algorithms for a virtual-storage
 * computer, IBM Systems Journal 5(2), 1966. */
#include "lib/random.h"
#include "vmm/policy/node.h"

static struct random policy_dice;

static void random_begin(void)
{
    policy_dice = random_from(1);
}

static void random_place(struct policy_node *node)
{
    policy_put(node, 1);
}

/* Tries random nodes until one is resident. Free nodes are reused first, so when memory is full
 * nearly all nodes below the peak are resident. */
static struct policy_node *random_choose(void)
{
    struct policy_node *node;

    CHECK(policy_size(1) > 0);
    do {
        node = policy_node_at((uint32_t)random_below(&policy_dice, policy_node_peak()));
    } while (!policy_is_marked(node, POLICY_RESIDENT));
    return node;
}

POLICY(random) = {.name = "random",
                  .source = "Belady 1966",
                  .blind = true,
                  .start = random_begin,
                  .insert = random_place,
                  .next = random_choose};

/* S3-FIFO: a small FIFO of a tenth of memory lets pages used twice pass into the main FIFO; ghosts
 * of the small one that return join the main one at once. J. Yang and others, FIFO queues are all
 * you need for cache eviction, SOSP 2023. */
#include "vmm/policy/node.h"

#define S3FIFO_MOST 3U /* largest count of uses */

enum { S3FIFO_SMALL = 1, S3FIFO_MAIN, S3FIFO_GHOSTS };

static void s3fifo_insert(struct policy_node *node)
{
    node->count = 0;
    policy_put(node, node->list[0] == 0 ? S3FIFO_SMALL : S3FIFO_MAIN);
}

static void s3fifo_used(struct policy_node *node)
{
    if (node->count < S3FIFO_MOST)
        node->count++;
}

static struct policy_node *s3fifo_next(void)
{
    uint64_t small = max_u64(1, policy_capacity() / 10);

    for (;;) {
        bool from_small = policy_size(S3FIFO_SMALL) >= small || policy_size(S3FIFO_MAIN) == 0;
        struct policy_node *node = policy_oldest(from_small ? S3FIFO_SMALL : S3FIFO_MAIN);

        if (node->count <= (from_small ? 1 : 0))
            return node;
        node->count = from_small ? 0 : (uint16_t)(node->count - 1);
        policy_put(node, S3FIFO_MAIN);
    }
}

static bool s3fifo_went(struct policy_node *node)
{
    if (node->list[0] != S3FIFO_SMALL)
        return false;
    policy_put(node, S3FIFO_GHOSTS);
    while (policy_size(S3FIFO_GHOSTS) > policy_capacity() * 9 / 10 + 1)
        policy_forget(policy_oldest(S3FIFO_GHOSTS));
    return true;
}

POLICY(s3fifo) = {.name = "s3fifo",
                  .source = "Yang 2023",
                  .harvests = true,
                  .insert = s3fifo_insert,
                  .used = s3fifo_used,
                  .next = s3fifo_next,
                  .went = s3fifo_went};

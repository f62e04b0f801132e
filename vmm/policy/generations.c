/* Generations: pages join the youngest of up to four generations when they come or are used; each
 * round begins a new one, and the oldest gives the victims. After the multi-generational LRU of
 * Linux 6.1: Yu Zhao, Documentation/mm/multigen_lru.rst, 2022. */
#include "vmm/policy/node.h"

#define GENERATIONS 4U

static uint32_t generation_youngest;
static uint32_t generation_oldest;

static void generations_start(void)
{
    generation_youngest = generation_oldest = 0;
}

static unsigned generation_list(uint32_t generation)
{
    return 1 + generation % GENERATIONS;
}

static void generations_insert(struct policy_node *node)
{
    node->stamp = generation_youngest;
    policy_put(node, generation_list(node->stamp));
}

/* Only stamps the page: generations_next moves it to the list of its stamp. */
static void generations_used(struct policy_node *node)
{
    node->stamp = generation_youngest;
}

static struct policy_node *generations_next(void)
{
    for (;;) {
        unsigned list = generation_list(generation_oldest);
        struct policy_node *node = policy_oldest(list);

        if (node == NULL) {
            CHECK(generation_oldest != generation_youngest);
            generation_oldest++;
        } else if (node->stamp == generation_oldest) {
            return node;
        } else {
            policy_put(node, generation_list(node->stamp));
        }
    }
}

static void generations_round(void)
{
    if (generation_youngest - generation_oldest < GENERATIONS - 1)
        generation_youngest++;
}

POLICY(generations) = {.name = "generations",
                       .source = "Zhao 2022",
                       .harvests = true,
                       .start = generations_start,
                       .insert = generations_insert,
                       .used = generations_used,
                       .next = generations_next,
                       .round = generations_round};

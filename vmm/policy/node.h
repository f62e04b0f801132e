/*
 * For the files of the policies: nodes, and numbered lists of them.
 *
 * A node is in at most one list of each of two chains. Calls without a chain use chain 0.
 *
 * Units: pages. Owns: nothing. Context: as policy.h. Fails with: nothing.
 */
#ifndef VMM_POLICY_NODE_H
#define VMM_POLICY_NODE_H

#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/units.h"
#include "vmm/policy/policy.h"

#define POLICY_CHAINS 2U
#define POLICY_LISTS  257U /* numbers in each chain; 0 means no list */

enum policy_mark {
    POLICY_RESIDENT = 1U << 0,
    POLICY_DIRTY = 1U << 1, /* its D bit was seen set */
    POLICY_USED = 1U << 2,  /* this mark and those below are for the policy's own use */
    POLICY_HOT = 1U << 3,
    POLICY_TEST = 1U << 4
};

struct policy_link {
    struct policy_node *next; /* newer */
    struct policy_node *prev;
};

struct policy_node {
    struct policy_link links[POLICY_CHAINS];
    uint16_t list[POLICY_CHAINS]; /* 0: in none */
    uint16_t marks;
    uint16_t count; /* the policy's */
    uint32_t page;
    uint32_t stamp; /* the policy's */
};

/* Removes a node from its list of the chain, and puts it at the newest end of list `number`. With
 * 0, only removes it. */
void policy_put_in(struct policy_node *node, unsigned chain, unsigned number);

static inline void policy_put(struct policy_node *node, unsigned list)
{
    policy_put_in(node, 0, list);
}

/* Inserts a node into the list of another one in chain 0, as its next older neighbour. */
void policy_put_before(struct policy_node *node, struct policy_node *newer);

/* Returns the oldest node of a list; NULL if the list is empty. */
struct policy_node *policy_oldest_in(unsigned chain, unsigned list);
uint64_t policy_size_in(unsigned chain, unsigned list);

static inline struct policy_node *policy_oldest(unsigned list)
{
    return policy_oldest_in(0, list);
}

static inline uint64_t policy_size(unsigned list)
{
    return policy_size_in(0, list);
}

/* Returns the next newer node of the list in chain 0; after the newest, the oldest. */
struct policy_node *policy_after(const struct policy_node *node);

/* Frees a ghost that the policy keeps no longer, and tells the caller of policy_on_forget. */
void policy_forget(struct policy_node *ghost);

/* Returns node `number`, below policy_node_peak(). The node may be free: then it has no mark and is
 * in no list. */
struct policy_node *policy_node_at(uint32_t number);
uint32_t policy_node_peak(void);

/* Return how many pages memory holds, and how many have come since the start. */
uint64_t policy_capacity(void);
uint64_t policy_arrivals(void);

static inline bool policy_is_marked(const struct policy_node *node, unsigned mark)
{
    return (node->marks & mark) != 0;
}

static inline void policy_mark(struct policy_node *node, unsigned mark)
{
    node->marks = (uint16_t)(node->marks | mark);
}

static inline void policy_unmark(struct policy_node *node, unsigned mark)
{
    node->marks = (uint16_t)(node->marks & ~mark);
}

/* The `used` function of several policies: sets POLICY_USED. */
void policy_mark_used(struct policy_node *node);

#endif

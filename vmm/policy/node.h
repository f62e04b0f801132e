/*
 * For the files of the policies: nodes, and lists of them by number.
 *
 * A node is in at most one list of each of two chains. Chain 0 is meant where none is named.
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
#define POLICY_LISTS  257U /* of each chain, from 1 */

enum policy_mark {
    POLICY_RESIDENT = 1U << 0,
    POLICY_DIRTY = 1U << 1, /* its D bit was seen set */
    POLICY_USED = 1U << 2,  /* from here on the policy's own */
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

/* Puts a node at the newest end of a list, and takes it out of the one it was in; 0: only that. */
void policy_put_in(struct policy_node *node, unsigned chain, unsigned number);

static inline void policy_put(struct policy_node *node, unsigned list)
{
    policy_put_in(node, 0, list);
}

/* Puts a node in before another one of chain 0, as its older neighbour. */
void policy_put_before(struct policy_node *node, struct policy_node *newer);

/* NULL: the list is empty. */
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

/* The newer neighbour in chain 0, or the oldest of the list behind the newest one. */
struct policy_node *policy_after(const struct policy_node *node);

/* Ends a ghost that the policy keeps no longer. */
void policy_forget(struct policy_node *ghost);

/* All nodes, used or not, by number below the second; those in use have a mark or are in a list. */
struct policy_node *policy_node_at(uint32_t number);
uint32_t policy_node_peak(void);

/* Pages that memory holds, and how many have come since the start. */
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

/* For several policies: sets POLICY_USED. */
void policy_mark_used(struct policy_node *node);

#endif

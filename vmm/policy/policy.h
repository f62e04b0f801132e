/*
 * Policies: which page is evicted when memory is full.
 *
 * A policy sees pages as nodes. A node is resident while its page is in memory. After that the
 * policy may keep it as a ghost, by which it recognizes the page when it returns. A policy learns
 * of uses only by the A bits of its candidates and of harvests, and of arrivals only by faults.
 *
 * The caller's cycle: `ghost_hit` when a fault finds a ghost's page in its slot; `next` names a
 * candidate; if its A bit was set, the caller calls `used` and asks again; otherwise it calls
 * policy_goes. The page that needed the room then comes: `insert`. A harvest is `round`, followed
 * by `used` for each page whose A bit was set.
 *
 * Units: pages. Owns: its nodes, from policy_start to policy_stop. Fails with: STATUS_NO_MEMORY, by
 * policy_start only. Context: any, under one lock of the caller: nothing here waits or locks.
 * Rules: D13, D15.
 */
#ifndef VMM_POLICY_POLICY_H
#define VMM_POLICY_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/status.h"

struct policy_node;

struct policy {
    const char *name;
    const char *source;                           /* where it was published */
    bool blind;                                   /* never asks for A bits */
    bool harvests;                                /* needs harvests of A bits */
    void (*start)(void);                          /* NULL: nothing to prepare */
    void (*ghost_hit)(struct policy_node *ghost); /* its page is about to return; NULL: ignored */
    void (*insert)(struct policy_node *node); /* new: in no list; returned: in its list of ghosts */
    void (*used)(struct policy_node *node);   /* NULL: ignored */
    struct policy_node *(*next)(void);        /* names a victim; at least one page is resident */
    /* A page was evicted. Returns true to keep it as a ghost; NULL: never. It may be any resident
     * page, even one used on another processor since `next` named it. */
    bool (*went)(struct policy_node *node);
    void (*left)(const struct policy_node *node); /* about to leave all lists; NULL: ignored */
    void (*round)(void);                          /* NULL: ignored */
};

/* Defines the policy `identifier`_policy and puts a pointer to it into the section that policy_at
 * reads: a new policy needs no entry in a list. */
#define POLICY(identifier)                                                                         \
    static const struct policy identifier##_policy;                                                \
    static const struct policy *const identifier##_registered                                      \
        __attribute__((used, section("policies"))) = &identifier##_policy;                         \
    static const struct policy identifier##_policy

/* Returns policy number `place` of the table, from 0; NULL after the last. */
const struct policy *policy_at(unsigned place);

/* Starts a policy with room for this many nodes, resident and ghosts together. */
MUST_USE enum status policy_start(const struct policy *policy, uint64_t nodes);

/* Forgets all nodes and frees their memory. */
void policy_stop(void);

/* Returns the policy that was started; NULL if none was. */
const struct policy *policy_running(void);

/* Sets the number of pages that memory holds; policies size their lists by it. */
void policy_set_capacity(uint64_t pages);

/* Records that a page comes: `node` is its ghost, or NULL for a page without one. `page` is the
 * caller's name for it. Returns its node, or NULL if no node is free. */
struct policy_node *policy_insert(struct policy_node *node, uint32_t page);

/* Records that a node's page is evicted. Returns its ghost, or NULL if the policy keeps none. */
struct policy_node *policy_goes(struct policy_node *node);

/* Frees the node of a resident page or ghost whose content no longer exists. */
void policy_left(struct policy_node *node);

/* Records that the D bit of a page is set. */
void policy_dirty(struct policy_node *node);

/* Return and set the caller's name for the page of a node or ghost. */
uint32_t policy_page(const struct policy_node *node);
void policy_set_page(struct policy_node *node, uint32_t page);

/* Sets the function that is called with policy_page of each ghost that the policy forgets; NULL:
 * none. */
void policy_on_forget(void (*forget)(uint32_t page));

uint64_t policy_resident(void);
uint64_t policy_ghosts(void);

/* Panics if the lists are damaged, or a resident node is in none. */
void policy_audit(void);

#endif

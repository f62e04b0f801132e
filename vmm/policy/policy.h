/*
 * Policies: which page goes out when memory is full.
 *
 * A policy sees pages as nodes. A node is resident while its page is in memory. After that the
 * policy may keep it as a ghost, by which it recognizes the page when it returns. A policy learns
 * of uses only by the A bits of its candidates and of harvests, and of arrivals only by faults.
 *
 * The caller's cycle: `coming` when a fault finds a ghost's page in its slot; `next` names a
 * candidate; if its A bit was set the caller says `used` and asks again, else it says policy_goes;
 * then `came`. A harvest is `round`, followed by `used` for each page whose A bit was set.
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
    bool harvests;                                /* wants a harvest now and then */
    void (*start)(void);                          /* NULL: nothing to prepare */
    void (*coming)(struct policy_node *ghost);    /* before room is made for it; NULL: ignored */
    void (*came)(struct policy_node *node);       /* in no list, or in the list of ghosts it left */
    void (*used)(struct policy_node *node);       /* NULL: ignored */
    struct policy_node *(*next)(void);            /* at least one page is resident */
    bool (*went)(struct policy_node *node);       /* true: keeps it, as a ghost; NULL: never */
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

/* Returns the policy at this place, from 0; NULL behind the last. */
const struct policy *policy_at(unsigned place);

/* Starts a policy with room for this many nodes, resident and ghosts together. */
MUST_USE enum status policy_start(const struct policy *policy, uint64_t nodes);

/* Forgets all nodes and frees their memory. */
void policy_stop(void);

/* The policy that was started; NULL: none. */
const struct policy *policy_running(void);

/* Sets the number of pages that memory holds, by which policies size their lists. */
void policy_set_capacity(uint64_t pages);

/* A page comes: by its ghost, or with NULL as a new node. Returns its node; `page` names it for the
 * caller. NULL: no node is free. */
struct policy_node *policy_came(struct policy_node *node, uint32_t page);

/* The page of a node goes out. Returns its ghost, or NULL if the policy keeps none. */
struct policy_node *policy_goes(struct policy_node *node);

/* A resident page or a ghost is gone for good. */
void policy_left(struct policy_node *node);

/* Tells that the D bit of a page is set. */
void policy_dirty(struct policy_node *node);

/* Returns what the caller stored. A ghost's is what policy_set_page stored last. */
uint32_t policy_page(const struct policy_node *node);
void policy_set_page(struct policy_node *node, uint32_t page);

/* Called for a ghost that the policy forgets. NULL: none is called. */
void policy_on_forget(void (*forget)(uint32_t page));

uint64_t policy_resident(void);
uint64_t policy_ghosts(void);

/* Panics unless lists and nodes agree. */
void policy_audit(void);

#endif

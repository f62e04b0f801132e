/*
 * Which translations a processor may still have of a tree that it comes back to: process-context
 * identifiers (PCIDs).
 *
 * A processor that leaves a tree forgets nothing when its translations are tagged with a PCID, and
 * nobody interrupts it for changes of a tree that it does not run. So it asks when it comes back.
 * Its translations of the tree are kept only if all of these hold; else its first load of the root
 * drops them:
 *
 *   - one of its few PCIDs still stands for this tree, by an id that is never used again;
 *   - the tree's generation is the one that they are of: a flush raises it (TLB batches do);
 *   - so is the generation of everything, which flushes that concern every tree raise (rule P3);
 *   - no other processor ran the tree meanwhile: one that runs it alone replaces pages with a flush
 *     of its own only, and tells nobody.
 *
 * The kernel's own root has PCID 0 on every processor. Without PCIDs (machine_has_contexts) a
 * change of trees drops everything that is not global, and nothing here is counted.
 *
 * Owns: PCID_TREES PCIDs of each processor. State of one: none's -> pcid_enter of a tree that has
 * none -> the tree's, until another tree takes it, the longest given first.
 * Fails with: nothing. Context: enter and leave with interrupts off, the others any.
 * Spec: Intel SDM volume 3, 4.10.1 (PCIDs), 4.10.4 (what drops what). Rules: P2, P3.
 */
#ifndef PAGING_TLB_PCID_H
#define PAGING_TLB_PCID_H

#include <stdint.h>

#include "cpu/machine.h"

/* Trees that a processor keeps translations of; as many as Linux: more would share one TLB. */
#define PCID_TREES 6U

/* What each tree has. */
struct pcid_context {
    uint64_t id;         /* constant; 1 and up */
    uint64_t generation; /* atomic: flushes of the tree so far */
    uint32_t last;       /* atomic: who came or went last, as 1 + its number */
};

struct tree;

/* A tree that no processor has run. */
void pcid_start(struct pcid_context *context);

/* Loads the tree's root on this processor; others: those that run the tree. The processor stands in
 * the tree's mask already, so that whoever flushes from now on asks it. */
void pcid_enter(struct tree *tree, uint64_t others);

/* Loads the kernel's own root. */
void pcid_enter_kernel(struct phys root);

/* This processor has loaded another root, and is about to leave the tree's mask. */
static inline void pcid_leave(struct pcid_context *context, unsigned cpu)
{
    __atomic_store_n(&context->last, cpu + 1, __ATOMIC_RELEASE);
}

/* Entries of the tree have changed: what is cached of it is stale where the tree is not loaded.
 * Comes after the change and before the mask of processors is read. The new generation; 0 without
 * PCIDs. */
uint64_t pcid_raise(const struct tree *tree);

/* The same for all trees. */
uint64_t pcid_raise_everything(void);

/* This processor has dropped what a raise to that generation made stale, if it has the tree loaded:
 * it need not do so again when it comes back. whole: it has dropped all of the tree. */
void pcid_flushed(const struct tree *tree, uint64_t generation, bool whole);

/* The same for what pcid_raise_everything made stale, in whatever it has loaded. */
void pcid_flushed_everything(uint64_t generation);

/* For metrics: loads of a root that kept what was cached, and that did not. */
struct pcid_counts {
    uint64_t kept;
    uint64_t flushed;
};

struct pcid_counts pcid_counts(void);

#endif

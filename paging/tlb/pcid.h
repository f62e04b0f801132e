/*
 * Process-context identifiers (PCIDs): which translations a processor may keep for a tree that it
 * runs again.
 *
 * With PCIDs a processor keeps the translations of trees that it has left, and shootdowns skip
 * processors that do not run the tree. So the check comes at the next load of the root.
 * Translations are kept only if all of these hold; otherwise the load of CR3 flushes them:
 *
 *   - one of the processor's PCIDs still belongs to this tree, by an id that is never reused;
 *   - the tree's generation, which each TLB batch raises, has not changed since;
 *   - neither has the global generation, which flushes that concern every tree raise (rule P3);
 *   - no other processor ran the tree meanwhile: a processor that runs a tree alone flushes only
 *     locally and raises no generation.
 *
 * The kernel's own root has PCID 0 on every processor. Without PCIDs (machine_has_contexts) each
 * load of CR3 flushes all translations that are not global, and nothing is counted here.
 *
 * Owns: PCID_TREES PCIDs of each processor. State of a PCID: free -> taken by the tree of a
 * pcid_enter -> reused by another tree, the least recently assigned first.
 * Fails with: nothing. Context: enter and leave with interrupts off, the others any.
 * Spec: Intel SDM volume 3, 4.10.1 (PCIDs), 4.10.4 (what drops what). Rules: P2, P3.
 */
#ifndef PAGING_TLB_PCID_H
#define PAGING_TLB_PCID_H

#include <stdint.h>

#include "cpu/machine.h"

/* Trees per processor with cached translations. Linux has 6 too: more would compete for the TLB. */
#define PCID_TREES 6U

/* The part of a tree that PCIDs need. */
struct pcid_context {
    uint64_t id;         /* constant; 1 and up */
    uint64_t generation; /* atomic: flushes of the tree so far */
    uint32_t last;       /* atomic: 1 + the CPU that entered or left last */
};

struct tree;

/* Initialises the context of a tree that no processor has run. */
void pcid_start(struct pcid_context *context);

/* Loads the tree's root on this processor. others: the other processors that run the tree. The
 * caller has set this processor in the tree's mask, so that later flushes ask it. */
void pcid_enter(struct tree *tree, uint64_t others);

/* Loads the kernel's own root. */
void pcid_enter_kernel(struct phys root);

/* Records that this processor has loaded another root; it leaves the tree's mask next. */
static inline void pcid_leave(struct pcid_context *context, unsigned cpu)
{
    __atomic_store_n(&context->last, cpu + 1, __ATOMIC_RELEASE);
}

/* Makes cached translations of the tree stale on processors that do not run it. Called after the
 * change of entries and before the mask is read. Returns the new generation; 0 without PCIDs. */
uint64_t pcid_raise(const struct tree *tree);

/* Does the same for all trees. */
uint64_t pcid_raise_everything(void);

/* Records that this processor, if it runs the tree, has flushed the changes of that generation and
 * need not flush them again. whole: it has flushed all of the tree. */
void pcid_flushed(const struct tree *tree, uint64_t generation, bool whole);

/* Records the same for pcid_raise_everything, for the tree that is loaded. */
void pcid_flushed_everything(uint64_t generation);

/* For metrics: loads of a root that kept cached translations, and that flushed them. */
struct pcid_counts {
    uint64_t kept;
    uint64_t flushed;
};

struct pcid_counts pcid_counts(void);

#endif

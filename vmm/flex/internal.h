/*
 * Between the files of flexpages: taking rights from a list of mappings.
 *
 * State: taking_begin -> taking_add* -> taking_prepare (may fail) -> taking_perform -> the mappings
 * that were to go are gone; or taking_end at any time before. Owns: counts of descriptors.
 * Context: thread; the lock of lends is held throughout, no other lock.
 */
#ifndef VMM_FLEX_INTERNAL_H
#define VMM_FLEX_INTERNAL_H

#include "vmm/flex/flex.h"
#include "vmm/section/mapping.h"

/* Descriptors of sections differ in rights only: at most 9, before and after. */
#define TAKING_DESCRIPTORS 24U

struct taking {
    struct tlb_later later; /* first */
    uint64_t used;          /* PTE_A and PTE_D of the leaves that were dropped, or-ed */
    struct mapping *first;  /* each once, in any order */
    struct mapping **last;
    uint32_t count;
    unsigned held;
    struct descriptor *descriptors[TAKING_DESCRIPTORS]; /* counted */
};

_Static_assert(offsetof(struct taking, later) == 0, "from the list of releases to its call");

/* Adds the bits of a removed entry, and of all below it, to those of the call (use.c). */
void taking_add_use(struct tlb_later *later, const struct tlb_release *release);

void taking_begin(struct taking *taking);
void taking_end(struct taking *taking);

/* Adds a mapping that keeps these rights, or is removed if there are none. A mapping that a space
 * has lent to itself may be in the list already: then either call can remove it. Does nothing if
 * the mapping has no other rights than these. */
void taking_add(struct taking *taking, struct mapping *mapping, struct rights keep);

/* Bytes in a section. */
struct section_range {
    uint64_t from;
    uint64_t to;
};

/* Adds all descendants of a mapping inside a range, but `except`. They are cut at its ends. */
void taking_add_descendants(struct taking *taking, const struct mapping *root,
                            struct section_range range, struct rights keep,
                            const struct mapping *except);

/* Allocates all that is needed. Afterwards the mappings stay as prepared: whatever could change
 * their tables waits for the lock of lends. */
MUST_USE enum status taking_prepare(struct taking *taking);

/* Takes the rights, with one flush. Cannot fail. */
void taking_perform(struct taking *taking, struct flex_taken *taken);

/* Makes the tables at both ends of a range own, and its regions, so that the range can be emptied
 * without memory. The space is locked, or runs nowhere. Fails with STATUS_NO_MEMORY. */
MUST_USE enum status flex_own_tables(struct space *space, uint64_t start, uint64_t end);

/* Cuts the space's own mappings at the ends of a range, where their descendants are cut. The space
 * is locked, and stays locked until they are tied: only then no other call changes them. */
MUST_USE enum status flex_cut_own(struct space *space, uint64_t start, uint64_t end);

#endif

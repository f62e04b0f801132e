/*
 * Between the files of sections.
 *
 * Owns: nothing. Context: as section.h says.
 */
#ifndef VMM_SECTION_INTERNAL_H
#define VMM_SECTION_INTERNAL_H

#include "vmm/section/section.h"

/* Locks a section, with interrupts off; returns whether they were on. */
bool section_lock(struct section *section);
void section_unlock(struct section *section, bool were_on);

/* ---- mappings of a space ---- */

static inline struct mapping *mapping_of(struct region_node *node)
{
    return (struct mapping *)node;
}

/* Returns the first mapping that ends after the address; the one after a mapping. NULL: none. */
static inline struct mapping *section_find(const struct space *space, uint64_t address)
{
    return mapping_of(region_tree_find(&space->mappings, address));
}

static inline struct mapping *section_next_of(struct mapping *mapping)
{
    return mapping_of(region_tree_next(&mapping->node));
}

/* All sections, under their lock or when nothing else runs. */
LIST_HEAD(section_list, section);
const struct section_list *sections_all(void);

/* As section_create; the one count is the caller's, and the section is not open. */
MUST_USE enum status section_make(const struct pager *pager, const void *source, uint64_t size,
                                  struct rights most, struct section **made);

/* Bytes of the pages up to the section's end. */
static inline uint64_t section_reach(const struct section *section)
{
    return round_up(section_size(section), PAGE_SIZE);
}

/* Turns the leaves of the page at a place in all mappings into tickets; returns how many. Their
 * counts are the caller's, until everything was flushed. */
unsigned section_recall(struct section *section, uint64_t place, struct pfn page);

/* Locks the table of a section's entry if the entry is unchanged, and turns interrupts off. */
MUST_USE bool section_lock_place(const struct tree_place *place, bool *were_on);
void section_unlock_place(const struct tree_place *place, bool were_on);

/* Tells reclaim how to evict pages of sections. */
void section_start_reclaim(void);

#endif

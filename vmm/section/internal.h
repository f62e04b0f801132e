/*
 * Between the files of sections: section.c and section_page.c.
 *
 * Owns: nothing. Context: as section.h says.
 */
#ifndef VMM_SECTION_INTERNAL_H
#define VMM_SECTION_INTERNAL_H

#include "vmm/section/section.h"

/* Locks a section, with interrupts off; returns whether they were on. */
bool section_lock(struct section *section);
void section_unlock(struct section *section, bool were_on);

/* Tells reclaim how to evict pages of sections. */
void section_start_reclaim(void);

#endif

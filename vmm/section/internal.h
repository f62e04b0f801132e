/*
 * Between the files of sections: section.c and section_page.c.
 *
 * Owns: nothing. Context: as section.h says.
 */
#ifndef VMM_SECTION_INTERNAL_H
#define VMM_SECTION_INTERNAL_H

#include "vmm/section/section.h"

/* Locks all mappings, with interrupts off; returns whether they were on. */
bool sections_lock_all(void);
void sections_unlock_all(bool were_on);

/* Tells reclaim how to evict pages of sections. */
void section_start_reclaim(void);

#endif

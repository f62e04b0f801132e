/*
 * Between the files of sections.
 *
 * Owns: nothing. Context: as section.h says.
 */
#ifndef VMM_SECTION_INTERNAL_H
#define VMM_SECTION_INTERNAL_H

#include "vmm/section/mapping.h"
#include "vmm/section/section.h"

/* Locks a family, with interrupts off; returns whether they were on. */
bool section_lock_family(struct section_family *family);
void section_unlock_family(struct section_family *family, bool were_on);

/* Adds a hold, unless the family is ending: then it returns false. */
MUST_USE bool section_try_hold_family(struct section_family *family);
void section_put_family(struct section_family *family);

/* Adds a count. */
void section_hold(struct section *section);

/* All sections, under their lock or when nothing else runs. */
LIST_HEAD(section_list, section);
const struct section_list *sections_all(void);

/* As section_create, but the section is not open; the caller owns its one count. */
MUST_USE enum status section_make(const struct pager *pager, const void *source, uint64_t size,
                                  struct rights most, struct section **made);

/* Makes a section of a family with this size and a tree of so many levels, and takes over the
 * caller's charge of `charged` pages. */
MUST_USE enum status section_make_in(struct section_family *family, uint64_t size, unsigned levels,
                                     struct rights most, uint64_t charged, struct section **made);

/* Returns the pages that a section of this size charges: all, if they may be written or the pager
 * cannot make a page again. */
static inline uint64_t section_promise(const struct pager *pager, struct rights most, uint64_t size)
{
    return most.write || pager->get == NULL ? round_up(size, PAGE_SIZE) / PAGE_SIZE : 0;
}

/* Stores the section's size; with (z), or when nothing else has the section. */
void section_set_size(struct section *section, uint64_t size);

/* ---- the levels of the tree (section.c); with (z) ---- */

/* Gives the tree room for a size. STATUS_NO_MEMORY: nothing has changed. */
MUST_USE enum status section_raise_tree(struct section *section, uint64_t size);

/* Frees the tables that the section's size does not need: roots of higher levels, and what is
 * behind the span of the new root, where no page is. Without memory for the path to the new root
 * they stay. */
void section_lower_tree(struct section *section);

/* Flushes everything, and waits until all walks have ended that had begun. */
void section_flush(void);

/* Makes the spaces forget the tables of the family that they met last (vmm/space/counts.h). Walks
 * that had begun may still use them. */
void section_forget_tables(struct section_family *family);

/* Records in a table's frame which family it belongs to: the family's offset in the direct map, in
 * units of 16 bytes, fits into 48 bits. The table is locked. */
void section_name_table(struct pfn table, const struct section_family *family);

/* ---- rounds over a section's pages (object.c); with (z) ---- */

/* The time that a call waits for pages in use: longer than any disk command may take. */
#define SECTION_LIMIT_MS UINT64_C(90000)

/* Passes the lock of each leaf table of the section in [from, to): a fault that took one before the
 * size or the mark changed has its page then, and one that takes it later sees the change. */
void section_pass_locks(struct section *section, uint64_t from, uint64_t to);

/* Recalls the leaves of all pages in [from, to) that the section alone has, and flushes. Their
 * counts stay with the pages. */
void section_recall_range(struct section *section, uint64_t from, uint64_t to);

/* Removes the pages that an earlier cut left behind the end. STATUS_TIMEOUT: still in use. */
MUST_USE enum status section_finish_cut(struct section *section);

/* Drops the counts of the recalled leaves in [from, to). Returns how many pages are still in use
 * for something else, or being moved. */
uint64_t section_settle_range(struct section *section, uint64_t from, uint64_t to);

/* Makes the path down to the table of this level at a place own, with the missing tables.
 * STATUS_AGAIN: walk again; the path may be ready. */
MUST_USE enum status section_own_path(struct section *section, uint64_t at, unsigned level,
                                      struct page_reserve *reserve);

/* Locks the table of a section's entry if the entry is unchanged, and turns interrupts off. */
MUST_USE bool section_lock_place(const struct tree_place *place, bool *were_on);
void section_unlock_place(const struct tree_place *place, bool were_on);

/* Tells reclaim how to evict pages of sections. */
void section_start_reclaim(void);

#endif

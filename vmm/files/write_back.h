/*
 * Between the files of this wing: writing the dirty pages of a section to its source.
 *
 * Owns: nothing. Context: thread, with no lock held but the list's of open files; waits for the
 * disk. Rules: W1, W3.
 */
#ifndef VMM_FILES_WRITE_BACK_H
#define VMM_FILES_WRITE_BACK_H

#include "vmm/section/section.h"

/* Writes the dirty pages in [from, to), and makes them durable. Bytes that were written before the
 * call, by mappings or section_write, are then on the disk. On failure the pages that were not
 * written are dirty still; all others have been tried. */
MUST_USE enum status section_write_back(struct section *section, uint64_t from, uint64_t to);

#endif

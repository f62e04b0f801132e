/*
 * The in-use mark of a prepared disk: what its two headers say while pages are on it.
 *
 * State: none -> (mark_ensure) -> set -> (mark_clear) -> none; a failed write -> failed, for the
 * rest of the run. Each step is one generation of the headers.
 * Units: none. Owns: one frame, from mark_open to mark_close.
 * Fails with: the device's status, and STATUS_IO once a mark has failed.
 * Context: thread or fault with the disk's mutex held, which makes the calls exclusive.
 * Spec: docs/disk-safety.md, rule 13.
 */
#ifndef SWAPDISK_MARK_H
#define SWAPDISK_MARK_H

#include <stdbool.h>

#include "swapdisk/disks.h"

/* Begins with the headers that the chosen disk was found with. The disk must outlive the mark.
 * Writes nothing. Fails with STATUS_NO_MEMORY. */
MUST_USE enum status mark_open(const struct disk_chosen *disk);

/* Marks the disk as in use, with all slots below end_slot as used, unless this run has done so:
 * both headers, each made durable. */
MUST_USE enum status mark_ensure(uint32_t end_slot);

/* Returns whether mark_ensure has nothing to do for this slot. Takes no lock. */
bool mark_covers(uint32_t end_slot);

/* Returns how many slots at the start of the area may hold pages of this run and earlier ones. */
uint32_t mark_used_slots(void);

/* Records that all slots were wiped, for the next update of the headers. */
void mark_wiped(void);

/* Returns whether mark_ensure has set the mark, or has failed to. */
bool mark_is_set(void);
bool mark_has_failed(void);

/* Returns whether a header that was read is the one that this run found or last wrote. */
bool mark_matches(const struct swap_header *header);

/* Writes the next generation of the list of bad slots to both headers of a marked disk. `list` has
 * the generation that was found. The second copy may be one behind, so it is brought up first. */
MUST_USE enum status mark_write_bad_slots(struct bad_slots *list);

/* Marks the disk as clean. */
MUST_USE enum status mark_clear(void);

void mark_close(void);

#endif

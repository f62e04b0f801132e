/*
 * The in-use mark of a prepared disk: what its two headers say while pages are on it.
 *
 * State: none -> (mark_ensure) -> set -> (mark_clear) -> none; a failed write -> failed, for the
 * rest of the run. Each step is one generation of the headers.
 * Units: none. Owns: one frame, from mark_open to mark_close; three on a disk whose logical sectors
 * are larger than 512 bytes.
 * Fails with: the device's status, and STATUS_IO once a mark has failed.
 * Context: thread or fault with the disk's mutex held, which makes the calls exclusive.
 * Spec: docs/disk-safety.md, rule 13.
 */
#ifndef SWAPDISK_MARK_H
#define SWAPDISK_MARK_H

#include <stdbool.h>

#include "swapdisk/disks.h"

/* One disk's mark. Zeroed: not open. */
struct swap_mark {
    const struct disk_chosen *disk;
    struct swap_header header; /* as last written, or found */
    bool lagging;              /* the second copy is one generation behind */
    uint64_t least_generation; /* brought up to this one first: another half of a mirror has it */
    uint32_t least_used;       /* likewise: the slots that it says are used */
    struct pfn page;           /* the header's page on its way to the disk */
    struct pfn whole[2];       /* its logical sector, and scratch; PFN_NONE: sectors of 512 bytes */
    enum { MARK_NONE, MARK_SET, MARK_FAILED } state;
    uint32_t covered; /* atomic: slots that need no update of the headers */
};

/* Begins with the headers that the chosen disk was found with. The disk must outlive the mark.
 * Writes nothing. Fails with STATUS_NO_MEMORY. */
MUST_USE enum status mark_open(struct swap_mark *mark, const struct disk_chosen *disk);

/* Prepares the first update of both halves of a mirror, so that their headers then have the same
 * generation and used slots. Writes nothing. */
void mark_align(struct swap_mark *mark, struct swap_mark *other);

/* Brings the headers of a half up to the generation of the other one. To be called for both before
 * mark_ensure, so that a power cut never leaves them further apart than before. */
MUST_USE enum status mark_level(struct swap_mark *mark);

/* Marks the disk as in use, with all slots below end_slot as used, unless this run has done so:
 * both headers, each made durable. */
MUST_USE enum status mark_ensure(struct swap_mark *mark, uint32_t end_slot);

/* Returns whether mark_ensure has nothing to do for this slot. Takes no lock. */
bool mark_covers(const struct swap_mark *mark, uint32_t end_slot);

/* Returns how many slots at the start of the area may hold pages of this run and earlier ones. */
uint32_t mark_used_slots(const struct swap_mark *mark);

/* Records that all slots were wiped, for the next update of the headers. */
void mark_wiped(struct swap_mark *mark);

/* Returns whether mark_ensure has set the mark, or has failed to. */
bool mark_is_set(const struct swap_mark *mark);
bool mark_has_failed(const struct swap_mark *mark);

/* Returns whether a header that was read is the one that this run found or last wrote. */
bool mark_matches(const struct swap_mark *mark, const struct swap_header *header);

/* Writes the next generation of the list of bad slots to both headers of a marked disk. `list` has
 * the generation that was found. The second copy may be one behind, so it is brought up first,
 * unless the first is torn. */
MUST_USE enum status mark_write_bad_slots(struct swap_mark *mark, struct bad_slots *list);

/* Marks the disk as clean. */
MUST_USE enum status mark_clear(struct swap_mark *mark);

void mark_close(struct swap_mark *mark);

#endif

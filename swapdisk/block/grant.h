/*
 * Grants: each permits writing a range of sectors of one device.
 *
 * The command layer of the driver asks swap_grant_covers() about each write at the last moment.
 * swapdisk/validate.c alone makes grants, each after it has read and judged the disk itself.
 *
 * A grant for swap also says which of its sectors are slots. Only those may be discarded (TRIM),
 * never the headers and the log area of a set.
 *
 * Units: sectors of 512 bytes; LBA ranges are inclusive. Owns: the grants for swap, one for each
 * set in use, and the one for files.
 * State of a grant: none -> swap_grant_make -> granted -> swap_grant_revoke -> none.
 * Fails with: nothing; overlapping grants, too many, and a damaged one are panics.
 * Context: any; never waits. Spec: docs/disk-safety.md, rules 9 and 20.
 */
#ifndef SWAPDISK_BLOCK_GRANT_H
#define SWAPDISK_BLOCK_GRANT_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/status.h"

struct swap_grant;

/* Sets of swap space in use at once. */
#define SWAP_GRANTS_MAX 16U

/* Returns the grant for [first_lba, last_lba] of a device, of which no other grant has a sector.
 * Its slots are slot_sectors sectors, at least one, from first_slot_lba on. */
const struct swap_grant *swap_grant_make(const void *device, uint64_t first_lba, uint64_t last_lba,
                                         uint64_t first_slot_lba, uint64_t slot_sectors);

/* Returns whether this grant allows writing [lba, lba + sectors) of the device; no other one
 * counts. Never wraps. False for NULL, a pointer to anything but a grant, and after its end. */
bool swap_grant_covers(const struct swap_grant *grant, const void *device, uint64_t lba,
                       uint64_t sectors);

/* Returns whether this grant, which is for swap, allows discarding [lba, lba + sectors) of the
 * device: all of it is slots. */
bool swap_grant_covers_slots(const struct swap_grant *grant, const void *device, uint64_t lba,
                             uint64_t sectors);

/* Ends all grants for swap: refuses every later write under them. */
void swap_grant_revoke(void);

/* ---- the grant for files: a second one, of single runs (rule F3) ---- */

/* Runs of all files that are open for writing. */
#define FILES_RUNS_MAX 2048U

/* Returns the grant for files in [first_lba, last_lba] of a device. It covers nothing yet. Panics
 * if there is one already. */
const struct swap_grant *files_grant_make(const void *device, uint64_t first_lba,
                                          uint64_t last_lba);

/* Returns whether this is the grant for files, with a range that begins at this sector of the
 * device. */
bool files_grant_begins_at(const struct swap_grant *grant, const void *device, uint64_t lba);

/* Adds a run of sectors, or takes one out that was added. STATUS_REFUSED: it is not in the grant's
 * range, or meets another run. STATUS_LIMIT: too many runs. */
MUST_USE enum status files_grant_add(const struct swap_grant *grant, uint64_t lba,
                                     uint64_t sectors);
void files_grant_remove(const struct swap_grant *grant, uint64_t lba, uint64_t sectors);

/* As swap_grant_revoke. */
void files_grant_revoke(void);

#endif

/*
 * The grant: permission to write a range of sectors of one device.
 *
 * The command layer of the driver asks swap_grant_covers() about each write at the last moment.
 * swapdisk/validate.c alone makes a grant, after it has read and judged the disk itself.
 *
 * Units: sectors of 512 bytes; LBA ranges are inclusive. Owns: the one grant that can exist.
 * State: none -> swap_grant_make -> granted -> swap_grant_revoke -> none.
 * Fails with: nothing; a second grant and a damaged grant are panics.
 * Context: any; never waits.
 * Spec: docs/disk-safety.md, rule 9.
 */
#ifndef SWAPDISK_GRANT_H
#define SWAPDISK_GRANT_H

#include <stdbool.h>
#include <stdint.h>

struct swap_grant;

/* Returns the grant for [first_lba, last_lba] of a device. Panics if a grant exists already. */
const struct swap_grant *swap_grant_make(const void *device, uint64_t first_lba, uint64_t last_lba);

/* Returns whether the grant allows writing [lba, lba + sectors) of the device. Never wraps. Returns
 * false for NULL, for a pointer to anything but the grant, and after swap_grant_revoke. */
bool swap_grant_covers(const struct swap_grant *grant, const void *device, uint64_t lba,
                       uint64_t sectors);

/* Ends the grant: refuses every later write. Does nothing if there is none. */
void swap_grant_revoke(void);

#endif

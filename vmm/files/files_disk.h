/*
 * The disk whose files may be written: the one that has the set of files= (rule F5).
 *
 * Only a set that the options name is written, in a virtual machine too. The disk is judged twice,
 * as one with swap space is (swapdisk/validate.h), and once more at the end of the run, before what
 * is left is written. With two disks that have the set, or a disk that could not be examined, none
 * is written.
 *
 * Units: none. Owns: the grant for files from files_disk_open to files_disk_close. State:
 * disks_scan -> files_disk_open -> files_disk_close -> disks_stop. Fails with: no disk, and a line
 * of the log that says why. Context: thread, one at a time; waits for the disks with bounds.
 * Spec: docs/disk-safety.md.
 */
#ifndef VMM_FILES_FILES_DISK_H
#define VMM_FILES_FILES_DISK_H

#include "lib/options.h"
#include "swapdisk/block/block.h"

struct files_disk {
    struct block_device block;
    const struct swap_grant *grant; /* covers nothing until files are opened */
};

/* Finds the disk that the options name, judges it, and makes its grant. */
void files_disk_open(const struct options *options);

/* Returns the disk; NULL: no files are written. */
const struct files_disk *files_disk(void);

/* Judges the disk once more; OK without one. On failure ends the grant: nothing more is written. */
MUST_USE enum status files_disk_last_look(void);

/* Ends the grant. */
void files_disk_close(void);

#endif

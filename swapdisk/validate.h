/*
 * Decides whether a disk may be written, and makes the grant.
 *
 * A grant names a device and a range of sectors. Only this module makes grants, after it has read
 * table and headers itself; the choke point of the driver asks swap_grant_covers() about each
 * write. docs/disk-safety.md lists the rules.
 *
 * Units: sectors of 512 bytes; LBA ranges are inclusive. Owns: nothing; grants end by
 * swap_grant_revoke (swapdisk/block/grant.h).
 * Fails with: STATUS_REFUSED, with the reason as a sentence.
 * Context: thread; waits for the disk with the source's bound.
 */
#ifndef SWAPDISK_VALIDATE_H
#define SWAPDISK_VALIDATE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/status.h"
#include "swapdisk/format/header.h"
#include "swapdisk/format/verified_read.h"

#define REASON_SIZE 160

struct swap_grant;

/* What was found on one disk. */
struct disk_finding {
    bool prepared;             /* one partition of ours, and everything agrees */
    struct swap_header header; /* prepared: the first copy, which is the newer */
    bool lagging;              /* prepared: the second copy is one generation behind */
    bool list_torn;            /* prepared: only the second list of bad slots is sound */
    bool unread;               /* not prepared: a read failed */
    uint32_t tables_checksum;  /* prepared: over all of both partition tables */
    uint64_t first_lba;        /* prepared: the partition */
    uint64_t last_lba;
    bool chosen;               /* prepared: it may be written, by the options and other disks */
    bool refused;              /* while disks are chosen: it conflicts with another one */
    uint16_t priority;         /* chosen: areas of a higher one are filled first */
    struct disk_finding *next; /* the caller's list; NULL at its end */
    char reason[REASON_SIZE];  /* prepared: which set; else why not */
};

/* A disk to be judged. */
struct disk_view {
    const void *device; /* names the device in the grant */
    const struct disk_identity *identity;
    struct sector_source source;
};

/* Reads the disk's tables and headers and judges them. Fails with STATUS_NO_MEMORY only; a problem
 * of the disk is in the finding. */
MUST_USE enum status validate_disk(const struct disk_view *view, struct disk_finding *finding);

/* As validate_disk, for a partition of files (rules F1, F2). */
MUST_USE enum status validate_files(const struct disk_view *view, struct disk_finding *finding);

/* Reads and judges a disk with files once more, and makes their grant, which covers nothing until
 * runs are added to it. */
MUST_USE enum status validate_files_grant(const struct disk_view *view, const uint8_t set_uuid[16],
                                          const struct swap_grant **grant,
                                          struct disk_finding *finding);

/* As validate_unchanged, for a partition of files. */
MUST_USE enum status validate_files_unchanged(const struct disk_view *view,
                                              const struct disk_finding *before,
                                              struct disk_finding *now);

/* Reads and judges the disk once more, and makes the grant if it is still the set. */
MUST_USE enum status validate_grant(const struct disk_view *view, const uint8_t set_uuid[16],
                                    const struct swap_grant **grant, struct disk_finding *finding);

/* Returns the bad slots of the disk that was judged last, none if it has no list. */
const struct bad_slots *validate_bad_slots(void);

/* Reads and judges the disk again at the end of a run, into `now`; `before` is from the grant.
 * Fails with STATUS_CORRUPT if partition tables or set differ or if the disk is no longer prepared,
 * with STATUS_IO if it cannot be read. The reason is in `now`. */
MUST_USE enum status validate_unchanged(const struct disk_view *view,
                                        const struct disk_finding *before,
                                        struct disk_finding *now);

#endif

/*
 * Where a disk may have a volume that is only read: the whole disk, and each partition.
 *
 * Nothing here permits a write, so that one sound partition table is enough. Damage of an entry
 * hides that entry only; a sector that cannot be read, the entries that were read with it. What may
 * be written is judged in swapdisk/validate.c.
 *
 * Units: sectors of 512 bytes; ranges are inclusive. Owns: two frames from partitions_begin to
 * partitions_end. Fails with: STATUS_NO_MEMORY, the status of a read; STATUS_NOT_FOUND: no further
 * range. Context: thread; waits for the disk with the source's bound.
 * Spec: UEFI 2.10, 5.2.1 (MBR), 5.3 (GPT).
 */
#ifndef SWAPDISK_FS_PARTITIONS_H
#define SWAPDISK_FS_PARTITIONS_H

#include <stdint.h>

#include "lib/status.h"
#include "swapdisk/format/gpt.h"
#include "swapdisk/format/verified_read.h"

struct partition_list {
    struct sector_source source;
    struct pfn frame;
    struct pfn second;
    uint64_t read_lba;       /* the sector read last; UINT64_MAX: none */
    enum status read_status; /* how that ended */
    enum status trouble;     /* of the first read that failed; OK: none */
    unsigned next;           /* 0: the whole disk; 1 to 4: the MBR; then the GPT's entries */
    struct gpt_header table; /* entry_count is 0 without a sound one */
};

MUST_USE enum status partitions_begin(struct partition_list *list,
                                      const struct sector_source *source);
void partitions_end(struct partition_list *list);

/* Returns the next range that lies on the disk. After the last one, returns the status of the first
 * read of a table that failed, if one did. */
MUST_USE enum status partitions_next(struct partition_list *list, uint64_t *first_lba,
                                     uint64_t *last_lba);

#endif

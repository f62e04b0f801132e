/*
 * Between the files of the FAT reader.
 *
 * Owns: nothing. Context: as fat.h says.
 */
#ifndef SWAPDISK_FS_INTERNAL_H
#define SWAPDISK_FS_INTERNAL_H

#include "swapdisk/format/identify.h"
#include "swapdisk/fs/fat.h"

/* Values of the table (FAT specification, 4.1); the upper four bits of an entry mean nothing. */
#define FAT_ENTRY_MASK UINT32_C(0x0fffffff)
#define FAT_ENTRY_BAD  UINT32_C(0x0ffffff7)
#define FAT_ENTRY_LAST UINT32_C(0x0ffffff8) /* and above: the end of a chain */

/* Entries of a directory in a sector. */
#define FAT_ENTRY_SIZE         32U
#define FAT_ENTRIES_PER_SECTOR (SECTOR_SIZE / FAT_ENTRY_SIZE)

static inline bool fat_is_cluster(const struct fat_volume *volume, uint32_t cluster)
{
    return cluster >= 2 && cluster - 2 < volume->clusters;
}

static inline uint64_t fat_cluster_lba(const struct fat_volume *volume, uint32_t cluster)
{
    return volume->data_lba + (uint64_t)(cluster - 2) * volume->cluster_sectors;
}

/* Reads the entry of a cluster in the table. */
MUST_USE enum status fat_read_entry(struct fat_volume *volume, uint32_t cluster, uint32_t *entry);

/* Returns a sector of the data area, read by page. */
MUST_USE enum status fat_read_data(struct fat_volume *volume, uint32_t cluster, uint32_t sector,
                                   const uint8_t **bytes);

/* Sets the volume's reason, and returns the status. */
static inline enum status fat_fail(struct fat_volume *volume, enum status status,
                                   const char *reason)
{
    volume->reason = reason;
    return status;
}

#endif

/*
 * A small FAT32 volume made by hand on a fake disk, for what no formatting tool makes.
 *
 * Units: sectors of 512 bytes, clusters numbered from 2. Owns: nothing; the disk has the bytes.
 * Context: host tests and fuzzers.
 */
#ifndef TESTS_HOST_FAKE_FAT_H
#define TESTS_HOST_FAKE_FAT_H

#include "tests/host/fake/disk.h"

#define FAKE_FAT_RESERVED 32U
#define FAKE_FAT_ROOT     2U
#define FAKE_FAT_LAST     UINT32_C(0x0fffffff)

struct fake_fat {
    struct fake_disk *disk;
    uint64_t first_lba;
    uint32_t fat_sectors;
    uint32_t cluster_sectors;
    uint32_t clusters;
    uint32_t next; /* the next cluster that was never used */
};

/* Writes boot sector, two tables and an empty root directory of one cluster. */
void fake_fat_format(struct fake_fat *fat, struct fake_disk *disk, uint64_t first_lba,
                     uint32_t sectors, uint32_t cluster_sectors);

/* Sets an entry of both tables. */
void fake_fat_set(const struct fake_fat *fat, uint32_t cluster, uint32_t value);
uint8_t *fake_fat_cluster(const struct fake_fat *fat, uint32_t cluster);

/* Adds an entry, with a long name unless that is NULL, to a directory of one cluster. The short
 * name has 11 characters. Returns the entry's bytes. */
uint8_t *fake_fat_enter(const struct fake_fat *fat, uint32_t directory, const char *short_name,
                        const char *long_name, uint8_t attributes, uint32_t first, uint32_t size);

/* Allocates a chain of clusters, each `step` behind the one before; returns the first. */
uint32_t fake_fat_chain(struct fake_fat *fat, uint32_t clusters, uint32_t step);

#endif

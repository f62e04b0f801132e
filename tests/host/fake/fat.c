/* A small FAT32 volume made by hand on a fake disk. */
#include "tests/host/fake/fat.h"

#include <string.h>

#include "lib/check.h"
#include "swapdisk/format/little.h"

void fake_fat_set(const struct fake_fat *fat, uint32_t cluster, uint32_t value)
{
    for (unsigned table = 0; table < 2; table++)
        put_le32(fake_disk_sector(fat->disk,
                                  fat->first_lba + FAKE_FAT_RESERVED + table * fat->fat_sectors) +
                     cluster * 4,
                 value);
}

uint8_t *fake_fat_cluster(const struct fake_fat *fat, uint32_t cluster)
{
    uint64_t data = fat->first_lba + FAKE_FAT_RESERVED + 2 * fat->fat_sectors;

    CHECK(cluster >= 2 && cluster - 2 < fat->clusters);
    return fake_disk_sector(fat->disk, data + (uint64_t)(cluster - 2) * fat->cluster_sectors);
}

void fake_fat_format(struct fake_fat *fat, struct fake_disk *disk, uint64_t first_lba,
                     uint32_t sectors, uint32_t cluster_sectors)
{
    uint8_t *boot = fake_disk_sector(disk, first_lba);
    unsigned shift = disk->shift;
    uint32_t fat_sectors =
        (uint32_t)round_up((sectors / cluster_sectors + 2 + 127) / 128, UINT64_C(1) << shift);

    memset(boot, 0, (size_t)sectors * SECTOR_SIZE);
    *fat = (struct fake_fat){.disk = disk,
                             .first_lba = first_lba,
                             .fat_sectors = fat_sectors,
                             .cluster_sectors = cluster_sectors,
                             .clusters =
                                 (sectors - FAKE_FAT_RESERVED - 2 * fat_sectors) / cluster_sectors,
                             .next = FAKE_FAT_ROOT + 1};
    memcpy(boot,
           "\xeb\x58\x90"
           "FAKE FAT",
           11);
    put_le16(boot + 11, (uint16_t)(SECTOR_SIZE << shift));
    boot[13] = (uint8_t)(cluster_sectors >> shift);
    put_le16(boot + 14, (uint16_t)(FAKE_FAT_RESERVED >> shift));
    boot[16] = 2;
    boot[21] = 0xf8;
    put_le32(boot + 32, sectors >> shift);
    put_le32(boot + 36, fat_sectors >> shift);
    put_le32(boot + 44, FAKE_FAT_ROOT);
    put_le16(boot + 510, 0xaa55);
    fake_fat_set(fat, 0, 0x0ffffff8);
    fake_fat_set(fat, 1, FAKE_FAT_LAST);
    fake_fat_set(fat, FAKE_FAT_ROOT, FAKE_FAT_LAST);
}

/* Returns the first unused 32 bytes of a directory of one cluster. */
static uint8_t *free_entry(const struct fake_fat *fat, uint32_t directory)
{
    uint8_t *entry = fake_fat_cluster(fat, directory);

    while (entry[0] != 0)
        entry += 32;
    CHECK(entry < fake_fat_cluster(fat, directory) + (size_t)fat->cluster_sectors * SECTOR_SIZE);
    return entry;
}

/* Writes one part of a long name, from 1. */
static void put_part(uint8_t *entry, const char *name, unsigned part, unsigned parts, uint8_t sum)
{
    static const uint8_t offsets[] = {1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30};
    size_t length = strlen(name);

    entry[0] = (uint8_t)(part | (part == parts ? 0x40U : 0));
    entry[11] = 0x0f;
    entry[13] = sum;
    for (size_t i = 0; i < sizeof(offsets); i++) {
        size_t at = (part - 1) * sizeof(offsets) + i;

        put_le16(entry + offsets[i], at < length ? (uint8_t)name[at] : at == length ? 0 : 0xffff);
    }
}

uint8_t *fake_fat_enter(const struct fake_fat *fat, uint32_t directory, const char *short_name,
                        const char *long_name, uint8_t attributes, uint32_t first, uint32_t size)
{
    uint8_t *entry = free_entry(fat, directory);
    unsigned parts = long_name != NULL ? (unsigned)(strlen(long_name) + 12) / 13 : 0;
    uint8_t sum = 0;

    for (unsigned i = 0; i < 11; i++)
        sum = (uint8_t)((sum >> 1 | sum << 7) + (uint8_t)short_name[i]);
    for (unsigned part = parts; part > 0; part--, entry += 32)
        put_part(entry, long_name, part, parts, sum);
    memcpy(entry, short_name, 11);
    entry[11] = attributes;
    put_le16(entry + 20, (uint16_t)(first >> 16));
    put_le16(entry + 26, (uint16_t)first);
    put_le32(entry + 28, size);
    return entry;
}

uint32_t fake_fat_chain(struct fake_fat *fat, uint32_t clusters, uint32_t step)
{
    uint32_t first = fat->next;

    CHECK(clusters > 0 && first - 2 + (clusters - 1) * step < fat->clusters);
    for (uint32_t i = 0; i < clusters; i++)
        fake_fat_set(fat, first + i * step,
                     i + 1 < clusters ? first + (i + 1) * step : FAKE_FAT_LAST);
    fat->next = first + (clusters - 1) * step + 1;
    return first;
}

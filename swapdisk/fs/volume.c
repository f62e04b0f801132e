/* FAT32 volumes: the boot sector, and reads of the table and of directories by pages. */
#include "lib/check.h"
#include "lib/units.h"
#include "pmm/pmm.h"
#include "swapdisk/ahci/ahci.h"
#include "swapdisk/format/identify.h"
#include "swapdisk/format/little.h"
#include "swapdisk/fs/internal.h"

/* Fields of the boot sector (FAT specification, 3.1 and 3.3): offsets. */
#define BPB_BYTES_PER_SECTOR    11
#define BPB_SECTORS_PER_CLUSTER 13
#define BPB_RESERVED_SECTORS    14
#define BPB_TABLES              16
#define BPB_ROOT_ENTRIES        17
#define BPB_TOTAL_16            19
#define BPB_TABLE_SECTORS_16    22
#define BPB_TOTAL_32            32
#define BPB_TABLE_SECTORS_32    36
#define BPB_FLAGS               40
#define BPB_VERSION             42
#define BPB_ROOT                44
#define BOOT_SIGNATURE          510

#define FLAG_NOT_MIRRORED UINT16_C(0x80)
#define FLAG_ACTIVE_TABLE UINT16_C(0x0f)

#define ENTRIES_PER_SECTOR (SECTOR_SIZE / 4)
#define CLUSTERS_MAX       (FAT_ENTRY_BAD - 2) /* their numbers are below the mark of a bad one */

_Static_assert(PAGE_SIZE % SECTOR_SIZE == 0 && ENTRIES_PER_SECTOR == 128,
               "no entry of the table lies across sectors or pages");

static const char not_fat32[] = "it has no FAT32 boot sector";

/* Says why a sector is not the boot sector of a FAT32 volume; NULL: it is one. */
static const char *boot_sector_foreign(const uint8_t *boot, unsigned shift)
{
    if (get_le16(boot + BOOT_SIGNATURE) != 0xaa55 || get_le16(boot + BPB_ROOT_ENTRIES) != 0 ||
        get_le16(boot + BPB_TOTAL_16) != 0 || get_le16(boot + BPB_TABLE_SECTORS_16) != 0 ||
        get_le32(boot + BPB_TABLE_SECTORS_32) == 0 || get_le32(boot + BPB_TOTAL_32) == 0)
        return not_fat32;
    if (get_le16(boot + BPB_BYTES_PER_SECTOR) != SECTOR_SIZE << shift)
        return "its sectors are not of the size of the disk's";
    return get_le16(boot + BPB_VERSION) != 0 ? "it has a later version of FAT32" : NULL;
}

/* Takes the volume's layout from its boot sector; returns what contradicts it, NULL for nothing. */
static const char *take_layout(struct fat_volume *volume, const uint8_t *boot, uint64_t sectors)
{
    uint16_t flags = get_le16(boot + BPB_FLAGS);
    unsigned shift = volume->source.shift;
    unsigned active = (flags & FLAG_NOT_MIRRORED) != 0 ? flags & FLAG_ACTIVE_TABLE : 0;
    uint64_t before_data;

    volume->total_sectors = (uint64_t)get_le32(boot + BPB_TOTAL_32) << shift;
    volume->reserved_sectors = (uint32_t)get_le16(boot + BPB_RESERVED_SECTORS) << shift;
    volume->fat_sectors = (uint64_t)get_le32(boot + BPB_TABLE_SECTORS_32) << shift;
    volume->cluster_sectors = (uint32_t)boot[BPB_SECTORS_PER_CLUSTER] << shift;
    volume->tables = boot[BPB_TABLES];
    volume->mirrored = (flags & FLAG_NOT_MIRRORED) == 0;
    volume->root = get_le32(boot + BPB_ROOT);
    if (volume->cluster_sectors == 0 ||
        (volume->cluster_sectors & (volume->cluster_sectors - 1)) != 0)
        return "its clusters have an impossible size";
    if (volume->total_sectors > sectors)
        return "it is larger than its partition";
    if (volume->reserved_sectors == 0 || volume->tables < 1 || volume->tables > 2 ||
        active >= volume->tables)
        return "its boot sector names no allocation table";
    before_data = volume->reserved_sectors + volume->tables * volume->fat_sectors;
    if (before_data >= volume->total_sectors)
        return "its allocation tables leave no room for data";
    volume->clusters = (uint32_t)((volume->total_sectors - before_data) / volume->cluster_sectors);
    volume->fat_lba = volume->first_lba + volume->reserved_sectors + active * volume->fat_sectors;
    volume->data_lba = volume->first_lba + before_data;
    if (volume->clusters == 0 || volume->clusters > CLUSTERS_MAX ||
        (volume->clusters + 2 + ENTRIES_PER_SECTOR - 1) / ENTRIES_PER_SECTOR > volume->fat_sectors)
        return "its allocation table does not fit its clusters";
    return fat_is_cluster(volume, volume->root) ? NULL : "its root directory is outside of it";
}

static enum status allocate_frames(struct fat_volume *volume)
{
    struct pfn *frames[] = {&volume->fat, &volume->data, &volume->second};

    for (unsigned i = 0; i < ARRAY_COUNT(frames); i++)
        *frames[i] = PFN_NONE;
    for (unsigned i = 0; i < ARRAY_COUNT(frames); i++) {
        if (pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, frames[i]) != OK)
            return STATUS_NO_MEMORY;
    }
    return OK;
}

static enum status open_volume(struct fat_volume *volume, uint64_t sectors)
{
    enum status status = allocate_frames(volume);
    const uint8_t *boot;
    const char *problem;

    if (status == OK)
        status = source_read(&volume->source, volume->first_lba, 1, volume->data, volume->second);
    if (status != OK)
        return status;
    boot = frame_pointer(volume->data);
    problem = boot_sector_foreign(boot, volume->source.shift);
    if (problem != NULL)
        return fat_fail(volume, STATUS_UNSUPPORTED, problem);
    problem = take_layout(volume, boot, sectors);
    return problem != NULL ? fat_fail(volume, STATUS_CORRUPT, problem) : OK;
}

enum status fat_open(struct fat_volume *volume, const struct sector_source *source,
                     uint64_t first_lba, uint64_t last_lba)
{
    enum status status;
    const char *reason;

    CHECK(first_lba <= last_lba && last_lba < source->sectors);
    *volume = (struct fat_volume){
        .source = *source, .first_lba = first_lba, .fat_at = UINT64_MAX, .data_at = UINT64_MAX};
    status = open_volume(volume, last_lba - first_lba + 1);
    if (status == OK)
        return OK;
    reason = volume->reason;
    fat_close(volume);
    volume->reason = reason;
    return status;
}

void fat_close(struct fat_volume *volume)
{
    struct pfn frames[] = {volume->fat, volume->data, volume->second};

    for (unsigned i = 0; i < ARRAY_COUNT(frames); i++) {
        if (!pfn_is_none(frames[i]))
            ahci_free_frame(frames[i]);
    }
    *volume = (struct fat_volume){.fat = PFN_NONE, .data = PFN_NONE, .second = PFN_NONE};
}

/* Reads the page of an area that contains a sector, unless it was the last one read. */
static enum status read_page_of(struct fat_volume *volume, uint64_t start, uint64_t sectors,
                                uint64_t sector, struct pfn frame, uint64_t *at)
{
    uint64_t first = round_down(sector, SECTORS_PER_PAGE);
    enum status status;

    CHECK_MSG(sector < sectors, "sector %lu of an area of %lu", sector, sectors);
    if (*at == start + first)
        return OK;
    *at = UINT64_MAX;
    status =
        source_read(&volume->source, start + first,
                    (unsigned)min_u64(SECTORS_PER_PAGE, sectors - first), frame, volume->second);
    if (status == OK)
        *at = start + first;
    return status;
}

enum status fat_read_entry(struct fat_volume *volume, uint32_t cluster, uint32_t *entry)
{
    uint64_t sector = cluster / ENTRIES_PER_SECTOR;
    enum status status;

    CHECK_MSG(fat_is_cluster(volume, cluster), "cluster %x of %x", cluster, volume->clusters);
    status = read_page_of(volume, volume->fat_lba, volume->fat_sectors, sector, volume->fat,
                          &volume->fat_at);
    if (status == OK)
        *entry =
            get_le32((const uint8_t *)frame_pointer(volume->fat) + cluster % (PAGE_SIZE / 4) * 4) &
            FAT_ENTRY_MASK;
    return status;
}

enum status fat_read_data(struct fat_volume *volume, uint32_t cluster, uint32_t sector,
                          const uint8_t **bytes)
{
    uint64_t start = fat_cluster_lba(volume, cluster);
    enum status status;

    CHECK(fat_is_cluster(volume, cluster));
    status = read_page_of(volume, start, volume->cluster_sectors, sector, volume->data,
                          &volume->data_at);
    *bytes = (const uint8_t *)frame_pointer(volume->data) +
             (uint64_t)(sector % SECTORS_PER_PAGE) * SECTOR_SIZE;
    return status;
}

/* Open files of a disk: finding them, and reading their pages. */
#include "swapdisk/fs/file.h"

#include "lib/bytes.h"
#include "lib/check.h"
#include "pmm/pmm.h"
#include "swapdisk/ahci/ahci.h"
#include "swapdisk/block/grant.h"
#include "swapdisk/format/header.h"
#include "swapdisk/format/identify.h"
#include "swapdisk/fs/fat.h"
#include "swapdisk/fs/partitions.h"

/* For the pieces of a page that do not begin a frame; one page at a time. */
struct file_bounce {
    struct mutex lock;
    struct pfn frame;
};

/* Alone in a frame. All but the bounce is constant from disk_file_open on, the grant from
 * disk_file_permit on. */
struct disk_file {
    struct pfn self;
    struct block_device block;
    uint64_t place; /* of its directory entry */
    uint64_t volume_first;
    uint64_t volume_last;
    const struct swap_grant *grant; /* has the file's runs; NULL: it is not written */
    struct fat_file fat;
    struct file_bounce *bounce;
    struct file_bounce bounce_here;
};

_Static_assert(sizeof(struct disk_file) <= PAGE_SIZE, "an open file fits its frame");

uint64_t disk_file_size(const struct disk_file *file)
{
    return file->fat.size;
}

const char *disk_file_problem(const struct disk_file *file)
{
    return file->fat.problem;
}

bool disk_file_same(const struct disk_file *a, const struct disk_file *b)
{
    return a->block.device == b->block.device && a->place == b->place;
}

/* ---- finding ---- */

static enum status allocate_file(const struct block_device *block, struct disk_file **made)
{
    struct disk_file *file;
    struct pfn self;

    if (pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &self) != OK)
        return STATUS_NO_MEMORY;
    file = frame_pointer(self);
    *file = (struct disk_file){.self = self, .block = *block, .fat.list = PFN_NONE};
    file->bounce = &file->bounce_here;
    if (pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &file->bounce->frame) != OK) {
        pmm_free(self);
        return STATUS_NO_MEMORY;
    }
    *made = file;
    return OK;
}

/* Returns the sectors of a run, and its place on the disk. */
static uint64_t sectors_of_run(const struct fat_file *fat, uint32_t index, uint64_t *lba)
{
    struct fat_run run = fat_file_run(fat, index);
    uint32_t end = index + 1 < fat->runs ? fat_file_run(fat, index + 1).at : fat->found;

    CHECK(run.cluster >= 2 && run.at < end);
    *lba = fat->data_lba + (uint64_t)(run.cluster - 2) * fat->cluster_sectors;
    return (uint64_t)(end - run.at) * fat->cluster_sectors;
}

/* Takes the first runs of the file out of the grant. */
static void withdraw_runs(const struct disk_file *file, const struct swap_grant *grant,
                          uint32_t runs)
{
    for (uint32_t i = 0; i < runs; i++) {
        uint64_t lba;
        uint64_t sectors = sectors_of_run(&file->fat, i, &lba);

        files_grant_remove(grant, lba, sectors);
    }
}

void disk_file_close(struct disk_file *file)
{
    CHECK(file->bounce == &file->bounce_here);
    if (file->grant != NULL)
        withdraw_runs(file, file->grant, file->fat.runs);
    fat_file_close(&file->fat);
    ahci_free_frame(file->bounce->frame);
    pmm_free(file->self);
}

/* Opens the file if the volume in the range has it. STATUS_NOT_FOUND: there is none such. */
static enum status look_in_range(struct disk_file *file, const struct sector_source *source,
                                 uint64_t first_lba, uint64_t last_lba, const char *path)
{
    struct fat_volume volume;
    struct fat_entry entry = {.place = 0};
    enum status status = fat_open(&volume, source, first_lba, last_lba);

    if (status == STATUS_UNSUPPORTED || status == STATUS_CORRUPT)
        return STATUS_NOT_FOUND;
    if (status != OK)
        return status;
    status = fat_find(&volume, path, &entry);
    if (status == OK)
        status = fat_file_open(&volume, &entry, &file->fat);
    file->place = entry.place;
    file->volume_first = first_lba;
    file->volume_last = last_lba;
    fat_close(&volume);
    return status;
}

/* Looks at one range after the other. What cannot be read hides no file of another range; its
 * status is returned if none has the file. */
static enum status look_in_all(struct disk_file *file, const struct sector_source *source,
                               struct partition_list *list, const char *path)
{
    enum status trouble = STATUS_NOT_FOUND;
    enum status status;
    uint64_t first;
    uint64_t last;

    while ((status = partitions_next(list, &first, &last)) == OK) {
        status = look_in_range(file, source, first, last, path);
        if (status == OK || status == STATUS_NO_MEMORY)
            return status;
        if (trouble == STATUS_NOT_FOUND)
            trouble = status;
    }
    return status == STATUS_NOT_FOUND ? trouble : status;
}

enum status disk_file_open(const struct block_device *block, const char *path,
                           struct disk_file **opened)
{
    struct disk_file *file;
    struct sector_source source;
    struct partition_list list;
    enum status status = allocate_file(block, &file);

    if (status != OK)
        return status;
    source = block_source(&file->block);
    status = partitions_begin(&list, &source);
    if (status == OK)
        status = look_in_all(file, &source, &list, path);
    partitions_end(&list);
    if (status == OK)
        *opened = file;
    else
        disk_file_close(file);
    return status;
}

/* ---- permission to write ---- */

/* Opens the file's volume again, and compares: the runs must still be the file's, and its own. */
static enum status look_again(struct disk_file *file, const char **reason)
{
    struct sector_source source = block_source(&file->block);
    struct fat_volume volume;
    enum status status = fat_open(&volume, &source, file->volume_first, file->volume_last);

    if (status != OK)
        return status;
    status = fat_file_alone(&volume, &file->fat, file->place);
    if (volume.reason != NULL)
        *reason = volume.reason;
    fat_close(&volume);
    return status;
}

enum status disk_file_permit(struct disk_file *file, const struct swap_grant *grant,
                             const char **reason)
{
    enum status status;

    *reason = "its volume cannot be read";
    if (file->grant != NULL)
        return OK;
    if (grant == NULL) {
        *reason = "no disk with files may be written";
        return STATUS_REFUSED;
    }
    /* A volume elsewhere, of the whole disk even, may claim clusters in the granted range. */
    if (!files_grant_begins_at(grant, file->block.device,
                               file->volume_first + FILES_HEADER_SECTOR + SWAP_HEADER_SECTORS)) {
        *reason = "it is on another volume than the one that may be written";
        return STATUS_REFUSED;
    }
    status = look_again(file, reason);
    for (uint32_t i = 0; i < file->fat.runs && status == OK; i++) {
        uint64_t lba;
        uint64_t sectors = sectors_of_run(&file->fat, i, &lba);

        status = files_grant_add(grant, lba, sectors);
        if (status != OK) {
            *reason = "its clusters are outside of the grant for files, or it has no room";
            withdraw_runs(file, grant, i);
        }
    }
    if (status == OK)
        file->grant = grant;
    return status;
}

bool disk_file_permitted(const struct disk_file *file)
{
    return file->grant != NULL;
}

/* ---- reading ---- */

/* Reads sectors that follow one another on the disk into a page, from this sector of the page. The
 * rest of the last logical sector is read with them: its cluster and the page have room for it. */
static enum status read_piece(const struct disk_file *file, uint64_t lba, uint32_t sectors,
                              uint32_t at, struct pfn frame)
{
    struct file_bounce *bounce = file->bounce;
    enum status status;

    CHECK(sectors > 0 && at + sectors <= SECTORS_PER_PAGE);
    sectors = (uint32_t)round_up(sectors, UINT64_C(1) << file->block.shift);
    if (at == 0)
        return block_read(&file->block, lba, sectors, &frame);
    mutex_lock(&bounce->lock);
    status = block_read(&file->block, lba, sectors, &bounce->frame);
    if (status == OK)
        memcpy((uint8_t *)frame_pointer(frame) + (uint64_t)at * SECTOR_SIZE,
               frame_pointer(bounce->frame), (uint64_t)sectors * SECTOR_SIZE);
    mutex_unlock(&bounce->lock);
    return status;
}

enum status disk_file_read(const struct disk_file *file, uint64_t page, struct pfn frame)
{
    uint64_t from = page * PAGE_SIZE;
    uint64_t bytes = from < file->fat.size ? min_u64(file->fat.size - from, PAGE_SIZE) : 0;
    uint32_t all = (uint32_t)((bytes + SECTOR_SIZE - 1) / SECTOR_SIZE);
    enum status status = OK;

    for (uint32_t at = 0; at < all && status == OK;) {
        uint64_t lba;
        uint32_t sectors;

        status = fat_file_place(&file->fat, (uint32_t)(from / SECTOR_SIZE) + at, &lba, &sectors);
        if (status != OK)
            return status;
        sectors = (uint32_t)min_u64(sectors, all - at);
        status = read_piece(file, lba, sectors, at, frame);
        at += sectors;
    }
    memset((uint8_t *)frame_pointer(frame) + bytes, 0, PAGE_SIZE - bytes);
    return status;
}

/* ---- writing ---- */

/* Writes the last sector of the file, in which so many bytes are the file's. */
static enum status write_tail(const struct disk_file *file, uint64_t lba, const uint8_t *bytes,
                              uint64_t count)
{
    struct file_bounce *bounce = file->bounce;
    enum status status;

    CHECK(count > 0 && count < SECTOR_SIZE);
    mutex_lock(&bounce->lock);
    status = block_read(&file->block, lba, 1, &bounce->frame);
    if (status == OK) {
        memcpy(frame_pointer(bounce->frame), bytes, count);
        status = block_write(&file->block, file->grant, lba, 1, &bounce->frame);
    }
    mutex_unlock(&bounce->lock);
    return status;
}

/* Writes whole sectors that follow one another on the disk, from this sector of the page. */
static enum status write_piece(const struct disk_file *file, uint64_t lba, uint32_t sectors,
                               uint32_t at, struct pfn frame)
{
    struct file_bounce *bounce = file->bounce;
    enum status status;

    CHECK(sectors > 0 && at + sectors <= SECTORS_PER_PAGE);
    if (at == 0)
        return block_write(&file->block, file->grant, lba, sectors, &frame);
    mutex_lock(&bounce->lock);
    memcpy(frame_pointer(bounce->frame),
           (const uint8_t *)frame_pointer(frame) + (uint64_t)at * SECTOR_SIZE,
           (uint64_t)sectors * SECTOR_SIZE);
    status = block_write(&file->block, file->grant, lba, sectors, &bounce->frame);
    mutex_unlock(&bounce->lock);
    return status;
}

enum status disk_file_write(const struct disk_file *file, uint64_t page, struct pfn frame)
{
    uint64_t from = page * PAGE_SIZE;
    uint64_t bytes = from < file->fat.size ? min_u64(file->fat.size - from, PAGE_SIZE) : 0;
    uint32_t whole = (uint32_t)(bytes / SECTOR_SIZE);
    uint64_t tail = bytes % SECTOR_SIZE;
    enum status status = file->grant != NULL ? OK : STATUS_REFUSED;
    uint64_t lba;
    uint32_t sectors;

    for (uint32_t at = 0; at < whole && status == OK; at += sectors) {
        status = fat_file_place(&file->fat, (uint32_t)(from / SECTOR_SIZE) + at, &lba, &sectors);
        if (status != OK)
            return status;
        sectors = (uint32_t)min_u64(sectors, whole - at);
        status = write_piece(file, lba, sectors, at, frame);
    }
    if (status == OK && tail > 0)
        status = fat_file_place(&file->fat, (uint32_t)(from / SECTOR_SIZE) + whole, &lba, &sectors);
    if (status == OK && tail > 0)
        status = write_tail(
            file, lba, (const uint8_t *)frame_pointer(frame) + (uint64_t)whole * SECTOR_SIZE, tail);
    return status;
}

enum status disk_file_flush(const struct disk_file *file)
{
    CHECK(file->grant != NULL);
    return block_flush(&file->block);
}

/* Open files of a disk: finding them, and reading their pages. */
#include "swapdisk/fs/file.h"

#include "lib/bytes.h"
#include "lib/check.h"
#include "pmm/pmm.h"
#include "swapdisk/format/identify.h"
#include "swapdisk/fs/fat.h"
#include "swapdisk/fs/partitions.h"

/* For the pieces of a page that do not begin a frame; one page at a time. */
struct file_bounce {
    struct mutex lock;
    struct pfn frame;
};

/* Alone in a frame. All but the bounce is constant from disk_file_open on. */
struct disk_file {
    struct pfn self;
    struct block_device block;
    uint64_t place; /* of its directory entry */
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

void disk_file_close(struct disk_file *file)
{
    CHECK(file->bounce == &file->bounce_here);
    fat_file_close(&file->fat);
    pmm_free(file->bounce->frame);
    pmm_free(file->self);
}

/* Opens the file if the volume in the range has it. STATUS_NOT_FOUND: there is none such. */
static enum status look_in_range(struct disk_file *file, const struct sector_source *source,
                                 uint64_t first_lba, uint64_t last_lba, const char *path)
{
    struct fat_volume volume;
    struct fat_entry entry;
    enum status status = fat_open(&volume, source, first_lba, last_lba);

    if (status == STATUS_UNSUPPORTED || status == STATUS_CORRUPT)
        return STATUS_NOT_FOUND;
    if (status != OK)
        return status;
    status = fat_find(&volume, path, &entry);
    if (status == OK)
        status = fat_file_open(&volume, &entry, &file->fat);
    if (status == OK)
        file->place = entry.place;
    fat_close(&volume);
    return status;
}

enum status disk_file_open(const struct block_device *block, const char *path,
                           struct disk_file **opened)
{
    struct disk_file *file;
    struct sector_source source;
    struct partition_list list;
    uint64_t first;
    uint64_t last;
    enum status status = allocate_file(block, &file);

    if (status != OK)
        return status;
    source = block_source(&file->block);
    status = partitions_begin(&list, &source);
    while (status == OK && (status = partitions_next(&list, &first, &last)) == OK) {
        status = look_in_range(file, &source, first, last, path);
        if (status != STATUS_NOT_FOUND)
            break;
        status = OK;
    }
    partitions_end(&list);
    if (status == OK)
        *opened = file;
    else
        disk_file_close(file);
    return status;
}

/* ---- reading ---- */

/* Reads sectors that follow one another on the disk into a page, from this sector of the page. */
static enum status read_piece(const struct disk_file *file, uint64_t lba, uint32_t sectors,
                              uint32_t at, struct pfn frame)
{
    struct file_bounce *bounce = file->bounce;
    enum status status;

    CHECK(sectors > 0 && at + sectors <= SECTORS_PER_PAGE);
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

/* A fake disk as a block device, without a controller. Writes need a grant that names the disk. */
#include <stddef.h>
#include <string.h>

#include "lib/check.h"
#include "pmm/frame.h"
#include "swapdisk/block/block.h"
#include "swapdisk/block/grant.h"
#include "tests/host/fake/disk.h"

static enum status fake_block_read(void *device, uint64_t lba, unsigned sectors,
                                   const struct pfn *frames)
{
    struct fake_disk *disk = device;

    if (fake_disk_fails(disk) || (disk->bad_sector >= lba && disk->bad_sector - lba < sectors))
        return STATUS_IO;
    for (unsigned i = 0; i < sectors; i++)
        memcpy((uint8_t *)frame_pointer(frames[i / SECTORS_PER_PAGE]) +
                   (size_t)(i % SECTORS_PER_PAGE) * SECTOR_SIZE,
               fake_disk_sector(disk, lba + i), SECTOR_SIZE);
    return OK;
}

/* With FAKE_TORN the first half of the sectors arrives, and the call fails. */
static enum status fake_block_write(void *device, const struct swap_grant *grant, uint64_t lba,
                                    unsigned sectors, const struct pfn *frames)
{
    struct fake_disk *disk = device;
    bool fails = fake_disk_fails(disk);
    unsigned arrive = !fails ? sectors : disk->failure == FAKE_TORN ? sectors / 2 : 0;

    if (!swap_grant_covers(grant, disk, lba, sectors))
        return STATUS_REFUSED;
    if (disk->bad_write >= lba && disk->bad_write - lba < sectors)
        return STATUS_IO;
    for (unsigned i = 0; i < arrive; i++)
        memcpy(fake_disk_sector(disk, lba + i),
               (const uint8_t *)frame_pointer(frames[i / SECTORS_PER_PAGE]) +
                   (size_t)(i % SECTORS_PER_PAGE) * SECTOR_SIZE,
               SECTOR_SIZE);
    if (arrive > 0)
        fake_disk_log(disk, lba, arrive);
    return fails ? STATUS_IO : OK;
}

static enum status fake_block_flush(void *device)
{
    struct fake_disk *disk = device;

    if (fake_disk_fails(disk))
        return STATUS_IO;
    fake_disk_log(disk, 0, 0);
    return OK;
}

struct block_device fake_disk_block(struct fake_disk *disk)
{
    static const struct block_operations operations = {
        .read = fake_block_read, .write = fake_block_write, .flush = fake_block_flush};

    CHECK(disk->sectors > 0);
    return (struct block_device){.operations = &operations,
                                 .device = disk,
                                 .sectors = disk->sectors,
                                 .shift = disk->shift,
                                 .request_pages = 16,
                                 .name = disk->serial};
}

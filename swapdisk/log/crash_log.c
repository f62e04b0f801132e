/* The log of a crash, in the log area of the swap disk. */
#include "swapdisk/log/crash_log.h"

#include "lib/bytes.h"
#include "lib/check.h"
#include "pmm/pmm.h"
#include "swapdisk/ahci/ahci.h"
#include "swapdisk/area.h"
#include "swapdisk/block/log_area.h"
#include "swapdisk/mark/mark.h"

/* Pages of one command. */
#define CRASH_FRAMES 4U

static struct {
    unsigned count; /* of frames; 0: not ready */
    struct pfn frames[CRASH_FRAMES];
} crash_log;

void crash_log_ready(void)
{
    const struct disk_chosen *disk = swap_disk();

    CHECK(crash_log.count == 0);
    if (disk == NULL || disk->finding.header.log_sectors == 0)
        return;
    while (crash_log.count < CRASH_FRAMES &&
           pmm_alloc(FRAME_DEVICE, FRAME_CLEARED, &crash_log.frames[crash_log.count]) == OK)
        crash_log.count++;
}

void crash_log_over(void)
{
    CHECK(crash_log.count <= CRASH_FRAMES);
    while (crash_log.count > 0)
        ahci_free_frame(crash_log.frames[--crash_log.count]);
}

/* Reads the first header. Something else may have written to the disk since the start: then its
 * sectors are not ours any more. */
static enum status judge_header(const struct block_device *block, const struct disk_chosen *disk)
{
    struct swap_header header;
    enum status status;

    CHECK(crash_log.count > 0 && disk->finding.prepared);
    status = block_read(block, disk->finding.first_lba, SECTORS_PER_PAGE, crash_log.frames);
    if (status != OK)
        return status;
    if (swap_header_decode(frame_pointer(crash_log.frames[0]), &header) != NULL ||
        !mark_matches(swap_disk_mark(), &header) ||
        memcmp(header.set_uuid, disk->finding.header.set_uuid, sizeof(header.set_uuid)) != 0 ||
        header.log_first_lba != disk->finding.header.log_first_lba ||
        header.log_sectors != disk->finding.header.log_sectors)
        return STATUS_CORRUPT;
    return OK;
}

enum status crash_log_write(const char *text, size_t size)
{
    const struct disk_chosen *disk = swap_disk();
    struct block_device block;
    enum status status;

    /* The disk with a log area may have been given up since crash_log_ready. */
    if (disk == NULL || disk->finding.header.log_sectors == 0 || crash_log.count == 0 || size == 0)
        return STATUS_NOT_FOUND;
    if (mark_has_failed(swap_disk_mark()))
        return STATUS_IO;
    status = ahci_crash_take(disk->block.device, &block);
    if (status == OK)
        status = judge_header(&block, disk);
    if (status != OK)
        return status;
    CHECK(disk->finding.header.log_sectors > 0 && disk->grant != NULL);
    return log_area_store(&block, disk->grant, &disk->finding.header,
                          &(struct log_text){.text = text, .size = size}, crash_log.frames,
                          (unsigned)min_u64(crash_log.count, block.request_pages));
}

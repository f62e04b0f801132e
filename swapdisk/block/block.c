/* Block devices: the checks that all members share. */
#include "swapdisk/block/block.h"

#include <stdbool.h>
#include <stddef.h>

#include "lib/check.h"

static bool block_range_valid(const struct block_device *block, uint64_t lba, unsigned sectors)
{
    uint64_t part = (UINT64_C(1) << block->shift) - 1;

    return lba < block->sectors && sectors <= block->sectors - lba && ((lba | sectors) & part) == 0;
}

enum status block_read(const struct block_device *block, uint64_t lba, unsigned sectors,
                       const struct pfn *frames)
{
    CHECK(sectors > 0 && frames != NULL);
    if (!block_range_valid(block, lba, sectors))
        return STATUS_RANGE;
    return block->operations->read(block->device, lba, sectors, frames);
}

enum status block_write(const struct block_device *block, const struct swap_grant *grant,
                        uint64_t lba, unsigned sectors, const struct pfn *frames)
{
    CHECK(sectors > 0 && frames != NULL);
    if (!block_range_valid(block, lba, sectors))
        return STATUS_RANGE;
    return block->operations->write(block->device, grant, lba, sectors, frames);
}

enum status block_flush(const struct block_device *block)
{
    CHECK(block->operations != NULL);
    return block->operations->flush(block->device);
}

bool block_serves(const struct block_device *block)
{
    CHECK(block->operations != NULL);
    return block->operations->serves == NULL || block->operations->serves(block->device);
}

/* Carries a request out at once. */
static enum status run_request(const struct block_device *block, const struct disk_request *request)
{
    switch (request->operation) {
    case DISK_READ: return block_read(block, request->lba, request->sectors, request->frames);
    case DISK_WRITE:
        return block_write(block, request->grant, request->lba, request->sectors, request->frames);
    case DISK_FLUSH: return block_flush(block);
    case DISK_TRIM: return block_trim(block, request->grant, request->ranges);
    default: PANIC("operation %u of a request", request->operation);
    }
}

void block_submit(const struct block_device *block, struct disk_request *request)
{
    CHECK(request->progress == REQUEST_NEW || request->progress == REQUEST_ENDED);
    if (block->operations->submit != NULL)
        block->operations->submit(block->device, request);
    else
        request_end(request, run_request(block, request));
}

enum status block_wait(const struct block_device *block, struct disk_request *request)
{
    CHECK(request->progress != REQUEST_NEW);
    if (block->operations->wait != NULL)
        return block->operations->wait(block->device, request);
    CHECK(request_ended(request));
    return request->status;
}

void block_discard(const struct block_device *block, uint64_t lba, unsigned sectors)
{
    CHECK(block_range_valid(block, lba, sectors));
    if (block->operations->discard != NULL)
        block->operations->discard(block->device, lba, sectors);
}

enum status block_trim(const struct block_device *block, const struct swap_grant *grant,
                       const struct disk_ranges *ranges)
{
    CHECK(ranges->count > 0 && ranges->count <= DISK_RANGES_MAX);
    for (unsigned i = 0; i < ranges->count; i++) {
        CHECK(ranges->range[i].sectors > 0 && ranges->range[i].sectors <= DISK_RANGE_SECTORS_MAX);
        if (!block_range_valid(block, ranges->range[i].lba, ranges->range[i].sectors))
            return STATUS_RANGE;
    }
    if (block->operations->trim == NULL)
        return STATUS_UNSUPPORTED;
    return block->operations->trim(block->device, grant, ranges);
}

static enum status block_source_read(void *context, uint64_t lba, unsigned sectors,
                                     struct pfn frame)
{
    return block_read(context, lba, sectors, &frame);
}

struct sector_source block_source(struct block_device *block)
{
    CHECK(block->operations != NULL && block->sectors > 0);
    return (struct sector_source){block_source_read, block, block->sectors, block->shift};
}

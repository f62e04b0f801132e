/* Pagers of memory: bytes that are there already, and blank pages. */
#include "cpu/machine.h"
#include "lib/bytes.h"
#include "pmm/frame.h"
#include "vmm/section/pager.h"

static enum status archive_get(const void *source, uint64_t page, struct pfn frame)
{
    const struct archive *archive = source;
    uint64_t from = page * PAGE_SIZE;
    uint64_t bytes = from < archive->size ? min_u64(archive->size - from, PAGE_SIZE) : 0;
    uint8_t *to = frame_pointer(frame);

    if (bytes > 0)
        memcpy(to, archive->bytes + from, bytes);
    memset(to + bytes, 0, PAGE_SIZE - bytes);
    return OK;
}

const struct pager pager_archive = {.name = "archive", .get = archive_get};

const struct pager pager_zero = {.name = "zero"};

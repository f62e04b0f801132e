/* The in-use mark of a prepared disk: an update of both headers. */
#include "swapdisk/mark.h"

#include "lib/bytes.h"
#include "lib/check.h"
#include "pmm/pmm.h"

static struct {
    const struct disk_chosen *disk;
    struct swap_header header; /* as last written, or found */
    bool lagging;              /* the second copy is one generation behind */
    struct pfn page;           /* the header's page on its way to the disk */
    enum { MARK_NONE, MARK_SET, MARK_FAILED } state;
} mark;

enum status mark_open(const struct disk_chosen *disk)
{
    CHECK(mark.disk == NULL && disk->grant != NULL && disk->finding.prepared);
    memset(&mark, 0, sizeof(mark));
    mark.disk = disk;
    mark.header = disk->finding.header;
    mark.lagging = disk->finding.lagging;
    if (pmm_alloc(FRAME_DEVICE, FRAME_CLEARED, &mark.page) == OK)
        return OK;
    mark.disk = NULL;
    return STATUS_NO_MEMORY;
}

void mark_close(void)
{
    CHECK(mark.disk != NULL);
    pmm_free(mark.page);
    mark.disk = NULL;
}

/* Writes the first sector of a header, which holds everything that changes, and flushes. */
static enum status write_header_at(uint64_t lba)
{
    const struct block_device *block = &mark.disk->block;
    enum status status;

    swap_header_encode(frame_pointer(mark.page), &mark.header);
    status = block_write(block, mark.disk->grant, lba, 1, &mark.page);
    return status == OK ? block_flush(block) : status;
}

/* Writes the next generation with this state: first copy, flush, second copy, flush. A power cut
 * anywhere between leaves headers that are equal, or of which the first is one step ahead. */
static enum status write_headers(enum swap_state state)
{
    const struct disk_finding *finding = &mark.disk->finding;
    uint64_t second_lba = swap_second_header_lba(finding->first_lba, finding->last_lba);
    enum status status = OK;

    if (mark.lagging)
        status = write_header_at(second_lba);
    if (status != OK)
        return status;
    mark.lagging = false;
    CHECK(second_lba > finding->first_lba && second_lba < finding->last_lba);
    CHECK(mark.header.generation < UINT64_MAX);
    mark.header.generation++;
    mark.header.state = state;
    status = write_header_at(finding->first_lba);
    return status == OK ? write_header_at(second_lba) : status;
}

enum status mark_ensure(void)
{
    enum status status = OK;

    CHECK(mark.disk != NULL);
    if (mark.state == MARK_NONE) {
        status = write_headers(SWAP_STATE_IN_USE);
        mark.state = status == OK ? MARK_SET : MARK_FAILED;
        return status;
    }
    /* A failed mark leaves the headers in doubt: nothing more is written in this run. */
    return mark.state == MARK_FAILED ? STATUS_IO : OK;
}

bool mark_is_set(void)
{
    return mark.state == MARK_SET;
}

bool mark_has_failed(void)
{
    return mark.state == MARK_FAILED;
}

bool mark_matches(const struct swap_header *header)
{
    CHECK(mark.disk != NULL);
    return header->generation == mark.header.generation && header->state == mark.header.state;
}

enum status mark_clear(void)
{
    enum status status;

    CHECK(mark.state == MARK_SET);
    status = write_headers(SWAP_STATE_CLEAN);
    mark.state = status == OK ? MARK_NONE : MARK_FAILED;
    return status;
}

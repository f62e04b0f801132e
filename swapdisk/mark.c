/* The in-use mark of a prepared disk: an update of both headers. */
#include "swapdisk/mark.h"

#include "lib/bytes.h"
#include "lib/check.h"
#include "pmm/pmm.h"
#include "swapdisk/ahci/ahci.h"

/* The first update of a run covers so many slots: 16 MiB. */
#define USED_SLOTS_LEAST 4096U

/* Sectors of a header behind its first one: the list of bad slots. */
#define LIST_SECTORS (SWAP_HEADER_SECTORS - 1)

static struct {
    const struct disk_chosen *disk;
    struct swap_header header; /* as last written, or found */
    bool lagging;              /* the second copy is one generation behind */
    struct pfn page;           /* the header's page on its way to the disk */
    enum { MARK_NONE, MARK_SET, MARK_FAILED } state;
    uint32_t covered; /* atomic: slots that need no update of the headers */
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
    ahci_free_frame(mark.page);
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

/* Returns the used slots for the header once those below end_slot are used: at least twice as many
 * as before, so that a run updates the headers a few times only. */
static uint32_t rounded_used_slots(uint32_t end_slot)
{
    uint64_t grown = max_u64(2 * (uint64_t)mark.header.used_slots, USED_SLOTS_LEAST);

    return (uint32_t)min_u64(max_u64(grown, end_slot), swap_header_slots(&mark.header));
}

bool mark_covers(uint32_t end_slot)
{
    uint32_t covered = __atomic_load_n(&mark.covered, __ATOMIC_ACQUIRE);

    CHECK(mark.disk != NULL);
    return end_slot <= covered;
}

/* The slots below which nothing has to be written to the headers. */
static uint32_t covered_slots(void)
{
    if (mark.state != MARK_SET)
        return 0;
    return mark.header.version >= 2 ? mark.header.used_slots : UINT32_MAX;
}

enum status mark_ensure(uint32_t end_slot)
{
    bool grows = mark.header.version >= 2 && end_slot > mark.header.used_slots;
    enum status status;

    CHECK(mark.disk != NULL);
    /* A failed mark leaves the headers in doubt: nothing more is written in this run. */
    if (mark.state == MARK_FAILED)
        return STATUS_IO;
    if (mark.state == MARK_SET && !grows)
        return OK;
    if (grows)
        mark.header.used_slots = rounded_used_slots(end_slot);
    status = write_headers(SWAP_STATE_IN_USE);
    mark.state = status == OK ? MARK_SET : MARK_FAILED;
    __atomic_store_n(&mark.covered, covered_slots(), __ATOMIC_RELEASE);
    return status;
}

uint32_t mark_used_slots(void)
{
    return mark.header.used_slots;
}

void mark_wiped(void)
{
    CHECK(mark.state == MARK_SET);
    mark.header.used_slots = 0;
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

/* Copies the sectors of a list from one header to the other. */
static enum status copy_list(uint64_t from, uint64_t to)
{
    const struct block_device *block = &mark.disk->block;
    enum status status = block_read(block, from + 1, LIST_SECTORS, &mark.page);

    if (status == OK)
        status = block_write(block, mark.disk->grant, to + 1, LIST_SECTORS, &mark.page);
    return status == OK ? block_flush(block) : status;
}

/* Writes a list behind the first sector of the first header. */
static enum status write_list(const struct bad_slots *list)
{
    const struct block_device *block = &mark.disk->block;
    uint64_t lba = mark.disk->finding.first_lba;
    uint8_t *page = frame_pointer(mark.page);
    enum status status;

    bad_slots_encode(page, &mark.header, list);
    memmove(page, page + SECTOR_SIZE, LIST_SECTORS * SECTOR_SIZE);
    status = block_write(block, mark.disk->grant, lba + 1, LIST_SECTORS, &mark.page);
    return status == OK ? block_flush(block) : status;
}

enum status mark_write_bad_slots(struct bad_slots *list)
{
    const struct disk_finding *finding = &mark.disk->finding;
    uint64_t second_lba = swap_second_header_lba(finding->first_lba, finding->last_lba);
    enum status status;

    CHECK(mark.state == MARK_SET && mark.header.version == SWAP_HEADER_VERSION);
    if (list->generation == UINT64_MAX)
        return OK;
    status = copy_list(finding->first_lba, second_lba);
    list->generation++;
    if (status == OK)
        status = write_list(list);
    return status == OK ? copy_list(finding->first_lba, second_lba) : status;
}

enum status mark_clear(void)
{
    enum status status;

    CHECK(mark.state == MARK_SET);
    status = write_headers(SWAP_STATE_CLEAN);
    mark.state = status == OK ? MARK_NONE : MARK_FAILED;
    return status;
}

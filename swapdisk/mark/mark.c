/* The in-use mark of a prepared disk: an update of both headers. */
#include "swapdisk/mark/mark.h"

#include "lib/bytes.h"
#include "lib/check.h"
#include "pmm/pmm.h"
#include "swapdisk/ahci/ahci.h"

/* The first update of a run covers so many slots: 16 MiB. */
#define USED_SLOTS_LEAST 4096U

/* Sectors of a header behind its first one: the list of bad slots. */
#define LIST_SECTORS (SWAP_HEADER_SECTORS - 1)

static enum status mark_frames(struct swap_mark *mark)
{
    struct pfn *frames[] = {&mark->page, &mark->whole[0], &mark->whole[1]};
    unsigned wanted = mark->disk->block.shift == 0 ? 1 : ARRAY_COUNT(frames);
    enum status status = OK;

    for (unsigned i = 0; i < ARRAY_COUNT(frames); i++)
        *frames[i] = PFN_NONE;
    for (unsigned i = 0; i < wanted && status == OK; i++)
        status = pmm_alloc(FRAME_DEVICE, FRAME_CLEARED, frames[i]);
    return status;
}

enum status mark_open(struct swap_mark *mark, const struct disk_chosen *disk)
{
    CHECK(mark->disk == NULL && disk->grant != NULL && disk->finding.prepared);
    memset(mark, 0, sizeof(*mark));
    mark->disk = disk;
    mark->header = disk->finding.header;
    mark->lagging = disk->finding.lagging;
    if (mark_frames(mark) == OK)
        return OK;
    mark_close(mark);
    return STATUS_NO_MEMORY;
}

void mark_align(struct swap_mark *mark, struct swap_mark *other)
{
    uint64_t generation = max_u64(mark->header.generation, other->header.generation);
    uint32_t used = (uint32_t)max_u64(mark->header.used_slots, other->header.used_slots);

    CHECK(mark->disk != NULL && other->disk != NULL);
    CHECK(mark->state == MARK_NONE && other->state == MARK_NONE);
    mark->least_generation = other->least_generation = generation;
    mark->least_used = other->least_used = used;
}

void mark_close(struct swap_mark *mark)
{
    struct pfn frames[] = {mark->page, mark->whole[0], mark->whole[1]};

    CHECK(mark->disk != NULL);
    for (unsigned i = 0; i < ARRAY_COUNT(frames); i++) {
        if (!pfn_is_none(frames[i]))
            ahci_free_frame(frames[i]);
    }
    mark->disk = NULL;
}

/* Reads the header at lba whole, and verified: a part of it is written back as it was. */
static enum status read_whole(const struct swap_mark *mark, uint64_t lba)
{
    struct block_device block = mark->disk->block;
    struct sector_source source = block_source(&block);

    CHECK(!pfn_is_none(mark->whole[0]));
    return source_read(&source, lba, SWAP_HEADER_SECTORS, mark->whole[0], mark->whole[1]);
}

/* Writes sectors of a header from the page. Where the header is in one logical sector, the rest of
 * it is read first, and written again. */
static enum status write_part(const struct swap_mark *mark, uint64_t lba, unsigned first,
                              unsigned sectors)
{
    const struct block_device *block = &mark->disk->block;
    enum status status;

    if (block->shift == 0)
        return block_write(block, mark->disk->grant, lba + first, sectors, &mark->page);
    status = read_whole(mark, lba);
    if (status != OK)
        return status;
    memcpy((uint8_t *)frame_pointer(mark->whole[0]) + (size_t)first * SECTOR_SIZE,
           frame_pointer(mark->page), (size_t)sectors * SECTOR_SIZE);
    return block_write(block, mark->disk->grant, lba, SWAP_HEADER_SECTORS, &mark->whole[0]);
}

/* Reads sectors of a header into the page. */
static enum status read_part(const struct swap_mark *mark, uint64_t lba, unsigned first,
                             unsigned sectors)
{
    const struct block_device *block = &mark->disk->block;
    enum status status;

    if (block->shift == 0)
        return block_read(block, lba + first, sectors, &mark->page);
    status = read_whole(mark, lba);
    if (status == OK)
        memcpy(frame_pointer(mark->page),
               (const uint8_t *)frame_pointer(mark->whole[0]) + (size_t)first * SECTOR_SIZE,
               (size_t)sectors * SECTOR_SIZE);
    return status;
}

/* Writes the first sector of a header, which holds everything that changes, and flushes. */
static enum status write_header_at(const struct swap_mark *mark, uint64_t lba)
{
    const struct block_device *block = &mark->disk->block;
    enum status status;

    swap_header_encode(frame_pointer(mark->page), &mark->header);
    status = write_part(mark, lba, 0, 1);
    return status == OK ? block_flush(block) : status;
}

/* Brings the second copy up to the first, before anything in the header changes. */
static enum status end_lag(struct swap_mark *mark)
{
    const struct disk_finding *finding = &mark->disk->finding;
    enum status status = OK;

    if (mark->lagging)
        status =
            write_header_at(mark, swap_second_header_lba(finding->first_lba, finding->last_lba));
    mark->lagging = mark->lagging && status != OK;
    return status;
}

/* Writes the next generation with this state: first copy, flush, second copy, flush. A power cut
 * anywhere between leaves headers that are equal, or of which the first is one step ahead. */
static enum status write_headers(struct swap_mark *mark, enum swap_state state)
{
    const struct disk_finding *finding = &mark->disk->finding;
    uint64_t second_lba = swap_second_header_lba(finding->first_lba, finding->last_lba);
    enum status status;

    CHECK(!mark->lagging && second_lba > finding->first_lba && second_lba < finding->last_lba);
    CHECK(mark->header.generation < UINT64_MAX);
    mark->header.generation++;
    mark->header.state = state;
    status = write_header_at(mark, finding->first_lba);
    return status == OK ? write_header_at(mark, second_lba) : status;
}

/* Returns the used slots for the header once those below end_slot are used: at least twice as many
 * as before, so that a run updates the headers a few times only. */
static uint32_t rounded_used_slots(const struct swap_mark *mark, uint32_t before, uint32_t end_slot)
{
    uint64_t grown = max_u64(2 * (uint64_t)before, USED_SLOTS_LEAST);

    return (uint32_t)min_u64(max_u64(grown, end_slot), swap_header_slots(&mark->header));
}

bool mark_covers(const struct swap_mark *mark, uint32_t end_slot)
{
    uint32_t covered = __atomic_load_n(&mark->covered, __ATOMIC_ACQUIRE);

    CHECK(mark->disk != NULL);
    return end_slot <= covered;
}

/* The slots below which nothing has to be written to the headers. */
static uint32_t covered_slots(const struct swap_mark *mark)
{
    if (mark->state != MARK_SET)
        return 0;
    return mark->header.version >= 2 ? mark->header.used_slots : UINT32_MAX;
}

/* Writes the headers of a disk that has these used slots. */
static enum status mark_in_use(struct swap_mark *mark, uint32_t used_slots)
{
    enum status status = end_lag(mark);

    if (status != OK)
        return status;
    mark->header.used_slots = used_slots;
    return write_headers(mark, SWAP_STATE_IN_USE);
}

/* Goes one step at a time, so that the two copies never differ by more. */
enum status mark_level(struct swap_mark *mark)
{
    enum status status = OK;

    CHECK(mark->disk != NULL);
    if (mark->state == MARK_FAILED)
        return STATUS_IO;
    if (mark->header.generation >= mark->least_generation)
        return OK;
    status = end_lag(mark);
    while (status == OK && mark->header.generation < mark->least_generation)
        status = write_headers(mark, mark->header.state);
    if (status != OK)
        mark->state = MARK_FAILED;
    return status;
}

enum status mark_ensure(struct swap_mark *mark, uint32_t end_slot)
{
    uint32_t used = (uint32_t)max_u64(mark->header.used_slots, mark->least_used);
    enum status status;

    CHECK(mark->disk != NULL);
    /* A failed mark leaves the headers in doubt: nothing more is written in this run. */
    if (mark->state == MARK_FAILED)
        return STATUS_IO;
    if (mark->header.version >= 2 && end_slot > used)
        used = rounded_used_slots(mark, used, end_slot);
    else if (mark->state == MARK_SET)
        return OK;
    status = mark_in_use(mark, used);
    mark->state = status == OK ? MARK_SET : MARK_FAILED;
    __atomic_store_n(&mark->covered, covered_slots(mark), __ATOMIC_RELEASE);
    return status;
}

uint32_t mark_used_slots(const struct swap_mark *mark)
{
    return (uint32_t)max_u64(mark->header.used_slots, mark->least_used);
}

void mark_wiped(struct swap_mark *mark)
{
    CHECK(mark->state == MARK_SET);
    mark->header.used_slots = mark->least_used = 0;
}

bool mark_is_set(const struct swap_mark *mark)
{
    return mark->state == MARK_SET;
}

bool mark_has_failed(const struct swap_mark *mark)
{
    return mark->state == MARK_FAILED;
}

bool mark_matches(const struct swap_mark *mark, const struct swap_header *header)
{
    CHECK(mark->disk != NULL);
    return header->generation == mark->header.generation && header->state == mark->header.state;
}

/* Copies the sectors of a list from one header to the other. */
static enum status copy_list(const struct swap_mark *mark, uint64_t from, uint64_t to)
{
    const struct block_device *block = &mark->disk->block;
    enum status status = read_part(mark, from, 1, LIST_SECTORS);

    if (status == OK)
        status = write_part(mark, to, 1, LIST_SECTORS);
    return status == OK ? block_flush(block) : status;
}

/* Writes a list behind the first sector of the first header. */
static enum status write_list(const struct swap_mark *mark, const struct bad_slots *list)
{
    const struct block_device *block = &mark->disk->block;
    uint64_t lba = mark->disk->finding.first_lba;
    uint8_t *page = frame_pointer(mark->page);
    enum status status;

    bad_slots_encode(page, &mark->header, list);
    memmove(page, page + SECTOR_SIZE, LIST_SECTORS * SECTOR_SIZE);
    status = write_part(mark, lba, 1, LIST_SECTORS);
    return status == OK ? block_flush(block) : status;
}

enum status mark_write_bad_slots(struct swap_mark *mark, struct bad_slots *list)
{
    const struct disk_finding *finding = &mark->disk->finding;
    uint64_t second_lba = swap_second_header_lba(finding->first_lba, finding->last_lba);
    enum status status = OK;

    CHECK(mark->state == MARK_SET && mark->header.version == SWAP_HEADER_VERSION);
    if (list->generation == UINT64_MAX)
        return OK;
    /* A torn first copy must not replace the only sound one. */
    if (!finding->list_torn)
        status = copy_list(mark, finding->first_lba, second_lba);
    list->generation++;
    if (status == OK)
        status = write_list(mark, list);
    return status == OK ? copy_list(mark, finding->first_lba, second_lba) : status;
}

enum status mark_clear(struct swap_mark *mark)
{
    enum status status;

    CHECK(mark->state == MARK_SET);
    status = write_headers(mark, SWAP_STATE_CLEAN);
    mark->state = status == OK ? MARK_NONE : MARK_FAILED;
    return status;
}

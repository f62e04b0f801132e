/*
 * Memory as a block device: one frame for each page that was written, found through two levels.
 *
 *   device frame: struct ram_disk -> leaf frames of 1,024 pfns -> pages
 *
 * Pages that different callers read and write at once must differ, as the slots of the swap area
 * do: then no lock is needed, since the tables are complete from the start.
 */
#include "cpu/machine.h"
#include "lib/bytes.h"
#include "lib/check.h"
#include "pmm/pmm.h"
#include "swapdisk/block/block.h"
#include "swapdisk/format/identify.h"

#define LEAF_PAGES ((uint64_t)(PAGE_SIZE / sizeof(struct pfn)))
#define LEAVES_MAX ((PAGE_SIZE - 16) / sizeof(struct pfn))

struct ram_disk {
    struct pfn self;
    uint32_t leaf_count;
    uint64_t pages;
    struct pfn leaves[LEAVES_MAX];
};

_Static_assert(sizeof(struct ram_disk) <= PAGE_SIZE, "the object fits its frame");
_Static_assert(LEAVES_MAX *LEAF_PAGES == BLOCK_RAM_PAGES_MAX, "two levels reach all pages");

/* Returns a pointer to the frame number of a page; PFN_NONE there while nothing was written. */
static struct pfn *ram_page(const struct ram_disk *disk, uint64_t page)
{
    struct pfn *leaf;

    CHECK(page < disk->pages);
    leaf = frame_pointer(disk->leaves[page / LEAF_PAGES]);
    return &leaf[page % LEAF_PAGES];
}

/* The part of a transfer that lies in one page of the disk and in one frame of the caller. */
struct ram_piece {
    uint64_t page;
    unsigned at;    /* first sector within the page */
    unsigned frame; /* index into the caller's frames */
    unsigned in;    /* first sector within that frame */
    unsigned sectors;
};

static struct ram_piece ram_piece_at(uint64_t lba, unsigned done, unsigned sectors)
{
    struct ram_piece piece = {.page = (lba + done) / SECTORS_PER_PAGE,
                              .at = (unsigned)((lba + done) % SECTORS_PER_PAGE),
                              .frame = done / SECTORS_PER_PAGE,
                              .in = done % SECTORS_PER_PAGE};
    unsigned furthest = piece.at > piece.in ? piece.at : piece.in;

    piece.sectors = (unsigned)min_u64(sectors - done, SECTORS_PER_PAGE - furthest);
    return piece;
}

static uint8_t *ram_sector(struct pfn frame, unsigned sector)
{
    return (uint8_t *)frame_pointer(frame) + (size_t)sector * SECTOR_SIZE;
}

static void ram_copy(struct pfn to, unsigned to_sector, struct pfn from, unsigned from_sector,
                     unsigned sectors)
{
    if (sectors == SECTORS_PER_PAGE)
        machine_copy_frame(frame_pointer(to), frame_pointer(from));
    else
        memcpy(ram_sector(to, to_sector), ram_sector(from, from_sector),
               (size_t)sectors * SECTOR_SIZE);
}

static enum status ram_read(void *device, uint64_t lba, unsigned sectors, const struct pfn *frames)
{
    struct ram_piece piece;

    for (unsigned done = 0; done < sectors; done += piece.sectors) {
        struct pfn page;

        piece = ram_piece_at(lba, done, sectors);
        page = *ram_page(device, piece.page);
        if (pfn_is_none(page))
            memset(ram_sector(frames[piece.frame], piece.in), 0,
                   (size_t)piece.sectors * SECTOR_SIZE);
        else
            ram_copy(frames[piece.frame], piece.in, page, piece.at, piece.sectors);
    }
    return OK;
}

static enum status ram_write(void *device, const struct swap_grant *grant, uint64_t lba,
                             unsigned sectors, const struct pfn *frames)
{
    struct ram_piece piece;

    (void)grant;
    for (unsigned done = 0; done < sectors; done += piece.sectors) {
        struct pfn *page;

        piece = ram_piece_at(lba, done, sectors);
        page = ram_page(device, piece.page);
        if (pfn_is_none(*page)) {
            bool whole = piece.sectors == SECTORS_PER_PAGE;
            struct pfn fresh;

            if (pmm_alloc(FRAME_SWAP, whole ? FRAME_UNCLEARED : FRAME_CLEARED, &fresh) != OK)
                return STATUS_NO_MEMORY;
            *page = fresh;
        }
        ram_copy(*page, piece.at, frames[piece.frame], piece.in, piece.sectors);
    }
    return OK;
}

static enum status ram_flush(void *device)
{
    (void)device;
    return OK;
}

static void ram_discard(void *device, uint64_t lba, unsigned sectors)
{
    uint64_t first = (lba + SECTORS_PER_PAGE - 1) / SECTORS_PER_PAGE;
    uint64_t end = (lba + sectors) / SECTORS_PER_PAGE;

    for (uint64_t i = first; i < end; i++) {
        struct pfn *page = ram_page(device, i);

        if (!pfn_is_none(*page))
            pmm_free(*page);
        *page = PFN_NONE;
    }
}

static const struct block_operations ram_operations = {
    .read = ram_read, .write = ram_write, .flush = ram_flush, .discard = ram_discard};

static enum status ram_add_leaf(struct ram_disk *disk)
{
    struct pfn *pages;
    struct pfn leaf;

    if (pmm_alloc(FRAME_KERNEL, FRAME_UNCLEARED, &leaf) != OK)
        return STATUS_NO_MEMORY;
    CHECK(disk->leaf_count < LEAVES_MAX);
    pages = frame_pointer(leaf);
    for (unsigned i = 0; i < LEAF_PAGES; i++)
        pages[i] = PFN_NONE;
    disk->leaves[disk->leaf_count++] = leaf;
    return OK;
}

enum status block_ram_open(uint64_t pages, struct block_device *block)
{
    struct ram_disk *disk;
    struct pfn self;

    CHECK(pages > 0 && pages <= BLOCK_RAM_PAGES_MAX);
    if (pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &self) != OK)
        return STATUS_NO_MEMORY;
    disk = frame_pointer(self);
    disk->self = self;
    *block = (struct block_device){.operations = &ram_operations,
                                   .device = disk,
                                   .sectors = pages * SECTORS_PER_PAGE,
                                   .request_pages = (unsigned)pages,
                                   .name = "RAM"};
    while (disk->leaf_count * LEAF_PAGES < pages) {
        if (ram_add_leaf(disk) != OK) {
            block_ram_close(block);
            return STATUS_NO_MEMORY;
        }
    }
    disk->pages = pages;
    return OK;
}

void block_ram_close(struct block_device *block)
{
    struct ram_disk *disk = block->device;

    CHECK(block->operations == &ram_operations && disk != NULL);
    for (uint64_t i = 0; i < disk->pages; i++) {
        if (!pfn_is_none(*ram_page(disk, i)))
            pmm_free(*ram_page(disk, i));
    }
    for (uint32_t i = 0; i < disk->leaf_count; i++)
        pmm_free(disk->leaves[i]);
    pmm_free(disk->self);
    *block = (struct block_device){0};
}

struct pfn block_ram_frame(const struct block_device *block, uint64_t page)
{
    CHECK(block->operations == &ram_operations);
    return *ram_page(block->device, page);
}

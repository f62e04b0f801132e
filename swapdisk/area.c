/* The swap area: transfers pages to and from slots, on the disk of the grant or in RAM. */
#include "swapdisk/area.h"

#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/ktap.h"
#include "lib/print.h"
#include "pmm/pmm.h"
#include "swapdisk/ahci/ahci.h"
#include "swapdisk/area_internal.h"
#include "swapdisk/block/log_area.h"
#include "swapdisk/mark.h"
#include "swapdisk/slots.h"
#include "swapdisk/validate.h"

/* A slot costs 12 bytes of memory. A disk is used up to four times the machine's memory, which
 * costs 1.2 % of it, and up to the least in any case. */
#define SLOTS_LEAST     UINT32_C(65536)
#define SLOTS_PER_FRAME 4U

/* Pages zeroed by one command when the area is wiped, and slots between two notes about it. */
#define WIPE_PAGES 64U
#define WIPE_NOTE  (UINT32_C(1) << 18)

struct swap_area area;

enum status swap_alloc_run(unsigned wanted, struct slot *first, unsigned *got)
{
    CHECK(area.open);
    return slots_take(wanted, first, got);
}

enum status swap_alloc(struct slot *slot)
{
    unsigned got;

    return swap_alloc_run(1, slot, &got);
}

void swap_hold(struct slot slot)
{
    CHECK(area.open);
    slots_hold(slot);
}

void swap_release(struct slot slot)
{
    CHECK(area.open);
    if (!slots_release(slot))
        return;
    /* Before the slot is free: afterwards another holder may write it. */
    if (area.on_free != NULL)
        area.on_free(slot);
    block_discard(&area.block, area_lba(slot), SECTORS_PER_PAGE);
    slots_free(slot);
}

void swap_on_free(void (*freed)(struct slot slot))
{
    CHECK(area.open && (freed == NULL || area.on_free == NULL));
    area.on_free = freed;
}

uint32_t swap_count(struct slot slot)
{
    CHECK(area.open);
    return slots_count(slot);
}

uint64_t swap_references(void)
{
    return slots_references();
}

bool swap_serves(void)
{
    return block_serves(&area.block);
}

struct swap_usage swap_usage(void)
{
    return (struct swap_usage){.backing = area.backing,
                               .slots = slots_total() - slots_retired(),
                               .used = slots_used(),
                               .pages_written = area.pages_written,
                               .pages_read = area.pages_read,
                               .corrupt = area.corrupt,
                               .errors = area.errors};
}

uint64_t swap_disk_offset(void)
{
    if (area.backing != SWAP_BACKING_DISK)
        return 0;
    return area.first_lba * SECTOR_SIZE;
}

struct pfn swap_ram_frame(struct slot slot)
{
    return block_ram_frame(&area.block, slot.index);
}

void swap_audit(void)
{
    slots_audit();
}

static uint32_t disk_slots(void)
{
    uint64_t there = swap_header_slots(&area.disk.finding.header);
    uint64_t worth = max_u64(SLOTS_LEAST, SLOTS_PER_FRAME * pmm_usage().total);

    return (uint32_t)min_u64(min_u64(there, worth), SLOTS_MAX);
}

static void log_area(void)
{
    const struct disk_identity *identity = area.disk.identity;

    if (area.backing == SWAP_BACKING_RAM) {
        ktap_note("swap: in RAM, %u slots, because no disk may be written", slots_total());
        return;
    }
    ktap_note("swap: on disk %s serial %s, sectors %lu to %lu, %u slots from byte %lu",
              identity->model, identity->serial, area.disk.finding.first_lba,
              area.disk.finding.last_lba, slots_total(), swap_disk_offset());
    if (area.disk.finding.header.state == SWAP_STATE_IN_USE)
        ktap_note("swap: an earlier run did not close it; its pages are not used");
}

static enum status open_disk(void)
{
    const struct bad_slots *bad = validate_bad_slots();
    enum status status = mark_open(&area.disk);

    if (status != OK)
        return status;
    CHECK(area.disk.grant != NULL && area.disk.finding.prepared);
    area.block = area.disk.block;
    area.first_lba = area.disk.finding.first_lba + SWAP_HEADER_SECTORS;
    status = slots_open(disk_slots());
    if (status != OK) {
        mark_close();
        return status;
    }
    area.bad_generation = bad->generation;
    for (uint32_t i = 0; i < bad->count; i++) {
        if (bad->slots[i] < slots_total())
            slots_retire((struct slot){bad->slots[i]});
    }
    return OK;
}

static enum status open_ram(uint32_t ram_slots)
{
    uint32_t pages = (uint32_t)min_u64(ram_slots, min_u64(SLOTS_MAX, BLOCK_RAM_PAGES_MAX));
    enum status status = block_ram_open(pages, &area.block);

    if (status != OK)
        return status;
    status = slots_open(pages);
    if (status != OK)
        block_ram_close(&area.block);
    return status;
}

enum status swap_open(const struct options *options, uint32_t ram_slots)
{
    enum status status;

    CHECK(!area.open && ram_slots > 0);
    memset(&area, 0, sizeof(area));
    area.wipe = options->wipe;
    area.backing = disks_open(&area.disk) == OK ? SWAP_BACKING_DISK : SWAP_BACKING_RAM;
    status = area.backing == SWAP_BACKING_DISK ? open_disk() : open_ram(ram_slots);
    if (status != OK) {
        swap_grant_revoke();
        return status;
    }
    area.open = true;
    log_area();
    return OK;
}

static bool slot_was_written(uint32_t index)
{
    return (slots_record((struct slot){index})->generation & SLOT_GENERATION_MASK) != 0;
}

/* Returns how many slots at the start of the partition the wipe covers. Version 2 of the header
 * records which slots earlier runs used. With version 1 a killed run may have used any slot, and
 * otherwise this run knows its own. */
static uint32_t slots_to_wipe(void)
{
    const struct swap_header *header = &area.disk.finding.header;
    uint32_t end = 0;

    if (header->version >= 2)
        return mark_used_slots();
    if (header->state == SWAP_STATE_IN_USE)
        return (uint32_t)min_u64(swap_header_slots(header), SLOTS_MAX);
    for (uint32_t i = 0; i < slots_total(); i++) {
        if (slot_was_written(i))
            end = i + 1;
    }
    return end;
}

/* Returns how many slots from `at` on one command wipes, 0 if that slot is bad. */
static unsigned wipe_length(uint32_t at, uint32_t end)
{
    unsigned pages = 0;

    while (pages < WIPE_PAGES && at + pages < end &&
           (at + pages >= slots_total() || !slots_is_retired((struct slot){at + pages})))
        pages++;
    return pages;
}

/* Zeroes all slots that may hold pages of this run or of earlier ones. */
static enum status wipe_disk(uint32_t end)
{
    struct pfn frames[WIPE_PAGES];
    struct pfn zeroes;
    enum status status = pmm_alloc(FRAME_DEVICE, FRAME_CLEARED, &zeroes);

    if (status != OK)
        return status;
    for (unsigned i = 0; i < WIPE_PAGES; i++)
        frames[i] = zeroes;
    for (uint32_t at = 0; status == OK && at < end;) {
        unsigned pages = wipe_length(at, end);

        if (pages > 0)
            status = area_store((struct slot){at}, frames, pages);
        if (at / WIPE_NOTE != (at + pages) / WIPE_NOTE)
            ktap_note("swap: wiped %u of %u slots", at + pages, end);
        at += pages > 0 ? pages : 1;
    }
    ahci_free_frame(zeroes);
    if (status == OK)
        status = block_flush(&area.block);
    if (status == OK)
        mark_wiped();
    return status;
}

/* Judges the disk again. If another system has rewritten its tables during the run, the granted
 * range may hold that system's data: then nothing more is written. */
static enum status revalidate_disk(void)
{
    struct disk_view view = {.device = area.block.device,
                             .identity = area.disk.identity,
                             .source = block_source(&area.block)};
    struct disk_finding now;
    enum status status = validate_unchanged(&view, &area.disk.finding, &now);

    if (status == OK && mark_matches(&now.header))
        return OK;
    if (status == OK) {
        status = STATUS_CORRUPT;
        print_to(now.reason, REASON_SIZE, "its headers have another generation or state");
    }
    ktap_note("swap: disk %s is not as this run left it and is not written any more: %s",
              area.block.name, status == STATUS_NO_MEMORY ? "no memory to read it" : now.reason);
    return status;
}

/* Keeps the slots that this run has retired in the list of the headers, for later runs. Those that
 * the list has no room for are found again by failing again. */
static enum status keep_bad_slots(void)
{
    struct bad_slots *list;
    enum status status;
    struct pfn frame;

    if (area.retired == 0 || !mark_is_set() || area.disk.finding.header.version < 2)
        return OK;
    if (pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &frame) != OK)
        return STATUS_NO_MEMORY;
    list = frame_pointer(frame);
    list->generation = area.bad_generation;
    for (uint32_t i = 0; i < slots_total() && list->count < BAD_SLOTS_MAX; i++) {
        if (slots_is_retired((struct slot){i}))
            list->slots[list->count++] = i;
    }
    status = mark_write_bad_slots(list);
    if (status == OK)
        ktap_note("swap: %u bad slots are in the list of the disk", list->count);
    pmm_free(frame);
    return status;
}

/* Wipes the slots if the options ask for it, and takes the mark off. A disk that this run has
 * neither written nor wiped stays untouched. */
static enum status close_disk(void)
{
    enum status status;
    uint32_t wipe;

    if (mark_has_failed())
        return STATUS_IO;
    status = revalidate_disk();
    if (status != OK)
        return status;
    wipe = area.wipe ? slots_to_wipe() : 0;
    if (wipe > 0)
        status = wipe_disk(wipe);
    if (status == OK)
        status = keep_bad_slots();
    return status == OK && mark_is_set() ? mark_clear() : status;
}

enum status swap_settle(void)
{
    enum status status = OK;

    CHECK(area.open && !area.settled);
    if (area.backing == SWAP_BACKING_DISK)
        status = close_disk();
    area.settled = true;
    area.intact = status == OK;
    return status;
}

enum status swap_log_write(const struct log_text *log)
{
    const struct disk_chosen *disk = &area.disk;

    if (!area.intact || area.backing != SWAP_BACKING_DISK || disk->finding.header.log_sectors == 0)
        return STATUS_NOT_FOUND;
    return log_area_write(&area.block, disk->grant, &disk->finding.header, log);
}

const struct disk_chosen *swap_disk(void)
{
    if (!area.open || area.backing != SWAP_BACKING_DISK || (area.settled && !area.intact))
        return NULL;
    return &area.disk;
}

enum status swap_close(void)
{
    enum status status = OK;

    CHECK(area.open);
    if (!area.settled)
        status = swap_settle();
    if (area.backing == SWAP_BACKING_DISK) {
        mark_close();
    } else {
        block_ram_close(&area.block);
    }
    swap_grant_revoke();
    slots_close();
    area.open = area.intact = false;
    return status;
}

/* Swap areas: their end. Wipes slots, keeps the lists of bad slots, takes the marks off. */
#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/ktap.h"
#include "lib/print.h"
#include "pmm/pmm.h"
#include "swapdisk/ahci/ahci.h"
#include "swapdisk/area/internal.h"
#include "swapdisk/block/grant.h"
#include "swapdisk/block/log_area.h"
#include "swapdisk/validate.h"

/* Pages zeroed by one command when a disk is wiped, and slots between two notes about it. */
#define WIPE_PAGES 64U
#define WIPE_NOTE  (UINT32_C(1) << 18)

/* Returns whether a disk is one of this area, as each step of the closing demands. */
static bool disk_is_of(const struct swap_area *area, const struct area_disk *disk)
{
    return disk >= area->disks && disk < area->disks + area->disk_count;
}

static bool slot_was_written(uint32_t index)
{
    uint32_t generation = slots_record((struct slot){index})->generation;

    return (generation & SLOT_GENERATION_MASK) != 0;
}

/* Returns how many slots at the start of the partition the wipe covers. Version 2 of the header
 * records which slots earlier runs used. With version 1 a killed run may have used any slot, and
 * otherwise this run knows its own. */
static uint32_t slots_to_wipe(const struct swap_area *area, const struct area_disk *disk)
{
    const struct swap_header *header = &disk->disk.finding.header;
    uint32_t end = 0;

    if (header->version >= 2)
        return mark_used_slots(&disk->mark);
    if (header->state == SWAP_STATE_IN_USE)
        return (uint32_t)min_u64(swap_header_slots(header), SLOTS_MAX);
    for (uint32_t i = 0; i < area->range.count; i++) {
        if (slot_was_written(area->range.first + i))
            end = i + 1;
    }
    return end;
}

/* Returns the place in a list of the first slot that is not below `slot`; its length if there is
 * none. */
static uint32_t place_in_list(const struct bad_slots *list, uint32_t slot)
{
    uint32_t low = 0;
    uint32_t high = list->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (list->slots[middle] < slot)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Returns whether a slot is bad on this disk, which says nothing of a mirror's other half; it may
 * lie behind those that the area uses. */
static bool slot_is_bad(const struct swap_area *area, const struct area_disk *disk, uint32_t at)
{
    struct slot slot = {area->range.first + at};
    const struct bad_slots *list;
    uint32_t place;

    if (at < area->range.count)
        return (slots_bad_disks(slot) >> (disk - area->disks) & 1) != 0;
    if (pfn_is_none(disk->bad_list))
        return false;
    list = frame_pointer(disk->bad_list);
    place = place_in_list(list, at);
    return place < list->count && list->slots[place] == at;
}

/* Returns how many slots from `at` on one command wipes, 0 if that slot is bad. */
static unsigned wipe_length(const struct swap_area *area, const struct area_disk *disk, uint32_t at,
                            uint32_t end)
{
    unsigned pages = 0;

    while (pages < WIPE_PAGES && at + pages < end && !slot_is_bad(area, disk, at + pages))
        pages++;
    return pages;
}

/* Zeroes slots of one disk; they may lie behind those that the area uses. */
static enum status wipe_slots(const struct area_disk *disk, uint32_t at, const struct pfn *frames,
                              unsigned pages)
{
    uint64_t lba = disk->first_lba + (uint64_t)at * SECTORS_PER_PAGE;
    enum status status = OK;

    while (status == OK && pages > 0) {
        unsigned now = (unsigned)min_u64(pages, disk->block.request_pages);

        status = block_write(&disk->block, disk->disk.grant, lba, now * SECTORS_PER_PAGE, frames);
        lba += (uint64_t)now * SECTORS_PER_PAGE;
        pages -= now;
    }
    return status;
}

/* Zeroes all slots that may hold pages of this run or of earlier ones, if the options ask for
 * it. */
static enum status wipe_disk(struct swap_area *area, struct area_disk *disk)
{
    uint32_t end = swap.wipe ? slots_to_wipe(area, disk) : 0;
    struct pfn frames[WIPE_PAGES];
    struct pfn zeroes;
    enum status status;

    if (end == 0)
        return OK;
    if (area_mark(area, end) == 0 || mark_has_failed(&disk->mark))
        return STATUS_IO;
    status = pmm_alloc(FRAME_DEVICE, FRAME_CLEARED, &zeroes);
    if (status != OK)
        return status;
    for (unsigned i = 0; i < WIPE_PAGES; i++)
        frames[i] = zeroes;
    for (uint32_t at = 0; status == OK && at < end;) {
        unsigned pages = wipe_length(area, disk, at, end);

        if (pages > 0)
            status = wipe_slots(disk, at, frames, pages);
        if (at / WIPE_NOTE != (at + pages) / WIPE_NOTE)
            ktap_note("swap: wiped %u of %u slots", at + pages, end);
        at += pages > 0 ? pages : 1;
    }
    ahci_free_frame(zeroes);
    if (status == OK)
        status = block_flush(&disk->block);
    if (status == OK)
        mark_wiped(&disk->mark);
    return status;
}

/* Judges a disk again. If another system has rewritten its tables during the run, the granted
 * range may hold that system's data: then nothing more is written. */
static enum status revalidate_disk(struct swap_area *area, struct area_disk *disk)
{
    struct disk_view view = {.device = disk->block.device,
                             .identity = disk->disk.identity,
                             .source = block_source(&disk->block)};
    struct disk_finding now = {0};
    enum status status = validate_unchanged(&view, &disk->disk.finding, &now);

    CHECK(disk_is_of(area, disk));
    if (status == OK && mark_matches(&disk->mark, &now.header))
        return OK;
    if (status == OK) {
        status = STATUS_CORRUPT;
        print_to(now.reason, REASON_SIZE, "its headers have another generation or state");
    }
    ktap_note("swap: disk %s is not as this run left it and is not written any more: %s",
              disk->block.name, status == STATUS_NO_MEMORY ? "no memory to read it" : now.reason);
    return status;
}

/* Makes the list of all bad slots of a disk, with those behind the slots that this run uses. */
static void fill_bad_list(const struct swap_area *area, const struct area_disk *disk,
                          struct bad_slots *list)
{
    const struct bad_slots *found;

    for (uint32_t i = 0; i < area->range.count && list->count < BAD_SLOTS_MAX; i++) {
        if (slot_is_bad(area, disk, i))
            list->slots[list->count++] = i;
    }
    if (pfn_is_none(disk->bad_list))
        return;
    found = frame_pointer(disk->bad_list);
    for (uint32_t i = place_in_list(found, area->range.count);
         i < found->count && list->count < BAD_SLOTS_MAX; i++)
        list->slots[list->count++] = found->slots[i];
}

/* Keeps the slots that this run has retired in the list of the headers, for later runs. Those that
 * the list has no room for are found again by failing again. */
static enum status keep_bad_slots(struct swap_area *area, struct area_disk *disk)
{
    struct bad_slots *list;
    enum status status;
    struct pfn frame;

    if (disk->counted.retired == 0 || !mark_is_set(&disk->mark) ||
        disk->disk.finding.header.version < 2)
        return OK;
    if (pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &frame) != OK)
        return STATUS_NO_MEMORY;
    list = frame_pointer(frame);
    list->generation = disk->bad_generation;
    fill_bad_list(area, disk, list);
    status = mark_write_bad_slots(&disk->mark, list);
    if (status == OK)
        ktap_note("swap: %u bad slots are in the list of disk %s", list->count, disk->block.name);
    pmm_free(frame);
    return status;
}

/* Takes the mark off. A disk that this run has neither written nor wiped stays untouched. */
static enum status clear_mark(struct swap_area *area, struct area_disk *disk)
{
    CHECK(disk_is_of(area, disk));
    return mark_is_set(&disk->mark) ? mark_clear(&disk->mark) : OK;
}

/* Takes one step of the closing on each disk of an area that is intact; one that fails is lost. The
 * status is as that of settle_area. */
static enum status step_disks(struct swap_area *area,
                              enum status (*step)(struct swap_area *, struct area_disk *),
                              enum status result)
{
    for (unsigned i = 0; i < area->disk_count; i++) {
        struct area_disk *disk = &area->disks[i];
        enum status status = disk->intact ? step(area, disk) : OK;

        if (status == OK)
            continue;
        disk->intact = false;
        __atomic_store_n(&disk->lost, true, __ATOMIC_RELAXED);
        result = result == OK || result == STATUS_IO ? status : result;
    }
    return result;
}

/* Closes the disks of an area, step by step: the headers of the halves of a mirror stay within one
 * generation. Nothing is written to a disk after a step that failed. A half of a mirror may be
 * given up before, if the other one closes well; all else that fails is returned. That a disk takes
 * no TRIM is no failure. */
static enum status settle_area(struct swap_area *area)
{
    enum status result = OK;
    unsigned closed = 0;

    for (unsigned i = 0; i < area->disk_count; i++)
        area->disks[i].intact = area_disk_writable(&area->disks[i]);
    result = step_disks(area, revalidate_disk, result);
    result = step_disks(area, wipe_disk, result);
    area_trim_all(area);
    result = step_disks(area, keep_bad_slots, result);
    result = step_disks(area, clear_mark, result);
    for (unsigned i = 0; i < area->disk_count; i++)
        closed += area->disks[i].intact;
    return result == OK && closed == 0 ? STATUS_IO : result;
}

/* ---- totals ---- */

static void note_disk(const struct swap_area_usage *usage, unsigned number)
{
    const struct swap_disk_usage *counted = &usage->disk[number].usage;

    if (usage->disk[number].serial == NULL)
        return;
    ktap_note("swap: disk %s%s: %lu pages written, %lu read, %lu requests failed, %lu wrong check "
              "values, %lu pages healed, %lu slots retired",
              usage->disk[number].serial, usage->disk[number].writable ? "" : " (given up)",
              counted->pages_written, counted->pages_read, counted->failed, counted->wrong,
              counted->healed, counted->retired);
    if (counted->trimmed > 0)
        ktap_note("swap: disk %s was told that %lu slots are free (TRIM)",
                  usage->disk[number].serial, counted->trimmed);
}

static void note_totals(void)
{
    for (unsigned i = 0; swap.backing == SWAP_BACKING_DISK && i < swap.count; i++) {
        struct swap_area_usage usage = swap_area_usage(i);

        if (swap.count > 1 || usage.disks > 1)
            ktap_note("swap: area %u: %u of %u slots in use", i, usage.used, usage.slots);
        for (unsigned disk = 0; disk < usage.disks; disk++)
            note_disk(&usage, disk);
    }
}

enum status swap_settle(void)
{
    enum status result = OK;

    CHECK(swap.open && !swap.settled);
    for (unsigned i = 0; swap.backing == SWAP_BACKING_DISK && i < swap.count; i++) {
        enum status status = settle_area(&swap.areas[i]);

        result = result == OK ? status : result;
    }
    swap.settled = true;
    note_totals();
    return result;
}

/* ---- after the settling ---- */

enum status swap_log_write(const struct log_text *log)
{
    for (unsigned i = 0; i < swap.count * AREA_DISKS_MAX; i++) {
        const struct area_disk *disk = &swap.areas[i / AREA_DISKS_MAX].disks[i % AREA_DISKS_MAX];
        const struct swap_header *header = &disk->disk.finding.header;

        if (disk->intact && header->log_sectors > 0)
            return log_area_write(&disk->block, disk->disk.grant, header, log);
    }
    return STATUS_NOT_FOUND;
}

/* Returns whether a disk is suited for the log of a crash; `best`: without a reservation. */
static bool takes_crash_log(const struct area_disk *disk, bool best)
{
    if (!area_disk_there(disk) || (swap.settled && !disk->intact))
        return false;
    return !best || (area_disk_writable(disk) && disk->disk.finding.header.log_sectors > 0);
}

static const struct area_disk *crash_disk(bool best)
{
    for (unsigned i = 0; swap.open && swap.backing == SWAP_BACKING_DISK && i < swap.count; i++) {
        for (unsigned half = 0; half < swap.areas[i].disk_count; half++) {
            if (takes_crash_log(&swap.areas[i].disks[half], best))
                return &swap.areas[i].disks[half];
        }
    }
    return best ? crash_disk(false) : NULL;
}

const struct disk_chosen *swap_disk(void)
{
    const struct area_disk *disk = crash_disk(true);

    return disk != NULL ? &disk->disk : NULL;
}

const struct swap_mark *swap_disk_mark(void)
{
    const struct area_disk *disk = crash_disk(true);

    return disk != NULL ? &disk->mark : NULL;
}

enum status swap_close(void)
{
    enum status status = OK;

    CHECK(swap.open);
    if (!swap.settled)
        status = swap_settle();
    if (swap.backing == SWAP_BACKING_RAM)
        block_ram_close(&swap.areas[0].disks[0].block);
    for (unsigned i = 0; swap.backing == SWAP_BACKING_DISK && i < swap.count * AREA_DISKS_MAX;
         i++) {
        struct area_disk *disk = &swap.areas[i / AREA_DISKS_MAX].disks[i % AREA_DISKS_MAX];

        if (!area_disk_there(disk))
            continue;
        mark_close(&disk->mark);
        area_forget_bad_list(disk);
        disk->intact = false;
    }
    swap_grant_revoke();
    slots_close();
    swap.open = false;
    return status;
}

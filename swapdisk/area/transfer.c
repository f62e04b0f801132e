/* Swap areas: transfers of one disk, the marks before a write, and disks that die. */
#include "lib/check.h"
#include "lib/ktap.h"
#include "swapdisk/area/internal.h"
#include "swapdisk/area/slots_internal.h"

/* Writes that fail in a row before a disk is given up; a page tries a few slots. */
#define FAILURES_MOST 24U

/* Returns a disk of the area that may still be written, NULL if there is none. */
static const struct area_disk *disk_left(const struct swap_area *area)
{
    for (unsigned i = 0; i < area->disk_count; i++) {
        if (area_disk_writable(&area->disks[i]))
            return &area->disks[i];
    }
    return NULL;
}

/* Gives a disk up, once. */
static void area_give_up(struct swap_area *area, struct area_disk *disk, const char *why)
{
    const struct area_disk *left;

    if (__atomic_exchange_n(&disk->lost, true, __ATOMIC_RELAXED))
        return;
    left = disk_left(area);
    if (left != NULL) {
        ktap_note("swap: disk %s is given up, since %s: the mirror goes on degraded, on disk %s",
                  disk->block.name, why, left->block.name);
        return;
    }
    ktap_note("swap: disk %s is given up, since %s: no page goes to it any more", disk->block.name,
              why);
    slots_close_range((unsigned)(area - swap.areas));
}

void area_note_failure(struct swap_area *area, struct area_disk *disk)
{
    if (swap.backing == SWAP_BACKING_RAM)
        return;
    if (!block_serves(&disk->block))
        area_give_up(area, disk, "it has died");
    else if (mark_has_failed(&disk->mark))
        area_give_up(area, disk, "its header cannot be written");
}

/* Returns whether a disk other than this one can be written. */
static bool others_left(const struct area_disk *disk)
{
    for (unsigned i = 0; i < swap.count * AREA_DISKS_MAX; i++) {
        const struct area_disk *at = &swap.areas[i / AREA_DISKS_MAX].disks[i % AREA_DISKS_MAX];

        if (at != disk && area_disk_writable(at))
            return true;
    }
    return false;
}

void area_note_write(struct swap_area *area, struct area_disk *disk, bool failed)
{
    if (!failed) {
        if (__atomic_load_n(&disk->failures, __ATOMIC_RELAXED) != 0)
            __atomic_store_n(&disk->failures, 0, __ATOMIC_RELAXED);
        return;
    }
    area_note_failure(area, disk);
    if (__atomic_add_fetch(&disk->failures, 1, __ATOMIC_RELAXED) >= FAILURES_MOST &&
        others_left(disk))
        area_give_up(area, disk, "it takes no pages any more");
}

/* Levels and marks the disks that can be written, one after the other: the halves of a mirror are
 * never more than one generation apart. */
static void mark_disks(struct swap_area *area, uint32_t end_slot)
{
    for (unsigned i = 0; i < 2 * area->disk_count; i++) {
        struct area_disk *disk = &area->disks[i % area->disk_count];
        enum status status;

        if (!area_disk_writable(disk))
            continue;
        status =
            i < area->disk_count ? mark_level(&disk->mark) : mark_ensure(&disk->mark, end_slot);
        if (status != OK)
            area_note_failure(area, disk);
    }
}

/* Returns the disks that can be written, a bit for each; sets *marked if all are marked up to the
 * slot. */
static unsigned writable_disks(const struct swap_area *area, uint32_t end_slot, bool *marked)
{
    unsigned writable = 0;

    *marked = true;
    for (unsigned i = 0; i < area->disk_count; i++) {
        if (!area_disk_writable(&area->disks[i]))
            continue;
        writable |= 1U << i;
        *marked = *marked && mark_covers(&area->disks[i].mark, end_slot);
    }
    return writable;
}

unsigned area_mark(struct swap_area *area, uint32_t end_slot)
{
    unsigned writable;
    bool marked;

    CHECK(end_slot > 0);
    if (swap.backing == SWAP_BACKING_RAM)
        return 1;
    writable = writable_disks(area, end_slot, &marked);
    if (marked)
        return writable;
    mutex_lock(&area->mark_lock);
    mark_disks(area, end_slot);
    mutex_unlock(&area->mark_lock);
    return writable_disks(area, end_slot, &marked);
}

void area_check_run(struct slot first, const struct pfn *frames, unsigned pages)
{
    CHECK(swap.open && frames != NULL && pages > 0);
    CHECK_MSG(first.index < slots_total() && pages <= slots_total() - first.index,
              "slots %x + %x of %x", first.index, pages, slots_total());
    for (unsigned i = 0; i < pages; i++)
        CHECK_MSG(slot_record_of((struct slot){first.index + i})->count > 0, "slot %x is not held",
                  first.index + i);
}

enum status area_transfer(struct swap_area *area, struct area_disk *disk,
                          enum disk_operation operation, struct slot first,
                          const struct pfn *frames, unsigned pages)
{
    enum status status = OK;

    while (status == OK && pages > 0) {
        unsigned now = (unsigned)min_u64(pages, disk->block.request_pages);
        struct disk_request request = {.operation = operation,
                                       .lba = area_lba(area, disk, first),
                                       .sectors = now * SECTORS_PER_PAGE,
                                       .frames = frames,
                                       .grant = disk->disk.grant};

        block_submit(&disk->block, &request);
        status = block_wait(&disk->block, &request);
        first.index += now;
        frames += now;
        pages -= now;
    }
    if (status != OK) {
        area_add(&disk->counted.failed, 1);
        area_note_failure(area, disk);
    }
    return status;
}

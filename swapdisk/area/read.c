/*
 * Swap areas: reading pages from slots.
 *
 * Each page must have the check value of its write. A page of a mirror that one half has wrong, or
 * cannot read, comes from the other half, if it has the right check value there; then it is written
 * to the first half again. If that fails, the slot is retired once it is free. A page that is wrong
 * on each disk is read once more, since the transfer may have been wrong (rule D11). It is lost
 * only if no disk that failed to read it may have it still.
 */
#include "cpu/machine.h"
#include "lib/check.h"
#include "pmm/pmm.h"
#include "swapdisk/area/internal.h"
#include "swapdisk/area/slots_internal.h"

/* Returns the disk of an area from which a slot is read first. The halves of a mirror take turns by
 * clusters; one that has died is asked only if the other one has, too, and one that is not there
 * never. */
static struct area_disk *first_disk(struct swap_area *area, struct slot slot)
{
    unsigned number = area_slot(area, slot) / SLOT_CLUSTER % area->disk_count;

    if (area->disk_count > 1 && !area_disk_writable(&area->disks[number]) &&
        (area_disk_serves(&area->disks[1 - number]) || !area_disk_there(&area->disks[number])))
        number = 1 - number;
    CHECK(area_disk_there(&area->disks[number]));
    return &area->disks[number];
}

/* Returns the other half of a mirror if it can be read, otherwise NULL. */
static struct area_disk *other_disk(struct swap_area *area, const struct area_disk *disk)
{
    struct area_disk *other = &area->disks[disk == &area->disks[0] ? 1 : 0];

    return area->disk_count > 1 && area_disk_serves(other) ? other : NULL;
}

/* Returns whether a page that was read from a disk has the check value of its write. */
static bool page_intact(struct area_disk *disk, struct slot slot, struct pfn frame)
{
    const struct slot_record *record = slot_record_of(slot);
    uint32_t found = slots_check_value(slot, record->generation, frame_pointer(frame));

    if (found == record->check)
        return true;
    area_add(&disk->counted.wrong, 1);
    area_note_slot("slot %u of disk %s: check value %08x, expected %08x",
                   area_slot(swap_area_of(slot), slot), disk->block.name, found, record->check);
    return false;
}

/* Writes a page that was right on the other half to the disk that did not have it. */
static void heal_page(struct swap_area *area, struct area_disk *disk, struct slot slot,
                      struct pfn frame)
{
    bool written =
        area_disk_writable(disk) && area_transfer(area, disk, DISK_WRITE, slot, &frame, 1) == OK;

    area_add(&swap.counted.healed, 1);
    slots_set_copy(slot, (unsigned)(disk - area->disks), written);
    if (written) {
        area_add(&disk->counted.healed, 1);
        area_note_slot("slot %u of disk %s: written again from the other half of the mirror",
                       area_slot(area, slot), disk->block.name);
    } else if (area_disk_writable(disk)) {
        slots_condemn(slot, (unsigned)(disk - area->disks));
        area_add(&disk->counted.retired, 1);
        area_note_slot("slot %u of disk %s is bad, and retired once it is free",
                       area_slot(area, slot), disk->block.name);
    }
}

/* Reads a page from one disk. STATUS_CORRUPT: it is wrong there. */
static enum status read_copy(struct swap_area *area, struct area_disk *disk, struct slot slot,
                             struct pfn frame)
{
    enum status status = area_transfer(area, disk, DISK_READ, slot, &frame, 1);

    if (status != OK)
        return status;
    area_add(&disk->counted.pages_read, 1);
    return page_intact(disk, slot, frame) ? OK : STATUS_CORRUPT;
}

/* Reads a page that was wrong once more. Returns whether it is right now. */
static bool is_right_again(struct swap_area *area, struct area_disk *disk, struct slot slot,
                           struct pfn frame)
{
    const struct slot_record *record = slot_record_of(slot);

    if (!area_disk_serves(disk) || area_transfer(area, disk, DISK_READ, slot, &frame, 1) != OK ||
        slots_check_value(slot, record->generation, frame_pointer(frame)) != record->check)
        return false;
    area_note_slot("slot %u of disk %s: right when it was read once more", area_slot(area, slot),
                   disk->block.name);
    return true;
}

/* Returns how the read of a page ends whose copies ended so, neither of them well. A disk that
 * serves and could not read its copy may have it at another try. */
static enum status outcome_of(const struct area_disk *disk, enum status first,
                              const struct area_disk *other, enum status second)
{
    CHECK(first != OK && second != OK);
    if (first != STATUS_CORRUPT && (second != STATUS_CORRUPT || area_disk_serves(disk)))
        return first;
    return second != STATUS_CORRUPT && area_disk_serves(other) ? second : STATUS_CORRUPT;
}

/* Ends the read of one page after its request has ended with `status`: takes it from the other half
 * if the first one does not have it. A page that no disk has right is zeroed. */
static enum status settle_page(struct swap_area *area, struct area_disk *disk, struct slot slot,
                               struct pfn frame, enum status status)
{
    enum status first = status != OK                     ? status
                        : page_intact(disk, slot, frame) ? OK
                                                         : STATUS_CORRUPT;
    struct area_disk *other = first != OK ? other_disk(area, disk) : NULL;
    enum status second = other != NULL ? read_copy(area, other, slot, frame) : first;

    if (other != NULL && second == OK) {
        area_add(&swap.counted.pages_read, first != STATUS_CORRUPT);
        heal_page(area, disk, slot, frame);
    }
    if (first == OK || second == OK ||
        (first == STATUS_CORRUPT && is_right_again(area, disk, slot, frame)))
        return OK;
    status = other != NULL ? outcome_of(disk, first, other, second) : first;
    if (status != STATUS_CORRUPT) {
        area_add(&swap.counted.errors, 1);
        return status;
    }
    machine_clear_frame(frame_pointer(frame));
    area_add(&swap.counted.corrupt, 1);
    return STATUS_CORRUPT;
}

/* As area_check_run, for slots that are to be read. */
static void check_full(struct slot first, const struct pfn *frames, unsigned pages)
{
    area_check_run(first, frames, pages);
    for (unsigned i = 0; i < pages; i++)
        CHECK_MSG((slot_record_of((struct slot){first.index + i})->generation & SLOT_FULL) != 0,
                  "reading slot %x, which holds no page", first.index + i);
}

/* Reads the pages of consecutive slots of an area from one disk. */
static enum status load(struct swap_area *area, struct area_disk *disk, struct slot first,
                        const struct pfn *frames, unsigned pages)
{
    enum status status = area_transfer(area, disk, DISK_READ, first, frames, pages);

    if (status == OK) {
        area_add(&disk->counted.pages_read, pages);
        area_add(&swap.counted.pages_read, pages);
    }
    return status;
}

enum status swap_read_run(struct slot first, const struct pfn *frames, unsigned pages)
{
    struct swap_area *area = swap_area_of(first);
    struct area_disk *disk = first_disk(area, first);
    enum status result = OK;
    enum status status;

    check_full(first, frames, pages);
    status = load(area, disk, first, frames, pages);
    if (status != OK && area->disk_count == 1) {
        area_add(&swap.counted.errors, 1);
        return status;
    }
    for (unsigned i = 0; i < pages; i++) {
        enum status one =
            settle_page(area, disk, (struct slot){first.index + i}, frames[i], status);

        if (one != OK)
            result = one;
    }
    return result;
}

enum status swap_read(struct slot slot, struct pfn frame)
{
    return swap_read_run(slot, &frame, 1);
}

void swap_read_in(struct slot first, const struct pfn *frames, unsigned count, unsigned needed,
                  enum status *read)
{
    struct swap_area *area = swap_area_of(first);
    struct area_disk *disk = first_disk(area, first);
    enum status status = OK;

    CHECK(needed < count);
    if (count > 1) {
        check_full(first, frames, count);
        status = load(area, disk, first, frames, count);
        area_add(&swap.counted.errors, status != OK && area->disk_count == 1);
    }
    if (count == 1 || status != OK) {
        for (unsigned i = 0; i < count; i++)
            read[i] = status;
        read[needed] = swap_read((struct slot){first.index + needed}, frames[needed]);
        return;
    }
    for (unsigned i = 0; i < count; i++)
        read[i] = settle_page(area, disk, (struct slot){first.index + i}, frames[i], OK);
}

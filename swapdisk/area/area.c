/* Swap areas: opening them on the chosen disks or in RAM, their slots, and their figures. */
#include "swapdisk/area.h"

#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/ktap.h"
#include "lib/print.h"
#include "pmm/pmm.h"
#include "swapdisk/area/internal.h"
#include "swapdisk/block/grant.h"
#include "swapdisk/validate.h"

/* A slot costs 12 bytes of memory. All disks together are used up to four times the machine's
 * memory, which costs 1.2 % of it, and each area up to the least in any case. */
#define SLOTS_LEAST     UINT32_C(65536)
#define SLOTS_PER_FRAME 4U

/* Lines about single slots in the log. */
#define SLOT_NOTES 64U

struct swap_areas swap;

/* ---- slots ---- */

enum status swap_alloc_run(unsigned wanted, struct slot *first, unsigned *got)
{
    enum status status;

    CHECK(swap.open);
    status = slots_take(wanted, first, got);
    if (status != STATUS_NO_SPACE || swap.backing == SWAP_BACKING_RAM)
        return status;
    /* A TRIM may have had the last free slots: nobody is refused because of that (rule D20). */
    mutex_lock(&swap.trim_lock);
    status = slots_take(wanted, first, got);
    mutex_unlock(&swap.trim_lock);
    return status;
}

enum status swap_alloc(struct slot *slot)
{
    unsigned got;

    return swap_alloc_run(1, slot, &got);
}

void swap_hold(struct slot slot)
{
    CHECK(swap.open);
    slots_hold(slot);
}

void swap_release(struct slot slot)
{
    const struct swap_area *area;

    CHECK(swap.open);
    if (!slots_release(slot))
        return;
    /* Before the slot is free: afterwards another holder may write it. */
    if (swap.on_free != NULL)
        swap.on_free(slot);
    if (swap.backing == SWAP_BACKING_RAM) {
        area = &swap.areas[0];
        block_discard(&area->disks[0].block, area_lba(area, &area->disks[0], slot),
                      SECTORS_PER_PAGE);
    }
    slots_free(slot);
}

void swap_on_free(void (*freed)(struct slot slot))
{
    CHECK(swap.open && (freed == NULL || swap.on_free == NULL));
    swap.on_free = freed;
}

uint32_t swap_count(struct slot slot)
{
    CHECK(swap.open);
    return slots_count(slot);
}

uint64_t swap_references(void)
{
    return slots_references();
}

static bool area_serves(const struct swap_area *area)
{
    for (unsigned i = 0; i < area->disk_count; i++) {
        if (area_disk_serves(&area->disks[i]))
            return true;
    }
    return false;
}

bool swap_serves(struct slot slot)
{
    const struct swap_area *area = swap_area_of(slot);
    unsigned copies = slots_copies(slot);

    if (copies == 0)
        return area_serves(area);
    for (unsigned i = 0; i < area->disk_count; i++) {
        if ((copies >> i & 1) != 0 && area_disk_serves(&area->disks[i]))
            return true;
    }
    return false;
}

bool swap_serves_any(void)
{
    for (unsigned i = 0; i < swap.count; i++) {
        if (area_serves(&swap.areas[i]))
            return true;
    }
    return false;
}

/* ---- figures ---- */

unsigned swap_area_count(void)
{
    return swap.count;
}

struct swap_area_usage swap_area_usage(unsigned number)
{
    const struct swap_area *area = &swap.areas[number];
    struct swap_area_usage usage = {.priority = area->range.priority,
                                    .slots = slots_usable(number),
                                    .used = slots_used_of(number),
                                    .disks = area->disk_count};

    CHECK(number < swap.count);
    for (unsigned i = 0; i < area->disk_count; i++) {
        const struct area_disk *disk = &area->disks[i];

        usage.disk[i].serial = disk->disk.identity != NULL ? disk->disk.identity->serial : NULL;
        usage.disk[i].writable = area_disk_writable(disk);
        usage.disk[i].usage = disk->counted;
    }
    return usage;
}

struct swap_usage swap_usage(void)
{
    struct swap_usage usage = swap.counted;

    usage.backing = swap.backing;
    usage.used = slots_used();
    for (unsigned i = 0; i < swap.count; i++)
        usage.slots += slots_usable(i);
    return usage;
}

uint64_t swap_disk_offset(struct slot slot)
{
    const struct swap_area *area = swap_area_of(slot);
    const struct area_disk *disk = &area->disks[0];

    if (swap.backing != SWAP_BACKING_DISK)
        return 0;
    if (!area_disk_there(disk))
        disk = &area->disks[1];
    return area_lba(area, disk, slot) * SECTOR_SIZE;
}

const char *swap_disk_serial(struct slot slot)
{
    const struct swap_area *area = swap_area_of(slot);
    const struct disk_identity *identity = area->disks[0].disk.identity;

    if (swap.backing != SWAP_BACKING_DISK)
        return "";
    return identity != NULL ? identity->serial : area->disks[1].disk.identity->serial;
}

struct pfn swap_ram_frame(struct slot slot)
{
    return block_ram_frame(&swap.areas[0].disks[0].block, slot.index);
}

void swap_audit(void)
{
    slots_audit();
}

void area_note_slot(const char *format, ...)
{
    char line[REASON_SIZE];
    va_list arguments;

    if (__atomic_fetch_add(&swap.notes, 1, __ATOMIC_RELAXED) >= SLOT_NOTES)
        return;
    va_start(arguments, format);
    print_to_va(line, sizeof(line), format, arguments);
    va_end(arguments);
    ktap_note("swap: %s", line);
}

/* ---- opening ---- */

/* Returns a disk of an area that is there; each area has one. */
static const struct area_disk *some_disk(const struct swap_area *area)
{
    CHECK(area_disk_there(&area->disks[0]) || area->disk_count > 1);
    return area_disk_there(&area->disks[0]) ? &area->disks[0] : &area->disks[1];
}

static void note_area(unsigned number)
{
    const struct swap_area *area = &swap.areas[number];
    const char *mirror = area->disk_count == 1 ? "" : ", a mirror of both";

    for (unsigned i = 0; i < area->disk_count; i++) {
        const struct area_disk *disk = &area->disks[i];

        if (!area_disk_there(disk)) {
            mirror = ", a mirror that is degraded: one half is not there";
            continue;
        }
        ktap_note("swap: on disk %s serial %s, sectors %lu to %lu, %u slots from byte %lu",
                  disk->disk.identity->model, disk->disk.identity->serial,
                  disk->disk.finding.first_lba, disk->disk.finding.last_lba, area->range.count,
                  disk->first_lba * SECTOR_SIZE);
        if (disk->disk.finding.header.state == SWAP_STATE_IN_USE)
            ktap_note("swap: an earlier run did not close it; its pages are not used");
    }
    if (swap.count > 1 || area->disk_count > 1)
        ktap_note("swap: area %u has slots %u to %u, priority %u%s", number, area->range.first,
                  area->range.first + area->range.count - 1, area->range.priority, mirror);
}

static void note_areas(void)
{
    if (swap.backing == SWAP_BACKING_RAM)
        ktap_note("swap: in RAM, %u slots, because no disk may be written", slots_total());
    for (unsigned i = 0; swap.backing == SWAP_BACKING_DISK && i < swap.count; i++)
        note_area(i);
}

/* Returns the place for a set: a new area's, or that of a half in the area of its mirror. */
static struct area_disk *place_of_set(const struct swap_header *header)
{
    unsigned half = header->role == SET_MIRROR ? header->member : 0;

    for (unsigned i = 0; header->role == SET_MIRROR && i < swap.count; i++) {
        if (swap_same_group(&some_disk(&swap.areas[i])->disk.finding.header, header))
            return &swap.areas[i].disks[half];
    }
    CHECK(swap.count < SWAP_AREAS_MAX && half < AREA_DISKS_MAX);
    swap.areas[swap.count].disk_count = header->role == SET_MIRROR ? 2 : 1;
    return &swap.areas[swap.count++].disks[half];
}

/* Keeps the list of bad slots of the disk that was judged last, until the slots have records. */
static enum status keep_bad_list(struct area_disk *disk)
{
    const struct bad_slots *bad = validate_bad_slots();

    disk->bad_generation = bad->generation;
    disk->bad_list = PFN_NONE;
    if (bad->count == 0)
        return OK;
    if (pmm_alloc(FRAME_KERNEL, FRAME_UNCLEARED, &disk->bad_list) != OK)
        return STATUS_NO_MEMORY;
    memcpy(frame_pointer(disk->bad_list), bad, sizeof(*bad));
    return OK;
}

_Static_assert(sizeof(struct bad_slots) <= PAGE_SIZE, "a frame holds the list");

/* Opens one chosen disk; one that is refused at the second look is left out. Too large for a
 * stack. */
static enum status open_chosen(unsigned index)
{
    static struct disk_chosen chosen;
    struct area_disk *disk;
    enum status status = disks_open(index, &chosen);

    if (status != OK)
        return status == STATUS_NO_MEMORY ? status : OK;
    CHECK(chosen.grant != NULL && chosen.finding.prepared);
    disk = place_of_set(&chosen.finding.header);
    CHECK(!area_disk_there(disk));
    disk->disk = chosen;
    disk->block = chosen.block;
    disk->first_lba = chosen.finding.first_lba + SWAP_HEADER_SECTORS;
    status = keep_bad_list(disk);
    return status == OK ? mark_open(&disk->mark, &disk->disk) : status;
}

static enum status open_disks(void)
{
    enum status status = OK;

    for (unsigned i = 0; i < disks_chosen() && status == OK; i++)
        status = open_chosen(i);
    return status;
}

static enum status open_ram(uint32_t ram_slots)
{
    uint64_t pages = min_u64(ram_slots, min_u64(SLOTS_MAX, BLOCK_RAM_PAGES_MAX));
    struct swap_area *area = &swap.areas[0];

    swap.count = 1;
    area->disk_count = 1;
    area->range.count = (uint32_t)pages;
    return block_ram_open(pages, &area->disks[0].block);
}

/* Decides how many slots of each disk area are used. */
static void size_areas(void)
{
    uint64_t worth = SLOTS_PER_FRAME * pmm_usage().total / swap.count;
    uint64_t most = min_u64(max_u64(SLOTS_LEAST, worth),
                            swap.count == 1 ? SLOTS_MAX : SLOTS_MAX / swap.count - SLOT_CLUSTER);

    for (unsigned i = 0; i < swap.count; i++) {
        const struct area_disk *disk = some_disk(&swap.areas[i]);

        swap.areas[i].range.count =
            (uint32_t)min_u64(swap_header_slots(&disk->disk.finding.header), most);
        swap.areas[i].range.priority = disk->disk.priority;
    }
}

static enum status open_slots(void)
{
    struct slot_range ranges[SWAP_AREAS_MAX];
    enum status status;

    for (unsigned i = 0; i < swap.count; i++)
        ranges[i] = swap.areas[i].range;
    status = slots_open(ranges, swap.count);
    for (unsigned i = 0; status == OK && i < swap.count; i++) {
        swap.areas[i].range = ranges[i];
        swap.areas[i].trim_at = ranges[i].first;
    }
    return status;
}

/* Retires the bad slots that a disk's list has. The list stays if it has others, which this run
 * does not use. */
static void retire_bad_slots(const struct swap_area *area, struct area_disk *disk)
{
    const struct bad_slots *bad;
    uint32_t i = 0;

    if (pfn_is_none(disk->bad_list))
        return;
    bad = frame_pointer(disk->bad_list);
    for (; i < bad->count && bad->slots[i] < area->range.count; i++) {
        struct slot slot = {area->range.first + bad->slots[i]};

        slots_retire(slot, 1U << (disk - area->disks));
    }
    if (i == bad->count)
        area_forget_bad_list(disk);
}

static void area_begin(struct swap_area *area)
{
    for (unsigned i = 0; i < area->disk_count; i++) {
        if (area_disk_there(&area->disks[i]))
            retire_bad_slots(area, &area->disks[i]);
    }
    if (area->disk_count > 1 && area_disk_there(&area->disks[0]) &&
        area_disk_there(&area->disks[1]))
        mark_align(&area->disks[0].mark, &area->disks[1].mark);
}

/* Frees what a failed opening has allocated. */
static void undo_opening(void)
{
    for (unsigned i = 0; i < swap.count * AREA_DISKS_MAX; i++) {
        struct area_disk *disk = &swap.areas[i / AREA_DISKS_MAX].disks[i % AREA_DISKS_MAX];

        if (disk->mark.disk != NULL)
            mark_close(&disk->mark);
        if (swap.backing == SWAP_BACKING_DISK && area_disk_there(disk))
            area_forget_bad_list(disk);
    }
    if (swap.backing == SWAP_BACKING_RAM && area_disk_there(&swap.areas[0].disks[0]))
        block_ram_close(&swap.areas[0].disks[0].block);
    swap_grant_revoke();
}

enum status swap_open(const struct options *options, uint32_t ram_slots)
{
    enum status status;

    CHECK(!swap.open && ram_slots > 0);
    memset(&swap, 0, sizeof(swap));
    swap.wipe = options->wipe;
    swap.backing = SWAP_BACKING_DISK;
    status = open_disks();
    if (status == OK && swap.count > 0) {
        size_areas();
    } else if (status == OK) {
        swap.backing = SWAP_BACKING_RAM;
        status = open_ram(ram_slots);
    }
    if (status == OK)
        status = open_slots();
    if (status != OK) {
        undo_opening();
        return status;
    }
    for (unsigned i = 0; swap.backing == SWAP_BACKING_DISK && i < swap.count; i++)
        area_begin(&swap.areas[i]);
    swap.open = true;
    note_areas();
    return OK;
}

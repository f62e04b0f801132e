/*
 * Swap areas: telling disks which slots are free (TRIM).
 *
 * The clusters of one command are taken first, as an allocation takes slots: nobody writes them
 * while the command is under way, and no cluster with a slot in use is ever part of it. They are
 * free again once every disk of the area has ended the command. Afterwards the slots read as
 * anything; only a slot that was written is ever read, and its check value decides.
 */
#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/ktap.h"
#include "swapdisk/area/internal.h"

/* Clusters of one command: 16 MiB. */
#define TRIM_CLUSTERS 64U

/* The part of an area's slots that stays free while others are held for a TRIM. */
#define SPARE_PART 4U

/* Clusters that the caller holds; the trim lock protects it. */
static struct {
    unsigned count;
    struct slot first[TRIM_CLUSTERS];
    unsigned slots[TRIM_CLUSTERS];
    struct disk_ranges ranges;
} taken;

_Static_assert(TRIM_CLUSTERS <= DISK_RANGES_MAX, "a command has all clusters");
_Static_assert(SLOT_CLUSTER *SECTORS_PER_PAGE <= DISK_RANGE_SECTORS_MAX, "a range has a cluster");

/* Returns whether a disk takes a TRIM. One that this run has not marked has nothing to be told. */
static bool disk_takes_trim(const struct area_disk *disk)
{
    return area_disk_writable(disk) && disk->block.operations->trim != NULL &&
           !__atomic_load_n(&disk->no_trim, __ATOMIC_RELAXED) && mark_is_set(&disk->mark);
}

static bool area_takes_trim(const struct swap_area *area)
{
    bool takes = false;

    for (unsigned i = 0; i < area->disk_count; i++)
        takes = takes || disk_takes_trim(&area->disks[i]);
    return takes;
}

/* Takes clusters up to the end of the area, then from its start on next time. Leaves so many slots
 * free. */
static void take_clusters(struct swap_area *area, uint32_t spare)
{
    unsigned range = (unsigned)(area - swap.areas);

    taken.count = 0;
    while (taken.count < TRIM_CLUSTERS && area->trim_at < area->range.first + area->range.count) {
        unsigned slots =
            slots_take_cluster(range, &area->trim_at, spare, &taken.first[taken.count]);

        if (slots > 0)
            taken.slots[taken.count++] = slots;
    }
    if (taken.count == 0)
        area->trim_at = area->range.first;
}

/* Fills in the ranges of the clusters on one disk; those that follow each other become one. */
static void put_clusters(const struct swap_area *area, const struct area_disk *disk)
{
    struct disk_ranges *ranges = &taken.ranges;

    ranges->count = 0;
    for (unsigned i = 0; i < taken.count; i++) {
        struct disk_range *last = &ranges->range[ranges->count == 0 ? 0 : ranges->count - 1];
        uint64_t lba = area_lba(area, disk, taken.first[i]);
        uint32_t sectors = taken.slots[i] * SECTORS_PER_PAGE;

        if (ranges->count > 0 && last->lba + last->sectors == lba &&
            last->sectors + sectors <= DISK_RANGE_SECTORS_MAX)
            last->sectors += sectors;
        else
            ranges->range[ranges->count++] = (struct disk_range){lba, sectors};
    }
}

/* Tells one disk. Returns whether it took it; the first failure is the last command of its kind. */
static bool trim_disk(struct swap_area *area, struct area_disk *disk)
{
    enum status status;

    put_clusters(area, disk);
    status = block_trim(&disk->block, disk->disk.grant, &taken.ranges);
    if (status == OK) {
        for (unsigned i = 0; i < taken.count; i++)
            area_add(&disk->counted.trimmed, taken.slots[i]);
        return true;
    }
    __atomic_store_n(&disk->no_trim, true, __ATOMIC_RELAXED);
    if (status == STATUS_UNSUPPORTED)
        return false;
    ktap_note("swap: disk %s failed a TRIM and is sent none any more", disk->block.name);
    area_add(&disk->counted.failed, 1);
    area_note_failure(area, disk);
    return false;
}

/* Trims one command's clusters. Returns false if there are none. The trim lock is held. */
static bool trim_some(struct swap_area *area, uint32_t spare)
{
    bool told = false;

    if (!area_takes_trim(area))
        return false;
    take_clusters(area, spare);
    for (unsigned i = 0; i < area->disk_count && taken.count > 0; i++) {
        if (disk_takes_trim(&area->disks[i]))
            told = trim_disk(area, &area->disks[i]) || told;
    }
    for (unsigned i = 0; i < taken.count; i++)
        slots_give_cluster(taken.first[i], taken.slots[i], told);
    return taken.count > 0;
}

void area_trim_all(struct swap_area *area)
{
    mutex_lock(&swap.trim_lock);
    area->trim_at = area->range.first;
    while (!swap.wipe && trim_some(area, 0))
        CHECK(taken.count <= TRIM_CLUSTERS);
    mutex_unlock(&swap.trim_lock);
}

bool swap_trim(void)
{
    bool more = false;

    CHECK(swap.open);
    if (swap.backing == SWAP_BACKING_RAM || swap.wipe || swap.settled ||
        !mutex_try(&swap.trim_lock))
        return false;
    for (unsigned i = 0; i < swap.count; i++)
        more = trim_some(&swap.areas[i], slots_usable(i) / SPARE_PART) || more;
    mutex_unlock(&swap.trim_lock);
    return more;
}

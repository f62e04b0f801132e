/*
 * Files: a chain of clusters becomes a list of runs.
 *
 * A chain is sound if it has exactly the clusters that the size needs and an end mark behind them.
 * Then it has no loop either: a chain that comes to one of its clusters twice has no end.
 */
#include "lib/check.h"
#include "pmm/pmm.h"
#include "swapdisk/format/identify.h"
#include "swapdisk/fs/internal.h"

_Static_assert(sizeof(struct fat_run) == 8, "512 runs fill a frame");

static struct pfn *run_frames(const struct fat_file *file)
{
    return frame_pointer(file->list);
}

static struct fat_run *run_at(const struct fat_file *file, uint32_t index)
{
    struct fat_run *runs;

    CHECK_MSG(index < FAT_RUNS_MAX, "run %x", index);
    runs = frame_pointer(run_frames(file)[index / FAT_RUNS_PER_FRAME]);
    return &runs[index % FAT_RUNS_PER_FRAME];
}

struct fat_run fat_file_run(const struct fat_file *file, uint32_t index)
{
    CHECK_MSG(index < file->runs, "run %x of %x", index, file->runs);
    return *run_at(file, index);
}

static enum status add_run(struct fat_file *file, struct fat_run run)
{
    if (file->runs == FAT_RUNS_MAX)
        return STATUS_LIMIT;
    if (pfn_is_none(file->list) && pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &file->list) != OK)
        return STATUS_NO_MEMORY;
    if (file->runs % FAT_RUNS_PER_FRAME == 0 &&
        pmm_alloc(FRAME_KERNEL, FRAME_CLEARED,
                  &run_frames(file)[file->runs / FAT_RUNS_PER_FRAME]) != OK)
        return STATUS_NO_MEMORY;
    *run_at(file, file->runs++) = run;
    return OK;
}

/* Adds the next cluster of the chain. */
static enum status add_cluster(struct fat_file *file, uint32_t cluster)
{
    const struct fat_run *last = file->runs > 0 ? run_at(file, file->runs - 1) : NULL;
    enum status status = OK;

    if (last == NULL || cluster != last->cluster + (file->found - last->at))
        status = add_run(file, (struct fat_run){.at = file->found, .cluster = cluster});
    if (status == OK)
        file->found++;
    return status;
}

/* Follows the chain for as many clusters as the size needs. */
static enum status follow(struct fat_volume *volume, struct fat_file *file, uint32_t cluster)
{
    enum status status = OK;

    CHECK(file->found == 0 && file->problem == NULL);
    while (status == OK && file->found < file->clusters) {
        if (cluster >= FAT_ENTRY_LAST || cluster == 0) {
            file->problem = "its chain ends before its size";
            return OK;
        }
        if (!fat_is_cluster(volume, cluster)) {
            file->problem = "its chain leaves the volume";
            return OK;
        }
        status = add_cluster(file, cluster);
        if (status == OK)
            status = fat_read_entry(volume, cluster, &cluster);
    }
    if (status == OK && cluster < FAT_ENTRY_LAST && (file->clusters > 0 || cluster != 0))
        file->problem = "its chain goes on behind its size, or is a loop";
    return status;
}

enum status fat_file_open(struct fat_volume *volume, const struct fat_entry *entry,
                          struct fat_file *file)
{
    uint64_t bytes = (uint64_t)volume->cluster_sectors * SECTOR_SIZE;
    enum status status;

    *file = (struct fat_file){.data_lba = volume->data_lba,
                              .cluster_sectors = volume->cluster_sectors,
                              .size = entry->size,
                              .clusters = (uint32_t)((entry->size + bytes - 1) / bytes),
                              .list = PFN_NONE};
    if (entry->directory)
        return STATUS_NOT_FOUND;
    if (file->clusters > volume->clusters)
        return fat_fail(volume, STATUS_CORRUPT, "a file is larger than the volume");
    status = follow(volume, file, entry->first);
    if (status != OK)
        fat_file_close(file);
    return status;
}

void fat_file_close(struct fat_file *file)
{
    uint32_t frames = (file->runs + FAT_RUNS_PER_FRAME - 1) / FAT_RUNS_PER_FRAME;

    for (uint32_t i = 0; i < frames; i++)
        pmm_free(run_frames(file)[i]);
    if (!pfn_is_none(file->list))
        pmm_free(file->list);
    file->runs = 0;
    file->list = PFN_NONE;
}

/* Returns the number of the run that has a cluster of the file. */
static uint32_t fat_run_of(const struct fat_file *file, uint32_t at)
{
    uint32_t low = 0;
    uint32_t high = file->runs - 1;

    CHECK(file->runs > 0 && run_at(file, 0)->at == 0);
    while (low < high) {
        uint32_t middle = high - (high - low) / 2;

        if (run_at(file, middle)->at <= at)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

enum status fat_file_place(const struct fat_file *file, uint32_t sector, uint64_t *lba,
                           uint32_t *sectors)
{
    uint32_t at = sector / file->cluster_sectors;
    uint32_t run;
    uint32_t end;
    uint32_t all = (uint32_t)(((uint64_t)file->size + SECTOR_SIZE - 1) / SECTOR_SIZE);
    uint64_t behind;

    if (sector >= all)
        return STATUS_RANGE;
    if (at >= file->found)
        return STATUS_CORRUPT;
    run = fat_run_of(file, at);
    end = run + 1 < file->runs ? run_at(file, run + 1)->at : file->found;
    CHECK_MSG(run_at(file, run)->at <= at && at < end, "cluster %x in run %x, up to %x", at, run,
              end);
    *lba = file->data_lba +
           (uint64_t)(run_at(file, run)->cluster - 2 + (at - run_at(file, run)->at)) *
               file->cluster_sectors +
           sector % file->cluster_sectors;
    behind = (uint64_t)(end - at) * file->cluster_sectors - sector % file->cluster_sectors;
    *sectors = (uint32_t)min_u64(behind, all - sector);
    return OK;
}

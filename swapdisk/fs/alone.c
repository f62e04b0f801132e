/*
 * Checks that no other file shares a cluster with a file, before that file may be written (F4).
 *
 * Its chain is sound, so each of its clusters but the first is named by the one before. The whole
 * table is read: if it names a cluster of the file once more, another chain crosses. All
 * directories are read: if another entry begins at a cluster of the file, that one crosses. Tables
 * that are kept equal must be.
 *
 * The file was opened earlier, and the disk may have changed since: so its chain is followed once
 * more, and must lead to the same sectors.
 */
#include "lib/bytes.h"
#include "lib/check.h"
#include "pmm/pmm.h"
#include "swapdisk/format/identify.h"
#include "swapdisk/format/little.h"
#include "swapdisk/fs/internal.h"

/* A run by its clusters, [first, end). */
struct cluster_run {
    uint32_t first;
    uint32_t end;
};

#define SORTED_RUNS_MAX ((unsigned)(4 * PAGE_SIZE / sizeof(struct cluster_run)))
#define WAITING_MAX     ((unsigned)(PAGE_SIZE / sizeof(uint32_t)))

_Static_assert(SORTED_RUNS_MAX == FAT_WRITE_RUNS_MAX, "the block has room for the runs");

/* The search: the file's runs in ascending order, and directories that wait to be read. */
struct search {
    struct fat_volume *volume;
    const struct fat_file *file;
    struct pfn block; /* of the sorted runs, four frames */
    struct pfn list;  /* of the directories */
    struct cluster_run *runs;
    uint32_t *waiting;
    uint32_t waiting_count;
    uint64_t entries_left; /* that all directories of a sound volume have room for */
    uint64_t own_place;
    bool own_seen; /* the file's entry was read, and is as it was */
};

static const char changed[] = "its chain has changed since it was opened";
static const char crossed[] = "its chain crosses another file's";

/* Returns the clusters of a run of the file. */
static struct cluster_run clusters_of_run(const struct fat_file *file, uint32_t index)
{
    struct fat_run run = fat_file_run(file, index);
    uint32_t end = index + 1 < file->runs ? fat_file_run(file, index + 1).at : file->found;

    return (struct cluster_run){run.cluster, run.cluster + (end - run.at)};
}

static void sort_runs(struct search *search)
{
    const struct fat_file *file = search->file;

    for (uint32_t i = 0; i < file->runs; i++) {
        struct cluster_run sorted = clusters_of_run(file, i);
        uint32_t at = i;

        CHECK(sorted.first < sorted.end);
        for (; at > 0 && search->runs[at - 1].first > sorted.first; at--)
            search->runs[at] = search->runs[at - 1];
        search->runs[at] = sorted;
    }
}

static bool is_of_file(const struct search *search, uint32_t cluster)
{
    uint32_t low = 0;
    uint32_t high = search->file->runs;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (search->runs[middle].end <= cluster)
            low = middle + 1;
        else
            high = middle;
    }
    return low < search->file->runs && search->runs[low].first <= cluster;
}

/* Follows the chain through one run, from the cluster that came next. */
static enum status follow_run(struct fat_volume *volume, struct cluster_run run, uint32_t *next)
{
    enum status status = OK;

    for (uint32_t cluster = run.first; cluster < run.end && status == OK; cluster++) {
        if (*next != cluster || !fat_is_cluster(volume, cluster))
            return fat_fail(volume, STATUS_REFUSED, changed);
        status = fat_read_entry(volume, cluster, next);
    }
    return status;
}

/* Follows the chain once more. */
static enum status follow_again(const struct search *search)
{
    const struct fat_file *file = search->file;
    struct fat_volume *volume = search->volume;
    uint32_t next = fat_file_run(file, 0).cluster;
    enum status status = OK;

    if (volume->data_lba != file->data_lba || volume->cluster_sectors != file->cluster_sectors)
        return fat_fail(volume, STATUS_REFUSED, changed);
    for (uint32_t i = 0; i < file->runs && status == OK; i++)
        status = follow_run(volume, clusters_of_run(file, i), &next);
    if (status == OK && next < FAT_ENTRY_LAST)
        return fat_fail(volume, STATUS_REFUSED, changed);
    return status;
}

/* Compares the page of the table that was read last with the other copy's. */
static enum status compare_tables(struct search *search, struct pfn other, struct pfn second)
{
    struct fat_volume *volume = search->volume;
    uint64_t offset = volume->fat_at - volume->fat_lba;
    unsigned sectors = (unsigned)min_u64(SECTORS_PER_PAGE, volume->fat_sectors - offset);
    enum status status;

    if (volume->tables < 2)
        return OK;
    CHECK(offset < volume->fat_sectors);
    status =
        source_read(&volume->source, volume->fat_at + volume->fat_sectors, sectors, other, second);
    if (status == OK && memcmp(frame_pointer(other), frame_pointer(volume->fat),
                               (uint64_t)sectors * SECTOR_SIZE) != 0)
        return fat_fail(volume, STATUS_REFUSED, "its volume's two tables differ");
    return status;
}

/* Counts the entries of the table that name a cluster of the file. */
static enum status count_names(struct search *search)
{
    struct fat_volume *volume = search->volume;
    uint64_t read_at = UINT64_MAX;
    uint32_t names = 0;

    for (uint32_t cluster = 2; cluster < volume->clusters + 2; cluster++) {
        uint32_t entry;
        enum status status = fat_read_entry(volume, cluster, &entry);

        if (status == OK && volume->fat_at != read_at)
            status = compare_tables(search, volume->data, volume->second);
        if (status != OK)
            return status;
        read_at = volume->fat_at;
        names += is_of_file(search, entry);
    }
    volume->data_at = UINT64_MAX; /* its frame was used above */
    return names + 1 == search->file->found ? OK : fat_fail(volume, STATUS_REFUSED, crossed);
}

/* Judges one entry; a directory waits from now on. */
static enum status search_entry(struct search *search, const struct fat_entry *entry)
{
    struct fat_volume *volume = search->volume;

    if (entry->place == search->own_place && entry->read_only)
        return fat_fail(volume, STATUS_REFUSED, "its directory entry is read-only");
    if (entry->place == search->own_place)
        search->own_seen = entry->size == search->file->size &&
                           entry->first == fat_file_run(search->file, 0).cluster;
    else if (is_of_file(search, entry->first))
        return fat_fail(volume, STATUS_REFUSED, crossed);
    if (!entry->directory || entry->first == 0)
        return OK;
    if (search->waiting_count == WAITING_MAX)
        return fat_fail(volume, STATUS_LIMIT, "its volume has too many directories");
    search->waiting[search->waiting_count++] = entry->first;
    return OK;
}

/* Reads one directory. */
static enum status search_directory(struct search *search, uint32_t first)
{
    struct fat_directory at = fat_directory_begin(first);
    struct fat_entry entry;
    enum status status;

    at.behind_end = true;
    while ((status = fat_directory_next(search->volume, &at, &entry)) == OK) {
        status = search_entry(search, &entry);
        if (status != OK)
            return status;
    }
    if (status != STATUS_NOT_FOUND)
        return status;
    if (at.entries > search->entries_left)
        return fat_fail(search->volume, STATUS_REFUSED, "its volume's directories are a loop");
    search->entries_left -= at.entries;
    return OK;
}

/* Directories with more entries than all clusters have are a loop. */
static enum status search_directories(struct search *search)
{
    const struct fat_volume *volume = search->volume;
    enum status status = OK;

    search->entries_left =
        (uint64_t)volume->clusters * volume->cluster_sectors * FAT_ENTRIES_PER_SECTOR;
    search->waiting[0] = volume->root;
    search->waiting_count = 1;
    if (is_of_file(search, volume->root))
        return fat_fail(search->volume, STATUS_REFUSED, crossed);
    while (status == OK && search->waiting_count > 0)
        status = search_directory(search, search->waiting[--search->waiting_count]);
    if (status == OK && !search->own_seen)
        return fat_fail(search->volume, STATUS_REFUSED, "its directory entry has changed");
    return status;
}

enum status fat_file_alone(struct fat_volume *volume, const struct fat_file *file, uint64_t place)
{
    struct search search = {.volume = volume, .file = file, .own_place = place};
    enum status status;

    if (file->problem != NULL)
        return fat_fail(volume, STATUS_REFUSED, file->problem);
    if (!volume->mirrored && volume->tables > 1)
        return fat_fail(volume, STATUS_REFUSED, "one of its volume's tables alone is in use");
    if (file->found == 0)
        return OK;
    if (file->runs > FAT_WRITE_RUNS_MAX)
        return fat_fail(volume, STATUS_LIMIT, "it has too many pieces to be written");
    if (pmm_alloc_order(2, FRAME_KERNEL, FRAME_UNCLEARED, &search.block) != OK)
        return STATUS_NO_MEMORY;
    if (pmm_alloc(FRAME_KERNEL, FRAME_UNCLEARED, &search.list) != OK) {
        pmm_free_order(search.block, 2);
        return STATUS_NO_MEMORY;
    }
    search.runs = frame_pointer(search.block);
    search.waiting = frame_pointer(search.list);
    sort_runs(&search);
    status = follow_again(&search);
    if (status == OK)
        status = count_names(&search);
    if (status == OK)
        status = search_directories(&search);
    pmm_free(search.list);
    pmm_free_order(search.block, 2);
    return status;
}

/* prepare-swap: other opinions on a disk, from libblkid and libfdisk. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <blkid/blkid.h>
#include <libfdisk/libfdisk.h>

#include "ovmf/prepare-swap.h"

/* blkid_do_safeprobe(): more than one kind of content, and nothing. */
#define PROBE_AMBIVALENT (-2)
#define PROBE_NOTHING    1

/* Names the content that a probe has found. */
static const char *probed_name(blkid_probe probe)
{
    static char name[96];
    const char *type;

    if (blkid_probe_lookup_value(probe, "TYPE", &type, NULL) == 0)
        snprintf(name, sizeof(name), "%s (found by libblkid)", type);
    else if (blkid_probe_lookup_value(probe, "PTTYPE", &type, NULL) == 0)
        snprintf(name, sizeof(name), "a partition table of type %s (found by libblkid)", type);
    else
        snprintf(name, sizeof(name), "content that libblkid knows");
    return name;
}

const char *probe_content(int fd, uint64_t start, uint64_t size)
{
    blkid_probe probe = blkid_new_probe();
    const char *name = NULL;
    int found = -1;

    if (probe != NULL &&
        blkid_probe_set_device(probe, fd, (blkid_loff_t)start, (blkid_loff_t)size) == 0) {
        blkid_probe_enable_superblocks(probe, 1);
        blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE);
        blkid_probe_enable_partitions(probe, 1);
        found = blkid_do_safeprobe(probe);
    }
    if (found == PROBE_AMBIVALENT)
        name = "several kinds of content at once (found by libblkid)";
    else if (found == 0)
        name = probed_name(probe);
    else if (found != PROBE_NOTHING)
        quit(EXIT_SYSTEM, "libblkid cannot examine the content");
    blkid_free_probe(probe);
    return name;
}

/* Returns how one entry of libfdisk's table differs from our partition. */
static const char *compare_entry(struct fdisk_partition *entry,
                                 const struct gpt_partition *partition)
{
    struct fdisk_parttype *type = fdisk_partition_get_type(entry);
    char text[GPT_GUID_TEXT_SIZE];

    if (!fdisk_partition_has_end(entry) || fdisk_partition_get_end(entry) != partition->last_lba)
        return "libfdisk finds another end of the partition";
    gpt_guid_text(partition->unique, text);
    if (fdisk_partition_get_uuid(entry) == NULL ||
        strcasecmp(fdisk_partition_get_uuid(entry), text) != 0)
        return "libfdisk finds another GUID of the partition";
    gpt_guid_text(partition->type, text);
    if (type == NULL || fdisk_parttype_get_string(type) == NULL ||
        strcasecmp(fdisk_parttype_get_string(type), text) != 0)
        return "libfdisk finds another type of the partition";
    return NULL;
}

static const char *compare_entries(struct fdisk_context *context, const struct gpt *table,
                                   const struct gpt_partition *partition)
{
    const char *problem = "libfdisk does not find the partition";
    struct fdisk_partition *entry = NULL;
    unsigned used = 0;

    for (size_t i = 0; i < fdisk_get_npartitions(context); i++) {
        if (fdisk_get_partition(context, i, &entry) != 0)
            continue;
        if (fdisk_partition_is_used(entry)) {
            used++;
            if (fdisk_partition_has_start(entry) &&
                fdisk_partition_get_start(entry) == partition->first_lba)
                problem = compare_entry(entry, partition);
        }
        fdisk_unref_partition(entry);
        entry = NULL;
    }
    return problem == NULL && used != table->count ? "libfdisk finds another number of partitions"
                                                   : problem;
}

const char *probe_table(const char *path, const struct gpt *table,
                        const struct gpt_partition *partition)
{
    struct fdisk_context *context = fdisk_new_context();
    const char *problem = NULL;

    if (context == NULL || fdisk_assign_device(context, path, 1) != 0)
        quit(EXIT_SYSTEM, "libfdisk cannot read %s", path);
    if (partition == NULL)
        problem = fdisk_has_label(context) ? "a partition table (found by libfdisk)" : NULL;
    else if (!fdisk_has_label(context) || !fdisk_is_label(context, GPT))
        problem = "libfdisk finds no GUID partition table";
    else
        problem = compare_entries(context, table, partition);
    fdisk_deassign_device(context, 1);
    fdisk_unref_context(context);
    return problem;
}

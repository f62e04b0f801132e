/* The disk whose files may be written: found by its set, judged, and judged again at the end. */
#include "vmm/files/files_disk.h"

#include <stddef.h>

#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/ktap.h"
#include "swapdisk/ahci/ahci.h"
#include "swapdisk/block/grant.h"
#include "swapdisk/disks.h"
#include "swapdisk/validate.h"

static struct {
    struct files_disk disk;
    struct disk_finding finding; /* of the look that made the grant */
    bool open;
} files;

/* The block device must outlive the view. */
static struct disk_view files_view(struct block_device *block)
{
    const struct ahci_port *port = block->device;

    return (struct disk_view){
        .device = port, .identity = &port->identity, .source = block_source(block)};
}

/* Returns whether the disk has the set. */
static bool has_set(struct block_device *block, const uint8_t uuid[OPTION_UUID_SIZE])
{
    struct disk_view view = files_view(block);
    struct disk_finding finding = {.next = NULL};

    return validate_files(&view, &finding) == OK && finding.prepared &&
           memcmp(finding.header.set_uuid, uuid, OPTION_UUID_SIZE) == 0;
}

/* Returns why there is no disk to write, NULL with the one disk that has the set. */
static const char *find_disk(const uint8_t uuid[OPTION_UUID_SIZE], struct block_device *found)
{
    unsigned count = 0;

    for (unsigned i = 0; i < disks_count(); i++) {
        const struct block_device *block = disks_block(i);
        struct block_device candidate;

        if (block == NULL || !block_serves(block))
            continue;
        candidate = *block;
        if (!has_set(&candidate, uuid))
            continue;
        count++;
        *found = candidate;
    }
    if (!disks_all_examined())
        return "no memory to examine all disks";
    if (count > 1)
        return "several disks have the set";
    return count == 0 ? "no disk has the set" : NULL;
}

void files_disk_open(const struct options *options)
{
    struct disk_view view;
    const char *problem;

    CHECK(!files.open);
    if (!options->files)
        return;
    problem = find_disk(options->files_uuid, &files.disk.block);
    if (problem == NULL) {
        view = files_view(&files.disk.block);
        files.open = validate_files_grant(&view, options->files_uuid, &files.disk.grant,
                                          &files.finding) == OK;
        if (!files.open)
            problem = "the second look at its disk differs";
    }
    if (problem != NULL)
        ktap_note("files: none is written: %s", problem);
    else
        ktap_note("files: those of serial '%s' may be written: %s", files.disk.block.name,
                  files.finding.reason);
}

const struct files_disk *files_disk(void)
{
    return files.open ? &files.disk : NULL;
}

enum status files_disk_last_look(void)
{
    struct disk_finding now = {.next = NULL};
    struct disk_view view;
    enum status status;

    if (!files.open)
        return OK;
    view = files_view(&files.disk.block);
    status = validate_files_unchanged(&view, &files.finding, &now);
    if (status == OK)
        return OK;
    ktap_note("files: the last look: %s", now.reason);
    files_disk_close();
    return status;
}

void files_disk_close(void)
{
    files_grant_revoke();
    files.open = false;
    files.disk = (struct files_disk){.grant = NULL};
}

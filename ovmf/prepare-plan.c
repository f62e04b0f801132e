/* prepare-swap: plans the work on an image or device, and refuses it where it would do harm. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/hdreg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "ovmf/prepare-swap.h"

#define DEFAULT_SIZE   (256 * MIB)
#define DEFAULT_MODEL  "QEMU HARDDISK"
#define DEFAULT_SERIAL "QM00001"
#define SECOND_SERIAL  "QM00003" /* of the second port's disk */

/* Returns whether the partition has this program's header: then nothing is lost. */
static bool prepared_already(struct job *job)
{
    uint8_t page[SWAP_HEADER_SIZE];
    struct swap_header header;

    read_at(job->disk_fd, job->partition.first_lba * SECTOR_SIZE, page, sizeof(page));
    if (swap_header_decode(page, &header) != NULL ||
        memcmp(header.partition_guid, job->partition.unique, 16) != 0 ||
        memcmp(header.disk_guid, job->table.header.disk_guid, 16) != 0)
        return false;
    if (header.version >= 2 && bad_slots_decode(page, &header, &job->bad) != NULL)
        return false;
    /* Its slots may hold pages, which a later wipe must find. Version 1 does not say where. */
    job->used_slots = header.version == 1 ? UINT32_MAX : header.used_slots;
    return true;
}

/* Identifies an ATA disk from the words of IDENTIFY DEVICE, which Linux hands out. */
static bool ask_device(int fd, struct disk_identity *identity)
{
    uint16_t words[256];
    const char *why;

    _Static_assert(sizeof(struct hd_driveid) == sizeof(words), "IDENTIFY DEVICE");
    if (ioctl(fd, HDIO_GET_IDENTITY, words) != 0)
        return false;
    if (identity_decode(words, identity, &why) != OK)
        quit(EXIT_NOT_ALLOWED, "this disk cannot be used: %s", why);
    return true;
}

static void identify_device(struct job *job, const struct request *request)
{
    struct disk_identity *identity = &job->identity;
    uint64_t bytes = 0;
    int sector_size = 0;
    bool asked;

    if (ioctl(job->disk_fd, BLKGETSIZE64, &bytes) != 0 ||
        ioctl(job->disk_fd, BLKSSZGET, &sector_size) != 0)
        quit(EXIT_SYSTEM, "cannot ask for the disk's size: %s", strerror(errno));
    if (sector_size != SECTOR_SIZE)
        quit(EXIT_NOT_ALLOWED, "the disk has logical sectors of %d bytes, not 512", sector_size);
    asked = ask_device(job->disk_fd, identity);
    if (asked && identity->sectors != bytes / SECTOR_SIZE)
        quit(EXIT_NOT_ALLOWED, "the disk says %" PRIu64 " sectors, Linux says %" PRIu64,
             identity->sectors, bytes / SECTOR_SIZE);
    if (!asked && (request->serial == NULL || request->model == NULL))
        quit(EXIT_NOT_ALLOWED, "the disk does not tell its model and serial number: give both "
                               "with --model and --serial, as the disk has them on SATA");
    identity->sectors = bytes / SECTOR_SIZE;
    identity->sector_size = SECTOR_SIZE;
    if (request->model != NULL)
        set_identity_text(identity->model, IDENTITY_MODEL_SIZE, request->model, "model");
    if (request->serial != NULL)
        set_identity_text(identity->serial, IDENTITY_SERIAL_SIZE, request->serial, "serial number");
    if (identity->serial[0] == '\0')
        quit(EXIT_NOT_ALLOWED, "the disk has no serial number that the header could be bound to");
}

static void identify_image(struct job *job, const struct request *request, uint64_t bytes)
{
    job->identity =
        (struct disk_identity){.sectors = bytes / SECTOR_SIZE, .sector_size = SECTOR_SIZE};
    set_identity_text(job->identity.model, IDENTITY_MODEL_SIZE,
                      request->model != NULL ? request->model : DEFAULT_MODEL, "model");
    set_identity_text(job->identity.serial, IDENTITY_SERIAL_SIZE,
                      request->serial != NULL                              ? request->serial
                      : request->role == SET_MIRROR && request->member > 0 ? SECOND_SERIAL
                                                                           : DEFAULT_SERIAL,
                      "serial number");
    if (bytes % SECTOR_SIZE != 0 || bytes < IMAGE_LEAST)
        quit(EXIT_USAGE, "an image has at least 4 MiB and whole sectors, not %" PRIu64 " bytes",
             bytes);
}

/* Plans a table with one partition, up to the last whole 4 KiB. */
static void plan_table(struct job *job)
{
    uint64_t sectors = job->identity.sectors;
    struct gpt_header *header = &job->table.header;
    struct gpt_partition *partition = &job->partition;

    *header = (struct gpt_header){.my_lba = 1,
                                  .alternate_lba = sectors - 1,
                                  .first_usable = 2 + TABLE_SECTORS,
                                  .last_usable = sectors - 2 - TABLE_SECTORS,
                                  .entries_lba = 2,
                                  .entry_count = TABLE_ENTRIES,
                                  .entry_size = TABLE_ENTRY_SIZE};
    random_guid(header->disk_guid, 7);
    *partition = (struct gpt_partition){.first_lba = FIRST_PARTITION,
                                        .last_lba = (header->last_usable + 1) / 8 * 8 - 1};
    memcpy(partition->type, swap_partition_type, GPT_GUID_SIZE);
    random_guid(partition->unique, 7);
    job->make_table = true;
}

static void use_partition(struct job *job, const struct gpt_partition *partition)
{
    const char *problem = gpt_disagreement(&job->table);

    if (problem != NULL)
        quit(EXIT_NOT_ALLOWED, "the disk is not sound: %s", problem);
    if (partition->first_lba % SECTORS_PER_PAGE != 0 ||
        partition->last_lba - partition->first_lba < SWAP_SECTORS_MIN - 1)
        quit(EXIT_NOT_ALLOWED, "the partition must begin at a multiple of 4 KiB and have at least "
                               "12 KiB");
    if ((partition->attributes & ~GPT_ATTRIBUTES_ALLOWED) != 0)
        quit(EXIT_NOT_ALLOWED,
             "the partition has attributes that forbid writing (required, no block "
             "I/O, legacy-bootable, read-only): %016" PRIx64,
             partition->attributes);
    problem = probe_table(job->disk_path, &job->table, partition);
    if (problem != NULL)
        quit(EXIT_NOT_ALLOWED, "%s", problem);
    job->partition = *partition;
    if (!prepared_already(job))
        job->content = find_content(job->disk_fd, partition->first_lba * SECTOR_SIZE,
                                    (partition->last_lba - partition->first_lba + 1) * SECTOR_SIZE);
}

/* Plans an image or a whole disk: keeps a table with our partition, or makes a new one. */
static void plan_whole(struct job *job)
{
    uint64_t bytes = job->identity.sectors * SECTOR_SIZE;
    const struct gpt_partition *partition =
        read_table(job, &job->table) == OK ? find_partition(&job->table, 0) : NULL;

    if (partition != NULL && !job->block) {
        use_partition(job, partition);
        return;
    }
    job->content = find_content(job->disk_fd, 0, bytes);
    if (job->content == NULL)
        job->content = probe_table(job->disk_path, &job->table, NULL);
    if (job->content != NULL && job->block)
        quit(EXIT_NOT_ALLOWED, "this is a whole disk with %s on it: name a partition",
             job->content);
    plan_table(job);
}

void plan_image(struct job *job, const struct request *request, const struct stat *about)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (request->size != 0 && request->size != (uint64_t)about->st_size)
        quit(EXIT_USAGE, "the image exists with %jd bytes: --size is for a new one",
             (intmax_t)about->st_size);
    identify_image(job, request, (uint64_t)about->st_size);
    job->disk_fd = open(request->target, request->yes ? O_RDWR | O_CLOEXEC : O_RDONLY | O_CLOEXEC);
    if (job->disk_fd < 0)
        quit(EXIT_SYSTEM, "cannot open %s: %s", request->target, strerror(errno));
    /* QEMU locks its open images in this way. */
    if (request->yes && fcntl(job->disk_fd, F_OFD_SETLK, &lock) != 0)
        quit(EXIT_NOT_ALLOWED, "%s is in use", request->target);
    job->write_fd = request->yes ? job->disk_fd : -1;
    job->disk_path = request->target;
    plan_whole(job);
}

void plan_new_image(struct job *job, const struct request *request)
{
    /* A missing device is a mistake, not a request for a file in its place. */
    if (strncmp(request->target, "/dev/", 5) == 0)
        quit(EXIT_USAGE, "there is no device %s", request->target);
    job->create = true;
    identify_image(job, request, request->size != 0 ? request->size : DEFAULT_SIZE);
    plan_table(job);
    if (!request->yes)
        return;
    job->disk_fd = open(request->target, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (job->disk_fd < 0)
        quit(EXIT_SYSTEM, "cannot create %s: %s", request->target, strerror(errno));
    remove_at_quit(request->target);
    if (ftruncate(job->disk_fd, (off_t)(job->identity.sectors * SECTOR_SIZE)) != 0)
        quit(EXIT_SYSTEM, "cannot create %s: %s", request->target, strerror(errno));
    job->write_fd = job->disk_fd;
}

/* Reads a number from a file of sysfs. Returns false if there is no such file. */
static bool sysfs_number(dev_t device, const char *name, uint64_t *value)
{
    char path[PATH_MAX];
    FILE *file;
    bool read;

    snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s", major(device), minor(device), name);
    file = fopen(path, "re");
    if (file == NULL)
        return false;
    read = fscanf(file, "%" SCNu64, value) == 1;
    fclose(file);
    return read;
}

/* Opens the disk of a partition: its parent folder in sysfs has the name. */
static int open_parent(dev_t device, struct job *job)
{
    char path[PATH_MAX];
    char resolved[PATH_MAX];
    char *name;
    int fd;

    snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/..", major(device), minor(device));
    if (realpath(path, resolved) == NULL)
        quit(EXIT_SYSTEM, "cannot find the partition's disk: %s", strerror(errno));
    name = strrchr(resolved, '/') + 1;
    snprintf(path, sizeof(path), "/dev/%.200s", name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        quit(EXIT_SYSTEM, "cannot open %s: %s", path, strerror(errno));
    job->disk_path = strdup(path);
    if (job->disk_path == NULL)
        quit(EXIT_SYSTEM, "no memory");
    return fd;
}

/* Opens a device exclusively: Linux refuses while it is mounted, used as swap, or part of another
 * device. */
static int open_exclusively(const struct request *request)
{
    int fd = open(request->target, (request->yes ? O_RDWR : O_RDONLY) | O_EXCL | O_CLOEXEC);

    if (fd < 0)
        quit(errno == EBUSY ? EXIT_NOT_ALLOWED : EXIT_SYSTEM, "cannot take %s: %s", request->target,
             errno == EBUSY ? "it is mounted or in use" : strerror(errno));
    return fd;
}

void plan_device(struct job *job, const struct request *request, const struct stat *about)
{
    const struct gpt_partition *partition;
    uint64_t number;
    uint64_t start = 0;
    int own_fd = open_exclusively(request);

    job->block = true;
    job->write_fd = request->yes ? own_fd : -1;
    if (!sysfs_number(about->st_rdev, "partition", &number)) {
        job->disk_fd = own_fd;
        job->disk_path = request->target;
        identify_device(job, request);
        plan_whole(job);
        return;
    }
    if (!sysfs_number(about->st_rdev, "start", &start) || start == 0)
        quit(EXIT_SYSTEM, "cannot find where %s begins", request->target);
    job->disk_fd = open_parent(about->st_rdev, job);
    job->write_base = start * SECTOR_SIZE;
    identify_device(job, request);
    if (read_table(job, &job->table) != OK)
        quit(EXIT_NOT_ALLOWED, "the disk has no sound GUID partition table");
    partition = find_partition(&job->table, start);
    if (partition == NULL)
        quit(EXIT_NOT_ALLOWED, "the disk's partition table does not have this partition");
    if (memcmp(partition->type, swap_partition_type, GPT_GUID_SIZE) != 0) {
        char type[GPT_GUID_TEXT_SIZE];

        gpt_guid_text(swap_partition_type, type);
        quit(EXIT_NOT_ALLOWED,
             "the partition has another type; set it first, where it is sure that nothing on it "
             "is needed:\n  sgdisk --typecode=%" PRIu64 ":%s DISK",
             number, type);
    }
    use_partition(job, partition);
}

/* Plans the fields of version 2, with a log area of a sixteenth of the partition, at most 1 MiB. */
static void plan_version_2(struct job *job, const struct request *request)
{
    struct swap_header *header = &job->header;
    uint64_t sectors = header->last_lba - header->first_lba + 1;

    header->version = SWAP_HEADER_VERSION;
    header->kind = SET_SWAP;
    header->role = request->role;
    header->members = request->members;
    header->member = request->member;
    memcpy(header->group_uuid, request->group_uuid, 16);
    header->log_sectors =
        min_u64(sectors / 16, MIB / SECTOR_SIZE) / SECTORS_PER_PAGE * SECTORS_PER_PAGE;
    if (header->log_sectors > 0)
        header->log_first_lba =
            swap_second_header_lba(header->first_lba, header->last_lba) - header->log_sectors;
    header->used_slots = (uint32_t)min_u64(job->used_slots, swap_header_slots(header));
}

void plan_header(struct job *job, const struct request *request)
{
    struct swap_header *header = &job->header;
    char host[48] = "";

    *header = (struct swap_header){.first_lba = job->partition.first_lba,
                                   .last_lba = job->partition.last_lba,
                                   .disk_sectors = job->identity.sectors,
                                   .sector_size = SECTOR_SIZE,
                                   .generation = 1,
                                   .state = SWAP_STATE_CLEAN,
                                   .prepared_at = (uint64_t)time(NULL)};
    if (request->has_uuid)
        memcpy(header->set_uuid, request->uuid, 16);
    else
        random_guid(header->set_uuid, 6);
    plan_version_2(job, request);
    memcpy(header->partition_guid, job->partition.unique, 16);
    memcpy(header->disk_guid, job->table.header.disk_guid, 16);
    memcpy(header->model, job->identity.model, IDENTITY_MODEL_SIZE);
    memcpy(header->serial, job->identity.serial, IDENTITY_SERIAL_SIZE);
    if (gethostname(host, sizeof(host) - 1) != 0)
        host[0] = '\0';
    for (char *at = host; *at != '\0'; at++)
        *at = *at >= ' ' && *at <= '~' ? *at : '?';
    snprintf(header->prepared_by, sizeof(header->prepared_by), "prepare-swap on %s", host);
}

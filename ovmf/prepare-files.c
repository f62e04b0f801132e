/* Prepares a FAT32 volume in a partition of Faultline's files type for writing, on Linux. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "ovmf/prepare-swap.h"
#include "swapdisk/format/little.h"

/* Fields of the boot sector (FAT specification, 3.1 and 3.3): offsets. */
#define BOOT_BYTES_PER_SECTOR 11
#define BOOT_RESERVED         14
#define BOOT_ROOT_ENTRIES     17
#define BOOT_TABLE_SECTORS_16 22
#define BOOT_TOTAL_32         32
#define BOOT_TABLE_SECTORS_32 36
#define BOOT_SIGNATURE        510

const char program_name[] = "prepare-files";

static const char usage[] =
    "usage: prepare-files [options] TARGET\n"
    "\n"
    "Allows Faultline to write files of a FAT32 volume in place, with files=UUID. TARGET is a raw\n"
    "image file, or a whole disk such as /dev/sdb, with one partition of the type\n"
    "0184FFB1-AA25-4421-BEC5-E1E948B35D54, and in it a volume that leaves the partition's last\n"
    "8 KiB free:\n"
    "  mkfs.fat -F 32 --offset FIRST_SECTOR IMAGE KIB\n"
    "Writes two headers: into reserved sectors 16 to 23 of the volume, and behind its end. "
    "Without\n"
    "--yes it only says what it would do.\n"
    "\n"
    "  --yes            do it\n"
    "  --serial TEXT    serial number and model of the disk, to which the headers are bound; an\n"
    "  --model TEXT     image takes QEMU's defaults, \"QM00001\" and \"QEMU HARDDISK\"\n"
    "  --uuid UUID      the set's UUID, random where not given\n"
    "  --help           this text\n"
    "\n"
    "exit status: 0 done, or a dry run that would be; 1 refused; 2 wrong usage; 3 system error\n";

static struct request files_arguments(int argc, char **argv)
{
    static const struct option options[] = {
        {"yes", no_argument, NULL, 'y'},         {"serial", required_argument, NULL, 'n'},
        {"model", required_argument, NULL, 'm'}, {"uuid", required_argument, NULL, 'u'},
        {"help", no_argument, NULL, 'h'},        {NULL, 0, NULL, 0}};
    static const uint8_t nil[16];
    struct request request = {.members = 1};
    int letter;

    while ((letter = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (letter) {
        case 'y': request.yes = true; break;
        case 'n': request.serial = optarg; break;
        case 'm': request.model = optarg; break;
        case 'u':
            request.has_uuid = true;
            if (!swap_uuid_parse(optarg, request.uuid) || memcmp(request.uuid, nil, 16) == 0)
                quit(EXIT_USAGE, "not a UUID of a set: %s", optarg);
            break;
        case 'h':
            fputs(usage, stdout);
            flush_words(UNCHANGED);
            exit(EXIT_DONE);
        default: fputs(usage, stderr); exit(EXIT_USAGE);
        }
    }
    if (optind != argc - 1) {
        fputs(usage, stderr);
        exit(EXIT_USAGE);
    }
    request.target = argv[optind];
    return request;
}

/* Opens the target alone: Linux refuses a disk of which a partition is mounted, and QEMU locks its
 * open images in this way. */
static void open_target(struct job *job, const struct request *request)
{
    struct flock lock = {.l_type = request->yes ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};
    uint64_t bytes = 0;
    struct stat about;

    if (stat(request->target, &about) != 0)
        quit(EXIT_SYSTEM, "cannot look at %s: %s", request->target, strerror(errno));
    job->block = S_ISBLK(about.st_mode);
    if (!job->block && !S_ISREG(about.st_mode))
        quit(EXIT_USAGE, "%s is neither an image nor a disk", request->target);
    job->disk_fd = open(request->target,
                        (request->yes ? O_RDWR : O_RDONLY) | O_CLOEXEC | (job->block ? O_EXCL : 0));
    if (job->disk_fd < 0)
        quit(errno == EBUSY ? EXIT_NOT_ALLOWED : EXIT_SYSTEM, "cannot open %s: %s", request->target,
             errno == EBUSY ? "it is mounted or in use" : strerror(errno));
    if (!job->block && fcntl(job->disk_fd, F_OFD_SETLK, &lock) != 0)
        quit(EXIT_NOT_ALLOWED, "%s is in use", request->target);
    if (job->block && ioctl(job->disk_fd, BLKGETSIZE64, &bytes) != 0)
        quit(EXIT_SYSTEM, "cannot ask for the disk's size: %s", strerror(errno));
    if (job->block && (request->serial == NULL || request->model == NULL))
        quit(EXIT_USAGE, "a disk needs --serial and --model, as it has them on SATA");
    job->write_fd = job->disk_fd;
    job->identity.sectors = (job->block ? bytes : (uint64_t)about.st_size) / SECTOR_SIZE;
    job->identity.sector_size = SECTOR_SIZE;
    set_identity_text(job->identity.serial, IDENTITY_SERIAL_SIZE,
                      request->serial != NULL ? request->serial : "QM00001", "serial number");
    set_identity_text(job->identity.model, IDENTITY_MODEL_SIZE,
                      request->model != NULL ? request->model : "QEMU HARDDISK", "model");
}

static void find_files_partition(struct job *job)
{
    const struct gpt_partition *found = NULL;
    const char *problem;

    if (read_table(job, &job->table) != OK)
        quit(EXIT_NOT_ALLOWED, "there is no sound GUID partition table");
    problem = gpt_disagreement(&job->table);
    if (problem != NULL)
        quit(EXIT_NOT_ALLOWED, "the disk is not sound: %s", problem);
    for (unsigned i = 0; i < job->table.count; i++) {
        if (memcmp(job->table.partitions[i].type, files_partition_type, GPT_GUID_SIZE) != 0)
            continue;
        if (found != NULL)
            quit(EXIT_NOT_ALLOWED, "there are several partitions of files");
        found = &job->table.partitions[i];
    }
    if (found == NULL)
        quit(EXIT_NOT_ALLOWED, "there is no partition of the type of files");
    if (found->first_lba % SECTORS_PER_PAGE != 0 ||
        found->last_lba - found->first_lba < SWAP_SECTORS_MIN - 1 ||
        (found->attributes & ~GPT_ATTRIBUTES_ALLOWED) != 0)
        quit(EXIT_NOT_ALLOWED, "the partition begins at no multiple of 4 KiB, is too small, or has "
                               "attributes that forbid writing");
    job->partition = *found;
}

/* Refuses a place of a header that has other content than a header of this partition. */
static void look_at_place(const struct job *job, uint64_t lba)
{
    static const uint8_t zeroes[SWAP_HEADER_SIZE];
    uint8_t page[SWAP_HEADER_SIZE];
    struct swap_header old;

    read_at(job->disk_fd, lba * SECTOR_SIZE, page, sizeof(page));
    if (memcmp(page, zeroes, sizeof(page)) != 0 &&
        (swap_header_decode(page, &old) != NULL || old.kind != SET_FILES ||
         memcmp(old.partition_guid, job->partition.unique, 16) != 0))
        quit(EXIT_NOT_ALLOWED, "sector %" PRIu64 " has data of an unknown kind", lba);
}

/* The volume must leave both places of the headers alone. */
static void judge_volume(const struct job *job)
{
    uint64_t first = job->partition.first_lba;
    uint64_t second = swap_second_header_lba(first, job->partition.last_lba);
    uint8_t boot[SECTOR_SIZE];

    read_at(job->disk_fd, first * SECTOR_SIZE, boot, sizeof(boot));
    if (get_le16(boot + BOOT_SIGNATURE) != 0xaa55 ||
        get_le16(boot + BOOT_BYTES_PER_SECTOR) != SECTOR_SIZE ||
        get_le16(boot + BOOT_ROOT_ENTRIES) != 0 || get_le16(boot + BOOT_TABLE_SECTORS_16) != 0 ||
        get_le32(boot + BOOT_TABLE_SECTORS_32) == 0 || get_le32(boot + BOOT_TOTAL_32) == 0)
        quit(EXIT_NOT_ALLOWED, "the partition does not begin with a FAT32 volume");
    if (get_le16(boot + BOOT_RESERVED) < FILES_HEADER_SECTOR + SWAP_HEADER_SECTORS)
        quit(EXIT_NOT_ALLOWED, "the volume has %u reserved sectors, less than 24",
             get_le16(boot + BOOT_RESERVED));
    if (get_le32(boot + BOOT_TOTAL_32) > second - first)
        quit(EXIT_NOT_ALLOWED,
             "the volume has %" PRIu32 " sectors; with the second header behind its end, %" PRIu64
             " are free",
             get_le32(boot + BOOT_TOTAL_32), second - first);
    look_at_place(job, first + FILES_HEADER_SECTOR);
    look_at_place(job, second);
}

static void plan_files_header(struct job *job, const struct request *request)
{
    struct swap_header *header = &job->header;

    *header = (struct swap_header){.version = SWAP_HEADER_VERSION,
                                   .kind = SET_FILES,
                                   .members = 1,
                                   .first_lba = job->partition.first_lba,
                                   .last_lba = job->partition.last_lba,
                                   .disk_sectors = job->identity.sectors,
                                   .sector_size = SECTOR_SIZE,
                                   .generation = 1,
                                   .state = SWAP_STATE_CLEAN,
                                   .prepared_at = (uint64_t)time(NULL),
                                   .prepared_by = "prepare-files"};
    if (request->has_uuid)
        memcpy(header->set_uuid, request->uuid, 16);
    else
        random_guid(header->set_uuid, 6);
    memcpy(header->partition_guid, job->partition.unique, 16);
    memcpy(header->disk_guid, job->table.header.disk_guid, 16);
    memcpy(header->model, job->identity.model, IDENTITY_MODEL_SIZE);
    memcpy(header->serial, job->identity.serial, IDENTITY_SERIAL_SIZE);
}

/* Writes a header, and reads it back. */
static void write_header(const struct job *job, uint64_t lba)
{
    static const struct bad_slots none = {.generation = 1};
    uint8_t page[SWAP_HEADER_SIZE];
    uint8_t back[SWAP_HEADER_SIZE];
    struct swap_header found;

    swap_header_encode(page, &job->header);
    bad_slots_encode(page, &job->header, &none);
    if (pwrite(job->write_fd, page, sizeof(page), (off_t)(lba * SECTOR_SIZE)) !=
            (ssize_t)sizeof(page) ||
        fsync(job->write_fd) != 0)
        quit(EXIT_SYSTEM, "cannot write a header at sector %" PRIu64 ": %s", lba, strerror(errno));
    read_at(job->disk_fd, lba * SECTOR_SIZE, back, sizeof(back));
    if (memcmp(page, back, sizeof(page)) != 0 || swap_header_decode(back, &found) != NULL ||
        swap_header_misplaced(&found, &job->table, &job->partition, &job->identity) != NULL)
        quit(EXIT_SYSTEM, "the header at sector %" PRIu64 " reads back differently", lba);
}

int main(int argc, char **argv)
{
    struct request request;
    static struct job job;
    uint64_t first;
    uint64_t second;
    char text[37];

    check_streams();
    request = files_arguments(argc, argv);
    make_frames();
    open_target(&job, &request);
    find_files_partition(&job);
    judge_volume(&job);
    plan_files_header(&job, &request);
    first = job.partition.first_lba + FILES_HEADER_SECTOR;
    second = swap_second_header_lba(job.partition.first_lba, job.partition.last_lba);
    swap_uuid_text(job.header.set_uuid, text);
    printf("disk:      model \"%s\", serial \"%s\", %" PRIu64 " sectors of 512 bytes\n"
           "partition: sectors %" PRIu64 " to %" PRIu64 "\n"
           "set:       %s\n"
           "will write headers at sectors %" PRIu64 " and %" PRIu64 "\n",
           job.identity.model, job.identity.serial, job.identity.sectors, job.partition.first_lba,
           job.partition.last_lba, text, first, second);
    if (!request.yes) {
        printf("This was a dry run: nothing was changed. --yes does it.\n");
        flush_words(UNCHANGED);
        return EXIT_DONE;
    }
    flush_words(UNCHANGED);
    write_header(&job, second);
    write_header(&job, first);
    printf("done: files=%s\n", text);
    flush_words("done");
    return EXIT_DONE;
}

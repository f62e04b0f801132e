/* Prepares a partition, a blank disk or an image file as Faultline's swap space, on Linux. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/hdreg.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "cpu/machine.h"
#include "ovmf/signatures.h"
#include "pmm/frame.h"
#include "swapdisk/checksum.h"
#include "swapdisk/header.h"

enum { EXIT_DONE, EXIT_NOT_ALLOWED, EXIT_USAGE, EXIT_SYSTEM };

/* What a table written here looks like: 128 entries, one partition from 1 MiB on. */
#define TABLE_ENTRIES    128U
#define TABLE_ENTRY_SIZE 128U
#define TABLE_SECTORS    (TABLE_ENTRIES * TABLE_ENTRY_SIZE / SECTOR_SIZE)
#define FIRST_PARTITION  2048U
#define IMAGE_LEAST      (4 * MIB)

/* How much is zeroed at the start, and looked at on both ends. */
#define EDGE MIB

#define DEFAULT_SIZE   (256 * MIB)
#define DEFAULT_MODEL  "QEMU HARDDISK"
#define DEFAULT_SERIAL "QM00001"

struct wish {
    bool yes;
    bool force;
    uint64_t size; /* bytes of a new image; 0 = not given */
    const char *serial;
    const char *model;
    bool has_uuid;
    uint8_t uuid[16];
    const char *target;
};

/* What is to be done to what. Offsets are within disk_fd, which is the image or the whole disk. */
struct job {
    int disk_fd;         /* reads of the table, and of the partition */
    int write_fd;        /* the partition's own device, or the same as disk_fd; -1 in a dry run */
    uint64_t write_base; /* the byte of the disk at which write_fd begins */
    bool create;         /* the image does not exist yet */
    bool make_table;     /* a new partition table is written */
    bool block;          /* a device, not a file */
    const char *content; /* what was found there; NULL = nothing that would be lost */
    struct disk_identity identity;
    struct gpt table;
    struct gpt_partition partition;
    struct swap_header header;
};

static const char usage[] =
    "usage: prepare-swap [options] TARGET\n"
    "\n"
    "Prepares TARGET as swap space for Faultline. Without --yes it only says what it would do.\n"
    "TARGET is one of\n"
    "  an image file    a raw disk image; it is created where it does not exist, gets a GUID\n"
    "                   partition table with one partition, or keeps the one it has\n"
    "  a partition      a block device such as /dev/sdb3, of Faultline's partition type\n"
    "  a blank disk     a block device without any content\n"
    "\n"
    "  --yes            do it\n"
    "  --force          go on where there is other content; the disk's serial number must then\n"
    "                   be typed in. What is mounted or in use is refused all the same\n"
    "  --size SIZE      size of a new image, with K, M or G behind the number (256M)\n"
    "  --serial TEXT    serial number of the disk that the header is bound to\n"
    "  --model TEXT     its model\n"
    "                   both are asked of a device itself; an image takes QEMU's defaults,\n"
    "                   \"QM00001\" and \"QEMU HARDDISK\"\n"
    "  --uuid UUID      the set's UUID, random where not given\n"
    "  --help           this text\n"
    "\n"
    "exit status: 0 done, or a dry run that would be; 1 refused; 2 wrong usage; 3 system error\n";

static _Noreturn void quit(int status, const char *format, ...) PRINTF_LIKE(2, 3);

static _Noreturn void quit(int status, const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "prepare-swap: ");
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    exit(status);
}

/* What the shared code asks of the machine: a panic's end, and a number that changes. */
_Noreturn void panic_at(const char *file, int line, const char *format, ...)
{
    char message[256];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    quit(EXIT_SYSTEM, "%s:%d: %s", file, line, message);
}

uint64_t machine_ticks(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static void random_bytes(uint8_t *bytes, size_t size)
{
    if (getrandom(bytes, size, 0) != (ssize_t)size)
        quit(EXIT_SYSTEM, "no random numbers: %s", strerror(errno));
}

/* A random GUID (RFC 4122, version 4); the version's byte differs between text and disk order. */
static void random_guid(uint8_t guid[16], unsigned version_byte)
{
    random_bytes(guid, 16);
    guid[version_byte] = (uint8_t)((guid[version_byte] & 0x0f) | 0x40);
    guid[8] = (uint8_t)((guid[8] & 0x3f) | 0x80);
}

static void read_at(int fd, uint64_t offset, void *buffer, size_t size)
{
    ssize_t done = pread(fd, buffer, size, (off_t)offset);

    if (done != (ssize_t)size)
        quit(EXIT_SYSTEM, "cannot read %zu bytes at %" PRIu64 ": %s", size, offset,
             done < 0 ? strerror(errno) : "the end was met");
}

static void write_at(const struct job *job, uint64_t offset, const void *buffer, size_t size)
{
    ssize_t done = pwrite(job->write_fd, buffer, size, (off_t)(offset - job->write_base));

    if (done != (ssize_t)size)
        quit(EXIT_SYSTEM, "cannot write %zu bytes at %" PRIu64 ": %s", size, offset,
             done < 0 ? strerror(errno) : "the end was met");
}

static enum status read_sectors(void *context, uint64_t lba, unsigned sectors, struct pfn frame)
{
    const struct job *job = context;
    size_t size = (size_t)sectors * SECTOR_SIZE;

    return pread(job->disk_fd, frame_pointer(frame), size, (off_t)(lba * SECTOR_SIZE)) ==
                   (ssize_t)size
               ? OK
               : STATUS_IO;
}

static enum status read_table(struct job *job, struct gpt *table)
{
    struct sector_source source = {read_sectors, job, job->identity.sectors};

    return gpt_read(&source, table, (struct pfn){0}, (struct pfn){1});
}

/* Two frames for reading, where the shared code looks for physical memory. */
static void make_frames(void)
{
    void *wanted = (void *)(uintptr_t)DIRECT_MAP_BASE;

    if (mmap(wanted, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != wanted)
        quit(EXIT_SYSTEM, "no memory: %s", strerror(errno));
}

static bool same_bytes_at(int fd, uint64_t offset, const char *bytes, size_t size)
{
    char found[16];

    return pread(fd, found, size, (off_t)offset) == (ssize_t)size &&
           memcmp(found, bytes, size) == 0;
}

static const char *find_signature(int fd, uint64_t start, uint64_t size)
{
    for (size_t i = 0; i < ARRAY_COUNT(signatures); i++) {
        const struct signature *sought = &signatures[i];
        uint64_t at = sought->offset;

        if (sought->from_end) {
            if (at > size)
                continue;
            at = (size - at) / sought->align * sought->align;
        }
        if (at + sought->size <= size && same_bytes_at(fd, start + at, sought->bytes, sought->size))
            return sought->name;
    }
    return NULL;
}

static bool range_is_zero(int fd, uint64_t start, uint64_t size)
{
    static uint8_t buffer[64 * 1024];

    for (uint64_t at = 0; at < size; at += sizeof(buffer)) {
        size_t piece = (size_t)min_u64(size - at, sizeof(buffer));

        read_at(fd, start + at, buffer, piece);
        for (size_t i = 0; i < piece; i++) {
            if (buffer[i] != 0)
                return false;
        }
    }
    return true;
}

/* What stands in a range of the disk, in words; NULL when both of its ends are blank. */
static const char *find_content(int fd, uint64_t start, uint64_t size)
{
    const char *name = find_signature(fd, start, size);
    uint64_t edge = min_u64(EDGE, size);

    if (name != NULL)
        return name;
    if (!range_is_zero(fd, start, edge) || !range_is_zero(fd, start + size - edge, edge))
        return "data of an unknown kind";
    return NULL;
}

/* Whether the partition already is what this program makes: then nothing is lost. */
static bool prepared_already(const struct job *job)
{
    uint8_t page[SWAP_HEADER_SIZE];
    struct swap_header header;

    read_at(job->disk_fd, job->partition.first_lba * SECTOR_SIZE, page, sizeof(page));
    return swap_header_decode(page, &header) == NULL &&
           memcmp(header.partition_guid, job->partition.unique, 16) == 0 &&
           memcmp(header.disk_guid, job->table.header.disk_guid, 16) == 0;
}

static void set_identity_text(char *field, size_t size, const char *text, const char *what)
{
    size_t length = strlen(text);

    if (length == 0 || length >= size || text[0] == ' ' || text[length - 1] == ' ')
        quit(EXIT_USAGE, "the %s must have 1 to %zu characters, none a blank at its ends", what,
             size - 1);
    for (size_t i = 0; i < length; i++) {
        if (text[i] < ' ' || text[i] > '~')
            quit(EXIT_USAGE, "the %s must be printable ASCII", what);
    }
    memcpy(field, text, length + 1);
}

/* Asks an ATA disk itself; Linux hands out the words of IDENTIFY DEVICE. */
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

static void identify_device(struct job *job, const struct wish *wish)
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
    if (!asked && (wish->serial == NULL || wish->model == NULL))
        quit(EXIT_NOT_ALLOWED, "the disk does not tell its model and serial number: give both "
                               "with --model and --serial, as the disk has them on SATA");
    identity->sectors = bytes / SECTOR_SIZE;
    identity->sector_size = SECTOR_SIZE;
    if (wish->model != NULL)
        set_identity_text(identity->model, IDENTITY_MODEL_SIZE, wish->model, "model");
    if (wish->serial != NULL)
        set_identity_text(identity->serial, IDENTITY_SERIAL_SIZE, wish->serial, "serial number");
    if (identity->serial[0] == '\0')
        quit(EXIT_NOT_ALLOWED, "the disk has no serial number that the header could be bound to");
}

static void identify_image(struct job *job, const struct wish *wish, uint64_t bytes)
{
    job->identity =
        (struct disk_identity){.sectors = bytes / SECTOR_SIZE, .sector_size = SECTOR_SIZE};
    set_identity_text(job->identity.model, IDENTITY_MODEL_SIZE,
                      wish->model != NULL ? wish->model : DEFAULT_MODEL, "model");
    set_identity_text(job->identity.serial, IDENTITY_SERIAL_SIZE,
                      wish->serial != NULL ? wish->serial : DEFAULT_SERIAL, "serial number");
    if (bytes % SECTOR_SIZE != 0 || bytes < IMAGE_LEAST)
        quit(EXIT_USAGE, "an image has at least 4 MiB and whole sectors, not %" PRIu64 " bytes",
             bytes);
}

/* A table with one partition, up to the last whole 4 KiB. */
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
                                        .last_lba = (header->last_usable + 1) / 8 * 8 - 1,
                                        .name = "Faultline swap"};
    memcpy(partition->type, swap_partition_type, GPT_GUID_SIZE);
    random_guid(partition->unique, 7);
    job->make_table = true;
}

/* Takes the one partition of our type, or the one that begins at first_lba (0: any). */
static const struct gpt_partition *find_partition(const struct gpt *table, uint64_t first_lba)
{
    const struct gpt_partition *found = NULL;

    for (unsigned i = 0; i < table->count; i++) {
        const struct gpt_partition *partition = &table->partitions[i];
        bool ours = memcmp(partition->type, swap_partition_type, GPT_GUID_SIZE) == 0;

        if (first_lba != 0 ? partition->first_lba != first_lba : !ours)
            continue;
        if (found != NULL)
            quit(EXIT_NOT_ALLOWED, "there are several partitions of Faultline's type");
        found = partition;
    }
    return found;
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
    job->partition = *partition;
    if (!prepared_already(job))
        job->content = find_content(job->disk_fd, partition->first_lba * SECTOR_SIZE,
                                    (partition->last_lba - partition->first_lba + 1) * SECTOR_SIZE);
}

/* An image or a whole disk: its own table with our partition, or a new one. */
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
    if (job->content != NULL && job->block)
        quit(EXIT_NOT_ALLOWED, "this is a whole disk with %s on it: name a partition",
             job->content);
    plan_table(job);
}

static void plan_image(struct job *job, const struct wish *wish, const struct stat *about)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (wish->size != 0 && wish->size != (uint64_t)about->st_size)
        quit(EXIT_USAGE, "the image exists with %jd bytes: --size is for a new one",
             (intmax_t)about->st_size);
    identify_image(job, wish, (uint64_t)about->st_size);
    job->disk_fd = open(wish->target, wish->yes ? O_RDWR | O_CLOEXEC : O_RDONLY | O_CLOEXEC);
    if (job->disk_fd < 0)
        quit(EXIT_SYSTEM, "cannot open %s: %s", wish->target, strerror(errno));
    /* QEMU holds locks of this kind on the images that it has open. */
    if (wish->yes && fcntl(job->disk_fd, F_OFD_SETLK, &lock) != 0)
        quit(EXIT_NOT_ALLOWED, "%s is in use", wish->target);
    job->write_fd = wish->yes ? job->disk_fd : -1;
    plan_whole(job);
}

static void plan_new_image(struct job *job, const struct wish *wish)
{
    /* A device that is not there is a mistake, not the wish for a file in its place. */
    if (strncmp(wish->target, "/dev/", 5) == 0)
        quit(EXIT_USAGE, "there is no device %s", wish->target);
    job->create = true;
    identify_image(job, wish, wish->size != 0 ? wish->size : DEFAULT_SIZE);
    plan_table(job);
    if (!wish->yes)
        return;
    job->disk_fd = open(wish->target, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (job->disk_fd < 0 ||
        ftruncate(job->disk_fd, (off_t)(job->identity.sectors * SECTOR_SIZE)) != 0)
        quit(EXIT_SYSTEM, "cannot create %s: %s", wish->target, strerror(errno));
    job->write_fd = job->disk_fd;
}

/* A number in a file of sysfs; false when there is no such file. */
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

/* Opens the disk that a partition is on: its parent folder in sysfs names it. */
static int open_parent(dev_t device)
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
    return fd;
}

/* Exclusive opening fails while a device is mounted, used as swap, or part of another device. */
static int open_exclusively(const struct wish *wish)
{
    int fd = open(wish->target, (wish->yes ? O_RDWR : O_RDONLY) | O_EXCL | O_CLOEXEC);

    if (fd < 0)
        quit(errno == EBUSY ? EXIT_NOT_ALLOWED : EXIT_SYSTEM, "cannot take %s: %s", wish->target,
             errno == EBUSY ? "it is mounted or in use" : strerror(errno));
    return fd;
}

static void plan_device(struct job *job, const struct wish *wish, const struct stat *about)
{
    const struct gpt_partition *partition;
    uint64_t number;
    uint64_t start = 0;
    int own_fd = open_exclusively(wish);

    job->block = true;
    job->write_fd = wish->yes ? own_fd : -1;
    if (!sysfs_number(about->st_rdev, "partition", &number)) {
        job->disk_fd = own_fd;
        identify_device(job, wish);
        plan_whole(job);
        return;
    }
    if (!sysfs_number(about->st_rdev, "start", &start) || start == 0)
        quit(EXIT_SYSTEM, "cannot find where %s begins", wish->target);
    job->disk_fd = open_parent(about->st_rdev);
    job->write_base = start * SECTOR_SIZE;
    identify_device(job, wish);
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

static void plan_header(struct job *job, const struct wish *wish)
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
    if (wish->has_uuid)
        memcpy(header->set_uuid, wish->uuid, 16);
    else
        random_guid(header->set_uuid, 6);
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

static void say_plan(const struct job *job, const struct wish *wish)
{
    uint64_t first = job->partition.first_lba;
    uint64_t last = job->partition.last_lba;
    uint64_t bytes = (last - first + 1) * SECTOR_SIZE;
    char text[37];

    printf("target:    %s\n", wish->target);
    printf("disk:      model \"%s\", serial \"%s\", %" PRIu64 " sectors of 512 bytes\n",
           job->identity.model, job->identity.serial, job->identity.sectors);
    gpt_guid_text(job->partition.unique, text);
    printf("partition: sectors %" PRIu64 " to %" PRIu64 " (%" PRIu64 " KiB), GUID %s\n", first,
           last, bytes / KIB, text);
    printf("content:   %s\n", job->content != NULL ? job->content : "nothing that is needed");
    swap_uuid_text(job->header.set_uuid, text);
    printf("set:       %s\n", text);
    if (job->create)
        printf("will create the file with %" PRIu64 " bytes\n",
               job->identity.sectors * SECTOR_SIZE);
    if (job->make_table)
        printf("will zero bytes 0 to %" PRIu64 " and write a partition table with one partition "
               "at both ends of the disk\n",
               EDGE - 1);
    printf("will zero bytes %" PRIu64 " to %" PRIu64 "\n", first * SECTOR_SIZE,
           first * SECTOR_SIZE + min_u64(EDGE, bytes) - 1);
    printf("will write headers at bytes %" PRIu64 " and %" PRIu64 ", for %" PRIu64
           " pages of swap space\n",
           first * SECTOR_SIZE, swap_second_header_lba(first, last) * SECTOR_SIZE,
           swap_slot_count(first, last));
    fflush(stdout);
}

/* Other content is overwritten only by someone who can read the label of the disk. */
static void ask_for_serial(const struct job *job, const struct wish *wish)
{
    char line[128];

    if (job->content == NULL)
        return;
    if (!wish->force)
        quit(EXIT_NOT_ALLOWED, "refused, since there is %s: --force would destroy it",
             job->content);
    if (!wish->yes)
        return;
    fprintf(stderr,
            "This destroys %s on %s.\nType the disk's serial number to go on: ", job->content,
            wish->target);
    if (fgets(line, sizeof(line), stdin) == NULL)
        line[0] = '\0';
    line[strcspn(line, "\n")] = '\0';
    if (strcmp(line, job->identity.serial) != 0)
        quit(EXIT_NOT_ALLOWED, "that is not the serial number: nothing was changed");
}

/* Zeroes the start of a range, so that no mark of its former content is left there. */
static void zero_edge(const struct job *job, uint64_t offset, uint64_t size)
{
    static const uint8_t zeroes[EDGE];

    write_at(job, offset, zeroes, (size_t)min_u64(EDGE, size));
}

static void write_table(const struct job *job)
{
    static uint8_t entries[TABLE_ENTRIES * TABLE_ENTRY_SIZE];
    struct gpt_header header = job->table.header;
    uint8_t sector[SECTOR_SIZE];
    uint64_t sectors = job->identity.sectors;

    zero_edge(job, 0, FIRST_PARTITION * SECTOR_SIZE);
    gpt_entry_encode(entries, &job->partition);
    header.entries_crc = checksum_crc32(0, entries, sizeof(entries));
    write_at(job, 2 * SECTOR_SIZE, entries, sizeof(entries));
    write_at(job, (sectors - 1 - TABLE_SECTORS) * SECTOR_SIZE, entries, sizeof(entries));
    gpt_header_encode(sector, &header);
    write_at(job, SECTOR_SIZE, sector, sizeof(sector));
    header.my_lba = sectors - 1;
    header.alternate_lba = 1;
    header.entries_lba = sectors - 1 - TABLE_SECTORS;
    gpt_header_encode(sector, &header);
    write_at(job, header.my_lba * SECTOR_SIZE, sector, sizeof(sector));
    gpt_mbr_encode(sector, sectors);
    write_at(job, 0, sector, sizeof(sector));
}

static void write_partition(const struct job *job)
{
    uint8_t page[SWAP_HEADER_SIZE];
    uint64_t first = job->partition.first_lba;
    uint64_t last = job->partition.last_lba;

    zero_edge(job, first * SECTOR_SIZE, (last - first + 1) * SECTOR_SIZE);
    swap_header_encode(page, &job->header);
    write_at(job, swap_second_header_lba(first, last) * SECTOR_SIZE, page, sizeof(page));
    write_at(job, first * SECTOR_SIZE, page, sizeof(page));
}

/* Reads everything back and judges it as the application will. */
static void prove(struct job *job)
{
    uint64_t places[2] = {
        job->partition.first_lba,
        swap_second_header_lba(job->partition.first_lba, job->partition.last_lba)};
    const struct gpt_partition *partition = NULL;
    const char *problem = NULL;

    if (read_table(job, &job->table) == OK)
        partition = find_partition(&job->table, job->partition.first_lba);
    if (partition == NULL || gpt_disagreement(&job->table) != NULL)
        quit(EXIT_SYSTEM, "the partition table did not arrive");
    for (unsigned i = 0; i < 2 && problem == NULL; i++) {
        uint8_t page[SWAP_HEADER_SIZE];
        struct swap_header found;

        read_at(job->disk_fd, places[i] * SECTOR_SIZE, page, sizeof(page));
        problem = swap_header_decode(page, &found);
        if (problem == NULL)
            problem = swap_header_misplaced(&found, &job->table, partition, &job->identity);
    }
    if (problem != NULL)
        quit(EXIT_SYSTEM, "the headers did not arrive: %s", problem);
}

static void perform(struct job *job)
{
    if (job->make_table)
        write_table(job);
    write_partition(job);
    if (fsync(job->write_fd) != 0)
        quit(EXIT_SYSTEM, "cannot make it durable: %s", strerror(errno));
    /* What was read through the disk's own device must not come from its old cache. */
    if (job->block && job->disk_fd != job->write_fd)
        posix_fadvise(job->disk_fd, 0, 0, POSIX_FADV_DONTNEED);
    prove(job);
    if (job->block && job->make_table && ioctl(job->write_fd, BLKRRPART) != 0 && errno != EINVAL)
        fprintf(stderr, "prepare-swap: Linux still uses the old partition table: %s\n",
                strerror(errno));
}

static uint64_t parse_size(const char *text)
{
    char *end;
    uint64_t unit = 1;
    uint64_t value;

    errno = 0;
    value = strtoull(text, &end, 10);
    switch (*end) {
    case 'K': unit = KIB; break;
    case 'M': unit = MIB; break;
    case 'G': unit = GIB; break;
    default: break;
    }
    if (unit != 1)
        end++;
    if (end == text || *end != '\0' || text[0] == '-' || errno != 0 || value == 0 ||
        value > UINT64_C(1) << 43 || value * unit > UINT64_C(1) << 46)
        quit(EXIT_USAGE, "not a size: %s", text);
    return value * unit;
}

static struct wish parse_arguments(int argc, char **argv)
{
    static const struct option options[] = {
        {"yes", no_argument, NULL, 'y'},         {"force", no_argument, NULL, 'f'},
        {"size", required_argument, NULL, 's'},  {"serial", required_argument, NULL, 'n'},
        {"model", required_argument, NULL, 'm'}, {"uuid", required_argument, NULL, 'u'},
        {"help", no_argument, NULL, 'h'},        {NULL, 0, NULL, 0}};
    struct wish wish = {0};
    int letter;

    while ((letter = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (letter) {
        case 'y': wish.yes = true; break;
        case 'f': wish.force = true; break;
        case 's': wish.size = parse_size(optarg); break;
        case 'n': wish.serial = optarg; break;
        case 'm': wish.model = optarg; break;
        case 'u':
            wish.has_uuid = true;
            if (!swap_uuid_parse(optarg, wish.uuid))
                quit(EXIT_USAGE, "not a UUID: %s", optarg);
            break;
        case 'h': fputs(usage, stdout); exit(EXIT_DONE);
        default: fputs(usage, stderr); exit(EXIT_USAGE);
        }
    }
    if (optind != argc - 1) {
        fputs(usage, stderr);
        exit(EXIT_USAGE);
    }
    wish.target = argv[optind];
    return wish;
}

int main(int argc, char **argv)
{
    struct wish wish = parse_arguments(argc, argv);
    static struct job job;
    struct stat about;

    job.disk_fd = job.write_fd = -1;
    make_frames();
    if (stat(wish.target, &about) != 0) {
        if (errno != ENOENT)
            quit(EXIT_SYSTEM, "cannot look at %s: %s", wish.target, strerror(errno));
        plan_new_image(&job, &wish);
    } else if (S_ISREG(about.st_mode)) {
        plan_image(&job, &wish, &about);
    } else if (S_ISBLK(about.st_mode)) {
        plan_device(&job, &wish, &about);
    } else {
        quit(EXIT_USAGE, "%s is neither a file nor a disk", wish.target);
    }
    plan_header(&job, &wish);
    say_plan(&job, &wish);
    ask_for_serial(&job, &wish);
    if (!wish.yes) {
        printf("This was a dry run: nothing was changed. --yes does it.\n");
        return EXIT_DONE;
    }
    perform(&job);
    printf("done\n");
    return EXIT_DONE;
}

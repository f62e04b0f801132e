/* prepare-swap: finds the content of a disk, and writes table and headers. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "ovmf/prepare-swap.h"
#include "ovmf/signatures.h"
#include "pmm/frame.h"
#include "swapdisk/format/checksum.h"

/* Pages of a device that are read between its edges. */
#define SAMPLES 16384U

static void random_bytes(uint8_t *bytes, size_t size)
{
    if (getrandom(bytes, size, 0) != (ssize_t)size)
        quit(EXIT_SYSTEM, "no random numbers: %s", strerror(errno));
}

void random_guid(uint8_t guid[16], unsigned version_byte)
{
    random_bytes(guid, 16);
    guid[version_byte] = (uint8_t)((guid[version_byte] & 0x0f) | 0x40);
    guid[8] = (uint8_t)((guid[8] & 0x3f) | 0x80);
}

void set_identity_text(char *field, size_t size, const char *text, const char *what)
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

void read_at(int fd, uint64_t offset, void *buffer, size_t size)
{
    ssize_t done = pread(fd, buffer, size, (off_t)offset);

    if (done != (ssize_t)size)
        quit(EXIT_SYSTEM, "cannot read %zu bytes at %" PRIu64 ": %s", size, offset,
             done < 0 ? strerror(errno) : "end of the file or disk");
}

static const char *why(void)
{
    return errno == ENOSPC || errno == EDQUOT ? "disk full" : strerror(errno);
}

static void write_at(const struct job *job, uint64_t offset, const void *buffer, size_t size)
{
    ssize_t done = pwrite(job->write_fd, buffer, size, (off_t)(offset - job->write_base));

    if (done >= 0 && done != (ssize_t)size)
        errno = ENOSPC; /* a file grows until the disk is full */
    if (done != (ssize_t)size)
        quit(EXIT_SYSTEM, "cannot write %zu bytes at %" PRIu64 ": %s", size, offset, why());
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

enum status read_table(struct job *job, struct gpt *table)
{
    struct sector_source source = {read_sectors, job, job->identity.sectors, 0};

    return gpt_read(&source, table, (struct pfn){0}, (struct pfn){1});
}

void make_frames(void)
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

/* Returns whether all data of a file in a range is zero; its holes are not read. */
static bool file_is_zero(int fd, uint64_t start, uint64_t size)
{
    uint64_t end = start + size;

    for (uint64_t at = start; at < end;) {
        off_t data = lseek(fd, (off_t)at, SEEK_DATA);
        off_t hole;

        if (data < 0 && errno == ENXIO)
            return true; /* no data behind here */
        hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
        if (hole < 0)
            return range_is_zero(fd, at, end - at); /* a file system that does not tell */
        if ((uint64_t)data >= end)
            return true;
        at = min_u64((uint64_t)hole, end);
        if (!range_is_zero(fd, (uint64_t)data, at - (uint64_t)data))
            return false;
    }
    return true;
}

/* Returns whether both edges of a range of a device are zero, and a page in each of SAMPLES equal
 * parts. To read all of a large disk takes hours. */
static bool device_is_zero(int fd, uint64_t start, uint64_t size)
{
    uint64_t edge = min_u64(EDGE, size);
    uint64_t step = round_up(size / SAMPLES + 1, PAGE_SIZE);

    if (!range_is_zero(fd, start, edge) || !range_is_zero(fd, start + size - edge, edge))
        return false;
    for (uint64_t at = 0; at < size; at += step) {
        if (!range_is_zero(fd, start + at, min_u64(size - at, PAGE_SIZE)))
            return false;
    }
    return true;
}

const char *find_content(int fd, uint64_t start, uint64_t size)
{
    const char *name = find_signature(fd, start, size);
    struct stat about;

    if (name == NULL)
        name = probe_content(fd, start, size);
    if (name != NULL)
        return name;
    if (fstat(fd, &about) != 0)
        quit(EXIT_SYSTEM, "cannot look at the disk: %s", strerror(errno));
    if (S_ISREG(about.st_mode) ? file_is_zero(fd, start, size) : device_is_zero(fd, start, size))
        return NULL;
    return "data of an unknown kind";
}

const struct gpt_partition *find_partition(const struct gpt *table, uint64_t first_lba)
{
    const struct gpt_partition *found = NULL;

    for (unsigned i = 0; i < table->count; i++) {
        const struct gpt_partition *partition = &table->partitions[i];
        bool ours = memcmp(partition->type, swap_partition_type, GPT_GUID_SIZE) == 0;

        if (first_lba != 0 ? partition->first_lba != first_lba : !ours)
            continue;
        if (found != NULL)
            quit(EXIT_NOT_ALLOWED, "the disk has several partitions of Faultline's type");
        found = partition;
    }
    return found;
}

/* Reserves the space of an image file that will be written, so that a full disk is found before the
 * first change. Holes keep reading as zeroes. */
static void reserve(const struct job *job, uint64_t offset, uint64_t size)
{
    errno = job->block ? 0 : posix_fallocate(job->write_fd, (off_t)offset, (off_t)size);
    if (errno == ENOSPC || errno == EDQUOT)
        quit(EXIT_SYSTEM, "disk full: nothing was changed");
}

static void reserve_all(const struct job *job)
{
    const struct swap_header *header = &job->header;
    uint64_t first = header->first_lba;
    uint64_t second = swap_second_header_lba(first, header->last_lba);
    uint64_t partition = (header->last_lba - first + 1) * SECTOR_SIZE;

    if (job->make_table) {
        reserve(job, 0, FIRST_PARTITION * SECTOR_SIZE);
        reserve(job, (header->disk_sectors - 1 - TABLE_SECTORS) * SECTOR_SIZE,
                (TABLE_SECTORS + 1) * SECTOR_SIZE);
    }
    reserve(job, first * SECTOR_SIZE, min_u64(EDGE, partition));
    reserve(job, (second - header->log_sectors) * SECTOR_SIZE,
            (header->log_sectors + SWAP_HEADER_SECTORS) * SECTOR_SIZE);
}

/* Zeroes the start of a range, so that no signature of its former content remains. */
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
    gpt_entry_encode(entries, &job->partition, 0, "Faultline swap");
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
    gpt_mbr_encode(sector, sectors, 0);
    write_at(job, 0, sector, sizeof(sector));
}

static void write_partition(const struct job *job)
{
    uint8_t page[SWAP_HEADER_SIZE];
    uint64_t first = job->partition.first_lba;
    uint64_t last = job->partition.last_lba;

    zero_edge(job, first * SECTOR_SIZE, (last - first + 1) * SECTOR_SIZE);
    for (uint64_t at = 0; at < job->header.log_sectors * SECTOR_SIZE; at += EDGE)
        zero_edge(job, job->header.log_first_lba * SECTOR_SIZE + at,
                  job->header.log_sectors * SECTOR_SIZE - at);
    swap_header_encode(page, &job->header);
    bad_slots_encode(page, &job->header, &job->bad);
    write_at(job, swap_second_header_lba(first, last) * SECTOR_SIZE, page, sizeof(page));
    write_at(job, first * SECTOR_SIZE, page, sizeof(page));
}

/* Reads table and headers back and judges them as the application will. */
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
        quit(EXIT_SYSTEM, "the partition table reads back differently");
    for (unsigned i = 0; i < 2 && problem == NULL; i++) {
        uint8_t page[SWAP_HEADER_SIZE];
        struct swap_header found;
        struct bad_slots list;

        read_at(job->disk_fd, places[i] * SECTOR_SIZE, page, sizeof(page));
        problem = swap_header_decode(page, &found);
        if (problem == NULL)
            problem = bad_slots_decode(page, &found, &list);
        if (problem == NULL)
            problem = swap_header_misplaced(&found, &job->table, partition, &job->identity);
    }
    if (problem != NULL)
        quit(EXIT_SYSTEM, "the headers read back differently: %s", problem);
}

void perform(struct job *job)
{
    reserve_all(job);
    if (job->make_table)
        write_table(job);
    write_partition(job);
    if (fsync(job->write_fd) != 0)
        quit(EXIT_SYSTEM, "cannot make it durable: %s", why());
    /* Reads after this must not come from the old cache of the whole disk's device. */
    if (job->block && job->disk_fd != job->write_fd)
        posix_fadvise(job->disk_fd, 0, 0, POSIX_FADV_DONTNEED);
    prove(job);
    if (job->block && job->make_table && ioctl(job->write_fd, BLKRRPART) != 0 && errno != EINVAL)
        fprintf(stderr, "prepare-swap: Linux still uses the old partition table: %s\n",
                strerror(errno));
}

/* Prints the log that a run has left in the log area of a prepared partition, on Linux. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/fs.h>

#include "ovmf/prepare-swap.h"
#include "swapdisk/format/log_page.h"

const char program_name[] = "read-log";

static const char usage[] =
    "usage: read-log [--run N] TARGET\n"
    "\n"
    "Prints the log of the newest run, or of run N, from the log area of a prepared partition.\n"
    "TARGET is an image file, a disk, or the partition itself. Nothing is written to it.\n"
    "\n"
    "exit status: 0 done; 1 no log, or one with gaps; 2 wrong usage; 3 system error\n";

/* The log area of the target, and its pages that are sound. */
static struct {
    uint8_t (*pages)[LOG_PAGE_SIZE];
    struct log_page *logs;
    size_t count;
    unsigned damaged;
    unsigned foreign;
} area;

static uint64_t size_of(int fd)
{
    uint64_t bytes = 0;
    struct stat about;

    if (fstat(fd, &about) != 0)
        quit(EXIT_SYSTEM, "cannot look at the target: %s", strerror(errno));
    if (S_ISBLK(about.st_mode) && ioctl(fd, BLKGETSIZE64, &bytes) == 0)
        return bytes;
    return (uint64_t)about.st_size;
}

/* Finds the header of the target, a partition or a disk that has one. Returns the byte at which the
 * partition begins. */
static uint64_t find_header(int fd, struct swap_header *header)
{
    static struct job job;
    const struct gpt_partition *partition = NULL;
    uint8_t page[SWAP_HEADER_SIZE];
    uint64_t start = 0;
    const char *problem;

    job.disk_fd = fd;
    job.identity.sectors = size_of(fd) / SECTOR_SIZE;
    if (read_table(&job, &job.table) == OK)
        partition = find_partition(&job.table, 0);
    if (partition != NULL)
        start = partition->first_lba * SECTOR_SIZE;
    read_at(fd, start, page, sizeof(page));
    problem = swap_header_decode(page, header);
    if (problem == NULL && header->log_sectors == 0)
        problem = "its header names no log area";
    if (problem != NULL)
        quit(EXIT_NOT_ALLOWED, "no log: %s", problem);
    return start;
}

static void read_pages(int fd, uint64_t offset, const struct swap_header *header)
{
    size_t pages = header->log_sectors / SECTORS_PER_PAGE;

    area.pages = calloc(pages, LOG_PAGE_SIZE);
    area.logs = calloc(pages, sizeof(*area.logs));
    if (area.pages == NULL || area.logs == NULL)
        quit(EXIT_SYSTEM, "no memory");
    for (size_t i = 0; i < pages; i++) {
        struct log_page *log = &area.logs[area.count];

        read_at(fd, offset + i * LOG_PAGE_SIZE, area.pages[i], LOG_PAGE_SIZE);
        if (!log_page_decode(area.pages[i], log))
            area.damaged += log_page_damaged(area.pages[i]);
        else if (memcmp(log->set_uuid, header->set_uuid, 16) != 0)
            area.foreign++;
        else
            area.count++;
    }
}

static int by_run_and_sequence(const void *a, const void *b)
{
    const struct log_page *one = a;
    const struct log_page *other = b;

    if (one->run != other->run)
        return one->run < other->run ? -1 : 1;
    return one->sequence < other->sequence ? -1 : one->sequence > other->sequence;
}

/* Prints the pages of a run, the newest one for 0. Returns how many pages are missing between
 * them. */
static uint64_t print_run(uint64_t run)
{
    uint64_t missing = 0;
    uint64_t next = 0;

    qsort(area.logs, area.count, sizeof(*area.logs), by_run_and_sequence);
    if (run == 0 && area.count > 0)
        run = area.logs[area.count - 1].run;
    for (size_t i = 0; i < area.count; i++) {
        const struct log_page *log = &area.logs[i];

        if (log->run != run || (next > 0 && log->sequence < next))
            continue;
        if (log->sequence > next) {
            fflush(stdout);
            fprintf(stderr, "%s: pages %" PRIu64 " to %" PRIu64 " of run %" PRIu64 " are missing\n",
                    program_name, next, log->sequence - 1, run);
            missing += log->sequence - next;
        }
        fwrite(log->text, 1, log->length, stdout);
        next = log->sequence + 1;
    }
    if (next == 0)
        quit(EXIT_NOT_ALLOWED, "no log: the log area has no page of %s", run == 0 ? "a run" : "it");
    return missing;
}

static uint64_t parse_run(const char *text)
{
    char *end;
    uint64_t run = strtoull(text, &end, 10);

    if (text[0] < '1' || text[0] > '9' || *end != '\0')
        quit(EXIT_USAGE, "not the number of a run: %s", text);
    return run;
}

int main(int argc, char **argv)
{
    bool has_run = argc == 4 && strcmp(argv[1], "--run") == 0;
    struct swap_header header;
    uint64_t missing;
    uint64_t start;
    int fd;

    check_streams();
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        flush_words("no log was read");
        return EXIT_DONE;
    }
    if (argc != 2 && !has_run) {
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
    make_frames();
    fd = open(argv[argc - 1], O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        quit(EXIT_SYSTEM, "cannot open %s: %s", argv[argc - 1], strerror(errno));
    start = find_header(fd, &header);
    read_pages(fd, start + (header.log_first_lba - header.first_lba) * SECTOR_SIZE, &header);
    missing = print_run(has_run ? parse_run(argv[2]) : 0);
    if (area.damaged > 0)
        fprintf(stderr, "%s: %u pages are damaged\n", program_name, area.damaged);
    flush_words("the log was read");
    return missing > 0 || area.damaged > 0 ? EXIT_NOT_ALLOWED : EXIT_DONE;
}

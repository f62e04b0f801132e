/*
 * What the parts of prepare-swap share: the hint of the command line, and the job that it becomes.
 *
 * State of a job: planned (nothing is written) -> said -> performed -> proved. Every error ends the
 * program with one of its exit statuses and a sentence.
 */
#ifndef OVMF_PREPARE_SWAP_H
#define OVMF_PREPARE_SWAP_H

#include <sys/stat.h>

#include "lib/print.h"
#include "swapdisk/format/header.h"

enum { EXIT_DONE, EXIT_NOT_ALLOWED, EXIT_USAGE, EXIT_SYSTEM };

/* What a table written here looks like: 128 entries, one partition from 1 MiB on. */
#define TABLE_ENTRIES    128U
#define TABLE_ENTRY_SIZE 128U
#define TABLE_SECTORS    (TABLE_ENTRIES * TABLE_ENTRY_SIZE / SECTOR_SIZE)
#define FIRST_PARTITION  2048U
#define IMAGE_LEAST      (4 * MIB)

/* How much is zeroed at the start, and looked at on both ends. */
#define EDGE MIB

struct hint {
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

/* Ends the program. */
_Noreturn void quit(int status, const char *format, ...) PRINTF_LIKE(2, 3);

/* ---- the disk (prepare-disk.c); what cannot be read or written ends the program ---- */

/* Before anything else: frames for reading, where the shared code looks for physical memory. */
void make_frames(void);

/* A random GUID (RFC 4122, version 4); the version's byte differs between text and disk order. */
void random_guid(uint8_t guid[16], unsigned version_byte);

void read_at(int fd, uint64_t offset, void *buffer, size_t size);
MUST_USE enum status read_table(struct job *job, struct gpt *table);

/* The partition that begins at first_lba, or for 0 the one of our type; NULL: none. */
const struct gpt_partition *find_partition(const struct gpt *table, uint64_t first_lba);

/* What stands in a range of the disk, in words; NULL when both of its ends are blank. */
const char *find_content(int fd, uint64_t start, uint64_t size);

/* Writes what the job says, reads it back, and judges it as the application will. */
void perform(struct job *job);

/* ---- the plan (prepare-plan.c): changes nothing but that a new image is created ---- */

void plan_image(struct job *job, const struct hint *hint, const struct stat *about);
void plan_new_image(struct job *job, const struct hint *hint);
void plan_device(struct job *job, const struct hint *hint, const struct stat *about);

/* After one of these: the header that is to be written. */
void plan_header(struct job *job, const struct hint *hint);

#endif

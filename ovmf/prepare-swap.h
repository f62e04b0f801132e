/*
 * Shared by the files of prepare-swap: the request of the command line, and the job made from it.
 *
 * State of a job: planned (nothing is written) -> printed -> done -> verified. Each error ends
 * the program with one of its exit statuses and a sentence.
 */
#ifndef OVMF_PREPARE_SWAP_H
#define OVMF_PREPARE_SWAP_H

#include <sys/stat.h>

#include "lib/print.h"
#include "swapdisk/format/header.h"

enum { EXIT_DONE, EXIT_NOT_ALLOWED, EXIT_USAGE, EXIT_SYSTEM };

/* The table that this program writes: 128 entries, one partition from 1 MiB on. */
#define TABLE_ENTRIES    128U
#define TABLE_ENTRY_SIZE 128U
#define TABLE_SECTORS    (TABLE_ENTRIES * TABLE_ENTRY_SIZE / SECTOR_SIZE)
#define FIRST_PARTITION  2048U
#define IMAGE_LEAST      (4 * MIB)

/* Bytes that are zeroed at the start, and read at both ends. */
#define EDGE MIB

struct request {
    bool yes;
    bool force;
    uint64_t size; /* bytes of a new image; 0: not given */
    const char *serial;
    const char *model;
    bool has_uuid;
    uint8_t uuid[16];
    enum set_role role;
    bool has_group;
    uint8_t group_uuid[16];
    uint32_t members; /* 1: alone */
    uint32_t member;
    const char *target;
    const char *other; /* the second half of the mirror; NULL: no mirror is made */
    const char *other_serial;
    const char *other_model;
};

/* The planned work. Offsets are within disk_fd, the image or the whole disk. */
struct job {
    int disk_fd; /* for reads of table and partition */
    const char *disk_path;
    int write_fd;        /* the partition's own device, or the same as disk_fd; -1 in a dry run */
    uint64_t write_base; /* the byte of the disk at which write_fd begins */
    bool create;         /* the image does not exist yet */
    bool make_table;     /* a new partition table is written */
    bool block;          /* a device, not a file */
    uint32_t used_slots; /* that earlier runs may have left pages in */
    const char *content; /* content that would be lost; NULL: none */
    struct disk_identity identity;
    struct gpt table;
    struct gpt_partition partition;
    struct swap_header header;
    struct bad_slots bad; /* kept from an earlier preparation */
};

/* ---- ending (prepare-end.c) ---- */

/* The program's name, for its messages; each program defines it. */
extern const char program_name[];

/* Ends the program with a message, and removes a file that it has created. */
_Noreturn void quit(int status, const char *format, ...) PRINTF_LIKE(2, 3);

/* Makes quit() remove this file, one of at most two, until keep_created(). */
void remove_at_quit(const char *path);
void keep_created(void);

/* Ends the program if a standard stream is closed: its number would be that of the disk, which then
 * took the program's words. Call it before anything is opened. */
void check_streams(void);

#define UNCHANGED "nothing was changed"

/* Writes out the words on standard output. If that fails, ends the program with a message that
 * begins with the state of the work. */
void flush_words(const char *state);

/* ---- other opinions (prepare-probe.c) ---- */

/* Returns the name of the content that libblkid finds in a range, NULL for none. */
const char *probe_content(int fd, uint64_t start, uint64_t size);

/* Returns how libfdisk's reading of the partition table differs from ours, NULL if it does not.
 * With `partition` NULL we found no table. */
const char *probe_table(const char *path, const struct gpt *table,
                        const struct gpt_partition *partition);

/* ---- the disk (prepare-disk.c); an error of reading or writing ends the program ---- */

/* Makes the frames that the shared code reads into. Call it first. */
void make_frames(void);

/* Makes a random GUID (RFC 4122, version 4). The byte of the version differs between text and disk
 * order. */
void random_guid(uint8_t guid[16], unsigned version_byte);

/* Copies a serial number or model from the command line into a field of `size` bytes. `what` names
 * it in the message that ends the program if it is empty, too long, or not printable. */
void set_identity_text(char *field, size_t size, const char *text, const char *what);

void read_at(int fd, uint64_t offset, void *buffer, size_t size);
MUST_USE enum status read_table(struct job *job, struct gpt *table);

/* Returns the partition that begins at first_lba, or for 0 the one of our type; NULL for none. */
const struct gpt_partition *find_partition(const struct gpt *table, uint64_t first_lba);

/* Returns the kind of content of a range of the disk; NULL if it is blank. Reads all of a file; of
 * a device the edges and a page in each of 16,384 equal parts. */
const char *find_content(int fd, uint64_t start, uint64_t size);

/* Performs the job, reads the result back, and judges it as the application will. */
void perform(struct job *job);

/* ---- the plan (prepare-plan.c): changes nothing, except that it creates a new image ---- */

void plan_image(struct job *job, const struct request *request, const struct stat *about);
void plan_new_image(struct job *job, const struct request *request);
void plan_device(struct job *job, const struct request *request, const struct stat *about);

/* Plans the header, after one of the above. */
void plan_header(struct job *job, const struct request *request);

#endif

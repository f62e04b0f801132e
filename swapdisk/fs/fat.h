/*
 * FAT32 volumes: where the files of a volume are. Nothing here writes.
 *
 * A volume is opened once, and its boot sector is checked. A file is found by its path, and its
 * chain of clusters becomes a list of runs in memory, which is all that later reads of the file
 * need (rule N7). All metadata is read twice (swapdisk/format/verified_read.h), since a volume may
 * be anything: hostile, damaged, or on a failing disk. The work is bounded by the size of the
 * volume, not by its content.
 *
 * A file whose chain is unsound is read as far as the chain goes, and may not be written (rule F4).
 *
 * Units: sectors of 512 bytes, clusters numbered from 2 as on the disk, bytes of a file. Owns:
 * three frames from fat_open to fat_close, the frames of a file's runs from fat_file_open to
 * fat_file_close. Fails with: STATUS_UNSUPPORTED (not a FAT32 volume), STATUS_CORRUPT (a FAT32
 * volume that contradicts itself), both with a sentence; STATUS_NOT_FOUND; STATUS_LIMIT (more runs
 * than the list holds); STATUS_NO_MEMORY; the status of a read. Context: thread; waits for the disk
 * with the source's bound. One thread at a time uses a volume; any number use an open file.
 * Spec: Microsoft FAT specification, 30 August 2005; UEFI 2.10, 13.3.
 */
#ifndef SWAPDISK_FS_FAT_H
#define SWAPDISK_FS_FAT_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/status.h"
#include "swapdisk/format/verified_read.h"

/* A long name has at most 255 units of UTF-16, each at most 3 bytes of UTF-8. */
#define FAT_NAME_SIZE (255U * 3 + 1)

/* Largest directory, of any content: 65,536 entries (FAT specification, 6.4). */
#define FAT_DIRECTORY_ENTRIES_MAX 65536U

#define FAT_RUNS_PER_FRAME ((unsigned)(PAGE_SIZE / sizeof(struct fat_run)))
#define FAT_RUN_FRAMES_MAX ((unsigned)(PAGE_SIZE / sizeof(struct pfn)))
#define FAT_RUNS_MAX       (FAT_RUNS_PER_FRAME * FAT_RUN_FRAMES_MAX)

/* Runs of a file that may be written. */
#define FAT_WRITE_RUNS_MAX 2048U

struct fat_volume {
    struct sector_source source;
    uint64_t first_lba;     /* of the volume */
    uint64_t fat_lba;       /* of the table that is in use */
    uint64_t data_lba;      /* of cluster 2 */
    uint64_t total_sectors; /* sectors of 512 bytes, as all below */
    uint32_t reserved_sectors;
    uint64_t fat_sectors; /* of one table */
    uint32_t cluster_sectors;
    uint32_t clusters; /* numbered 2 to clusters + 1 */
    uint32_t root;
    unsigned tables;
    bool mirrored;   /* all tables are equal */
    struct pfn fat;  /* the part of the table that was read last */
    struct pfn data; /* likewise of a directory */
    struct pfn second;
    uint64_t fat_at; /* sector that each begins with; UINT64_MAX: nothing was read */
    uint64_t data_at;
    const char *reason; /* reason of a failure */
};

/* An entry of a directory, decoded. */
struct fat_entry {
    char name[FAT_NAME_SIZE]; /* UTF-8; the short name if there is no sound long one */
    char short_name[13];
    bool directory;
    bool read_only;
    uint32_t first; /* first cluster; 0: none */
    uint32_t size;  /* bytes; 0 for a directory */
    uint64_t place; /* byte of the disk at which the entry is: no other file has it */
};

/* A place in a directory, from fat_directory_begin on. */
struct fat_directory {
    uint32_t cluster; /* 0: its end */
    uint32_t entry;   /* in the cluster */
    uint32_t entries; /* read so far */
    bool behind_end;  /* entries behind the end mark count, since some systems read them */
};

/* Clusters that follow one another on the disk, up to the next run. */
struct fat_run {
    uint32_t at;      /* number of its first cluster in the file, from 0 */
    uint32_t cluster; /* on the volume */
};

struct fat_file {
    uint64_t data_lba;
    uint32_t cluster_sectors;
    uint32_t size;       /* bytes */
    uint32_t clusters;   /* that the size needs */
    uint32_t found;      /* of them that the chain has */
    uint32_t runs;       /* in the list */
    struct pfn list;     /* frame of the frames of runs; PFN_NONE: no run */
    const char *problem; /* NULL: the chain is sound; otherwise why it must not be written */
};

/* ---- the volume (volume.c) ---- */

/* Opens the volume in [first_lba, last_lba] of the source. On failure `reason` may say why. */
MUST_USE enum status fat_open(struct fat_volume *volume, const struct sector_source *source,
                              uint64_t first_lba, uint64_t last_lba);
void fat_close(struct fat_volume *volume);

/* ---- directories (directory.c) ---- */

/* Begins at the first entry of a directory, by its first cluster. */
struct fat_directory fat_directory_begin(uint32_t first);

/* Reads the next entry; volume labels, `.` and `..` are left out. STATUS_NOT_FOUND: the end. */
MUST_USE enum status fat_directory_next(struct fat_volume *volume, struct fat_directory *at,
                                        struct fat_entry *entry);

/* Finds a file or directory by its path from the root, whose parts are separated by `/` or `\`.
 * ASCII letters of either case are equal. */
MUST_USE enum status fat_find(struct fat_volume *volume, const char *path, struct fat_entry *entry);

/* ---- files (chain.c) ---- */

/* Reads a file's chain. OK with a chain that is unsound: `problem` says so. */
MUST_USE enum status fat_file_open(struct fat_volume *volume, const struct fat_entry *entry,
                                   struct fat_file *file);
void fat_file_close(struct fat_file *file);

/* Returns a run of the list. */
struct fat_run fat_file_run(const struct fat_file *file, uint32_t index);

/* Finds a sector of the file: its place on the disk, and how many of the file's sectors follow one
 * another there, the first one included. STATUS_CORRUPT: the chain ends before it. STATUS_RANGE:
 * the file does. */
MUST_USE enum status fat_file_place(const struct fat_file *file, uint32_t sector, uint64_t *lba,
                                    uint32_t *sectors);

/* Returns OK if the clusters of an open file, whose directory entry is at the place, are its own:
 * no other chain and no other entry has one of them, and the volume's tables agree (rule F4).
 * STATUS_REFUSED, STATUS_LIMIT: `reason` of the volume says why not. Reads the whole table and all
 * directories (alone.c). */
MUST_USE enum status fat_file_alone(struct fat_volume *volume, const struct fat_file *file,
                                    uint64_t place);

#endif

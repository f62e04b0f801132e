/*
 * Open files of a disk: their pages, read without a grant, and written under one.
 *
 * A file is found on any FAT32 volume of a block device. From then on its run list is in memory
 * (rule N7), and reading a page allocates nothing: pieces of a page that are apart on the disk go
 * through one frame that the file owns.
 *
 * Units: pages of 4 KiB from the file's start. Owns: two frames and the run list, until
 * disk_file_close; the block device must outlive it. Fails with: STATUS_NOT_FOUND (no volume has
 * the file), STATUS_CORRUPT (the chain ends early), STATUS_NO_MEMORY, the status of a read.
 * Context: thread or fault with no spin lock held; waits for the disk, with a bound. Any number of
 * threads read.
 */
#ifndef SWAPDISK_FS_FILE_H
#define SWAPDISK_FS_FILE_H

#include "swapdisk/block/block.h"

struct disk_file;

/* Finds a file by its path on the first volume of the device that has it, and opens it. A volume
 * that cannot be read is passed over; if no other one has the file, its status is returned. */
MUST_USE enum status disk_file_open(const struct block_device *block, const char *path,
                                    struct disk_file **opened);
void disk_file_close(struct disk_file *file);

uint64_t disk_file_size(const struct disk_file *file);

/* Returns why the file must not be written, even with a grant; NULL: its chain is sound. */
const char *disk_file_problem(const struct disk_file *file);

/* Returns whether both are the same file, opened twice. */
bool disk_file_same(const struct disk_file *a, const struct disk_file *b);

/* Permits writing the file: its volume is read once more, its clusters must be its own (F4), and
 * its runs are added to the grant. STATUS_REFUSED, STATUS_LIMIT: *reason says why not. One thread
 * at a time. */
MUST_USE enum status disk_file_permit(struct disk_file *file, const struct swap_grant *grant,
                                      const char **reason);

/* Returns whether the file may be written. */
bool disk_file_permitted(const struct disk_file *file);

/* Writes a page up to the file's end, whose last sector keeps the bytes behind it (F6). The caller
 * keeps the page; it may change meanwhile, and is then written again. STATUS_REFUSED: the file may
 * not be written. */
MUST_USE enum status disk_file_write(const struct disk_file *file, uint64_t page, struct pfn frame);

/* Makes the writes before durable. */
MUST_USE enum status disk_file_flush(const struct disk_file *file);

/* Reads a page; bytes after the file's end become zero. */
MUST_USE enum status disk_file_read(const struct disk_file *file, uint64_t page, struct pfn frame);

#endif

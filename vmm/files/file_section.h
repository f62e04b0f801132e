/*
 * Sections of files: one for each file, however many open it.
 *
 * A file is looked for on all disks, by its path. Its pages come from the disk by faults, without a
 * grant; a clean page is dropped and read again. The list of open files keeps a section until it
 * has neither openers nor mappings, so that a later opener finds the pages that are there.
 *
 * Units: bytes. Owns: the open files and their sections. State: open -> (last close) -> kept, as
 * long as it is mapped -> ended by the next call. Fails with: as disk_file_open and section_create;
 * STATUS_DENIED: the file is open with fewer rights. Context: thread, with no lock held; waits for
 * the disk, with a bound. Rules: N1, N2, N4, N7, W1, W3, W4, F3, F4.
 */
#ifndef VMM_FILES_FILE_SECTION_H
#define VMM_FILES_FILE_SECTION_H

#include "swapdisk/block/block.h"
#include "vmm/section/section.h"

/* The source is a struct disk_file. */
extern const struct pager pager_file;

/* Opens the section of a file on the device. Mappings may have at most these rights. */
MUST_USE enum status file_section_open_on(const struct block_device *block, const char *path,
                                          struct rights most, struct section **opened);

/* As above, on the first disk that has the file. If none has it: the first status of a read that
 * failed, otherwise STATUS_NOT_FOUND. */
MUST_USE enum status file_section_open(const char *path, struct rights most,
                                       struct section **opened);

/* Ends what one of the above began. */
void file_section_close(struct section *section);

/* ---- writing ---- */

/* One that has a file open for writing. Its fields are constant but `told`. */
struct file_writer {
    struct section *section;
    uint64_t told; /* failed writes of the file that this one was told of */
};

/* Opens a file for writing, on the device that the grant for files names. STATUS_REFUSED: the file
 * may not be written; *reason says why not (rules F3, F4). */
MUST_USE enum status file_section_open_to_write(const struct block_device *block, const char *path,
                                                const struct swap_grant *grant,
                                                struct file_writer *writer, const char **reason);

/* Writes the dirty pages of a range to the file, and makes them durable. An error of any write
 * since this writer was told last is told now, once (rule W3); its pages are dirty still. */
MUST_USE enum status file_section_sync(struct file_writer *writer, uint64_t from, uint64_t to);

/* Writes all, and ends the opening; returns as file_section_sync. */
MUST_USE enum status file_section_close_writer(struct file_writer *writer);

/* Ends the sections that have neither openers nor mappings, nor dirty pages that cannot be written
 * (rule W4); returns how many files are left. Every open and close does this, too. */
unsigned file_sections_reap(void);

#endif

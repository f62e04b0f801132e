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
 * the disk, with a bound. Rules: N1, N2, N4, N7.
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

/* As above, on the first disk that has the file. STATUS_NOT_FOUND: no disk has it. */
MUST_USE enum status file_section_open(const char *path, struct rights most,
                                       struct section **opened);

/* Ends what one of the above began. */
void file_section_close(struct section *section);

/* Ends the sections that have neither openers nor mappings; returns how many files are left. Every
 * open and close does this, too. */
unsigned file_sections_reap(void);

#endif

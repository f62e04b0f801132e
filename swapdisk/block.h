/*
 * A block device: sectors that are read, written and flushed, whatever stores them.
 *
 * The members are an AHCI disk (block_ahci.c) and memory (block_ram.c). Every member passes the
 * same test body (tests/host/test_block.c). A write names the grant that permits it; the AHCI
 * driver checks the grant at its choke point, and memory needs none.
 *
 * Units: sectors of 512 bytes, 8 to a frame; the last frame of a transfer may be used in part.
 * Owns: nothing; the member owns what `device` points to.
 * Fails with: STATUS_RANGE (past the end), STATUS_REFUSED (no grant covers the write), STATUS_IO
 * and STATUS_TIMEOUT (the device), STATUS_NO_MEMORY (no frame for a page of memory).
 * Context: thread or fault with no spin lock held; an AHCI disk waits, with a bound.
 */
#ifndef SWAPDISK_BLOCK_H
#define SWAPDISK_BLOCK_H

#include <stdint.h>

#include "lib/status.h"
#include "lib/units.h"
#include "swapdisk/format/verified_read.h"

struct ahci_port;
struct swap_grant;

/* The functions of one kind of device. The range is on the device, and sectors is above 0. */
struct block_operations {
    enum status (*read)(void *device, uint64_t lba, unsigned sectors, const struct pfn *frames);
    enum status (*write)(void *device, const struct swap_grant *grant, uint64_t lba,
                         unsigned sectors, const struct pfn *frames);
    enum status (*flush)(void *device);
    void (*discard)(void *device, uint64_t lba,
                    unsigned sectors); /* NULL: sectors keep their data */
};

struct block_device {
    const struct block_operations *operations;
    void *device; /* the member's object, which a grant names */
    uint64_t sectors;
    const char *name; /* for the log */
};

/* Copies sectors to or from frames[0], frames[1], ... 8 to a frame. On failure, any part of the
 * transfer may have happened. */
MUST_USE enum status block_read(const struct block_device *block, uint64_t lba, unsigned sectors,
                                const struct pfn *frames);
MUST_USE enum status block_write(const struct block_device *block, const struct swap_grant *grant,
                                 uint64_t lba, unsigned sectors, const struct pfn *frames);

/* Makes completed writes durable. */
MUST_USE enum status block_flush(const struct block_device *block);

/* Declares the data of sectors as unneeded. Memory frees the pages that lie in the range as a
 * whole, and reads them as zeroes afterwards; a disk does nothing, since no TRIM is ever sent. */
void block_discard(const struct block_device *block, uint64_t lba, unsigned sectors);

/* Returns the device as a source for verified reads; `block` must outlive it. */
struct sector_source block_source(struct block_device *block);

/* Describes a ready port as a block device; the port must outlive it. */
struct block_device block_of_ahci(struct ahci_port *port);

#define BLOCK_RAM_PAGES_MAX UINT64_C(1044480) /* just under 4 GiB */

/* Makes a device of so many pages in memory; pages read as zeroes until they are written. Allocates
 * the tables now and each page at its first write. The caller ends it with block_ram_close. */
MUST_USE enum status block_ram_open(uint64_t pages, struct block_device *block);
void block_ram_close(struct block_device *block);

/* Returns the frame that holds a page of such a device, PFN_NONE if it was never written. */
struct pfn block_ram_frame(const struct block_device *block, uint64_t page);

#endif

/*
 * A block device: an interface to read, write and flush sectors.
 *
 * The members are an AHCI disk (swapdisk/ahci/transfer.c) and memory (ram.c). Every member passes
 * the same test body (tests/host/test_block.c). A write names the grant that permits it; the AHCI
 * driver checks the grant at its choke point, and memory needs none.
 *
 * Transfers come in two forms: calls that wait, and requests, of which many may be under way. A
 * disk queues requests, and then only their pages' check values prove them (rule D5); the calls
 * that wait use commands whose byte count is checked.
 *
 * Units: sectors of 512 bytes, 8 to a frame; the last frame of a transfer may be used in part. A
 * device with larger logical sectors transfers whole ones only.
 * Owns: nothing; the member owns what `device` points to.
 * Fails with: STATUS_RANGE (past the end, or parts of logical sectors), STATUS_REFUSED (no grant
 * covers the write), STATUS_IO and STATUS_TIMEOUT (the device), STATUS_NO_MEMORY (no frame for a
 * page of memory).
 * Context: thread or fault with no spin lock held; an AHCI disk waits, with a bound.
 */
#ifndef SWAPDISK_BLOCK_BLOCK_H
#define SWAPDISK_BLOCK_BLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/status.h"
#include "lib/units.h"
#include "swapdisk/block/request.h"
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
    enum status (*trim)(void *device, const struct swap_grant *grant,
                        const struct disk_ranges *ranges); /* NULL: it takes none */
    /* NULL: requests are carried out at once, by the functions above. */
    bool (*serves)(const void *device); /* NULL: always */
    void (*submit)(void *device, struct disk_request *request);
    enum status (*wait)(void *device, struct disk_request *request);
};

struct block_device {
    const struct block_operations *operations;
    void *device; /* the member's object, which a grant names */
    uint64_t sectors;
    unsigned shift;         /* logical sectors have 512 << shift bytes */
    unsigned request_pages; /* most pages of one request */
    const char *name;       /* for the log */
};

/* Copies sectors to or from frames[0], frames[1], ... 8 to a frame. On failure, any part of the
 * transfer may have happened. */
MUST_USE enum status block_read(const struct block_device *block, uint64_t lba, unsigned sectors,
                                const struct pfn *frames);
MUST_USE enum status block_write(const struct block_device *block, const struct swap_grant *grant,
                                 uint64_t lba, unsigned sectors, const struct pfn *frames);

/* Makes completed writes durable. */
MUST_USE enum status block_flush(const struct block_device *block);

/* Returns whether the device is in use: after a failed transfer false means that all others
 * fail. */
bool block_serves(const struct block_device *block);

/* Starts a request; never waits for the disk. */
void block_submit(const struct block_device *block, struct disk_request *request);

/* Waits until a request has ended, and returns its status. */
MUST_USE enum status block_wait(const struct block_device *block, struct disk_request *request);

/* Declares the data of sectors as unneeded. Memory frees the pages that lie in the range as a
 * whole, and reads them as zeroes afterwards; a disk does nothing: it is told by block_trim. */
void block_discard(const struct block_device *block, uint64_t lba, unsigned sectors);

/* Tells a disk which sectors hold nothing that is needed (TRIM). They read as anything afterwards,
 * until they are written. Fails with STATUS_UNSUPPORTED if the device takes no TRIM; after any
 * failure each range may have been discarded or not. It is tried once. */
MUST_USE enum status block_trim(const struct block_device *block, const struct swap_grant *grant,
                                const struct disk_ranges *ranges);

/* Returns the device as a source for verified reads; `block` must outlive it. */
struct sector_source block_source(struct block_device *block);

/* Describes a ready port as a block device; the port must outlive it. */
struct block_device block_of_ahci(struct ahci_port *port);

#define BLOCK_RAM_PAGES_MAX UINT64_C(1044480) /* just under 4 GiB */

/* Makes a device of this many pages in memory; pages read as zeroes until they are written.
 * Allocates the tables now and each page at its first write. The caller ends it with
 * block_ram_close. */
MUST_USE enum status block_ram_open(uint64_t pages, struct block_device *block);
void block_ram_close(struct block_device *block);

/* Returns the frame that holds a page of such a device, PFN_NONE if it was never written. */
struct pfn block_ram_frame(const struct block_device *block, uint64_t page);

#endif

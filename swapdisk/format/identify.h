/*
 * The identity of an ATA disk, decoded from the 512 bytes of IDENTIFY DEVICE.
 *
 * Units: sectors of 512 bytes, whatever the disk's logical sectors are; sizes in bytes.
 * Owns: nothing; pure functions.
 * Fails with: STATUS_CORRUPT (the data contradicts itself), STATUS_UNSUPPORTED (a disk that the
 * driver does not use), each with a sentence that says why.
 * Context: any.
 * Spec: ATA/ATAPI Command Set (ACS-3), 7.12.7.
 */
#ifndef SWAPDISK_AHCI_IDENTIFY_H
#define SWAPDISK_AHCI_IDENTIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/status.h"

#define SECTOR_SIZE      512U
#define SECTORS_PER_PAGE 8U

/* Logical sectors have 512 << shift bytes. The disk is addressed by them, and they are read and
 * written as a whole; all the code but the AHCI commands and the formats counts in 512 bytes. */
#define SECTOR_SHIFT_4K 3U

#define IDENTITY_MODEL_SIZE    41 /* with the terminating zero */
#define IDENTITY_SERIAL_SIZE   21
#define IDENTITY_FIRMWARE_SIZE 9

/* The texts have no blanks at either end, and only printable ASCII. */
struct disk_identity {
    char model[IDENTITY_MODEL_SIZE];
    char serial[IDENTITY_SERIAL_SIZE];
    char firmware[IDENTITY_FIRMWARE_SIZE];
    uint64_t sectors;      /* capacity, in sectors of 512 bytes */
    uint32_t sector_size;  /* bytes of a logical sector */
    unsigned sector_shift; /* 0 or SECTOR_SHIFT_4K */
    bool lba48;
    bool dma;
    bool flush_ext; /* FLUSH CACHE EXT is supported */
    bool write_cache;
    bool security_enabled; /* a password is set */
    bool security_locked;
    bool removable;
    unsigned queue_depth; /* queued commands that it takes at once; 1 without NCQ */
    bool error_log;       /* it has the log of queued errors (page 10h) */
    bool trim;            /* it takes DATA SET MANAGEMENT with TRIM */
};

/* Decodes the words. Sets *why to a sentence unless the status is OK. Fills in identity as far as
 * possible in any case, for the report. */
MUST_USE enum status identity_decode(const uint16_t words[256], struct disk_identity *identity,
                                     const char **why);

/* Returns whether both describe the same disk: model, serial number, capacity, logical sectors. */
bool identity_same(const struct disk_identity *a, const struct disk_identity *b);

/* Returns the shift of logical sectors of so many bytes: 0 for any size but 4096. */
static inline unsigned sector_shift_of(uint32_t sector_size)
{
    return sector_size == SECTOR_SIZE << SECTOR_SHIFT_4K ? SECTOR_SHIFT_4K : 0;
}

/* Convert the address of a logical sector, or a number of them, as a disk has it, into sectors of
 * 512 bytes: the first one's, and the last one's of an inclusive range. What no disk has becomes
 * UINT64_MAX, which lies on none. */
static inline uint64_t sector_first(uint64_t logical, unsigned shift)
{
    return logical > UINT64_MAX >> shift ? UINT64_MAX : logical << shift;
}

static inline uint64_t sector_last(uint64_t logical, unsigned shift)
{
    return logical >= UINT64_MAX >> shift ? UINT64_MAX : ((logical + 1) << shift) - 1;
}

#endif

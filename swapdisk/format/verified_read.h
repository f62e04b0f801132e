/*
 * A disk as something that sectors are read from, and reading that trusts nothing.
 *
 * Partition tables and headers are read through this contract: from an AHCI port in the machine,
 * from an image in host tests, the fuzzers and ovmf/prepare-swap.
 *
 * Units: sectors of 512 bytes, at most 8 into one frame. Owns: nothing.
 * Fails with: what the source's read returns; STATUS_IO when a read claims success and left the
 * frame as it was, or when two reads of the same sectors differ; STATUS_RANGE past the end.
 * Context: thread; waits for the disk with the source's bound.
 */
#ifndef SWAPDISK_FORMAT_VERIFIED_READ_H
#define SWAPDISK_FORMAT_VERIFIED_READ_H

#include <stdint.h>

#include "lib/status.h"
#include "lib/units.h"

struct sector_source {
    enum status (*read)(void *context, uint64_t lba, unsigned sectors, struct pfn frame);
    void *context;
    uint64_t sectors; /* all there are */
};

/* Reads 1 to 8 sectors twice, each time into a frame filled with a fresh pattern, and compares.
 * Afterwards frame holds the sectors and the rest of it is zero; second is scratch. */
MUST_USE enum status source_read(const struct sector_source *source, uint64_t lba, unsigned sectors,
                                 struct pfn frame, struct pfn second);

#endif

/*
 * A source of sectors, and verified reads from it.
 *
 * Partition tables and headers are read through this interface: from a block device in the machine,
 * from an image in host tests, the fuzzers and ovmf/prepare-swap.
 *
 * Units: sectors of 512 bytes, at most 8 into one frame. A source of larger logical sectors reads
 * whole ones only. Owns: nothing.
 * Fails with: the status of the source's read; STATUS_IO if a read claims success and leaves the
 * frame unchanged, or if two reads of the same sectors differ; STATUS_RANGE past the end, and from
 * within a logical sector.
 * Context: thread; waits for the disk with the source's bound.
 */
#ifndef SWAPDISK_FORMAT_VERIFIED_READ_H
#define SWAPDISK_FORMAT_VERIFIED_READ_H

#include <stdint.h>

#include "lib/status.h"
#include "lib/units.h"

/* `shift`: its logical sectors have 512 << shift bytes (swapdisk/format/identify.h). */
struct sector_source {
    enum status (*read)(void *context, uint64_t lba, unsigned sectors, struct pfn frame);
    void *context;
    uint64_t sectors; /* capacity */
    unsigned shift;
};

/* Reads 1 to 8 sectors twice, each time into a frame with a fresh pattern, and compares. On success
 * `frame` holds the sectors and zeroes after them; `second` is scratch. */
MUST_USE enum status source_read(const struct sector_source *source, uint64_t lba, unsigned sectors,
                                 struct pfn frame, struct pfn second);

#endif

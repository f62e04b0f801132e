/*
 * The log area of a prepared partition: writes the log of a run into it.
 *
 * The area is a ring of pages (swapdisk/format/log_page.h). A log begins behind the newest page of
 * the newest run, so that the logs of earlier runs stay as long as there is room.
 *
 * Units: bytes. Owns: nothing. Fails with: the device's status, STATUS_REFUSED (the grant does not
 * cover the area), STATUS_NO_MEMORY. After an error a part of the log may be in the area, and a
 * few frames are lost. Context: thread; log_area_store: that of the device's calls.
 * Spec: docs/disk-safety.md, 'The log area'.
 */
#ifndef SWAPDISK_BLOCK_LOG_AREA_H
#define SWAPDISK_BLOCK_LOG_AREA_H

#include <stddef.h>

#include "swapdisk/block/block.h"
#include "swapdisk/format/header.h"

/* A log in two pieces, the second of which may be empty. */
struct log_text {
    const char *text;
    size_t size;
    const char *end;
    size_t end_size;
};

/* Writes a log into the area that the header names, and makes it durable. Of a log that is longer
 * than the area, the beginning is left out. */
MUST_USE enum status log_area_write(const struct block_device *block,
                                    const struct swap_grant *grant,
                                    const struct swap_header *header, const struct log_text *log);

/* Does the same by way of `count` frames of the caller, at least 1, and allocates nothing. */
MUST_USE enum status log_area_store(const struct block_device *block,
                                    const struct swap_grant *grant,
                                    const struct swap_header *header, const struct log_text *log,
                                    const struct pfn *frames, unsigned count);

#endif

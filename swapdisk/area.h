/*
 * The swap area: slots of one page, on a prepared disk or in RAM, and the I/O of pages to them.
 *
 * A slot's count is the number of entries and holds that name it (RULES.md C1, C9). Every page
 * written gets a check value over its content, its slot and the slot's generation; a page that
 * does not come back the same is reported as STATUS_CORRUPT and never handed out.
 *
 * Units: slots of 4 KiB, counted from 0; slot s of a disk is at partition sector first_slot + 8 * s.
 * Owns: its counts and check values, and the frames of a RAM-backed area.
 * State of a slot: free -> (alloc) -> held, empty -> (write) -> held, full -> (release to 0) -> free.
 * Fails with: STATUS_NO_SPACE (no free slot), STATUS_IO and STATUS_TIMEOUT (the device),
 * STATUS_CORRUPT (check value), STATUS_REFUSED (the grant forbids it).
 * Context: thread or fault with no table lock held; it waits for the disk, with a bound.
 */
#ifndef SWAPDISK_AREA_H
#define SWAPDISK_AREA_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/status.h"
#include "lib/units.h"

enum swap_backing { SWAP_BACKING_RAM, SWAP_BACKING_DISK };

struct swap_usage {
    enum swap_backing backing;
    uint32_t slots;          /* all there are */
    uint32_t used;           /* with a count above 0 */
    uint64_t pages_written;  /* since start */
    uint64_t pages_read;
    uint64_t corrupt;        /* pages whose check value did not agree */
    uint64_t errors;         /* transfers that failed after their retries */
};

/* Takes a free slot with count 1. */
MUST_USE enum status swap_alloc(struct slot *slot);

/* One more, or one less, pointer to a slot; at 0 it is free. */
void swap_hold(struct slot slot);
void swap_release(struct slot slot);
uint32_t swap_count(struct slot slot);

/* Writes or reads the page of a slot from or to a frame; returns when it is done. */
MUST_USE enum status swap_write(struct slot slot, struct pfn frame);
MUST_USE enum status swap_read(struct slot slot, struct pfn frame);

/* Writes or reads count pages of consecutive slots, frames[i] for slot + i, in as few commands as
 * they fit. On failure nothing is said of which arrived. */
MUST_USE enum status swap_write_run(struct slot first, const struct pfn *frames, unsigned count);
MUST_USE enum status swap_read_run(struct slot first, const struct pfn *frames, unsigned count);

struct swap_usage swap_usage(void);

/* Where slot 0 begins on the disk, in bytes from its start; 0 for a RAM-backed area. */
uint64_t swap_disk_offset(void);

/* Compares the counts with the usage; panics on a difference. */
void swap_audit(void);

#endif

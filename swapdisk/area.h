/*
 * The swap area: slots of one page, on a prepared disk or in RAM, and the I/O of pages to them.
 *
 * A slot's count is the number of references from entries and holders (rules C1, C9). Every page
 * written gets a check value over its content, its slot and the slot's generation. A page that
 * reads back differently is reported as STATUS_CORRUPT and never handed out.
 *
 * Units: slots of 4 KiB, counted from 0; slot s of a disk is at byte swap_disk_offset() + 4096 * s.
 * Owns: its counts and check values, and the frames of a RAM-backed area.
 * State: closed -> (swap_open) -> open -> (swap_settle) -> settled -> (swap_close) -> closed;
 * swap_close settles an open area itself.
 * State of a slot: free -> (alloc) -> empty -> (write) -> full -> (release to 0) -> free.
 * Fails with: STATUS_NO_SPACE (no free slot), STATUS_IO and STATUS_TIMEOUT (the device),
 * STATUS_CORRUPT (check value), STATUS_REFUSED (the grant forbids it), STATUS_NO_MEMORY (no frame
 * for the page of a RAM-backed area).
 * Context: thread or fault with no table lock held; it waits for the disk, with a bound.
 */
#ifndef SWAPDISK_AREA_H
#define SWAPDISK_AREA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/options.h"
#include "lib/status.h"
#include "lib/units.h"

struct disk_chosen;
struct log_text;

enum swap_backing { SWAP_BACKING_RAM, SWAP_BACKING_DISK };

struct swap_usage {
    enum swap_backing backing;
    uint32_t slots;         /* in the area */
    uint32_t used;          /* with a count above 0 */
    uint64_t pages_written; /* since start */
    uint64_t pages_read;
    uint64_t corrupt; /* pages whose check value did not match */
    uint64_t errors;  /* transfers that failed, retries included */
};

/* Opens the area on the disk that disks_scan() chose, otherwise in RAM with ram_slots slots. Logs
 * which, and why. Writes nothing to the disk. Fails with STATUS_NO_MEMORY only. */
MUST_USE enum status swap_open(const struct options *options, uint32_t ram_slots);

/* Closes the area: zeroes the slots if the options ask for it, marks the disk clean, and frees all
 * memory. Slots that are still held are lost. Returns the device's status; area and grant are
 * closed in any case. */
MUST_USE enum status swap_close(void);

/* Does the first part of swap_close: zeroes the slots if the options ask for it, and marks the disk
 * clean. Afterwards only swap_log_write and swap_close may be called. */
MUST_USE enum status swap_settle(void);

/* Allocates a free slot with count 1. */
MUST_USE enum status swap_alloc(struct slot *slot);

/* Allocates up to `wanted` consecutive free slots, each with count 1. Sets *count to their number,
 * at least 1. */
MUST_USE enum status swap_alloc_run(unsigned wanted, struct slot *first, unsigned *count);

/* Add and drop a reference to a slot. At 0 the slot is free. */
void swap_hold(struct slot slot);
void swap_release(struct slot slot);
uint32_t swap_count(struct slot slot);

/* Write and read the page of a slot from or to a frame; return when the transfer is complete. */
MUST_USE enum status swap_write(struct slot slot, struct pfn frame);
MUST_USE enum status swap_read(struct slot slot, struct pfn frame);

/* Write and read the pages of consecutive slots, frames[i] for slot + i, in as few commands as
 * possible. On failure, any part may have been transferred. */
MUST_USE enum status swap_write_run(struct slot first, const struct pfn *frames, unsigned count);
MUST_USE enum status swap_read_run(struct slot first, const struct pfn *frames, unsigned count);

/* Reads the pages of consecutive slots by one request, and sets read[i] to the status of each. If
 * the request fails, reads the page at `needed` alone. */
void swap_read_in(struct slot first, const struct pfn *frames, unsigned count, unsigned needed,
                  enum status *read);

#define SWAP_WRITE_OUT_MAX 16U

/* Writes frames[i] to slots[i], by requests that are under way together. A slot whose write fails
 * while the disk serves is retired, and slots[i] becomes another one (rule D3). Sets done[i] for
 * each page that is out. Returns the status of the last page that no slot took; its slot is
 * SLOT_NONE if none was left. */
MUST_USE enum status swap_write_out(struct slot *slots, const struct pfn *frames, unsigned count,
                                    bool *done);

/* Returns false once the disk is given up: then content that only its slots have is lost, and no
 * page may be dropped because a slot has its content (rule D2). */
bool swap_serves(void);

struct swap_usage swap_usage(void);

/* Sets the function that is called for each slot whose count reaches 0, before it is free; NULL:
 * none. */
void swap_on_free(void (*freed)(struct slot slot));

/* Returns the sum of all counts: AUDIT compares it with the entries and swap-cache references. */
uint64_t swap_references(void);

/* Returns the frame in which a RAM-backed area keeps a slot's page: for tests. */
struct pfn swap_ram_frame(struct slot slot);

/* Returns the disk's byte offset of slot 0, or 0 for a RAM-backed area. */
uint64_t swap_disk_offset(void);

/* Compares counts and usage; panics on a difference. */
void swap_audit(void);

/* Writes the log of this run into the log area of the disk, after swap_settle without an error.
 * Fails with STATUS_NOT_FOUND: there is no disk, or no log area. */
MUST_USE enum status swap_log_write(const struct log_text *log);

/* Returns the disk of an open area, NULL if it is in RAM, or closed, or its end has failed. */
const struct disk_chosen *swap_disk(void);

#endif

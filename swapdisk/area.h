/*
 * Swap areas: slots of one page, on prepared disks or in RAM, and the I/O of pages to them.
 *
 * An area is the slots of one set, or of the two halves of a mirror, each of which then has every
 * slot. Areas of a higher priority are filled first; those of equal priority take pages in turn, in
 * clusters of 64 slots. A slot's number says which area it is of; consecutive slots are always of
 * one area.
 *
 * A slot's count is the number of references from entries and holders (rules C1, C9). Every page
 * written gets a check value over its content, its slot and the slot's generation. A page that
 * reads back differently is reported as STATUS_CORRUPT and never handed out; of a mirror the other
 * half's page is taken, if it has the right check value, and the wrong one is written again.
 *
 * An area whose disk dies gives out no more slots. The pages of other areas are not touched by
 * that.
 *
 * Units: slots of 4 KiB, counted from 0. Owns: counts and check values, the grants of the disks,
 * and the frames of a RAM-backed area.
 * State: closed -> (swap_open) -> open -> (swap_settle) -> settled -> (swap_close) -> closed;
 * swap_close settles an open area itself.
 * State of a slot: free -> (alloc) -> empty -> (write) -> full -> (release to 0) -> free.
 * Fails with: STATUS_NO_SPACE (no free slot), STATUS_IO and STATUS_TIMEOUT (the device),
 * STATUS_CORRUPT (check value), STATUS_REFUSED (the grant forbids it), STATUS_NO_MEMORY (no frame
 * for the page of a RAM-backed area). Of several areas or halves a call fails only if none serves.
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
struct swap_mark;

enum swap_backing { SWAP_BACKING_RAM, SWAP_BACKING_DISK };

/* All areas together. */
struct swap_usage {
    enum swap_backing backing;
    uint32_t slots;         /* in the areas, without bad ones */
    uint32_t used;          /* with a count above 0 */
    uint64_t pages_written; /* since start; a page that goes to both halves of a mirror is one */
    uint64_t pages_read;
    uint64_t corrupt; /* pages whose check value did not match on any disk */
    uint64_t errors;  /* transfers that failed, but those that a mirror made good */
    uint64_t healed;  /* pages that the other half of a mirror made good */
};

/* One disk of an area, since start. */
struct swap_disk_usage {
    uint64_t pages_written;
    uint64_t pages_read;
    uint64_t failed;  /* requests that failed */
    uint64_t wrong;   /* pages with a wrong check value */
    uint64_t healed;  /* pages of it that the other half made good and that were written again */
    uint64_t retired; /* slots that went out of use because of it */
    uint64_t trimmed; /* slots that it was told are free */
};

#define SWAP_AREAS_MAX 16U

struct swap_area_usage {
    uint32_t priority;
    uint32_t slots; /* without bad ones */
    uint32_t used;
    unsigned disks; /* 2: a mirror */
    struct {
        const char *serial; /* NULL: memory, or a half that was not there */
        bool writable;      /* false: it has died, or its header could not be written */
        struct swap_disk_usage usage;
    } disk[2];
};

/* Opens the areas on the disks that disks_scan() chose, otherwise one in RAM with ram_slots slots.
 * Logs which, and why. Writes nothing to a disk. Fails with STATUS_NO_MEMORY only. */
MUST_USE enum status swap_open(const struct options *options, uint32_t ram_slots);

/* Closes the areas: zeroes the slots if the options ask for it, marks the disks clean, and frees
 * all memory. Slots that are still held are lost. Returns the first device's status that is not OK;
 * areas and grants are closed in any case. */
MUST_USE enum status swap_close(void);

/* Does the first part of swap_close: zeroes the slots if the options ask for it, marks the disks
 * clean, and logs what each area did. Afterwards only swap_log_write and swap_close may be
 * called. The half of a mirror that was given up is no error, if the other one is clean. */
MUST_USE enum status swap_settle(void);

/* Tells the disks of some whole clusters of free slots that were written since they were last told
 * (TRIM), by one command to each disk: to be called while nothing else uses the disks, until it
 * returns false. The slots are held meanwhile, and an allocation that finds no other waits. A disk
 * that fails it is not told again. Nothing is done with wipe=1, whose zeroes are to stay. */
bool swap_trim(void);

/* Allocates a free slot with count 1. STATUS_NO_SPACE: all are in use; STATUS_IO: every area has
 * died. */
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
 * possible. On failure, any part may have been transferred. A write succeeds if one half of a
 * mirror has all pages. */
MUST_USE enum status swap_write_run(struct slot first, const struct pfn *frames, unsigned count);
MUST_USE enum status swap_read_run(struct slot first, const struct pfn *frames, unsigned count);

/* Reads the pages of consecutive slots by one request, and sets read[i] to the status of each. If
 * the request fails, reads the page at `needed` alone. */
void swap_read_in(struct slot first, const struct pfn *frames, unsigned count, unsigned needed,
                  enum status *read);

#define SWAP_WRITE_OUT_MAX 16U

/* Writes frames[i] to slots[i], by requests that are under way together. A slot whose write fails
 * while the disk serves is retired, and slots[i] becomes another one (rule D3); the pages of an
 * area that dies go to other areas. Sets done[i] for each page that is out. Returns the status of
 * the last page that no slot took; its slot is SLOT_NONE if none was left. */
MUST_USE enum status swap_write_out(struct slot *slots, const struct pfn *frames, unsigned count,
                                    bool *done);

/* Returns false once the disks that have a slot's page are given up: then content that only the
 * slot has is lost, and no page may be dropped because the slot has its content (rule D2). The half
 * of a mirror that was given up before, or failed this write, does not have the page. */
bool swap_serves(struct slot slot);

/* Returns whether any area serves. */
bool swap_serves_any(void);

struct swap_usage swap_usage(void);

/* Return the number of areas, and the figures of one of them, the highest priority first. */
unsigned swap_area_count(void);
struct swap_area_usage swap_area_usage(unsigned number);

/* Sets the function that is called for each slot whose count reaches 0, before it is free; NULL:
 * none. */
void swap_on_free(void (*freed)(struct slot slot));

/* Returns the sum of all counts: AUDIT compares it with the entries and swap-cache references. */
uint64_t swap_references(void);

/* Returns the frame in which a RAM-backed area keeps a slot's page: for tests. */
struct pfn swap_ram_frame(struct slot slot);

/* Returns the byte at which a slot is on the disk, of a mirror on each disk that it has, 0 for a
 * RAM-backed area; and the serial number of that disk, or of the mirror's first one, "" in RAM. */
uint64_t swap_disk_offset(struct slot slot);
const char *swap_disk_serial(struct slot slot);

/* Compares counts and usage; panics on a difference. */
void swap_audit(void);

/* Writes the log of this run into the log area of the first disk that was settled without an error
 * and has one. Fails with STATUS_NOT_FOUND: there is none. */
MUST_USE enum status swap_log_write(const struct log_text *log);

/* Returns the disk that the log of a crash goes to, and its mark: the first with a log area that
 * can be written, otherwise the first there is. NULL if the area is in RAM, or closed, or its end
 * has failed on every disk. */
const struct disk_chosen *swap_disk(void);
const struct swap_mark *swap_disk_mark(void);

#endif

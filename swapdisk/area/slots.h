/*
 * The slots of all swap areas: reference counts, free slots, and check values of their pages.
 *
 * Each area has a range of slot numbers. Behind each but the last is at least one number that is
 * never used, so consecutive slots are always of one area. Ranges of the highest priority that has
 * free slots are used, those of equal priority in turn, a cluster each: neighbours in memory stay
 * neighbours on a disk.
 *
 * Units: slots of 4 KiB, from 0. Owns: the frames of the records and of the bitmap, from slots_open
 * to slots_close.
 * State of a slot: as in area.h. Fails with: STATUS_NO_MEMORY (slots_open), STATUS_NO_SPACE,
 * STATUS_IO (no range is open any more).
 * Context: any; never waits. The bitmap has a lock. Counts are atomic: one of 0 rises only with a
 * slot that is taken, under the lock. The other fields of a record belong to the holder of the
 * slot.
 */
#ifndef SWAPDISK_SLOTS_H
#define SWAPDISK_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/status.h"
#include "lib/units.h"

/* 64 GiB of swap space; the rest of a larger partition is not used. */
#define SLOTS_MAX (UINT32_C(1) << 24)

/* Ranges at most, and the slots of a cluster. */
#define SLOT_RANGES_MAX 16U
#define SLOT_CLUSTER    64U

/* Protectors: (a) atomic; (h) the holder that writes or reads the slot. */
struct slot_record {
    uint32_t count;      /* (a) references from entries and holders; 0 = free */
    uint32_t check;      /* (h) check value of page, slot and generation; retired: on which disks */
    uint32_t generation; /* (h) flags, and below them the number of writes, which is never reset */
};

#define SLOT_FULL            (UINT32_C(1) << 31)
#define SLOT_STALE           (UINT32_C(1) << 30)            /* written since it was last trimmed */
#define SLOT_BAD(disk_)      (UINT32_C(1) << 28 << (disk_)) /* bad there: retired once it is free */
#define SLOT_BADS            (SLOT_BAD(0) | SLOT_BAD(1))
#define SLOT_COPY(disk_)     (UINT32_C(1) << 26 << (disk_)) /* this disk of its area has the page */
#define SLOT_COPIES          (SLOT_COPY(0) | SLOT_COPY(1))
#define SLOT_GENERATION_MASK (SLOT_COPY(0) - 1)
#define SLOT_RETIRED         SLOT_GENERATION_MASK /* generation of a slot that is never used */

_Static_assert(sizeof(struct slot_record) == 12, "341 records a frame");

/* The slots of one area. */
struct slot_range {
    uint32_t first; /* set by slots_open: a multiple of SLOT_CLUSTER */
    uint32_t count; /* above 0 */
    uint32_t priority;
};

/* Makes the records of all ranges, each slot free. */
MUST_USE enum status slots_open(struct slot_range *ranges, unsigned count);

/* Frees all memory. Slots that are still held are lost. */
void slots_close(void);

/* Ends the allocation from a range; its slots keep their counts. */
void slots_close_range(unsigned range);

/* Returns the range of a slot, from 0. */
unsigned slots_range_of(struct slot slot);

/* Returns the end of the slot numbers, and the slots in use, of all ranges or of one. */
uint32_t slots_total(void);
uint32_t slots_used(void);
uint32_t slots_used_of(unsigned range);

/* Takes a slot out of use that is free, or retired because of the area's other disk: its place on
 * these disks is bad, a bit for each. It stays so until slots_close. */
void slots_retire(struct slot slot, unsigned disks);

/* The same for a slot that the caller alone holds: its count ends. */
void slots_give_up(struct slot slot, unsigned disks);
bool slots_is_retired(struct slot slot);

/* Returns the disks whose place of a slot is known to be bad, a bit for each. */
unsigned slots_bad_disks(struct slot slot);

/* Returns the slots of a range that can be used, free or not. */
uint32_t slots_usable(unsigned range);

/* Marks a slot that the caller holds as bad on one disk: it is retired when it is freed. */
void slots_condemn(struct slot slot, unsigned disk);

/* Records whether a disk of the area, 0 or 1, has the page of a full slot that the caller holds. */
void slots_set_copy(struct slot slot, unsigned disk, bool has);

/* Returns the disks that have the page of a slot, a bit for each. */
unsigned slots_copies(struct slot slot);

/* Allocates up to `wanted` consecutive free slots, each empty and with count 1. Sets *count to
 * their number, at least 1. STATUS_IO: all ranges are closed. */
MUST_USE enum status slots_take(unsigned wanted, struct slot *first, unsigned *count);

void slots_hold(struct slot slot);

/* Drops one reference. Returns whether it was the last: then the slot is empty but not yet free,
 * and the caller ends its use with slots_free once nothing on the device needs it. */
bool slots_release(struct slot slot);
void slots_free(struct slot slot);

/* Takes a whole cluster of free slots, of which one or more are stale, for a TRIM: each then has
 * count 1. Looks at a few clusters from *at on, the first slot of one, and sets *at behind
 * them. Returns the number of its slots, 0 if there is none among them, or if fewer than `spare`
 * slots of the range would stay free. The caller ends it with slots_give_cluster. */
unsigned slots_take_cluster(unsigned number, uint32_t *at, uint32_t spare, struct slot *first);

/* Frees the slots of such a cluster; trimmed: none of them is stale any more. */
void slots_give_cluster(struct slot first, unsigned count, bool trimmed);

uint32_t slots_count(struct slot slot);

/* Returns the sum of all counts; walks every record. */
uint64_t slots_references(void);

/* Returns the record of a slot. The caller holds the slot, or no other user of the area is left. */
struct slot_record *slots_record(struct slot slot);

/* Returns the check value of a page in a slot, for the slot's generation. */
uint32_t slots_check_value(struct slot slot, uint32_t generation, const void *page);

/* Compares counts, bitmap and totals; panics on a difference. */
void slots_audit(void);

#endif

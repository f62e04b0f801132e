/*
 * The slots of the swap area: who holds them, which are free, and how their pages are checked.
 *
 * Units: slots of 4 KiB, from 0. Owns: the frames of the records and of the bitmap, from slots_open
 * to slots_close.
 * State of a slot: as in area.h. Fails with: STATUS_NO_MEMORY (slots_open), STATUS_NO_SPACE.
 * Context: any; never waits. Counts and bitmap have one lock; the other fields of a record belong
 * to whoever holds the slot.
 */
#ifndef SWAPDISK_SLOTS_H
#define SWAPDISK_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/status.h"
#include "lib/units.h"

/* 64 GiB of swap space; more of a partition is left unused. */
#define SLOTS_MAX (UINT32_C(1) << 24)

/* Protectors: (l) the slots' lock; (h) the holder that writes or reads the slot. */
struct slot_record {
    uint32_t count;      /* (l) entries and holds that name the slot; 0 = free */
    uint32_t check;      /* (h) over the page, the slot and the generation */
    uint32_t generation; /* (h) bit 31: full; below: number of writes, never reset */
};

#define SLOT_FULL            (UINT32_C(1) << 31)
#define SLOT_GENERATION_MASK (SLOT_FULL - 1)

_Static_assert(sizeof(struct slot_record) == 12, "341 records a frame");

MUST_USE enum status slots_open(uint32_t count);

/* Gives all memory back; whatever is still held is lost. */
void slots_close(void);

uint32_t slots_total(void);
uint32_t slots_used(void);

/* Takes up to wanted consecutive free slots, each with count 1 and empty. */
MUST_USE enum status slots_take(unsigned wanted, struct slot *first, unsigned *count);

void slots_hold(struct slot slot);

/* Drops one reference. Returns whether it was the last: then the slot is empty but not yet free,
 * and the caller ends its use with slots_free once nothing on the device needs it. */
bool slots_release(struct slot slot);
void slots_free(struct slot slot);

uint32_t slots_count(struct slot slot);

/* The sum of all counts; walks every record. */
uint64_t slots_references(void);

/* The record of a slot that somebody holds, or that slots_close is about to forget. */
struct slot_record *slots_record(struct slot slot);

/* The check value of a page in a slot of a generation. */
uint32_t slots_check_value(struct slot slot, uint32_t generation, const void *page);

/* Compares counts, bitmap and totals; panics on a difference. */
void slots_audit(void);

#endif

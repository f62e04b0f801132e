/*
 * Shared by the files of the swap area: area.c opens and closes it, area_io.c transfers pages.
 *
 * Units: as area.h. Owns: nothing. Context: as area.h. Fails with: as area.h.
 */
#ifndef SWAPDISK_AREA_INTERNAL_H
#define SWAPDISK_AREA_INTERNAL_H

#include "cpu/smp/thread.h"
#include "swapdisk/area.h"
#include "swapdisk/disks.h"

struct swap_area {
    bool open;
    bool settled; /* no transfers any more */
    bool intact;  /* and without an error */
    bool wipe;
    enum swap_backing backing;
    struct disk_chosen disk;   /* disk-backed: with its grant */
    struct block_device block; /* where the slots are */
    uint64_t first_lba;        /* of slot 0 */
    struct mutex mark_lock;    /* disk-backed: one update of the headers at a time */
    uint64_t pages_written;
    uint64_t pages_read;
    uint64_t corrupt;
    uint64_t errors;
    uint64_t retired;                  /* slots that failed in this run */
    void (*on_free)(struct slot slot); /* called when a slot is freed; or NULL */
    uint64_t bad_generation;           /* of the list of bad slots that was found */
};

extern struct swap_area area;

/* Returns the first sector of a slot. */
uint64_t area_lba(struct slot slot);

/* Writes frames to consecutive slots without check values. */
MUST_USE enum status area_store(struct slot first, const struct pfn *frames, unsigned pages);

#endif

/*
 * Shared by the files of the swap areas: area.c opens them, write.c and read.c transfer pages,
 * trim.c tells disks which slots are free, close.c ends them.
 *
 * An area is the slots of one set, or of the two halves of a mirror, of which each has every slot.
 *
 * Units: as area.h. Owns: nothing. Context: as area.h. Fails with: as area.h.
 */
#ifndef SWAPDISK_AREA_INTERNAL_H
#define SWAPDISK_AREA_INTERNAL_H

#include "cpu/smp/thread.h"
#include "pmm/pmm.h"
#include "swapdisk/area.h"
#include "swapdisk/area/slots.h"
#include "swapdisk/disks.h"
#include "swapdisk/mark/mark.h"

#define AREA_DISKS_MAX 2U

_Static_assert(SWAP_AREAS_MAX <= SLOT_RANGES_MAX && SWAP_AREAS_MAX >= SWAP_SETS_MAX,
               "each set may be an area, and each area has a range");

/* A disk of an area, or the memory of the one area that has no disk. Protectors: (a) atomic;
 * others are constant while the area is open, or their own module's. */
struct area_disk {
    struct disk_chosen disk;   /* with its grant; memory: zeroed */
    struct block_device block; /* no operations: this half of a mirror is not there */
    uint64_t first_lba;        /* of the area's first slot */
    struct swap_mark mark;
    uint64_t bad_generation;        /* of the list of bad slots that was found */
    struct pfn bad_list;            /* that list; PFN_NONE: all of its slots are retired */
    bool lost;                      /* (a) nothing is written to it any more */
    uint32_t failures;              /* (a) writes that failed since the last one that did not */
    bool no_trim;                   /* (a) it takes no TRIM, or one has failed */
    bool intact;                    /* settled without an error */
    struct swap_disk_usage counted; /* (a) */
};

struct swap_area {
    struct slot_range range;
    unsigned disk_count; /* places in disks: 2 for a mirror, also if a half is not there */
    struct area_disk disks[AREA_DISKS_MAX];
    struct mutex mark_lock; /* one update of the headers at a time */
    uint32_t trim_at;       /* under the trim lock: the slot from which free ones are looked for */
};

struct swap_areas {
    bool open;
    bool settled; /* no transfers any more */
    bool wipe;
    enum swap_backing backing;
    unsigned count;
    struct swap_area areas[SWAP_AREAS_MAX];
    struct swap_usage counted;         /* (a) counts of no single disk */
    void (*on_free)(struct slot slot); /* called when a slot is freed; or NULL */
    unsigned notes;                    /* (a) lines about single slots so far */
    struct mutex trim_lock; /* one TRIM at a time; its holder may hold clusters of free slots */
};

extern struct swap_areas swap;

static inline void area_add(uint64_t *counter, uint64_t by)
{
    __atomic_fetch_add(counter, by, __ATOMIC_RELAXED);
}

/* Returns the area of a slot. */
static inline struct swap_area *swap_area_of(struct slot slot)
{
    return swap.count == 1 ? &swap.areas[0] : &swap.areas[slots_range_of(slot)];
}

/* Returns the number of a slot on its own disks. */
static inline uint32_t area_slot(const struct swap_area *area, struct slot slot)
{
    return slot.index - area->range.first;
}

/* Returns the first sector of a slot on one disk of its area. */
static inline uint64_t area_lba(const struct swap_area *area, const struct area_disk *disk,
                                struct slot slot)
{
    return disk->first_lba + (uint64_t)area_slot(area, slot) * SECTORS_PER_PAGE;
}

static inline bool area_disk_there(const struct area_disk *disk)
{
    return disk->block.operations != NULL;
}

/* Frees the list of bad slots that a disk was found with. */
static inline void area_forget_bad_list(struct area_disk *disk)
{
    if (!pfn_is_none(disk->bad_list))
        pmm_free(disk->bad_list);
    disk->bad_list = PFN_NONE;
}

/* Returns whether a disk can still be read. */
static inline bool area_disk_serves(const struct area_disk *disk)
{
    return area_disk_there(disk) && block_serves(&disk->block);
}

/* Returns whether a disk may still be written. */
static inline bool area_disk_writable(const struct area_disk *disk)
{
    return area_disk_there(disk) && !__atomic_load_n(&disk->lost, __ATOMIC_RELAXED);
}

/* Notes after a failed transfer whether the disk has died or cannot be marked; then nothing more is
 * written to it, and an area without another disk gives out no slots. Logs it once. */
void area_note_failure(struct swap_area *area, struct area_disk *disk);

/* Notes the end of a write. A disk on which so many fail in a row that its places are not the
 * reason is given up as well, if another one can take the pages. */
void area_note_write(struct swap_area *area, struct area_disk *disk, bool failed);

/* Logs a line about one slot; after some dozens of them, only the counts at the end tell. */
void area_note_slot(const char *format, ...) PRINTF_LIKE(1, 2);

/* Marks the disks of an area as in use up to a slot before a write. Returns the disks that can be
 * written, a bit for each. */
unsigned area_mark(struct swap_area *area, uint32_t end_slot);

/* Trims all clusters of an area that are to be trimmed, on the disks that can be written. Nothing
 * is allocated meanwhile. */
void area_trim_all(struct swap_area *area);

/* Checks that all slots of a transfer exist and are held. */
void area_check_run(struct slot first, const struct pfn *frames, unsigned pages);

/* Writes frames to consecutive slots of one disk, or reads them, without check values. */
MUST_USE enum status area_transfer(struct swap_area *area, struct area_disk *disk,
                                   enum disk_operation operation, struct slot first,
                                   const struct pfn *frames, unsigned pages);

#endif

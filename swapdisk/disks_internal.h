/*
 * Shared by the files of the scan: disks.c finds and judges disks, disks_chosen.c uses those that
 * may be written.
 *
 * Units: as disks.h. Owns: nothing. Context: as disks.h. Fails with: as disks.h.
 */
#ifndef SWAPDISK_DISKS_INTERNAL_H
#define SWAPDISK_DISKS_INTERNAL_H

#include "pmm/pmm.h"
#include "swapdisk/ahci/ahci.h"
#include "swapdisk/disks.h"
#include "swapdisk/pci/pci.h"

/* An AHCI controller, in a frame of its own. */
struct controller {
    struct controller *next;
    struct pfn self;
    struct ahci_hba hba;
    struct pci_place place;
    bool started;
};

_Static_assert(sizeof(struct controller) <= PAGE_SIZE, "a controller fits its frame");

/* The report and the findings about one disk. */
struct found_disk {
    struct disk_report report;
    struct block_device block; /* no operations: not a disk, or a disk that was not judged */
    const struct disk_identity *identity;
    struct disk_finding finding;
};

#define ENTRIES_PER_FRAME ((PAGE_SIZE - 16) / sizeof(struct found_disk))

struct disk_frame {
    struct disk_frame *next;
    struct pfn self;
    unsigned count;
    struct found_disk entries[ENTRIES_PER_FRAME];
};

_Static_assert(sizeof(struct disk_frame) <= PAGE_SIZE, "the entries fit their frame");

struct found_disks {
    struct controller *controllers; /* the last one first */
    struct disk_frame *first;       /* entries in the order of the scan */
    struct disk_frame *last;
    unsigned count;
    struct disk_finding *findings; /* of all disks that were judged */
    struct disk_finding *last_finding;
    struct found_disk *chosen[SWAP_SETS_MAX]; /* the highest priority first */
    unsigned chosen_count;
    unsigned tags;      /* commands in flight at most, by the options */
    bool out_of_memory; /* a device could not be examined */
    bool totals_logged;
    struct found_disk spare; /* for devices that there is no memory to list */
};

extern struct found_disks found_disks;

/* Returns a judged disk as the validator looks at it. */
struct disk_view disks_view_of(struct found_disk *disk);

/* Logs one command that did not complete at its first attempt. */
void disks_log_error(const struct ahci_port *port, const struct ahci_error *error);

/* Chooses the disks that may be written, and puts the reason into each report. */
void disks_choose(const struct options *options, bool under_hypervisor);

#endif

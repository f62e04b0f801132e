/*
 * The machine's disks: finds them, identifies them, and says why each may be written or not.
 *
 * There is no limit on controllers and disks but memory. A disk that cannot be examined for lack of
 * memory may be a second copy of a set, so then no disk is written.
 *
 * Units: bytes. Owns: the controllers and their ports from disks_scan to disks_stop.
 * State: disks_scan -> (disks_open) -> disks_stop.
 * Fails with: nothing; a device that cannot be used is in the report.
 * Context: thread, once; waits for controllers and disks with bounds.
 * Spec: docs/disk-safety.md.
 */
#ifndef SWAPDISK_DISKS_H
#define SWAPDISK_DISKS_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/options.h"
#include "swapdisk/block/block.h"
#include "swapdisk/choose.h"
#include "swapdisk/validate.h"

/* One disk, or one controller or device that the driver leaves alone. */
struct disk_report {
    char place[32]; /* PCI address, and the port */
    char model[IDENTITY_MODEL_SIZE];
    char serial[IDENTITY_SERIAL_SIZE];
    uint64_t bytes; /* 0: not a disk */
    bool chosen;    /* it may be written */
    char reason[REASON_SIZE];
};

/* Finds controllers and disks, and chooses by the options which disks may be written. Writes
 * nothing to any disk. */
void disks_scan(const struct options *options, bool under_hypervisor);

/* Reports of the scan, for the log. */
unsigned disks_count(void);
const struct disk_report *disks_report(unsigned index);

/* Returns the disk of a report for reads, which need no grant; NULL: it is none, or was not
 * examined. */
const struct block_device *disks_block(unsigned index);

/* Returns whether every disk of the machine was examined: otherwise one may be the second copy of a
 * set. */
bool disks_all_examined(void);

/* A disk that may be written. */
struct disk_chosen {
    struct block_device block;
    const struct disk_identity *identity;
    const struct swap_grant *grant;
    uint16_t priority;
    struct disk_finding finding;
};

/* Returns how many disks were chosen. */
unsigned disks_chosen(void);

/* Validates a chosen disk once more and makes its grant; those of the highest priority come first.
 * Fails with STATUS_NOT_FOUND if there is no such disk, with STATUS_REFUSED if the second look
 * differs; its report then has the reason. */
MUST_USE enum status disks_open(unsigned index, struct disk_chosen *chosen);

/* Lets the chosen disks report completions by interrupts (MSI), each if one arrives on trial;
 * otherwise it stays polled. Logs which. Context: thread, interrupts on. */
void disks_start_interrupts(void);

/* Looks for overdue commands (ahci_look). Called every second. */
void disks_look(void);

/* Logs how many commands and errors there were; disks_stop does it if this was not called. */
void disks_log_totals(void);

/* Stops every controller: engines, interrupts and bus mastering. */
void disks_stop(void);

#endif

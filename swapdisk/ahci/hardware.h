/*
 * The machine-facing part of swapdisk/: access to device registers, and no decisions.
 *
 * hardware.c implements it, and hardware_pci() of pci.h; host tests put fakes in its place.
 * Units: bytes. Owns: the mappings, which stay. Context: thread.
 */
#ifndef SWAPDISK_AHCI_HARDWARE_H
#define SWAPDISK_AHCI_HARDWARE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/status.h"
#include "lib/units.h"
#include "swapdisk/ahci/ahci.h"

/* Maps a controller's registers, uncached. Fails with STATUS_REFUSED if the range is not device
 * memory. */
MUST_USE enum status hardware_map_hba(struct phys base, uint64_t size, struct hba_access *access);

/* The write by which a device interrupts a processor. */
struct hardware_message {
    uint64_t address;
    uint16_t data;
};

/* Sets the function that the running processor calls, with interrupts off, for each such message.
 * Returns false if it takes none. */
bool hardware_take_messages(void (*handler)(void), struct hardware_message *message);

#endif

/*
 * Storage controllers by their PCI class: which are used, and known defects.
 *
 * Units: none. Owns: nothing; pure functions. Fails with: nothing. Context: any.
 * Spec: PCI Code and ID Assignment 1.11, 1.2.
 */
#ifndef SWAPDISK_CONTROLLERS_H
#define SWAPDISK_CONTROLLERS_H

#include <stdbool.h>

#include "swapdisk/ahci/ahci.h"
#include "swapdisk/pci/pci.h"

bool controller_is_storage(const struct pci_function *function);

/* Returns why a storage controller is not used; NULL for AHCI. */
const char *controller_left_alone(const struct pci_function *function);

struct ahci_quirks controller_quirks(const struct pci_function *function);

#endif

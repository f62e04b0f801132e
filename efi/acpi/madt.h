/*
 * The MADT: which processors there are. Pure logic, tested on the host.
 *
 * Nothing in it is believed: entries that run past the table or are too short for their type make
 * the whole table damaged, since what follows them cannot be told from noise.
 *
 * Units: bytes. Owns: nothing.
 * Fails with: STATUS_CORRUPT (an entry's length is impossible, or no processor is enabled), and
 * what acpi_find fails with. Context: any; allocates nothing. Spec: ACPI 6.4, 5.2.12
 * (MADT), 5.2.12.2 (local APIC), 5.2.12.12 (local x2APIC).
 */
#ifndef EFI_ACPI_MADT_H
#define EFI_ACPI_MADT_H

#include "efi/acpi/acpi.h"

#define MADT_PROCESSORS_MAX 64U

struct madt {
    unsigned count;                    /* enabled processors that are listed below */
    unsigned disabled;                 /* entries that are not enabled */
    unsigned repeated;                 /* enabled entries whose id was listed before */
    unsigned left_out;                 /* enabled ones that did not fit */
    uint32_t ids[MADT_PROCESSORS_MAX]; /* local APIC ids, in the table's order */
};

/* Reads a table of length bytes, header included, whose checksum the caller has proved. */
MUST_USE enum status madt_parse(const void *table, uint32_t length, struct madt *madt);

/* Finds and reads the machine's. */
MUST_USE enum status acpi_find_madt(const struct acpi *acpi, struct madt *madt);

#endif

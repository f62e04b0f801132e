/*
 * The MADT, which lists the processors. Pure logic, tested on the host.
 *
 * An entry that runs past the table or is too short for its type makes the whole table corrupt,
 * since the entries after it cannot be found.
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
    unsigned left_out;                 /* enabled processors that did not fit */
    uint32_t ids[MADT_PROCESSORS_MAX]; /* local APIC ids, in the table's order */
};

/* Reads a table of length bytes, header included. The caller has verified the checksum. */
MUST_USE enum status madt_parse(const void *table, uint32_t length, struct madt *madt);

/* Finds and reads the machine's MADT. */
MUST_USE enum status acpi_find_madt(const struct acpi *acpi, struct madt *madt);

#endif

/*
 * Finds and checks ACPI tables, and reads three of them. Pure logic, tested on the host.
 *
 * A table is read only if it lies completely in memory that the firmware's map gives to tables, its
 * length is plausible, and its checksum is right.
 *
 * Units: bytes; physical addresses. Owns: nothing. The caller
 * provides the function that maps memory: one to one before the handover, through the direct map
 * after it, simulated on the host.
 * Fails with: STATUS_NOT_FOUND (no such table), STATUS_RANGE (outside of memory for tables),
 * STATUS_CORRUPT (signature, length or checksum), STATUS_UNSUPPORTED (valid, but not usable).
 * Context: any; allocates nothing.
 * Spec: ACPI 6.4, 5.2.5 (RSDP) to 5.2.9 (FADT), 5.2.3.2 (generic addresses); Microsoft, Serial
 * Port Console Redirection table, revision 4.
 */
#ifndef EFI_ACPI_ACPI_H
#define EFI_ACPI_ACPI_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/bootinfo.h"
#include "lib/status.h"
#include "lib/units.h"

/* Makes size bytes of physical memory readable until the next call; NULL when it cannot. */
typedef const void *(*acpi_map)(struct phys address, uint64_t size);

/* The header of every table. */
struct acpi_header {
    char signature[4];
    uint32_t length; /* of the whole table, this header included */
    uint8_t revision;
    uint8_t checksum;
    char oem_id[6];
    char oem_table_id[8];
    uint32_t oem_revision;
    uint32_t creator_id;
    uint32_t creator_revision;
};

_Static_assert(sizeof(struct acpi_header) == 36, "ACPI 6.4, table 5.4");

/* The opened root table; the fields are private to acpi.c. */
struct acpi {
    const struct bootinfo *info;
    acpi_map map;
    struct phys root; /* XSDT or RSDT */
    uint64_t root_length;
    unsigned entry_size; /* 8 or 4 */
};

enum acpi_space { ACPI_SPACE_MEMORY = 0, ACPI_SPACE_IO = 1, ACPI_SPACE_PCI = 2 };

/* A generic address. */
struct acpi_address {
    enum acpi_space space;
    unsigned access_size; /* bytes of an access: 1, 2, 4 or 8 */
    uint64_t address;     /* 0 = none */
};

/* The serial console that the firmware uses. */
struct acpi_spcr {
    struct acpi_address registers;
    uint32_t baud;  /* 0 = leave it as the firmware has set it */
    uint32_t clock; /* Hz of the UART's input; 0 = the PC's 1,843,200 */
    bool on_pci;
    uint8_t bus;
    uint8_t device;
    uint8_t function;
};

/* The power-management timer: 3,579,545 ticks a second. */
struct acpi_pm_timer {
    struct acpi_address counter;
    bool wide; /* 32 bits, else 24 */
};

/* Checks the RSDP and the root table. Prefers the XSDT; falls back to the RSDT if the XSDT is
 * damaged. */
MUST_USE enum status acpi_open(const struct bootinfo *info, acpi_map map, struct acpi *acpi);

/* Finds the first valid table with this signature ("APIC"). The table stays readable until the next
 * call of map; its header has its length. Skips damaged tables, and returns the status of one only
 * if no valid table follows. */
MUST_USE enum status acpi_find(const struct acpi *acpi, const char *signature,
                               const struct acpi_header **table);

/* Reads the SPCR. STATUS_UNSUPPORTED: redirection is off, or the port is not a 16550. */
MUST_USE enum status acpi_find_spcr(const struct acpi *acpi, struct acpi_spcr *spcr);

/* Finds the PM timer. STATUS_UNSUPPORTED: the machine has none. */
MUST_USE enum status acpi_find_pm_timer(const struct acpi *acpi, struct acpi_pm_timer *timer);

/* Finds the HPET's registers. STATUS_UNSUPPORTED: they are not in memory. */
MUST_USE enum status acpi_find_hpet(const struct acpi *acpi, struct phys *registers);

#endif

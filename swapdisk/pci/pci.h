/*
 * PCI configuration space: finding functions and reading their registers.
 *
 * All access goes through two functions, so that host tests can substitute a simulated machine. The
 * scan visits every bus number instead of following bridges: a machine with several root bridges
 * is then complete, and a bridge with a wrong secondary number cannot send the scan in a circle.
 *
 * Units: configuration offsets in bytes, accesses of 32 bits; base addresses in bytes.
 * Owns: nothing. State: none but the caller's scan cursor.
 * Fails with: nothing; an absent function reads as all ones and is not found.
 * Context: any, one processor at a time; a scan takes some ten thousand reads.
 * Spec: PCI Local Bus 3.0, chapter 6 (MSI: 6.8.1); PCI Power Management 1.2, 3.2.4.
 */
#ifndef SWAPDISK_PCI_PCI_H
#define SWAPDISK_PCI_PCI_H

#include <stdbool.h>
#include <stdint.h>

/* Configuration registers, by byte offset. */
#define PCI_COMMAND 0x04U
#define PCI_BAR0    0x10U

/* Bits of the command register. */
#define PCI_COMMAND_IO      (UINT32_C(1) << 0)
#define PCI_COMMAND_MEMORY  (UINT32_C(1) << 1)
#define PCI_COMMAND_MASTER  (UINT32_C(1) << 2)
#define PCI_COMMAND_NO_INTX (UINT32_C(1) << 10)

/* Address of a function. */
struct pci_place {
    uint8_t bus;
    uint8_t device;   /* 0 to 31 */
    uint8_t function; /* 0 to 7 */
};

/* Access to configuration space. offset is a multiple of 4 below 256. An absent function reads as
 * all ones. */
struct pci_access {
    uint32_t (*read)(void *context, struct pci_place place, unsigned offset);
    void (*write)(void *context, struct pci_place place, unsigned offset, uint32_t value);
    void *context;
};

/* A function that the scan found. */
struct pci_function {
    struct pci_place place;
    uint16_t vendor;
    uint16_t device;
    uint8_t class_code; /* base class */
    uint8_t subclass;
    uint8_t interface;
    uint8_t header_type; /* without the multi-function bit */
};

/* The cursor of a scan; only the scan uses its fields. */
struct pci_scan {
    const struct pci_access *access;
    uint32_t next; /* bus * 256 + device * 8 + function; 65536 = done */
};

/* A base address register, decoded. */
struct pci_bar {
    bool present; /* implemented, and set to an address */
    bool memory;  /* memory space, else I/O space */
    uint64_t base;
    uint64_t size; /* bytes, a power of two */
};

/* Returns access to this machine's configuration space, through ports CF8 and CFC
 * (swapdisk/ahci/hardware.c). */
const struct pci_access *hardware_pci(void);

/* Visits every function: begin once, then next until it returns false. */
void pci_scan_begin(struct pci_scan *scan, const struct pci_access *access);
bool pci_scan_next(struct pci_scan *scan, struct pci_function *function);

/* Decodes base address register `index`, 0 to 5. Sizing writes to the register: decoding is off
 * meanwhile, and all values are restored. */
struct pci_bar pci_bar(const struct pci_access *access, struct pci_place place, unsigned index);

/* Sets and clears bits of the command register. */
void pci_command(const struct pci_access *access, struct pci_place place, uint32_t set,
                 uint32_t clear);

/* Lets the function write this message for each interrupt (MSI, one vector). Returns false if it
 * cannot. */
bool pci_msi_on(const struct pci_access *access, struct pci_place place, uint64_t address,
                uint16_t data);
void pci_msi_off(const struct pci_access *access, struct pci_place place);

/* Brings the function to power state D0 and turns MSI and MSI-X off, where it has them. */
void pci_wake(const struct pci_access *access, struct pci_place place);

#endif

/*
 * Whether a physical address that a table of the firmware names may be accessed as a device. Pure
 * logic, tested on the host.
 *
 * A table may name any address. An access while boot services are on needs a mapping in the
 * firmware's page tables, and memory that the map gives to somebody is no device.
 *
 * Units: bytes; physical addresses. Owns: nothing. Fails with: false. Context: boot services, since
 * the firmware's page tables go away later; the local APIC on the kernel's tables.
 * Spec: Intel SDM volume 3, 4.5 (entries of 4-level and 5-level paging).
 */
#ifndef EFI_FIRMWARE_REACHABLE_H
#define EFI_FIRMWARE_REACHABLE_H

#include <stdbool.h>

#include "lib/bootinfo.h"
#include "lib/units.h"

/* The firmware's page tables, and the memory map beside them. */
struct reachable {
    const struct bootinfo *info;
    struct phys root;
    unsigned levels;
    uint64_t (*read)(struct phys entry); /* reads an entry of a page table */
};

/* Returns whether no memory in use overlaps the range: all of it is device or reserved memory, or
 * absent from the map. */
bool reachable_is_device(const struct bootinfo *info, struct phys start, uint64_t size);

/* Returns whether every page of the range is mapped one to one and writable. */
bool reachable_is_mapped(const struct reachable *reachable, struct phys start, uint64_t size);

/* Both: the range may be accessed as registers or as a framebuffer. */
bool reachable_device(const struct reachable *reachable, struct phys start, uint64_t size);

/* Maps the local APIC's registers for good, after the handover. Returns NULL, and says so in the
 * log, if memory in use is at `base`; also NULL for base 0, which means that the registers are not
 * in memory. */
volatile void *reachable_map_local_apic(const struct bootinfo *info, uint64_t base);

#endif

/*
 * Information from the firmware in plain types, the only firmware data used after the handover.
 *
 * Units: bytes; physical addresses. Owns: nothing; it has no pointers, so that it can be copied
 * with the image to the upper half.
 * State: filled by efi/ before and right after ExitBootServices, read-only afterwards.
 * Spec: UEFI 2.10, 7.2 (memory map), 12.9 (graphics output); ACPI 6.4, 5.2.5 (RSDP).
 */
#ifndef LIB_BOOTINFO_H
#define LIB_BOOTINFO_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/options.h"
#include "lib/units.h"

#define BOOTINFO_REGIONS_MAX 2048

/* Kinds of physical memory that paging tells apart. */
enum memory_kind {
    MEMORY_USABLE, /* conventional memory */
    MEMORY_LOADER, /* loader code and data, ours and other applications': free after the handover */
    MEMORY_BOOT_SERVICES, /* firmware's until ExitBootServices: free after it */
    MEMORY_RUNTIME_CODE,  /* firmware's for ever */
    MEMORY_RUNTIME_DATA,
    MEMORY_ACPI_TABLES, /* RAM that could be reclaimed; kept, since the tables are read again */
    MEMORY_ACPI_NVS,
    MEMORY_DEVICE,   /* memory-mapped registers */
    MEMORY_RESERVED, /* not to be touched, and perhaps not RAM */
    MEMORY_UNUSABLE, /* RAM with errors */
    MEMORY_KINDS
};

struct memory_region {
    struct phys start; /* aligned to 4 KiB, unless the firmware lies */
    uint64_t pages;    /* of 4 KiB; 0 only if the firmware lies */
    enum memory_kind kind;
    bool runtime;    /* the firmware's runtime services use it */
    bool write_back; /* may be cached (EFI_MEMORY_WB) */
};

/* A linear framebuffer of 32-bit pixels; width 0 = there is none. */
struct framebuffer {
    struct phys base;
    uint64_t size;  /* bytes */
    uint32_t width; /* pixels */
    uint32_t height;
    uint32_t pitch; /* pixels from one row to the next */
    bool red_first; /* byte order R G B x; otherwise B G R x */
};

struct bootinfo {
    struct options options;
    uint32_t region_count;
    uint32_t regions_dropped;                           /* descriptors that did not fit the array */
    struct memory_region regions[BOOTINFO_REGIONS_MAX]; /* in the firmware's order, unchecked */
    struct phys rsdp;                                   /* 0 = none */
    struct framebuffer screen;
    struct phys image;            /* where the firmware loaded the image */
    uint64_t image_size;          /* bytes, a multiple of 4 KiB */
    struct phys runtime_services; /* EFI_RUNTIME_SERVICES, for efi/end_run.c */
    char firmware[64];            /* vendor and revision, for the log */
    char boot_source[64];         /* the image's path or device, for the log */
};

#endif

/* Converts the firmware's memory map to regions. */
#include "efi/firmware/memory_map.h"

#include "lib/bytes.h"

/* EFI_MEMORY_TYPE: UEFI 2.10, 7.2.1. Types not listed here belong to the firmware or to a
 * loader, or are newer: reserved. */
#define TYPE_LOADER_CODE     1U
#define TYPE_LOADER_DATA     2U
#define TYPE_BOOT_CODE       3U
#define TYPE_BOOT_DATA       4U
#define TYPE_RUNTIME_CODE    5U
#define TYPE_RUNTIME_DATA    6U
#define TYPE_CONVENTIONAL    7U
#define TYPE_UNUSABLE        8U
#define TYPE_ACPI_RECLAIM    9U
#define TYPE_ACPI_NVS        10U
#define TYPE_MAPPED_IO       11U
#define TYPE_MAPPED_IO_PORTS 12U

/* Attributes: UEFI 2.10, 7.2.3. */
#define ATTRIBUTE_WB      (UINT64_C(1) << 3)
#define ATTRIBUTE_SP      (UINT64_C(1) << 18) /* set aside for a special purpose */
#define ATTRIBUTE_RUNTIME (UINT64_C(1) << 63)

/* EFI_MEMORY_DESCRIPTOR, version 1. Firmware may append fields, so the stride may be larger. */
struct descriptor {
    uint32_t type;
    uint32_t padding;
    uint64_t physical_start;
    uint64_t virtual_start;
    uint64_t pages;
    uint64_t attributes;
};

_Static_assert(sizeof(struct descriptor) == 40, "UEFI 2.10, 7.2.3");
_Static_assert(offsetof(struct descriptor, physical_start) == 8, "UEFI 2.10, 7.2.3");
_Static_assert(offsetof(struct descriptor, attributes) == 32, "UEFI 2.10, 7.2.3");

static enum memory_kind kind_of(const struct descriptor *descriptor)
{
    switch (descriptor->type) {
    case TYPE_LOADER_CODE:
    case TYPE_LOADER_DATA: return MEMORY_LOADER;
    case TYPE_BOOT_CODE:
    case TYPE_BOOT_DATA: return MEMORY_BOOT_SERVICES;
    case TYPE_RUNTIME_CODE: return MEMORY_RUNTIME_CODE;
    case TYPE_RUNTIME_DATA: return MEMORY_RUNTIME_DATA;
    case TYPE_CONVENTIONAL:
        /* Special-purpose memory has this type, but belongs to a driver. */
        return (descriptor->attributes & ATTRIBUTE_SP) != 0 ? MEMORY_RESERVED : MEMORY_USABLE;
    case TYPE_UNUSABLE: return MEMORY_UNUSABLE;
    case TYPE_ACPI_RECLAIM: return MEMORY_ACPI_TABLES;
    case TYPE_ACPI_NVS: return MEMORY_ACPI_NVS;
    case TYPE_MAPPED_IO:
    case TYPE_MAPPED_IO_PORTS: return MEMORY_DEVICE;
    default: return MEMORY_RESERVED;
    }
}

enum status memory_map_convert(const void *descriptors, size_t size, size_t stride,
                               struct bootinfo *info)
{
    const unsigned char *at = descriptors;

    info->region_count = 0;
    info->regions_dropped = 0;
    if (stride < sizeof(struct descriptor) || size < stride)
        return STATUS_CORRUPT;
    for (size_t left = size; left >= stride; left -= stride, at += stride) {
        struct descriptor descriptor;

        if (info->region_count == BOOTINFO_REGIONS_MAX) {
            info->regions_dropped++;
            continue;
        }
        /* Copied, since the stride may leave descriptors unaligned. */
        memcpy(&descriptor, at, sizeof(descriptor));
        info->regions[info->region_count++] = (struct memory_region){
            .start = {descriptor.physical_start},
            .pages = descriptor.pages,
            .kind = kind_of(&descriptor),
            .runtime = (descriptor.attributes & ATTRIBUTE_RUNTIME) != 0,
            .write_back = (descriptor.attributes & ATTRIBUTE_WB) != 0,
        };
    }
    return OK;
}

/* The memory map, and the end of boot services. */
#include "efi/firmware/firmware.h"

#include "efi/firmware/memory_map.h"

/* Descriptors that may be added between asking for the size and asking for the map. */
#define MAP_SLACK 64U

/* Firmware needs two attempts at most; more than this is a permanent error. */
#define ATTEMPTS_MAX 16U

static struct {
    void *buffer;
    UINTN pages;
    UINTN size; /* of the map in the buffer */
    UINTN stride;
    UINTN key;
} map;

/* Allocates a buffer for a map of this size and some more, and frees the old one. */
static enum status firmware_map_make_room(const struct firmware *firmware, UINTN size, UINTN stride)
{
    EFI_PHYSICAL_ADDRESS address;
    UINTN pages = (size + MAP_SLACK * stride) / PAGE_SIZE + 1;

    if (map.buffer != NULL)
        firmware->services->FreePages((uintptr_t)map.buffer, map.pages);
    map.buffer = NULL;
    if (EFI_ERROR(
            firmware->services->AllocatePages(AllocateAnyPages, EfiLoaderData, pages, &address)))
        return STATUS_NO_MEMORY;
    map.buffer = (void *)(uintptr_t)address;
    map.pages = pages;
    return OK;
}

/* Reads the map. If the buffer is too small, allocates a larger one and retries. */
static enum status get_map(const struct firmware *firmware)
{
    for (unsigned attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
        UINT8 nothing[sizeof(EFI_MEMORY_DESCRIPTOR)];
        UINT32 version = 0;
        EFI_STATUS status;
        enum status room;

        map.size = map.buffer != NULL ? map.pages * PAGE_SIZE : 0;
        map.stride = sizeof(EFI_MEMORY_DESCRIPTOR);
        status = firmware->services->GetMemoryMap(&map.size,
                                                  map.buffer != NULL ? map.buffer : (void *)nothing,
                                                  &map.key, &map.stride, &version);
        if (status == EFI_SUCCESS && map.buffer != NULL)
            return map.size <= map.pages * PAGE_SIZE ? OK : STATUS_CORRUPT;
        if (status != EFI_BUFFER_TOO_SMALL)
            return STATUS_IO;
        room = firmware_map_make_room(firmware, map.size, map.stride);
        if (room != OK)
            return room;
    }
    return STATUS_LIMIT;
}

enum status firmware_read_map(const struct firmware *firmware, struct bootinfo *info)
{
    enum status status = get_map(firmware);

    return status == OK ? memory_map_convert(map.buffer, map.size, map.stride, info) : status;
}

/* Leaves boot services. The key identifies a version of the map, and the firmware's timer may
 * change the map before the call: EFI_INVALID_PARAMETER means a stale key, so the map is read
 * again. No other boot service may be called then (UEFI 2.10, 7.4.6). */
enum status firmware_leave(const struct firmware *firmware, struct bootinfo *info)
{
    for (unsigned attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
        enum status status = get_map(firmware);
        EFI_STATUS left;

        if (status != OK)
            return status;
        left = firmware->services->ExitBootServices(firmware->handle, map.key);
        if (left == EFI_SUCCESS)
            return memory_map_convert(map.buffer, map.size, map.stride, info);
        if (left != EFI_INVALID_PARAMETER)
            return STATUS_IO;
    }
    return STATUS_TIMEOUT;
}

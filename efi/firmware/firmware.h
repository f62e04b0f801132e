/*
 * Queries of the firmware while its boot services are on.
 *
 * Units: bytes; physical addresses, one to one mapped. Owns: the buffer of the memory map and the
 * text of the configuration file.
 * State: open -> collect, read, map -> leave; after leave has begun, call nothing here.
 * Fails with: a status; with text where a person has to act.
 * Context: boot services, one processor.
 * Spec: UEFI 2.10, 4.3 (system table), 7.2 (memory), 7.4.6 (ExitBootServices), 9.1 (loaded image),
 * 10.3 (device paths), 12.9 (graphics output), 13.4 and 13.5 (files).
 */
#ifndef EFI_FIRMWARE_FIRMWARE_H
#define EFI_FIRMWARE_FIRMWARE_H

#include <efi.h>
#include <stddef.h>

#include "lib/bootinfo.h"
#include "lib/status.h"

struct firmware {
    EFI_HANDLE handle; /* of the image */
    EFI_SYSTEM_TABLE *table;
    EFI_BOOT_SERVICES *services;
    EFI_LOADED_IMAGE *image;
};

/* The contents of the configuration file. */
struct config_file {
    const char *text; /* NULL: there is none */
    size_t size;
    const char *error; /* for the log; NULL: none */
};

/* Finds the protocol of the loaded image. STATUS_UNSUPPORTED: the firmware has none. */
MUST_USE enum status firmware_open(EFI_HANDLE handle, EFI_SYSTEM_TABLE *table,
                                   struct firmware *firmware);

/* Fills image, ACPI root pointer, runtime services and firmware name. */
void firmware_collect(const struct firmware *firmware, struct bootinfo *info);

/* Opens the root of the image's volume; the caller closes it. STATUS_NOT_FOUND: there is no volume;
 * STATUS_IO: it does not open. */
MUST_USE enum status firmware_open_volume(const struct firmware *firmware, EFI_FILE_HANDLE *root);

/* Reads \faultline.cfg from the image's volume. A missing volume or file is no error. */
void firmware_read_config(const struct firmware *firmware, struct config_file *file);

/* efi/firmware/screen.c: finds a linear framebuffer. Returns the reason if there is none. */
const char *firmware_find_screen(const struct firmware *firmware, struct framebuffer *screen);

/* efi/firmware/boot_source.c: describes the device that the image was started from. */
void firmware_boot_source(const struct firmware *firmware, char *text, size_t size);

/* efi/firmware/exit_boot_services.c: reads the current memory map into info. */
MUST_USE enum status firmware_read_map(const struct firmware *firmware, struct bootinfo *info);

/* efi/firmware/exit_boot_services.c: ends boot services and reads the final map into info. On
 * failure, boot services may have ended in part: use runtime services only. */
MUST_USE enum status firmware_leave(const struct firmware *firmware, struct bootinfo *info);

/* efi/firmware/confirm_write.c: on a real machine, if the options name a set, counts ten seconds
 * down in the log. Esc prevents all writes to disks. */
void firmware_confirm_swap(const struct firmware *firmware, struct options *options);

/* efi/firmware/keep_log.c: with report=boot. Saves the log of the run before, if a warm reset has
 * left it in memory, as \faultline.log on the image's volume. Reserves a block of KEPT_LOG_BLOCK
 * bytes for this run's log; returns false without one. `words` receives a sentence for the log. */
bool firmware_keep_log(const struct firmware *firmware, struct phys *block, char *words,
                       size_t size);

static inline bool guid_equal(const EFI_GUID *a, const EFI_GUID *b)
{
    return __builtin_memcmp(a, b, sizeof(*a)) == 0;
}

#endif

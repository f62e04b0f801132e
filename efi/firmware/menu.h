/*
 * The menu at the start: a key that is pending, or menu=1, opens it before boot services end.
 *
 * It reads the firmware's console, so a USB keyboard and the firmware's serial terminal work. It
 * prints notes of the log.
 *
 * Units: none. Owns: nothing. Fails with: nothing; without a keyboard there is no menu.
 * Context: boot services, after the consoles have started.
 * Spec: UEFI 2.10, 12.3 (simple text input).
 */
#ifndef EFI_FIRMWARE_MENU_H
#define EFI_FIRMWARE_MENU_H

#include <stdbool.h>

#include "efi/firmware/firmware.h"

#define MENU_LINE 256U

/* Returns whether a key is pending; it is taken. Never waits. */
bool firmware_key_pending(const struct firmware *firmware);

/* Reads a line up to Enter, which is left out, showing it after the last one. Returns false if the
 * firmware has no keyboard, or no key was pressed for 5 minutes. */
MUST_USE bool firmware_read_line(const struct firmware *firmware, char line[MENU_LINE]);

/* Describes the device of a handle: "AHCI disk". */
void firmware_describe(const struct firmware *firmware, EFI_HANDLE handle, char *text, size_t size);

/* efi/firmware/disk_list.c: notes each disk, and whether the run may write it. */
void firmware_list_disks(const struct firmware *firmware, const struct options *options);

#endif

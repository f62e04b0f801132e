/*
 * Both consoles, serial and screen, behind print().
 *
 * Owns: their sinks. State: none -> (start) -> on the firmware's mappings -> (arrive) -> on the
 * kernel's. Fails with: nothing; a run without any console is possible.
 * Context: start with boot services on; arrive once, in the upper half, before pmm/ hands out the
 * memory from which the image came.
 */
#ifndef EFI_CONSOLE_CONSOLE_H
#define EFI_CONSOLE_CONSOLE_H

#include "efi/acpi/acpi.h"
#include "lib/bootinfo.h"

/* Finds and attaches the consoles; acpi is NULL when there are no tables. */
void consoles_start(const struct bootinfo *info, const struct acpi *acpi);

void console_relocated(void);

#endif

/*
 * Both consoles, serial and screen, behind print().
 *
 * Owns: their sinks. State: none -> (start) -> on the firmware's mappings -> (relocated) -> on the
 * kernel's mappings. Fails with: nothing; a run needs no console. Context: start with boot services
 * on; relocated once, in the upper half, before pmm/ allocates the memory of the image's first
 * copy.
 */
#ifndef EFI_CONSOLE_CONSOLE_H
#define EFI_CONSOLE_CONSOLE_H

#include "efi/acpi/acpi.h"
#include "efi/firmware/reachable.h"

/* Finds and attaches the consoles. Memory that `reachable` does not allow is not accessed; acpi is
 * NULL when there are no tables. */
void consoles_start(const struct reachable *reachable, const struct acpi *acpi);

/* Moves both consoles to the kernel's mappings. */
void console_relocated(void);

#endif

/*
 * The serial console: one 16550, found, probed, and written to with a bound on every wait.
 *
 * Places are tried in order until one answers: the port that ACPI's SPCR names, a PCI UART, COM1;
 * or only the one that serial= names. A port answers when its scratch register keeps two patterns
 * and its modem lines follow in loopback mode: an absent one reads as all ones.
 *
 * Units: I/O ports or bytes of physical address; baud. Owns: the port from serial_start on.
 * State: none -> (start) -> firmware's addresses -> (arrive) -> kernel's addresses; any -> dead
 * when the port stops taking characters, after which text is dropped at once.
 * Fails with: nothing that a caller could handle; without a port text goes nowhere.
 * Context: start on the firmware's mappings; writing anywhere, also in a crash.
 * Spec: National Semiconductor PC16550D, 8 (registers).
 */
#ifndef EFI_CONSOLE_SERIAL_H
#define EFI_CONSOLE_SERIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "efi/acpi/acpi.h"
#include "lib/options.h"

/* Where a UART may be, and how it wants to be set up. */
struct uart_place {
    bool memory;     /* base is a physical address, else an I/O port */
    uint64_t base;   /* 0 = nowhere */
    unsigned stride; /* bytes from one register to the next, and of an access: 1, 2 or 4 */
    uint32_t baud;   /* 0 = leave it as it is */
    uint32_t clock;  /* Hz */
};

/* A PC's UART clock. */
#define UART_CLOCK 1843200U
#define UART_BAUD  115200U

/* Finds and sets up a port; acpi is NULL when there are no tables. */
void serial_start(const struct options *options, const struct acpi *acpi);

/* Maps the port's registers at the kernel's addresses. */
void serial_relocated(void);

/* Writes text, each newline as CR LF. */
void serial_write(const char *text, size_t size);

/* Waits, within bounds, until the last bit has left. */
void serial_drain(void);

/* What was found, in words: "I/O port 0x3f8 (COM1), 115200 baud"; "none" without a port. */
const char *serial_description(void);

/* ---- efi/console/serial_find.c ---- */

/* The kinds of places, in the order in which they are tried. */
enum uart_origin { UART_SPCR, UART_PCI, UART_COM1, UART_NAMED, UART_ORIGINS };

/* The number-th place of an origin, from 0; false when there are no more. */
bool serial_find(enum uart_origin origin, unsigned number, const struct options *options,
                 const struct acpi *acpi, struct uart_place *place);

#endif

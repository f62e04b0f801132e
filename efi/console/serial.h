/*
 * The serial console: finds, probes and writes one 16550, with a bound on every wait.
 *
 * Tries places in order until a port answers: ACPI's SPCR, PCI UARTs, COM1; or only the place that
 * serial= names. A port answers if its scratch register keeps two patterns and its modem lines work
 * in loopback mode. An absent port reads as all ones.
 *
 * Units: I/O ports or bytes of physical address; baud. Owns: the port from serial_start on. State:
 * none -> (start) -> firmware's addresses -> (relocated) -> kernel's addresses; any -> dead if the
 * port stops taking characters; text is then dropped at once. Fails with: nothing that a caller
 * could handle; without a port, text is dropped. Context: start on the firmware's mappings; writing
 * anywhere, also in a crash. Spec: National Semiconductor PC16550D, 8 (registers).
 */
#ifndef EFI_CONSOLE_SERIAL_H
#define EFI_CONSOLE_SERIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "efi/acpi/acpi.h"
#include "efi/firmware/reachable.h"

/* A possible place of a UART, and its settings. */
struct uart_place {
    bool memory;     /* base is a physical address, else an I/O port */
    uint64_t base;   /* 0 = nowhere */
    unsigned stride; /* bytes from one register to the next, and of an access: 1, 2 or 4 */
    uint32_t baud;   /* 0 = leave it as it is */
    uint32_t clock;  /* Hz */
};

#define UART_REGISTERS 8U

/* A PC's UART clock. */
#define UART_CLOCK 1843200U
#define UART_BAUD  115200U

/* Finds and sets up a port; acpi is NULL when there are no tables. */
void serial_start(const struct reachable *reachable, const struct acpi *acpi);

/* Returns whether a 16550 may be at this I/O port: at one of the PC's four serial ports, or at the
 * port of a PCI serial controller. A probe of another port would write to some other device. */
bool serial_owns_port(uint64_t port);

/* Maps the port's registers at the kernel's addresses. */
void serial_relocated(void);

/* Writes text, each newline as CR LF. */
void serial_write(const char *text, size_t size);

/* Returns whether there is a port that takes text. */
bool serial_present(void);

/* Returns the next character that has arrived, -1 if there is none. */
int serial_read(void);

/* Waits, within bounds, until the last bit has left. */
void serial_drain(void);

/* Describes the port: "I/O port 0x3f8 (COM1), 115200 baud"; "none" without a port. */
const char *serial_description(void);

/* ---- efi/console/serial_find.c ---- */

/* The sources of places, in the order of the tries. */
enum uart_origin { UART_SPCR, UART_PCI, UART_COM1, UART_NAMED, UART_ORIGINS };

/* Finds the number-th place of an origin, from 0; returns false if there are no more. */
bool serial_find(enum uart_origin origin, unsigned number, const struct reachable *reachable,
                 const struct acpi *acpi, struct uart_place *place);

#endif

/* Places of a 16550: ACPI's SPCR, PCI functions, COM1, or the port that serial= names. */
#include "efi/console/serial.h"
#include "swapdisk/pci/pci.h"

#define COM1_PORT 0x3f8U

/* PCI class 07/00: serial controller; the interface is the model of the chip. */
#define PCI_CLASS_COMMUNICATION 0x07U
#define PCI_SUBCLASS_SERIAL     0x00U
#define PCI_INTERFACE_16550     0x02U
#define PCI_INTERFACE_16950     0x06U

#define PCI_BAR_IO      (UINT32_C(1) << 0)
#define PCI_BAR_IO_MASK (~UINT32_C(3))

/* Returns the I/O base of a PCI UART and enables its I/O decoding. The BAR is only read: sizing it
 * would interrupt the firmware's use of the port. */
static bool place_of_function(struct pci_place function, struct uart_place *place)
{
    const struct pci_access *pci = hardware_pci();
    uint32_t bar = pci->read(pci->context, function, PCI_BAR0);

    if ((bar & PCI_BAR_IO) == 0 || (bar & PCI_BAR_IO_MASK) == 0 ||
        (bar & PCI_BAR_IO_MASK) > UINT16_MAX - 7)
        return false;
    pci_command(pci, function, PCI_COMMAND_IO, 0);
    *place = (struct uart_place){
        .base = bar & PCI_BAR_IO_MASK, .stride = 1, .baud = UART_BAUD, .clock = UART_CLOCK};
    return true;
}

static bool is_uart(const struct pci_function *function, bool plain_16550)
{
    return function->class_code == PCI_CLASS_COMMUNICATION &&
           function->subclass == PCI_SUBCLASS_SERIAL &&
           function->interface <= PCI_INTERFACE_16950 &&
           (function->interface == PCI_INTERFACE_16550) == plain_16550;
}

/* Finds UARTs with the 16550 interface first, then those with a compatible one. */
static bool find_pci(unsigned number, struct uart_place *place)
{
    for (int pass = 0; pass < 2; pass++) {
        struct pci_function function;
        struct pci_scan scan;

        pci_scan_begin(&scan, hardware_pci());
        while (pci_scan_next(&scan, &function)) {
            if (is_uart(&function, pass == 0) && place_of_function(function.place, place) &&
                number-- == 0)
                return true;
        }
    }
    return false;
}

/* The I/O ports that PCs have had for serial ports since the first one. */
static const uint16_t com_ports[] = {COM1_PORT, 0x2f8, 0x3e8, 0x2e8};

bool serial_owns_port(uint64_t port)
{
    struct pci_function function;
    struct uart_place place;
    struct pci_scan scan;

    for (size_t i = 0; i < ARRAY_COUNT(com_ports); i++) {
        if (port == com_ports[i])
            return true;
    }
    pci_scan_begin(&scan, hardware_pci());
    while (pci_scan_next(&scan, &function)) {
        if ((is_uart(&function, true) || is_uart(&function, false)) &&
            place_of_function(function.place, &place) && place.base == port)
            return true;
    }
    return false;
}

/* Returns whether the place may be probed without touching another device. */
static bool is_own_place(const struct reachable *reachable, const struct uart_place *place)
{
    if (!place->memory)
        return serial_owns_port(place->base);
    return place->stride <= 4 && place->base % place->stride == 0 &&
           reachable_device(reachable, (struct phys){place->base},
                            (uint64_t)UART_REGISTERS * place->stride);
}

static bool find_spcr(const struct reachable *reachable, const struct acpi *acpi,
                      struct uart_place *place)
{
    struct acpi_spcr spcr;

    if (acpi == NULL || acpi_find_spcr(acpi, &spcr) != OK)
        return false;
    if (spcr.registers.address == 0) {
        if (!place_of_function((struct pci_place){spcr.bus, spcr.device, spcr.function}, place))
            return false;
    } else {
        *place = (struct uart_place){.memory = spcr.registers.space == ACPI_SPACE_MEMORY,
                                     .base = spcr.registers.address,
                                     .stride = spcr.registers.access_size};
        if (!place->memory)
            place->stride = 1;
        if (!is_own_place(reachable, place))
            return false;
    }
    place->baud = spcr.baud;
    place->clock = spcr.clock != 0 ? spcr.clock : UART_CLOCK;
    return true;
}

bool serial_find(enum uart_origin origin, unsigned number, const struct reachable *reachable,
                 const struct acpi *acpi, struct uart_place *place)
{
    uint16_t port = COM1_PORT;

    if (origin == UART_PCI)
        return find_pci(number, place);
    if (number > 0)
        return false;
    if (origin == UART_SPCR)
        return find_spcr(reachable, acpi, place);
    if (origin == UART_NAMED)
        port = reachable->info->options.serial_port;
    *place = (struct uart_place){.base = port, .stride = 1, .baud = UART_BAUD, .clock = UART_CLOCK};
    return is_own_place(reachable, place);
}

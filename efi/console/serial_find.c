/* Where a 16550 may be: ACPI's SPCR, PCI functions, COM1, or the port that the user names. */
#include "efi/console/serial.h"
#include "swapdisk/pci/pci.h"

#define COM1_PORT 0x3f8U

/* PCI class 07/00: serial controller; its interface says which chip it is like. */
#define PCI_CLASS_COMMUNICATION 0x07U
#define PCI_SUBCLASS_SERIAL     0x00U
#define PCI_INTERFACE_16550     0x02U
#define PCI_INTERFACE_16950     0x06U

#define PCI_BAR_IO      (UINT32_C(1) << 0)
#define PCI_BAR_IO_MASK (~UINT32_C(3))

/* The I/O base of a PCI UART, made to decode it. The register is only read: sizing it would take
 * the port away from the firmware for a moment. */
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

/* Those that call themselves 16550 come before those that are merely like one. */
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

/* Whether an address is memory that somebody uses: no place for a device's registers. */
static bool is_ram(const struct bootinfo *info, uint64_t address)
{
    for (uint32_t i = 0; i < info->region_count; i++) {
        const struct memory_region *region = &info->regions[i];

        if (region->kind != MEMORY_DEVICE && region->kind != MEMORY_RESERVED &&
            address >= region->start.address &&
            (address - region->start.address) / PAGE_SIZE < region->pages)
            return true;
    }
    return false;
}

static bool find_spcr(const struct acpi *acpi, struct uart_place *place)
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
        if (place->memory ? place->stride > 4 || is_ram(acpi->info, place->base)
                          : place->base > UINT16_MAX - 7)
            return false;
    }
    place->baud = spcr.baud;
    place->clock = spcr.clock != 0 ? spcr.clock : UART_CLOCK;
    return true;
}

bool serial_find(enum uart_origin origin, unsigned number, const struct options *options,
                 const struct acpi *acpi, struct uart_place *place)
{
    uint16_t port = COM1_PORT;

    if (origin == UART_PCI)
        return find_pci(number, place);
    if (number > 0)
        return false;
    if (origin == UART_SPCR)
        return find_spcr(acpi, place);
    if (origin == UART_NAMED)
        port = options->serial_port;
    *place = (struct uart_place){.base = port, .stride = 1, .baud = UART_BAUD, .clock = UART_CLOCK};
    return true;
}

/* The machine-facing part of swapdisk/: configuration ports and mapped registers. */
#include "swapdisk/ahci/hardware.h"

#include <stddef.h>

#include "cpu/interrupts/local_apic.h"
#include "cpu/port.h"
#include "cpu/trap/trap.h"
#include "lib/check.h"
#include "paging/kernel/map.h"
#include "swapdisk/pci/pci.h"

/* Configuration mechanism 1 (PCI 3.0, 3.2.2.3.2). */
#define CONFIG_ADDRESS 0xcf8U
#define CONFIG_DATA    0xcfcU
#define CONFIG_ENABLE  (UINT32_C(1) << 31)

/* Where a device writes messages for local APICs (SDM volume 3, 11.11.1). */
#define MESSAGE_ADDRESS UINT64_C(0xfee00000)

/* All registers of 32 ports (AHCI 1.3.1, 3). */
#define HBA_BYTES UINT64_C(0x1100)

static void select_register(struct pci_place place, unsigned offset)
{
    port_out32(CONFIG_ADDRESS, CONFIG_ENABLE | (uint32_t)place.bus << 16 |
                                   (uint32_t)place.device << 11 | (uint32_t)place.function << 8 |
                                   offset);
}

static uint32_t config_read(void *context, struct pci_place place, unsigned offset)
{
    (void)context;
    select_register(place, offset);
    return port_in32(CONFIG_DATA);
}

static void config_write(void *context, struct pci_place place, unsigned offset, uint32_t value)
{
    (void)context;
    select_register(place, offset);
    port_out32(CONFIG_DATA, value);
}

const struct pci_access *hardware_pci(void)
{
    static const struct pci_access ports = {.read = config_read, .write = config_write};

    return &ports;
}

static uint32_t window_read(void *context, uint32_t offset)
{
    const volatile uint32_t *registers = context;

    return registers[offset / 4];
}

static void window_write(void *context, uint32_t offset, uint32_t value)
{
    volatile uint32_t *registers = context;

    registers[offset / 4] = value;
}

static void (*on_message)(void);

static bool take_message(struct trap_frame *frame)
{
    (void)frame;
    on_message();
    local_apic_end();
    return true;
}

/* The identifier has 8 bits in a message (SDM volume 3, 11.11.1). */
bool hardware_take_messages(void (*handler)(void), struct hardware_message *message)
{
    if (!local_apic_present() || local_apic_id() >= UINT8_MAX)
        return false;
    on_message = handler;
    trap_set_handler(VECTOR_DISK, take_message);
    *message =
        (struct hardware_message){MESSAGE_ADDRESS | (uint64_t)local_apic_id() << 12, VECTOR_DISK};
    return true;
}

enum status hardware_map_hba(struct phys base, uint64_t size, struct hba_access *access)
{
    void *registers;

    CHECK(base.address % 4 == 0 && size > 0);
    size = min_u64(size, HBA_BYTES);
    registers = kernel_map_device(base, size, DEVICE_UNCACHED);
    if (registers == NULL)
        return STATUS_REFUSED;
    *access = (struct hba_access){
        .read = window_read, .write = window_write, .context = registers, .size = (uint32_t)size};
    return OK;
}

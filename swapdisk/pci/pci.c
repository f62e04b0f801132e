/* PCI configuration space: finding functions and reading their registers. */
#include "swapdisk/pci/pci.h"

#include "cpu/machine.h"
#include "lib/check.h"

/* Configuration header (PCI 3.0, 6.1). */
#define PCI_ID           0x00U
#define PCI_CLASS        0x08U
#define PCI_HEADER       0x0cU
#define PCI_CAPABILITIES 0x34U

#define PCI_COMMAND_MASK         UINT32_C(0x0000ffff) /* the upper half clears by writing ones */
#define PCI_STATUS_CAPABILITIES  (UINT32_C(1) << 20)
#define PCI_HEADER_MULTIFUNCTION (UINT32_C(1) << 23)

/* Base address registers (6.2.5.1). */
#define PCI_BAR_IO        (UINT32_C(1) << 0)
#define PCI_BAR_TYPE_MASK (UINT32_C(3) << 1)
#define PCI_BAR_TYPE_64   (UINT32_C(2) << 1)

#define PCI_CAPABILITY_POWER 0x01U
#define PCI_CAPABILITY_MSI   0x05U
#define PCI_CAPABILITY_MSIX  0x11U

/* PMCSR, the second word of the capability; bit 15 clears by writing one. */
#define PCI_POWER_STATE_MASK UINT32_C(3)
#define PCI_POWER_PME_STATUS (UINT32_C(1) << 15)
#define PCI_MSI_ENABLE       (UINT32_C(1) << 16) /* message control, bit 0 */
#define PCI_MSI_VECTORS      (UINT32_C(7) << 20) /* message control, bits 4 to 6: log of vectors */
#define PCI_MSI_64           (UINT32_C(1) << 23) /* message control, bit 7 */
#define PCI_MSI_LAST         0xf0U               /* where a capability of 16 bytes may begin */
#define PCI_MSIX_ENABLE      (UINT32_C(1) << 31) /* message control, bit 15 */

/* Time from D3 to D0 (PCI Power Management 1.2, 5.4). */
#define POWER_UP_US 10000U

#define PLACES 65536U

/* Bound for a list that loops: 192 bytes hold at most this many capabilities of 4 bytes. */
#define CAPABILITIES_MAX 48

static struct pci_place pci_place_of(uint32_t number)
{
    return (struct pci_place){(uint8_t)(number >> 8), (uint8_t)(number >> 3 & 31),
                              (uint8_t)(number & 7)};
}

static uint32_t pci_read(const struct pci_access *access, struct pci_place place, unsigned offset)
{
    CHECK(offset % 4 == 0 && offset < 256);
    return access->read(access->context, place, offset);
}

static void write(const struct pci_access *access, struct pci_place place, unsigned offset,
                  uint32_t value)
{
    CHECK(offset % 4 == 0 && offset < 256);
    access->write(access->context, place, offset, value);
}

/* Returns whether a function answers: vendor FFFF means none, and some bridges return 0 instead. */
static bool id_present(uint32_t id)
{
    return (id & 0xffff) != 0xffff && (id & 0xffff) != 0;
}

void pci_scan_begin(struct pci_scan *scan, const struct pci_access *access)
{
    *scan = (struct pci_scan){.access = access};
}

/* Returns the next place of the scan: skips the rest of a device without function 0, or with that
 * function alone. */
static uint32_t next_function(uint32_t number, bool present, bool multifunction)
{
    return number % 8 == 0 && (!present || !multifunction) ? number + 8 : number + 1;
}

bool pci_scan_next(struct pci_scan *scan, struct pci_function *function)
{
    while (scan->next < PLACES) {
        struct pci_place place = pci_place_of(scan->next);
        uint32_t id = pci_read(scan->access, place, PCI_ID);
        bool present = id_present(id);
        uint32_t header = present ? pci_read(scan->access, place, PCI_HEADER) : 0;
        uint32_t class_code;

        scan->next = next_function(scan->next, present, (header & PCI_HEADER_MULTIFUNCTION) != 0);
        if (!present)
            continue;
        class_code = pci_read(scan->access, place, PCI_CLASS);
        *function = (struct pci_function){.place = place,
                                          .vendor = (uint16_t)id,
                                          .device = (uint16_t)(id >> 16),
                                          .class_code = (uint8_t)(class_code >> 24),
                                          .subclass = (uint8_t)(class_code >> 16),
                                          .interface = (uint8_t)(class_code >> 8),
                                          .header_type = (uint8_t)(header >> 16 & 0x7f)};
        return true;
    }
    return false;
}

void pci_command(const struct pci_access *access, struct pci_place place, uint32_t set,
                 uint32_t clear)
{
    uint32_t command = pci_read(access, place, PCI_COMMAND) & PCI_COMMAND_MASK;

    CHECK(((set | clear) & ~PCI_COMMAND_MASK) == 0 && (set & clear) == 0);
    write(access, place, PCI_COMMAND, (command | set) & ~clear);
}

/* Writes all ones, reads what sticks, and puts the old value back. */
static uint32_t pci_probe(const struct pci_access *access, struct pci_place place, unsigned offset)
{
    uint32_t old = pci_read(access, place, offset);
    uint32_t sticks;

    write(access, place, offset, UINT32_MAX);
    sticks = pci_read(access, place, offset);
    write(access, place, offset, old);
    return sticks;
}

struct pci_bar pci_bar(const struct pci_access *access, struct pci_place place, unsigned index)
{
    unsigned offset = PCI_BAR0 + 4 * index;
    uint32_t command = pci_read(access, place, PCI_COMMAND) & PCI_COMMAND_MASK;
    uint32_t low = pci_read(access, place, offset);
    struct pci_bar bar = {.memory = (low & PCI_BAR_IO) == 0};
    uint32_t flags = bar.memory ? 15 : 3;
    bool wide = bar.memory && (low & PCI_BAR_TYPE_MASK) == PCI_BAR_TYPE_64;
    uint64_t mask;

    CHECK(index < 6);
    if (wide && index == 5)
        return bar;
    bar.base = low & ~flags;
    if (wide)
        bar.base |= (uint64_t)pci_read(access, place, offset + 4) << 32;
    pci_command(access, place, 0, PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
    mask = pci_probe(access, place, offset) & ~(uint64_t)flags;
    mask |=
        wide ? (uint64_t)pci_probe(access, place, offset + 4) << 32 : UINT64_C(0xffffffff) << 32;
    if (!bar.memory)
        mask |= 0xffff0000; /* a device may omit the upper half of an I/O address */
    pci_command(access, place, command, 0);
    /* The size is the lowest writable bit; a mask with holes above it is not a base address. */
    bar.size = mask & (~mask + 1);
    bar.present = bar.base != 0 && (mask & UINT32_MAX & ~(uint64_t)flags) != 0 &&
                  mask == ~(bar.size - 1) && bar.base % bar.size == 0;
    return bar;
}

/* Returns the configuration offset of a capability, 0 if the function lacks it. */
static unsigned find_capability(const struct pci_access *access, struct pci_place place,
                                unsigned wanted)
{
    unsigned at;

    if ((pci_read(access, place, PCI_COMMAND) & PCI_STATUS_CAPABILITIES) == 0)
        return 0;
    at = pci_read(access, place, PCI_CAPABILITIES) & 0xfc;
    for (unsigned i = 0; i < CAPABILITIES_MAX && at >= 0x40; i++) {
        uint32_t head = pci_read(access, place, at);

        if ((head & 0xff) == wanted)
            return at;
        at = head >> 8 & 0xfc;
    }
    return 0;
}

static void power_up(const struct pci_access *access, struct pci_place place)
{
    unsigned at = find_capability(access, place, PCI_CAPABILITY_POWER);
    uint32_t state = at != 0 && at < 0xfc ? pci_read(access, place, at + 4) : 0;

    if ((state & PCI_POWER_STATE_MASK) == 0)
        return;
    write(access, place, at + 4, state & ~(PCI_POWER_STATE_MASK | PCI_POWER_PME_STATUS));
    delay_us(POWER_UP_US);
}

static void clear_in_capability(const struct pci_access *access, struct pci_place place,
                                unsigned capability, uint32_t bits)
{
    unsigned at = find_capability(access, place, capability);

    if (at != 0)
        write(access, place, at, pci_read(access, place, at) & ~bits);
}

bool pci_msi_on(const struct pci_access *access, struct pci_place place, uint64_t address,
                uint16_t data)
{
    unsigned at = find_capability(access, place, PCI_CAPABILITY_MSI);
    uint32_t head;
    bool wide;

    if (at == 0 || at > PCI_MSI_LAST)
        return false;
    head = pci_read(access, place, at) & ~(PCI_MSI_ENABLE | PCI_MSI_VECTORS);
    wide = (head & PCI_MSI_64) != 0;
    if (!wide && address > UINT32_MAX)
        return false;
    write(access, place, at, head);
    write(access, place, at + 4, (uint32_t)address);
    if (wide)
        write(access, place, at + 8, (uint32_t)(address >> 32));
    write(access, place, at + (wide ? 12 : 8), data);
    write(access, place, at, head | PCI_MSI_ENABLE);
    return (pci_read(access, place, at) & PCI_MSI_ENABLE) != 0;
}

void pci_msi_off(const struct pci_access *access, struct pci_place place)
{
    clear_in_capability(access, place, PCI_CAPABILITY_MSI, PCI_MSI_ENABLE);
}

void pci_wake(const struct pci_access *access, struct pci_place place)
{
    power_up(access, place);
    clear_in_capability(access, place, PCI_CAPABILITY_MSI, PCI_MSI_ENABLE);
    clear_in_capability(access, place, PCI_CAPABILITY_MSIX, PCI_MSIX_ENABLE);
}

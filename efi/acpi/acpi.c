/* Finds and checks ACPI tables, and reads three of them. */
#include "efi/acpi/acpi.h"

#include <stddef.h>

#include "lib/bytes.h"
#include "lib/check.h"

/* The root pointer: ACPI 6.4, table 5.3. Revision 0 ends after the RSDT's address. */
struct rsdp {
    char signature[8];
    uint8_t checksum; /* over the first 20 bytes */
    char oem_id[6];
    uint8_t revision;
    uint32_t rsdt;
    uint32_t length;
    uint64_t xsdt;
    uint8_t extended_checksum; /* over length bytes */
    uint8_t reserved[3];
} __attribute__((packed));

#define RSDP_SIZE_0 20U

_Static_assert(offsetof(struct rsdp, length) == RSDP_SIZE_0, "ACPI 6.4, table 5.3");
_Static_assert(offsetof(struct rsdp, extended_checksum) == 32, "ACPI 6.4, table 5.3");
_Static_assert(sizeof(struct rsdp) == 36, "ACPI 6.4, table 5.3");

/* FADT: ACPI 6.4, table 5.9. */
#define FADT_PM_TMR_BLK   76U
#define FADT_PM_TMR_LEN   91U
#define FADT_FLAGS        112U
#define FADT_X_PM_TMR_BLK 208U
#define FADT_TMR_VAL_EXT  (UINT32_C(1) << 8)
#define FADT_HW_REDUCED   (UINT32_C(1) << 20)
#define FADT_SIZE_1       116U /* the shortest, of ACPI 1.0 */

/* SPCR: Microsoft's specification, revision 4; the first table of every revision is this long. */
#define SPCR_INTERFACE     36U
#define SPCR_BASE          40U
#define SPCR_BAUD          58U
#define SPCR_PCI_DEVICE_ID 64U
#define SPCR_PCI_BUS       68U
#define SPCR_PCI_DEVICE    69U
#define SPCR_PCI_FUNCTION  70U
#define SPCR_CLOCK         76U
#define SPCR_PRECISE_BAUD  80U
#define SPCR_SIZE_1        80U
#define SPCR_SIZE_4        88U
#define SPCR_NO_PCI_DEVICE 0xffffU

/* Interface types of the SPCR that are 16550s: full, 16450-compatible, and by generic address. */
#define INTERFACE_16550     0x00U
#define INTERFACE_16450     0x01U
#define INTERFACE_16550_GAS 0x12U

/* HPET: IA-PC HPET specification 1.0a, 3.2.4. */
#define HPET_ADDRESS 40U
#define HPET_SIZE    56U

/* Generic address structure: ACPI 6.4, 5.2.3.2. */
#define GAS_SPACE       0U
#define GAS_BIT_WIDTH   1U
#define GAS_ACCESS_SIZE 3U
#define GAS_ADDRESS     4U

/* Real tables are far smaller; a greater length is corrupt. */
#define TABLE_SIZE_MAX (16 * MIB)

/* A PC's firmware may keep the root pointer here, although the memory map does not list the
 * area. */
#define BIOS_AREA_START UINT64_C(0xe0000)
#define BIOS_AREA_END   UINT64_C(0x100000)

/* Reads a little-endian field of up to 8 bytes, which need not be aligned. */
static uint64_t field(const void *table, size_t offset, size_t size)
{
    const uint8_t *bytes = table;
    uint64_t value = 0;

    while (size > 0) {
        size--;
        value = value << 8 | bytes[offset + size];
    }
    return value;
}

static bool sums_to_zero(const void *data, uint64_t size)
{
    const uint8_t *bytes = data;
    uint8_t sum = 0;

    for (uint64_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + bytes[i]);
    return sum == 0;
}

/* Returns whether the firmware may keep tables in this kind of memory, which stays unused after the
 * handover. */
static bool may_hold_tables(enum memory_kind kind)
{
    switch (kind) {
    case MEMORY_ACPI_TABLES:
    case MEMORY_ACPI_NVS:
    case MEMORY_RESERVED:
    case MEMORY_RUNTIME_CODE:
    case MEMORY_RUNTIME_DATA: return true;
    default: return false;
    }
}

/* Returns the end of the region that may hold tables and contains the address; 0: none does. */
static uint64_t region_end(const struct bootinfo *info, uint64_t address)
{
    for (uint32_t i = 0; i < info->region_count; i++) {
        const struct memory_region *region = &info->regions[i];
        uint64_t size;
        uint64_t end;

        if (may_hold_tables(region->kind) && region->start.address <= address &&
            !__builtin_mul_overflow(region->pages, PAGE_SIZE, &size) &&
            !__builtin_add_overflow(region->start.address, size, &end) && address < end)
            return end;
    }
    return 0;
}

/* Returns whether adjoining regions that may hold tables cover the whole range. */
static bool in_table_memory(const struct bootinfo *info, struct phys start, uint64_t size)
{
    uint64_t end;
    uint64_t at = start.address;

    if (at == 0 || __builtin_add_overflow(at, size, &end))
        return false;
    while (at < end) {
        at = region_end(info, at);
        if (at == 0)
            return false;
    }
    return true;
}

static bool rsdp_reachable(const struct bootinfo *info, struct phys start, uint64_t size)
{
    if (start.address >= BIOS_AREA_START && start.address < BIOS_AREA_END &&
        size <= BIOS_AREA_END - start.address)
        return true;
    return in_table_memory(info, start, size);
}

/* Reads and checks the root pointer. Revision 0 has no XSDT. */
static enum status read_rsdp(const struct bootinfo *info, acpi_map map, struct rsdp *rsdp)
{
    const void *bytes;

    if (info->rsdp.address == 0)
        return STATUS_NOT_FOUND;
    memset(rsdp, 0, sizeof(*rsdp));
    if (!rsdp_reachable(info, info->rsdp, RSDP_SIZE_0))
        return STATUS_RANGE;
    bytes = map(info->rsdp, RSDP_SIZE_0);
    if (bytes == NULL)
        return STATUS_RANGE;
    memcpy(rsdp, bytes, RSDP_SIZE_0);
    if (memcmp(rsdp->signature, "RSD PTR ", 8) != 0 || !sums_to_zero(rsdp, RSDP_SIZE_0))
        return STATUS_CORRUPT;
    if (rsdp->revision < 2)
        return OK;

    if (!rsdp_reachable(info, info->rsdp, sizeof(*rsdp)))
        return STATUS_RANGE;
    bytes = map(info->rsdp, sizeof(*rsdp));
    if (bytes == NULL)
        return STATUS_RANGE;
    memcpy(rsdp, bytes, sizeof(*rsdp));
    /* Later revisions may be longer: the checksum covers the length that the pointer states. */
    if (rsdp->length < sizeof(*rsdp) || rsdp->length > PAGE_SIZE)
        return STATUS_CORRUPT;
    if (!rsdp_reachable(info, info->rsdp, rsdp->length))
        return STATUS_RANGE;
    bytes = map(info->rsdp, rsdp->length);
    if (bytes == NULL)
        return STATUS_RANGE;
    return sums_to_zero(bytes, rsdp->length) ? OK : STATUS_CORRUPT;
}

/* Checks the table at an address and returns it mapped. */
static enum status check_table(const struct bootinfo *info, acpi_map map, struct phys address,
                               const char *signature, const struct acpi_header **table)
{
    const struct acpi_header *header;
    uint32_t length;

    if (!in_table_memory(info, address, sizeof(*header)))
        return STATUS_RANGE;
    header = map(address, sizeof(*header));
    if (header == NULL)
        return STATUS_RANGE;
    if (memcmp(header->signature, signature, sizeof(header->signature)) != 0)
        return STATUS_NOT_FOUND;
    length = (uint32_t)field(header, offsetof(struct acpi_header, length), 4);
    if (length < sizeof(*header) || length > TABLE_SIZE_MAX)
        return STATUS_CORRUPT;
    if (!in_table_memory(info, address, length))
        return STATUS_RANGE;
    header = map(address, length);
    if (header == NULL)
        return STATUS_RANGE;
    if (!sums_to_zero(header, length))
        return STATUS_CORRUPT;
    *table = header;
    return OK;
}

static enum status open_root(struct acpi *acpi, struct phys root, const char *signature,
                             unsigned entry_size)
{
    const struct acpi_header *table;
    enum status status = check_table(acpi->info, acpi->map, root, signature, &table);

    if (status != OK)
        return status == STATUS_NOT_FOUND ? STATUS_CORRUPT : status;
    acpi->root = root;
    acpi->root_length = field(table, offsetof(struct acpi_header, length), 4);
    acpi->entry_size = entry_size;
    return OK;
}

enum status acpi_open(const struct bootinfo *info, acpi_map map, struct acpi *acpi)
{
    enum status status = STATUS_NOT_FOUND;
    struct rsdp rsdp;

    *acpi = (struct acpi){.info = info, .map = map};
    status = read_rsdp(info, map, &rsdp);
    if (status != OK)
        return status;
    status = STATUS_NOT_FOUND;
    if (rsdp.revision >= 2 && rsdp.xsdt != 0)
        status = open_root(acpi, (struct phys){rsdp.xsdt}, "XSDT", 8);
    if (status != OK && rsdp.rsdt != 0)
        status = open_root(acpi, (struct phys){rsdp.rsdt}, "RSDT", 4);
    return status;
}

enum status acpi_find(const struct acpi *acpi, const char *signature,
                      const struct acpi_header **table)
{
    uint64_t at = acpi->root.address + sizeof(struct acpi_header);
    uint64_t end = acpi->root.address + acpi->root_length;
    enum status worst = STATUS_NOT_FOUND;

    CHECK(acpi->entry_size == 4 || acpi->entry_size == 8);
    for (; at + acpi->entry_size <= end; at += acpi->entry_size) {
        const void *entry = acpi->map((struct phys){at}, acpi->entry_size);
        struct phys address;
        enum status status;

        if (entry == NULL)
            return STATUS_RANGE;
        address.address = field(entry, 0, acpi->entry_size);
        if (address.address == 0)
            continue;
        status = check_table(acpi->info, acpi->map, address, signature, table);
        if (status == OK)
            return OK;
        if (status == STATUS_CORRUPT || status == STATUS_RANGE)
            worst = status;
    }
    return worst;
}

/* Reads a generic address; returns false if it cannot be accessed. The access size is the width of
 * a register; older tables leave it 0 and give the width in bits. */
static bool read_address(const void *gas, struct acpi_address *address)
{
    uint64_t space = field(gas, GAS_SPACE, 1);
    uint64_t access = field(gas, GAS_ACCESS_SIZE, 1);
    uint64_t bits = field(gas, GAS_BIT_WIDTH, 1);

    address->address = field(gas, GAS_ADDRESS, 8);
    if (space > ACPI_SPACE_PCI || access > 4)
        return false;
    address->space = (enum acpi_space)space;
    if (access == 0)
        access = bits > 32 ? 4 : bits > 16 ? 3 : bits > 8 ? 2 : 1;
    address->access_size = 1U << (access - 1);
    return true;
}

/* Reads the baud rate: as a code, or as a number in revision 4. */
static bool read_baud(const void *table, uint32_t length, uint32_t *baud)
{
    if (length >= SPCR_SIZE_4)
        *baud = (uint32_t)field(table, SPCR_PRECISE_BAUD, 4);
    else
        *baud = 0;
    if (*baud != 0)
        return true;
    switch (field(table, SPCR_BAUD, 1)) {
    case 0: *baud = 0; return true;
    case 3: *baud = 9600; return true;
    case 4: *baud = 19200; return true;
    case 6: *baud = 57600; return true;
    case 7: *baud = 115200; return true;
    default: return false;
    }
}

static bool is_16550(uint64_t interface)
{
    return interface == INTERFACE_16550 || interface == INTERFACE_16450 ||
           interface == INTERFACE_16550_GAS;
}

enum status acpi_find_spcr(const struct acpi *acpi, struct acpi_spcr *spcr)
{
    const struct acpi_header *table;
    enum status status = acpi_find(acpi, "SPCR", &table);
    uint32_t length;

    if (status != OK)
        return status;
    length = (uint32_t)field(table, offsetof(struct acpi_header, length), 4);
    if (length < SPCR_SIZE_1)
        return STATUS_CORRUPT;
    *spcr = (struct acpi_spcr){0};
    if (!is_16550(field(table, SPCR_INTERFACE, 1)) ||
        !read_address((const uint8_t *)table + SPCR_BASE, &spcr->registers))
        return STATUS_UNSUPPORTED;
    if (!read_baud(table, length, &spcr->baud))
        return STATUS_CORRUPT;

    if (table->revision >= 3)
        spcr->clock = (uint32_t)field(table, SPCR_CLOCK, 4);
    spcr->on_pci = field(table, SPCR_PCI_DEVICE_ID, 2) != SPCR_NO_PCI_DEVICE;
    spcr->bus = (uint8_t)field(table, SPCR_PCI_BUS, 1);
    spcr->device = (uint8_t)field(table, SPCR_PCI_DEVICE, 1);
    spcr->function = (uint8_t)field(table, SPCR_PCI_FUNCTION, 1);
    if (spcr->on_pci && (spcr->device > 31 || spcr->function > 7))
        return STATUS_CORRUPT;
    /* Address 0 means that redirection is off, except for a PCI device, whose BAR has the
     * address. */
    if (spcr->registers.space == ACPI_SPACE_PCI || (spcr->registers.address == 0 && !spcr->on_pci))
        return STATUS_UNSUPPORTED;
    return OK;
}

enum status acpi_find_pm_timer(const struct acpi *acpi, struct acpi_pm_timer *timer)
{
    const struct acpi_header *table;
    enum status status = acpi_find(acpi, "FACP", &table);
    uint32_t length;
    uint32_t flags;

    if (status != OK)
        return status;
    length = (uint32_t)field(table, offsetof(struct acpi_header, length), 4);
    if (length < FADT_SIZE_1)
        return STATUS_CORRUPT;
    flags = (uint32_t)field(table, FADT_FLAGS, 4);
    *timer = (struct acpi_pm_timer){.wide = (flags & FADT_TMR_VAL_EXT) != 0};
    if ((flags & FADT_HW_REDUCED) != 0)
        return STATUS_UNSUPPORTED;
    if (length >= FADT_X_PM_TMR_BLK + 12 &&
        read_address((const uint8_t *)table + FADT_X_PM_TMR_BLK, &timer->counter) &&
        timer->counter.address != 0)
        return timer->counter.space == ACPI_SPACE_PCI ? STATUS_UNSUPPORTED : OK;
    if (field(table, FADT_PM_TMR_LEN, 1) != 4 || field(table, FADT_PM_TMR_BLK, 4) == 0)
        return STATUS_UNSUPPORTED;
    timer->counter = (struct acpi_address){
        .space = ACPI_SPACE_IO, .access_size = 4, .address = field(table, FADT_PM_TMR_BLK, 4)};
    return OK;
}

enum status acpi_find_hpet(const struct acpi *acpi, struct phys *registers)
{
    const struct acpi_header *table;
    enum status status = acpi_find(acpi, "HPET", &table);
    struct acpi_address address;

    if (status != OK)
        return status;
    if (field(table, offsetof(struct acpi_header, length), 4) < HPET_SIZE)
        return STATUS_CORRUPT;
    if (!read_address((const uint8_t *)table + HPET_ADDRESS, &address) ||
        address.space != ACPI_SPACE_MEMORY || address.address == 0 ||
        address.address % sizeof(uint64_t) != 0)
        return STATUS_UNSUPPORTED;
    registers->address = address.address;
    return OK;
}

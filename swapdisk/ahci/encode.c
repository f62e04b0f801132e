/* AHCI commands: how they are encoded, and the choke point through which each one passes. */
#include "lib/bytes.h"
#include "lib/check.h"
#include "swapdisk/ahci/internal.h"

#define FIS_FLAG_COMMAND 0x80U

/* Byte count of a region: the controller takes up to 4 MiB, the driver uses a page. */
#define PRD_COUNT_MASK UINT32_C(0x3fffff)

#define LOW_LIMIT (UINT64_C(1) << 32)

static void put_prd(const struct ahci_port *port, struct prd *prd, uint64_t address, uint32_t bytes)
{
    CHECK(bytes >= 2 && bytes % 2 == 0 && bytes <= PAGE_SIZE && address % 2 == 0);
    CHECK(port->hba->wide || address + bytes <= LOW_LIMIT);
    *prd = (struct prd){
        .dba = (uint32_t)address, .dbau = (uint32_t)(address >> 32), .count = bytes - 1};
}

/* Offset in the lists of the buffer for a command without frames. */
static uint64_t own_buffer(uint8_t opcode)
{
    switch (opcode) {
    case ATA_READ_LOG_EXT: return offsetof(struct port_lists, log);
    case ATA_DATA_SET_MANAGEMENT: return offsetof(struct port_lists, trim);
    default: return offsetof(struct port_lists, identify);
    }
}

/* Fills the port's block with the ranges of a TRIM. */
static void put_ranges(const struct ahci_port *port, const struct disk_ranges *ranges)
{
    unsigned shift = port->identity.sector_shift;
    uint64_t part = (UINT64_C(1) << shift) - 1;
    uint64_t *block = port_lists(port)->trim;

    CHECK(ranges->count > 0 && ranges->count <= DISK_RANGES_MAX);
    memset(block, 0, TRIM_BLOCK_SIZE);
    for (unsigned i = 0; i < ranges->count; i++) {
        const struct disk_range *range = &ranges->range[i];

        CHECK(range->sectors <= DISK_RANGE_SECTORS_MAX &&
              ((range->lba | range->sectors) & part) == 0);
        block[i] = range->lba >> shift | (uint64_t)(range->sectors >> shift) << TRIM_COUNT_SHIFT;
    }
}

/* Fills in the region table and returns the number of regions. */
static uint16_t put_regions(const struct ahci_port *port, struct command_table *table,
                            const struct command *command)
{
    uint32_t left = command->bytes;
    uint16_t count = 0;

    if (command->frames == NULL && left > 0) {
        CHECK(left == SECTOR_SIZE);
        put_prd(port, &table->prds[0], phys_of(port->lists).address + own_buffer(command->opcode),
                left);
        return 1;
    }
    for (; left > 0; count++) {
        uint32_t bytes = (uint32_t)min_u64(left, PAGE_SIZE);

        CHECK(count < AHCI_PAGES_MAX);
        put_prd(port, &table->prds[count], phys_of(command->frames[count]).address, bytes);
        left -= bytes;
    }
    return count;
}

/* Returns the DEVICE field of a command: IDENTIFY alone has no address. */
static uint8_t device_of(uint8_t opcode)
{
    return opcode == ATA_IDENTIFY_DEVICE ? 0 : DEVICE_LBA;
}

/* Returns the shift of a command's address and count: a log's are not of the disk's sectors. */
static unsigned command_shift(const struct ahci_port *port, uint8_t opcode)
{
    return opcode == ATA_READ_LOG_EXT ? 0 : port->identity.sector_shift;
}

static void put_fis(const struct ahci_port *port, struct fis_h2d *fis,
                    const struct command *command, unsigned slot)
{
    unsigned shift = command_shift(port, command->opcode);
    uint64_t lba = command->lba >> shift;
    uint8_t low = (uint8_t)(command->sectors >> shift);
    uint8_t high = (uint8_t)(command->sectors >> shift >> 8);

    *fis = (struct fis_h2d){.type = FIS_TYPE_H2D,
                            .flags = FIS_FLAG_COMMAND,
                            .command = command->opcode,
                            .device = device_of(command->opcode)};
    for (unsigned i = 0; i < 3; i++) {
        fis->lba[i] = (uint8_t)(lba >> (8 * i));
        fis->lba_high[i] = (uint8_t)(lba >> (24 + 8 * i));
    }
    if (opcode_queued(command->opcode)) {
        fis->features = low;
        fis->features_high = high;
        fis->count[0] = (uint8_t)(slot << FPDMA_TAG_SHIFT);
    } else if (command->opcode == ATA_DATA_SET_MANAGEMENT) {
        fis->features = DATA_SET_TRIM;
        fis->count[0] = TRIM_BLOCKS;
    } else {
        fis->count[0] = low;
        fis->count[1] = high;
    }
}

void ahci_build(struct ahci_port *port, unsigned slot, const struct command *command)
{
    struct command_table *table = command_table(port, slot);
    struct command_header *header = &port_lists(port)->headers[slot];

    CHECK(command->sectors <= AHCI_PAGES_MAX * SECTORS_PER_PAGE);
    CHECK(((command->lba | command->sectors) &
           ((UINT64_C(1) << command_shift(port, command->opcode)) - 1)) == 0);
    CHECK((command->ranges != NULL) == (command->opcode == ATA_DATA_SET_MANAGEMENT));
    if (command->ranges != NULL)
        put_ranges(port, command->ranges);
    memset(&table->command, 0, sizeof(table->command));
    put_fis(port, &table->command.fis, command, slot);
    header->flags = (uint16_t)(FIS_H2D_DWORDS | (opcode_writes(command->opcode) ? COMMAND_W : 0U));
    header->prdtl = put_regions(port, table, command);
    header->prdbc = 0;
    header->ctba = (uint32_t)phys_of(port->tables[slot]).address;
    header->ctbau = 0;
    port_lists(port)->received[RECEIVED_D2H] = 0;
}

static uint64_t fis_lba(const struct fis_h2d *fis)
{
    uint64_t lba = 0;

    for (unsigned i = 0; i < 3; i++) {
        lba |= (uint64_t)fis->lba[i] << (8 * i);
        lba |= (uint64_t)fis->lba_high[i] << (24 + 8 * i);
    }
    return lba;
}

/* A count of 0 means 65,536 sectors. */
static uint64_t count_of(uint8_t low, uint8_t high)
{
    unsigned count = low | (unsigned)high << 8;

    return count == 0 ? 65536 : count;
}

/* Returns the bytes that the slot's regions let the controller transfer. */
static uint64_t region_bytes(const struct ahci_port *port, unsigned slot)
{
    const struct command_table *table = command_table(port, slot);
    uint64_t bytes = 0;

    for (unsigned i = 0; i < port_lists(port)->headers[slot].prdtl; i++)
        bytes += (table->prds[i].count & PRD_COUNT_MASK) + 1;
    return bytes;
}

/* Returns whether the slot's regions have the bytes of so many of the disk's sectors. */
static bool regions_hold(const struct ahci_port *port, unsigned slot, uint64_t count)
{
    return region_bytes(port, slot) == count * SECTOR_SIZE << port->identity.sector_shift;
}

/* Returns whether a grant covers sectors as the disk counts them. */
static bool granted(const struct ahci_port *port, const struct swap_grant *grant, uint64_t lba,
                    uint64_t count)
{
    unsigned shift = port->identity.sector_shift;

    return swap_grant_covers(grant, port, lba << shift, count << shift);
}

/* Returns whether the controller will take the command from the slot's own table, as one that is
 * nothing but a read or a write. */
static bool header_allowed(const struct ahci_port *port, unsigned slot)
{
    const struct command_header *header = &port_lists(port)->headers[slot];

    return header->ctba == (uint32_t)phys_of(port->tables[slot]).address && header->ctbau == 0 &&
           (header->flags & ~COMMAND_W) == FIS_H2D_DWORDS && header->prdtl <= AHCI_PAGES_MAX;
}

/* A queued command has its count in FEATURES; COUNT has the tag, which is the slot, and no
 * priority, and FUA is clear (ACS-3, 7.59). */
static bool queued_allowed(const struct ahci_port *port, unsigned slot,
                           const struct swap_grant *grant)
{
    const struct fis_h2d *fis = &command_table(port, slot)->command.fis;
    uint64_t sectors = count_of(fis->features, fis->features_high);

    if (fis->count[0] != slot << FPDMA_TAG_SHIFT || fis->count[1] != 0 ||
        !regions_hold(port, slot, sectors))
        return false;
    return fis->command == ATA_READ_FPDMA_QUEUED || granted(port, grant, fis_lba(fis), sectors);
}

/* Returns whether a range as the disk will read it may be discarded. */
static bool range_allowed(const struct ahci_port *port, const struct swap_grant *grant,
                          uint64_t range)
{
    unsigned shift = port->identity.sector_shift;
    uint64_t lba = (range & ((UINT64_C(1) << TRIM_COUNT_SHIFT) - 1)) << shift;
    uint64_t sectors = range >> TRIM_COUNT_SHIFT << shift;

    return sectors == 0 ? range == 0 : swap_grant_covers_slots(grant, port, lba, sectors);
}

/* A DATA SET MANAGEMENT command is TRIM, for a disk that has it, and its data are the port's own
 * block: no caller has a pointer to it. Each range in it must be slots of the grant. */
static bool trim_allowed(const struct ahci_port *port, unsigned slot,
                         const struct swap_grant *grant)
{
    const struct fis_h2d *fis = &command_table(port, slot)->command.fis;
    const struct prd *prd = &command_table(port, slot)->prds[0];
    uint64_t block = phys_of(port->lists).address + offsetof(struct port_lists, trim);

    if (!port->identity.trim || fis->features != DATA_SET_TRIM || fis->features_high != 0 ||
        fis_lba(fis) != 0 || count_of(fis->count[0], fis->count[1]) != TRIM_BLOCKS)
        return false;
    if (port_lists(port)->headers[slot].prdtl != 1 || region_bytes(port, slot) != TRIM_BLOCK_SIZE ||
        (prd->dba | (uint64_t)prd->dbau << 32) != block)
        return false;
    for (unsigned i = 0; i < TRIM_BLOCK_RANGES; i++) {
        if (!range_allowed(port, grant, port_lists(port)->trim[i]))
            return false;
    }
    return port_lists(port)->trim[0] != 0;
}

/* Returns whether the encoded command, as the controller will read it, is on the allow-list. A
 * write or TRIM also needs a grant that covers it. */
static bool command_allowed(const struct ahci_port *port, unsigned slot,
                            const struct swap_grant *grant)
{
    const struct fis_h2d *fis = &command_table(port, slot)->command.fis;
    bool writes = (port_lists(port)->headers[slot].flags & COMMAND_W) != 0;
    uint64_t sectors = count_of(fis->count[0], fis->count[1]);
    uint64_t bytes;

    if (!header_allowed(port, slot) || fis->type != FIS_TYPE_H2D ||
        fis->flags != FIS_FLAG_COMMAND || fis->control != 0 ||
        writes != opcode_writes(fis->command) || fis->device != device_of(fis->command))
        return false;
    bytes = region_bytes(port, slot);
    if (opcode_queued(fis->command))
        return queued_allowed(port, slot, grant);
    if (fis->command == ATA_DATA_SET_MANAGEMENT)
        return trim_allowed(port, slot, grant);
    if (fis->features != 0 || fis->features_high != 0)
        return false;
    switch (fis->command) {
    case ATA_IDENTIFY_DEVICE: return bytes == SECTOR_SIZE;
    case ATA_FLUSH_CACHE_EXT: return bytes == 0;
    case ATA_READ_LOG_EXT:
        return bytes == LOG_SIZE && sectors == 1 && fis_lba(fis) == LOG_QUEUED_ERROR;
    case ATA_READ_DMA_EXT: return regions_hold(port, slot, sectors);
    case ATA_WRITE_DMA_EXT:
        return regions_hold(port, slot, sectors) && granted(port, grant, fis_lba(fis), sectors);
    default: return false;
    }
}

enum status ahci_issue(struct ahci_port *port, unsigned slot, const struct swap_grant *grant)
{
    bool queued = opcode_queued(command_table(port, slot)->command.fis.command);

    if (!command_allowed(port, slot, grant))
        return STATUS_REFUSED;
    /* Queued and other commands never overlap (rule D6). */
    CHECK(port->issued == 0 || (queued && port->queued));
    CHECK((port->issued >> slot & 1) == 0);
    port->counters.commands++;
    port->counters.queued += queued;
    port->issued |= UINT32_C(1) << slot;
    port->queued = queued;
    /* The command must be in memory before the controller reads it. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (queued)
        port_write(port, PxSACT, UINT32_C(1) << slot); /* before PxCI (AHCI 5.5.1) */
    port_write(port, PxCI, UINT32_C(1) << slot);
    return OK;
}

/* Returns whether the device reports success, in the task file and in the FIS if one arrived. */
static bool reports_success(const struct ahci_port *port)
{
    const volatile uint8_t *fis = &port_lists(port)->received[RECEIVED_D2H];
    uint32_t bad = PxTFD_ERR | PxTFD_DF | PxTFD_DRQ | PxTFD_BSY;

    if ((port_read(port, PxIS) & PxIS_ERRORS) != 0 || (port_read(port, PxTFD) & bad) != 0)
        return false;
    return fis[0] != FIS_TYPE_D2H || (fis[2] & (PxTFD_ERR | PxTFD_DF)) == 0;
}

/* A controller may end a command early without an error. IDENTIFY and READ LOG transfer by PIO, for
 * which some controllers leave the count at 0. */
static bool moved_all(const struct ahci_port *port, unsigned slot, const struct command *command)
{
    uint32_t moved = port_lists(port)->headers[slot].prdbc;

    return moved == command->bytes || (command->frames == NULL && moved == 0);
}

bool ahci_ended_well(const struct ahci_port *port, unsigned slot, const struct command *command)
{
    CHECK(!opcode_queued(command->opcode));
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return reports_success(port) && moved_all(port, slot, command);
}

const char *ahci_command_name(uint8_t opcode)
{
    switch (opcode) {
    case ATA_READ_DMA_EXT: return "READ DMA EXT";
    case ATA_READ_FPDMA_QUEUED: return "READ FPDMA QUEUED";
    case ATA_READ_LOG_EXT: return "READ LOG EXT";
    case ATA_WRITE_DMA_EXT: return "WRITE DMA EXT";
    case ATA_WRITE_FPDMA_QUEUED: return "WRITE FPDMA QUEUED";
    case ATA_FLUSH_CACHE_EXT: return "FLUSH CACHE EXT";
    case ATA_DATA_SET_MANAGEMENT: return "DATA SET MANAGEMENT (TRIM)";
    default: return "IDENTIFY DEVICE";
    }
}

uint64_t ahci_longest_ms(uint8_t opcode)
{
    switch (opcode) {
    case ATA_IDENTIFY_DEVICE:
    case ATA_READ_LOG_EXT: return AHCI_IDENTIFY_MS;
    case ATA_FLUSH_CACHE_EXT: return AHCI_FLUSH_MS;
    default: return AHCI_COMMAND_MS;
    }
}

unsigned ahci_tries(uint8_t opcode)
{
    return opcode == ATA_DATA_SET_MANAGEMENT ? 1 : 3;
}

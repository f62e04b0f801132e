/* AHCI commands: build, check, issue, wait and retry. */
#include "cpu/machine.h"
#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/ktap.h"
#include "swapdisk/ahci/internal.h"

/* Most attempts of a command, and most of them that may time out. */
#define TRIES    3U
#define TIMEOUTS 2U

#define PxIS_ERRORS (PxIS_OFS | PxIS_IFS | PxIS_HBDS | PxIS_HBFS | PxIS_TFES)

#define FIS_FLAG_COMMAND 0x80U
#define DEVICE_LBA       0x40U

/* Byte count of a region: the controller takes up to 4 MiB, the driver uses a page. */
#define PRD_COUNT_MASK UINT32_C(0x3fffff)

#define LOW_LIMIT (UINT64_C(1) << 32)

/* One command, before build() encodes it. */
struct command {
    uint8_t opcode;
    uint64_t lba;
    unsigned sectors;
    const struct pfn *frames;       /* NULL: data for the identify buffer, or none */
    uint32_t bytes;                 /* of data */
    const struct swap_grant *grant; /* permits a write */
};

static void put_prd(const struct ahci_port *port, struct prd *prd, uint64_t address, uint32_t bytes)
{
    CHECK(bytes >= 2 && bytes % 2 == 0 && bytes <= PAGE_SIZE && address % 2 == 0);
    CHECK(port->hba->wide || address + bytes <= LOW_LIMIT);
    *prd = (struct prd){
        .dba = (uint32_t)address, .dbau = (uint32_t)(address >> 32), .count = bytes - 1};
}

/* Fills in the region table and returns the number of regions. */
static uint16_t put_regions(const struct ahci_port *port, struct command_table *table,
                            const struct command *command)
{
    uint32_t left = command->bytes;
    uint16_t count = 0;

    if (command->frames == NULL && left > 0) {
        CHECK(left == sizeof(port_lists(port)->identify));
        put_prd(port, &table->prds[0],
                phys_of(port->lists).address + offsetof(struct port_lists, identify), left);
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

static void put_fis(struct fis_h2d *fis, const struct command *command)
{
    *fis = (struct fis_h2d){.type = FIS_TYPE_H2D,
                            .flags = FIS_FLAG_COMMAND,
                            .command = command->opcode,
                            .device = command->opcode == ATA_IDENTIFY_DEVICE ? 0 : DEVICE_LBA};
    for (unsigned i = 0; i < 3; i++) {
        fis->lba[i] = (uint8_t)(command->lba >> (8 * i));
        fis->lba_high[i] = (uint8_t)(command->lba >> (24 + 8 * i));
    }
    fis->count[0] = (uint8_t)command->sectors;
    fis->count[1] = (uint8_t)(command->sectors >> 8);
}

static void build(struct ahci_port *port, unsigned slot, const struct command *command)
{
    struct command_table *table = command_table(port, slot);
    struct command_header *header = &port_lists(port)->headers[slot];
    bool write = command->opcode == ATA_WRITE_DMA_EXT;

    CHECK(command->sectors <= AHCI_PAGES_MAX * SECTORS_PER_PAGE);
    memset(&table->command, 0, sizeof(table->command));
    put_fis(&table->command.fis, command);
    header->flags = (uint16_t)(FIS_H2D_DWORDS | (write ? COMMAND_W : 0U));
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
static uint64_t fis_sectors(const struct fis_h2d *fis)
{
    unsigned count = fis->count[0] | (unsigned)fis->count[1] << 8;

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

/* Returns whether the encoded command, as the controller will read it, is on the allow-list. A
 * write also needs a grant that covers it. */
static bool allowed(const struct ahci_port *port, unsigned slot, const struct swap_grant *grant)
{
    const struct fis_h2d *fis = &command_table(port, slot)->command.fis;
    bool writes = (port_lists(port)->headers[slot].flags & COMMAND_W) != 0;
    uint64_t sectors = fis_sectors(fis);

    if (fis->type != FIS_TYPE_H2D || fis->flags != FIS_FLAG_COMMAND || fis->features != 0 ||
        fis->features_high != 0 || fis->control != 0)
        return false;
    switch (fis->command) {
    case ATA_IDENTIFY_DEVICE: return !writes && region_bytes(port, slot) == SECTOR_SIZE;
    case ATA_FLUSH_CACHE_EXT: return !writes && region_bytes(port, slot) == 0;
    case ATA_READ_DMA_EXT: return !writes && region_bytes(port, slot) == sectors * SECTOR_SIZE;
    case ATA_WRITE_DMA_EXT:
        return writes && region_bytes(port, slot) == sectors * SECTOR_SIZE &&
               swap_grant_covers(grant, port, fis_lba(fis), sectors);
    default: return false;
    }
}

/* The choke point: no other function starts a command. */
static enum status issue(struct ahci_port *port, unsigned slot, const struct swap_grant *grant)
{
    if (!allowed(port, slot, grant))
        return STATUS_REFUSED;
    port->counters.commands++;
    /* The command must be in memory before the controller reads it. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    port_write(port, PxCI, UINT32_C(1) << slot);
    return OK;
}

static uint64_t longest_ms(uint8_t opcode)
{
    switch (opcode) {
    case ATA_IDENTIFY_DEVICE: return AHCI_IDENTIFY_MS;
    case ATA_FLUSH_CACHE_EXT: return AHCI_FLUSH_MS;
    default: return AHCI_COMMAND_MS;
    }
}

static uint64_t waited_ticks; /* atomic */

uint64_t ahci_waited_ticks(void)
{
    return __atomic_load_n(&waited_ticks, __ATOMIC_RELAXED);
}

/* Waits until the slot completes, the port reports an error, or the link changes. A port that was
 * removed reads as all ones, which shows as a changed link. */
static enum status wait_done(const struct ahci_port *port, unsigned slot, uint8_t opcode)
{
    struct deadline end = deadline_after_ms(longest_ms(opcode));
    bool passed;

    do {
        uint64_t began = machine_ticks();
        uint32_t events = port_read(port, PxIS);

        if ((events & (PxIS_ERRORS | PxIS_PCS | PxIS_PRCS)) != 0)
            return STATUS_IO;
        if ((port_read(port, PxCI) >> slot & 1) == 0)
            return OK;
        if (ahci_port_changed(port))
            return STATUS_IO;
        machine_relax();
        passed = deadline_passed(end);
        __atomic_add_fetch(&waited_ticks, machine_ticks() - began, __ATOMIC_RELAXED);
    } while (!passed);
    return STATUS_TIMEOUT;
}

/* Returns whether the device reports success, in the task file and in the FIS if one arrived. */
static bool ended_well(const struct ahci_port *port)
{
    const volatile uint8_t *fis = &port_lists(port)->received[RECEIVED_D2H];
    uint32_t bad = PxTFD_ERR | PxTFD_DF | PxTFD_DRQ | PxTFD_BSY;

    if ((port_read(port, PxIS) & PxIS_ERRORS) != 0 || (port_read(port, PxTFD) & bad) != 0)
        return false;
    return fis[0] != FIS_TYPE_D2H || (fis[2] & (PxTFD_ERR | PxTFD_DF)) == 0;
}

/* Returns whether all bytes were transferred: a controller may end a command early without an
 * error. IDENTIFY transfers by PIO, for which some controllers leave the count at 0. */
static bool moved_all(const struct ahci_port *port, unsigned slot, const struct command *command)
{
    uint32_t moved = port_lists(port)->headers[slot].prdbc;

    return moved == command->bytes || (command->opcode == ATA_IDENTIFY_DEVICE && moved == 0);
}

/* Issues a command once. After an error the engine is left as it is, for the recovery. */
static enum status run_once(struct ahci_port *port, const struct command *command)
{
    unsigned slot = port->turn;
    enum status status;

    CHECK(slot < port->hba->slots);
    port->turn = (slot + 1) % port->hba->slots;
    build(port, slot, command);
    status = issue(port, slot, command->grant);
    if (status != OK)
        return status;
    status = wait_done(port, slot, command->opcode);
    progress_note();
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (status == OK && (!ended_well(port) || !moved_all(port, slot, command)))
        status = STATUS_IO;
    if (status == OK)
        port_write(port, PxIS, port_read(port, PxIS));
    return status;
}

static const char *command_name(uint8_t opcode)
{
    switch (opcode) {
    case ATA_READ_DMA_EXT: return "READ DMA EXT";
    case ATA_WRITE_DMA_EXT: return "WRITE DMA EXT";
    case ATA_FLUSH_CACHE_EXT: return "FLUSH CACHE EXT";
    default: return "IDENTIFY DEVICE";
    }
}

/* Counts a command that did not complete at its first attempt, and reports it. */
static enum status report_error(struct ahci_port *port, struct ahci_error *error, bool healed)
{
    error->healed = healed;
    *(healed ? &port->counters.healed : &port->counters.lost) += 1;
    if (port->hba->on_error != NULL)
        port->hba->on_error(port, error);
    return healed ? OK : STATUS_IO;
}

/* Records an attempt that failed, before the reset that follows it. */
static void note_attempt(struct ahci_port *port, struct ahci_error *error, unsigned slot)
{
    uint32_t task_file = port_read(port, PxTFD);

    port->counters.errors++;
    error->slot = slot;
    error->ata_status = (uint8_t)task_file;
    error->ata_error = (uint8_t)(task_file >> 8);
}

/* Issues a command until it succeeds, and resets the port after each failure. */
static enum status command_run(struct ahci_port *port, const struct command *command)
{
    struct ahci_error error = {
        .command = command_name(command->opcode), .lba = command->lba, .sectors = command->sectors};
    unsigned timeouts = 0;

    if (port->state != AHCI_PORT_READY)
        return STATUS_IO;
    if (ahci_port_changed(port) && !ahci_port_recover(port))
        return report_error(port, &error, false);
    for (error.tries = 1; error.tries <= TRIES; error.tries++) {
        unsigned slot = port->turn;
        enum status status = run_once(port, command);

        if (status == STATUS_REFUSED)
            return status;
        if (status == OK)
            return error.tries > 1 ? report_error(port, &error, true) : OK;
        note_attempt(port, &error, slot);
        error.timed_out = status == STATUS_TIMEOUT;
        if (error.timed_out && ++timeouts == TIMEOUTS) {
            ahci_port_give_up(port, "its commands do not complete", port_read(port, PxCI));
            return report_error(port, &error, false);
        }
        if (!ahci_port_recover(port))
            return report_error(port, &error, false);
    }
    error.tries = TRIES;
    return report_error(port, &error, false);
}

static bool out_of_reach(const struct ahci_port *port, const struct pfn *frames, unsigned count)
{
    for (unsigned i = 0; !port->hba->wide && i < count; i++) {
        if (phys_of(frames[i]).address >= LOW_LIMIT)
            return true;
    }
    return false;
}

static unsigned pages_of(unsigned sectors)
{
    return (sectors + SECTORS_PER_PAGE - 1) / SECTORS_PER_PAGE;
}

/* Runs a transfer through bounce frames, which the controller can reach. */
static enum status run_bounced(struct ahci_port *port, const struct command *command)
{
    struct command through = *command;
    unsigned pages = pages_of(command->sectors);
    enum status status;

    CHECK(pages <= AHCI_BOUNCE_PAGES && !pfn_is_none(port->bounce[pages - 1]));
    through.frames = port->bounce;
    for (unsigned i = 0; command->opcode == ATA_WRITE_DMA_EXT && i < pages; i++)
        machine_copy_frame(frame_pointer(port->bounce[i]), frame_pointer(command->frames[i]));
    status = command_run(port, &through);
    for (unsigned i = 0; status == OK && command->opcode == ATA_READ_DMA_EXT && i < pages; i++) {
        uint64_t left = command->bytes - i * PAGE_SIZE;

        memcpy(frame_pointer(command->frames[i]), frame_pointer(port->bounce[i]),
               min_u64(left, PAGE_SIZE));
    }
    return status;
}

/* Takes the port for one command. A waiter spins, interrupts unchanged; each holder is bounded. */
static void command_take(struct ahci_port *port)
{
    while (__atomic_exchange_n(&port->busy, 1, __ATOMIC_ACQUIRE) != 0)
        machine_pause();
}

static void command_give_back(struct ahci_port *port)
{
    CHECK(port->busy == 1);
    __atomic_store_n(&port->busy, 0, __ATOMIC_RELEASE);
}

/* Splits a transfer into commands. */
static enum status transfer(struct ahci_port *port, struct command command, unsigned sectors)
{
    enum status status = OK;

    command_take(port);
    while (status == OK && sectors > 0) {
        unsigned pages = (unsigned)min_u64(pages_of(sectors), port->hba->pages_max);
        bool bounced = out_of_reach(port, command.frames, pages);

        if (bounced)
            pages = (unsigned)min_u64(pages, AHCI_BOUNCE_PAGES);
        command.sectors = (unsigned)min_u64(sectors, pages * SECTORS_PER_PAGE);
        command.bytes = command.sectors * SECTOR_SIZE;
        status = bounced ? run_bounced(port, &command) : command_run(port, &command);
        command.lba += command.sectors;
        command.frames += pages;
        sectors -= command.sectors;
    }
    command_give_back(port);
    return status;
}

static bool on_disk(const struct ahci_port *port, uint64_t lba, unsigned sectors)
{
    return lba < port->identity.sectors && sectors <= port->identity.sectors - lba;
}

enum status ahci_read(struct ahci_port *port, uint64_t lba, unsigned sectors,
                      const struct pfn *frames)
{
    CHECK(sectors > 0 && frames != NULL);
    if (port->state != AHCI_PORT_READY)
        return STATUS_IO;
    if (!on_disk(port, lba, sectors))
        return STATUS_RANGE;
    return transfer(
        port, (struct command){.opcode = ATA_READ_DMA_EXT, .lba = lba, .frames = frames}, sectors);
}

enum status ahci_write(struct ahci_port *port, const struct swap_grant *grant, uint64_t lba,
                       unsigned sectors, const struct pfn *frames)
{
    CHECK(sectors > 0 && frames != NULL);
    if (port->state != AHCI_PORT_READY)
        return STATUS_IO;
    /* The grant must cover the whole transfer, also if it takes several commands. */
    if (!swap_grant_covers(grant, port, lba, sectors))
        return STATUS_REFUSED;
    if (!on_disk(port, lba, sectors))
        return STATUS_RANGE;
    return transfer(
        port,
        (struct command){.opcode = ATA_WRITE_DMA_EXT, .lba = lba, .frames = frames, .grant = grant},
        sectors);
}

enum status ahci_flush(struct ahci_port *port)
{
    struct command command = {.opcode = ATA_FLUSH_CACHE_EXT};
    enum status status;

    if (port->state != AHCI_PORT_READY)
        return STATUS_IO;
    command_take(port);
    status = command_run(port, &command);
    command_give_back(port);
    return status;
}

enum status ahci_identify(struct ahci_port *port)
{
    struct command command = {.opcode = ATA_IDENTIFY_DEVICE,
                              .bytes = sizeof(port_lists(port)->identify)};

    /* identity_decode refuses a blank buffer, so stale data cannot pass for an answer. */
    memset(port_lists(port)->identify, 0, sizeof(port_lists(port)->identify));
    return run_once(port, &command);
}

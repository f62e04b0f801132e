/* How the fake controller carries out commands, one at a time or queued. */
#include <string.h>

#include "pmm/pmm.h"
#include "tests/host/fake/hba_internal.h"
#include "tests/host/fake/machine.h"

#define SERR_CHANGED UINT32_C(0x04050000)

static struct command_header *header_of(const struct fake_port *port, unsigned slot)
{
    return (struct command_header *)phys_pointer((struct phys){port->clb}) + slot;
}

static const struct command_table *table_of(const struct command_header *header)
{
    return phys_pointer((struct phys){header->ctba | (uint64_t)header->ctbau << 32});
}

/* Moves bytes between a buffer and the regions; returns how many were moved. */
static uint32_t move(struct fake_hba *hba, const struct command_header *header, uint8_t *bytes,
                     uint32_t size, bool to_memory)
{
    const struct command_table *table = table_of(header);
    uint32_t moved = 0;

    for (unsigned i = 0; i < header->prdtl && moved < size; i++) {
        const struct prd *prd = &table->prds[i];
        uint64_t address = prd->dba | (uint64_t)prd->dbau << 32;
        uint32_t length = (prd->count & 0x3fffff) + 1;
        uint32_t piece = length < size - moved ? length : size - moved;

        if (length % 2 != 0 || address % 2 != 0)
            fake_complain(hba, "an odd region: %u bytes at %lx", length, address);
        if ((hba->cap & CAP_S64A) == 0 && address + length > UINT64_C(1) << 32)
            fake_complain(hba, "a region above 4 GiB at %lx", address);
        if ((address + length - 1) >> PAGE_SHIFT >= pmm_frame_limit()) {
            fake_complain(hba, "a region outside memory at %lx", address);
            return moved;
        }
        if (to_memory)
            memcpy(phys_pointer((struct phys){address}), bytes + moved, piece);
        else
            memcpy(bytes + moved, phys_pointer((struct phys){address}), piece);
        moved += piece;
    }
    return moved;
}

struct decoded {
    uint8_t opcode;
    unsigned slot;
    uint64_t lba;     /* in units of 512 bytes, as all of the fake disk */
    uint32_t sectors; /* but of a log, and of a TRIM's block */
    bool write;
    bool queued;
};

static struct decoded decode(const struct fake_port *port, unsigned slot)
{
    const struct command_header *header = header_of(port, slot);
    const struct fis_h2d *fis = &table_of(header)->command.fis;
    struct decoded what = {.opcode = fis->command,
                           .slot = slot,
                           .write = (header->flags & COMMAND_W) != 0,
                           .queued = opcode_queued(fis->command)};

    for (unsigned i = 0; i < 3; i++)
        what.lba |= (uint64_t)fis->lba[i] << (8 * i) | (uint64_t)fis->lba_high[i] << (24 + 8 * i);
    what.sectors = what.queued ? fis->features | (uint32_t)fis->features_high << 8
                               : fis->count[0] | (uint32_t)fis->count[1] << 8;
    what.sectors = what.sectors == 0 ? 65536 : what.sectors;
    if (port->disk != NULL && what.opcode != ATA_READ_LOG_EXT &&
        what.opcode != ATA_DATA_SET_MANAGEMENT) {
        what.lba <<= port->disk->shift;
        what.sectors <<= port->disk->shift;
    }
    return what;
}

static void receive(struct fake_port *port)
{
    uint8_t *fis = (uint8_t *)phys_pointer((struct phys){port->fb}) + RECEIVED_D2H;

    memset(fis, 0, 20);
    fis[0] = FIS_TYPE_D2H;
    fis[2] = (uint8_t)port->tfd;
    fis[3] = (uint8_t)(port->tfd >> 8);
}

static void end_well(struct fake_port *port, const struct decoded *what)
{
    uint32_t bit = UINT32_C(1) << what->slot;

    port->tfd = TFD_READY;
    if (what->queued) {
        port->is |= PxIS_SDBS;
        port->sact &= ~bit;
        port->flying &= ~bit;
        return;
    }
    port->is |= UINT32_C(1);
    receive(port);
    port->ci &= ~bit;
}

/* Fills the log page of a queued command that failed (ACS-3, A.14.3). */
static void put_log(struct fake_port *port, const struct decoded *what)
{
    uint8_t sum = 0;

    memset(port->log, 0, sizeof(port->log));
    port->log[LOG_TAG] = (uint8_t)what->slot;
    port->log[LOG_STATUS] = 0x41;
    port->log[LOG_ERROR] = 0x40;
    for (unsigned i = 0; i < 511; i++)
        sum = (uint8_t)(sum + port->log[i]);
    port->log[511] = (uint8_t)(0x100U - sum);
    if (port->disk->bad_log == FAKE_LOG_CHECKSUM)
        port->log[511] ^= 1;
    if (port->disk->bad_log == FAKE_LOG_OTHER_TAG) {
        port->log[LOG_TAG] = (uint8_t)((what->slot + 1) % 32);
        port->log[511]--;
    }
}

/* Fails a command. A queued one keeps its bit in PxSACT; the disk aborts the others, whose bits
 * stay too, and refuses everything until its log was read. */
static void end_badly(struct fake_hba *hba, struct fake_port *port, const struct decoded *what,
                      uint32_t event)
{
    port->tfd = TFD_ERROR;
    port->is |= event;
    if (!what->queued) {
        receive(port);
        return;
    }
    port->flying &= ~(UINT32_C(1) << what->slot);
    put_log(port, what);
    if (hba->innocents_go_on) {
        port->tfd = TFD_READY;
        return;
    }
    port->flying = 0;
    port->aborted = true;
}

static void vanish(struct fake_port *port)
{
    port->device = FAKE_NOTHING;
    port->ssts = 0;
    port->tfd = 0x7f;
    port->serr |= SERR_CHANGED;
    port->is |= PxIS_PRCS;
    port->flying = 0;
    port->hung_count = 0;
}

/* Carries out a read or a write; the failure has been decided. */
static void transfer(struct fake_hba *hba, struct fake_port *port, const struct decoded *what,
                     bool fails)
{
    struct fake_disk *disk = port->disk;
    struct command_header *header = header_of(port, what->slot);
    uint32_t size = what->sectors * SECTOR_SIZE;
    uint8_t *bytes;

    if (what->lba >= disk->sectors || what->sectors > disk->sectors - what->lba) {
        fake_complain(hba, "a command past the disk's end, at %lx", what->lba);
        end_badly(hba, port, what, PxIS_TFES);
        return;
    }
    bytes = fake_disk_sector(disk, what->lba);
    if (fails && (disk->failure == FAKE_SHORT || disk->failure == FAKE_TORN))
        size /= 2;
    if (!fails || disk->failure != FAKE_SILENT) {
        uint32_t moved = move(hba, header, bytes, size, !what->write);

        header->prdbc = what->queued ? 0 : moved;
        if (what->write)
            fake_disk_log(disk, what->lba, size / SECTOR_SIZE);
    } else {
        header->prdbc = what->queued ? 0 : size;
    }
    if (fails && disk->failure == FAKE_FLIP && !what->write)
        *(uint8_t *)phys_pointer((struct phys){table_of(header)->prds[0].dba}) ^= 4;
    if (fails && disk->failure == FAKE_TORN)
        end_badly(hba, port, what, PxIS_TFES);
    else
        end_well(port, what);
}

static void identify(struct fake_hba *hba, struct fake_port *port, const struct decoded *what)
{
    struct command_header *header = header_of(port, what->slot);
    uint32_t moved;

    if (port->disk->identify_failures > 0) {
        port->disk->identify_failures--;
        end_badly(hba, port, what, PxIS_TFES);
        return;
    }
    moved = move(hba, header, (uint8_t *)port->disk->words, SECTOR_SIZE, true);
    if (!hba->ignores_prdbc)
        header->prdbc = moved;
    end_well(port, what);
}

/* Reads the log, which ends the state after a queued error. */
static void read_log(struct fake_hba *hba, struct fake_port *port, const struct decoded *what)
{
    if ((port->disk->words[84] & 1U << 5) == 0 || what->lba != LOG_QUEUED_ERROR ||
        what->sectors != 1 || port->disk->log_failures > 0) {
        port->disk->log_failures -= port->disk->log_failures > 0;
        end_badly(hba, port, what, PxIS_TFES);
        return;
    }
    move(hba, header_of(port, what->slot), port->log, sizeof(port->log), true);
    port->aborted = false;
    end_well(port, what);
}

/* Discards the ranges of a TRIM: their sectors have other data afterwards. */
static void trim(struct fake_hba *hba, struct fake_port *port, const struct decoded *what,
                 bool fails)
{
    struct fake_disk *disk = port->disk;
    struct command_header *header = header_of(port, what->slot);
    const struct fis_h2d *fis = &table_of(header)->command.fis;
    uint64_t ranges[TRIM_BLOCK_RANGES];
    uint32_t moved = move(hba, header, (uint8_t *)ranges, sizeof(ranges), false);
    unsigned count = fails && disk->failure == FAKE_TORN ? 1 : TRIM_BLOCK_RANGES;

    if ((disk->words[169] & 1) == 0)
        fake_complain(hba, "a TRIM for a disk without it");
    if (fis->features != 1 || fis->features_high != 0 || what->sectors != 1 || what->lba != 0 ||
        moved != sizeof(ranges))
        fake_complain(hba, "a TRIM of function %x, %u blocks, %u bytes, at %lx", fis->features,
                      what->sectors, moved, what->lba);
    for (unsigned i = 0; i < count && !(fails && disk->failure == FAKE_SILENT); i++) {
        uint64_t lba = (ranges[i] & ((UINT64_C(1) << 48) - 1)) << disk->shift;
        unsigned sectors = (unsigned)(ranges[i] >> 48) << disk->shift;

        if (lba + sectors > disk->sectors || (sectors == 0 && ranges[i] != 0))
            fake_complain(hba, "a TRIM of %u sectors at %lx", sectors, lba);
        else if (sectors > 0)
            fake_disk_trim(disk, lba, sectors);
    }
    header->prdbc = moved;
    if (fails && disk->failure == FAKE_TORN)
        end_badly(hba, port, what, PxIS_TFES);
    else
        end_well(port, what);
}

static bool touches_bad_sector(const struct fake_disk *disk, const struct decoded *what)
{
    uint64_t bad = what->write ? disk->bad_write : disk->bad_sector;

    if (what->write && what->lba >= disk->bad_write_from)
        return true;
    return what->opcode != ATA_FLUSH_CACHE_EXT && bad >= what->lba &&
           bad - what->lba < what->sectors;
}

/* Lets a command hang. Its data may arrive until a reset. */
static void hang(struct fake_hba *hba, struct fake_port *port, const struct decoded *what)
{
    const struct command_header *header = header_of(port, what->slot);
    const struct command_table *table = table_of(header);

    port->flying &= ~(UINT32_C(1) << what->slot);
    for (unsigned i = 0; i < header->prdtl && port->hung_count < FAKE_HUNG_MAX; i++) {
        uint64_t address = table->prds[i].dba | (uint64_t)table->prds[i].dbau << 32;

        if ((table->prds[i].count & 0x3fffff) + 1 == PAGE_SIZE)
            port->hung[port->hung_count++] = (struct pfn){(uint32_t)(address >> PAGE_SHIFT)};
    }
    if (port->hung_count == FAKE_HUNG_MAX)
        fake_complain(hba, "more frames hang than are watched");
}

void fake_hba_look(struct fake_hba *hba)
{
    for (unsigned i = 0; i < AHCI_PORTS_MAX; i++) {
        const struct fake_port *port = &hba->ports[i];

        for (unsigned j = 0; j < port->hung_count; j++) {
            if (frame_record(port->hung[j])->kind == FRAME_FREE)
                fake_complain(hba, "frame %x was freed under DMA", port->hung[j].index);
        }
    }
}

void fake_hba_resume(struct fake_hba *hba, unsigned number)
{
    struct fake_port *port = &hba->ports[number];

    fake_hba_look(hba);
    for (unsigned i = 0; i < port->hung_count; i++)
        memset(frame_pointer(port->hung[i]), 0xee, PAGE_SIZE);
    port->hung_count = 0;
}

void fake_hba_abandon(struct fake_port *port)
{
    port->flying = 0;
    port->aborted = false;
    port->hung_count = 0;
}

/* Failures that prevent the whole command; true when this one was. */
static bool failed_whole(struct fake_hba *hba, struct fake_port *port, const struct decoded *what,
                         bool fails)
{
    enum fake_failure failure = port->disk->failure;

    if (touches_bad_sector(port->disk, what) || (fails && failure == FAKE_ERROR))
        end_badly(hba, port, what, PxIS_TFES);
    else if (fails && failure == FAKE_LINK)
        end_badly(hba, port, what, PxIS_IFS);
    else if (fails && failure == FAKE_VANISH)
        vanish(port);
    else if (fails && failure == FAKE_HANG)
        hang(hba, port, what);
    else
        return false;
    return true;
}

/* Panics on command contents that no driver may send. */
static void judge(struct fake_hba *hba, const struct fake_port *port, const struct decoded *what)
{
    const struct command_header *header = header_of(port, what->slot);
    const struct fis_h2d *fis = &table_of(header)->command.fis;

    if ((header->flags & COMMAND_CFL_MASK) != FIS_H2D_DWORDS)
        fake_complain(hba, "a command FIS of %u dwords", header->flags & COMMAND_CFL_MASK);
    if (header->ctba % 128 != 0)
        fake_complain(hba, "a command table at %x", header->ctba);
    if (what->write != opcode_writes(what->opcode))
        fake_complain(hba, "opcode %x with the wrong direction", what->opcode);
    if (what->queued && (fis->count[0] != what->slot << 3 || fis->count[1] != 0))
        fake_complain(hba, "tag %x in slot %u", fis->count[0] >> 3, what->slot);
    if (what->queued && fis->device != DEVICE_LBA)
        fake_complain(hba, "device %x of a queued command", fis->device);
}

static void execute(struct fake_hba *hba, struct fake_port *port, unsigned slot)
{
    const struct decoded decoded = decode(port, slot);
    const struct decoded *what = &decoded;
    bool fails;

    judge(hba, port, what);
    if (port->disk == NULL) {
        fake_complain(hba, "a command for something that is not a disk");
        return;
    }
    if (port->aborted && what->opcode != ATA_READ_LOG_EXT) {
        end_badly(hba, port, what, PxIS_TFES);
        return;
    }
    if (what->opcode == ATA_IDENTIFY_DEVICE || what->opcode == ATA_READ_LOG_EXT) {
        (what->opcode == ATA_IDENTIFY_DEVICE ? identify : read_log)(hba, port, what);
        return;
    }
    fails = fake_disk_fails(port->disk);
    if (failed_whole(hba, port, what, fails))
        return;
    switch (what->opcode) {
    case ATA_READ_DMA_EXT:
    case ATA_WRITE_DMA_EXT:
    case ATA_READ_FPDMA_QUEUED:
    case ATA_WRITE_FPDMA_QUEUED: transfer(hba, port, what, fails); break;
    case ATA_DATA_SET_MANAGEMENT: trim(hba, port, what, fails); break;
    case ATA_FLUSH_CACHE_EXT:
        fake_disk_log(port->disk, 0, 0);
        end_well(port, what);
        break;
    default:
        fake_complain(hba, "opcode %x is not on the list", what->opcode);
        end_badly(hba, port, what, PxIS_TFES);
        break;
    }
}

static unsigned bits_of(uint32_t word)
{
    return (unsigned)__builtin_popcount(word);
}

void fake_hba_set_active(struct fake_hba *hba, unsigned number, uint32_t tags)
{
    struct fake_port *port = &hba->ports[number];

    if ((port->cmd & PxCMD_ST) == 0)
        fake_complain(hba, "tags %x while the engine of port %u is stopped", tags, number);
    if ((tags & port->sact) != 0)
        fake_complain(hba, "tags %x are in flight already", tags & port->sact);
    port->sact |= tags;
}

/* Accepts a queued command: the disk takes its FIS at once, and executes it later. */
static void accept_queued(struct fake_hba *hba, struct fake_port *port, unsigned slot)
{
    if ((hba->cap & CAP_SNCQ) == 0 || port->disk == NULL || (port->disk->words[76] & 1U << 8) == 0)
        fake_complain(hba, "a queued command without native command queuing");
    else if (bits_of(port->sact) > (port->disk->words[75] & 31U) + 1)
        fake_complain(hba, "%u tags for a queue of %u", bits_of(port->sact),
                      (port->disk->words[75] & 31U) + 1);
    if (port->ci != 0)
        fake_complain(hba, "a queued command beside slots %x", port->ci);
    if (bits_of(port->sact) > port->deepest)
        port->deepest = bits_of(port->sact);
    if (port->aborted)
        return;
    port->flying |= UINT32_C(1) << slot;
    if (hba->shuffle == 0)
        execute(hba, port, slot);
}

static void accept_single(struct fake_hba *hba, unsigned number, unsigned slot)
{
    struct fake_port *port = &hba->ports[number];

    if (port->sact != 0)
        fake_complain(hba, "a non-queued command beside tags %x", port->sact);
    if ((port->tfd & (PxTFD_BSY | PxTFD_DRQ)) != 0)
        fake_complain(hba, "a command for a busy device");
    port->ci |= UINT32_C(1) << slot;
    hba->pending = hba->latency;
    hba->pending_port = number;
    if (hba->latency == 0)
        execute(hba, port, slot);
}

void fake_hba_issue(struct fake_hba *hba, unsigned number, uint32_t slots)
{
    struct fake_port *port = &hba->ports[number];
    unsigned slot = (unsigned)__builtin_ctz(slots | UINT32_C(1) << 31);
    struct decoded what;

    if ((port->cmd & PxCMD_ST) == 0) {
        fake_complain(hba, "a command while the engine of port %u is stopped", number);
        return;
    }
    if ((slots & (slots - 1)) != 0 || slot > (hba->cap >> CAP_NCS_SHIFT & CAP_NCS_MASK))
        fake_complain(hba, "slots %x", slots);
    port->slots_seen |= slots;
    what = decode(port, slot);
    if (what.queued != ((port->sact >> slot & 1) != 0))
        fake_complain(hba, "opcode %x with tags %x active", what.opcode, port->sact);
    if (what.queued)
        accept_queued(hba, port, slot);
    else
        accept_single(hba, number, slot);
    if (port->disk != NULL && port->disk->on_command != NULL)
        port->disk->on_command();
}

static uint64_t next_shuffle(struct fake_hba *hba)
{
    hba->shuffle ^= hba->shuffle << 13;
    hba->shuffle ^= hba->shuffle >> 7;
    hba->shuffle ^= hba->shuffle << 17;
    return hba->shuffle;
}

/* Ends some of the queued commands, in any order. */
static void shuffle_port(struct fake_hba *hba, struct fake_port *port)
{
    uint64_t random = next_shuffle(hba);

    for (unsigned tries = random % 64 == 0 ? random / 64 % 4 : 0; tries > 0; tries--) {
        unsigned tag = (unsigned)(next_shuffle(hba) % 32);

        if ((port->flying >> tag & 1) != 0)
            execute(hba, port, tag);
    }
}

void fake_hba_tick(struct fake_hba *hba)
{
    struct fake_port *port = &hba->ports[hba->pending_port];

    if (hba->pending > 0 && --hba->pending == 0 && port->ci != 0)
        execute(hba, port, (unsigned)__builtin_ctz(port->ci));
    fake_hba_shuffle(hba);
}

void fake_hba_end_one(struct fake_hba *hba)
{
    for (unsigned i = 0; i < AHCI_PORTS_MAX; i++) {
        if (hba->ports[i].flying != 0) {
            execute(hba, &hba->ports[i], (unsigned)__builtin_ctz(hba->ports[i].flying));
            return;
        }
    }
}

void fake_hba_shuffle(struct fake_hba *hba)
{
    for (unsigned i = 0; i < AHCI_PORTS_MAX && hba->shuffle != 0; i++) {
        if (hba->ports[i].flying != 0)
            shuffle_port(hba, &hba->ports[i]);
    }
}

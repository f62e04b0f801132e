/* An AHCI controller as host tests have it. */
#include "tests/host/fake/hba.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/check.h"
#include "pmm/pmm.h"
#include "swapdisk/ahci/hardware.h"
#include "swapdisk/ahci/internal.h"
#include "tests/host/fake/machine.h"

#define CAP_DEFAULT       (UINT32_C(0x40141f05) | CAP_S64A)
#define SSTS_UP           UINT32_C(0x113)
#define SSTS_HALF         UINT32_C(0x001)
#define TFD_READY         UINT32_C(0x50)
#define TFD_ERROR         UINT32_C(0x451)
#define CMD_WRITABLE      (UINT32_C(0xf0000000) | PxCMD_FRE | PxCMD_POD | PxCMD_SUD | PxCMD_ST)
#define SERR_CHANGED      UINT32_C(0x04050000)
#define SERR_DIAG_X       UINT32_C(0x04000000) /* no FIS is taken until it is cleared */
#define SHORTEST_RESET_NS UINT64_C(1000000)

static void complain(struct fake_hba *hba, const char *format, ...) PRINTF_LIKE(2, 3);

static void complain(struct fake_hba *hba, const char *format, ...)
{
    va_list arguments;

    if (hba->complaints++ > 0)
        return;
    va_start(arguments, format);
    vsnprintf(hba->complaint, sizeof(hba->complaint), format, arguments);
    va_end(arguments);
}

static uint32_t signature_of(enum fake_device device)
{
    switch (device) {
    case FAKE_DISK: return 0x00000101;
    case FAKE_ATAPI: return 0xeb140101;
    case FAKE_MULTIPLIER: return 0x96690101;
    case FAKE_ENCLOSURE: return 0xc33c0101;
    default: return UINT32_MAX;
    }
}

/* Sets the registers of a port to their values after link-up. */
static void come_up(struct fake_port *port)
{
    if (port->replace != NULL) {
        port->disk = port->replace;
        port->replace = NULL;
    }
    port->ci = 0;
    port->sig = signature_of(port->device);
    port->tfd = port->device == FAKE_NOTHING ? 0x7f : PxTFD_BSY;
    port->ssts = port->device == FAKE_NOTHING ? 0 : port->link_half_up ? SSTS_HALF : SSTS_UP;
    if (port->device != FAKE_NOTHING) {
        port->serr |= SERR_CHANGED;
        port->is |= PxIS_PCS | PxIS_PRCS;
    }
}

void fake_hba_make(struct fake_hba *hba, unsigned ports)
{
    *hba = (struct fake_hba){.cap = CAP_DEFAULT, .vs = 0x00010300, .ghc = GHC_AE | GHC_IE};
    hba->pi = ports == 32 ? UINT32_MAX : (UINT32_C(1) << ports) - 1;
    for (unsigned i = 0; i < AHCI_PORTS_MAX; i++) {
        come_up(&hba->ports[i]);
        /* Stale pointers and events, as firmware leaves them. */
        hba->ports[i].clb = 0x00123400;
        hba->ports[i].fb = 0x00123800;
        hba->ports[i].is = PxIS_PCS;
        hba->ports[i].ie = 1;
        hba->ports[i].cmd = PxCMD_SUD | PxCMD_POD;
    }
}

void fake_hba_attach(struct fake_hba *hba, unsigned port, enum fake_device device,
                     struct fake_disk *disk)
{
    hba->ports[port].device = device;
    hba->ports[port].disk = disk;
    come_up(&hba->ports[port]);
}

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
            complain(hba, "an odd region: %u bytes at %lx", length, address);
        if ((hba->cap & CAP_S64A) == 0 && address + length > UINT64_C(1) << 32)
            complain(hba, "a region above 4 GiB at %lx", address);
        if ((address + length - 1) >> PAGE_SHIFT >= pmm_frame_limit()) {
            complain(hba, "a region outside memory at %lx", address);
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

static void receive(struct fake_port *port)
{
    uint8_t *fis = (uint8_t *)phys_pointer((struct phys){port->fb}) + RECEIVED_D2H;

    memset(fis, 0, 20);
    fis[0] = FIS_TYPE_D2H;
    fis[2] = (uint8_t)port->tfd;
    fis[3] = (uint8_t)(port->tfd >> 8);
}

static void end_well(struct fake_port *port, unsigned slot)
{
    port->tfd = TFD_READY;
    port->is |= UINT32_C(1);
    receive(port);
    port->ci &= ~(UINT32_C(1) << slot);
}

static void end_badly(struct fake_port *port, uint32_t event)
{
    port->tfd = TFD_ERROR;
    port->is |= event;
    receive(port);
}

static void vanish(struct fake_port *port)
{
    port->device = FAKE_NOTHING;
    port->ssts = 0;
    port->tfd = 0x7f;
    port->serr |= SERR_CHANGED;
    port->is |= PxIS_PRCS;
}

struct decoded {
    uint8_t opcode;
    uint64_t lba;
    uint32_t sectors;
    bool write;
};

static struct decoded decode(const struct command_header *header)
{
    const struct fis_h2d *fis = &table_of(header)->command.fis;
    struct decoded what = {.opcode = fis->command, .write = (header->flags & COMMAND_W) != 0};

    for (unsigned i = 0; i < 3; i++)
        what.lba |= (uint64_t)fis->lba[i] << (8 * i) | (uint64_t)fis->lba_high[i] << (24 + 8 * i);
    what.sectors = fis->count[0] | (uint32_t)fis->count[1] << 8;
    what.sectors = what.sectors == 0 ? 65536 : what.sectors;
    return what;
}

/* Carries out a read or a write; the failure has been decided. */
static void transfer(struct fake_hba *hba, struct fake_port *port, unsigned slot,
                     const struct decoded *what, bool fails)
{
    struct fake_disk *disk = port->disk;
    struct command_header *header = header_of(port, slot);
    uint32_t size = what->sectors * SECTOR_SIZE;
    uint8_t *bytes;

    if (what->lba >= disk->sectors || what->sectors > disk->sectors - what->lba) {
        complain(hba, "a command past the disk's end, at %lx", what->lba);
        end_badly(port, PxIS_TFES);
        return;
    }
    bytes = fake_disk_sector(disk, what->lba);
    if (fails && (disk->failure == FAKE_SHORT || disk->failure == FAKE_TORN))
        size /= 2;
    if (!fails || disk->failure != FAKE_SILENT) {
        header->prdbc = move(hba, header, bytes, size, !what->write);
        if (what->write)
            fake_disk_log(disk, what->lba, size / SECTOR_SIZE);
    } else {
        header->prdbc = size;
    }
    if (fails && disk->failure == FAKE_FLIP && !what->write)
        *(uint8_t *)phys_pointer((struct phys){table_of(header)->prds[0].dba}) ^= 4;
    if (fails && disk->failure == FAKE_TORN)
        end_badly(port, PxIS_TFES);
    else
        end_well(port, slot);
}

static void identify(struct fake_hba *hba, struct fake_port *port, unsigned slot)
{
    struct command_header *header = header_of(port, slot);
    uint32_t moved;

    if (port->disk->identify_failures > 0) {
        port->disk->identify_failures--;
        end_badly(port, PxIS_TFES);
        return;
    }
    moved = move(hba, header, (uint8_t *)port->disk->words, SECTOR_SIZE, true);
    if (!hba->ignores_prdbc)
        header->prdbc = moved;
    end_well(port, slot);
}

static bool bad_sector_read(const struct fake_disk *disk, const struct decoded *what)
{
    return what->opcode == ATA_READ_DMA_EXT && disk->bad_sector >= what->lba &&
           disk->bad_sector - what->lba < what->sectors;
}

/* Failures that prevent the whole command; true when this one was. */
static bool failed_whole(struct fake_port *port, const struct decoded *what, bool fails)
{
    enum fake_failure failure = port->disk->failure;

    if (bad_sector_read(port->disk, what) || (fails && failure == FAKE_ERROR))
        end_badly(port, PxIS_TFES);
    else if (fails && failure == FAKE_LINK)
        end_badly(port, PxIS_IFS);
    else if (fails && failure == FAKE_VANISH)
        vanish(port);
    else
        return fails && failure == FAKE_HANG;
    return true;
}

static void execute(struct fake_hba *hba, struct fake_port *port, unsigned slot)
{
    struct command_header *header = header_of(port, slot);
    struct decoded what = decode(header);
    bool fails;

    if ((header->flags & COMMAND_CFL_MASK) != FIS_H2D_DWORDS)
        complain(hba, "a command FIS of %u dwords", header->flags & COMMAND_CFL_MASK);
    if (header->ctba % 128 != 0)
        complain(hba, "a command table at %x", header->ctba);
    if (what.write != (what.opcode == ATA_WRITE_DMA_EXT))
        complain(hba, "opcode %x with the wrong direction", what.opcode);
    if (port->disk == NULL) {
        complain(hba, "a command for something that is not a disk");
        return;
    }
    if (what.opcode == ATA_IDENTIFY_DEVICE) {
        identify(hba, port, slot);
        return;
    }
    fails = fake_disk_fails(port->disk);
    if (failed_whole(port, &what, fails))
        return;
    switch (what.opcode) {
    case ATA_READ_DMA_EXT:
    case ATA_WRITE_DMA_EXT: transfer(hba, port, slot, &what, fails); break;
    case ATA_FLUSH_CACHE_EXT:
        fake_disk_log(port->disk, 0, 0);
        end_well(port, slot);
        break;
    default:
        complain(hba, "opcode %x is not on the list", what.opcode);
        end_badly(port, PxIS_TFES);
        break;
    }
}

static void issue(struct fake_hba *hba, unsigned number, uint32_t slots)
{
    struct fake_port *port = &hba->ports[number];
    unsigned slot = (unsigned)__builtin_ctz(slots | UINT32_C(1) << 31);

    if ((port->cmd & PxCMD_ST) == 0) {
        complain(hba, "a command while the engine of port %u is stopped", number);
        return;
    }
    if ((slots & (slots - 1)) != 0 || slot > (hba->cap >> CAP_NCS_SHIFT & CAP_NCS_MASK))
        complain(hba, "slots %x", slots);
    if ((port->tfd & (PxTFD_BSY | PxTFD_DRQ)) != 0)
        complain(hba, "a command for a busy device");
    port->ci |= slots;
    port->slots_seen |= slots;
    hba->pending = hba->latency;
    hba->pending_port = number;
    if (hba->latency == 0)
        execute(hba, port, slot);
    if (port->disk != NULL && port->disk->on_command != NULL)
        port->disk->on_command();
}

/* The latency of a command, in register reads. */
static void tick(struct fake_hba *hba)
{
    struct fake_port *port = &hba->ports[hba->pending_port];

    if (hba->pending > 0 && --hba->pending == 0 && port->ci != 0)
        execute(hba, port, (unsigned)__builtin_ctz(port->ci));
}

static void write_cmd(struct fake_hba *hba, struct fake_port *port, uint32_t value)
{
    uint32_t rising = value & ~port->cmd;

    if ((rising & PxCMD_ST) != 0 && ((value & PxCMD_FRE) == 0 || port->ssts != SSTS_UP ||
                                     (port->tfd & (PxTFD_BSY | PxTFD_DRQ)) != 0))
        complain(hba, "the engine was started too early");
    if ((rising & PxCMD_FRE) != 0 && (port->clb == 0x00123400 || port->fb == 0x00123800))
        complain(hba, "the engine was started with the firmware's pointers");
    if ((port->cmd & PxCMD_FRE) != 0 && (value & PxCMD_FRE) == 0 && (port->cmd & PxCMD_CR) != 0)
        complain(hba, "FRE was cleared while commands run");
    if ((value & PxCMD_ST) == 0 && (port->cmd & PxCMD_ST) != 0)
        port->ci = 0;
    port->cmd = (port->cmd & ~CMD_WRITABLE) | (value & CMD_WRITABLE);
    if ((port->cmd & PxCMD_ST) != 0 || port->cr_sticks)
        port->cmd |= PxCMD_CR;
    else
        port->cmd &= ~PxCMD_CR;
    if ((port->cmd & PxCMD_FRE) != 0 || port->fr_sticks)
        port->cmd |= PxCMD_FR;
    else
        port->cmd &= ~PxCMD_FR;
}

static void write_sctl(struct fake_hba *hba, struct fake_port *port, uint32_t value)
{
    bool was = (port->sctl & 15) == 1;
    bool is = (value & 15) == 1;

    port->sctl = value;
    if (!was && is) {
        if ((port->cmd & PxCMD_ST) != 0)
            complain(hba, "COMRESET while the engine runs");
        port->reset_began_ns = fake_clock_ns;
        port->ssts = 0;
        port->tfd = 0x7f;
        port->ci = 0;
    } else if (was && !is) {
        if (fake_clock_ns - port->reset_began_ns < SHORTEST_RESET_NS)
            complain(hba, "COMRESET was held too short");
        if (port->fr_sticks) {
            port->fr_sticks = false;
            port->cmd &= ~PxCMD_FR;
        }
        come_up(port);
    }
}

/* The FIS with the device's first status is taken when the note of the new link is cleared. */
static void write_serr(struct fake_port *port, uint32_t value)
{
    bool waited = (port->serr & SERR_DIAG_X) != 0 && port->ssts == SSTS_UP;

    port->serr &= ~value;
    if (waited && (port->serr & SERR_DIAG_X) == 0 && !port->busy_for_ever)
        port->tfd = TFD_READY;
}

static void write_pointer(struct fake_hba *hba, const struct fake_port *port, uint32_t *pointer,
                          uint32_t value, uint32_t alignment)
{
    if ((port->cmd & (PxCMD_ST | PxCMD_FRE)) != 0)
        complain(hba, "a pointer was changed while an engine runs");
    if (value % alignment != 0)
        complain(hba, "a pointer is not aligned: %x", value);
    *pointer = value;
}

static void port_register_write(struct fake_hba *hba, unsigned number, uint32_t offset,
                                uint32_t value)
{
    struct fake_port *port = &hba->ports[number];

    if (number >= AHCI_PORTS_MAX || (hba->pi >> number & 1) == 0) {
        complain(hba, "there is no port %u", number);
        return;
    }
    switch (offset) {
    case PxCLB: write_pointer(hba, port, &port->clb, value, 1024); break;
    case PxCLBU: write_pointer(hba, port, &port->clbu, value, 1); break;
    case PxFB: write_pointer(hba, port, &port->fb, value, 256); break;
    case PxFBU: write_pointer(hba, port, &port->fbu, value, 1); break;
    case PxIS: port->is &= ~value; break;
    case PxIE: port->ie = value; break;
    case PxCMD: write_cmd(hba, port, value); break;
    case PxSCTL: write_sctl(hba, port, value); break;
    case PxSERR: write_serr(port, value); break;
    case PxCI: issue(hba, number, value); break;
    default: complain(hba, "port register %x was written", offset); break;
    }
}

static uint32_t port_register_read(struct fake_hba *hba, unsigned number, uint32_t offset)
{
    const struct fake_port *port = &hba->ports[number];

    if (number >= AHCI_PORTS_MAX || (hba->pi >> number & 1) == 0) {
        complain(hba, "there is no port %u", number);
        return 0;
    }
    switch (offset) {
    case PxCLB: return port->clb;
    case PxFB: return port->fb;
    case PxIS: return port->is;
    case PxIE: return port->ie;
    case PxCMD: return port->cmd;
    case PxTFD: return port->tfd;
    case PxSIG: return port->sig;
    case PxSSTS: return port->ssts;
    case PxSCTL: return port->sctl;
    case PxSERR: return port->serr;
    case PxCI: return port->ci;
    default: complain(hba, "port register %x was read", offset); return 0;
    }
}

static void reset(struct fake_hba *hba)
{
    if (hba->reset_sticks) {
        hba->ghc |= GHC_HR;
        return;
    }
    hba->ghc = 0;
    hba->is = 0;
    if (hba->loses_pi)
        hba->pi = hba->cap = 0;
    for (unsigned i = 0; i < AHCI_PORTS_MAX; i++) {
        hba->ports[i].cmd = hba->ports[i].cr_sticks ? PxCMD_CR : 0;
        hba->ports[i].cmd |= hba->ports[i].fr_sticks ? PxCMD_FR : 0;
        hba->ports[i].ie = 0;
        come_up(&hba->ports[i]);
    }
}

static void write_ghc(struct fake_hba *hba, uint32_t value)
{
    if ((value & GHC_HR) != 0) {
        reset(hba);
        return;
    }
    if ((value & GHC_AE) != 0 && hba->enable_writes > 0) {
        hba->enable_writes--;
        value &= ~GHC_AE;
    }
    hba->ghc = value & (GHC_AE | GHC_IE);
}

static void hba_register_write(void *context, uint32_t offset, uint32_t value)
{
    struct fake_hba *hba = context;

    if (hba->gone)
        return;
    if (offset >= HBA_PORTS) {
        port_register_write(hba, (offset - HBA_PORTS) / PORT_SIZE, offset % PORT_SIZE, value);
        return;
    }
    switch (offset) {
    case HBA_CAP: hba->cap = value; break;
    case HBA_GHC: write_ghc(hba, value); break;
    case HBA_IS: hba->is &= ~value; break;
    case HBA_PI: hba->pi = value; break;
    case HBA_BOHC:
        hba->bohc = value & ~(hba->firmware_stays ? UINT32_C(0) : BOHC_BOS);
        hba->saw_handoff |= (value & BOHC_OOS) != 0;
        break;
    default: complain(hba, "register %x was written", offset); break;
    }
}

static uint32_t hba_register_read(void *context, uint32_t offset)
{
    struct fake_hba *hba = context;

    if (hba->gone)
        return UINT32_MAX;
    tick(hba);
    if (offset >= HBA_PORTS)
        return port_register_read(hba, (offset - HBA_PORTS) / PORT_SIZE, offset % PORT_SIZE);
    switch (offset) {
    case HBA_CAP: return hba->cap;
    case HBA_GHC: return hba->ghc;
    case HBA_IS: return hba->is;
    case HBA_PI: return hba->pi;
    case HBA_VS: return hba->vs;
    case HBA_CAP2: return hba->cap2;
    case HBA_BOHC: return hba->bohc;
    default: complain(hba, "register %x was read", offset); return 0;
    }
}

struct hba_access fake_hba_access(struct fake_hba *hba)
{
    return (struct hba_access){
        .read = hba_register_read, .write = hba_register_write, .context = hba, .size = 0x1100};
}

static struct {
    struct fake_function functions[FAKE_FUNCTIONS_MAX];
    unsigned count;
} pci;

static struct fake_function *function_at(struct pci_place place)
{
    for (unsigned i = 0; i < pci.count; i++) {
        struct pci_place at = pci.functions[i].place;

        if (at.bus == place.bus && at.device == place.device && at.function == place.function)
            return &pci.functions[i];
    }
    return NULL;
}

static uint32_t config_read(void *context, struct pci_place place, unsigned offset)
{
    const struct fake_function *function = function_at(place);

    (void)context;
    CHECK(offset % 4 == 0 && offset < 256);
    return function == NULL ? UINT32_MAX : function->registers[offset / 4];
}

static void config_write(void *context, struct pci_place place, unsigned offset, uint32_t value)
{
    struct fake_function *function = function_at(place);

    (void)context;
    CHECK(offset % 4 == 0 && offset < 256 && function != NULL);
    function->registers[offset / 4] =
        (function->registers[offset / 4] & ~function->writable[offset / 4]) |
        (value & function->writable[offset / 4]);
}

const struct pci_access *hardware_pci(void)
{
    static const struct pci_access access = {.read = config_read, .write = config_write};

    return &access;
}

enum status hardware_map_hba(struct phys base, uint64_t size, struct hba_access *access)
{
    CHECK(size > 0);
    for (unsigned i = 0; i < pci.count; i++) {
        if (pci.functions[i].hba != NULL && pci.functions[i].registers[9] == base.address) {
            *access = fake_hba_access(pci.functions[i].hba);
            return OK;
        }
    }
    return STATUS_REFUSED;
}

void fake_pci_clear(void)
{
    memset(&pci, 0, sizeof(pci));
}

struct fake_function *fake_pci_add(struct pci_place place, uint32_t class_and_interface)
{
    struct fake_function *function = &pci.functions[pci.count++];

    CHECK(pci.count <= FAKE_FUNCTIONS_MAX);
    *function = (struct fake_function){.place = place};
    function->registers[0] = 0x29228086;
    function->registers[2] = class_and_interface << 8;
    function->writable[1] = 0x00000547;
    return function;
}

struct fake_function *fake_pci_add_hba(struct pci_place place, struct fake_hba *hba)
{
    struct fake_function *function = fake_pci_add(place, 0x010601);

    function->hba = hba;
    function->registers[9] = 0xfe000000 + pci.count * 0x2000;
    function->writable[9] = 0xffffe000;
    return function;
}

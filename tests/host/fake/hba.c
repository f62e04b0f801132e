/* An AHCI controller as host tests have it. */
#include "tests/host/fake/hba_internal.h"

#include <stdarg.h>
#include <stdio.h>

#include "tests/host/fake/machine.h"

#define CAP_DEFAULT       (UINT32_C(0x40141f05) | CAP_S64A)
#define SSTS_UP           UINT32_C(0x113)
#define SSTS_HALF         UINT32_C(0x001)
#define CMD_WRITABLE      (UINT32_C(0xf0000000) | PxCMD_FRE | PxCMD_POD | PxCMD_SUD | PxCMD_ST)
#define SERR_CHANGED      UINT32_C(0x04050000)
#define SERR_DIAG_X       UINT32_C(0x04000000) /* no FIS is taken until it is cleared */
#define SHORTEST_RESET_NS UINT64_C(1000000)

void fake_complain(struct fake_hba *hba, const char *format, ...)
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
    port->sact = 0;
    fake_hba_abandon(port);
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

static void write_cmd(struct fake_hba *hba, struct fake_port *port, uint32_t value)
{
    uint32_t rising = value & ~port->cmd;

    if ((rising & PxCMD_ST) != 0 && ((value & PxCMD_FRE) == 0 || port->ssts != SSTS_UP ||
                                     (port->tfd & (PxTFD_BSY | PxTFD_DRQ)) != 0))
        fake_complain(hba, "the engine was started too early");
    if ((rising & PxCMD_FRE) != 0 && (port->clb == 0x00123400 || port->fb == 0x00123800))
        fake_complain(hba, "the engine was started with the firmware's pointers");
    if ((port->cmd & PxCMD_FRE) != 0 && (value & PxCMD_FRE) == 0 && (port->cmd & PxCMD_CR) != 0)
        fake_complain(hba, "FRE was cleared while commands run");
    if ((value & PxCMD_ST) == 0 && (port->cmd & PxCMD_ST) != 0)
        port->ci = port->sact = port->flying = 0;
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
            fake_complain(hba, "COMRESET while the engine runs");
        port->reset_began_ns = fake_clock_ns;
        port->ssts = 0;
        port->tfd = 0x7f;
        port->ci = port->sact = 0;
        fake_hba_abandon(port);
    } else if (was && !is) {
        if (fake_clock_ns - port->reset_began_ns < SHORTEST_RESET_NS)
            fake_complain(hba, "COMRESET was held too short");
        if (port->fr_sticks) {
            port->fr_sticks = false;
            port->cmd &= ~PxCMD_FR;
        }
        come_up(port);
    }
}

/* Handles a write to PxSERR. Clearing the note of a new link receives the FIS with the device's
 * first status. */
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
        fake_complain(hba, "a pointer was changed while an engine runs");
    if (value % alignment != 0)
        fake_complain(hba, "a pointer is not aligned: %x", value);
    *pointer = value;
}

static void port_register_write(struct fake_hba *hba, unsigned number, uint32_t offset,
                                uint32_t value)
{
    struct fake_port *port = &hba->ports[number];

    if (number >= AHCI_PORTS_MAX || (hba->pi >> number & 1) == 0) {
        fake_complain(hba, "there is no port %u", number);
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
    case PxSACT: fake_hba_set_active(hba, number, value); break;
    case PxCI: fake_hba_issue(hba, number, value); break;
    default: fake_complain(hba, "port register %x was written", offset); break;
    }
}

static uint32_t port_register_read(struct fake_hba *hba, unsigned number, uint32_t offset)
{
    const struct fake_port *port = &hba->ports[number];

    if (number >= AHCI_PORTS_MAX || (hba->pi >> number & 1) == 0) {
        fake_complain(hba, "there is no port %u", number);
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
    case PxSACT: return port->sact;
    case PxCI: return port->ci;
    default: fake_complain(hba, "port register %x was read", offset); return 0;
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

void fake_hba_signal(struct fake_hba *hba)
{
    uint32_t raised = 0;

    for (unsigned i = 0; i < AHCI_PORTS_MAX; i++) {
        if ((hba->ports[i].is & hba->ports[i].ie) != 0)
            raised |= UINT32_C(1) << i;
    }
    raised &= ~hba->is;
    hba->is |= raised;
    if (raised != 0 && (hba->ghc & GHC_IE) != 0 && hba->messages) {
        hba->owed = true;
        hba->sent++;
    }
}

void fake_hba_pass(struct fake_hba *hba)
{
    fake_hba_look(hba);
    fake_hba_tick(hba);
    fake_hba_signal(hba);
    if (!hba->owed || fake_on_message == NULL)
        return;
    hba->owed = false;
    fake_on_message();
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

static void write_register(struct fake_hba *hba, uint32_t offset, uint32_t value)
{
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
    default: fake_complain(hba, "register %x was written", offset); break;
    }
}

static void hba_register_write(void *context, uint32_t offset, uint32_t value)
{
    struct fake_hba *hba = context;

    fake_hba_look(hba);
    if (hba->gone)
        return;
    /* A completion may come between any two accesses, so also just before a write. */
    fake_hba_shuffle(hba);
    if (hba->at_clearing &&
        (offset == HBA_IS || (offset >= HBA_PORTS && offset % PORT_SIZE == PxIS)))
        fake_hba_end_one(hba);
    fake_hba_signal(hba);
    write_register(hba, offset, value);
    fake_hba_signal(hba);
}

static uint32_t hba_register_read(void *context, uint32_t offset)
{
    struct fake_hba *hba = context;

    if (hba->gone)
        return UINT32_MAX;
    fake_hba_tick(hba);
    fake_hba_signal(hba);
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
    default: fake_complain(hba, "register %x was read", offset); return 0;
    }
}

struct hba_access fake_hba_access(struct fake_hba *hba)
{
    return (struct hba_access){
        .read = hba_register_read, .write = hba_register_write, .context = hba, .size = 0x1100};
}

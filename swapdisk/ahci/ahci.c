/* AHCI, the controller: taken over from the firmware, reset, and started; the memory of its
 * ports. */
#include "cpu/machine.h"
#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/print.h"
#include "pmm/pmm.h"
#include "swapdisk/ahci/internal.h"

/* A reset takes at most a second (AHCI 10.4.3). */
#define HBA_RESET_MS 1000U

/* Handoff: 25 ms, or 2 s when the firmware says that it is busy (10.6.3). */
#define HANDOFF_MS      25U
#define HANDOFF_BUSY_MS 2000U

/* Some controllers ignore the first writes of GHC.AE. */
#define ENABLE_TRIES 5U
#define ENABLE_US    10000U

static enum status ahci_fail(struct ahci_hba *hba, enum status status, const char *why,
                             uint32_t value)
{
    print_to(hba->note, AHCI_NOTE_SIZE, "%s (%x)", why, value);
    return status;
}

/* Returns whether the controller answers. All ones means that it was removed or is powered down. */
static bool ahci_answers(const struct ahci_hba *hba)
{
    return hba_read(hba, HBA_VS) != ALL_ONES && hba_read(hba, HBA_CAP) != ALL_ONES &&
           hba_read(hba, HBA_GHC) != ALL_ONES;
}

/* Asks the firmware to hand the controller over. If it does not in time, the reset that follows
 * takes it anyway. */
static void take_from_firmware(struct ahci_hba *hba)
{
    struct deadline end;

    if (hba_read(hba, HBA_VS) < VS_1_2 || (hba_read(hba, HBA_CAP2) & CAP2_BOH) == 0)
        return;
    hba_write(hba, HBA_BOHC, hba_read(hba, HBA_BOHC) | BOHC_OOS);
    end = deadline_after_ms(HANDOFF_MS);
    while ((hba_read(hba, HBA_BOHC) & BOHC_BOS) != 0 && !deadline_passed(end)) {
    }
    if ((hba_read(hba, HBA_BOHC) & (BOHC_BOS | BOHC_BB)) != (BOHC_BOS | BOHC_BB))
        return;
    end = deadline_after_ms(HANDOFF_BUSY_MS);
    while ((hba_read(hba, HBA_BOHC) & BOHC_BOS) != 0 && !deadline_passed(end)) {
    }
}

/* Turns AHCI mode on and interrupts off. Returns false if the controller does not accept it. */
static bool enable(struct ahci_hba *hba)
{
    for (unsigned i = 0; i < ENABLE_TRIES; i++) {
        uint32_t control = hba_read(hba, HBA_GHC);

        if ((control & GHC_AE) != 0 && (control & GHC_IE) == 0)
            return true;
        hba_write(hba, HBA_GHC, (control | GHC_AE) & ~(GHC_IE | GHC_HR));
        if ((hba_read(hba, HBA_GHC) & (GHC_AE | GHC_IE)) == GHC_AE)
            return true;
        delay_us(ENABLE_US);
    }
    return false;
}

/* Resets the controller and restores CAP and PI, which only firmware sets and a reset may clear. */
static bool reset(struct ahci_hba *hba)
{
    uint32_t cap = hba_read(hba, HBA_CAP);
    uint32_t implemented = hba_read(hba, HBA_PI);
    struct deadline end = deadline_after_ms(HBA_RESET_MS);

    hba_write(hba, HBA_GHC, GHC_AE | GHC_HR);
    while ((hba_read(hba, HBA_GHC) & GHC_HR) != 0) {
        if (deadline_passed(end))
            return false;
    }
    if (!enable(hba))
        return false;
    if (hba_read(hba, HBA_CAP) != cap)
        hba_write(hba, HBA_CAP, cap);
    if (hba_read(hba, HBA_PI) != implemented)
        hba_write(hba, HBA_PI, implemented);
    return true;
}

/* Reads the capabilities, reduced to those that the driver uses. */
static void read_capabilities(struct ahci_hba *hba)
{
    hba->cap = hba_read(hba, HBA_CAP);
    hba->implemented = hba_read(hba, HBA_PI);
    for (unsigned i = 0; i < AHCI_PORTS_MAX; i++) {
        if (HBA_PORTS + (i + 1) * PORT_SIZE > hba->access.size)
            hba->implemented &= ~(UINT32_C(1) << i);
    }
    hba->wide = (hba->cap & CAP_S64A) != 0 && !hba->quirks.low_memory_only;
    hba->slots = (hba->cap >> CAP_NCS_SHIFT & CAP_NCS_MASK) + 1;
    hba->pages_max = AHCI_PAGES_MAX;
    if (hba->quirks.pages_max != 0 && hba->quirks.pages_max < hba->pages_max)
        hba->pages_max = hba->quirks.pages_max;
}

enum status ahci_start(struct ahci_hba *hba, const struct hba_access *access,
                       const struct ahci_quirks *quirks)
{
    CHECK(access->read != NULL && access->write != NULL);
    *hba = (struct ahci_hba){.access = *access, .quirks = *quirks};
    if (access->size < HBA_PORTS + PORT_SIZE)
        return ahci_fail(hba, STATUS_UNSUPPORTED, "its register range is too small", access->size);
    if (!ahci_answers(hba))
        return ahci_fail(hba, STATUS_IO, "it does not answer", hba_read(hba, HBA_VS));
    take_from_firmware(hba);
    if (!enable(hba))
        return ahci_fail(hba, STATUS_IO, "it does not enter AHCI mode", hba_read(hba, HBA_GHC));
    if (!reset(hba))
        return ahci_fail(hba, STATUS_TIMEOUT, "its reset does not complete",
                         hba_read(hba, HBA_GHC));
    if (!ahci_answers(hba))
        return ahci_fail(hba, STATUS_IO, "it does not answer after its reset",
                         hba_read(hba, HBA_VS));
    read_capabilities(hba);
    if (hba->implemented == 0)
        return ahci_fail(hba, STATUS_UNSUPPORTED, "it has no ports", hba_read(hba, HBA_PI));
    return ahci_ports_start(hba);
}

void ahci_stop(struct ahci_hba *hba)
{
    if (hba->access.read == NULL)
        return;
    ahci_interrupts_off(hba);
    ahci_ports_stop(hba);
    hba_write(hba, HBA_IS, ALL_ONES);
}

/* ---- memory of a port ---- */

static enum status allocate_bounce(struct ahci_port *port)
{
    if (port->hba->wide || pmm_frame_limit() <= LOW_FRAMES)
        return OK;
    for (unsigned i = 0; i < AHCI_BOUNCE_PAGES; i++) {
        if (pmm_alloc_low(FRAME_DEVICE, FRAME_CLEARED, &port->bounce[i]) != OK)
            return STATUS_NO_MEMORY;
    }
    return OK;
}

/* Gives a command slot its table. */
static bool add_table(struct ahci_port *port, unsigned slot)
{
    if (pmm_alloc_low(FRAME_DEVICE, FRAME_CLEARED, &port->tables[slot]) != OK)
        return false;
    port_lists(port)->headers[slot].ctba = (uint32_t)phys_of(port->tables[slot]).address;
    return true;
}

static enum status allocate(struct ahci_port *port)
{
    if (pmm_alloc_low(FRAME_DEVICE, FRAME_CLEARED, &port->lists) != OK)
        return STATUS_NO_MEMORY;
    if (!add_table(port, 0))
        return STATUS_NO_MEMORY;
    return allocate_bounce(port);
}

void ahci_deepen(struct ahci_port *port, unsigned tags)
{
    unsigned most = (unsigned)min_u64(port->identity.queue_depth, port->hba->slots);

    CHECK(port->state == AHCI_PORT_READY && port->issued == 0);
    if ((port->hba->cap & CAP_SNCQ) == 0)
        most = 1;
    most = (unsigned)min_u64(most, tags);
    while (port->depth < most && add_table(port, port->depth))
        port->depth++;
}

static void free_port_frame(struct pfn frame)
{
    if (!pfn_is_none(frame))
        ahci_free_frame(frame);
}

void ahci_port_free(struct ahci_port *port)
{
    struct pfn object = port->object;

    free_port_frame(port->lists);
    for (unsigned i = 0; i < AHCI_TAGS_MAX; i++)
        free_port_frame(port->tables[i]);
    for (unsigned i = 0; i < AHCI_BOUNCE_PAGES; i++)
        free_port_frame(port->bounce[i]);
    port->hba->ports[port->number] = NULL;
    pmm_free(object);
}

enum status ahci_port_create(struct ahci_hba *hba, unsigned number)
{
    struct ahci_port *port;
    struct pfn object;

    if (pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &object) != OK)
        return STATUS_NO_MEMORY;
    port = frame_pointer(object);
    *port = (struct ahci_port){.hba = hba,
                               .number = number,
                               .state = AHCI_PORT_DEAD,
                               .depth = 1,
                               .object = object,
                               .lists = PFN_NONE};
    for (unsigned i = 0; i < AHCI_TAGS_MAX; i++)
        port->tables[i] = PFN_NONE;
    for (unsigned i = 0; i < AHCI_BOUNCE_PAGES; i++)
        port->bounce[i] = PFN_NONE;
    hba->ports[number] = port;
    return allocate(port);
}

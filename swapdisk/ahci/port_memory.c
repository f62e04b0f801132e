/* The memory of an AHCI port: its object, command list, command tables and bounce frames. */
#include "lib/bytes.h"
#include "lib/check.h"
#include "pmm/pmm.h"
#include "swapdisk/ahci/internal.h"

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

    CHECK(port->state == AHCI_PORT_READY && port->issued == 0 && port->depth == 1);
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

/* The AHCI disk as a block device. The driver checks grants at its choke point, not here. */
#include "lib/check.h"
#include "swapdisk/ahci/ahci.h"
#include "swapdisk/block/block.h"

static enum status block_ahci_read(void *device, uint64_t lba, unsigned sectors,
                                   const struct pfn *frames)
{
    return ahci_read(device, lba, sectors, frames);
}

static enum status block_ahci_write(void *device, const struct swap_grant *grant, uint64_t lba,
                                    unsigned sectors, const struct pfn *frames)
{
    return ahci_write(device, grant, lba, sectors, frames);
}

static enum status block_ahci_flush(void *device)
{
    return ahci_flush(device);
}

static void block_ahci_submit(void *device, struct disk_request *request)
{
    ahci_submit(device, request);
}

static enum status block_ahci_wait(void *device, struct disk_request *request)
{
    return ahci_wait(device, request);
}

static const struct block_operations ahci_operations = {.read = block_ahci_read,
                                                        .write = block_ahci_write,
                                                        .flush = block_ahci_flush,
                                                        .submit = block_ahci_submit,
                                                        .wait = block_ahci_wait};

struct block_device block_of_ahci(struct ahci_port *port)
{
    CHECK(port->state == AHCI_PORT_READY && port->identity.sectors > 0);
    return (struct block_device){.operations = &ahci_operations,
                                 .device = port,
                                 .sectors = port->identity.sectors,
                                 .request_pages = ahci_request_pages(port),
                                 .name = port->identity.serial};
}

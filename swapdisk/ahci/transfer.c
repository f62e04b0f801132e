/* AHCI transfers that wait: split into non-queued requests, and through bounce frames if needed. */
#include "cpu/machine.h"
#include "lib/bytes.h"
#include "lib/check.h"
#include "pmm/pmm.h"
#include "swapdisk/ahci/internal.h"

unsigned ahci_request_pages(const struct ahci_port *port)
{
    CHECK(port->hba->pages_max > 0);
    return (unsigned)min_u64(port->hba->pages_max,
                             pfn_is_none(port->bounce[0]) ? AHCI_PAGES_MAX : AHCI_BOUNCE_PAGES);
}

static bool on_disk(const struct ahci_port *port, uint64_t lba, unsigned sectors)
{
    return lba < port->identity.sectors && sectors <= port->identity.sectors - lba;
}

/* Runs the request in pieces, one after the other. */
static enum status transfer(struct ahci_port *port, struct disk_request whole)
{
    enum status status = OK;

    while (status == OK && whole.sectors > 0) {
        unsigned most = ahci_request_pages(port) * SECTORS_PER_PAGE;
        struct disk_request piece = whole;

        piece.sectors = (unsigned)min_u64(whole.sectors, most);
        ahci_submit(port, &piece);
        status = ahci_wait(port, &piece);
        whole.lba += piece.sectors;
        whole.frames += piece.sectors / SECTORS_PER_PAGE;
        whole.sectors -= piece.sectors;
    }
    return status;
}

enum status ahci_read(struct ahci_port *port, uint64_t lba, unsigned sectors,
                      const struct pfn *frames)
{
    CHECK(sectors > 0 && frames != NULL);
    if (port->state != AHCI_PORT_READY)
        return STATUS_IO;
    if (!on_disk(port, lba, sectors))
        return STATUS_RANGE;
    return transfer(port, (struct disk_request){.operation = DISK_READ,
                                                .alone = true,
                                                .lba = lba,
                                                .sectors = sectors,
                                                .frames = frames});
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
    return transfer(port, (struct disk_request){.operation = DISK_WRITE,
                                                .alone = true,
                                                .lba = lba,
                                                .sectors = sectors,
                                                .frames = frames,
                                                .grant = grant});
}

enum status ahci_flush(struct ahci_port *port)
{
    struct disk_request request = {.operation = DISK_FLUSH, .alone = true};

    ahci_submit(port, &request);
    return ahci_wait(port, &request);
}

void ahci_free_frame(struct pfn frame)
{
    CHECK(!pfn_is_none(frame));
    if (frame_record(frame)->count <= 1)
        pmm_free(frame);
    else
        frame_count_down(frame);
}

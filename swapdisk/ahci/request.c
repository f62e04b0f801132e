/* The commands for a request, and its data where they pass through bounce frames. */
#include "lib/bytes.h"
#include "lib/check.h"
#include "swapdisk/ahci/internal.h"

#define LOW_LIMIT (UINT64_C(1) << 32)

unsigned ahci_pages_of(const struct disk_request *request)
{
    return (request->sectors + SECTORS_PER_PAGE - 1) / SECTORS_PER_PAGE;
}

bool ahci_out_of_reach(const struct ahci_port *port, const struct disk_request *request)
{
    for (unsigned i = 0; !port->hba->wide && i < ahci_pages_of(request); i++) {
        if (phys_of(request->frames[i]).address >= LOW_LIMIT)
            return true;
    }
    return false;
}

struct command ahci_command_of(const struct ahci_port *port, const struct disk_request *request)
{
    static const uint8_t single[] = {[DISK_READ] = ATA_READ_DMA_EXT,
                                     [DISK_WRITE] = ATA_WRITE_DMA_EXT,
                                     [DISK_FLUSH] = ATA_FLUSH_CACHE_EXT};
    bool bounced = ahci_out_of_reach(port, request);

    return (struct command){.opcode = single[request->operation],
                            .lba = request->lba,
                            .sectors = request->sectors,
                            .frames = bounced ? port->bounce : request->frames,
                            .bytes = request->sectors * SECTOR_SIZE,
                            .grant = request->grant};
}

struct command ahci_queued_command_of(const struct ahci_port *port,
                                      const struct disk_request *request)
{
    struct command command = ahci_command_of(port, request);

    CHECK(command.frames == request->frames);
    command.opcode =
        request->operation == DISK_READ ? ATA_READ_FPDMA_QUEUED : ATA_WRITE_FPDMA_QUEUED;
    return command;
}

void ahci_bounce(const struct ahci_port *port, const struct disk_request *request)
{
    uint64_t left = (uint64_t)request->sectors * SECTOR_SIZE;

    if (!ahci_out_of_reach(port, request))
        return;
    CHECK(ahci_pages_of(request) <= AHCI_BOUNCE_PAGES && !pfn_is_none(port->bounce[0]));
    for (unsigned i = 0; left > 0; i++) {
        void *own = frame_pointer(port->bounce[i]);
        void *theirs = frame_pointer(request->frames[i]);
        uint64_t bytes = min_u64(left, PAGE_SIZE);

        if (request->operation == DISK_WRITE)
            memcpy(own, theirs, bytes);
        else
            memcpy(theirs, own, bytes);
        left -= bytes;
    }
}

void ahci_end_request(const struct ahci_port *port, struct disk_request *request,
                      enum status status)
{
    if (status == OK && request->operation == DISK_READ)
        ahci_bounce(port, request);
    request_end(request, status);
}

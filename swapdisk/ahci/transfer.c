/*
 * AHCI transfers: the commands for a request, bounce frames, and the calls that wait, which are
 * split into non-queued requests.
 */
#include "cpu/machine.h"
#include "lib/bytes.h"
#include "lib/check.h"
#include "pmm/pmm.h"
#include "swapdisk/ahci/internal.h"
#include "swapdisk/block/block.h"

#define LOW_LIMIT (UINT64_C(1) << 32)

/* ---- requests ---- */

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
    bool bounced;

    if (request->operation == DISK_TRIM)
        return (struct command){.opcode = ATA_DATA_SET_MANAGEMENT,
                                .bytes = TRIM_BLOCK_SIZE,
                                .ranges = request->ranges,
                                .grant = request->grant};
    bounced = ahci_out_of_reach(port, request);
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

/* ---- calls that wait ---- */

unsigned ahci_request_pages(const struct ahci_port *port)
{
    CHECK(port->hba->pages_max > 0);
    return (unsigned)min_u64(port->hba->pages_max,
                             pfn_is_none(port->bounce[0]) ? AHCI_PAGES_MAX : AHCI_BOUNCE_PAGES);
}

bool ahci_on_disk(const struct ahci_port *port, uint64_t lba, unsigned sectors)
{
    uint64_t part = (UINT64_C(1) << port->identity.sector_shift) - 1;

    return lba < port->identity.sectors && sectors <= port->identity.sectors - lba &&
           ((lba | sectors) & part) == 0;
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
    if (!ahci_on_disk(port, lba, sectors))
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
    if (!ahci_on_disk(port, lba, sectors))
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

enum status ahci_trim(struct ahci_port *port, const struct swap_grant *grant,
                      const struct disk_ranges *ranges)
{
    struct disk_request request = {
        .operation = DISK_TRIM, .alone = true, .ranges = ranges, .grant = grant};

    if (!port->identity.trim)
        return STATUS_UNSUPPORTED;
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

/* ---- the disk as a block device; grants are checked at the choke point ---- */

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

static enum status block_ahci_trim(void *device, const struct swap_grant *grant,
                                   const struct disk_ranges *ranges)
{
    return ahci_trim(device, grant, ranges);
}

static bool block_ahci_serves(const void *device)
{
    return ((const struct ahci_port *)device)->state == AHCI_PORT_READY;
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
                                                        .trim = block_ahci_trim,
                                                        .serves = block_ahci_serves,
                                                        .submit = block_ahci_submit,
                                                        .wait = block_ahci_wait};

struct block_device block_of_ahci(struct ahci_port *port)
{
    CHECK(port->state == AHCI_PORT_READY && port->identity.sectors > 0);
    return (struct block_device){.operations = &ahci_operations,
                                 .device = port,
                                 .sectors = port->identity.sectors,
                                 .shift = port->identity.sector_shift,
                                 .request_pages = ahci_request_pages(port),
                                 .name = port->identity.serial};
}

/* One non-queued AHCI command at a time: issued, waited for, retried; and those of a crash. */
#include "cpu/machine.h"
#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/ktap.h"
#include "swapdisk/ahci/internal.h"
#include "swapdisk/block/block.h"

/* Most attempts of a command that may time out. */
#define TIMEOUTS 2U

/* The slot of commands that run alone. */
#define SLOT_ALONE 0U

/* Bounds of all waits of a crash together. The second holds if the clock does not go on. */
#define CRASH_MS    10000U
#define CRASH_LOOKS 2000000U

/* Waits until the slot completes, the port reports an error, or the link changes. A port that was
 * removed reads as all ones, which shows as a changed link. */
static enum status wait_done(const struct ahci_port *port, unsigned slot, uint8_t opcode)
{
    struct deadline end = deadline_after_ms(ahci_longest_ms(opcode));

    do {
        uint32_t events = port_read(port, PxIS);

        if ((events & (PxIS_ERRORS | PxIS_LINK)) != 0)
            return STATUS_IO;
        if ((port_read(port, PxCI) >> slot & 1) == 0)
            return OK;
        if (ahci_port_changed(port))
            return STATUS_IO;
        machine_relax();
    } while (!deadline_passed(end));
    return STATUS_TIMEOUT;
}

/* Issues a command once. After an error the engine is left as it is, for the recovery. */
static enum status run_once(struct ahci_port *port, const struct command *command)
{
    enum status status;

    CHECK(!opcode_queued(command->opcode));
    ahci_build(port, SLOT_ALONE, command);
    status = ahci_issue(port, SLOT_ALONE, command->grant);
    if (status != OK)
        return status;
    status = wait_done(port, SLOT_ALONE, command->opcode);
    progress_note();
    if (status == OK && !ahci_ended_well(port, SLOT_ALONE, command))
        status = STATUS_IO;
    if (status == OK)
        port_write(port, PxIS, port_read(port, PxIS));
    /* After an error the engine is stopped before anything else is issued. */
    port->issued = 0;
    return status;
}

enum status ahci_report(struct ahci_port *port, struct ahci_error *error, bool healed)
{
    error->healed = healed;
    *(healed ? &port->counters.healed : &port->counters.lost) += 1;
    if (port->hba->on_error != NULL)
        port->hba->on_error(port, error);
    return healed ? OK : STATUS_IO;
}

void ahci_note_attempt(struct ahci_port *port, struct ahci_error *error, unsigned slot)
{
    uint32_t task_file = port_read(port, PxTFD);

    port->counters.errors++;
    error->slot = slot;
    error->ata_status = (uint8_t)task_file;
    error->ata_error = (uint8_t)(task_file >> 8);
}

enum status ahci_retry(struct ahci_port *port, const struct command *command,
                       struct ahci_error *error)
{
    while (port->state == AHCI_PORT_READY && error->tries < ahci_tries(command->opcode)) {
        enum status status = run_once(port, command);

        if (status == STATUS_REFUSED)
            return status;
        if (status == OK) {
            port->fruitless = 0;
            return error->tries++ > 0 ? ahci_report(port, error, true) : OK;
        }
        ahci_note_attempt(port, error, SLOT_ALONE);
        error->tries++;
        error->timed_out = status == STATUS_TIMEOUT;
        error->timeouts += error->timed_out;
        if (error->timeouts == TIMEOUTS)
            ahci_port_give_up(port, "its commands do not complete", port_read(port, PxCI));
        else
            ahci_port_recover(port);
    }
    return ahci_report(port, error, false);
}

enum status ahci_identify(struct ahci_port *port)
{
    struct command command = {.opcode = ATA_IDENTIFY_DEVICE, .bytes = SECTOR_SIZE};

    /* identity_decode refuses a blank buffer, so stale data cannot pass for an answer. */
    memset(port_lists(port)->identify, 0, sizeof(port_lists(port)->identify));
    return run_once(port, &command);
}

enum status ahci_read_error_log(struct ahci_port *port)
{
    struct command command = {
        .opcode = ATA_READ_LOG_EXT, .lba = LOG_QUEUED_ERROR, .sectors = 1, .bytes = LOG_SIZE};

    memset(port_lists(port)->log, 0, sizeof(port_lists(port)->log));
    return run_once(port, &command);
}

/* ---- in a crash: polled, without the lock, the lists and the recovery ---- */

static struct {
    struct deadline end;
    unsigned looks;
} crash_bound;

/* Waits until no command of these tags is in flight. */
static enum status crash_wait(const struct ahci_port *port, uint32_t tags)
{
    for (; crash_bound.looks > 0; crash_bound.looks--) {
        uint32_t events = port_read(port, PxIS);

        if ((events & (PxIS_ERRORS | PxIS_LINK)) != 0 || ahci_port_changed(port))
            return STATUS_IO;
        if (((port_read(port, PxCI) | port_read(port, PxSACT)) & tags) == 0)
            return OK;
        if (deadline_passed(crash_bound.end))
            break;
    }
    return STATUS_TIMEOUT;
}

/* Runs a request once, as a non-queued command. A failure is final: nothing is reset. */
static enum status crash_run(struct ahci_port *port, const struct disk_request *request)
{
    struct command command = ahci_command_of(port, request);
    enum status status;

    CHECK(port->state == AHCI_PORT_READY && !opcode_queued(command.opcode));
    CHECK(ahci_pages_of(request) <= ahci_request_pages(port));
    if (request->operation == DISK_WRITE)
        ahci_bounce(port, request);
    ahci_build(port, SLOT_ALONE, &command);
    status = ahci_issue(port, SLOT_ALONE, command.grant);
    if (status == OK)
        status = crash_wait(port, UINT32_C(1) << SLOT_ALONE);
    if (status == OK && !ahci_ended_well(port, SLOT_ALONE, &command))
        status = STATUS_IO;
    if (status != OK)
        return status;
    port_write(port, PxIS, port_read(port, PxIS));
    port->issued = 0;
    if (request->operation == DISK_READ)
        ahci_bounce(port, request);
    return OK;
}

static enum status crash_read(void *device, uint64_t lba, unsigned sectors,
                              const struct pfn *frames)
{
    return crash_run(device,
                     &(struct disk_request){
                         .operation = DISK_READ, .lba = lba, .sectors = sectors, .frames = frames});
}

static enum status crash_write(void *device, const struct swap_grant *grant, uint64_t lba,
                               unsigned sectors, const struct pfn *frames)
{
    return crash_run(device, &(struct disk_request){.operation = DISK_WRITE,
                                                    .lba = lba,
                                                    .sectors = sectors,
                                                    .frames = frames,
                                                    .grant = grant});
}

static enum status crash_flush(void *device)
{
    return crash_run(device, &(struct disk_request){.operation = DISK_FLUSH});
}

enum status ahci_crash_take(struct ahci_port *port, struct block_device *block)
{
    static const struct block_operations operations = {
        .read = crash_read, .write = crash_write, .flush = crash_flush};
    enum status status;

    if (port->state != AHCI_PORT_READY || port->recovering || port->broken || port->lock != 0)
        return STATUS_REFUSED;
    crash_bound.end = deadline_after_ms(CRASH_MS);
    crash_bound.looks = CRASH_LOOKS;
    port_write(port, PxIE, 0);
    status = crash_wait(port, port->issued);
    if (status != OK)
        return status;
    port_write(port, PxIS, port_read(port, PxIS));
    port->issued = 0;
    port->queued = false;
    *block = (struct block_device){.operations = &operations,
                                   .device = port,
                                   .sectors = port->identity.sectors,
                                   .shift = port->identity.sector_shift,
                                   .request_pages = ahci_request_pages(port),
                                   .name = port->identity.serial};
    return OK;
}

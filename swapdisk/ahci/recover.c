/*
 * AHCI error recovery (6.2.2), with the port taken: nothing is issued meanwhile.
 *
 * A disk that fails a queued command aborts all others. Its log says which one failed; the others
 * are queued again. If there is no log, or no sound one, the link is reset, and each command that
 * was in flight runs alone: the one that fails is the culprit. Either way the disk is identified
 * first, and the choke point judges the grant of each command again (rule D18).
 */
#include "cpu/machine.h"
#include "lib/check.h"
#include "swapdisk/ahci/internal.h"

/* Recoveries in a row without a command that ends well, of errors that the disk reports; one from a
 * time-out counts for several. Few bad slots in a row are no reason to give the port up (D3). */
#define FRUITLESS_MOST 40U
#define FRUITLESS_LATE 8U

#define NO_CULPRIT AHCI_TAGS_MAX

/* One recovery. */
struct recovery {
    struct disk_request *suspects[AHCI_TAGS_MAX]; /* by tag; NULL: not in flight */
    uint32_t tags;
    unsigned culprit;        /* tag, or NO_CULPRIT */
    bool queued;             /* the commands in flight were */
    bool late;               /* begun by a time-out */
    struct ahci_error first; /* the attempt that failed */
};

static void take_suspects(struct ahci_port *port, struct recovery *recovery)
{
    bool were_on = ahci_lock(port);

    CHECK(port->recovering && port->broken);
    *recovery = (struct recovery){
        .tags = port->issued, .culprit = NO_CULPRIT, .queued = port->queued, .late = port->late};
    for (uint32_t left = port->issued; left != 0; left &= left - 1) {
        unsigned tag = (unsigned)__builtin_ctz(left);

        recovery->suspects[tag] = port->flying[tag];
        port->flying[tag] = NULL;
    }
    ahci_unlock(port, were_on);
}

/* Returns the failed tag of a sound log page, otherwise NO_CULPRIT. */
static unsigned tag_of_log(const uint8_t *log)
{
    uint8_t sum = 0;

    for (unsigned i = 0; i < LOG_SIZE; i++)
        sum = (uint8_t)(sum + log[i]);
    if (sum != 0 || (log[LOG_TAG] & LOG_NOT_QUEUED) != 0)
        return NO_CULPRIT;
    return log[LOG_TAG] & LOG_TAG_MASK;
}

/* Finds the command that failed by the disk's log of queued errors. Returns false if the disk must
 * be reset instead. */
static bool ask_the_log(struct ahci_port *port, struct recovery *recovery)
{
    const uint8_t *log = port_lists(port)->log;
    unsigned tag;

    if (!recovery->queued || recovery->late || !port->identity.error_log ||
        ahci_port_changed(port) || !ahci_port_restart(port))
        return false;
    port->counters.log_reads++;
    if (ahci_read_error_log(port) != OK)
        return false;
    tag = tag_of_log(log);
    if (tag == NO_CULPRIT || (recovery->tags >> tag & 1) == 0 || !ahci_port_same_disk(port))
        return false;
    recovery->culprit = tag;
    recovery->first.slot = tag;
    recovery->first.ata_status = log[LOG_STATUS];
    recovery->first.ata_error = log[LOG_ERROR];
    return true;
}

/* Makes the port usable again, or declares it dead. */
static void bring_back(struct ahci_port *port, struct recovery *recovery)
{
    bool known;

    port->fruitless += recovery->late ? FRUITLESS_LATE : 1;
    if (port->fruitless > FRUITLESS_MOST) {
        ahci_port_give_up(port, "its recoveries do not help", port_read(port, PxIS));
        return;
    }
    known = ask_the_log(port, recovery);
    if (!known)
        ahci_port_recover(port);
    /* A command that was the only one in flight is the one that failed. */
    if (!known && recovery->tags != 0 && (recovery->tags & (recovery->tags - 1)) == 0)
        recovery->culprit = (unsigned)__builtin_ctz(recovery->tags);
}

/* Holds frames of a command that may not have ended, for ever; counts of pages stand still (D1). */
static void hold_frames(struct ahci_port *port, const struct disk_request *request)
{
    for (unsigned i = 0; i < ahci_pages_of(request); i++, port->counters.held++)
        (frame_record(request->frames[i])->kind == FRAME_ANONYMOUS
             ? frame_count_saturate
             : frame_count_up)(request->frames[i]);
}

/* Runs a suspect alone, with the attempts that it has left, and ends its request. */
static void try_alone(struct ahci_port *port, const struct recovery *recovery, unsigned tag)
{
    struct disk_request *request = recovery->suspects[tag];
    struct command command = ahci_command_of(port, request);
    struct ahci_error error = {0};
    enum status status;

    if (tag == recovery->culprit)
        error = recovery->first;
    error.command = ahci_command_name(command.opcode);
    error.lba = command.lba;
    error.sectors = command.sectors;
    status = ahci_retry(port, &command, &error);
    if (port->untamed)
        hold_frames(port, request);
    ahci_end_apart(port, request, status);
}

static void requeue(struct ahci_port *port, struct disk_request *request)
{
    bool were_on = ahci_lock(port);

    ahci_requeue(port, request);
    ahci_unlock(port, were_on);
}

static void settle_suspects(struct ahci_port *port, const struct recovery *recovery)
{
    bool logged = recovery->culprit != NO_CULPRIT && port->state == AHCI_PORT_READY;

    for (uint32_t left = recovery->tags; left != 0; left &= left - 1) {
        unsigned tag = (unsigned)__builtin_ctz(left);

        if (logged && tag != recovery->culprit)
            requeue(port, recovery->suspects[tag]);
        else
            try_alone(port, recovery, tag);
    }
}

/* Lets the port go on. */
static void end_recovery(struct ahci_port *port)
{
    bool were_on = ahci_lock(port);

    CHECK(port->issued == 0);
    port->broken = false;
    port->late = false;
    port->recovering = false;
    if (port->interrupts && port->state == AHCI_PORT_READY)
        port_write(port, PxIE, PxIE_SERVED);
    ahci_issue_waiting(port);
    ahci_unlock(port, were_on);
    if (port->state != AHCI_PORT_READY)
        ahci_fail_waiting(port);
}

void ahci_recover(struct ahci_port *port)
{
    struct recovery recovery;

    take_suspects(port, &recovery);
    if (recovery.tags != 0) {
        ahci_note_attempt(port, &recovery.first, (unsigned)__builtin_ctz(recovery.tags));
        recovery.first.tries = 1;
        recovery.first.timed_out = recovery.late;
        recovery.first.timeouts = recovery.late;
    }
    bring_back(port, &recovery);
    port->issued = 0;
    settle_suspects(port, &recovery);
    end_recovery(port);
}

/*
 * AHCI requests: waiting, in flight, ended.
 *
 *   submit -> waiting (reads, writes, others) -> in flight, by tag -> ended
 *                 ^                                   |
 *                 +---- ahci_requeue, in a recovery --+
 *
 * All of it is under the port's lock. An error, a time-out or a changed link makes the port broken:
 * nothing more is issued until a waiting thread has recovered it (recover.c).
 */
#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/ktap.h"
#include "swapdisk/ahci/internal.h"

/* A waiting write is issued after so many reads. */
#define READS_IN_A_ROW 16U

/* A waiting non-queued command lets so many queued ones pass; then the queue drains for it. */
#define PASSED_MOST 32U

#define LOW_LIMIT     (UINT64_C(1) << 32)
#define NS_PER_MS     UINT64_C(1000000)
#define EVERY_TAG(n_) ((n_) == 32 ? UINT32_MAX : (UINT32_C(1) << (n_)) - 1)

bool ahci_lock(struct ahci_port *port)
{
    bool were_on = machine_interrupts_off();

    spin_lock(&port->lock);
    return were_on;
}

void ahci_unlock(struct ahci_port *port, bool were_on)
{
    spin_unlock(&port->lock);
    machine_interrupts_restore(were_on);
}

/* ---- lists ---- */

static struct request_list *list_of(struct ahci_port *port, const struct disk_request *request)
{
    if (request->single)
        return &port->others;
    return request->operation == DISK_READ ? &port->reads : &port->writes;
}

static void request_append(struct request_list *list, struct disk_request *request)
{
    request->next = NULL;
    if (list->last != NULL)
        list->last->next = request;
    else
        list->first = request;
    list->last = request;
}

static struct disk_request *request_pop(struct request_list *list)
{
    struct disk_request *request = list->first;

    CHECK(request != NULL);
    list->first = request->next;
    if (list->first == NULL)
        list->last = NULL;
    return request;
}

void ahci_requeue(struct ahci_port *port, struct disk_request *request)
{
    struct request_list *list = list_of(port, request);

    request->progress = REQUEST_WAITING;
    request->next = list->first;
    list->first = request;
    if (list->last == NULL)
        list->last = request;
}

/* ---- commands ---- */

static unsigned request_pages(const struct disk_request *request)
{
    return (request->sectors + SECTORS_PER_PAGE - 1) / SECTORS_PER_PAGE;
}

/* Returns whether the controller cannot address a frame of the request. */
static bool out_of_reach(const struct ahci_port *port, const struct disk_request *request)
{
    for (unsigned i = 0; !port->hba->wide && i < request_pages(request); i++) {
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
    bool bounced = out_of_reach(port, request);

    return (struct command){.opcode = single[request->operation],
                            .lba = request->lba,
                            .sectors = request->sectors,
                            .frames = bounced ? port->bounce : request->frames,
                            .bytes = request->sectors * SECTOR_SIZE,
                            .grant = request->grant};
}

static struct command queued_command_of(const struct ahci_port *port,
                                        const struct disk_request *request)
{
    struct command command = ahci_command_of(port, request);

    CHECK(command.frames == request->frames);
    command.opcode =
        request->operation == DISK_READ ? ATA_READ_FPDMA_QUEUED : ATA_WRITE_FPDMA_QUEUED;
    return command;
}

/* Copies the data of a write to the bounce frames, or those of a read from them. */
static void bounce(const struct ahci_port *port, const struct disk_request *request)
{
    uint64_t left = (uint64_t)request->sectors * SECTOR_SIZE;

    if (!out_of_reach(port, request))
        return;
    CHECK(request_pages(request) <= AHCI_BOUNCE_PAGES && !pfn_is_none(port->bounce[0]));
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
        bounce(port, request);
    request_end(request, status);
}

/* ---- issuing ---- */

/* Takes the next request to be issued from its list; returns NULL if none may be issued now. */
static struct disk_request *next_request(struct ahci_port *port)
{
    bool writes_wait = port->writes.first != NULL;

    if (port->issued == EVERY_TAG(port->depth) || (port->issued != 0 && !port->queued))
        return NULL;
    if (port->others.first != NULL) {
        bool others_only = port->reads.first == NULL && !writes_wait;

        if (others_only || port->passed >= PASSED_MOST) {
            if (port->issued != 0)
                return NULL;
            port->passed = 0;
            return request_pop(&port->others);
        }
        port->passed++;
    }
    if (port->reads.first != NULL && (!writes_wait || port->reads_in_row < READS_IN_A_ROW)) {
        port->reads_in_row += writes_wait;
        return request_pop(&port->reads);
    }
    port->reads_in_row = 0;
    return writes_wait ? request_pop(&port->writes) : NULL;
}

/* Returns a tag that is not in flight, in turn, so that each one is used. */
static unsigned free_tag(struct ahci_port *port)
{
    CHECK(port->issued != EVERY_TAG(port->depth));
    while ((port->issued >> port->turn & 1) != 0)
        port->turn = (port->turn + 1) % port->depth;
    return port->turn;
}

static void note_depth(struct ahci_port *port)
{
    unsigned now = 0;

    for (uint32_t left = port->issued; left != 0; left &= left - 1)
        now++;

    if (now > port->counters.deepest)
        port->counters.deepest = now;
}

static void start_request(struct ahci_port *port, struct disk_request *request)
{
    unsigned tag = free_tag(port);
    struct command command =
        request->single ? ahci_command_of(port, request) : queued_command_of(port, request);
    enum status status;

    if (request->operation == DISK_WRITE)
        bounce(port, request);
    ahci_build(port, tag, &command);
    request->limit_ns = machine_now_ns() + ahci_longest_ms(command.opcode) * NS_PER_MS;
    request->progress = REQUEST_ISSUED;
    port->flying[tag] = request;
    status = ahci_issue(port, tag, command.grant);
    if (status != OK) {
        ahci_end_request(port, request, status);
        return;
    }
    port->turn = (tag + 1) % port->depth;
    note_depth(port);
}

void ahci_issue_waiting(struct ahci_port *port)
{
    while (port->state == AHCI_PORT_READY && !port->broken) {
        struct disk_request *request = next_request(port);

        if (request == NULL)
            return;
        /* A link that changed is reset, and the disk identified, before the next command. */
        port->broken = ahci_port_changed(port);
        if (port->broken)
            ahci_requeue(port, request);
        else
            start_request(port, request);
    }
}

/* ---- completions ---- */

/* Returns the tags in flight that the controller and the disk are done with. PxIS is cleared before
 * they are read, so that a later completion raises it again (rule D7). After an event that concerns
 * the link or the controller itself none counts: the registers may have been reset. */
static uint32_t read_done(struct ahci_port *port)
{
    uint32_t events = port_read(port, PxIS);
    uint32_t busy;

    if (events != 0 && (events & (PxIS_ERRORS | PxIS_LINK)) == 0)
        port_write(port, PxIS, events);
    busy = port_read(port, PxCI);
    if (port->queued)
        busy |= port_read(port, PxSACT);
    if ((port->issued & ~busy) != 0)
        events |= port_read(port, PxIS);
    if ((events & (PxIS_ERRORS | PxIS_LINK)) != 0)
        port->broken = true;
    if ((events & ((PxIS_ERRORS | PxIS_LINK) & ~PxIS_TFES)) != 0 || (port->broken && !port->queued))
        return 0;
    return port->issued & ~busy;
}

static void harvest(struct ahci_port *port)
{
    uint32_t done = port->issued != 0 ? read_done(port) : 0;

    for (; done != 0; done &= done - 1) {
        unsigned tag = (unsigned)__builtin_ctz(done);
        struct disk_request *request = port->flying[tag];

        if (!port->queued) {
            struct command command = ahci_command_of(port, request);

            port->broken = !ahci_ended_well(port, tag, &command);
            if (port->broken)
                return;
        }
        port->issued &= ~(UINT32_C(1) << tag);
        port->fruitless = 0;
        ahci_end_request(port, request, OK);
    }
}

/* Marks the port as broken if a command takes too long. */
static void look_at_limits(struct ahci_port *port)
{
    uint64_t now = machine_now_ns();

    for (uint32_t left = port->issued; left != 0 && !port->broken; left &= left - 1) {
        if (now >= port->flying[__builtin_ctz(left)]->limit_ns)
            port->broken = port->late = true;
    }
}

/* ---- calls ---- */

/* Returns why a request cannot be issued, OK if it can. */
static enum status judge_request(const struct ahci_port *port, const struct disk_request *request)
{
    uint64_t there = port->identity.sectors;

    if (port->state != AHCI_PORT_READY)
        return STATUS_IO;
    if (request->operation == DISK_FLUSH)
        return OK;
    CHECK(request->sectors > 0 && request->frames != NULL);
    CHECK(request_pages(request) <= ahci_request_pages(port));
    if (request->lba >= there || request->sectors > there - request->lba)
        return STATUS_RANGE;
    return OK;
}

void ahci_submit(struct ahci_port *port, struct disk_request *request)
{
    bool were_on = ahci_lock(port);
    enum status status = judge_request(port, request);

    CHECK(request->progress == REQUEST_NEW || request->progress == REQUEST_ENDED);
    if (status == OK) {
        request->single = request->alone || request->operation == DISK_FLUSH || port->depth == 1 ||
                          out_of_reach(port, request);
        request->progress = REQUEST_WAITING;
        request_append(list_of(port, request), request);
        ahci_issue_waiting(port);
    } else {
        request_end(request, status);
    }
    ahci_unlock(port, were_on);
}

void ahci_poll(struct ahci_port *port)
{
    bool were_on = ahci_lock(port);
    bool recover;

    if (!port->recovering) {
        harvest(port);
        look_at_limits(port);
        ahci_issue_waiting(port);
    }
    recover = port->broken && !port->recovering;
    port->recovering |= recover;
    ahci_unlock(port, were_on);
    if (recover)
        ahci_recover(port);
}

static uint64_t waited_ticks; /* atomic */

uint64_t ahci_waited_ticks(void)
{
    return __atomic_load_n(&waited_ticks, __ATOMIC_RELAXED);
}

enum status ahci_wait(struct ahci_port *port, const struct disk_request *request)
{
    while (!request_ended(request)) {
        uint64_t began = machine_ticks();

        ahci_poll(port);
        if (request_ended(request))
            break;
        machine_relax();
        __atomic_add_fetch(&waited_ticks, machine_ticks() - began, __ATOMIC_RELAXED);
    }
    progress_note();
    return request->status;
}

/* Takes any waiting request; NULL if there is none. */
static struct disk_request *take_waiting(struct ahci_port *port)
{
    struct request_list *lists[] = {&port->reads, &port->writes, &port->others};
    struct disk_request *request = NULL;
    bool were_on = ahci_lock(port);

    for (unsigned i = 0; i < ARRAY_COUNT(lists) && request == NULL; i++) {
        if (lists[i]->first != NULL)
            request = request_pop(lists[i]);
    }
    ahci_unlock(port, were_on);
    return request;
}

void ahci_fail_waiting(struct ahci_port *port)
{
    struct disk_request *request;

    CHECK(port->state != AHCI_PORT_READY);
    while ((request = take_waiting(port)) != NULL) {
        struct command command = ahci_command_of(port, request);
        struct ahci_error error = {.command = ahci_command_name(command.opcode),
                                   .lba = request->lba,
                                   .sectors = request->sectors};

        ahci_end_request(port, request, ahci_report(port, &error, false));
    }
}

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

/* Reads that may be issued before a waiting write. */
#define READS_IN_A_ROW 16U

/* Queued commands that may be issued before a waiting non-queued one; then the queue drains for
 * it. */
#define PASSED_MOST 32U

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

/* ---- ends ---- */

void ahci_end_apart(struct ahci_port *port, struct disk_request *request, enum status status)
{
    bool were_on = ahci_lock(port);

    ahci_end_request(port, request, status);
    ahci_unlock(port, were_on);
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
        request->single ? ahci_command_of(port, request) : ahci_queued_command_of(port, request);
    enum status status;

    if (request->operation == DISK_WRITE)
        ahci_bounce(port, request);
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

/* Stops issuing until a waiter has recovered the port, which is silent meanwhile. */
static void break_port(struct ahci_port *port)
{
    port->broken = true;
    if (port->interrupts)
        port_write(port, PxIE, 0);
}

void ahci_issue_waiting(struct ahci_port *port)
{
    while (port->state == AHCI_PORT_READY && !port->broken) {
        struct disk_request *request = next_request(port);

        if (request == NULL)
            return;
        /* A link that changed is reset, and the disk identified, before the next command. */
        if (ahci_port_changed(port)) {
            break_port(port);
            ahci_requeue(port, request);
        } else {
            start_request(port, request);
        }
    }
}

/* ---- completions ---- */

/* Returns the tags in flight that the controller and the disk are done with. PxIS and then IS are
 * cleared before they are read, so that a later completion raises an interrupt again (rule D7).
 * After an event that concerns the link or the controller itself none counts: the registers may
 * have been reset. */
static uint32_t read_done(struct ahci_port *port)
{
    uint32_t events = port_read(port, PxIS);
    uint32_t busy;

    if (events != 0 && (events & (PxIS_ERRORS | PxIS_LINK)) == 0)
        port_write(port, PxIS, events);
    if (port->interrupts)
        hba_write(port->hba, HBA_IS, UINT32_C(1) << port->number);
    busy = port_read(port, PxCI);
    if (port->queued)
        busy |= port_read(port, PxSACT);
    if ((port->issued & ~busy) != 0)
        events |= port_read(port, PxIS);
    if ((events & (PxIS_ERRORS | PxIS_LINK)) != 0)
        break_port(port);
    if ((events & ((PxIS_ERRORS | PxIS_LINK) & ~PxIS_TFES)) != 0 || (port->broken && !port->queued))
        return 0;
    return port->issued & ~busy;
}

static void harvest(struct ahci_port *port)
{
    /* With nothing in flight, too, events have to be cleared: a bit of IS that stays set raises no
     * further interrupt. */
    uint32_t done = port->issued != 0 || port->interrupts ? read_done(port) : 0;

    for (; done != 0; done &= done - 1) {
        unsigned tag = (unsigned)__builtin_ctz(done);
        struct disk_request *request = port->flying[tag];

        if (!port->queued) {
            struct command command = ahci_command_of(port, request);

            if (!ahci_ended_well(port, tag, &command)) {
                break_port(port);
                return;
            }
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
        if (now < port->flying[__builtin_ctz(left)]->limit_ns)
            continue;
        port->late = true;
        break_port(port);
    }
}

/* ---- calls ---- */

/* Returns why a request cannot be issued, OK if it can. */
static enum status judge_request(const struct ahci_port *port, const struct disk_request *request)
{
    if (port->state != AHCI_PORT_READY)
        return STATUS_IO;
    if (request->sectors == 0) {
        CHECK(request->operation == DISK_FLUSH || request->operation == DISK_TRIM);
        return OK;
    }
    CHECK(request->frames != NULL);
    CHECK(ahci_pages_of(request) <= ahci_request_pages(port));
    return ahci_on_disk(port, request->lba, request->sectors) ? OK : STATUS_RANGE;
}

void ahci_submit(struct ahci_port *port, struct disk_request *request)
{
    bool were_on = ahci_lock(port);
    enum status status = judge_request(port, request);

    CHECK(request->progress == REQUEST_NEW || request->progress == REQUEST_ENDED);
    if (status == OK) {
        request->single = request->alone || request->sectors == 0 || port->depth == 1 ||
                          ahci_out_of_reach(port, request);
        request->progress = REQUEST_WAITING;
        request->sleeps = port->interrupts && thread_may_wait();
        request->wake = (struct semaphore){0};
        request_append(list_of(port, request), request);
        ahci_issue_waiting(port);
    } else {
        request->sleeps = false;
        request_end(request, status);
    }
    ahci_unlock(port, were_on);
}

static void wake_waiter(struct disk_request *request)
{
    if (request->sleeps)
        semaphore_up(&request->wake);
}

/* Wakes the threads that wait for requests: the first to run recovers the port. A thread may have
 * submitted several and sleep on any of them, so all are told. */
static void wake_waiters(struct ahci_port *port)
{
    const struct request_list *lists[] = {&port->reads, &port->writes, &port->others};

    for (uint32_t left = port->issued; left != 0; left &= left - 1)
        wake_waiter(port->flying[__builtin_ctz(left)]);
    for (unsigned i = 0; i < ARRAY_COUNT(lists); i++) {
        for (struct disk_request *at = lists[i]->first; at != NULL; at = at->next)
            wake_waiter(at);
    }
}

void ahci_serve(struct ahci_port *port)
{
    bool were_on = ahci_lock(port);

    if (!port->recovering) {
        harvest(port);
        look_at_limits(port);
        ahci_issue_waiting(port);
        if (port->broken)
            wake_waiters(port);
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

static uint64_t polled_ticks; /* atomic */

uint64_t ahci_polled_ticks(void)
{
    return __atomic_load_n(&polled_ticks, __ATOMIC_RELAXED);
}

/* Polls once; then sleeps, or lets the processor's other threads run. A sleeper is woken at the
 * end, and to recover the port. */
static void wait_once(struct ahci_port *port, struct disk_request *request)
{
    uint64_t began = machine_ticks();

    ahci_poll(port);
    if (request_ended(request))
        return;
    if (request->sleeps) {
        semaphore_down(&request->wake);
        return;
    }
    machine_relax();
    __atomic_add_fetch(&polled_ticks, machine_ticks() - began, __ATOMIC_RELAXED);
}

enum status ahci_wait(struct ahci_port *port, struct disk_request *request)
{
    while (!request_ended(request))
        wait_once(port, request);
    /* The processor that ended it may still wake threads, inside the lock. */
    if (request->sleeps)
        ahci_unlock(port, ahci_lock(port));
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

        ahci_end_apart(port, request, ahci_report(port, &error, false));
    }
}

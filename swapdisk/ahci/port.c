/*
 * AHCI ports: engines, links and attached devices.
 *
 *             no link              not a disk, or one that is not used
 *   probe ---------------> EMPTY   probe ---------------> SKIPPED
 *     |
 *     | IDENTIFY fits      error; the same disk answers after COMRESET
 *     +---------------> READY <-----+
 *                         |  |------+      ahci_port_recover
 *                         |
 *                         +-------> DEAD   ahci_port_give_up
 *
 * A new port object is dead until its probe ends.
 */
#include "cpu/machine.h"
#include "lib/check.h"
#include "lib/print.h"
#include "swapdisk/ahci/internal.h"

/* An engine stops within this (AHCI 10.1.2, 10.3.2). */
#define ENGINE_MS 500U

/* Duration of COMRESET; the least is 1 ms (10.4.2). */
#define COMRESET_US 2000U

/* A device answers COMRESET within 10 ms (Serial ATA 3.1, 8.4); some need longer. */
#define PRESENCE_MS 50U

/* Limits from the answer to a working link, and from there to a ready device. */
#define LINK_MS  1000U
#define READY_MS 10000U

/* Attempts of IDENTIFY DEVICE, with a reset in between: the first command after a link came up is
 * the most likely to fail. */
#define IDENTIFY_TRIES 2U

/* PxSIG (Serial ATA 3.1, 11.4; AHCI 3.3.9). */
#define SIGNATURE_DISK            UINT32_C(0x00000101)
#define SIGNATURE_ATAPI           UINT32_C(0xeb140101)
#define SIGNATURE_PORT_MULTIPLIER UINT32_C(0x96690101)
#define SIGNATURE_ENCLOSURE       UINT32_C(0xc33c0101)

static void assert_port(const struct ahci_port *port)
{
    CHECK(port->hba != NULL && port->hba->ports[port->number] == port);
    CHECK(port->state <= AHCI_PORT_DEAD);
}

static void port_set_state(struct ahci_port *port, enum ahci_port_state state, const char *why,
                           uint32_t value)
{
    port->state = state;
    print_to(port->note, AHCI_NOTE_SIZE, "%s (%x)", why, value);
}

/* Clears bits of PxCMD and waits until the engine reports that it has stopped. */
static bool stop_engine(const struct ahci_port *port, uint32_t enable, uint32_t running)
{
    struct deadline end = deadline_after_ms(ENGINE_MS);

    port_write(port, PxCMD, port_read(port, PxCMD) & ~enable);
    while ((port_read(port, PxCMD) & running) != 0) {
        if (deadline_passed(end))
            return false;
    }
    return true;
}

/* Stops both engines: first commands, then received FISes (10.1.2). */
static bool stop_engines(const struct ahci_port *port)
{
    return stop_engine(port, PxCMD_ST, PxCMD_CR) && stop_engine(port, PxCMD_FRE, PxCMD_FR);
}

static uint32_t link_state(const struct ahci_port *port)
{
    return port_read(port, PxSSTS) & PxSSTS_DET_MASK;
}

static bool device_ready(const struct ahci_port *port)
{
    return (port_read(port, PxTFD) & (PxTFD_BSY | PxTFD_DRQ)) == 0;
}

/* Clears errors and interrupts by writing ones; errors first, since they raise interrupts. */
static void clear_events(const struct ahci_port *port)
{
    port_write(port, PxSERR, ALL_ONES);
    port_write(port, PxIS, ALL_ONES);
    hba_write(port->hba, HBA_IS, UINT32_C(1) << port->number);
}

static void point_to_memory(const struct ahci_port *port)
{
    uint64_t lists = phys_of(port->lists).address;

    CHECK(port->lists.index < LOW_FRAMES);
    port_write(port, PxCLB, (uint32_t)lists);
    port_write(port, PxCLBU, 0);
    port_write(port, PxFB, (uint32_t)lists + (uint32_t)offsetof(struct port_lists, received));
    port_write(port, PxFBU, 0);
}

/* Begins to bring a port up (10.1.2): from any state of the engines to COMRESET held. Returns false
 * if an engine does not stop. */
static bool begin_reset(struct ahci_port *port)
{
    uint32_t command;

    port_write(port, PxIE, 0);
    if (!stop_engines(port))
        return false;
    port->issued = 0;
    point_to_memory(port);
    clear_events(port);
    command = port_read(port, PxCMD) & ~PxCMD_ICC_MASK;
    port_write(port, PxCMD, command | PxCMD_SUD | PxCMD_POD | PxCMD_ICC_ACTIVE);
    port_write(port, PxCMD, port_read(port, PxCMD) | PxCMD_FRE);
    port_write(port, PxSCTL, PxSCTL_IPM_NONE | PxSCTL_DET_RESET);
    return true;
}

static void end_reset(const struct ahci_port *port)
{
    port_write(port, PxSCTL, PxSCTL_IPM_NONE);
}

/* As begin_reset; if an engine does not stop, COMRESET is the stronger means (10.4.2), and one more
 * try follows it. */
static bool begin_reset_by_force(struct ahci_port *port)
{
    if (begin_reset(port))
        return true;
    port_write(port, PxSCTL, PxSCTL_IPM_NONE | PxSCTL_DET_RESET);
    delay_us(COMRESET_US);
    end_reset(port);
    return begin_reset(port);
}

/* Starts the command engine of a ready device, after clearing the events of the reset. */
static void start_engine(const struct ahci_port *port)
{
    clear_events(port);
    port_write(port, PxCMD, port_read(port, PxCMD) | PxCMD_ST);
}

/* Several ports wait together, so that many empty or broken ports take no longer than one. Each
 * predicate returns whether a port needs no more waiting. */
static bool answered(const struct ahci_port *port)
{
    return link_state(port) != PxSSTS_DET_NONE;
}

static bool link_settled(const struct ahci_port *port)
{
    uint32_t state = link_state(port);

    return state == PxSSTS_DET_NONE || state == PxSSTS_DET_READY;
}

static bool ready_or_absent(const struct ahci_port *port)
{
    return link_state(port) != PxSSTS_DET_READY || device_ready(port);
}

static void port_wait_for(const struct ahci_hba *hba, uint32_t ports, uint64_t milliseconds,
                          bool (*settled)(const struct ahci_port *port))
{
    struct deadline end = deadline_after_ms(milliseconds);

    for (bool all = false; !all && !deadline_passed(end);) {
        all = true;
        for (unsigned i = 0; i < AHCI_PORTS_MAX; i++) {
            if ((ports >> i & 1) != 0 && !settled(hba->ports[i]))
                all = false;
        }
    }
}

/* Waits for links and devices after COMRESET was released. A new link leaves errors behind, and
 * some controllers receive no FIS until these are cleared. */
static void wait_for_devices(const struct ahci_hba *hba, uint32_t ports)
{
    port_wait_for(hba, ports, PRESENCE_MS, answered);
    port_wait_for(hba, ports, LINK_MS, link_settled);
    for (unsigned i = 0; i < AHCI_PORTS_MAX; i++) {
        if ((ports >> i & 1) != 0)
            clear_events(hba->ports[i]);
    }
    port_wait_for(hba, ports, READY_MS, ready_or_absent);
}

/* Resets one port and starts it again. Returns NULL, or why the port cannot be used. */
static const char *reset_port(struct ahci_port *port)
{
    port->counters.resets++;
    if (!begin_reset_by_force(port))
        return "its engines do not stop";
    delay_us(COMRESET_US);
    end_reset(port);
    wait_for_devices(port->hba, UINT32_C(1) << port->number);
    if (link_state(port) != PxSSTS_DET_READY || !device_ready(port))
        return "the disk does not answer after a reset";
    start_engine(port);
    return NULL;
}

/* Asks for the disk's identity until it answers. The engine is running. */
static bool ask_identity(struct ahci_port *port)
{
    for (unsigned i = 0; i < IDENTIFY_TRIES; i++) {
        if (ahci_identify(port) == OK)
            return true;
        if (reset_port(port) != NULL)
            return false;
    }
    return false;
}

static const char *not_a_disk(uint32_t signature)
{
    switch (signature) {
    case SIGNATURE_DISK: return NULL;
    case SIGNATURE_ATAPI: return "an optical drive or other packet device: not used";
    case SIGNATURE_PORT_MULTIPLIER: return "a port multiplier: not used";
    case SIGNATURE_ENCLOSURE: return "an enclosure's management: not used";
    default: return "a device of an unknown kind: not used";
    }
}

/* Stops a port that has no usable device. */
static void retire(struct ahci_port *port, enum ahci_port_state state, const char *why,
                   uint32_t value)
{
    port_set_state(port, state, why, value);
    if (!stop_engines(port))
        ahci_port_give_up(port, "its engines do not stop", port_read(port, PxCMD));
}

/* Identifies the disk of a port whose engine is running. */
static void identify(struct ahci_port *port)
{
    const char *why;

    if (!ask_identity(port))
        ahci_port_give_up(port, "the disk does not identify itself", port_read(port, PxTFD));
    else if (identity_decode(port_lists(port)->identify, &port->identity, &why) != OK)
        retire(port, AHCI_PORT_SKIPPED, why, port->signature);
    else
        port->state = AHCI_PORT_READY;
}

/* Finishes bringing a port up, after the waits. */
static void port_probe(struct ahci_port *port)
{
    const char *why;

    if (link_state(port) == PxSSTS_DET_NONE) {
        retire(port, AHCI_PORT_EMPTY, "no device", port_read(port, PxSSTS));
    } else if (link_state(port) != PxSSTS_DET_READY) {
        ahci_port_give_up(port, "its link does not come up", port_read(port, PxSSTS));
    } else if (!device_ready(port)) {
        ahci_port_give_up(port, "the device does not become ready", port_read(port, PxTFD));
    } else {
        port->signature = port_read(port, PxSIG);
        why = not_a_disk(port->signature);
        if (why != NULL) {
            retire(port, AHCI_PORT_SKIPPED, why, port->signature);
            return;
        }
        start_engine(port);
        identify(port);
    }
}

/* Ends all transfers of a port: a stopped engine alone leaves those that the disk still works on,
 * and their data may arrive later (rule D1). */
static bool end_transfers(struct ahci_port *port)
{
    if (!stop_engines(port) || port_read(port, PxCMD) == ALL_ONES)
        return false;
    port_write(port, PxSCTL, PxSCTL_IPM_NONE | PxSCTL_DET_RESET);
    delay_us(COMRESET_US);
    end_reset(port);
    return port_read(port, PxCMD) != ALL_ONES;
}

enum status ahci_ports_start(struct ahci_hba *hba)
{
    uint32_t ports = 0;

    for (unsigned i = 0; i < AHCI_PORTS_MAX; i++) {
        if ((hba->implemented >> i & 1) == 0)
            continue;
        if (ahci_port_create(hba, i) != OK) {
            print_to(hba->note, AHCI_NOTE_SIZE, "no memory for its ports");
            ahci_ports_stop(hba);
            return STATUS_NO_MEMORY;
        }
        if (begin_reset_by_force(hba->ports[i]))
            ports |= UINT32_C(1) << i;
        else
            ahci_port_give_up(hba->ports[i], "its engines do not stop",
                              port_read(hba->ports[i], PxCMD));
    }
    delay_us(COMRESET_US);
    for (unsigned i = 0; i < AHCI_PORTS_MAX; i++) {
        if ((ports >> i & 1) != 0)
            end_reset(hba->ports[i]);
    }
    wait_for_devices(hba, ports);
    for (unsigned i = 0; i < AHCI_PORTS_MAX; i++) {
        if ((ports >> i & 1) != 0)
            port_probe(hba->ports[i]);
    }
    return OK;
}

void ahci_ports_stop(struct ahci_hba *hba)
{
    for (unsigned i = 0; i < AHCI_PORTS_MAX; i++) {
        struct ahci_port *port = hba->ports[i];

        if (port == NULL)
            continue;
        assert_port(port);
        port->state = AHCI_PORT_DEAD;
        port_write(port, PxIE, 0);
        /* An engine that did not stop may still write to its memory, and a processor that a crash
         * stopped may have been using it: such memory is never freed. */
        if (port->untamed)
            port->untamed = !end_transfers(port);
        if (stop_engines(port) && port->issued == 0 && !port->recovering && !port->untamed)
            ahci_port_free(port);
    }
}

void ahci_port_give_up(struct ahci_port *port, const char *why, uint32_t value)
{
    assert_port(port);
    port_set_state(port, AHCI_PORT_DEAD, why, value);
    port_write(port, PxIE, 0);
    port->untamed = !end_transfers(port);
    if (port->untamed)
        print_to(port->note, AHCI_NOTE_SIZE, "%s (%x), and its engines do not stop", why, value);
}

bool ahci_port_changed(const struct ahci_port *port)
{
    return (port_read(port, PxIS) & (PxIS_PCS | PxIS_PRCS)) != 0 ||
           link_state(port) != PxSSTS_DET_READY;
}

bool ahci_port_restart(struct ahci_port *port)
{
    if (!stop_engine(port, PxCMD_ST, PxCMD_CR))
        return false;
    port->issued = 0;
    clear_events(port);
    if (link_state(port) != PxSSTS_DET_READY || !device_ready(port))
        return false;
    start_engine(port);
    return true;
}

/* Identifies the disk again and compares. A grant is for the disk that was identified, and must not
 * serve for one plugged in later. */
bool ahci_port_same_disk(struct ahci_port *port)
{
    struct disk_identity found;
    const char *why;

    return ask_identity(port) && identity_decode(port_lists(port)->identify, &found, &why) == OK &&
           identity_same(&found, &port->identity);
}

bool ahci_port_recover(struct ahci_port *port)
{
    const char *problem;

    assert_port(port);
    CHECK(port->state == AHCI_PORT_READY);
    problem = reset_port(port);
    if (problem == NULL && !ahci_port_same_disk(port))
        problem = "the disk no longer answers as it did";
    if (problem != NULL)
        ahci_port_give_up(port, problem, port_read(port, PxSSTS));
    return problem == NULL;
}

/* Finds the machine's disks, judges them, and stops their controllers. */
#include "swapdisk/disks.h"

#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/print.h"
#include "swapdisk/ahci/grant.h"
#include "swapdisk/ahci/hardware.h"
#include "swapdisk/pci/pci.h"

/* Class codes (PCI Code and ID Assignment 1.11, 1.2). */
#define CLASS_STORAGE  0x01U
#define SUBCLASS_IDE   0x01U
#define SUBCLASS_RAID  0x04U
#define SUBCLASS_SATA  0x06U
#define SUBCLASS_NVME  0x08U
#define INTERFACE_AHCI 0x01U

/* The AHCI base address register (AHCI 1.3.1, 2.1.11). */
#define ABAR 5U

/* Disks that are judged; more are reported and left alone. */
#define DISKS_MAX 16U

/* Controllers whose registers claim more than the hardware does. */
struct known_quirk {
    uint16_t vendor;
    uint16_t device;
    uint16_t device_mask;
    struct ahci_quirks quirks;
};

static const struct known_quirk known_quirks[] = {
    /* ATI SB600: 64-bit addresses do not work, and neither do more than 255 sectors a command. */
    {0x1002, 0x4380, 0xffff, {.low_memory_only = true, .pages_max = 31}},
    /* ASMedia ASM106x: addresses of 43 bits only. */
    {0x1b21, 0x0600, 0xff00, {.low_memory_only = true}},
};

struct controller {
    struct ahci_hba hba;
    struct pci_place place;
    bool started;
};

struct found_disk {
    struct block_device block;
    const struct disk_identity *identity;
    struct disk_report *report;
};

static struct {
    struct controller controllers[HARDWARE_HBAS_MAX];
    unsigned controller_count;
    struct disk_report reports[DISK_REPORTS_MAX];
    unsigned report_count;
    struct found_disk disks[DISKS_MAX];
    struct disk_finding findings[DISKS_MAX];
    unsigned disk_count;
    int chosen; /* index into disks; -1 = none */
} found = {.chosen = -1};

/* A new report, or the last one again when there are too many. */
static struct disk_report *disks_report_refusals(struct pci_place place, const char *reason)
{
    struct disk_report *added;

    if (found.report_count == DISK_REPORTS_MAX) {
        added = &found.reports[DISK_REPORTS_MAX - 1];
        reason = "more devices than are reported: left alone";
    } else {
        added = &found.reports[found.report_count++];
    }
    *added = (struct disk_report){0};
    print_to(added->place, sizeof(added->place), "%02x:%02x.%u", place.bus, place.device,
             place.function);
    print_to(added->reason, REASON_SIZE, "%s", reason);
    return added;
}

static struct ahci_quirks quirks_of(const struct pci_function *function)
{
    for (size_t i = 0; i < ARRAY_COUNT(known_quirks); i++) {
        const struct known_quirk *known = &known_quirks[i];

        if (known->vendor == function->vendor &&
            known->device == (function->device & known->device_mask))
            return known->quirks;
    }
    return (struct ahci_quirks){0};
}

/* Returns why a storage controller is not used; NULL for AHCI. */
static const char *left_alone(const struct pci_function *function)
{
    switch (function->subclass) {
    case SUBCLASS_IDE: return "an IDE controller, or SATA in IDE mode: left alone";
    case SUBCLASS_RAID: return "a RAID controller, or SATA in RAID or RST mode: left alone";
    case SUBCLASS_SATA:
        return function->interface == INTERFACE_AHCI ? NULL
                                                     : "a SATA controller without AHCI: left alone";
    case SUBCLASS_NVME: return "an NVMe disk: left alone";
    default: return "a storage controller of another kind: left alone";
    }
}

static struct disk_view view_of(struct found_disk *disk)
{
    return (struct disk_view){.device = disk->block.device,
                              .identity = disk->identity,
                              .source = block_source(&disk->block)};
}

static void disks_judge(struct ahci_port *port, struct disk_report *about)
{
    struct found_disk *disk = &found.disks[found.disk_count];
    struct disk_view view;

    memcpy(about->model, port->identity.model, IDENTITY_MODEL_SIZE);
    memcpy(about->serial, port->identity.serial, IDENTITY_SERIAL_SIZE);
    about->bytes = port->identity.sectors * port->identity.sector_size;
    if (found.disk_count == DISKS_MAX) {
        print_to(about->reason, REASON_SIZE, "more disks than are looked at: left alone");
        return;
    }
    *disk = (struct found_disk){block_of_ahci(port), &port->identity, about};
    view = view_of(disk);
    if (validate_disk(&view, &found.findings[found.disk_count]) != OK) {
        print_to(about->reason, REASON_SIZE, "no memory to look at it: left alone");
        return;
    }
    found.disk_count++;
}

static void look_at_port(const struct controller *controller, struct ahci_port *port)
{
    struct disk_report *about;
    size_t length;

    if (port->state == AHCI_PORT_EMPTY)
        return;
    about = disks_report_refusals(controller->place, port->note);
    length = strlen(about->place);
    print_to(about->place + length, sizeof(about->place) - length, " port %u", port->number);
    /* The last report may stand for several devices: none of them is judged. */
    if (port->state == AHCI_PORT_READY && found.report_count < DISK_REPORTS_MAX)
        disks_judge(port, about);
}

static void start_controller(const struct pci_access *pci, const struct pci_function *function)
{
    struct controller *controller = &found.controllers[found.controller_count];
    struct ahci_quirks quirks = quirks_of(function);
    struct hba_access access;
    struct pci_bar bar;

    if (found.controller_count == HARDWARE_HBAS_MAX) {
        disks_report_refusals(function->place, "more AHCI controllers than are driven: left alone");
        return;
    }
    pci_wake(pci, function->place);
    bar = pci_bar(pci, function->place, ABAR);
    if (!bar.present || !bar.memory) {
        disks_report_refusals(function->place,
                              "an AHCI controller whose registers have no address: left alone");
        return;
    }
    if (hardware_map_hba((struct phys){bar.base}, bar.size, &access) != OK) {
        disks_report_refusals(function->place,
                              "an AHCI controller whose registers cannot be mapped: left alone");
        return;
    }
    pci_command(pci, function->place, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_NO_INTX,
                0);
    found.controller_count++;
    controller->place = function->place;
    controller->started = ahci_start(&controller->hba, &access, &quirks) == OK;
    if (!controller->started)
        disks_report_refusals(function->place, controller->hba.note);
    for (unsigned i = 0; controller->started && i < AHCI_PORTS_MAX; i++) {
        if (controller->hba.ports[i] != NULL)
            look_at_port(controller, controller->hba.ports[i]);
    }
}

/* Chooses the disk that may be written, and puts the reason into each report. */
static void disks_choose(const struct options *options, bool under_hypervisor)
{
    found.chosen = validate_choose(found.findings, found.disk_count, options, under_hypervisor);
    for (unsigned i = 0; i < found.disk_count; i++) {
        struct disk_report *about = found.disks[i].report;

        about->chosen = (int)i == found.chosen;
        memcpy(about->reason, found.findings[i].reason, REASON_SIZE);
    }
}

void disks_scan(const struct options *options, bool under_hypervisor)
{
    const struct pci_access *pci = hardware_pci();
    struct pci_function function;
    struct pci_scan scan;

    CHECK(found.controller_count == 0 && found.report_count == 0);
    pci_scan_begin(&scan, pci);
    while (pci_scan_next(&scan, &function)) {
        const char *reason;

        if (function.class_code != CLASS_STORAGE)
            continue;
        reason = left_alone(&function);
        if (reason != NULL)
            disks_report_refusals(function.place, reason);
        else
            start_controller(pci, &function);
    }
    disks_choose(options, under_hypervisor);
}

unsigned disks_count(void)
{
    return found.report_count;
}

const struct disk_report *disks_report(unsigned index)
{
    CHECK(index < found.report_count);
    return &found.reports[index];
}

enum status disks_open(struct disk_chosen *chosen)
{
    struct found_disk *disk;
    struct disk_view view;
    enum status status;

    if (found.chosen < 0)
        return STATUS_NOT_FOUND;
    disk = &found.disks[found.chosen];
    view = view_of(disk);
    chosen->block = disk->block;
    chosen->identity = disk->identity;
    status = validate_grant(&view, found.findings[found.chosen].header.set_uuid, &chosen->grant,
                            &chosen->finding);
    if (status != OK) {
        struct disk_report *about = disk->report;

        print_to(about->reason, REASON_SIZE, "refused at the second look: %s",
                 chosen->finding.reason);
        about->chosen = false;
        found.chosen = -1;
    }
    return status;
}

void disks_stop(void)
{
    const struct pci_access *pci = hardware_pci();

    swap_grant_revoke();
    for (unsigned i = 0; i < found.controller_count; i++) {
        if (found.controllers[i].started)
            ahci_stop(&found.controllers[i].hba);
        pci_command(pci, found.controllers[i].place, PCI_COMMAND_NO_INTX, PCI_COMMAND_MASTER);
    }
    memset(&found, 0, sizeof(found));
    found.chosen = -1;
}

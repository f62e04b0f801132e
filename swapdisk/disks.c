/* Finds the machine's disks, judges them, and stops their controllers. */
#include "swapdisk/disks.h"

#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/ktap.h"
#include "lib/print.h"
#include "pmm/pmm.h"
#include "swapdisk/ahci/hardware.h"
#include "swapdisk/block/grant.h"
#include "swapdisk/controllers.h"
#include "swapdisk/disks_internal.h"

/* The AHCI base address register (AHCI 1.3.1, 2.1.11). */
#define ABAR 5U

struct found_disks found_disks;

static struct found_disk *entry_at(unsigned index)
{
    for (struct disk_frame *at = found_disks.first; at != NULL; at = at->next) {
        if (index < at->count)
            return &at->entries[index];
        index -= at->count;
    }
    CHECK(index == 0 && found_disks.out_of_memory);
    return &found_disks.spare;
}

static struct disk_frame *add_entry_frame(void)
{
    struct disk_frame *frame;
    struct pfn self;

    if (pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &self) != OK)
        return NULL;
    frame = frame_pointer(self);
    frame->self = self;
    if (found_disks.last != NULL)
        found_disks.last->next = frame;
    else
        found_disks.first = frame;
    found_disks.last = frame;
    return frame;
}

/* Returns an entry for one more device. All devices that there is no memory to list share one. */
static struct found_disk *add_entry(void)
{
    struct disk_frame *frame = found_disks.last;

    if (!found_disks.out_of_memory && (frame == NULL || frame->count == ENTRIES_PER_FRAME))
        frame = add_entry_frame();
    if (!found_disks.out_of_memory && frame != NULL) {
        found_disks.count++;
        return &frame->entries[frame->count++];
    }
    found_disks.out_of_memory = true;
    return &found_disks.spare;
}

/* Adds a report on a device, with the reason why it is not used. */
static struct found_disk *disks_add_report(struct pci_place place, const char *reason)
{
    struct found_disk *added = add_entry();

    *added = (struct found_disk){0};
    print_to(added->report.place, sizeof(added->report.place), "%02x:%02x.%u", place.bus,
             place.device, place.function);
    if (added == &found_disks.spare)
        reason = "no memory to examine this and other devices: no disk is written";
    print_to(added->report.reason, REASON_SIZE, "%s", reason);
    return added;
}

static void judge(struct ahci_port *port, struct found_disk *disk)
{
    struct disk_view view;

    memcpy(disk->report.model, port->identity.model, IDENTITY_MODEL_SIZE);
    memcpy(disk->report.serial, port->identity.serial, IDENTITY_SERIAL_SIZE);
    disk->report.bytes = port->identity.sectors * SECTOR_SIZE;
    disk->block = block_of_ahci(port);
    disk->identity = &port->identity;
    view = disks_view_of(disk);
    if (validate_disk(&view, &disk->finding) != OK) {
        print_to(disk->report.reason, REASON_SIZE, "no memory to examine it: no disk is written");
        found_disks.out_of_memory = true;
        return;
    }
    if (found_disks.last_finding != NULL)
        found_disks.last_finding->next = &disk->finding;
    else
        found_disks.findings = &disk->finding;
    found_disks.last_finding = &disk->finding;
}

static void examine_port(const struct controller *controller, struct ahci_port *port)
{
    struct found_disk *disk;
    size_t length;

    if (port->state == AHCI_PORT_EMPTY)
        return;
    disk = disks_add_report(controller->place, port->note);
    length = strlen(disk->report.place);
    print_to(disk->report.place + length, sizeof(disk->report.place) - length, " port %u",
             port->number);
    if (port->state == AHCI_PORT_READY && disk != &found_disks.spare)
        judge(port, disk);
}

static struct controller *add_controller(struct pci_place place)
{
    struct controller *controller;
    struct pfn self;

    if (pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &self) != OK) {
        disks_add_report(place, "no memory to examine it: no disk is written");
        found_disks.out_of_memory = true;
        return NULL;
    }
    controller = frame_pointer(self);
    *controller =
        (struct controller){.next = found_disks.controllers, .self = self, .place = place};
    found_disks.controllers = controller;
    return controller;
}

static void start_controller(const struct pci_access *pci, const struct pci_function *function)
{
    struct ahci_quirks quirks = controller_quirks(function);
    struct controller *controller;
    struct hba_access access;
    enum status status;
    struct pci_bar bar;

    pci_wake(pci, function->place);
    bar = pci_bar(pci, function->place, ABAR);
    if (!bar.present || !bar.memory) {
        disks_add_report(function->place,
                         "an AHCI controller whose registers have no address: left alone");
        return;
    }
    if (hardware_map_hba((struct phys){bar.base}, bar.size, &access) != OK) {
        disks_add_report(function->place,
                         "an AHCI controller whose registers cannot be mapped: left alone");
        return;
    }
    controller = add_controller(function->place);
    if (controller == NULL)
        return;
    pci_command(pci, function->place, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_NO_INTX,
                0);
    status = ahci_start(&controller->hba, &access, &quirks);
    controller->started = status == OK;
    controller->hba.on_error = disks_log_error;
    found_disks.out_of_memory = found_disks.out_of_memory || status == STATUS_NO_MEMORY;
    if (!controller->started)
        disks_add_report(function->place, controller->hba.note);
    for (unsigned i = 0; controller->started && i < AHCI_PORTS_MAX; i++) {
        if (controller->hba.ports[i] != NULL)
            examine_port(controller, controller->hba.ports[i]);
    }
}

void disks_scan(const struct options *options, bool under_hypervisor)
{
    const struct pci_access *pci = hardware_pci();
    struct pci_function function;
    struct pci_scan scan;

    CHECK(found_disks.controllers == NULL && found_disks.first == NULL);
    found_disks.tags = options->tags != 0 ? options->tags : AHCI_TAGS_MAX;
    pci_scan_begin(&scan, pci);
    while (pci_scan_next(&scan, &function)) {
        const char *reason;

        if (!controller_is_storage(&function))
            continue;
        reason = controller_left_alone(&function);
        if (reason != NULL)
            disks_add_report(function.place, reason);
        else
            start_controller(pci, &function);
    }
    disks_choose(options, under_hypervisor);
}

unsigned disks_count(void)
{
    return found_disks.count + (found_disks.spare.report.reason[0] != '\0' ? 1 : 0);
}

const struct disk_report *disks_report(unsigned index)
{
    CHECK(index < disks_count());
    return &entry_at(index)->report;
}

const struct block_device *disks_block(unsigned index)
{
    const struct found_disk *disk = entry_at(index);

    return disk->block.operations != NULL ? &disk->block : NULL;
}

bool disks_all_examined(void)
{
    return !found_disks.out_of_memory;
}

/* Logs the errors of each disk that had any, and the totals. */
void disks_log_totals(void)
{
    uint64_t commands = 0;
    uint64_t errors = 0;

    found_disks.totals_logged = true;
    for (struct controller *at = found_disks.controllers; at != NULL; at = at->next) {
        for (unsigned i = 0; i < AHCI_PORTS_MAX; i++) {
            const struct ahci_port *port = at->hba.ports[i];

            if (port == NULL)
                continue;
            commands += port->counters.commands;
            if (port->counters.queued > 0)
                ktap_note(
                    "disk queue: serial %s: %lu of %lu commands queued, %u at once at most, of "
                    "%u tags",
                    port->identity.serial, port->counters.queued, port->counters.commands,
                    port->counters.deepest, port->depth);
            errors += port->counters.healed + port->counters.lost;
            if (port->counters.healed + port->counters.lost > 0)
                ktap_note(
                    "disk errors: serial %s: %lu commands failed at first, %lu were healed by a "
                    "retry, %lu were lost; %lu resets",
                    port->identity.serial, port->counters.healed + port->counters.lost,
                    port->counters.healed, port->counters.lost, port->counters.resets);
        }
    }
    if (commands > 0)
        ktap_note("disk errors: %lu in all, of %lu commands", errors, commands);
}

void disks_stop(void)
{
    const struct pci_access *pci = hardware_pci();

    if (!found_disks.totals_logged)
        disks_log_totals();
    swap_grant_revoke();
    while (found_disks.controllers != NULL) {
        struct controller *controller = found_disks.controllers;

        if (controller->started)
            ahci_stop(&controller->hba);
        pci_msi_off(pci, controller->place);
        pci_command(pci, controller->place, PCI_COMMAND_NO_INTX, PCI_COMMAND_MASTER);
        found_disks.controllers = controller->next;
        pmm_free(controller->self);
    }
    while (found_disks.first != NULL) {
        struct disk_frame *frame = found_disks.first;

        found_disks.first = frame->next;
        pmm_free(frame->self);
    }
    memset(&found_disks, 0, sizeof(found_disks));
}

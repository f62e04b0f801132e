/* Finds the machine's disks, judges them, and stops their controllers. */
#include "swapdisk/disks.h"

#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/ktap.h"
#include "lib/print.h"
#include "pmm/pmm.h"
#include "swapdisk/ahci/grant.h"
#include "swapdisk/ahci/hardware.h"
#include "swapdisk/controllers.h"

/* The AHCI base address register (AHCI 1.3.1, 2.1.11). */
#define ABAR 5U

/* An AHCI controller, in a frame of its own. */
struct controller {
    struct controller *next;
    struct pfn self;
    struct ahci_hba hba;
    struct pci_place place;
    bool started;
};

_Static_assert(sizeof(struct controller) <= PAGE_SIZE, "a controller fits its frame");

/* The report and the findings about one disk. */
struct found_disk {
    struct disk_report report;
    struct block_device block; /* no operations: not a disk, or a disk that was not judged */
    const struct disk_identity *identity;
    struct disk_finding finding;
};

#define ENTRIES_PER_FRAME ((PAGE_SIZE - 16) / sizeof(struct found_disk))

struct disk_frame {
    struct disk_frame *next;
    struct pfn self;
    unsigned count;
    struct found_disk entries[ENTRIES_PER_FRAME];
};

_Static_assert(sizeof(struct disk_frame) <= PAGE_SIZE, "the entries fit their frame");

static struct {
    struct controller *controllers; /* the last one first */
    struct disk_frame *first;       /* entries in the order of the scan */
    struct disk_frame *last;
    unsigned count;
    struct disk_finding *findings; /* of all disks that were judged */
    struct disk_finding *last_finding;
    struct found_disk *chosen; /* NULL: none */
    unsigned tags;             /* commands in flight at most, by the options */
    bool out_of_memory;        /* a device could not be examined */
    bool totals_logged;
    struct found_disk spare; /* for devices that there is no memory to list */
} found;

static struct found_disk *entry_at(unsigned index)
{
    for (struct disk_frame *at = found.first; at != NULL; at = at->next) {
        if (index < at->count)
            return &at->entries[index];
        index -= at->count;
    }
    CHECK(index == 0 && found.out_of_memory);
    return &found.spare;
}

static struct disk_frame *add_entry_frame(void)
{
    struct disk_frame *frame;
    struct pfn self;

    if (pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &self) != OK)
        return NULL;
    frame = frame_pointer(self);
    frame->self = self;
    if (found.last != NULL)
        found.last->next = frame;
    else
        found.first = frame;
    found.last = frame;
    return frame;
}

/* Returns an entry for one more device. All devices that there is no memory to list share one. */
static struct found_disk *add_entry(void)
{
    struct disk_frame *frame = found.last;

    if (!found.out_of_memory && (frame == NULL || frame->count == ENTRIES_PER_FRAME))
        frame = add_entry_frame();
    if (!found.out_of_memory && frame != NULL) {
        found.count++;
        return &frame->entries[frame->count++];
    }
    found.out_of_memory = true;
    return &found.spare;
}

/* Adds a report on a device, with the reason why it is not used. */
static struct found_disk *disks_add_report(struct pci_place place, const char *reason)
{
    struct found_disk *added = add_entry();

    *added = (struct found_disk){0};
    print_to(added->report.place, sizeof(added->report.place), "%02x:%02x.%u", place.bus,
             place.device, place.function);
    if (added == &found.spare)
        reason = "no memory to examine this and other devices: no disk is written";
    print_to(added->report.reason, REASON_SIZE, "%s", reason);
    return added;
}

/* Returns the swap slot of a sector, SLOT_NONE if the port is not the chosen disk's or no slot has
 * the sector. */
static struct slot slot_of(const struct ahci_port *port, uint64_t lba)
{
    const struct found_disk *disk = found.chosen;
    uint64_t first;

    if (disk == NULL || disk->block.device != port)
        return SLOT_NONE;
    first = disk->finding.first_lba + SWAP_HEADER_SECTORS;
    if (lba < first || (lba - first) / SECTORS_PER_PAGE >= swap_header_slots(&disk->finding.header))
        return SLOT_NONE;
    return (struct slot){(uint32_t)((lba - first) / SECTORS_PER_PAGE)};
}

/* Logs one command that did not complete at its first attempt. */
static void log_disk_error(const struct ahci_port *port, const struct ahci_error *error)
{
    struct slot slot = slot_of(port, error->lba);
    char place[64] = "";
    char swap[32] = "";

    if (error->sectors > 0)
        print_to(place, sizeof(place), " of %u sectors at LBA %lu", error->sectors, error->lba);
    if (error->sectors > 0 && slot.index != SLOT_NONE.index)
        print_to(swap, sizeof(swap), " (swap slot %u)", slot.index);
    if (error->tries == 0)
        ktap_note("disk error: serial %s: %s%s%s: lost, because %s", port->identity.serial,
                  error->command, place, swap, port->note);
    else
        ktap_note(
            "disk error: serial %s: %s%s%s: %s, ATA status %02x, error %02x, command slot %u, "
            "tries %u: %s",
            port->identity.serial, error->command, place, swap,
            error->timed_out ? "timed out" : "failed", error->ata_status, error->ata_error,
            error->slot, error->tries, error->healed ? "healed" : "lost");
}

static struct disk_view disk_view_of(struct found_disk *disk)
{
    return (struct disk_view){.device = disk->block.device,
                              .identity = disk->identity,
                              .source = block_source(&disk->block)};
}

static void judge(struct ahci_port *port, struct found_disk *disk)
{
    struct disk_view view;

    memcpy(disk->report.model, port->identity.model, IDENTITY_MODEL_SIZE);
    memcpy(disk->report.serial, port->identity.serial, IDENTITY_SERIAL_SIZE);
    disk->report.bytes = port->identity.sectors * port->identity.sector_size;
    disk->block = block_of_ahci(port);
    disk->identity = &port->identity;
    view = disk_view_of(disk);
    if (validate_disk(&view, &disk->finding) != OK) {
        print_to(disk->report.reason, REASON_SIZE, "no memory to examine it: no disk is written");
        found.out_of_memory = true;
        return;
    }
    if (found.last_finding != NULL)
        found.last_finding->next = &disk->finding;
    else
        found.findings = &disk->finding;
    found.last_finding = &disk->finding;
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
    if (port->state == AHCI_PORT_READY && disk != &found.spare)
        judge(port, disk);
}

static struct controller *add_controller(struct pci_place place)
{
    struct controller *controller;
    struct pfn self;

    if (pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &self) != OK) {
        disks_add_report(place, "no memory to examine it: no disk is written");
        found.out_of_memory = true;
        return NULL;
    }
    controller = frame_pointer(self);
    *controller = (struct controller){.next = found.controllers, .self = self, .place = place};
    found.controllers = controller;
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
    controller->hba.on_error = log_disk_error;
    found.out_of_memory = found.out_of_memory || status == STATUS_NO_MEMORY;
    if (!controller->started)
        disks_add_report(function->place, controller->hba.note);
    for (unsigned i = 0; controller->started && i < AHCI_PORTS_MAX; i++) {
        if (controller->hba.ports[i] != NULL)
            examine_port(controller, controller->hba.ports[i]);
    }
}

/* Chooses the disk that may be written, and puts the reason into each report. */
static void choose_writable_disk(const struct options *options, bool under_hypervisor)
{
    struct disk_finding *chosen = validate_choose(found.findings, options, under_hypervisor);

    for (struct disk_frame *frame = found.first; frame != NULL; frame = frame->next) {
        for (unsigned i = 0; i < frame->count; i++) {
            struct found_disk *disk = &frame->entries[i];

            if (disk->finding.reason[0] != '\0')
                memcpy(disk->report.reason, disk->finding.reason, REASON_SIZE);
            if (&disk->finding != chosen)
                continue;
            if (found.out_of_memory)
                print_to(disk->report.reason, REASON_SIZE,
                         "refused, because there was no memory to examine all disks");
            else
                found.chosen = disk;
        }
    }
    if (found.chosen != NULL)
        found.chosen->report.chosen = true;
}

void disks_scan(const struct options *options, bool under_hypervisor)
{
    const struct pci_access *pci = hardware_pci();
    struct pci_function function;
    struct pci_scan scan;

    CHECK(found.controllers == NULL && found.first == NULL);
    found.tags = options->tags != 0 ? options->tags : AHCI_TAGS_MAX;
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
    choose_writable_disk(options, under_hypervisor);
}

unsigned disks_count(void)
{
    return found.count + (found.spare.report.reason[0] != '\0' ? 1 : 0);
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

enum status disks_open(struct disk_chosen *chosen)
{
    struct found_disk *disk = found.chosen;
    struct disk_view view;
    enum status status;

    if (disk == NULL)
        return STATUS_NOT_FOUND;
    view = disk_view_of(disk);
    chosen->block = disk->block;
    chosen->identity = disk->identity;
    status = validate_grant(&view, disk->finding.header.set_uuid, &chosen->grant, &chosen->finding);
    if (status != OK) {
        print_to(disk->report.reason, REASON_SIZE, "refused at the second look: %s",
                 chosen->finding.reason);
        disk->report.chosen = false;
        found.chosen = NULL;
        return status;
    }
    ahci_deepen(disk->block.device, found.tags);
    return OK;
}

static const struct controller *controller_of(const struct ahci_port *port)
{
    const struct controller *at = found.controllers;

    while (&at->hba != port->hba)
        at = at->next;
    return at;
}

void disks_start_interrupts(void)
{
    const struct pci_access *pci = hardware_pci();
    struct hardware_message message;
    struct ahci_port *port;
    struct pci_place place;
    const char *how = "polling, because it has no MSI";

    if (found.chosen == NULL)
        return;
    port = found.chosen->block.device;
    place = controller_of(port)->place;
    if (hardware_take_messages(ahci_take_interrupts, &message) &&
        pci_msi_on(pci, place, message.address, message.data)) {
        how = ahci_interrupts_on(port) ? "MSI" : "polling, because no interrupt arrived";
        if (!port->interrupts)
            pci_msi_off(pci, place);
    }
    ktap_note("disk queue: serial %s: completions by %s, %u tags", port->identity.serial, how,
              port->depth);
}

void disks_look(void)
{
    ahci_look();
}

bool disks_all_examined(void)
{
    return !found.out_of_memory;
}

/* Logs the errors of each disk that had any, and the totals. */
void disks_log_totals(void)
{
    uint64_t commands = 0;
    uint64_t errors = 0;

    found.totals_logged = true;
    for (struct controller *at = found.controllers; at != NULL; at = at->next) {
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

    if (!found.totals_logged)
        disks_log_totals();
    swap_grant_revoke();
    while (found.controllers != NULL) {
        struct controller *controller = found.controllers;

        if (controller->started)
            ahci_stop(&controller->hba);
        pci_msi_off(pci, controller->place);
        pci_command(pci, controller->place, PCI_COMMAND_NO_INTX, PCI_COMMAND_MASTER);
        found.controllers = controller->next;
        pmm_free(controller->self);
    }
    while (found.first != NULL) {
        struct disk_frame *frame = found.first;

        found.first = frame->next;
        pmm_free(frame->self);
    }
    memset(&found, 0, sizeof(found));
}

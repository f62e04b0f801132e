/* The disks that may be written: their choice, their grants, and their interrupts. */
#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/ktap.h"
#include "lib/print.h"
#include "swapdisk/ahci/hardware.h"
#include "swapdisk/disks_internal.h"

/* Returns the slot of a sector, counted on its own disk; SLOT_NONE if the port is of no chosen disk
 * or no slot has the sector. */
static struct slot slot_of(const struct ahci_port *port, uint64_t lba)
{
    for (unsigned i = 0; i < found_disks.chosen_count; i++) {
        const struct found_disk *disk = found_disks.chosen[i];
        uint64_t first = disk->finding.first_lba + SWAP_HEADER_SECTORS;

        if (disk->block.device != port || !disk->report.chosen)
            continue;
        if (lba < first ||
            (lba - first) / SECTORS_PER_PAGE >= swap_header_slots(&disk->finding.header))
            break;
        return (struct slot){(uint32_t)((lba - first) / SECTORS_PER_PAGE)};
    }
    return SLOT_NONE;
}

void disks_log_error(const struct ahci_port *port, const struct ahci_error *error)
{
    struct slot slot = slot_of(port, error->lba);
    char place[64] = "";
    char swap[32] = "";

    if (error->sectors > 0)
        print_to(place, sizeof(place), " of %u sectors at LBA %lu",
                 error->sectors >> port->identity.sector_shift,
                 error->lba >> port->identity.sector_shift);
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

struct disk_view disks_view_of(struct found_disk *disk)
{
    return (struct disk_view){.device = disk->block.device,
                              .identity = disk->identity,
                              .source = block_source(&disk->block)};
}

/* Adds a disk behind those of its priority and of higher ones. */
static void add_chosen(struct found_disk *disk)
{
    unsigned place = found_disks.chosen_count++;

    CHECK(place < SWAP_SETS_MAX);
    for (; place > 0 && found_disks.chosen[place - 1]->finding.priority < disk->finding.priority;
         place--)
        found_disks.chosen[place] = found_disks.chosen[place - 1];
    found_disks.chosen[place] = disk;
    disk->report.chosen = true;
}

/* Says which entries of swap= no disk has. */
static void note_missing(const struct options *options)
{
    for (unsigned i = 0; options->swap == SWAP_SET && i < options->swap_sets; i++) {
        bool found = false;
        char uuid[37];

        for (unsigned at = 0; at < found_disks.chosen_count && !found; at++)
            found = swap_choice_of(&found_disks.chosen[at]->finding.header, options) ==
                    &options->swap_set[i];
        swap_uuid_text(options->swap_set[i].uuid, uuid);
        if (!found)
            ktap_note("swap: no disk of set or group %s is used", uuid);
    }
}

void disks_choose(const struct options *options, bool under_hypervisor)
{
    swap_choose(found_disks.findings, options, under_hypervisor);
    for (struct disk_frame *frame = found_disks.first; frame != NULL; frame = frame->next) {
        for (unsigned i = 0; i < frame->count; i++) {
            struct found_disk *disk = &frame->entries[i];

            if (disk->finding.reason[0] != '\0')
                memcpy(disk->report.reason, disk->finding.reason, REASON_SIZE);
            if (!disk->finding.chosen)
                continue;
            if (found_disks.out_of_memory)
                print_to(disk->report.reason, REASON_SIZE,
                         "refused, because there was no memory to examine all disks");
            else
                add_chosen(disk);
        }
    }
    note_missing(options);
}

unsigned disks_chosen(void)
{
    return found_disks.chosen_count;
}

enum status disks_open(unsigned index, struct disk_chosen *chosen)
{
    struct found_disk *disk = index < found_disks.chosen_count ? found_disks.chosen[index] : NULL;
    struct disk_view view;
    enum status status;

    if (disk == NULL || !disk->report.chosen)
        return STATUS_NOT_FOUND;
    view = disks_view_of(disk);
    chosen->block = disk->block;
    chosen->identity = disk->identity;
    chosen->priority = disk->finding.priority;
    status = validate_grant(&view, disk->finding.header.set_uuid, &chosen->grant, &chosen->finding);
    if (status != OK) {
        print_to(disk->report.reason, REASON_SIZE, "refused at the second look: %s",
                 chosen->finding.reason);
        disk->report.chosen = false;
        return status;
    }
    ahci_deepen(disk->block.device, found_disks.tags);
    return OK;
}

static const struct controller *controller_of(const struct ahci_port *port)
{
    const struct controller *at = found_disks.controllers;

    while (&at->hba != port->hba)
        at = at->next;
    return at;
}

/* Returns whether a port of this controller has interrupts: then its messages stay on. */
static bool has_served_port(const struct ahci_hba *hba)
{
    for (unsigned i = 0; i < AHCI_PORTS_MAX; i++) {
        if (hba->ports[i] != NULL && hba->ports[i]->interrupts)
            return true;
    }
    return false;
}

/* Tries interrupts for one port; `message` NULL: the machine takes none. */
static void start_interrupts_of(struct ahci_port *port, const struct hardware_message *message)
{
    const struct pci_access *pci = hardware_pci();
    struct pci_place place = controller_of(port)->place;
    const char *how = "polling, because it has no MSI";

    if (port->state != AHCI_PORT_READY)
        return;
    if (message != NULL && pci_msi_on(pci, place, message->address, message->data)) {
        how = ahci_interrupts_on(port) ? "MSI" : "polling, because no interrupt arrived";
        if (!has_served_port(port->hba))
            pci_msi_off(pci, place);
    }
    ktap_note("disk queue: serial %s: completions by %s, %u tags", port->identity.serial, how,
              port->depth);
}

void disks_start_interrupts(void)
{
    struct hardware_message message;
    bool taken =
        found_disks.chosen_count > 0 && hardware_take_messages(ahci_take_interrupts, &message);

    for (unsigned i = 0; i < found_disks.chosen_count; i++) {
        struct found_disk *disk = found_disks.chosen[i];

        if (disk->report.chosen)
            start_interrupts_of(disk->block.device, taken ? &message : NULL);
    }
}

void disks_look(void)
{
    ahci_look();
}

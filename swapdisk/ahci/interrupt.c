/*
 * AHCI interrupts: turned on for the ports in use, tried, taken.
 *
 * A port reports ends of commands, errors and changes of the link. The handler takes completions
 * and issues waiting requests; recovery is left to a thread. A test interrupt shows whether
 * interrupts arrive at all; otherwise the port stays polled.
 */
#include "cpu/interrupts/idle_halt.h"
#include "cpu/machine.h"
#include "lib/check.h"
#include "pmm/pmm.h"
#include "swapdisk/ahci/internal.h"

/* An interrupt arrives within this after the command that raises it. */
#define TRIAL_MS 200U

/* The controllers with interrupts; changes only while the interrupts of the one concerned are
 * off. */
static struct ahci_hba *served;

void ahci_take_interrupts(void)
{
    idle_halt_ends();
    for (struct ahci_hba *hba = served; hba != NULL; hba = hba->next_served) {
        uint32_t ports = hba_read(hba, HBA_IS);

        __atomic_add_fetch(&hba->interrupts, 1, __ATOMIC_RELAXED);
        /* All ones: the controller was removed, which the look of each second finds. */
        if (ports == ALL_ONES)
            continue;
        for (ports &= hba->implemented; ports != 0; ports &= ports - 1) {
            struct ahci_port *port = hba->ports[__builtin_ctz(ports)];

            if (port != NULL && port->interrupts)
                ahci_serve(port);
        }
    }
}

void ahci_look(void)
{
    for (struct ahci_hba *hba = served; hba != NULL; hba = hba->next_served) {
        for (unsigned i = 0; i < AHCI_PORTS_MAX; i++) {
            struct ahci_port *port = hba->ports[i];

            if (port != NULL && port->interrupts && port->state == AHCI_PORT_READY)
                ahci_serve(port);
        }
    }
}

static void ahci_add_served(struct ahci_hba *hba)
{
    for (const struct ahci_hba *at = served; at != NULL; at = at->next_served) {
        if (at == hba)
            return;
    }
    hba->next_served = served;
    served = hba;
    hba_write(hba, HBA_IS, ALL_ONES);
    hba_write(hba, HBA_GHC, hba_read(hba, HBA_GHC) | GHC_IE);
}

void ahci_interrupts_off(struct ahci_hba *hba)
{
    hba_write(hba, HBA_GHC, hba_read(hba, HBA_GHC) & ~(GHC_IE | GHC_HR));
    for (struct ahci_hba **at = &served; *at != NULL; at = &(*at)->next_served) {
        if (*at == hba) {
            *at = hba->next_served;
            return;
        }
    }
}

/* Runs a command, and returns whether an interrupt came with it. */
static bool try_interrupt(struct ahci_port *port)
{
    uint64_t before = __atomic_load_n(&port->hba->interrupts, __ATOMIC_RELAXED);
    struct deadline end;
    struct pfn frame;
    enum status status;

    if (pmm_alloc(FRAME_DEVICE, FRAME_CLEARED, &frame) != OK)
        return false;
    status = ahci_read(port, 0, 1, &frame);
    ahci_free_frame(frame);
    end = deadline_after_ms(TRIAL_MS);
    while (status == OK && !deadline_passed(end)) {
        if (__atomic_load_n(&port->hba->interrupts, __ATOMIC_RELAXED) != before)
            return true;
        machine_relax();
    }
    return false;
}

bool ahci_interrupts_on(struct ahci_port *port)
{
    bool were_on;

    CHECK(port->state == AHCI_PORT_READY && !port->interrupts);
    ahci_add_served(port->hba);
    port_write(port, PxIE, PxIE_SERVED);
    if (!try_interrupt(port)) {
        port_write(port, PxIE, 0);
        return false;
    }
    were_on = ahci_lock(port);
    port->interrupts = true;
    ahci_unlock(port, were_on);
    return true;
}

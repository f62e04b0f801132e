/*
 * A simulated AHCI controller for host tests: registers, disks, failures by settings, and a
 * complaint about every access that a driver must not make.
 *
 * Commands are executed through the simulated physical memory, from the structures that the driver
 * wrote there. It also replaces swapdisk/ahci/hardware.c: one PCI configuration space, with
 * controllers at their base addresses.
 *
 * Context: host tests.
 * Spec: Serial ATA AHCI 1.3.1.
 */
#ifndef TESTS_HOST_FAKE_HBA_H
#define TESTS_HOST_FAKE_HBA_H

#include <stdbool.h>
#include <stdint.h>

#include "swapdisk/ahci/ahci.h"
#include "swapdisk/pci/pci.h"
#include "tests/host/fake/disk.h"

#define FAKE_FUNCTIONS_MAX 64
#define FAKE_HUNG_MAX      1024

enum fake_device { FAKE_NOTHING, FAKE_DISK, FAKE_ATAPI, FAKE_MULTIPLIER, FAKE_ENCLOSURE };

struct fake_port {
    enum fake_device device;
    struct fake_disk *disk;
    uint32_t clb, clbu, fb, fbu, is, ie, cmd, tfd, sig, ssts, sctl, serr, sact, ci;
    uint32_t flying; /* tags of queued commands that the disk has and works on */
    bool aborted;    /* after a queued error, until the log is read or COMRESET */
    uint8_t log[512];
    uint64_t reset_began_ns;
    unsigned slots_seen; /* bit for each slot that was ever used */
    unsigned deepest;    /* most tags at once */
    /* Frames of commands that hang, until COMRESET: their data may arrive at any time. */
    struct pfn hung[FAKE_HUNG_MAX];
    unsigned hung_count;
    /* Failures. */
    bool cr_sticks;            /* the command engine never stops */
    bool fr_sticks;            /* the FIS engine stops only after COMRESET */
    bool busy_for_ever;        /* the device never becomes ready */
    bool link_half_up;         /* stays at DET = 1 */
    struct fake_disk *replace; /* the disk that answers after the next COMRESET */
};

struct fake_hba {
    uint32_t cap, ghc, is, pi, vs, cap2, bohc;
    struct fake_port ports[AHCI_PORTS_MAX];
    unsigned latency; /* register reads that a command takes */
    unsigned pending; /* those left, for the command in pending_port */
    unsigned pending_port;
    bool messages; /* it sends one whenever a bit of IS becomes set, and only then */
    bool owed;     /* one is on its way */
    unsigned sent;
    uint64_t shuffle; /* not 0: queued commands end in any order, some at each register access */
    bool at_clearing; /* one of them ends just before each write that clears an interrupt */
    /* Failures. */
    bool gone;              /* every register reads as all ones */
    bool reset_sticks;      /* GHC.HR never clears */
    bool loses_pi;          /* a reset clears CAP and PI */
    unsigned enable_writes; /* GHC.AE sticks only after this many writes */
    bool firmware_stays;    /* BOHC.BOS never clears */
    bool ignores_prdbc;     /* IDENTIFY leaves the byte count alone */
    bool innocents_go_on;   /* a queued error aborts no other command, as in QEMU */
    /* Counters of observed events. */
    unsigned complaints;
    char complaint[160]; /* the first */
    bool saw_handoff;
};

/* Makes a controller with this many ports and no devices, as the firmware leaves it. */
void fake_hba_make(struct fake_hba *hba, unsigned ports);
void fake_hba_attach(struct fake_hba *hba, unsigned port, enum fake_device device,
                     struct fake_disk *disk);
struct hba_access fake_hba_access(struct fake_hba *hba);

/* Completes the hung commands of a port's disk: its reads now write to memory. */
void fake_hba_resume(struct fake_hba *hba, unsigned port);

/* Lets time pass, as at a register access, and delivers a message that is on its way. */
void fake_hba_pass(struct fake_hba *hba);

/* Complains if a frame was freed to which a hanging command may still write. Each register access
 * does so too. */
void fake_hba_look(struct fake_hba *hba);

/* The handler of messages that the driver has set. */
extern void (*fake_on_message)(void);

/* A function of the fake machine: 64 registers, and which bits of each can be written. */
struct fake_function {
    struct pci_place place;
    uint32_t registers[64];
    uint32_t writable[64];
    struct fake_hba *hba; /* at BAR 5 */
};

/* Starts with an empty machine; adds a function with its header filled in. */
void fake_pci_clear(void);
struct fake_function *fake_pci_add(struct pci_place place, uint32_t class_and_interface);
struct fake_function *fake_pci_add_hba(struct pci_place place, struct fake_hba *hba);

#endif

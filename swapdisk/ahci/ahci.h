/*
 * SATA disks behind an AHCI controller: bring-up, identification, polled transfers by DMA.
 *
 * The controller is reached through a contract of two functions, so that host tests put a fake one
 * behind it with its failures as settings. No interrupt is ever enabled. Every wait is bounded; a
 * controller or disk that stops answering makes later calls fail at once and never hang.
 *
 * Units: sectors of 512 bytes; frames of 8 sectors. Owns: the frames of the command lists, tables
 * and bounce buffers, and of the port objects, until ahci_stop.
 * State of a port: absent -> (probe) -> empty | skipped | ready; ready -> (lost) -> dead, for ever.
 * Fails with: STATUS_IO (error or lost device), STATUS_TIMEOUT (controller), STATUS_REFUSED (not in
 * the list of allowed commands, or no grant), STATUS_RANGE (past the disk), STATUS_NO_MEMORY.
 * Context: thread or fault without any spin lock held; one command at a time on a port.
 * Spec: Serial ATA AHCI 1.3.1; ATA/ATAPI Command Set (ACS-3).
 */
#ifndef SWAPDISK_AHCI_AHCI_H
#define SWAPDISK_AHCI_AHCI_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/status.h"
#include "lib/units.h"
#include "swapdisk/ahci/grant.h"
#include "swapdisk/format/identify.h"

#define AHCI_PORTS_MAX    32U
#define AHCI_SLOTS_USED   2U   /* command slots taken in turn */
#define AHCI_PAGES_MAX    128U /* pages of one command */
#define AHCI_BOUNCE_PAGES 16U  /* pages of one command that goes through bounce buffers */
#define AHCI_NOTE_SIZE    112

/* Limits of a command. A disk may have to spin up first, and a flush may have a whole cache to
 * write; IDENTIFY goes to a disk that has just reported ready. */
#define AHCI_COMMAND_MS  30000U
#define AHCI_FLUSH_MS    60000U
#define AHCI_IDENTIFY_MS 5000U

/* The registers: offset in bytes, a multiple of 4 below size. */
struct hba_access {
    uint32_t (*read)(void *context, uint32_t offset);
    void (*write)(void *context, uint32_t offset, uint32_t value);
    void *context;
    uint32_t size; /* bytes of registers */
};

/* Known defects of a controller that its registers do not report. */
struct ahci_quirks {
    bool low_memory_only; /* addresses above 4 GiB fail, whatever CAP.S64A says */
    uint16_t pages_max;   /* pages of one command; 0: no limit of its own */
};

enum ahci_port_state {
    AHCI_PORT_EMPTY,   /* no device answers */
    AHCI_PORT_SKIPPED, /* not a disk, or a disk that the driver does not use */
    AHCI_PORT_READY,
    AHCI_PORT_DEAD /* failed; not used again */
};

struct ahci_counters {
    uint64_t commands; /* issued, retries included */
    uint64_t errors;   /* attempts that failed */
    uint64_t healed;   /* commands that a retry completed */
    uint64_t lost;     /* commands that failed for good */
    uint64_t resets;   /* recoveries by COMRESET */
};

/* A command that did not complete at its first attempt. */
struct ahci_error {
    const char *command; /* its name in ACS-3 */
    uint64_t lba;
    unsigned sectors;   /* 0: a flush */
    unsigned slot;      /* command slot of the last failed attempt */
    uint8_t ata_status; /* PxTFD of that attempt */
    uint8_t ata_error;
    unsigned tries; /* attempts; 0: the port was lost before */
    bool timed_out;
    bool healed;
};

struct ahci_hba;

struct ahci_port {
    struct ahci_hba *hba;
    unsigned number;
    enum ahci_port_state state;
    uint8_t busy;      /* 1 while a command runs */
    unsigned turn;     /* command slot of the next command */
    struct pfn object; /* frame that holds this object */
    struct pfn lists;  /* command list and received FISes */
    struct pfn tables[AHCI_SLOTS_USED];
    struct pfn bounce[AHCI_BOUNCE_PAGES]; /* PFN_NONE while not needed */
    uint32_t signature;
    struct disk_identity identity;
    struct ahci_counters counters;
    char note[AHCI_NOTE_SIZE]; /* why the port is not ready */
};

struct ahci_hba {
    struct hba_access access;
    struct ahci_quirks quirks;
    uint32_t cap;
    uint32_t implemented; /* PI: the ports that exist */
    bool wide;            /* reaches memory above 4 GiB */
    unsigned pages_max;
    unsigned slots;                          /* command slots in use */
    struct ahci_port *ports[AHCI_PORTS_MAX]; /* NULL: no such port */
    char note[AHCI_NOTE_SIZE];               /* why the start failed */

    /* Called once for each command that did not complete at its first attempt; NULL: nothing. Set
     * after ahci_start. Context: that of the command, with the port taken. */
    void (*on_error)(const struct ahci_port *port, const struct ahci_error *error);
};

/* Takes the controller over and brings up every port. A port that fails has its state and note; the
 * status and the controller's note are for the controller itself. */
MUST_USE enum status ahci_start(struct ahci_hba *hba, const struct hba_access *access,
                                const struct ahci_quirks *quirks);

/* Stops all engines and frees their memory. Keeps the memory of an engine that does not stop. */
void ahci_stop(struct ahci_hba *hba);

/* Transfers sectors between the disk and frames, 8 to a frame, in as few commands as possible. The
 * last frame may be used in part. On failure, any part may have been transferred. */
MUST_USE enum status ahci_read(struct ahci_port *port, uint64_t lba, unsigned sectors,
                               const struct pfn *frames);
MUST_USE enum status ahci_write(struct ahci_port *port, const struct swap_grant *grant,
                                uint64_t lba, unsigned sectors, const struct pfn *frames);

/* Makes completed writes durable. */
MUST_USE enum status ahci_flush(struct ahci_port *port);

/* Returns the ticks that all ports have waited for commands, since start: benchmarks subtract them,
 * since the waiter polls. Other threads may have run meanwhile. */
uint64_t ahci_waited_ticks(void);

#endif

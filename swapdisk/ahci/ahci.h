/*
 * SATA disks behind an AHCI controller: bring-up, identification, transfers by DMA, many at a time.
 *
 * The controller is reached through a contract of two functions, so that host tests put a fake one
 * behind it with its failures as settings. A port is polled until ahci_interrupts_on returns true.
 * Every wait is bounded; a controller or disk that stops answering makes later calls fail at once
 * and never hang.
 *
 * Requests wait in the port's lists, reads before writes. With native command queuing up to 32 are
 * issued at once; otherwise one. Data that no check value proves goes by non-queued commands, which
 * run alone (rules D5, D6). A thread that waits for a request polls the port for everyone, and one
 * of them recovers it after an error.
 *
 * Units: sectors of 512 bytes; frames of 8 sectors. Of a disk whose logical sectors have 4096 bytes
 * (IDENTIFY words 106, 117 and 118) whole ones only are transferred.
 * Owns: the frames of the command lists, tables and bounce buffers, and of the port objects, until
 * ahci_stop. It holds a further count on frames that a controller which does not stop may still
 * access, for ever (rule D1).
 * State of a port: absent -> (probe) -> empty | skipped | ready; ready -> (lost) -> dead, for ever.
 * Fails with: STATUS_IO (error or lost device), STATUS_TIMEOUT (controller), STATUS_REFUSED (not in
 * the list of allowed commands, or no grant), STATUS_RANGE (past the disk, or parts of logical
 * sectors), STATUS_NO_MEMORY.
 * Context: thread or fault without any spin lock held.
 * Spec: Serial ATA AHCI 1.3.1; ATA/ATAPI Command Set (ACS-3).
 */
#ifndef SWAPDISK_AHCI_AHCI_H
#define SWAPDISK_AHCI_AHCI_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/status.h"
#include "lib/units.h"
#include "swapdisk/block/grant.h"
#include "swapdisk/block/request.h"
#include "swapdisk/format/identify.h"

#define AHCI_PORTS_MAX    32U
#define AHCI_TAGS_MAX     32U  /* command slots of a port, and tags of a queue */
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
    bool low_memory_only; /* addresses above 4 GiB fail, even if CAP.S64A is set */
    uint16_t pages_max;   /* pages of one command; 0: no limit of its own */
};

enum ahci_port_state {
    AHCI_PORT_EMPTY,   /* no device answers */
    AHCI_PORT_SKIPPED, /* not a disk, or a disk that the driver does not use */
    AHCI_PORT_READY,
    AHCI_PORT_DEAD /* failed; not used again */
};

struct ahci_counters {
    uint64_t commands;  /* issued, retries included */
    uint64_t queued;    /* of them, with native command queuing */
    uint64_t errors;    /* attempts that failed */
    uint64_t healed;    /* commands that a retry completed */
    uint64_t lost;      /* commands that failed for good */
    uint64_t resets;    /* recoveries by COMRESET */
    uint64_t log_reads; /* recoveries by the log of queued errors */
    uint64_t held;      /* frames that are held for ever (D1) */
    unsigned deepest;   /* most commands in flight at once */
};

/* A command that did not complete at its first attempt. */
struct ahci_error {
    const char *command; /* its name in ACS-3 */
    uint64_t lba;
    unsigned sectors;   /* 0: a flush */
    unsigned slot;      /* command slot of the last failed attempt */
    uint8_t ata_status; /* PxTFD of that attempt */
    uint8_t ata_error;
    unsigned tries;    /* attempts; 0: the port was lost before */
    unsigned timeouts; /* of them, without an answer */
    bool timed_out;    /* the last one */
    bool healed;
};

struct ahci_hba;
struct block_device;

struct request_list {
    struct disk_request *first;
    struct disk_request *last;
};

/* Protectors: (l) the lock; (r) the thread that recovers the port, or brings it up; (c) constant
 * once the port is up. */
struct ahci_port {
    struct ahci_hba *hba;       /* (c) */
    unsigned number;            /* (c) */
    enum ahci_port_state state; /* (r) */
    uint8_t lock;               /* a spin lock; interrupts are off */
    bool queued;                /* (l) the commands in flight are queued ones */
    bool broken;                /* (l) an error, a time-out or a new link: nothing more is issued */
    bool late;                  /* (l) broken by a time-out */
    bool interrupts;            /* (l) completions come by interrupts */
    bool recovering;            /* (l) a thread performs the recovery */
    bool untamed;               /* (r) dead, and its transfers may not have ended */
    unsigned depth;             /* (l) commands in flight at most */
    unsigned turn;              /* (l) where the search for a free tag begins */
    unsigned reads_in_row;      /* (l) issued while writes waited */
    unsigned passed;            /* (l) queued ones issued while a non-queued one waited */
    unsigned fruitless;         /* (r) weight of recoveries since a command last ended well */
    uint32_t issued;            /* (l) tags in flight */
    struct disk_request *flying[AHCI_TAGS_MAX]; /* (l) by tag */
    struct request_list reads;                  /* (l) wait to be issued */
    struct request_list writes;                 /* (l) */
    struct request_list others;                 /* (l) non-queued */
    struct pfn object;                          /* (c) frame that holds this object */
    struct pfn lists;                           /* (c) command list and received FISes */
    struct pfn tables[AHCI_TAGS_MAX];           /* (c) PFN_NONE from the depth on */
    struct pfn bounce[AHCI_BOUNCE_PAGES];       /* (c) PFN_NONE while not needed */
    uint32_t signature;                         /* (c) */
    struct disk_identity identity;              /* (c) */
    struct ahci_counters counters;              /* (l)(r) */
    char note[AHCI_NOTE_SIZE];                  /* (r) why the port is not ready */
};

struct ahci_hba {
    struct hba_access access;
    struct ahci_quirks quirks;
    uint32_t cap;
    uint32_t implemented; /* PI: the ports that exist */
    bool wide;            /* reaches memory above 4 GiB */
    unsigned pages_max;
    unsigned slots;                          /* command slots that it has */
    struct ahci_port *ports[AHCI_PORTS_MAX]; /* NULL: no such port */
    struct ahci_hba *next_served;            /* of the controllers with interrupts */
    uint64_t interrupts;                     /* atomic: taken so far */
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

/* Lets up to `tags` commands be in flight on a ready port: as many as controller and disk take. The
 * depth stays at 1 if there is no memory or no native command queuing. */
void ahci_deepen(struct ahci_port *port, unsigned tags);

/* Returns the most pages that one request may have. */
unsigned ahci_request_pages(const struct ahci_port *port);

/* Starts a request; never waits. A request that is refused or out of range has ended on return. */
void ahci_submit(struct ahci_port *port, struct disk_request *request);

/* Takes completions, issues waiting requests, and recovers the port after an error. */
void ahci_poll(struct ahci_port *port);

/* Polls until the request has ended, and returns its status. */
MUST_USE enum status ahci_wait(struct ahci_port *port, struct disk_request *request);

/* Transfers sectors between the disk and frames, 8 to a frame, by as few non-queued commands as
 * possible. The last frame may be used in part. On failure, any part may have been transferred. */
MUST_USE enum status ahci_read(struct ahci_port *port, uint64_t lba, unsigned sectors,
                               const struct pfn *frames);
MUST_USE enum status ahci_write(struct ahci_port *port, const struct swap_grant *grant,
                                uint64_t lba, unsigned sectors, const struct pfn *frames);

/* Makes completed writes durable. */
MUST_USE enum status ahci_flush(struct ahci_port *port);

/* Discards ranges of slots of the grant (TRIM), by one command, which is tried once.
 * STATUS_UNSUPPORTED: the disk does not say that it takes it. */
MUST_USE enum status ahci_trim(struct ahci_port *port, const struct swap_grant *grant,
                               const struct disk_ranges *ranges);

/* Takes the interrupt of any controller; the handler of the vector that they were given. Context:
 * interrupts off. */
void ahci_take_interrupts(void);

/* Lets a ready port report completions by interrupts, which the caller has routed to
 * ahci_take_interrupts, and tries one. Returns false, with the port polled as before, if it does
 * not arrive. Context: thread, interrupts on. */
MUST_USE bool ahci_interrupts_on(struct ahci_port *port);

/* Looks for commands that take too long and for completions without an interrupt, on all ports with
 * interrupts: to be called each second. Context: any. */
void ahci_look(void);

/* Returns the ticks for which threads have polled ports for the end of a command, since start: a
 * benchmark subtracts them. A thread that sleeps meanwhile is not counted. */
uint64_t ahci_polled_ticks(void);

/* Takes a port for a crash, and describes it as a device whose commands are polled, each tried
 * once; all waits together have a bound of ten seconds. First the commands in flight must end well.
 * Fails with STATUS_REFUSED (the driver was in the middle of something, or the port is not ready),
 * STATUS_IO, STATUS_TIMEOUT. The port is of no other use afterwards. Context: interrupts off, all
 * other processors stopped for good; takes no lock. */
MUST_USE enum status ahci_crash_take(struct ahci_port *port, struct block_device *block);

/* Frees a frame that took part in transfers, unless a controller may still access it: then drops
 * the caller's reference only (rule D1). */
void ahci_free_frame(struct pfn frame);

#endif

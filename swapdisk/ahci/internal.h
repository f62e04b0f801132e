/*
 * Shared by the files of the AHCI driver: registers, structures in memory, internal calls.
 *
 * ahci.c brings up the controller and has the memory of its ports; port.c brings up ports; encode.c
 * builds commands and is the only one to start them; command.c runs one alone, with retries;
 * queue.c has the requests in flight; interrupt.c turns interrupts on and takes them; recover.c
 * brings a port back after an error; transfer.c has the calls that wait. No other file includes
 * this.
 *
 * Units: bytes for offsets. Owns: nothing. Context: as ahci.h.
 * Spec: Serial ATA AHCI 1.3.1, chapters 3 and 4; Serial ATA 3.1, 10.5 (FIS types).
 */
#ifndef SWAPDISK_AHCI_INTERNAL_H
#define SWAPDISK_AHCI_INTERNAL_H

#include <stddef.h>

#include "pmm/frame.h"
#include "swapdisk/ahci/ahci.h"

/* Generic host control (3.1). */
#define HBA_CAP   0x00U
#define HBA_GHC   0x04U
#define HBA_IS    0x08U
#define HBA_PI    0x0cU
#define HBA_VS    0x10U
#define HBA_CAP2  0x24U
#define HBA_BOHC  0x28U
#define HBA_PORTS 0x100U

#define CAP_NCS_SHIFT 8U
#define CAP_NCS_MASK  UINT32_C(31)
#define CAP_SNCQ      (UINT32_C(1) << 30)
#define CAP_S64A      (UINT32_C(1) << 31)
#define GHC_HR        (UINT32_C(1) << 0)
#define GHC_IE        (UINT32_C(1) << 1)
#define GHC_AE        (UINT32_C(1) << 31)
#define VS_1_2        UINT32_C(0x00010200)
#define CAP2_BOH      (UINT32_C(1) << 0)
#define BOHC_BOS      (UINT32_C(1) << 0)
#define BOHC_OOS      (UINT32_C(1) << 1)
#define BOHC_BB       (UINT32_C(1) << 4)

/* Port registers (3.3), from the port's own base. */
#define PORT_SIZE 0x80U
#define PxCLB     0x00U
#define PxCLBU    0x04U
#define PxFB      0x08U
#define PxFBU     0x0cU
#define PxIS      0x10U
#define PxIE      0x14U
#define PxCMD     0x18U
#define PxTFD     0x20U
#define PxSIG     0x24U
#define PxSSTS    0x28U
#define PxSCTL    0x2cU
#define PxSERR    0x30U
#define PxSACT    0x34U
#define PxCI      0x38U

#define PxIS_SDBS (UINT32_C(1) << 3)  /* a set device bits FIS: queued commands have ended */
#define PxIS_PCS  (UINT32_C(1) << 6)  /* port connect change */
#define PxIS_PRCS (UINT32_C(1) << 22) /* PhyRdy change */
#define PxIS_OFS  (UINT32_C(1) << 24)
#define PxIS_IFS  (UINT32_C(1) << 27)
#define PxIS_HBDS (UINT32_C(1) << 28)
#define PxIS_HBFS (UINT32_C(1) << 29)
#define PxIS_TFES (UINT32_C(1) << 30)

#define PxIS_ERRORS (PxIS_OFS | PxIS_IFS | PxIS_HBDS | PxIS_HBFS | PxIS_TFES)
#define PxIS_LINK   (PxIS_PCS | PxIS_PRCS)

/* Interrupts that a served port asks for: the ends of commands (D2H, PIO setup, DMA setup and set
 * device bits FISes), errors, and changes of the link. */
#define PxIE_SERVED (UINT32_C(0xf) | PxIS_ERRORS | PxIS_LINK)

#define PxCMD_ST         (UINT32_C(1) << 0)
#define PxCMD_SUD        (UINT32_C(1) << 1)
#define PxCMD_POD        (UINT32_C(1) << 2)
#define PxCMD_FRE        (UINT32_C(1) << 4)
#define PxCMD_FR         (UINT32_C(1) << 14)
#define PxCMD_CR         (UINT32_C(1) << 15)
#define PxCMD_ICC_MASK   (UINT32_C(15) << 28)
#define PxCMD_ICC_ACTIVE (UINT32_C(1) << 28)

#define PxTFD_ERR (UINT32_C(1) << 0)
#define PxTFD_DRQ (UINT32_C(1) << 3)
#define PxTFD_DF  (UINT32_C(1) << 5)
#define PxTFD_BSY (UINT32_C(1) << 7)

#define PxSSTS_DET_MASK  UINT32_C(15)
#define PxSSTS_DET_NONE  UINT32_C(0)
#define PxSSTS_DET_READY UINT32_C(3)

#define PxSCTL_DET_RESET UINT32_C(1)
#define PxSCTL_IPM_NONE  (UINT32_C(3) << 8) /* neither Partial nor Slumber */

#define ALL_ONES UINT32_MAX

/* The only ATA commands that are ever issued (ACS-3). */
#define ATA_DATA_SET_MANAGEMENT 0x06U
#define ATA_READ_DMA_EXT        0x25U
#define ATA_READ_LOG_EXT        0x2fU
#define ATA_WRITE_DMA_EXT       0x35U
#define ATA_READ_FPDMA_QUEUED   0x60U
#define ATA_WRITE_FPDMA_QUEUED  0x61U
#define ATA_FLUSH_CACHE_EXT     0xeaU
#define ATA_IDENTIFY_DEVICE     0xecU

/* The NCQ command error log (ACS-3, A.14): its address, and its bytes. */
#define LOG_QUEUED_ERROR 0x10U
#define LOG_TAG          0
#define LOG_TAG_MASK     31U
#define LOG_NOT_QUEUED   0x80U /* in the byte of the tag: no queued command failed */
#define LOG_STATUS       2
#define LOG_ERROR        3
#define LOG_SIZE         512U

/* DATA SET MANAGEMENT (ACS-3, 7.5): FEATURES has the one function that there is, and COUNT the
 * blocks of ranges. A range has its first sector in bits 0 to 47, above it the number of sectors;
 * one without sectors is not used. */
#define DATA_SET_TRIM     1U
#define TRIM_BLOCKS       1U
#define TRIM_BLOCK_SIZE   512U
#define TRIM_COUNT_SHIFT  48U
#define TRIM_BLOCK_RANGES (TRIM_BLOCK_SIZE / sizeof(uint64_t))

/* Fields of the FPDMA commands (ACS-3, 7.59): the count is in FEATURES, and COUNT has the tag. */
#define FPDMA_TAG_SHIFT 3U
#define DEVICE_LBA      0x40U
#define DEVICE_FUA      0x80U

/* Frame information structures. */
#define FIS_TYPE_H2D   0x27U
#define FIS_TYPE_D2H   0x34U
#define FIS_H2D_DWORDS 5U

/* Register FIS, host to device. */
struct fis_h2d {
    uint8_t type;
    uint8_t flags; /* bit 7: a command */
    uint8_t command;
    uint8_t features;
    uint8_t lba[3]; /* bits 0 to 23 */
    uint8_t device; /* bit 6: LBA */
    uint8_t lba_high[3];
    uint8_t features_high;
    uint8_t count[2];
    uint8_t icc;
    uint8_t control;
    uint8_t auxiliary[4];
};

/* One of the 32 command headers in the list (4.2.2). */
struct command_header {
    uint16_t flags; /* CFL in bits 0 to 4, W in bit 6 */
    uint16_t prdtl;
    volatile uint32_t prdbc; /* bytes transferred; the controller writes it */
    uint32_t ctba;
    uint32_t ctbau;
    uint32_t reserved[4];
};

#define COMMAND_CFL_MASK UINT16_C(31)
#define COMMAND_W        (UINT16_C(1) << 6)

/* A region descriptor (4.2.3.3). */
struct prd {
    uint32_t dba;
    uint32_t dbau;
    uint32_t reserved;
    uint32_t count; /* bytes - 1 in bits 0 to 21 */
};

/* A command table (4.2.3). Each slot has a frame of its own for it, so the stride is a page. */
struct command_table {
    union {
        struct fis_h2d fis;
        uint8_t bytes[64];
    } command;
    uint8_t acmd[16];
    uint8_t reserved[48];
    struct prd prds[AHCI_PAGES_MAX];
};

/* The frame that the port's registers refer to. */
struct port_lists {
    struct command_header headers[32]; /* PxCLB: 1 KiB aligned */
    volatile uint8_t received[256];    /* PxFB: 256 bytes aligned */
    uint8_t unused[768];
    uint16_t identify[256];           /* receives the data of IDENTIFY DEVICE */
    uint8_t log[LOG_SIZE];            /* receives the data of READ LOG EXT */
    uint64_t trim[TRIM_BLOCK_RANGES]; /* the ranges of DATA SET MANAGEMENT */
};

#define RECEIVED_D2H 0x40U /* the D2H register FIS in the received area (4.2.1) */

_Static_assert(sizeof(struct fis_h2d) == 4 * FIS_H2D_DWORDS, "SATA 3.1, 10.5.5");
_Static_assert(offsetof(struct fis_h2d, count) == 12, "SATA 3.1, 10.5.5");
_Static_assert(sizeof(struct command_header) == 32, "AHCI 4.2.2");
_Static_assert(offsetof(struct command_header, ctba) == 8, "AHCI 4.2.2");
_Static_assert(sizeof(struct prd) == 16, "AHCI 4.2.3.3");
_Static_assert(offsetof(struct command_table, prds) == 0x80, "AHCI 4.2.3");
_Static_assert(sizeof(struct command_table) <= PAGE_SIZE, "a table fits its frame");
_Static_assert(offsetof(struct port_lists, received) == 0x400, "FB is aligned");
_Static_assert(offsetof(struct port_lists, identify) == 0x800, "clear of the lists");
_Static_assert(DISK_RANGES_MAX <= TRIM_BLOCK_RANGES, "a block has all ranges of a request");
_Static_assert(sizeof(struct port_lists) <= PAGE_SIZE, "the lists fit their frame");
_Static_assert(sizeof(struct ahci_port) <= PAGE_SIZE, "a port object fits its frame");

static inline uint32_t hba_read(const struct ahci_hba *hba, uint32_t offset)
{
    CHECK(offset % 4 == 0 && offset < hba->access.size);
    return hba->access.read(hba->access.context, offset);
}

static inline void hba_write(const struct ahci_hba *hba, uint32_t offset, uint32_t value)
{
    CHECK(offset % 4 == 0 && offset < hba->access.size);
    hba->access.write(hba->access.context, offset, value);
}

static inline uint32_t port_read(const struct ahci_port *port, uint32_t offset)
{
    return hba_read(port->hba, HBA_PORTS + port->number * PORT_SIZE + offset);
}

static inline void port_write(const struct ahci_port *port, uint32_t offset, uint32_t value)
{
    hba_write(port->hba, HBA_PORTS + port->number * PORT_SIZE + offset, value);
}

static inline struct port_lists *port_lists(const struct ahci_port *port)
{
    return frame_pointer(port->lists);
}

/* Returns the command table of a slot. No other code computes its address. */
static inline struct command_table *command_table(const struct ahci_port *port, unsigned slot)
{
    CHECK(slot < AHCI_TAGS_MAX && !pfn_is_none(port->tables[slot]));
    return frame_pointer(port->tables[slot]);
}

/* One command, before ahci_build encodes it. */
struct command {
    uint8_t opcode;
    uint64_t lba;
    unsigned sectors;
    const struct pfn *frames;         /* NULL: data for a buffer of the lists, or none */
    uint32_t bytes;                   /* of data */
    const struct disk_ranges *ranges; /* of a TRIM */
    const struct swap_grant *grant;   /* permits a write or TRIM */
};

/* ---- encode.c ---- */

static inline bool opcode_queued(uint8_t opcode)
{
    return opcode == ATA_READ_FPDMA_QUEUED || opcode == ATA_WRITE_FPDMA_QUEUED;
}

static inline bool opcode_writes(uint8_t opcode)
{
    return opcode == ATA_WRITE_DMA_EXT || opcode == ATA_WRITE_FPDMA_QUEUED ||
           opcode == ATA_DATA_SET_MANAGEMENT;
}

/* Encodes a command into a slot that is not in flight. */
void ahci_build(struct ahci_port *port, unsigned slot, const struct command *command);

/* Starts a command: the choke point, since no other function does. Refuses a command that is not on
 * the allow-list, a write that the grant does not cover, and a TRIM of anything but its slots. */
MUST_USE enum status ahci_issue(struct ahci_port *port, unsigned slot,
                                const struct swap_grant *grant);

/* Returns whether the slot of a non-queued command, which is not busy any more, ended well and with
 * all its bytes. */
bool ahci_ended_well(const struct ahci_port *port, unsigned slot, const struct command *command);

const char *ahci_command_name(uint8_t opcode);
uint64_t ahci_longest_ms(uint8_t opcode);

/* Returns how often a command is tried. A TRIM is a hint and not worth a second reset. */
unsigned ahci_tries(uint8_t opcode);

/* ---- command.c: the port is the caller's, and nothing is in flight ---- */

/* Runs IDENTIFY DEVICE, or READ LOG EXT of the log of queued errors, once, into the buffer of the
 * lists. */
MUST_USE enum status ahci_identify(struct ahci_port *port);
MUST_USE enum status ahci_read_error_log(struct ahci_port *port);

/* Runs a non-queued command until it succeeds, and resets the port after each failure. `error` has
 * the attempts that failed earlier. Reports and counts the outcome unless no attempt failed. */
MUST_USE enum status ahci_retry(struct ahci_port *port, const struct command *command,
                                struct ahci_error *error);

/* Records an attempt that failed, before the reset that follows it. */
void ahci_note_attempt(struct ahci_port *port, struct ahci_error *error, unsigned slot);

/* Counts a command that did not complete at its first attempt, and reports it. */
MUST_USE enum status ahci_report(struct ahci_port *port, struct ahci_error *error, bool healed);

/* ---- transfer.c ---- */

/* Returns whether a range is on the port's disk, and of whole logical sectors. */
bool ahci_on_disk(const struct ahci_port *port, uint64_t lba, unsigned sectors);

/* Returns the frames of a request, and whether the controller cannot address one of them. */
unsigned ahci_pages_of(const struct disk_request *request);
bool ahci_out_of_reach(const struct ahci_port *port, const struct disk_request *request);

/* Copies the data of a write to the bounce frames, or those of a read from them, if the request
 * needs them. */
void ahci_bounce(const struct ahci_port *port, const struct disk_request *request);

/* Returns the queued command for a request. */
struct command ahci_queued_command_of(const struct ahci_port *port,
                                      const struct disk_request *request);

/* Returns the non-queued command for a request. */
struct command ahci_command_of(const struct ahci_port *port, const struct disk_request *request);

/* Ends a request with a status, and gives it its data if they are in bounce frames. holds: the
 * lock */
void ahci_end_request(const struct ahci_port *port, struct disk_request *request,
                      enum status status);

/* ---- queue.c ---- */

bool ahci_lock(struct ahci_port *port);
void ahci_unlock(struct ahci_port *port, bool were_on);

/* As ahci_end_request, for a caller without the lock. */
void ahci_end_apart(struct ahci_port *port, struct disk_request *request, enum status status);

/* Issues waiting requests while there are free tags. holds: the lock */
void ahci_issue_waiting(struct ahci_port *port);

/* Puts a request back to the front of its list. holds: the lock */
void ahci_requeue(struct ahci_port *port, struct disk_request *request);

/* Takes completions, issues waiting requests, and wakes a waiter if the port needs recovery. Called
 * by interrupts and every second. */
void ahci_serve(struct ahci_port *port);

/* Ends all requests that wait, after the port has died. */
void ahci_fail_waiting(struct ahci_port *port);

/* ---- interrupt.c ---- */

/* Stops serving a controller. Called before its memory is freed. */
void ahci_interrupts_off(struct ahci_hba *hba);

/* ---- recover.c ---- */

/* Brings a broken port back, or declares it dead. Ends or reissues the requests that were in
 * flight. The caller has set `recovering`. */
void ahci_recover(struct ahci_port *port);

/* ---- ahci.c ---- */

/* Frames below this index have 32-bit addresses. */
#define LOW_FRAMES (UINT32_C(1) << 20)

/* Creates a port with memory for one command at a time; on failure ahci_port_free ends it. */
MUST_USE enum status ahci_port_create(struct ahci_hba *hba, unsigned number);

/* Frees all memory of a port, including its object. */
void ahci_port_free(struct ahci_port *port);

/* ---- port.c ---- */

/* Brings up every port of the controller; each note says how it went. */
MUST_USE enum status ahci_ports_start(struct ahci_hba *hba);

/* Stops the ports and frees their memory. */
void ahci_ports_stop(struct ahci_hba *hba);

/* Resets a port after an error and checks that the same disk answers; otherwise the port is dead.
 * Returns whether the port is usable. */
bool ahci_port_recover(struct ahci_port *port);

/* Restarts the command engine without a reset of the link, which keeps the log of queued errors in
 * the disk. Returns whether the port takes commands again. */
bool ahci_port_restart(struct ahci_port *port);

/* Returns whether the disk that answers is the one identified at the start (rule D18). */
bool ahci_port_same_disk(struct ahci_port *port);

/* Returns whether the link was lost or came up again since the last command. */
bool ahci_port_changed(const struct ahci_port *port);

/* Declares a port dead, stops its engines and resets the link, which ends all transfers. Sets
 * `untamed` if they cannot be seen to have ended. */
void ahci_port_give_up(struct ahci_port *port, const char *why, uint32_t value);

#endif

/*
 * Shared by the files of the AHCI driver: registers, structures in memory, internal calls.
 *
 * ahci.c brings up the controller and port.c its ports; command.c issues commands. No other file
 * includes this.
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
#define PxCI      0x38U

#define PxIS_PCS  (UINT32_C(1) << 6)  /* port connect change */
#define PxIS_PRCS (UINT32_C(1) << 22) /* PhyRdy change */
#define PxIS_OFS  (UINT32_C(1) << 24)
#define PxIS_IFS  (UINT32_C(1) << 27)
#define PxIS_HBDS (UINT32_C(1) << 28)
#define PxIS_HBFS (UINT32_C(1) << 29)
#define PxIS_TFES (UINT32_C(1) << 30)

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
#define ATA_READ_DMA_EXT    0x25U
#define ATA_WRITE_DMA_EXT   0x35U
#define ATA_FLUSH_CACHE_EXT 0xeaU
#define ATA_IDENTIFY_DEVICE 0xecU

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
    uint16_t identify[256]; /* receives the data of IDENTIFY DEVICE */
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
    CHECK(slot < AHCI_SLOTS_USED);
    return frame_pointer(port->tables[slot]);
}

/* In port.c. Brings up every port of the controller; each note says how it went. */
MUST_USE enum status ahci_ports_start(struct ahci_hba *hba);

/* Stops the ports and frees their memory. */
void ahci_ports_stop(struct ahci_hba *hba);

/* Resets a port after an error and checks that the same disk answers; otherwise the port is dead.
 * Returns whether the port is usable. */
bool ahci_port_recover(struct ahci_port *port);

/* Returns whether the link was lost or came up again since the last command. */
bool ahci_port_changed(const struct ahci_port *port);

/* Declares a port dead and stops its engines. */
void ahci_port_give_up(struct ahci_port *port, const char *why, uint32_t value);

/* In command.c. Runs IDENTIFY DEVICE once, into the buffer of the lists. */
MUST_USE enum status ahci_identify(struct ahci_port *port);

#endif

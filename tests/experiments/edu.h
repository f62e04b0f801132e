/*
 * QEMU's device edu: transfers of half a page between a frame and the device's buffer, by DMA.
 *
 * A transfer that does not end in time is given up, but the device may still carry it out. So the
 * device is stopped: it may no longer reach memory (bus mastering is off), which is read back. Only
 * then the frame is as free as its owner thinks. If the device stays a bus master, the frame is
 * held for ever by a count of its own (rule D1).
 *
 * Units: bytes. Owns: nothing but the counts of frames that are held. State: edu_start -> ready ->
 * (a transfer is given up) -> stopped -> edu_start, once the device is idle. Fails with:
 * STATUS_TIMEOUT (the transfer was given up), STATUS_IO (the device is stopped). Context: thread or
 * fault, no spin lock held; waits up to two seconds.
 * Spec: QEMU docs/specs/edu.rst; PCI Local Bus 3.0, 6.2.2.
 */
#ifndef TESTS_EXPERIMENTS_EDU_H
#define TESTS_EXPERIMENTS_EDU_H

#include "lib/status.h"
#include "lib/units.h"
#include "swapdisk/pci/pci.h"

#define EDU_VENDOR UINT16_C(0x1234)
#define EDU_DEVICE UINT16_C(0x11e8)

/* QEMU 7.2 aborts at a transfer that reaches the end of the buffer: a page goes in two halves. */
#define EDU_CHUNK (PAGE_SIZE / 2)

/* The registers, 64 bits each. */
struct edu_access {
    uint64_t (*read)(void *context, unsigned reg);
    void (*write)(void *context, unsigned reg, uint64_t value);
    void *context;
};

struct edu {
    struct edu_access access;
    const struct pci_access *pci;
    struct pci_place place;
    bool ready;
    unsigned transfers; /* that ended */
    unsigned held;      /* frames that are held for ever */
    uint64_t to_memory; /* bytes that the device has written into frames */
};

/* Lets the device reach memory. Returns why not, or NULL. */
const char *edu_start(struct edu *edu);

/* Ends that. Returns whether the device is no bus master any more. */
bool edu_stop(struct edu *edu);

/* Moves half a page between the device's buffer and a frame, from this byte of it on. */
MUST_USE enum status edu_transfer(struct edu *edu, struct pfn frame, uint64_t at, bool to_memory);

#endif

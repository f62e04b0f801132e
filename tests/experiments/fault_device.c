/*
 * fault-device: can a fault drive a device?
 *
 * The pages of a section come from a device. The first one is the request: what a program writes
 * there the device takes by DMA from that page's frame. A touch of a later page is a fault, whose
 * pager lets the device fetch the request, and write its answer by DMA into the frame of the page.
 * No processor copies a byte.
 *
 * The device is QEMU's edu, which has a buffer of 4 KiB and returns what it has been sent. It waits
 * 100 ms before each transfer, so the ticks of a page are those of the device.
 */
#include "cpu/machine.h"
#include "lib/bytes.h"
#include "paging/kernel/map.h"
#include "tests/experiments/edu.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"
#include "vmm/fault/fault.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"
#include "vmm/section/section.h"

#define PAGE_TRANSFERS (2 * PAGE_SIZE / EDU_CHUNK)

#define ANSWERS 2U
#define START   UINT64_C(0x700000000)

static struct edu edu;
static struct pfn edu_request; /* the frame of page 0; the pager holds it */

static uint64_t register_read(void *context, unsigned reg)
{
    volatile uint8_t *registers = context;

    /* Below 80h QEMU takes accesses of 32 bits only. */
    return reg < 0x80 ? *(volatile uint32_t *)(registers + reg)
                      : *(volatile uint64_t *)(registers + reg);
}

static void register_write(void *context, unsigned reg, uint64_t value)
{
    volatile uint8_t *registers = context;

    *(volatile uint64_t *)(registers + reg) = value;
}

/* The pager: page 0 is blank at first; the fault of any other page is a request. The device reads
 * page 0 at any later fault, so that it must not be evicted and its frame used for something else:
 * it is held until the section ends (rule D1). */
static enum status edu_get(const void *source, uint64_t page, struct pfn frame)
{
    enum status status = OK;

    (void)source;
    if (page == 0) {
        machine_clear_frame(frame_pointer(frame));
        CHECK(pfn_is_none(edu_request));
        tree_hold(frame);
        edu_request = frame;
        return OK;
    }
    for (uint64_t at = 0; at < PAGE_SIZE && status == OK; at += EDU_CHUNK) {
        status = edu_transfer(&edu, edu_request, at, false);
        if (status == OK)
            status = edu_transfer(&edu, frame, at, true);
    }
    return status;
}

static void edu_end(const void *source)
{
    (void)source;
    if (!pfn_is_none(edu_request))
        page_release(edu_request);
    edu_request = PFN_NONE;
}

static const struct pager edu_pager = {.name = "edu", .get = edu_get, .end = edu_end};

/* ---- finding it ---- */

/* Maps the registers of the first edu device; returns why not, or NULL. */
static const char *edu_open(void)
{
    const struct pci_access *pci = hardware_pci();
    struct pci_function function;
    struct pci_scan scan;
    struct pci_bar bar;
    bool found = false;

    pci_scan_begin(&scan, pci);
    while (!found && pci_scan_next(&scan, &function))
        found = function.vendor == EDU_VENDOR && function.device == EDU_DEVICE;
    if (!found)
        return "no edu device (QEMU: -device edu,dma_mask=0xffffffff)";
    pci_wake(pci, function.place);
    bar = pci_bar(pci, function.place, 0);
    if (!bar.present || !bar.memory)
        return "the edu device has no address";
    pci_command(pci, function.place, PCI_COMMAND_MEMORY, 0);
    if (edu.access.context == NULL) /* the registers stay mapped after the first run */
        edu.access.context =
            (void *)kernel_map_device((struct phys){bar.base}, PAGE_SIZE, DEVICE_UNCACHED);
    if (edu.access.context == NULL)
        return "the edu device's registers cannot be mapped";
    edu.access.read = register_read;
    edu.access.write = register_write;
    edu.pci = pci;
    edu.place = function.place;
    return edu_start(&edu);
}

/* ---- the experiment ---- */

/* Evicts all pages that can be evicted: the request stays in its frame. Answers would be asked for
 * again, so that this is done before the first. */
static void evict_others(void)
{
    unsigned evicted = 1;

    while (evicted > 0 && reclaim_pages(16, &evicted) == OK)
        continue;
}

/* Writes a request, touches an answer; returns the ticks of the touch, 0 if it is wrong. */
static uint64_t ask(unsigned answer)
{
    uint64_t at = START + answer * PAGE_SIZE;
    uint64_t ticks;
    uint64_t word = 0;
    bool ok = page_fill(START, 0xed00 + answer);

    if (answer == 1)
        evict_others();
    ticks = machine_ticks();
    ok = ok && word_read(at, &word);
    ticks = machine_ticks() - ticks;
    return ok && page_holds(at, 0xed00 + answer) ? ticks : 0;
}

static void ask_all(struct space *space)
{
    unsigned arrived = 0;
    uint64_t most = 0;

    for (unsigned i = 1; i <= ANSWERS; i++) {
        uint64_t ticks = ask(i);

        arrived += ticks != 0;
        most = max_u64(most, ticks);
    }
    ktap_check(arrived == ANSWERS && edu.to_memory == arrived * PAGE_SIZE,
               "%u of %u answers arrived whole", arrived, ANSWERS);
    ktap_check(edu.transfers == PAGE_TRANSFERS * ANSWERS, "%u transfers for %u faults",
               edu.transfers, ANSWERS);
    ktap_check(pfn_equal(pte_frame(leaf_entry(space, START)), edu_request),
               "the request was taken from the frame that the program wrote");
    ktap_metric("arrived", arrived * PAGE_SIZE, "bytes");
    ktap_metric("copied", arrived * PAGE_SIZE - edu.to_memory, "bytes");
    ktap_metric("page", most, "ticks");
}

/* Answers that are there already cost no transfer; a request that the device refuses is told. */
static void read_again(void)
{
    unsigned before = edu.transfers;
    unsigned whole = 0;

    for (unsigned i = 1; i <= ANSWERS; i++)
        whole += page_holds(START + i * PAGE_SIZE, 0xed00 + i);
    ktap_check(whole == ANSWERS && edu.transfers == before,
               "%u answers stay when they are read again, without a transfer", whole);
}

static void fault_device_run(const struct options *options)
{
    const char *problem = edu_open();
    struct section *section;
    struct space *space;

    (void)options;
    if (problem != NULL) {
        experiment_skip_rest("%s", problem);
        return;
    }
    if (!start_space(&space))
        return;
    edu_request = PFN_NONE;
    if (SUCCEEDS(section_create(&edu_pager, NULL, (ANSWERS + 1) * PAGE_SIZE, RIGHTS_READ_WRITE,
                                &section))) {
        if (SUCCEEDS(space_map(space,
                               &SPACE_AT(START, (ANSWERS + 1) * PAGE_SIZE, RIGHTS_READ_WRITE,
                                         .flags = SPACE_SHARED, .section = section),
                               NULL))) {
            ask_all(space);
            read_again();
        }
        section_close(section);
    }
    ktap_check(edu_stop(&edu) && edu.held == 0, "the device is stopped, and %u frames are held",
               edu.held);
    end_space(space);
}

EXPERIMENT(fault_device, 335) = {
    .theme = THEME_PAGES,
    .name = "fault-device",
    .question = "Can a fault drive a device?",
    .checks = 5,
    .run = fault_device_run,
    .answer =
        {
            .text = "Yes: {arrived} bytes arrived, {copied} were copied; the device took each "
                    "request from its frame",
            .limit = "time: the device waits 100 ms before each transfer",
        },
};

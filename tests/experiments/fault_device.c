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
#include "swapdisk/pci/pci.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"
#include "vmm/fault/fault.h"
#include "vmm/section/section.h"

/* QEMU docs/specs/edu.rst. */
#define EDU_VENDOR     0x1234U
#define EDU_DEVICE     0x11e8U
#define EDU_ID         0x00U /* 0xRRrr00ed */
#define EDU_ID_MASK    UINT32_C(0xff)
#define EDU_ID_EDU     UINT32_C(0xed)
#define EDU_DMA_FROM   0x80U
#define EDU_DMA_TO     0x88U
#define EDU_DMA_COUNT  0x90U
#define EDU_DMA_ORDER  0x98U
#define EDU_BUFFER     UINT64_C(0x40000)
#define EDU_START      UINT64_C(1)
#define EDU_TO_MEMORY  UINT64_C(2)
#define EDU_TIMEOUT_MS 2000U

/* QEMU 7.2 aborts at a transfer that reaches the end of the buffer: a page goes in two halves. */
#define EDU_CHUNK      (PAGE_SIZE / 2)
#define PAGE_TRANSFERS (2 * PAGE_SIZE / EDU_CHUNK)

#define ANSWERS 2U
#define START   UINT64_C(0x700000000)

struct edu {
    volatile uint8_t *registers;
    struct pfn request; /* the frame of page 0 */
    unsigned transfers;
    uint64_t to_memory; /* bytes that the device has written into frames */
};

/* The registers stay mapped after the first run. */
static struct edu edu;

static void edu_write(unsigned reg, uint64_t value)
{
    *(volatile uint64_t *)(edu.registers + reg) = value;
}

static bool edu_runs(void)
{
    return (*(volatile uint64_t *)(edu.registers + EDU_DMA_ORDER) & EDU_START) != 0;
}

/* Moves a part of a page between memory and the device's buffer. */
static enum status edu_transfer(struct phys memory, bool to_memory)
{
    struct deadline deadline = deadline_after_ms(EDU_TIMEOUT_MS);

    edu_write(EDU_DMA_FROM, to_memory ? EDU_BUFFER : memory.address);
    edu_write(EDU_DMA_TO, to_memory ? memory.address : EDU_BUFFER);
    edu_write(EDU_DMA_COUNT, EDU_CHUNK);
    edu_write(EDU_DMA_ORDER, to_memory ? EDU_START | EDU_TO_MEMORY : EDU_START);
    while (edu_runs()) {
        machine_relax();
        if (deadline_passed(deadline))
            return STATUS_TIMEOUT;
    }
    edu.transfers++;
    edu.to_memory += to_memory ? EDU_CHUNK : 0;
    return OK;
}

/* The pager: page 0 is blank at first; the fault of any other page is a request. */
static enum status edu_get(const void *source, uint64_t page, struct pfn frame)
{
    enum status status = OK;

    (void)source;
    if (page == 0) {
        machine_clear_frame(frame_pointer(frame));
        edu.request = frame;
        return OK;
    }
    for (uint64_t at = 0; at < PAGE_SIZE && status == OK; at += EDU_CHUNK) {
        status = edu_transfer((struct phys){phys_of(edu.request).address + at}, false);
        if (status == OK)
            status = edu_transfer((struct phys){phys_of(frame).address + at}, true);
    }
    return status;
}

static const struct pager edu_pager = {.name = "edu", .get = edu_get};

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
    pci_command(pci, function.place, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0);
    if (edu.registers == NULL)
        edu.registers = kernel_map_device((struct phys){bar.base}, PAGE_SIZE, DEVICE_UNCACHED);
    if (edu.registers == NULL ||
        (*(volatile uint32_t *)(edu.registers + EDU_ID) & EDU_ID_MASK) != EDU_ID_EDU)
        return "the edu device does not answer";
    return NULL;
}

/* ---- the experiment ---- */

/* Writes a request, touches an answer; returns the ticks of the touch, 0 if it is wrong. */
static uint64_t ask(unsigned answer)
{
    uint64_t at = START + answer * PAGE_SIZE;
    uint64_t ticks;
    uint64_t word = 0;
    bool ok = page_fill(START, 0xed00 + answer);

    ticks = machine_ticks();
    ok = ok && word_read(at, &word);
    ticks = machine_ticks() - ticks;
    return ok && page_holds(at, 0xed00 + answer) ? ticks : 0;
}

static void ask_all(struct space *space)
{
    unsigned arrived = 0;
    uint64_t most = 0;

    edu.transfers = 0;
    edu.to_memory = 0;
    for (unsigned i = 1; i <= ANSWERS; i++) {
        uint64_t ticks = ask(i);

        arrived += ticks != 0;
        most = max_u64(most, ticks);
    }
    ktap_check(arrived == ANSWERS && edu.to_memory == arrived * PAGE_SIZE,
               "%u of %u answers arrived whole", arrived, ANSWERS);
    ktap_check(edu.transfers == PAGE_TRANSFERS * ANSWERS, "%u transfers for %u faults",
               edu.transfers, ANSWERS);
    ktap_check(pfn_equal(pte_frame(leaf_entry(space, START)), edu.request),
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
    edu.request = PFN_NONE;
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
    end_space(space);
}

EXPERIMENT(fault_device, 335) = {
    .theme = THEME_PAGES,
    .name = "fault-device",
    .question = "Can a fault drive a device?",
    .checks = 4,
    .run = fault_device_run,
    .answer =
        {
            .text = "Yes: {arrived} bytes arrived, {copied} were copied; the device took each "
                    "request from its frame",
            .limit = "time: the device waits 100 ms before each transfer",
        },
};

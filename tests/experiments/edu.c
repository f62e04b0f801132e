/* QEMU's device edu: transfers, and what happens to one that does not end. */
#include "tests/experiments/edu.h"

#include "cpu/machine.h"
#include "lib/check.h"
#include "pmm/frame.h"

/* QEMU docs/specs/edu.rst. */
#define EDU_ID         0x00U /* 0xRRrr00ed */
#define EDU_ID_MASK    UINT64_C(0xff)
#define EDU_ID_EDU     UINT64_C(0xed)
#define EDU_DMA_FROM   0x80U
#define EDU_DMA_TO     0x88U
#define EDU_DMA_COUNT  0x90U
#define EDU_DMA_ORDER  0x98U
#define EDU_BUFFER     UINT64_C(0x40000)
#define EDU_START      UINT64_C(1)
#define EDU_TO_MEMORY  UINT64_C(2)
#define EDU_TIMEOUT_MS 2000U

static uint64_t edu_read(const struct edu *edu, unsigned reg)
{
    return edu->access.read(edu->access.context, reg);
}

static void edu_write(const struct edu *edu, unsigned reg, uint64_t value)
{
    edu->access.write(edu->access.context, reg, value);
}

static bool edu_runs(const struct edu *edu)
{
    return (edu_read(edu, EDU_DMA_ORDER) & EDU_START) != 0;
}

const char *edu_start(struct edu *edu)
{
    edu->ready = false;
    if ((edu_read(edu, EDU_ID) & EDU_ID_MASK) != EDU_ID_EDU)
        return "the edu device does not answer";
    if (edu_runs(edu))
        return "the edu device has not ended an earlier transfer";
    pci_command(edu->pci, edu->place, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0);
    edu->transfers = 0;
    edu->to_memory = 0;
    edu->ready = true;
    return NULL;
}

/* The read of a register comes back behind all that the device has written before. */
bool edu_stop(struct edu *edu)
{
    edu->ready = false;
    pci_command(edu->pci, edu->place, 0, PCI_COMMAND_MASTER);
    (void)edu_runs(edu);
    return (edu->pci->read(edu->pci->context, edu->place, PCI_COMMAND) & PCI_COMMAND_MASTER) == 0;
}

/* Stops the device, which may still carry out the transfer of a frame that its owner will free. */
static void edu_give_up(struct edu *edu, struct pfn frame)
{
    if (edu_stop(edu))
        return;
    frame_count_up(frame);
    edu->held++;
}

enum status edu_transfer(struct edu *edu, struct pfn frame, uint64_t at, bool to_memory)
{
    struct deadline deadline = deadline_after_ms(EDU_TIMEOUT_MS);
    uint64_t memory = phys_of(frame).address + at;

    CHECK(at % EDU_CHUNK == 0 && at < PAGE_SIZE);
    if (!edu->ready)
        return STATUS_IO;
    edu_write(edu, EDU_DMA_FROM, to_memory ? EDU_BUFFER : memory);
    edu_write(edu, EDU_DMA_TO, to_memory ? memory : EDU_BUFFER);
    edu_write(edu, EDU_DMA_COUNT, EDU_CHUNK);
    edu_write(edu, EDU_DMA_ORDER, to_memory ? EDU_START | EDU_TO_MEMORY : EDU_START);
    while (edu_runs(edu)) {
        machine_relax();
        if (deadline_passed(deadline)) {
            edu_give_up(edu, frame);
            return STATUS_TIMEOUT;
        }
    }
    edu->transfers++;
    edu->to_memory += to_memory ? EDU_CHUNK : 0;
    return OK;
}

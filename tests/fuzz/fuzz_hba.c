/*
 * Fuzzes the AHCI driver with a controller that returns arbitrary register values. The driver must
 * end within its time bounds, access only existing registers, and issue only allowed commands.
 *
 * The input chooses for each read between a plausible value and its own bytes. The clock runs fast.
 * The controller may also overwrite the simulated memory.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "lib/check.h"
#include "pmm/pmm.h"
#include "swapdisk/ahci/ahci.h"
#include "swapdisk/ahci/internal.h"
#include "swapdisk/format/little.h"
#include "swapdisk/validate.h"
#include "tests/host/fake/hba.h"
#include "tests/host/fake/machine.h"

#define SECTORS 2200U

/* The worst that one run may take: every engine, link and command at its bound. */
#define LONGEST_NS UINT64_C(2000000000000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
    struct fake_hba fake;
    struct fake_disk disk;
    struct hba_access real;
    const uint8_t *data;
    size_t size;
} hostile;

static uint8_t next_byte(void)
{
    if (hostile.size == 0)
        return 0;
    hostile.size--;
    return *hostile.data++;
}

static uint32_t next_word(void)
{
    uint32_t word = 0;

    for (unsigned i = 0; i < 4; i++)
        word = word << 8 | next_byte();
    return word;
}

/* Returns the true value most of the time; sometimes one wrong bit, all ones, zero or any value. */
static uint32_t hostile_read(void *context, uint32_t offset)
{
    uint32_t truth;

    (void)context;
    CHECK(offset % 4 == 0 && offset < 0x1100);
    truth = hostile.real.read(hostile.real.context, offset);
    switch (next_byte()) {
    case 1: return truth ^ UINT32_C(1) << next_byte() % 32;
    case 2: return UINT32_MAX;
    case 3: return 0;
    case 4: return next_word();
    case 5: hostile.fake.gone = !hostile.fake.gone; return truth;
    case 6: hostile.fake.ports[0].is |= next_word(); return truth;
    case 7: hostile.fake.ports[0].tfd = next_word(); return truth;
    case 8:
        fake_hba_attach(&hostile.fake, 0, (enum fake_device)(next_byte() % 5), &hostile.disk);
        return truth;
    default: return truth;
    }
}

/* Checks each command that reaches the disk before it is carried out. */
static void hostile_write(void *context, uint32_t offset, uint32_t value)
{
    (void)context;
    CHECK(offset % 4 == 0 && offset < 0x1100);
    hostile.real.write(hostile.real.context, offset, value);
}

static void start_over(void)
{
    fake_machine_start(16 * MIB);
    fake_clock_step_ns = 20000000;
    fake_hba_make(&hostile.fake, 2);
    if (hostile.disk.bytes != NULL)
        fake_disk_free(&hostile.disk);
    fake_disk_make(&hostile.disk, SECTORS, "Fake", "S1");
    fake_disk_prepare(&hostile.disk, 0x11);
    fake_hba_attach(&hostile.fake, 0, FAKE_DISK, &hostile.disk);
    hostile.real = fake_hba_access(&hostile.fake);
}

static enum status read_port(void *context, uint64_t lba, unsigned sectors, struct pfn frame)
{
    return ahci_read(context, lba, sectors, &frame);
}

static void use(struct ahci_port *port)
{
    struct disk_view view = {.device = port,
                             .identity = &port->identity,
                             .source = {read_port, port, port->identity.sectors, 0}};
    const struct swap_grant *grant = NULL;
    struct disk_finding finding;
    struct pfn frames[3];
    uint8_t uuid[16];

    memset(uuid, 0x11, 16);
    for (unsigned i = 0; i < 3; i++) {
        enum status status = pmm_alloc(FRAME_ANONYMOUS, FRAME_CLEARED, &frames[i]);

        CHECK(status == OK);
    }
    if (ahci_read(port, 0, 20, frames) == OK)
        CHECK(memcmp(frame_pointer(frames[1]), hostile.disk.bytes + PAGE_SIZE, PAGE_SIZE) == 0);
    if (validate_grant(&view, uuid, &grant, &finding) == OK) {
        enum status status = ahci_write(port, grant, 2056, 20, frames);

        if (status == OK)
            status = ahci_flush(port);
        CHECK(ahci_write(port, grant, 2040, 20, frames) != OK);
    }
    CHECK(ahci_write(port, NULL, 2056, 20, frames) != OK);
    swap_grant_revoke();
    for (unsigned i = 0; i < 3; i++)
        pmm_free(frames[i]);
}

/* Whatever the registers returned, writes stay inside the partition. */
static void judge(void)
{
    uint64_t last = fake_disk_partition(&hostile.disk).last_lba;

    for (size_t i = 0; i < hostile.disk.log_count; i++) {
        const struct fake_event *event = &hostile.disk.log[i];

        CHECK(event->sectors == 0 ||
              (event->lba >= 2048 && event->lba + event->sectors - 1 <= last));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct ahci_quirks none;
    static struct ahci_hba hba;
    struct hba_access access = {.read = hostile_read, .write = hostile_write, .size = 0x1100};
    uint64_t began;

    start_over();
    hostile.data = data;
    hostile.size = size;
    began = fake_clock_ns;
    if (ahci_start(&hba, &access, &none) == OK) {
        for (unsigned i = 0; i < AHCI_PORTS_MAX; i++) {
            if (hba.ports[i] != NULL)
                use(hba.ports[i]);
        }
    }
    ahci_stop(&hba);
    judge();
    CHECK_MSG(fake_clock_ns - began < LONGEST_NS, "it took %lu ns", fake_clock_ns - began);
    return 0;
}

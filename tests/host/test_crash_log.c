/* The log of a crash: written in any state of the disk, or not at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "pmm/pmm.h"
#include "swapdisk/ahci/ahci.h"
#include "swapdisk/area.h"
#include "swapdisk/disks.h"
#include "swapdisk/format/log_page.h"
#include "swapdisk/log/crash_log.h"
#include "tests/host/fake/hba.h"
#include "tests/host/fake/machine.h"

#define SECTORS 16384U
#define PAGES   8U

static struct fake_hba fake;
static struct fake_disk disk;
static struct options options;
static struct pfn frames[PAGES];
static struct disk_request requests[PAGES];
static char text[3 * LOG_PAGE_TEXT - 100];
static size_t written; /* events of the disk's log before the crash */

static int set_up(void **state)
{
    (void)state;
    fake_machine_start(32 * MIB);
    fake_clock_step_ns = 100000;
    fake_disk_make(&disk, SECTORS, "Fake", "S1");
    fake_disk_prepare_2(&disk, 0x11);
    fake_hba_make(&fake, 2);
    fake_hba_attach(&fake, 0, FAKE_DISK, &disk);
    fake_pci_clear();
    fake_pci_add_hba((struct pci_place){0, 31, 0}, &fake);
    options = (struct options){.swap = SWAP_AUTO};
    for (unsigned i = 0; i < PAGES; i++)
        assert_int_equal(pmm_alloc(FRAME_ANONYMOUS, FRAME_CLEARED, &frames[i]), OK);
    disks_scan(&options, true);
    assert_int_equal(swap_open(&options, 100), OK);
    assert_int_equal(swap_usage().backing, SWAP_BACKING_DISK);
    crash_log_ready();
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (char)('a' + i % 23);
    written = disk.log_count;
    return 0;
}

/* Brings the machine to an end all the same, so that another one can begin. */
static int tear_down(void **state)
{
    unsigned complaints = fake.complaints;

    (void)state;
    fake_clock_step_ns = 100000;
    disk.fail_count = 0;
    if (swap_disk() != NULL) {
        struct ahci_port *port = swap_disk()->block.device;

        port->state = AHCI_PORT_DEAD;
        port->issued = 0;
        (void)swap_close();
    }
    disks_stop();
    crash_log_over();
    fake_disk_free(&disk);
    fake_clock_step_ns = 1000;
    if (complaints != 0)
        fail_msg("%u complaints, the first: %s", complaints, fake.complaint);
    memset(&fake, 0, sizeof(fake));
    return 0;
}

static struct ahci_port *the_port(void)
{
    return swap_disk()->block.device;
}

/* Returns whether the log area has the text as the log of a run. */
static bool kept(uint64_t run)
{
    const struct swap_header *header = &swap_disk()->finding.header;
    unsigned found = 0;

    for (uint64_t page = 0; page < header->log_sectors / SECTORS_PER_PAGE; page++) {
        const uint8_t *bytes =
            fake_disk_sector(&disk, header->log_first_lba + page * SECTORS_PER_PAGE);
        struct log_page log;

        if (!log_page_decode(bytes, &log) || log.run != run)
            continue;
        found += log.sequence < 3 &&
                 memcmp(log.text, text + log.sequence * LOG_PAGE_TEXT, log.length) == 0;
    }
    return found == 3;
}

/* All that was written since the crash lies in the log area. */
static void assert_only_the_area(void)
{
    const struct swap_header *header = &swap_disk()->finding.header;

    for (size_t i = written; i < disk.log_count; i++) {
        const struct fake_event *event = &disk.log[i];

        assert_true(event->sectors == 0 ||
                    (event->lba >= header->log_first_lba &&
                     event->lba + event->sectors <= header->log_first_lba + header->log_sectors));
    }
}

static enum status crash(void)
{
    struct pmm_usage before = pmm_usage();
    enum status status = crash_log_write(text, sizeof(text));
    struct pmm_usage now = pmm_usage();

    assert_memory_equal(&now, &before, sizeof(now));
    assert_only_the_area();
    return status;
}

static void submit_reads(void)
{
    for (unsigned i = 0; i < PAGES; i++) {
        requests[i] = (struct disk_request){.operation = DISK_READ,
                                            .lba = 4096 + i * SECTORS_PER_PAGE,
                                            .sectors = SECTORS_PER_PAGE,
                                            .frames = &frames[i]};
        ahci_submit(the_port(), &requests[i]);
    }
}

static void a_crash_is_kept(void **state)
{
    (void)state;
    assert_int_equal(crash(), OK);
    assert_true(kept(1));
    assert_true(disk.log[disk.log_count - 1].sectors == 0);
}

/* Commands in flight end first, and nothing is lost of them. */
static void commands_in_flight(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        fake.shuffle = seed;
        submit_reads();
        assert_true(the_port()->issued != 0);
        assert_int_equal(crash(), OK);
        fake.shuffle = 0;
        assert_true(kept(seed));
        for (unsigned i = 0; i < PAGES; i++) {
            requests[i] = (struct disk_request){0};
            the_port()->flying[i] = NULL;
        }
        the_port()->reads = (struct request_list){0};
    }
}

static void a_driver_in_the_middle_is_left_alone(void **state)
{
    struct ahci_port *port = the_port();

    (void)state;
    port->lock = 1;
    assert_int_equal(crash(), STATUS_REFUSED);
    port->lock = 0;
    port->recovering = true;
    assert_int_equal(crash(), STATUS_REFUSED);
    port->recovering = false;
    port->broken = true;
    assert_int_equal(crash(), STATUS_REFUSED);
    port->broken = false;
    port->state = AHCI_PORT_DEAD;
    assert_int_equal(crash(), STATUS_REFUSED);
    port->state = AHCI_PORT_READY;
    assert_int_equal(disk.log_count, written);
}

/* A command that hangs before the crash, and one of the crash: the wait ends, also with a clock
 * that stands still. */
static void a_hanging_disk(void **state)
{
    uint64_t began;

    (void)state;
    disk.failure = FAKE_HANG;
    disk.fail_from = disk.commands;
    disk.fail_count = UINT64_MAX;
    began = fake_clock_ns;
    assert_int_equal(crash(), STATUS_TIMEOUT);
    assert_true(fake_clock_ns - began < UINT64_C(11000000000));
    the_port()->issued = 0;
    fake.ports[0].ci = 0;
    fake_clock_step_ns = 0;
    assert_int_equal(crash(), STATUS_TIMEOUT);
    assert_int_equal(disk.log_count, written);
}

static void a_hang_before_the_crash(void **state)
{
    (void)state;
    disk.failure = FAKE_HANG;
    disk.fail_from = disk.commands;
    disk.fail_count = 1;
    submit_reads();
    assert_int_equal(crash(), STATUS_TIMEOUT);
    assert_int_equal(disk.log_count, written);
}

/* Each command fails in turn: the crash ends with a status, without a reset and without a try
 * more. */
static void every_command_fails_once(void **state)
{
    static const enum fake_failure failures[] = {FAKE_ERROR, FAKE_SHORT, FAKE_TORN, FAKE_LINK,
                                                 FAKE_VANISH};
    uint64_t commands;

    (void)state;
    commands = disk.commands;
    assert_int_equal(crash(), OK);
    commands = disk.commands - commands;
    assert_true(commands > 4 && commands < 100);
    for (unsigned kind = 0; kind < ARRAY_COUNT(failures); kind++) {
        for (uint64_t at = 0; at < commands; at++) {
            uint64_t resets;

            tear_down(NULL);
            set_up(NULL);
            resets = the_port()->counters.resets;
            disk.failure = failures[kind];
            disk.fail_from = disk.commands + at;
            disk.fail_count = 1;
            /* A flush has no data to be short of, and a torn write is one of several sectors. */
            if (crash() == OK)
                assert_true(kept(1) && failures[kind] != FAKE_ERROR && failures[kind] != FAKE_LINK);
            assert_int_equal(the_port()->counters.resets, resets);
            assert_true(disk.commands <= disk.fail_from + 1 || kept(1));
        }
    }
}

/* Another system has written to the disk: nothing is written any more. */
static void headers_that_changed(void **state)
{
    const struct swap_header *mine = &swap_disk()->finding.header;
    struct swap_header header = fake_disk_swap_header_2(&disk, 0x11);

    (void)state;
    header.generation = mine->generation + 1;
    fake_disk_put_headers_2(&disk, &header, NULL);
    assert_int_equal(crash(), STATUS_CORRUPT);
    header = fake_disk_swap_header_2(&disk, 0x12);
    fake_disk_put_headers_2(&disk, &header, NULL);
    assert_int_equal(crash(), STATUS_CORRUPT);
    header = fake_disk_swap_header_2(&disk, 0x11);
    header.log_first_lba -= SECTORS_PER_PAGE;
    fake_disk_put_headers_2(&disk, &header, NULL);
    assert_int_equal(crash(), STATUS_CORRUPT);
    fake_disk_sector(&disk, mine->first_lba)[3] ^= 1;
    assert_int_equal(crash(), STATUS_CORRUPT);
    assert_int_equal(disk.log_count, written);
}

static void without_a_grant(void **state)
{
    (void)state;
    swap_grant_revoke();
    assert_int_equal(crash(), STATUS_REFUSED);
    assert_int_equal(disk.log_count, written);
}

/* The mark of a run that swaps is another generation of the headers: the crash knows it. */
static void after_pages_went_out(void **state)
{
    struct slot slot;

    (void)state;
    assert_int_equal(swap_alloc(&slot), OK);
    assert_int_equal(swap_write(slot, frames[0]), OK);
    written = disk.log_count;
    assert_int_equal(crash(), OK);
    assert_true(kept(1));
}

static void before_and_after_the_area(void **state)
{
    (void)state;
    crash_log_over();
    assert_int_equal(crash_log_write(text, sizeof(text)), STATUS_NOT_FOUND);
    assert_int_equal(swap_close(), OK);
    crash_log_ready();
    assert_int_equal(crash_log_write(text, sizeof(text)), STATUS_NOT_FOUND);
    disks_stop();
    assert_int_equal(disk.log_count, written);
}

#define ONE(test_) cmocka_unit_test_setup_teardown(test_, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ONE(a_crash_is_kept),
        ONE(commands_in_flight),
        ONE(a_driver_in_the_middle_is_left_alone),
        ONE(a_hanging_disk),
        ONE(a_hang_before_the_crash),
        ONE(every_command_fails_once),
        ONE(headers_that_changed),
        ONE(without_a_grant),
        ONE(after_pages_went_out),
        ONE(before_and_after_the_area),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

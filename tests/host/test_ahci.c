/* The AHCI driver against a controller that complains, with failures of every kind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "pmm/pmm.h"
#include "swapdisk/ahci/ahci.h"
#include "swapdisk/validate.h"
#include "tests/host/fake/hba_internal.h"
#include "tests/host/fake/machine.h"

#define SECTORS 8192U
#define FIRST   2048U
#define MANY    300U

static struct fake_hba fake;
static struct fake_disk disks[2];
static struct ahci_hba hba;
static struct pfn frames[MANY];
static struct pmm_usage at_start;

static int set_up_with(uint64_t memory)
{
    fake_machine_start(memory);
    fake_clock_step_ns = 100000;
    fake_hba_make(&fake, 6);
    for (unsigned i = 0; i < 2; i++) {
        fake_disk_make(&disks[i], SECTORS, "Fake", i == 0 ? "S1" : "S2");
        for (uint64_t at = 0; at < SECTORS * SECTOR_SIZE; at++)
            disks[i].bytes[at] = (uint8_t)(at / SECTOR_SIZE + at * 7 + i);
    }
    fake_disk_prepare(&disks[0], 0x11);
    fake_hba_attach(&fake, 0, FAKE_DISK, &disks[0]);
    at_start = pmm_usage();
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(pmm_alloc(FRAME_ANONYMOUS, FRAME_CLEARED, &frames[i]), OK);
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    return set_up_with(32 * MIB);
}

static int set_up_large(void **state)
{
    (void)state;
    return set_up_with(4 * GIB + 16 * MIB);
}

static enum status start_with(const struct ahci_quirks *quirks)
{
    struct hba_access access = fake_hba_access(&fake);

    return ahci_start(&hba, &access, quirks);
}

static enum status start(void)
{
    static const struct ahci_quirks none;

    return start_with(&none);
}

static void assert_quiet(void)
{
    if (fake.complaints != 0)
        fail_msg("%u complaints, the first: %s", fake.complaints, fake.complaint);
}

static int tear_down(void **state)
{
    (void)state;
    swap_grant_revoke();
    for (unsigned i = 0; i < 2; i++)
        fake_disk_free(&disks[i]);
    fake_clock_step_ns = 1000;
    return 0;
}

/* Stops the driver and sees to it that nothing is left behind. */
static void stop(void)
{
    struct pmm_usage now;

    ahci_stop(&hba);
    for (unsigned i = 0; i < MANY; i++)
        pmm_free(frames[i]);
    now = pmm_usage();
    assert_memory_equal(&now, &at_start, sizeof(now));
    for (unsigned i = 0; i < AHCI_PORTS_MAX; i++) {
        if ((fake.pi >> i & 1) == 0 || fake.gone)
            continue;
        assert_int_equal(fake.ports[i].cmd & 0xc011, 0);
        assert_int_equal(fake.ports[i].ie, 0);
    }
    assert_int_equal(fake.ghc & 2, 0);
    assert_quiet();
}

static struct ahci_port *started_port(void)
{
    assert_int_equal(start(), OK);
    assert_non_null(hba.ports[0]);
    assert_int_equal(hba.ports[0]->state, AHCI_PORT_READY);
    return hba.ports[0];
}

static enum status read_source(void *context, uint64_t lba, unsigned sectors, struct pfn frame)
{
    return ahci_read(context, lba, sectors, &frame);
}

/* Obtains a grant for the disk of port 0 from the validator. */
static const struct swap_grant *grant_for(struct ahci_port *port)
{
    struct disk_view view = {
        .device = port,
        .identity = &port->identity,
        .source = {read_source, port, port->identity.sectors, port->identity.sector_shift}};
    const struct swap_grant *grant;
    struct disk_finding finding;
    uint8_t uuid[16];

    memset(uuid, 0x11, 16);
    assert_int_equal(validate_grant(&view, uuid, &grant, &finding), OK);
    return grant;
}

static void assert_frames_are(const struct fake_disk *disk, uint64_t lba, unsigned sectors)
{
    const uint8_t *bytes = disk->bytes + lba * SECTOR_SIZE;

    for (unsigned at = 0; at < sectors; at++)
        assert_memory_equal((uint8_t *)frame_pointer(frames[at / 8]) + at % 8 * SECTOR_SIZE,
                            bytes + (size_t)at * SECTOR_SIZE, SECTOR_SIZE);
}

static void fill_frames(uint8_t seed)
{
    for (unsigned i = 0; i < MANY; i++)
        memset(frame_pointer(frames[i]), (int)(seed + i * 3), PAGE_SIZE);
}

static void finds_what_is_there(void **state)
{
    (void)state;
    fake_hba_attach(&fake, 1, FAKE_ATAPI, NULL);
    fake_hba_attach(&fake, 2, FAKE_DISK, &disks[1]);
    fake_hba_attach(&fake, 3, FAKE_MULTIPLIER, NULL);
    fake_hba_attach(&fake, 4, FAKE_ENCLOSURE, NULL);
    assert_int_equal(start(), OK);
    assert_int_equal(hba.ports[0]->state, AHCI_PORT_READY);
    assert_string_equal(hba.ports[0]->identity.serial, "S1");
    assert_int_equal(hba.ports[0]->identity.sectors, SECTORS);
    assert_int_equal(hba.ports[1]->state, AHCI_PORT_SKIPPED);
    assert_non_null(strstr(hba.ports[1]->note, "optical"));
    assert_int_equal(hba.ports[2]->state, AHCI_PORT_READY);
    assert_string_equal(hba.ports[2]->identity.serial, "S2");
    assert_non_null(strstr(hba.ports[3]->note, "multiplier"));
    assert_non_null(strstr(hba.ports[4]->note, "enclosure"));
    assert_int_equal(hba.ports[5]->state, AHCI_PORT_EMPTY);
    assert_null(hba.ports[6]);
    stop();
}

static void reads_of_every_size(void **state)
{
    static const unsigned sizes[] = {1, 2, 7, 8, 9, 64, 1023, 1024, 1025, 2048, 2399};
    struct ahci_port *port;

    (void)state;
    port = started_port();
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        uint64_t before = port->counters.commands;
        unsigned pages = (sizes[i] + 7) / 8;

        fill_frames(1);
        assert_int_equal(ahci_read(port, 100 + i, sizes[i], frames), OK);
        assert_frames_are(&disks[0], 100 + i, sizes[i]);
        assert_int_equal(port->counters.commands - before, (pages + 127) / 128);
    }
    assert_int_equal(ahci_read(port, SECTORS - 1, 1, frames), OK);
    assert_frames_are(&disks[0], SECTORS - 1, 1);
    stop();
}

static void slow_commands(void **state)
{
    struct ahci_port *port;

    (void)state;
    fake.latency = 40;
    port = started_port();
    assert_int_equal(ahci_read(port, 5, 24, frames), OK);
    assert_frames_are(&disks[0], 5, 24);
    assert_int_equal(port->counters.errors, 0);
    stop();
}

static void ranges_past_the_end(void **state)
{
    struct ahci_port *port;
    uint64_t before;

    (void)state;
    port = started_port();
    before = port->counters.commands;
    assert_int_equal(ahci_read(port, SECTORS, 1, frames), STATUS_RANGE);
    assert_int_equal(ahci_read(port, SECTORS - 1, 2, frames), STATUS_RANGE);
    assert_int_equal(ahci_read(port, UINT64_MAX, 8, frames), STATUS_RANGE);
    assert_int_equal(ahci_read(port, UINT64_C(1) << 48, 8, frames), STATUS_RANGE);
    assert_int_equal(port->counters.commands, before);
    assert_true(PANICS((void)ahci_read(port, 0, 0, frames)));
    stop();
}

static void writes_need_a_grant(void **state)
{
    struct ahci_port *port;
    const struct swap_grant *grant;
    uint64_t last = fake_disk_partition(&disks[0]).last_lba;
    uint64_t forged[8] = {0};

    (void)state;
    port = started_port();
    assert_int_equal(ahci_write(port, NULL, FIRST, 8, frames), STATUS_REFUSED);
    assert_int_equal(
        ahci_write(port, (const struct swap_grant *)(const void *)forged, FIRST, 8, frames),
        STATUS_REFUSED);
    grant = grant_for(port);
    assert_int_equal(ahci_write(port, grant, FIRST - 1, 8, frames), STATUS_REFUSED);
    assert_int_equal(ahci_write(port, grant, last - 6, 8, frames), STATUS_REFUSED);
    assert_int_equal(ahci_write(port, grant, 0, 1, frames), STATUS_REFUSED);
    assert_int_equal(ahci_write(port, grant, SECTORS, 8, frames), STATUS_REFUSED);
    assert_int_equal(ahci_write(port, grant, UINT64_MAX, 8, frames), STATUS_REFUSED);
    /* A long write of which only the end is outside: not even its beginning is written. */
    assert_int_equal(ahci_write(port, grant, last - 1100, 2000, frames), STATUS_REFUSED);
    assert_int_equal(disks[0].log_count, 0);
    fill_frames(9);
    assert_int_equal(ahci_write(port, grant, last - 7, 8, frames), OK);
    assert_int_equal(ahci_write(port, grant, FIRST, 2048, frames), OK);
    assert_frames_are(&disks[0], FIRST, 2048);
    swap_grant_revoke();
    assert_int_equal(ahci_write(port, grant, FIRST, 8, frames), STATUS_REFUSED);
    assert_int_equal(disks[0].log_count, 3);
    stop();
}

static void grant_of_another_disk(void **state)
{
    const struct swap_grant *grant;

    (void)state;
    fake_hba_attach(&fake, 2, FAKE_DISK, &disks[1]);
    grant = grant_for(started_port());
    assert_int_equal(ahci_write(hba.ports[2], grant, FIRST, 8, frames), STATUS_REFUSED);
    assert_int_equal(disks[1].log_count, 0);
    stop();
}

/* The grant ends while a long write is under way: its next command is refused. */
static void grant_withdrawn_in_the_middle(void **state)
{
    const struct swap_grant *grant;
    struct ahci_port *port;

    (void)state;
    port = started_port();
    grant = grant_for(port);
    disks[0].on_command = swap_grant_revoke;
    assert_int_equal(ahci_write(port, grant, FIRST, 2048, frames), STATUS_REFUSED);
    assert_int_equal(disks[0].log_count, 1);
    assert_int_equal(disks[0].log[0].sectors, 1024);
    stop();
}

/* All 48 bits of an address arrive: the sectors of a large disk repeat those that are stored. */
/* Words of a built command that a stray write has changed: the controller never sees them. */
static void choke_point_reads_what_the_controller_will(void **state)
{
    struct ahci_port *port = started_port();
    const struct swap_grant *grant = grant_for(port);
    struct command command = {.opcode = ATA_WRITE_DMA_EXT,
                              .lba = FIRST + 8,
                              .sectors = 8,
                              .frames = frames,
                              .bytes = PAGE_SIZE,
                              .grant = grant};
    struct command_header *header = &port_lists(port)->headers[0];
    struct command_header sound;
    struct command_table *elsewhere = frame_pointer(frames[1]);
    uint64_t commands;

    (void)state;
    ahci_build(port, 0, &command);
    sound = *header;
    *elsewhere = *command_table(port, 0);
    elsewhere->command.fis.lba[1] = 0; /* outside of the grant */
    commands = disks[0].commands;
    header->ctba = (uint32_t)phys_of(frames[1]).address;
    assert_int_equal(ahci_issue(port, 0, grant), STATUS_REFUSED);
    *header = sound;
    header->ctbau = 1;
    assert_int_equal(ahci_issue(port, 0, grant), STATUS_REFUSED);
    for (unsigned bit = 0; bit < 16; bit++) {
        *header = sound;
        header->flags = (uint16_t)(sound.flags ^ 1U << bit);
        assert_int_equal(ahci_issue(port, 0, grant), STATUS_REFUSED);
    }
    *header = sound;
    command_table(port, 0)->command.fis.device = 0; /* no longer an LBA */
    assert_int_equal(ahci_issue(port, 0, grant), STATUS_REFUSED);
    assert_int_equal(disks[0].commands, commands);
    assert_int_equal(port->issued, 0);
    stop();
}

static void large_addresses(void **state)
{
    static const uint64_t places[] = {UINT64_C(1) << 24, UINT64_C(0x123456789a),
                                      (UINT64_C(1) << 48) - 64};
    struct ahci_port *port;

    (void)state;
    disks[0].sectors = UINT64_C(1) << 48;
    disks[0].stored = SECTORS - 13;
    fake_disk_identify(&disks[0]);
    port = started_port();
    for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
        uint64_t lba = places[i] - places[i] % disks[0].stored % 8;

        assert_true(lba % disks[0].stored + 8 <= disks[0].stored);
        assert_int_equal(ahci_read(port, lba, 8, frames), OK);
        assert_frames_are(&disks[0], lba % disks[0].stored, 8);
    }
    stop();
}

static void flush_reaches_the_disk(void **state)
{
    (void)state;
    assert_int_equal(ahci_flush(started_port()), OK);
    assert_int_equal(disks[0].log_count, 1);
    assert_int_equal(disks[0].log[0].sectors, 0);
    stop();
}

/* One failure of each kind: the retry succeeds and the data are right. */
static void single_failures_are_survived(void **state)
{
    static const enum fake_failure failures[] = {FAKE_ERROR, FAKE_HANG, FAKE_SHORT, FAKE_LINK};
    struct ahci_port *port;

    (void)state;
    fake_clock_step_ns = 10000000;
    port = started_port();
    for (size_t i = 0; i < ARRAY_COUNT(failures); i++) {
        uint64_t errors = port->counters.errors;

        disks[0].fail_from = disks[0].commands;
        disks[0].fail_count = 1;
        disks[0].failure = failures[i];
        fill_frames(3);
        assert_int_equal(ahci_read(port, 77, 24, frames), OK);
        assert_frames_are(&disks[0], 77, 24);
        assert_int_equal(port->counters.errors - errors, 1);
        assert_int_equal(port->state, AHCI_PORT_READY);
    }
    assert_int_equal(port->counters.resets, ARRAY_COUNT(failures));
    stop();
}

static void single_failures_of_writes(void **state)
{
    static const enum fake_failure failures[] = {FAKE_ERROR, FAKE_TORN, FAKE_SHORT, FAKE_LINK};
    const struct swap_grant *grant;
    struct ahci_port *port;

    (void)state;
    port = started_port();
    grant = grant_for(port);
    for (size_t i = 0; i < ARRAY_COUNT(failures); i++) {
        disks[0].fail_from = disks[0].commands;
        disks[0].fail_count = 1;
        disks[0].failure = failures[i];
        fill_frames((uint8_t)(40 + i));
        assert_int_equal(ahci_write(port, grant, FIRST + 64, 40, frames), OK);
        assert_frames_are(&disks[0], FIRST + 64, 40);
    }
    disks[0].fail_from = disks[0].commands;
    disks[0].failure = FAKE_ERROR;
    assert_int_equal(ahci_flush(port), OK);
    stop();
}

static void lasting_failure_is_an_error(void **state)
{
    struct ahci_port *port;

    (void)state;
    port = started_port();
    disks[0].bad_sector = 105;
    assert_int_equal(ahci_read(port, 100, 8, frames), STATUS_IO);
    assert_int_equal(port->counters.errors, 3);
    assert_int_equal(port->state, AHCI_PORT_READY);
    /* The disk still serves elsewhere. */
    assert_int_equal(ahci_read(port, 106, 8, frames), OK);
    assert_frames_are(&disks[0], 106, 8);
    disks[0].bad_sector = UINT64_MAX;
    assert_int_equal(ahci_read(port, 100, 8, frames), OK);
    stop();
}

static void hanging_disk_is_given_up(void **state)
{
    struct ahci_port *port;
    uint64_t began;

    (void)state;
    fake_clock_step_ns = 10000000;
    port = started_port();
    disks[0].fail_from = 0;
    disks[0].fail_count = UINT64_MAX;
    disks[0].failure = FAKE_HANG;
    began = fake_clock_ns;
    assert_int_equal(ahci_read(port, 0, 8, frames), STATUS_IO);
    assert_in_range(fake_clock_ns - began, UINT64_C(60000000000), UINT64_C(90000000000));
    assert_int_equal(port->state, AHCI_PORT_DEAD);
    began = fake_clock_ns;
    assert_int_equal(ahci_read(port, 0, 8, frames), STATUS_IO);
    assert_int_equal(ahci_flush(port), STATUS_IO);
    assert_int_equal(fake_clock_ns, began);
    stop();
}

static void vanished_disk(void **state)
{
    struct ahci_port *port;
    uint64_t began;

    (void)state;
    port = started_port();
    disks[0].fail_from = disks[0].commands;
    disks[0].fail_count = 1;
    disks[0].failure = FAKE_VANISH;
    began = fake_clock_ns;
    assert_int_equal(ahci_read(port, 0, 8, frames), STATUS_IO);
    assert_true(fake_clock_ns - began < UINT64_C(3000000000));
    assert_int_equal(port->state, AHCI_PORT_DEAD);
    assert_int_equal(ahci_read(port, 0, 8, frames), STATUS_IO);
    stop();
}

static void unplugged_while_idle(void **state)
{
    struct ahci_port *port;

    (void)state;
    port = started_port();
    fake_hba_attach(&fake, 0, FAKE_NOTHING, NULL);
    assert_int_equal(ahci_read(port, 0, 8, frames), STATUS_IO);
    assert_int_equal(port->state, AHCI_PORT_DEAD);
    stop();
}

/* Another disk in the same port must not be written under the first disk's grant. */
static void exchanged_disk_is_not_written(void **state)
{
    const struct swap_grant *grant;
    struct ahci_port *port;

    (void)state;
    port = started_port();
    grant = grant_for(port);
    fake_hba_attach(&fake, 0, FAKE_DISK, &disks[1]);
    assert_int_equal(ahci_write(port, grant, FIRST, 8, frames), STATUS_IO);
    assert_int_equal(disks[1].log_count, 0);
    assert_int_equal(port->state, AHCI_PORT_DEAD);
    stop();
}

static void exchanged_during_recovery(void **state)
{
    const struct swap_grant *grant;
    struct ahci_port *port;

    (void)state;
    port = started_port();
    grant = grant_for(port);
    fake.ports[0].replace = &disks[1];
    disks[0].fail_from = disks[0].commands;
    disks[0].fail_count = 1;
    disks[0].failure = FAKE_ERROR;
    assert_int_equal(ahci_write(port, grant, FIRST, 8, frames), STATUS_IO);
    assert_int_equal(disks[1].log_count, 0);
    assert_int_equal(port->state, AHCI_PORT_DEAD);
    stop();
}

/* The same disk stays usable after a link glitch. */
static void link_glitch(void **state)
{
    struct ahci_port *port;

    (void)state;
    port = started_port();
    fake_hba_attach(&fake, 0, FAKE_DISK, &disks[0]);
    fill_frames(8);
    assert_int_equal(ahci_read(port, 9, 8, frames), OK);
    assert_frames_are(&disks[0], 9, 8);
    assert_int_equal(port->counters.resets, 1);
    stop();
}

static void controller_disappears(void **state)
{
    struct ahci_port *port;
    uint64_t began;

    (void)state;
    port = started_port();
    fake.gone = true;
    began = fake_clock_ns;
    assert_int_equal(ahci_read(port, 0, 8, frames), STATUS_IO);
    assert_int_equal(port->state, AHCI_PORT_DEAD);
    assert_int_equal(ahci_read(port, 0, 8, frames), STATUS_IO);
    ahci_stop(&hba);
    assert_true(fake_clock_ns - began < UINT64_C(30000000000));
    /* Engines that could not be seen to stop keep their memory. */
    assert_true(pmm_usage().by_kind[FRAME_DEVICE] > 0);
}

static void absent_controller(void **state)
{
    (void)state;
    fake.gone = true;
    assert_int_equal(start(), STATUS_IO);
    assert_true(strlen(hba.note) > 0);
}

static void reset_that_never_ends(void **state)
{
    uint64_t began = fake_clock_ns;

    (void)state;
    fake.reset_sticks = true;
    assert_int_equal(start(), STATUS_TIMEOUT);
    assert_non_null(strstr(hba.note, "reset"));
    assert_true(fake_clock_ns - began < UINT64_C(2000000000));
}

static void reluctant_controllers(void **state)
{
    (void)state;
    fake.enable_writes = 2;
    fake.ghc = 0;
    fake.loses_pi = true;
    assert_int_equal(started_port()->state, AHCI_PORT_READY);
    assert_int_equal(fake.pi, 0x3f);
    stop();
}

static void never_enters_ahci_mode(void **state)
{
    (void)state;
    fake.enable_writes = 1000;
    fake.ghc = 0;
    assert_int_equal(start(), STATUS_IO);
    assert_non_null(strstr(hba.note, "AHCI mode"));
}

static void firmware_hands_over(void **state)
{
    (void)state;
    fake.cap2 = 1;
    fake.bohc = 1;
    assert_int_equal(started_port()->state, AHCI_PORT_READY);
    assert_true(fake.saw_handoff);
    stop();
}

static void firmware_never_hands_over(void **state)
{
    uint64_t began = fake_clock_ns;

    (void)state;
    fake.cap2 = 1;
    fake.bohc = 1 | 1 << 4;
    fake.firmware_stays = true;
    assert_int_equal(started_port()->state, AHCI_PORT_READY);
    assert_true(fake_clock_ns - began < UINT64_C(4000000000));
    stop();
}

static void no_ports(void **state)
{
    (void)state;
    fake.pi = 0;
    assert_int_equal(start(), STATUS_UNSUPPORTED);
    stop();
}

/* Holes in PI, and registers that end before the ports do. */
static void only_implemented_ports(void **state)
{
    struct hba_access access = fake_hba_access(&fake);
    struct ahci_quirks none = {0};

    (void)state;
    fake.pi = 0x80000015;
    fake_hba_attach(&fake, 31, FAKE_DISK, &disks[1]);
    access.size = 0x1080;
    assert_int_equal(ahci_start(&hba, &access, &none), OK);
    assert_null(hba.ports[1]);
    assert_null(hba.ports[31]);
    assert_int_equal(hba.ports[0]->state, AHCI_PORT_READY);
    ahci_stop(&hba);
    access.size = 0x1100;
    assert_int_equal(ahci_start(&hba, &access, &none), OK);
    assert_int_equal(hba.ports[31]->state, AHCI_PORT_READY);
    assert_int_equal(ahci_read(hba.ports[31], 3, 8, frames), OK);
    assert_frames_are(&disks[1], 3, 8);
    ahci_stop(&hba);
    access.size = 0x100;
    assert_int_equal(ahci_start(&hba, &access, &none), STATUS_UNSUPPORTED);
    assert_quiet();
}

static void stuck_engines(void **state)
{
    (void)state;
    fake_hba_attach(&fake, 2, FAKE_DISK, &disks[1]);
    fake.ports[0].fr_sticks = true;
    fake.ports[2].cr_sticks = true;
    assert_int_equal(start(), OK);
    assert_int_equal(hba.ports[0]->state, AHCI_PORT_READY);
    assert_int_equal(hba.ports[2]->state, AHCI_PORT_DEAD);
    assert_non_null(strstr(hba.ports[2]->note, "do not stop"));
    fake.ports[2].cr_sticks = false;
    stop();
}

static void broken_devices_do_not_hold_up_the_others(void **state)
{
    uint64_t began = fake_clock_ns;

    (void)state;
    fake.pi = UINT32_MAX;
    for (unsigned i = 2; i < 32; i++) {
        fake_hba_attach(&fake, i, FAKE_DISK, &disks[1]);
        fake.ports[i].busy_for_ever = i % 2 == 0;
        fake.ports[i].link_half_up = i % 2 == 1;
    }
    assert_int_equal(start(), OK);
    assert_true(fake_clock_ns - began < UINT64_C(13000000000));
    assert_int_equal(hba.ports[0]->state, AHCI_PORT_READY);
    for (unsigned i = 2; i < 32; i++)
        assert_int_equal(hba.ports[i]->state, AHCI_PORT_DEAD);
    assert_non_null(strstr(hba.ports[2]->note, "ready"));
    assert_non_null(strstr(hba.ports[3]->note, "link"));
    stop();
}

static void identify_without_a_byte_count(void **state)
{
    (void)state;
    fake.ignores_prdbc = true;
    assert_int_equal(started_port()->state, AHCI_PORT_READY);
    stop();
}

static void identify_is_asked_twice(void **state)
{
    struct ahci_port *port;

    (void)state;
    disks[0].identify_failures = 1;
    port = started_port();
    assert_int_equal(ahci_read(port, 1, 8, frames), OK);
    /* Also where it proves that a disk is still the same. */
    disks[0].identify_failures = 1;
    disks[0].fail_from = disks[0].commands;
    disks[0].fail_count = 1;
    disks[0].failure = FAKE_ERROR;
    assert_int_equal(ahci_read(port, 2, 8, frames), OK);
    assert_frames_are(&disks[0], 2, 8);
    stop();
}

static void disk_without_an_identity(void **state)
{
    (void)state;
    disks[0].identify_failures = 2;
    assert_int_equal(start(), OK);
    assert_int_equal(hba.ports[0]->state, AHCI_PORT_DEAD);
    assert_non_null(strstr(hba.ports[0]->note, "identify"));
    stop();
}

static void unusable_disks_are_named(void **state)
{
    (void)state;
    disks[0].words[106] = 0x5000;
    disks[0].words[117] = 1024;
    fake_disk_seal(&disks[0]);
    assert_int_equal(start(), OK);
    assert_int_equal(hba.ports[0]->state, AHCI_PORT_SKIPPED);
    assert_non_null(strstr(hba.ports[0]->note, "512"));
    assert_int_equal(ahci_read(hba.ports[0], 0, 8, frames), STATUS_IO);
    stop();
}

/* High frames and a controller with 32-bit addresses: the data pass through low ones. */
static void bounce_through_low_memory(void **state)
{
    const struct swap_grant *grant;
    struct ahci_port *port;

    (void)state;
    assert_true(frames[0].index >= UINT32_C(1) << 20);
    fake.cap &= ~(UINT32_C(1) << 31);
    port = started_port();
    fill_frames(5);
    assert_int_equal(ahci_read(port, 60, 1001, frames), OK);
    assert_frames_are(&disks[0], 60, 1001);
    /* The rest of the last page, which was not read, is as it was. */
    assert_int_equal(((uint8_t *)frame_pointer(frames[125]))[SECTOR_SIZE], (uint8_t)(5 + 125 * 3));
    grant = grant_for(port);
    fill_frames(6);
    assert_int_equal(ahci_write(port, grant, FIRST + 8, 999, frames), OK);
    assert_frames_are(&disks[0], FIRST + 8, 999);
    swap_grant_revoke();
    stop();
}

static void high_memory_directly(void **state)
{
    struct ahci_port *port;
    uint64_t commands;

    (void)state;
    port = started_port();
    commands = port->counters.commands;
    assert_int_equal(ahci_read(port, 60, 1000, frames), OK);
    assert_frames_are(&disks[0], 60, 1000);
    assert_int_equal(port->counters.commands - commands, 1);
    stop();
}

static void quirks_limit_commands(void **state)
{
    struct ahci_quirks quirks = {.low_memory_only = true, .pages_max = 31};

    (void)state;
    assert_int_equal(start_with(&quirks), OK);
    assert_false(hba.wide);
    assert_int_equal(ahci_read(hba.ports[0], 0, 62 * 8, frames), OK);
    /* IDENTIFY and two reads. */
    assert_int_equal(hba.ports[0]->counters.commands, 3);
    assert_frames_are(&disks[0], 0, 62 * 8);
    stop();
}

static void no_memory(void **state)
{
    struct pfn frame;
    unsigned taken = 0;

    (void)state;
    while (pmm_alloc(FRAME_KERNEL, FRAME_UNCLEARED, &frame) == OK)
        taken++;
    assert_true(taken > 0);
    for (unsigned spare = 0; spare < 12; spare++) {
        assert_int_equal(start(), STATUS_NO_MEMORY);
        assert_int_equal(pmm_usage().by_kind[FRAME_FREE], spare);
        pmm_free((struct pfn){frames[spare].index});
    }
    assert_quiet();
}

#define CASE(name_) cmocka_unit_test_setup_teardown(name_, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(finds_what_is_there),
        CASE(reads_of_every_size),
        CASE(slow_commands),
        CASE(ranges_past_the_end),
        CASE(writes_need_a_grant),
        CASE(grant_of_another_disk),
        CASE(grant_withdrawn_in_the_middle),
        CASE(choke_point_reads_what_the_controller_will),
        CASE(large_addresses),
        CASE(flush_reaches_the_disk),
        CASE(single_failures_are_survived),
        CASE(single_failures_of_writes),
        CASE(lasting_failure_is_an_error),
        CASE(hanging_disk_is_given_up),
        CASE(vanished_disk),
        CASE(unplugged_while_idle),
        CASE(exchanged_disk_is_not_written),
        CASE(exchanged_during_recovery),
        CASE(link_glitch),
        CASE(controller_disappears),
        CASE(absent_controller),
        CASE(reset_that_never_ends),
        CASE(reluctant_controllers),
        CASE(never_enters_ahci_mode),
        CASE(firmware_hands_over),
        CASE(firmware_never_hands_over),
        CASE(no_ports),
        CASE(only_implemented_ports),
        CASE(stuck_engines),
        CASE(broken_devices_do_not_hold_up_the_others),
        CASE(identify_without_a_byte_count),
        CASE(identify_is_asked_twice),
        CASE(disk_without_an_identity),
        CASE(unusable_disks_are_named),
        cmocka_unit_test_setup_teardown(bounce_through_low_memory, set_up_large, tear_down),
        cmocka_unit_test_setup_teardown(high_memory_directly, set_up_large, tear_down),
        CASE(quirks_limit_commands),
        CASE(no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Requests of the AHCI driver: queued, completed in any order, failed, hanging, recovered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "pmm/pmm.h"
#include "swapdisk/ahci/ahci.h"
#include "swapdisk/validate.h"
#include "tests/host/fake/hba.h"
#include "tests/host/fake/machine.h"

#define SECTORS 8192U
#define FIRST   2048U /* of the partition */
#define MOST    40U   /* requests of one test */
#define PAGES   4U    /* of each */

static struct fake_hba fake;
static struct fake_disk disks[2];
static struct ahci_hba hba;
static struct ahci_port *port;
static const struct swap_grant *grant;
static struct pfn pool[MOST * PAGES];
static struct disk_request requests[MOST];
static struct pmm_usage at_start;
static unsigned told_lost;
static unsigned told_healed;

static void tell(const struct ahci_port *of, const struct ahci_error *error)
{
    assert_ptr_equal(of, port);
    *(error->healed ? &told_healed : &told_lost) += 1;
}

static enum status read_source(void *context, uint64_t lba, unsigned sectors, struct pfn frame)
{
    return ahci_read(context, lba, sectors, &frame);
}

/* A sector's content before the first write. */
static uint8_t byte_at(uint64_t at)
{
    return (uint8_t)(at / SECTOR_SIZE * 11 + at * 7);
}

static void start_driver(unsigned tags)
{
    static const struct ahci_quirks none;
    struct hba_access access = fake_hba_access(&fake);
    struct disk_finding finding;
    struct disk_view view;
    uint8_t uuid[16];

    assert_int_equal(ahci_start(&hba, &access, &none), OK);
    port = hba.ports[0];
    assert_int_equal(port->state, AHCI_PORT_READY);
    hba.on_error = tell;
    view = (struct disk_view){
        .device = port,
        .identity = &port->identity,
        .source = {read_source, port, port->identity.sectors, port->identity.sector_shift}};
    memset(uuid, 0x11, sizeof(uuid));
    assert_int_equal(validate_grant(&view, uuid, &grant, &finding), OK);
    ahci_deepen(port, tags);
}

static int set_up(void **state)
{
    (void)state;
    fake_machine_start(32 * MIB);
    fake_clock_step_ns = 100000;
    fake_hba_make(&fake, 2);
    for (unsigned i = 0; i < 2; i++) {
        fake_disk_make(&disks[i], SECTORS, "Fake", i == 0 ? "S1" : "S2");
        for (uint64_t at = 0; at < SECTORS * SECTOR_SIZE; at++)
            disks[i].bytes[at] = byte_at(at);
    }
    fake_disk_prepare(&disks[0], 0x11);
    fake_hba_attach(&fake, 0, FAKE_DISK, &disks[0]);
    at_start = pmm_usage();
    for (unsigned i = 0; i < MOST * PAGES; i++)
        assert_int_equal(pmm_alloc(FRAME_ANONYMOUS, FRAME_CLEARED, &pool[i]), OK);
    told_lost = told_healed = 0;
    memset(requests, 0, sizeof(requests));
    return 0;
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

static void assert_quiet(void)
{
    if (fake.complaints != 0)
        fail_msg("%u complaints, the first: %s", fake.complaints, fake.complaint);
}

/* Stops the driver: all memory has come back but `held` frames. */
static void stop_with(unsigned held)
{
    struct pmm_usage now;

    ahci_stop(&hba);
    for (unsigned i = 0; i < MOST * PAGES; i++)
        ahci_free_frame(pool[i]);
    fake_hba_look(&fake);
    now = pmm_usage();
    assert_int_equal(now.by_kind[FRAME_ANONYMOUS], at_start.by_kind[FRAME_ANONYMOUS] + held);
    if (held == 0)
        assert_memory_equal(&now, &at_start, sizeof(now));
    assert_quiet();
}

static void stop(void)
{
    stop_with(0);
}

/* The sectors of a request: of writes inside the partition, of reads anywhere. */
static uint64_t place(unsigned number)
{
    return FIRST + 64 + number * 48;
}

static void submit(unsigned number, enum disk_operation operation)
{
    requests[number] = (struct disk_request){.operation = operation,
                                             .lba = place(number),
                                             .sectors = PAGES * SECTORS_PER_PAGE,
                                             .frames = &pool[number * PAGES],
                                             .grant = operation == DISK_WRITE ? grant : NULL};
    for (unsigned i = 0; i < PAGES; i++)
        memset(frame_pointer(pool[number * PAGES + i]), (int)(number * 5 + i + 1), PAGE_SIZE);
    ahci_submit(port, &requests[number]);
}

/* Checks the data of a request that ended well. */
static void assert_moved(unsigned number)
{
    const uint8_t *bytes = disks[0].bytes + place(number) * SECTOR_SIZE;

    for (unsigned i = 0; i < PAGES; i++)
        assert_memory_equal(frame_pointer(pool[number * PAGES + i]), bytes + i * PAGE_SIZE,
                            PAGE_SIZE);
    if (requests[number].operation == DISK_WRITE)
        assert_int_equal(bytes[0], (uint8_t)(number * 5 + 1));
    else
        assert_int_equal(bytes[0], byte_at(place(number) * SECTOR_SIZE));
}

static enum disk_operation mixed(unsigned number)
{
    return number % 3 == 1 ? DISK_WRITE : DISK_READ;
}

static void submit_all(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        submit(i, mixed(i));
}

/* Waits for all; returns how many failed. Those that ended well have the right data. */
static unsigned await_all(unsigned count)
{
    unsigned failed = 0;

    for (unsigned i = 0; i < count; i++) {
        if (ahci_wait(port, &requests[i]) == OK)
            assert_moved(i);
        else
            failed++;
    }
    return failed;
}

static void fail_next(enum fake_failure failure, uint64_t after, uint64_t count)
{
    disks[0].fail_from = disks[0].commands + after;
    disks[0].fail_count = count;
    disks[0].failure = failure;
}

/* ---- the queue ---- */

static void many_at_a_time(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 20; seed++) {
        fake.shuffle = 0;
        if (seed == 1)
            start_driver(32);
        assert_int_equal(port->depth, 32);
        fake.shuffle = seed;
        submit_all(MOST);
        assert_int_equal(await_all(MOST), 0);
    }
    assert_int_equal(fake.ports[0].deepest, 32);
    assert_int_equal(fake.ports[0].slots_seen, UINT32_MAX);
    assert_int_equal(port->counters.deepest, 32);
    assert_int_equal(port->counters.queued, 20 * MOST);
    assert_int_equal(port->counters.errors, 0);
    stop();
}

/* The queue is as deep as controller, disk and option allow. */
static void depth_is_the_least_of_three(void **state)
{
    static const struct {
        unsigned slots, disk, tags, depth;
    } cases[] = {{32, 32, 32, 32}, {8, 32, 32, 8}, {32, 5, 32, 5}, {32, 32, 3, 3}, {32, 32, 1, 1}};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        fake.cap = (fake.cap & ~(UINT32_C(31) << 8)) | (cases[i].slots - 1) << 8;
        disks[0].words[75] = (uint16_t)(cases[i].disk - 1);
        fake_disk_seal(&disks[0]);
        fake.shuffle = 0;
        fake.ports[0].deepest = 0;
        start_driver(cases[i].tags);
        assert_int_equal(port->depth, cases[i].depth);
        fake.shuffle = 99;
        submit_all(MOST);
        assert_int_equal(await_all(MOST), 0);
        assert_int_equal(fake.ports[0].deepest, cases[i].depth == 1 ? 0 : cases[i].depth);
        ahci_stop(&hba);
        swap_grant_revoke();
    }
    start_driver(1);
    stop();
}

static void without_native_queuing(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        if (i == 0)
            fake.cap &= ~(UINT32_C(1) << 30);
        else
            disks[0].words[76] = 0;
        fake_disk_seal(&disks[0]);
        start_driver(32);
        fake.latency = 7;
        assert_int_equal(port->depth, 1);
        submit_all(MOST);
        assert_int_equal(await_all(MOST), 0);
        assert_int_equal(port->counters.queued, 0);
        assert_int_equal(fake.ports[0].slots_seen, 1);
        fake.latency = 0;
        fake.cap |= UINT32_C(1) << 30;
        ahci_stop(&hba);
        swap_grant_revoke();
    }
    start_driver(1);
    stop();
}

/* A flush among queued commands: the controller would complain about a mix (D6). */
static void others_run_alone(void **state)
{
    struct disk_request flush = {.operation = DISK_FLUSH};
    struct pfn frame = pool[(MOST - 1) * PAGES];

    (void)state;
    start_driver(32);
    fake.shuffle = 5;
    submit_all(12);
    ahci_submit(port, &flush);
    for (unsigned i = 12; i < 30; i++)
        submit(i, mixed(i));
    assert_int_equal(ahci_read(port, 8, 8, &frame), OK);
    assert_int_equal(ahci_wait(port, &flush), OK);
    assert_int_equal(await_all(30), 0);
    stop();
}

/* Queued ones that keep coming do not delay a flush for ever. */
static void a_flush_has_its_turn(void **state)
{
    struct disk_request flush = {.operation = DISK_FLUSH};
    unsigned turns = 0;

    (void)state;
    start_driver(4);
    fake.shuffle = 5;
    for (unsigned i = 0; i < 8; i++)
        submit(i, DISK_READ);
    ahci_submit(port, &flush);
    while (!request_ended(&flush) && turns++ < 50000) {
        ahci_poll(port);
        for (unsigned i = 0; i < 8; i++) {
            if (request_ended(&requests[i]))
                submit(i, DISK_READ);
        }
    }
    assert_true(request_ended(&flush));
    assert_int_equal(await_all(8), 0);
    stop();
}

/* Reads go first, and every 17th command is a write that waits. */
static void reads_go_first(void **state)
{
    unsigned reads = 0;

    (void)state;
    start_driver(2);
    fake.shuffle = 7;
    for (unsigned i = 0; i < 2; i++)
        submit(i, DISK_READ);
    submit(2, DISK_WRITE);
    for (unsigned i = 3; i < MOST; i++)
        submit(i, DISK_READ);
    assert_int_equal(ahci_wait(port, &requests[2]), OK);
    for (unsigned i = 3; i < MOST; i++)
        reads += request_ended(&requests[i]);
    assert_in_range(reads, 13, 18);
    assert_int_equal(await_all(MOST), 0);
    stop();
}

static void submit_refuses(void **state)
{
    (void)state;
    start_driver(32);
    submit(0, DISK_READ);
    assert_int_equal(ahci_wait(port, &requests[0]), OK);
    requests[1] = requests[0];
    requests[1].progress = REQUEST_NEW;
    requests[1].lba = SECTORS - 1;
    ahci_submit(port, &requests[1]);
    assert_int_equal(ahci_wait(port, &requests[1]), STATUS_RANGE);
    requests[1].operation = DISK_WRITE;
    requests[1].lba = FIRST;
    requests[1].grant = NULL;
    ahci_submit(port, &requests[1]);
    assert_int_equal(ahci_wait(port, &requests[1]), STATUS_REFUSED);
    requests[1].grant = grant;
    requests[1].lba = FIRST - 8;
    ahci_submit(port, &requests[1]);
    assert_int_equal(ahci_wait(port, &requests[1]), STATUS_REFUSED);
    assert_int_equal(disks[0].log_count, 0);
    stop();
}

/* ---- recovery ---- */

/* One of 32 fails once: all end well, and exactly one is told as healed. By the disk's log no
 * reset is needed, and the others are queued again. */
static void one_of_many_fails_once(bool log)
{
    disks[0].words[84] = log ? 0x4020 : 0x4000;
    fake_disk_seal(&disks[0]);
    start_driver(32);
    for (unsigned seed = 1; seed <= 15; seed++) {
        uint64_t resets = port->counters.resets;

        told_healed = 0;
        fake.shuffle = seed * 77;
        fail_next(FAKE_ERROR, seed * 2, 1);
        submit_all(32);
        assert_int_equal(await_all(32), 0);
        assert_int_equal(told_lost, 0);
        assert_int_equal(port->counters.resets - resets, log ? 0 : 1);
        if (log)
            assert_int_equal(told_healed, 1);
    }
    assert_int_equal(port->counters.log_reads, log ? 15 : 0);
    assert_int_equal(port->state, AHCI_PORT_READY);
    stop();
}

static void log_names_the_culprit(void **state)
{
    (void)state;
    one_of_many_fails_once(true);
}

static void reset_without_a_log(void **state)
{
    (void)state;
    one_of_many_fails_once(false);
}

/* A log that lies or cannot be read falls back on the reset. */
static void unsound_logs(void **state)
{
    (void)state;
    start_driver(8);
    for (unsigned i = 0; i < 3; i++) {
        uint64_t resets = port->counters.resets;

        disks[0].bad_log = i == 0 ? FAKE_LOG_CHECKSUM : FAKE_LOG_SOUND;
        disks[0].log_failures = i == 1;
        if (i == 2)
            disks[0].bad_log = FAKE_LOG_OTHER_TAG;
        fake.shuffle = 3 + i;
        fail_next(FAKE_ERROR, i == 2 ? 0 : 3, 1);
        submit_all(i == 2 ? 1 : 8);
        assert_int_equal(await_all(i == 2 ? 1 : 8), 0);
        assert_int_equal(port->counters.resets - resets, 1);
        assert_int_equal(told_lost, 0);
    }
    assert_int_equal(port->counters.log_reads, 3);
    stop();
}

/* A sector that stays bad costs its own request and no other. */
static void one_sector_stays_bad(void **state)
{
    (void)state;
    for (unsigned log = 0; log < 2; log++) {
        disks[0].words[84] = log != 0 ? 0x4020 : 0x4000;
        fake_disk_seal(&disks[0]);
        fake.shuffle = 0;
        start_driver(32);
        told_lost = 0;
        fake.shuffle = 8;
        disks[0].bad_sector = place(6) + 9;
        submit_all(32);
        assert_int_equal(await_all(32), 1);
        assert_int_equal(requests[6].status, STATUS_IO);
        assert_int_equal(told_lost, 1);
        assert_int_equal(port->state, AHCI_PORT_READY);
        disks[0].bad_sector = UINT64_MAX;
        ahci_stop(&hba);
        swap_grant_revoke();
    }
    start_driver(1);
    stop();
}

/* As QEMU does: the other commands go on after an error, and PxTFD hides it (D4). */
static void innocents_go_on(void **state)
{
    uint64_t began;

    (void)state;
    disks[0].words[84] = 0x4000;
    fake_disk_seal(&disks[0]);
    fake.innocents_go_on = true;
    start_driver(32);
    fake.shuffle = 4;
    disks[0].bad_sector = place(9) + 1;
    began = fake_clock_ns;
    submit_all(32);
    assert_int_equal(await_all(32), 1);
    assert_int_equal(requests[9].status, STATUS_IO);
    assert_true(fake_clock_ns - began < UINT64_C(10000000000));
    stop();
}

/* A hanging disk ends all 32 requests within the bound of one, and once: no second caller waits as
 * long again. No frame is free while its data may arrive (D1). */
static void hanging_disk(void **state)
{
    uint64_t began;

    (void)state;
    start_driver(32);
    fake_clock_step_ns = 10000000;
    fake.shuffle = 6;
    fail_next(FAKE_HANG, 0, UINT64_MAX);
    submit_all(MOST);
    began = fake_clock_ns;
    assert_int_equal(await_all(MOST), MOST);
    assert_in_range(fake_clock_ns - began, UINT64_C(60000000000), UINT64_C(90000000000));
    assert_int_equal(port->state, AHCI_PORT_DEAD);
    assert_int_equal(told_lost, MOST);
    assert_false(port->untamed);
    submit(0, DISK_READ);
    assert_int_equal(ahci_wait(port, &requests[0]), STATUS_IO);
    stop();
}

/* One command that hangs once: found by its time-out, healed, and late data harm no one. */
static void one_command_hangs(void **state)
{
    (void)state;
    start_driver(32);
    fake_clock_step_ns = 1000000;
    fake.shuffle = 6;
    fail_next(FAKE_HANG, 11, 1);
    submit_all(32);
    assert_int_equal(await_all(32), 0);
    assert_int_equal(told_healed, 1);
    fake_hba_resume(&fake, 0);
    for (unsigned i = 0; i < 32; i++)
        assert_moved(i);
    stop();
}

/* The engine of a hanging disk does not stop: the frames are held for ever (D1). */
static void untamed_disk_keeps_its_frames(void **state)
{
    (void)state;
    start_driver(1);
    fake_clock_step_ns = 10000000;
    fail_next(FAKE_HANG, 0, UINT64_MAX);
    submit(0, DISK_READ);
    fake.ports[0].cr_sticks = true;
    assert_int_equal(ahci_wait(port, &requests[0]), STATUS_IO);
    assert_true(port->untamed);
    assert_int_equal(port->counters.held, PAGES);
    for (unsigned i = 0; i < PAGES; i++)
        ahci_free_frame(pool[i]);
    fake_hba_look(&fake);
    assert_quiet();
    fake_hba_resume(&fake, 0);
    for (unsigned i = 0; i < PAGES; i++)
        assert_int_equal(pmm_alloc(FRAME_ANONYMOUS, FRAME_CLEARED, &pool[i]), OK);
    fake.ports[0].cr_sticks = false;
    stop_with(PAGES);
}

static void disk_vanishes_in_the_middle(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        fake.shuffle = 0;
        fake_hba_attach(&fake, 0, FAKE_DISK, &disks[0]);
        start_driver(32);
        told_lost = 0;
        fake.shuffle = 9;
        fail_next(FAKE_VANISH, 5, 1);
        if (i == 1)
            fake.ports[0].replace = &disks[1];
        submit_all(MOST);
        assert_true(await_all(MOST) >= 35 - 6);
        assert_int_equal(port->state, AHCI_PORT_DEAD);
        assert_int_equal(disks[1].log_count, 0);
        ahci_stop(&hba);
        swap_grant_revoke();
    }
    fake.ports[0].replace = NULL;
    fake.shuffle = 0;
    fake_hba_attach(&fake, 0, FAKE_DISK, &disks[0]);
    start_driver(1);
    stop();
}

/* Another disk answers after the reset, or where the log is read: it gets no command (D18). */
static void disk_exchanged_in_the_middle(void **state)
{
    (void)state;
    start_driver(32);
    fake.shuffle = 9;
    disks[0].words[84] = 0x4000;
    fail_next(FAKE_LINK, 5, 1);
    fake.ports[0].replace = &disks[1];
    submit_all(MOST);
    assert_true(await_all(MOST) > 0);
    assert_int_equal(port->state, AHCI_PORT_DEAD);
    assert_int_equal(disks[1].log_count, 0);
    assert_int_equal(disks[1].commands, 0);
    stop();
}

/* Recoveries after which nothing ever ends well are not repeated for ever. */
static void fruitless_recoveries_end(void **state)
{
    unsigned rounds = 0;

    (void)state;
    start_driver(32);
    fake.shuffle = 9;
    fail_next(FAKE_ERROR, 0, UINT64_MAX);
    while (port->state == AHCI_PORT_READY && rounds++ < 60) {
        submit_all(4);
        assert_int_equal(await_all(4), 4);
    }
    assert_in_range(rounds, 2, 41);
    assert_non_null(strstr(port->note, "recover"));
    stop();
}

/* ---- interrupts ---- */

/* More waits than any sleep takes that is woken. */
#define PASSES_MOST 1000000U

static unsigned passes; /* without an end of the sleep, if it is never woken */

static void pass(void)
{
    if (++passes > PASSES_MOST)
        fail_msg("a sleeper is never woken");
    fake_hba_pass(&fake);
}

static void start_with_messages(void)
{
    start_driver(32);
    fake.messages = true;
    fake_on_message = ahci_take_interrupts;
    fake_on_relax = pass;
    assert_true(ahci_interrupts_on(port));
    fake_on_relax = NULL;
    fake_may_wait = true;
    fake_on_sleep = pass;
}

static void stop_with_messages(void)
{
    fake_may_wait = false;
    fake_on_sleep = NULL;
    fake_on_message = NULL;
    stop();
}

/* Nobody polls: each completion is an interrupt's, though a message is sent only when a bit of IS
 * becomes set. A lost one would never end the wait (D7). */
static void completions_by_interrupts(void **state)
{
    (void)state;
    start_with_messages();
    for (unsigned seed = 1; seed <= 40; seed++) {
        fake.shuffle = seed * 101;
        fake.at_clearing = seed % 2 == 0;
        passes = 0;
        /* Of few, the one that is waited for is the last to end often enough. */
        submit_all(fake.at_clearing ? 2 : MOST);
        assert_int_equal(await_all(fake.at_clearing ? 2 : MOST), 0);
    }
    fake.at_clearing = false;
    assert_true(fake.sent > 40);
    stop_with_messages();
}

/* A failure wakes the sleepers; one recovers the port for all. */
static void sleepers_recover(void **state)
{
    (void)state;
    start_with_messages();
    for (unsigned seed = 1; seed <= 10; seed++) {
        fake.shuffle = seed * 77;
        disks[0].words[84] = seed % 2 == 0 ? 0x4020 : 0x4000;
        fake_disk_seal(&disks[0]);
        fail_next(seed % 3 == 0 ? FAKE_LINK : FAKE_ERROR, seed, 1);
        submit_all(MOST);
        assert_int_equal(await_all(MOST), 0);
    }
    disks[0].bad_sector = place(9) + 1;
    submit_all(MOST);
    assert_int_equal(await_all(MOST), 1);
    fail_next(FAKE_VANISH, 9, 1);
    submit_all(MOST);
    assert_true(await_all(MOST) >= MOST - 10);
    assert_int_equal(port->state, AHCI_PORT_DEAD);
    stop_with_messages();
}

static void pass_and_look(void)
{
    fake_hba_pass(&fake);
    ahci_look();
}

/* Without any message the look of each second finds the hanging command. */
static void the_look_finds_what_hangs(void **state)
{
    (void)state;
    start_with_messages();
    fake_clock_step_ns = 1000000;
    fake_on_sleep = pass_and_look;
    fail_next(FAKE_HANG, 3, 1);
    submit_all(8);
    assert_int_equal(await_all(8), 0);
    assert_int_equal(port->counters.resets, 1);
    stop_with_messages();
}

static void without_messages_it_polls(void **state)
{
    (void)state;
    start_driver(32);
    assert_false(ahci_interrupts_on(port));
    assert_false(port->interrupts);
    assert_int_equal(fake.ports[0].ie, 0);
    submit_all(MOST);
    assert_int_equal(await_all(MOST), 0);
    stop();
}

#define CASE(name_) cmocka_unit_test_setup_teardown(name_, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(many_at_a_time),
        CASE(depth_is_the_least_of_three),
        CASE(without_native_queuing),
        CASE(others_run_alone),
        CASE(a_flush_has_its_turn),
        CASE(reads_go_first),
        CASE(submit_refuses),
        CASE(log_names_the_culprit),
        CASE(reset_without_a_log),
        CASE(unsound_logs),
        CASE(one_sector_stays_bad),
        CASE(innocents_go_on),
        CASE(hanging_disk),
        CASE(one_command_hangs),
        CASE(untamed_disk_keeps_its_frames),
        CASE(disk_vanishes_in_the_middle),
        CASE(disk_exchanged_in_the_middle),
        CASE(fruitless_recoveries_end),
        CASE(completions_by_interrupts),
        CASE(sleepers_recover),
        CASE(the_look_finds_what_hangs),
        CASE(without_messages_it_polls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

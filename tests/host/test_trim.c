/*
 * TRIM: what the choke point lets pass, what a failing one does, and which slots are told free.
 *
 * A discarded sector of the fake disk has the bytes FAKE_TRIMMED, so that a page which is discarded
 * while it is needed has a wrong check value.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "pmm/pmm.h"
#include "swapdisk/ahci/ahci.h"
#include "swapdisk/area/slots.h"
#include "swapdisk/block/grant.h"
#include "swapdisk/disks.h"
#include "swapdisk/validate.h"
#include "tests/host/fake/hba_internal.h"
#include "tests/host/fake/machine.h"
#include "tests/host/fake/swap_rig.h"

#define SECTORS    8192U
#define FIRST      2048U
#define SLOTS_MOST 1024U

#define WORD_DATA_SETS 169

static struct fake_hba fake;
static struct fake_disk disk;
static struct ahci_hba hba;
static struct ahci_port *port;
static const struct swap_grant *grant;
static struct pfn frames[2];
static struct slot slots[SLOTS_MOST];

static void take_frames(void)
{
    fake_machine_start(32 * MIB);
    fake_clock_step_ns = 100000;
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pmm_alloc(FRAME_ANONYMOUS, FRAME_CLEARED, &frames[i]), OK);
}

/* ---- one port ---- */

static enum status read_source(void *context, uint64_t lba, unsigned sectors, struct pfn frame)
{
    return ahci_read(context, lba, sectors, &frame);
}

static void begin_port(bool trims)
{
    static const struct ahci_quirks none;
    struct disk_finding finding;
    struct hba_access access;
    struct disk_view view;
    uint8_t uuid[16];

    take_frames();
    fake_disk_make(&disk, SECTORS, "Fake", "S1");
    disk.words[WORD_DATA_SETS] = trims;
    fake_disk_seal(&disk);
    fake_disk_prepare_2(&disk, 0x11);
    fake_hba_make(&fake, 1);
    fake_hba_attach(&fake, 0, FAKE_DISK, &disk);
    access = fake_hba_access(&fake);
    assert_int_equal(ahci_start(&hba, &access, &none), OK);
    port = hba.ports[0];
    view = (struct disk_view){.device = port,
                              .identity = &port->identity,
                              .source = {read_source, port, SECTORS, port->identity.sector_shift}};
    memset(uuid, 0x11, 16);
    assert_int_equal(validate_grant(&view, uuid, &grant, &finding), OK);
}

static void end_port(void)
{
    swap_grant_revoke();
    ahci_stop(&hba);
    if (fake.complaints != 0)
        fail_msg("%u complaints, the first: %s", fake.complaints, fake.complaint);
    fake_disk_free(&disk);
    fake_clock_step_ns = 1000;
}

/* Trims one range. */
static enum status trim_range(uint64_t lba, uint32_t sectors)
{
    struct disk_ranges ranges = {.count = 1, .range[0] = {lba, sectors}};

    return ahci_trim(port, grant, &ranges);
}

static bool is_trimmed(uint64_t lba)
{
    const uint8_t *bytes = fake_disk_sector(&disk, lba);

    for (unsigned i = 0; i < SECTOR_SIZE; i++) {
        if (bytes[i] != FAKE_TRIMMED)
            return false;
    }
    return true;
}

static void ranges_reach_the_disk(void **state)
{
    struct disk_ranges ranges = {.count = DISK_RANGES_MAX};

    (void)state;
    begin_port(true);
    for (unsigned i = 0; i < DISK_RANGES_MAX; i++)
        ranges.range[i] = (struct disk_range){FIRST + 8 + 16 * (uint64_t)i, 8};
    assert_int_equal(ahci_trim(port, grant, &ranges), OK);
    for (uint64_t lba = 0; lba < SECTORS; lba++)
        assert_int_equal(is_trimmed(lba),
                         lba >= FIRST + 8 && lba < FIRST + 8 + 1024 && (lba - FIRST - 8) % 16 < 8);
    assert_int_equal(disk.log_count, DISK_RANGES_MAX);
    assert_int_equal(port->counters.errors, 0);
    end_port();
}

/* Not even a part of a header or of the log area is discarded, though the grant has them. */
static void only_slots_are_discarded(void **state)
{
    struct swap_header header;
    uint64_t end;

    (void)state;
    begin_port(true);
    header = fake_disk_swap_header_2(&disk, 0x11);
    end = header.log_first_lba;
    assert_int_equal(trim_range(FIRST, 8), STATUS_REFUSED);
    assert_int_equal(trim_range(FIRST + 7, 1), STATUS_REFUSED);
    assert_int_equal(trim_range(FIRST + 7, 2), STATUS_REFUSED);
    assert_int_equal(trim_range(end, 1), STATUS_REFUSED);
    assert_int_equal(trim_range(end - 1, 2), STATUS_REFUSED);
    assert_int_equal(trim_range(end + 128, 8), STATUS_REFUSED);
    assert_int_equal(trim_range(0, 8), STATUS_REFUSED);
    assert_int_equal(trim_range(SECTORS - 1, 1), STATUS_REFUSED);
    assert_int_equal(trim_range(UINT64_C(0xffffffffffff), 65535), STATUS_REFUSED);
    assert_int_equal(ahci_trim(port, NULL, &(struct disk_ranges){1, {{FIRST + 8, 8}}}),
                     STATUS_REFUSED);
    assert_int_equal(
        ahci_trim(port, grant, &(struct disk_ranges){3, {{FIRST + 8, 8}, {5, 1}, {FIRST + 16, 8}}}),
        STATUS_REFUSED);
    assert_int_equal(disk.log_count, 0);
    assert_int_equal(trim_range(FIRST + 8, (uint32_t)(end - FIRST - 8)), OK);
    assert_int_equal(disk.log_count, 1);
    swap_grant_revoke();
    assert_int_equal(trim_range(FIRST + 8, 8), STATUS_REFUSED);
    assert_int_equal(disk.log_count, 1);
    end_port();
}

/* The grant for files permits writes in its runs, and no TRIM. */
static void grants_for_files_discard_nothing(void **state)
{
    const struct swap_grant *files;

    (void)state;
    begin_port(true);
    files = files_grant_make(port, FIRST, FIRST + 999);
    assert_int_equal(files_grant_add(files, FIRST + 100, 8), OK);
    assert_true(swap_grant_covers(files, port, FIRST + 100, 8));
    assert_int_equal(ahci_trim(port, files, &(struct disk_ranges){1, {{FIRST + 100, 8}}}),
                     STATUS_REFUSED);
    files_grant_revoke();
    assert_int_equal(disk.log_count, 0);
    end_port();
}

/* The words of a TRIM that was built; tests change one, and the choke point is to notice. */
static struct command_table *built_trim(void)
{
    static const struct disk_ranges ranges = {2, {{FIRST + 8, 8}, {FIRST + 64, 16}}};

    ahci_build(port, 0,
               &(struct command){.opcode = ATA_DATA_SET_MANAGEMENT,
                                 .bytes = TRIM_BLOCK_SIZE,
                                 .ranges = &ranges,
                                 .grant = grant});
    return command_table(port, 0);
}

static void assert_refused(void)
{
    assert_int_equal(ahci_issue(port, 0, grant), STATUS_REFUSED);
    assert_int_equal(port->issued, 0);
}

static void choke_point_reads_the_payload(void **state)
{
    uint64_t commands;
    uint64_t *block;

    (void)state;
    begin_port(true);
    commands = port->counters.commands;
    block = port_lists(port)->trim;
    built_trim();
    block[1] = 5 | UINT64_C(1) << 48;
    assert_refused();
    built_trim();
    block[0] += UINT64_C(60000) << 48; /* longer than all slots */
    assert_refused();
    built_trim();
    block[2] = FIRST + 8; /* a range without sectors that is not zero */
    assert_refused();
    built_trim();
    block[63] = 1 | UINT64_C(1) << 48; /* the last range that the disk reads */
    assert_refused();
    built_trim();
    memset(block, 0, TRIM_BLOCK_SIZE);
    assert_refused();
    assert_int_equal(port->counters.commands, commands);
    end_port();
}

static void choke_point_reads_the_command(void **state)
{
    struct command_table *table;
    uint64_t *copy;

    (void)state;
    begin_port(true);
    for (unsigned bit = 0; bit < 8; bit++) {
        built_trim()->command.fis.features ^= (uint8_t)(1U << bit);
        assert_refused();
        built_trim()->command.fis.features_high ^= (uint8_t)(1U << bit);
        assert_refused();
        built_trim()->command.fis.count[0] ^= (uint8_t)(1U << bit); /* more blocks than were read */
        assert_refused();
        built_trim()->command.fis.lba[1] ^= (uint8_t)(1U << bit);
        assert_refused();
    }
    /* The same ranges, in a block that anybody may change. */
    table = built_trim();
    copy = frame_pointer(frames[0]);
    memcpy(copy, port_lists(port)->trim, TRIM_BLOCK_SIZE);
    table->prds[0].dba = (uint32_t)phys_of(frames[0]).address;
    assert_refused();
    table = built_trim();
    table->prds[0].count = 255;
    assert_refused();
    table = built_trim();
    table->prds[1] = table->prds[0];
    table->prds[0].count = table->prds[1].count = 255;
    port_lists(port)->headers[0].prdtl = 2;
    assert_refused();
    built_trim();
    port_lists(port)->headers[0].flags &= (uint16_t)~COMMAND_W;
    assert_refused();
    end_port();
}

static void a_disk_without_it_gets_none(void **state)
{
    uint64_t commands;

    (void)state;
    begin_port(false);
    commands = port->counters.commands;
    assert_int_equal(trim_range(FIRST + 8, 8), STATUS_UNSUPPORTED);
    built_trim();
    assert_refused();
    assert_int_equal(port->counters.commands, commands);
    end_port();
}

/* A failing TRIM costs one attempt and one reset, and the disk serves afterwards. */
static void a_failure_is_tried_once(void **state)
{
    static const enum fake_failure failures[] = {FAKE_ERROR, FAKE_HANG, FAKE_LINK, FAKE_TORN};

    (void)state;
    for (unsigned i = 0; i < ARRAY_COUNT(failures); i++) {
        begin_port(true);
        disk.failure = failures[i];
        disk.fail_from = disk.commands;
        disk.fail_count = 1;
        assert_int_equal(trim_range(FIRST + 8, 8), STATUS_IO);
        assert_int_equal(port->counters.errors, 1);
        assert_int_equal(port->counters.lost, 1);
        assert_int_equal(port->counters.resets, 1);
        assert_int_equal(port->state, AHCI_PORT_READY);
        assert_int_equal(ahci_read(port, 5, 8, frames), OK);
        assert_int_equal(ahci_write(port, grant, FIRST + 8, 8, frames), OK);
        end_port();
    }
}

/* Reads and writes that are queued before and after a TRIM never overlap it (rule D6), which the
 * fake controller would complain about. */
static void never_beside_queued_commands(void **state)
{
    struct disk_request requests[24];
    struct disk_ranges ranges = {1, {{FIRST + 4096, 8}}};

    (void)state;
    begin_port(true);
    ahci_deepen(port, 32);
    fake.shuffle = 7;
    for (unsigned i = 0; i < 24; i++) {
        requests[i] = (struct disk_request){.operation = i % 2 == 0 ? DISK_READ : DISK_WRITE,
                                            .lba = FIRST + 8 + 8 * i,
                                            .sectors = 8,
                                            .frames = &frames[i % 2],
                                            .grant = grant};
        if (i % 8 == 4)
            requests[i] =
                (struct disk_request){.operation = DISK_TRIM, .ranges = &ranges, .grant = grant};
        ahci_submit(port, &requests[i]);
    }
    for (unsigned i = 0; i < 24; i++)
        assert_int_equal(ahci_wait(port, &requests[i]), OK);
    assert_true(port->counters.queued >= 21);
    end_port();
}

/* ---- areas ---- */

static void begin_rig(unsigned disks)
{
    take_frames();
    rig_start(disks);
}

static void end_rig(void)
{
    assert_int_equal(swap_close(), OK);
    rig_end();
}

static void write_slot(unsigned number)
{
    rig_fill(frames[0], number);
    assert_int_equal(swap_write(slots[number], frames[0]), OK);
}

static void write_slots(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(swap_alloc(&slots[i]), OK);
        write_slot(i);
    }
}

static void free_slots(unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++)
        swap_release(slots[i]);
}

static void assert_slots_whole(unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        assert_int_equal(swap_read(slots[i], frames[1]), OK);
        assert_true(rig_filled(frames[1], i));
    }
}

static bool slot_is_trimmed(unsigned number, struct slot slot)
{
    const uint8_t *bytes = rig_slot_bytes(number, slot);

    return bytes[0] == FAKE_TRIMMED && memcmp(bytes, bytes + 1, PAGE_SIZE - 1) == 0;
}

static unsigned trims_of(unsigned number)
{
    unsigned count = 0;

    for (size_t i = 0; i < rig.disks[number].log_count; i++)
        count += rig.disks[number].log[i].trim;
    return count;
}

/* Whole free clusters that were written, once; no cluster with one slot in use. */
static void free_clusters_are_told_once(void **state)
{
    (void)state;
    begin_rig(1);
    rig_open();
    write_slots(3 * SLOT_CLUSTER);
    assert_false(swap_trim());
    free_slots(SLOT_CLUSTER, 2 * SLOT_CLUSTER);
    free_slots(2 * SLOT_CLUSTER + 1, 3 * SLOT_CLUSTER);
    assert_true(swap_trim());
    assert_false(swap_trim());
    assert_int_equal(trims_of(0), 1);
    for (unsigned i = 0; i < 3 * SLOT_CLUSTER; i++)
        assert_int_equal(slot_is_trimmed(0, slots[i]), i >= SLOT_CLUSTER && i < 2 * SLOT_CLUSTER);
    assert_slots_whole(0, SLOT_CLUSTER);
    assert_slots_whole(2 * SLOT_CLUSTER, 2 * SLOT_CLUSTER + 1);
    assert_int_equal(swap_area_usage(0).disk[0].usage.trimmed, SLOT_CLUSTER);
    assert_int_equal(swap_usage().used, SLOT_CLUSTER + 1);
    swap_audit();
    /* Slots that are written and freed again are told again; until then their pages are right. */
    for (unsigned i = SLOT_CLUSTER; i < 2 * SLOT_CLUSTER; i++) {
        assert_int_equal(swap_alloc(&slots[i]), OK);
        write_slot(i);
    }
    assert_slots_whole(SLOT_CLUSTER, 2 * SLOT_CLUSTER);
    assert_false(swap_trim());
    free_slots(SLOT_CLUSTER, 2 * SLOT_CLUSTER);
    assert_true(swap_trim());
    assert_true(trims_of(0) > 1);
    assert_slots_whole(0, SLOT_CLUSTER);
    assert_slots_whole(2 * SLOT_CLUSTER, 2 * SLOT_CLUSTER + 1);
    free_slots(0, SLOT_CLUSTER);
    swap_release(slots[2 * SLOT_CLUSTER]);
    end_rig();
}

static struct {
    bool asked;
    unsigned got;    /* slots that were free during the TRIM */
    bool overlapped; /* one of them was in it */
    bool waits;      /* an allocation that finds none waits for the TRIM */
} during;

/* Asks for slots while a TRIM of the first cluster is under way. */
static void allocate_meanwhile(void)
{
    struct slot slot;
    unsigned got;

    if (during.asked)
        return;
    during.asked = true;
    while (slots_take(1, &slot, &got) == OK) {
        during.overlapped |= slot.index < SLOT_CLUSTER;
        slots[during.got++] = slot;
    }
    during.waits = PANICS((void)swap_alloc(&slot));
}

/* Slots of a TRIM that is under way go to nobody, who then waits and is not refused (rule D20). */
static void nobody_writes_what_is_being_told(void **state)
{
    (void)state;
    begin_rig(1);
    rig_open();
    memset(&during, 0, sizeof(during));
    write_slots(SLOT_CLUSTER);
    free_slots(0, SLOT_CLUSTER);
    rig.disks[0].on_command = allocate_meanwhile;
    assert_true(swap_trim());
    rig.disks[0].on_command = NULL;
    assert_int_equal(trims_of(0), 1);
    assert_true(during.asked && during.got > 0 && !during.overlapped && during.waits);
    assert_int_equal(during.got, swap_usage().slots - SLOT_CLUSTER);
    /* Afterwards the slots are free. */
    for (unsigned i = 0; i < SLOT_CLUSTER; i++)
        assert_int_equal(swap_alloc(&slots[during.got + i]), OK);
    assert_int_equal(swap_alloc(&slots[SLOTS_MOST - 1]), STATUS_NO_SPACE);
    swap_audit();
    free_slots(0, during.got + SLOT_CLUSTER);
    end_rig();
}

/* An area that is nearly full keeps its free slots for pages. */
static void a_full_area_is_left_alone(void **state)
{
    unsigned count;

    (void)state;
    begin_rig(1);
    rig_open();
    count = swap_usage().slots;
    write_slots(count);
    free_slots(SLOT_CLUSTER, 2 * SLOT_CLUSTER);
    assert_false(swap_trim());
    assert_int_equal(trims_of(0), 0);
    free_slots(0, SLOT_CLUSTER);
    free_slots(2 * SLOT_CLUSTER, count);
    end_rig();
}

/* The first failure is told, and is the last TRIM; pages go to the disk as before. */
static void a_failure_turns_it_off(void **state)
{
    (void)state;
    begin_rig(1);
    rig_open();
    write_slots(2 * SLOT_CLUSTER);
    free_slots(0, SLOT_CLUSTER);
    rig_fail(0, FAKE_ERROR, 1);
    swap_trim();
    assert_int_equal(rig_said("failed a TRIM and is sent none any more"), 1);
    assert_false(swap_trim());
    assert_true(swap_serves((struct slot){0}));
    assert_slots_whole(SLOT_CLUSTER, 2 * SLOT_CLUSTER);
    for (unsigned i = 0; i < SLOT_CLUSTER; i++) {
        assert_int_equal(swap_alloc(&slots[i]), OK);
        write_slot(i);
    }
    assert_slots_whole(0, 2 * SLOT_CLUSTER);
    free_slots(0, 2 * SLOT_CLUSTER);
    swap_audit();
    assert_int_equal(swap_close(), OK);
    assert_int_equal(trims_of(0), 0);
    assert_int_equal(rig_said("failed a TRIM"), 1);
    rig_end();
}

/* At the end every disk is told, before its mark is taken off; with wipe=1, and for a run that
 * wrote nothing, none is. */
static void told_at_the_close(void **state)
{
    (void)state;
    for (unsigned wipe = 0; wipe < 2; wipe++) {
        begin_rig(2);
        rig_name(3, NULL);
        rig.options.wipe = wipe != 0;
        rig_open();
        write_slots(3 * SLOT_CLUSTER);
        free_slots(0, 3 * SLOT_CLUSTER);
        assert_int_equal(swap_close(), OK);
        for (unsigned i = 0; i < 2; i++) {
            assert_int_equal(trims_of(i), wipe != 0 ? 0 : 1);
            assert_false(rig.disks[i].log[rig.disks[i].log_count - 1].trim);
        }
        assert_int_equal(rig_said("slots are free (TRIM)"), wipe != 0 ? 0 : 2);
        rig_open_again();
        assert_int_equal(swap_close(), OK);
        assert_int_equal(trims_of(0), wipe != 0 ? 0 : 1);
        rig_end();
    }
}

/* Another system's table is on the disk at the end: nothing is discarded. */
static void nothing_after_a_bad_last_look(void **state)
{
    (void)state;
    begin_rig(1);
    rig_open();
    write_slots(SLOT_CLUSTER);
    free_slots(0, SLOT_CLUSTER);
    fake_disk_sector(&rig.disks[0], 1)[20] ^= 1;
    assert_int_not_equal(swap_close(), OK);
    assert_int_equal(trims_of(0), 0);
    rig_end();
}

/* Each area has free clusters of its own. */
static void all_areas_are_told(void **state)
{
    (void)state;
    begin_rig(3);
    rig_name(7, NULL);
    rig_open();
    write_slots(6 * SLOT_CLUSTER);
    free_slots(0, 3 * SLOT_CLUSTER);
    assert_true(swap_trim());
    assert_false(swap_trim());
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(trims_of(i), 1);
        assert_int_equal(swap_area_usage(i).disk[0].usage.trimmed, SLOT_CLUSTER);
    }
    for (unsigned i = 0; i < 3 * SLOT_CLUSTER; i++)
        assert_true(slot_is_trimmed(rig_disk_of(slots[i]), slots[i]));
    assert_slots_whole(3 * SLOT_CLUSTER, 6 * SLOT_CLUSTER);
    free_slots(3 * SLOT_CLUSTER, 6 * SLOT_CLUSTER);
    end_rig();
}

/* Both halves of a mirror are told; one that fails leaves the other's pages right. */
static void both_halves_are_told(void **state)
{
    (void)state;
    begin_rig(2);
    rig_group(SET_MIRROR, 0, 2);
    rig_open();
    write_slots(2 * SLOT_CLUSTER);
    free_slots(0, SLOT_CLUSTER);
    rig_fail(1, FAKE_ERROR, 1);
    assert_true(swap_trim());
    assert_int_equal(trims_of(0), 1);
    assert_int_equal(trims_of(1), 0);
    assert_false(swap_trim());
    assert_slots_whole(SLOT_CLUSTER, 2 * SLOT_CLUSTER);
    free_slots(SLOT_CLUSTER, 2 * SLOT_CLUSTER);
    assert_true(swap_trim());
    assert_int_equal(trims_of(0), 2);
    assert_int_equal(trims_of(1), 0);
    end_rig();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_reach_the_disk),
        cmocka_unit_test(only_slots_are_discarded),
        cmocka_unit_test(grants_for_files_discard_nothing),
        cmocka_unit_test(choke_point_reads_the_payload),
        cmocka_unit_test(choke_point_reads_the_command),
        cmocka_unit_test(a_disk_without_it_gets_none),
        cmocka_unit_test(a_failure_is_tried_once),
        cmocka_unit_test(never_beside_queued_commands),
        cmocka_unit_test(free_clusters_are_told_once),
        cmocka_unit_test(nobody_writes_what_is_being_told),
        cmocka_unit_test(a_full_area_is_left_alone),
        cmocka_unit_test(a_failure_turns_it_off),
        cmocka_unit_test(told_at_the_close),
        cmocka_unit_test(nothing_after_a_bad_last_look),
        cmocka_unit_test(all_areas_are_told),
        cmocka_unit_test(both_halves_are_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The disk whose files may be written: named by the options, judged, and once more at the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "pmm/pmm.h"
#include "swapdisk/block/grant.h"
#include "swapdisk/disks.h"
#include "tests/host/fake/hba.h"
#include "tests/host/fake/machine.h"
#include "vmm/files/files_disk.h"

#define SECTORS 8192U
#define FIRST   2048U
#define LAST    (SECTORS - 65U)

static struct fake_hba fake;
static struct fake_disk disks[2];
static struct options options;

/* Prepares a disk for files, with a set of this byte. */
static void prepare_files(struct fake_disk *disk, uint8_t uuid_byte)
{
    static const struct bad_slots none = {.generation = 1};
    struct gpt_header table = fake_disk_gpt_header(disk);
    struct gpt_partition partition = fake_disk_partition(disk);
    struct swap_header header = fake_disk_swap_header_2(disk, uuid_byte);
    uint64_t places[2] = {FIRST + FILES_HEADER_SECTOR, swap_second_header_lba(FIRST, LAST)};

    partition.first_lba = header.first_lba = FIRST;
    partition.last_lba = header.last_lba = LAST;
    memcpy(partition.type, files_partition_type, GPT_GUID_SIZE);
    header.kind = SET_FILES;
    header.log_first_lba = 0;
    header.log_sectors = 0;
    fake_disk_put_table(disk, &table, &partition, 1);
    for (unsigned i = 0; i < 2; i++) {
        swap_header_encode(fake_disk_sector(disk, places[i]), &header);
        bad_slots_encode(fake_disk_sector(disk, places[i]), &header, &none);
    }
}

static int set_up(void **state)
{
    (void)state;
    fake_machine_start(32 * MIB);
    fake_clock_step_ns = 100000;
    fake_pci_clear();
    fake_hba_make(&fake, 4);
    for (unsigned i = 0; i < 2; i++) {
        fake_disk_make(&disks[i], SECTORS, "Fake", i == 0 ? "S1" : "S2");
        fake_hba_attach(&fake, i, FAKE_DISK, &disks[i]);
    }
    prepare_files(&disks[0], 0x31);
    fake_pci_add_hba((struct pci_place){0, 31, 0}, &fake);
    options = (struct options){.swap = SWAP_NONE, .files = true};
    memset(options.files_uuid, 0x31, sizeof(options.files_uuid));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    files_disk_close();
    disks_stop();
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(disks[i].log_count, 0);
        fake_disk_free(&disks[i]);
    }
    if (fake.complaints != 0)
        fail_msg("%u complaints, the first: %s", fake.complaints, fake.complaint);
    fake_clock_step_ns = 1000;
    return 0;
}

static const struct files_disk *opened(void)
{
    disks_scan(&options, true);
    files_disk_open(&options);
    return files_disk();
}

static void the_named_set_is_opened(void **state)
{
    const struct files_disk *disk = opened();
    const struct swap_grant *grant;
    const void *device;
    uint64_t lba = FIRST + 100;

    (void)state;
    assert_non_null(disk);
    assert_string_equal(disk->block.name, "S1");
    grant = disk->grant;
    device = disk->block.device;
    for (uint64_t at = 0; at < SECTORS; at++)
        assert_false(swap_grant_covers(grant, device, at, 1));
    assert_int_equal(files_grant_add(grant, lba, 8), OK);
    assert_true(swap_grant_covers(grant, device, lba, 8));
    assert_int_equal(files_disk_last_look(), OK);
    assert_true(swap_grant_covers(grant, device, lba, 8));
    files_disk_close();
    assert_null(files_disk());
    assert_false(swap_grant_covers(grant, device, lba, 8));
}

static void no_other_set_is_opened(void **state)
{
    (void)state;
    options.files_uuid[15] ^= 1;
    assert_null(opened());
    assert_int_equal(files_disk_last_look(), OK);
}

static void without_the_option_nothing_is_opened(void **state)
{
    (void)state;
    options.files = false;
    assert_null(opened());
}

static void two_disks_with_the_set(void **state)
{
    (void)state;
    prepare_files(&disks[1], 0x31);
    assert_null(opened());
}

static void another_set_beside_it(void **state)
{
    (void)state;
    prepare_files(&disks[1], 0x32);
    assert_non_null(opened());
    assert_string_equal(files_disk()->block.name, "S1");
}

/* A damaged header: neither the first look nor the last one accepts it. */
static void the_last_look_ends_the_grant(void **state)
{
    const struct files_disk *disk = opened();
    const struct swap_grant *grant;
    const void *device;

    (void)state;
    assert_non_null(disk);
    grant = disk->grant;
    device = disk->block.device;
    assert_int_equal(files_grant_add(grant, FIRST + 100, 8), OK);
    fake_disk_sector(&disks[0], FIRST + FILES_HEADER_SECTOR)[40] ^= 1;
    assert_int_equal(files_disk_last_look(), STATUS_CORRUPT);
    assert_null(files_disk());
    assert_false(swap_grant_covers(grant, device, FIRST + 100, 8));
    disks_stop();
    assert_null(opened());
}

/* A set for files is used on no disk with larger sectors, and the log says why. */
static void larger_sectors_are_refused(void **state)
{
    (void)state;
    fake_disk_free(&disks[0]);
    fake_disk_shift = SECTOR_SHIFT_4K;
    fake_disk_make(&disks[0], SECTORS, "Fake", "S1");
    fake_disk_shift = 0;
    prepare_files(&disks[0], 0x31);
    assert_null(opened());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_named_set_is_opened, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_other_set_is_opened, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_the_option_nothing_is_opened, set_up, tear_down),
        cmocka_unit_test_setup_teardown(two_disks_with_the_set, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_set_beside_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_last_look_ends_the_grant, set_up, tear_down),
        cmocka_unit_test_setup_teardown(larger_sectors_are_refused, set_up, tear_down),
    };

    return cmocka_run_group_tests_name("files disk", tests, NULL, NULL);
}

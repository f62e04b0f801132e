/* Write-back: dirty pages reach the file and nothing else does; errors, power cuts, and what may be
 * written at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pmm/pmm.h"
#include "swapdisk/area.h"
#include "swapdisk/block/grant.h"
#include "swapdisk/format/little.h"
#include "swapdisk/validate.h"
#include "tests/host/fake/disk.h"
#include "tests/host/fake/fat.h"
#include "tests/host/fake/machine.h"
#include "tests/host/fake/mmu.h"
#include "tests/host/model/space_model_host.h"
#include "vmm/files/file_section.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"

#define MEMORY  (16 * MIB)
#define SLOTS   256U
#define SECTORS 4096U
#define FIRST   128U /* sector of the partition */
#define LAST    (SECTORS - 65U)
#define VOLUME  (LAST - FIRST + 1 - 16) /* sectors; the second header is behind it */
#define START   (4 * MIB)
#define PAGES   12U
#define SIZE    ((PAGES - 1) * (uint32_t)PAGE_SIZE + 1800) /* three sectors, and a part */
#define STEP    3U
#define CLUSTER 2U /* sectors */

static const struct rights read_write = {.write = true, .user = true};

static struct fake_disk disk;
static struct fake_fat fat;
static struct block_device block;
static struct disk_identity identity;
static struct disk_finding finding;
static const struct swap_grant *grant;
static struct file_writer writer;
static struct space *space;
static const char *reason;
static uint32_t first_cluster;
static uint32_t directory;
static uint8_t *before; /* the disk as it was */

static int set_up(void **state)
{
    (void)state;
    return model_start_with_swap(MEMORY, SLOTS);
}

static uint8_t byte_of(uint32_t at)
{
    return (uint8_t)(at * 31 + at / 512 * 7 + 1);
}

/* Returns the byte of the disk that has this byte of the file, or of its slack. */
static uint8_t *on_disk(uint32_t offset)
{
    uint32_t bytes = CLUSTER * SECTOR_SIZE;

    return fake_fat_cluster(&fat, first_cluster + offset / bytes * STEP) + offset % bytes;
}

static void put_header(uint64_t lba, const struct swap_header *header)
{
    static const struct bad_slots none = {.generation = 1};
    uint8_t *page = fake_disk_sector(&disk, lba);

    swap_header_encode(page, header);
    bad_slots_encode(page, header, &none);
}

/* A disk with a prepared partition of files, whose volume has one file in pieces. */
static void make_disk(void)
{
    uint32_t clusters = (SIZE + CLUSTER * SECTOR_SIZE - 1) / (CLUSTER * SECTOR_SIZE);
    struct gpt_header table;
    struct gpt_partition partition;
    struct swap_header header;

    fake_disk_make(&disk, SECTORS, "Fake", "S1");
    table = fake_disk_gpt_header(&disk);
    partition = fake_disk_partition(&disk);
    partition.first_lba = FIRST;
    partition.last_lba = LAST;
    memcpy(partition.type, files_partition_type, GPT_GUID_SIZE);
    header = fake_disk_swap_header_2(&disk, 0x22);
    header.kind = SET_FILES;
    header.first_lba = FIRST;
    header.last_lba = LAST;
    header.log_first_lba = 0;
    header.log_sectors = 0;
    fake_disk_put_table(&disk, &table, &partition, 1);
    fake_fat_format(&fat, &disk, FIRST, VOLUME, CLUSTER);
    put_header(FIRST + FILES_HEADER_SECTOR, &header);
    put_header(swap_second_header_lba(FIRST, LAST), &header);
    directory = fake_fat_chain(&fat, 1, 1);
    fake_fat_enter(&fat, FAKE_FAT_ROOT, "DIR        ", NULL, 0x10, directory, 0);
    first_cluster = fake_fat_chain(&fat, clusters, STEP);
    fake_fat_enter(&fat, directory, "FILE    BIN", NULL, 0, first_cluster, SIZE);
    fake_fat_enter(&fat, directory, "OTHER   BIN", NULL, 0, first_cluster + 1, 100);
    fake_fat_set(&fat, first_cluster + 1, FAKE_FAT_LAST);
    for (uint32_t i = 0; i < clusters * CLUSTER * SECTOR_SIZE; i++)
        *on_disk(i) = i < SIZE ? byte_of(i) : 0xdd;
    block = fake_disk_block(&disk);
    identity = fake_disk_identity(&disk);
}

static struct disk_view view(void)
{
    return (struct disk_view){
        .device = &disk, .identity = &identity, .source = fake_disk_source(&disk)};
}

static void take_grant(void)
{
    struct disk_view seen = view();
    uint8_t uuid[16];

    memset(uuid, 0x22, sizeof(uuid));
    assert_int_equal(validate_files(&seen, &finding), OK);
    assert_true(finding.prepared);
    assert_int_equal(validate_files_grant(&seen, uuid, &grant, &finding), OK);
}

static void keep_before(void)
{
    before = malloc(SECTORS * SECTOR_SIZE);
    assert_non_null(before);
    memcpy(before, disk.bytes, SECTORS * SECTOR_SIZE);
}

static void map(uint64_t at)
{
    struct space_request request = SPACE_AT(at, PAGES * PAGE_SIZE, read_write,
                                            .flags = SPACE_SHARED, .section = writer.section);

    assert_int_equal(space_map(space, &request, NULL), OK);
}

static void begin(void)
{
    make_disk();
    take_grant();
    keep_before();
    model_begin(1, 4);
    model_overcommit(OVERCOMMIT_ALWAYS);
    assert_int_equal(file_section_open_to_write(&block, "dir/file.bin", grant, &writer, &reason),
                     OK);
    assert_int_equal(space_create(&space), OK);
    map(START);
    space_switch(space);
}

static void leave_disk(void)
{
    files_grant_revoke();
    fake_disk_free(&disk);
    free(before);
}

static void end(void)
{
    space_audit();
    space_switch(NULL);
    space_destroy(space);
    (void)!file_section_close_writer(&writer);
    assert_int_equal(file_sections_reap(), 0);
    assert_int_equal(swap_references(), 0);
    model_end();
    leave_disk();
}

/* Writes a byte by an instruction of a program; returns its faults. */
static int store(uint32_t offset, uint8_t value)
{
    struct phys physical;
    int faults = model_touch(START + offset, true, &physical);

    assert_true(faults >= 0);
    *(uint8_t *)phys_pointer(physical) = value;
    return faults;
}

static uint8_t load(uint32_t offset)
{
    struct phys physical;

    assert_true(model_touch(START + offset, false, &physical) >= 0);
    return *(uint8_t *)phys_pointer(physical);
}

static enum status sync_all(void)
{
    return file_section_sync(&writer, 0, UINT64_MAX);
}

/* Returns whether the sector is one of the file's. */
static bool is_of_file(uint64_t lba)
{
    uint32_t all = (uint32_t)round_up(SIZE, CLUSTER * SECTOR_SIZE);

    for (uint32_t at = 0; at < all; at += SECTOR_SIZE) {
        if (on_disk(at) == fake_disk_sector(&disk, lba))
            return true;
    }
    return false;
}

/* Compares all of the disk but the file with what it was. */
static void check_others(void)
{
    for (uint64_t lba = 0; lba < SECTORS; lba++) {
        if (!is_of_file(lba))
            assert_memory_equal(fake_disk_sector(&disk, lba), before + lba * SECTOR_SIZE,
                                SECTOR_SIZE);
    }
    for (uint32_t at = SIZE; at % (CLUSTER * SECTOR_SIZE) != 0; at++)
        assert_int_equal(*on_disk(at), 0xdd);
}

/* ---- what is written ---- */

static void stores_reach_the_file(void **state)
{
    size_t events;

    (void)state;
    begin();
    store(5, 0xa1);
    store(3 * PAGE_SIZE + 1500, 0xa2);
    store(SIZE - 1, 0xa3);
    store(SIZE + 10, 0xa4); /* behind the end, on the last page */
    (void)load(2 * PAGE_SIZE);
    assert_int_equal(sync_all(), OK);
    assert_int_equal(*on_disk(5), 0xa1);
    assert_int_equal(*on_disk(6), byte_of(6));
    assert_int_equal(*on_disk(3 * PAGE_SIZE + 1500), 0xa2);
    assert_int_equal(*on_disk(SIZE - 1), 0xa3);
    check_others();
    assert_int_equal(disk.log[disk.log_count - 1].sectors, 0); /* a flush comes last */
    events = disk.log_count;
    assert_int_equal(sync_all(), OK);
    assert_int_equal(disk.log_count, events + 1); /* nothing is dirty */
    end();
}

/* A translation that was cached before the write-back writes again: its D is set anew (W1). */
static void a_store_after_the_write_back_is_seen(void **state)
{
    (void)state;
    begin();
    for (unsigned i = 1; i <= 3; i++) {
        store(PAGE_SIZE + 3, (uint8_t)i);
        assert_int_equal(sync_all(), OK);
        assert_int_equal(*on_disk(PAGE_SIZE + 3), i);
    }
    fake_mmu_check();
    end();
}

static void section_write_reaches_the_file(void **state)
{
    uint8_t bytes[6000];
    uint64_t done;

    (void)state;
    begin();
    memset(bytes, 0xbb, sizeof(bytes));
    assert_int_equal(section_write(writer.section, 3000, bytes, sizeof(bytes), &done), OK);
    assert_int_equal(file_section_sync(&writer, 0, PAGE_SIZE), OK); /* the first page only */
    assert_int_equal(*on_disk(3000), 0xbb);
    assert_int_equal(*on_disk(PAGE_SIZE), byte_of(PAGE_SIZE));
    assert_int_equal(sync_all(), OK);
    assert_int_equal(*on_disk(8999), 0xbb);
    assert_int_equal(*on_disk(9000), byte_of(9000));
    check_others();
    end();
}

/* The file on the disk keeps its size, so its section does: the zeros behind a smaller end would be
 * written over the file's bytes, and pages behind its end would be taken for written. */
static void the_section_keeps_the_size_of_the_file(void **state)
{
    (void)state;
    begin();
    store(3000, 0xcc);
    assert_int_equal(section_resize(writer.section, 100), STATUS_DENIED);
    assert_int_equal(section_resize(writer.section, SIZE + 4 * PAGE_SIZE), STATUS_DENIED);
    assert_int_equal(section_size(writer.section), SIZE);
    assert_int_equal(sync_all(), OK);
    assert_int_equal(*on_disk(3000), 0xcc);
    assert_int_equal(*on_disk(200), byte_of(200));
    check_others();
    end();
}

static void a_page_in_a_slot_is_written(void **state)
{
    unsigned evicted;

    (void)state;
    begin();
    store(7, 0xc1);
    do {
        assert_int_equal(reclaim_pages(16, &evicted), OK);
    } while (evicted > 0);
    assert_int_equal(swap_references(), 1);
    assert_int_equal(*on_disk(7), byte_of(7));
    assert_int_equal(sync_all(), OK);
    assert_int_equal(*on_disk(7), 0xc1);
    assert_int_equal(swap_references(), 0);
    assert_int_equal(load(7), 0xc1);
    end();
}

/* The last unmap leaves the page dirty in the section; the next reaping writes it (W4). */
static void pages_that_are_unmapped_are_written(void **state)
{
    (void)state;
    begin();
    store(9, 0xd1);
    assert_int_equal(file_section_close_writer(&writer), OK);
    assert_int_equal(*on_disk(9), 0xd1);
    store(9, 0xd2);
    space_switch(NULL);
    space_destroy(space);
    assert_int_equal(*on_disk(9), 0xd1);
    assert_int_equal(file_sections_reap(), 0);
    assert_int_equal(*on_disk(9), 0xd2);
    check_others();
    assert_int_equal(file_section_open_to_write(&block, "dir/file.bin", grant, &writer, &reason),
                     OK);
    assert_int_equal(space_create(&space), OK);
    end();
}

/* ---- errors ---- */

static void every_writer_is_told_once(void **state)
{
    struct file_writer other;

    (void)state;
    begin();
    assert_int_equal(file_section_open_to_write(&block, "dir/file.bin", grant, &other, &reason),
                     OK);
    store(PAGE_SIZE, 0xe1);
    store(4 * PAGE_SIZE, 0xe2);
    disk.bad_write = (uint64_t)(on_disk(PAGE_SIZE) - disk.bytes) / SECTOR_SIZE;
    assert_int_equal(sync_all(), STATUS_IO);
    assert_int_equal(*on_disk(4 * PAGE_SIZE), 0xe2); /* the other page was tried */
    assert_int_equal(load(PAGE_SIZE), 0xe1);
    disk.bad_write = UINT64_MAX;
    assert_int_equal(sync_all(), OK);
    assert_int_equal(*on_disk(PAGE_SIZE), 0xe1);
    assert_int_equal(file_section_sync(&other, 0, UINT64_MAX), STATUS_IO);
    assert_int_equal(file_section_sync(&other, 0, UINT64_MAX), OK);
    assert_int_equal(file_section_close_writer(&other), OK);
    end();
}

/* Power goes at the n-th command, in the middle of its sectors. */
static void a_power_cut_leaves_each_sector_old_or_new(void **state)
{
    unsigned cuts = 0;

    (void)state;
    for (bool cut = true; cut; cuts++) {
        uint64_t at;

        begin();
        for (uint32_t i = 0; i < SIZE; i += 700)
            store(i, (uint8_t)~byte_of(i));
        at = disk.commands;
        disk.fail_from = at + cuts;
        disk.fail_count = UINT64_MAX;
        disk.failure = FAKE_TORN;
        cut = sync_all() != OK;
        check_others();
        for (uint32_t i = 0; i < SIZE; i++) {
            uint8_t now = i % 700 == 0 ? (uint8_t)~byte_of(i) : byte_of(i);

            assert_true(*on_disk(i) == now || (cut && *on_disk(i) == byte_of(i)));
        }
        disk.fail_count = 0;
        assert_int_equal(sync_all(), OK);
        assert_int_equal(*on_disk(700), (uint8_t)~byte_of(700));
        end();
    }
    assert_true(cuts > 10);
}

/* ---- what may be written ---- */

/* Returns the commands that it took. */
static uint64_t refused_to_write(const char *why)
{
    uint64_t commands;
    enum status status;

    take_grant();
    before = NULL;
    model_begin(1, 4);
    status = file_section_open_to_write(&block, "dir/file.bin", grant, &writer, &reason);
    assert_true(status == STATUS_REFUSED || status == STATUS_LIMIT);
    if (strstr(reason, why) == NULL)
        fail_msg("%s", reason);
    assert_int_equal(file_sections_reap(), 0);
    for (uint64_t lba = 0; lba < SECTORS; lba++)
        assert_false(swap_grant_covers(grant, &disk, lba, 1));
    commands = disk.commands;
    model_end();
    leave_disk();
    return commands;
}

static void files_that_cross_are_not_written(void **state)
{
    (void)state;
    make_disk(); /* another entry of the root begins in the middle of the file */
    fake_fat_enter(&fat, FAKE_FAT_ROOT, "CROSS   BIN", NULL, 0, first_cluster + 2 * STEP, 100);
    refused_to_write("crosses");
    make_disk(); /* a chain without an entry runs into it */
    fake_fat_set(&fat, first_cluster + 2, first_cluster + STEP);
    refused_to_write("crosses");
    make_disk(); /* so does a directory */
    fake_fat_enter(&fat, directory, "SUB        ", NULL, 0x10, first_cluster, 0);
    refused_to_write("crosses");
    make_disk();
    fake_fat_set(&fat, first_cluster, FAKE_FAT_LAST);
    refused_to_write("ends before its size");
    make_disk(); /* the second table only */
    fake_disk_sector(&disk, FIRST + FAKE_FAT_RESERVED + fat.fat_sectors)[40 * 4] ^= 1;
    refused_to_write("tables differ");
    make_disk();
    fake_fat_enter(&fat, directory, "LOOP       ", NULL, 0x10, FAKE_FAT_ROOT, 0);
    refused_to_write("");
}

/* Opens the file to read, gives its first clusters another order in both tables, and asks to write:
 * every cluster of the file still has one name in the table, but the runs in memory are old. */
static void a_chain_that_changed_is_not_written(void **state)
{
    const struct rights most = {.write = true, .user = true};
    struct section *section;

    (void)state;
    make_disk();
    take_grant();
    before = NULL;
    model_begin(1, 4);
    assert_int_equal(file_section_open_on(&block, "dir/file.bin", most, &section), OK);
    fake_fat_set(&fat, first_cluster, first_cluster + 2 * STEP);
    fake_fat_set(&fat, first_cluster + 2 * STEP, first_cluster + STEP);
    fake_fat_set(&fat, first_cluster + STEP, first_cluster + 3 * STEP);
    assert_int_equal(file_section_open_to_write(&block, "dir/file.bin", grant, &writer, &reason),
                     STATUS_REFUSED);
    assert_non_null(strstr(reason, "has changed"));
    file_section_close(section);
    assert_int_equal(file_sections_reap(), 0);
    model_end();
    leave_disk();
}

static void files_that_must_not_change_are_not_written(void **state)
{
    uint8_t *boot;

    (void)state;
    make_disk(); /* read-only, by its entry */
    fake_fat_cluster(&fat, directory)[11] = 0x01;
    refused_to_write("read-only");
    make_disk(); /* one table only is in use: other systems may read the other one */
    boot = fake_disk_sector(&disk, FIRST);
    put_le16(boot + 40, 0x81);
    refused_to_write("tables alone");
    make_disk(); /* an entry behind the end mark, which other systems see */
    memcpy(fake_fat_cluster(&fat, FAKE_FAT_ROOT) + 5 * 32, fake_fat_cluster(&fat, directory), 32);
    refused_to_write("crosses");
}

/* A directory of many clusters that has itself as an entry: reading all of its entries as often as
 * the volume has clusters would take hours on a large volume. */
static void a_loop_of_large_directories_ends_soon(void **state)
{
    uint32_t loop;

    (void)state;
    make_disk();
    loop = fake_fat_chain(&fat, 200, 1);
    for (uint32_t i = 0; i < 200; i++)
        memset(fake_fat_cluster(&fat, loop + i), 0xe5, CLUSTER * SECTOR_SIZE);
    memset(fake_fat_cluster(&fat, loop), 0, 32);
    fake_fat_enter(&fat, loop, "SELF       ", NULL, 0x10, loop, 0);
    fake_fat_enter(&fat, directory, "LOOP       ", NULL, 0x10, loop, 0);
    assert_true(refused_to_write("loop") < UINT64_C(10) * fat.clusters);
}

/* Makes sector 0, which is the protective MBR as well, the boot sector of a volume of the whole
 * disk. Its file of the same name is the allocation table of the prepared volume. */
static void add_volume_of_the_whole_disk(void)
{
    const uint32_t tables = 40;
    const uint32_t data = 72;
    uint8_t *boot = fake_disk_sector(&disk, 0);
    uint8_t *table = fake_disk_sector(&disk, tables);
    uint32_t target = FIRST + FAKE_FAT_RESERVED - data + 2;

    put_le16(boot + 11, SECTOR_SIZE);
    boot[13] = 1;
    put_le16(boot + 14, (uint16_t)tables);
    boot[16] = 1;
    put_le32(boot + 32, SECTORS);
    put_le32(boot + 36, data - tables);
    put_le32(boot + 44, 2);
    put_le32(table + 8, FAKE_FAT_LAST);
    put_le32(table + 12, FAKE_FAT_LAST);
    put_le32(table + target * 4, FAKE_FAT_LAST);
    memcpy(fake_disk_sector(&disk, data), fake_fat_cluster(&fat, FAKE_FAT_ROOT), 32);
    put_le16(fake_disk_sector(&disk, data) + 26, 3);
    memcpy(fake_disk_sector(&disk, data + 1), fake_fat_cluster(&fat, directory), 32);
    put_le16(fake_disk_sector(&disk, data + 1) + 26, (uint16_t)target);
    put_le32(fake_disk_sector(&disk, data + 1) + 28, SECTOR_SIZE);
}

static void another_volume_is_not_written(void **state)
{
    (void)state;
    make_disk();
    add_volume_of_the_whole_disk();
    refused_to_write("another volume");
}

/* A copy of the disk: the grant is not for it, and does not grow by its files. */
static void another_disk_is_not_written(void **state)
{
    struct fake_disk other;

    (void)state;
    make_disk();
    fake_disk_make(&other, SECTORS, "Fake", "S2");
    memcpy(other.bytes, disk.bytes, SECTORS * SECTOR_SIZE);
    block = fake_disk_block(&other);
    refused_to_write("another volume");
    assert_int_equal(other.log_count, 0);
    fake_disk_free(&other);
}

static void only_the_runs_of_open_files_are_granted(void **state)
{
    uint64_t lba;

    (void)state;
    begin();
    for (lba = 0; lba < SECTORS; lba++)
        assert_int_equal(swap_grant_covers(grant, &disk, lba, 1), is_of_file(lba));
    lba = (uint64_t)(on_disk(0) - disk.bytes) / SECTOR_SIZE;
    assert_true(swap_grant_covers(grant, &disk, lba, CLUSTER));
    assert_false(swap_grant_covers(grant, &disk, lba, CLUSTER + 1));
    assert_false(swap_grant_covers(grant, &disk, lba - 1, 2));
    assert_false(swap_grant_covers(grant, &disk, lba, 0));
    assert_false(swap_grant_covers(grant, &disk, lba, UINT64_MAX));
    assert_false(swap_grant_covers(grant, &identity, lba, 1));
    end();
    assert_false(swap_grant_covers(grant, &disk, lba, 1));
}

static void without_a_grant_nothing_is_written(void **state)
{
    (void)state;
    make_disk();
    before = NULL;
    model_begin(1, 4);
    assert_int_equal(file_section_open_to_write(&block, "dir/file.bin", NULL, &writer, &reason),
                     STATUS_REFUSED);
    assert_int_equal(file_sections_reap(), 0);
    model_end();
    leave_disk();
}

static bool prepared(void)
{
    struct disk_view seen = view();

    assert_int_equal(validate_files(&seen, &finding), OK);
    return finding.prepared;
}

static void any_flip_of_a_header_is_refused(void **state)
{
    uint64_t places[] = {FIRST + FILES_HEADER_SECTOR, 0};
    struct disk_view seen;

    (void)state;
    make_disk();
    before = NULL;
    places[1] = swap_second_header_lba(FIRST, LAST);
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned byte = 0; byte < SECTOR_SIZE; byte++) {
            disk.bytes[places[i] * SECTOR_SIZE + byte] ^= 4;
            if (prepared())
                fail_msg("copy %u, byte %u", i, byte);
            disk.bytes[places[i] * SECTOR_SIZE + byte] ^= 4;
        }
    }
    assert_true(prepared());
    seen = view();
    assert_int_equal(validate_disk(&seen, &finding), OK);
    assert_false(finding.prepared); /* it is no swap set */
    leave_disk();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stores_reach_the_file),
        cmocka_unit_test(a_store_after_the_write_back_is_seen),
        cmocka_unit_test(section_write_reaches_the_file),
        cmocka_unit_test(the_section_keeps_the_size_of_the_file),
        cmocka_unit_test(a_page_in_a_slot_is_written),
        cmocka_unit_test(pages_that_are_unmapped_are_written),
        cmocka_unit_test(every_writer_is_told_once),
        cmocka_unit_test(a_power_cut_leaves_each_sector_old_or_new),
        cmocka_unit_test(files_that_cross_are_not_written),
        cmocka_unit_test(a_chain_that_changed_is_not_written),
        cmocka_unit_test(files_that_must_not_change_are_not_written),
        cmocka_unit_test(a_loop_of_large_directories_ends_soon),
        cmocka_unit_test(another_volume_is_not_written),
        cmocka_unit_test(another_disk_is_not_written),
        cmocka_unit_test(only_the_runs_of_open_files_are_granted),
        cmocka_unit_test(without_a_grant_nothing_is_written),
        cmocka_unit_test(any_flip_of_a_header_is_refused),
    };

    return cmocka_run_group_tests_name("write-back", tests, set_up, NULL);
}

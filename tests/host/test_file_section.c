/* Sections of files: pages by faults from fragmented files, dropped when clean; one section for
 * each file; errors and unsound chains; where volumes are found. Nothing is ever written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/machine.h"
#include "pmm/pmm.h"
#include "swapdisk/area.h"
#include "swapdisk/format/little.h"
#include "swapdisk/fs/file.h"
#include "tests/host/fake/disk.h"
#include "tests/host/fake/fat.h"
#include "tests/host/fake/machine.h"
#include "tests/host/model/space_model_host.h"
#include "vmm/fault/fault.h"
#include "vmm/files/file_section.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"
#include "vmm/space/commit.h"

#define MEMORY  (16 * MIB)
#define SLOTS   256U
#define SECTORS 4096U
#define FIRST   128U /* sector of the partition */
#define START   (4 * MIB)
#define PAGES   10U
#define SIZE    ((PAGES - 1) * (uint32_t)PAGE_SIZE + 777)

static const struct rights read_write = {.write = true, .user = true};
static const struct rights read_only = {.user = true};
static const struct fault_access read_access = {.from_user = true};
static const struct fault_access write_access = {.write = true, .from_user = true};

static struct fake_disk disk;
static struct fake_fat fat;
static struct block_device block;
static struct section *section;
static struct space *space;
static uint32_t first_cluster;
static uint64_t kernel_before;

static int set_up(void **state)
{
    (void)state;
    return model_start_with_swap(MEMORY, SLOTS);
}

static uint8_t byte_of(uint32_t at)
{
    return (uint8_t)(at * 31 + at / 512 * 7 + 1);
}

/* Returns a cluster of the file, whose chain goes in equal steps. */
static uint8_t *cluster_at(uint32_t number, uint32_t step)
{
    return fake_fat_cluster(&fat, first_cluster + number * step);
}

/* A disk with one partition, whose volume has the file `dir/file.bin`. */
static void make_disk(uint32_t cluster_sectors, uint32_t step)
{
    uint32_t bytes = cluster_sectors * SECTOR_SIZE;
    uint32_t clusters = (SIZE + bytes - 1) / bytes;
    struct gpt_header header;
    struct gpt_partition partition;
    uint32_t directory;

    fake_disk_make(&disk, SECTORS, "Fake", "S1");
    header = fake_disk_gpt_header(&disk);
    partition = fake_disk_partition(&disk);
    partition.first_lba = FIRST;
    partition.last_lba = SECTORS - 64;
    fake_disk_put_table(&disk, &header, &partition, 1);
    fake_fat_format(&fat, &disk, FIRST, SECTORS - 64 - FIRST, cluster_sectors);
    directory = fake_fat_chain(&fat, 1, 1);
    fake_fat_enter(&fat, FAKE_FAT_ROOT, "DIR        ", NULL, 0x10, directory, 0);
    first_cluster = fake_fat_chain(&fat, clusters, step);
    fake_fat_enter(&fat, directory, "FILE    BIN", NULL, 0, first_cluster, SIZE);
    for (uint32_t i = 0; i < clusters * bytes; i++)
        cluster_at(i / bytes, step)[i % bytes] = i < SIZE ? byte_of(i) : 0xdd;
    block = fake_disk_block(&disk);
}

static void map(uint64_t at)
{
    struct space_request request = SPACE_AT(at, (PAGES + 2) * PAGE_SIZE, read_write,
                                            .flags = SPACE_SHARED, .section = section);

    assert_int_equal(space_map(space, &request, NULL), OK);
}

static void begin(uint32_t cluster_sectors, uint32_t step)
{
    make_disk(cluster_sectors, step);
    model_begin(1, 4);
    model_overcommit(OVERCOMMIT_ALWAYS);
    pmm_drain();
    kernel_before = pmm_usage().by_kind[FRAME_KERNEL];
    assert_int_equal(file_section_open_on(&block, "dir/file.bin", read_write, &section), OK);
    assert_int_equal(section_size(section), SIZE);
    assert_int_equal(space_create(&space), OK);
    map(START);
}

static void end(void)
{
    space_audit();
    space_destroy(space);
    file_section_close(section);
    assert_int_equal(file_sections_reap(), 0);
    assert_int_equal(section_count(), 0);
    assert_int_equal(swap_references(), 0);
    assert_int_equal(disk.log_count, 0);
    assert_int_equal(pmm_usage().by_kind[FRAME_KERNEL], kernel_before);
    model_end();
    fake_disk_free(&disk);
}

static uint8_t *byte_at(uint32_t offset, struct fault_access access)
{
    return model_byte(space, START + offset, access);
}

static void check_all(void)
{
    for (uint32_t page = 0; page < PAGES; page++) {
        const uint8_t *bytes = byte_at(page * (uint32_t)PAGE_SIZE, read_access);

        for (uint32_t i = 0; i < PAGE_SIZE; i++) {
            uint32_t at = page * (uint32_t)PAGE_SIZE + i;

            if (bytes[i] != (at < SIZE ? byte_of(at) : 0))
                fail_msg("byte %u is %x", at, bytes[i]);
        }
    }
    assert_int_equal(fault_resolve(space, START + PAGES * PAGE_SIZE, read_access), STATUS_RANGE);
}

static unsigned evict_all(void)
{
    unsigned evicted;
    unsigned sum = 0;

    do {
        assert_int_equal(reclaim_pages(16, &evicted), OK);
        sum += evicted;
    } while (evicted > 0);
    return sum;
}

/* ---- tests ---- */

static void pages_come_by_faults_and_go_clean(void **state)
{
    /* Sectors of a cluster, distance of clusters, and the shift of logical sectors. */
    static const uint32_t shapes[][3] = {{1, 1, 0}, {1, 2, 0},  {1, 3, 0}, {2, 2, 0}, {4, 3, 0},
                                         {8, 2, 0}, {16, 1, 0}, {8, 1, 3}, {8, 2, 3}, {16, 3, 3}};

    (void)state;
    for (unsigned i = 0; i < ARRAY_COUNT(shapes); i++) {
        fake_disk_shift = shapes[i][2];
        begin(shapes[i][0], shapes[i][1]);
        fake_disk_shift = 0;
        check_all();
        assert_int_equal(evict_all(), PAGES);
        assert_int_equal(swap_references(), 0);
        check_all();
        end();
    }
}

/* Without a pager's put a written page goes to a slot, and the file stays as it is. */
static void a_written_page_goes_to_a_slot(void **state)
{
    (void)state;
    begin(1, 2);
    *byte_at(5000, write_access) = 0xee;
    assert_int_equal(evict_all(), 1);
    assert_int_equal(swap_references(), 1);
    assert_int_equal(*byte_at(5000, read_access), 0xee);
    assert_int_equal(*byte_at(5001, read_access), byte_of(5001));
    end();
}

static void two_opens_find_one_section(void **state)
{
    struct section *again;
    struct section *third;

    (void)state;
    begin(8, 1);
    assert_int_equal(file_section_open_on(&block, "DIR\\File.Bin", read_only, &again), OK);
    assert_ptr_equal(again, section);
    assert_int_equal(file_section_open_on(&block, "dir/file.bin",
                                          (struct rights){.execute = true, .user = true}, &third),
                     STATUS_DENIED);
    file_section_close(again);
    *byte_at(0, write_access) = 99;
    file_section_close(section);
    assert_int_equal(file_sections_reap(), 1); /* it is mapped still */
    assert_int_equal(file_section_open_on(&block, "dir/file.bin", read_write, &again), OK);
    assert_ptr_equal(again, section);
    assert_int_equal(*byte_at(0, read_access), 99);
    end();
}

static void an_error_is_told_once(void **state)
{
    (void)state;
    begin(1, 2);
    disk.fail_from = disk.commands + 3; /* in the middle of a page */
    disk.fail_count = 1;
    disk.failure = FAKE_ERROR;
    assert_int_equal(fault_resolve(space, START, read_access), STATUS_IO);
    check_all();
    end();
}

static void a_chain_that_ends_early_is_read_so_far(void **state)
{
    struct disk_file *file;

    (void)state;
    begin(8, 2);
    assert_int_equal(disk_file_open(&block, "dir/file.bin", &file), OK);
    assert_null(disk_file_problem(file));
    disk_file_close(file);
    space_destroy(space);
    file_section_close(section);

    fake_fat_set(&fat, first_cluster + 2 * 4, FAKE_FAT_LAST);
    assert_int_equal(file_section_open_on(&block, "dir/file.bin", read_write, &section), OK);
    assert_int_equal(disk_file_open(&block, "dir/file.bin", &file), OK);
    assert_non_null(disk_file_problem(file));
    disk_file_close(file);
    assert_int_equal(space_create(&space), OK);
    map(START);
    assert_int_equal(*byte_at(4 * PAGE_SIZE, read_access), byte_of(4 * PAGE_SIZE));
    assert_int_equal(fault_resolve(space, START + 5 * PAGE_SIZE, read_access), STATUS_CORRUPT);
    end();
}

static enum status find(void)
{
    struct disk_file *file;
    enum status status = disk_file_open(&block, "dir/file.bin", &file);

    if (status == OK)
        disk_file_close(file);
    return status;
}

/* The same volume behind an MBR, without a table, and behind damaged ones. */
static void volumes_are_found_by_every_table(void **state)
{
    uint8_t *record;

    (void)state;
    begin(8, 1);
    disk.bytes[SECTOR_SIZE + 60] ^= 1; /* the primary header's checksum no longer holds */
    assert_int_equal(find(), STATUS_NOT_FOUND);
    record = disk.bytes + 446 + 2 * 16;
    record[4] = 0x0c;
    put_le32(record + 8, FIRST);
    put_le32(record + 12, SECTORS - 64 - FIRST);
    assert_int_equal(find(), OK);
    put_le32(record + 12, SECTORS); /* beyond the disk */
    assert_int_equal(find(), STATUS_NOT_FOUND);
    memmove(disk.bytes, disk.bytes + (size_t)FIRST * SECTOR_SIZE,
            (size_t)(SECTORS - FIRST) * SECTOR_SIZE);
    assert_int_equal(find(), OK);
    disk.bytes[510] = 0;
    assert_int_equal(find(), STATUS_NOT_FOUND);
    space_destroy(space);
    assert_int_equal(space_create(&space), OK);
    end();
}

/* A partition that cannot be read does not hide a file that another one has; its error is told
 * where no partition has the file. */
static void an_unreadable_partition_hides_nothing(void **state)
{
    struct section *none;
    struct gpt_partition partitions[2];
    struct gpt_header header;

    (void)state;
    begin(8, 1);
    header = fake_disk_gpt_header(&disk);
    partitions[0] = partitions[1] = fake_disk_partition(&disk);
    partitions[0].first_lba = FIRST - 64;
    partitions[0].last_lba = FIRST - 1;
    partitions[0].unique[0] ^= 1;
    partitions[1].first_lba = FIRST;
    partitions[1].last_lba = SECTORS - 64;
    fake_disk_put_table(&disk, &header, partitions, 2);
    disk.bad_sector = FIRST - 64;
    assert_int_equal(file_section_open_on(&block, "dir/file.bin", read_only, &none), OK);
    file_section_close(none);
    assert_int_equal(file_section_open_on(&block, "dir/other.bin", read_only, &none), STATUS_IO);
    disk.bad_sector = UINT64_MAX;
    end();
}

/* Sectors of the tables that cannot be read hide only the entries that they hold; each is tried
 * once. The error is told where no range has the file. */
static void an_unreadable_table_hides_its_entries_only(void **state)
{
    static struct gpt_partition partitions[33];
    struct gpt_header header;
    uint8_t *record;
    uint64_t commands;

    (void)state;
    begin(8, 1);
    disk.bad_sector = 0; /* the MBR */
    assert_int_equal(find(), OK);
    disk.bad_sector = 2; /* the only used entries */
    commands = disk.commands;
    assert_int_equal(find(), STATUS_IO);
    assert_in_range(disk.commands - commands, 1, 20); /* 46 if each entry reads it again */
    record = disk.bytes + 446;
    record[4] = 0x0c;
    put_le32(record + 8, FIRST);
    put_le32(record + 12, SECTORS - 64 - FIRST);
    put_le16(disk.bytes + 510, 0xaa55);
    assert_int_equal(find(), OK);
    disk.bad_sector = 1; /* the header of the GPT */
    assert_int_equal(find(), OK);
    record[4] = 0;
    assert_int_equal(find(), STATUS_IO);

    /* An entry of the second page, behind a bad first page. */
    header = fake_disk_gpt_header(&disk);
    for (unsigned i = 0; i < 33; i++) {
        partitions[i] = fake_disk_partition(&disk);
        partitions[i].first_lba = partitions[i].last_lba = FIRST - 64 + i;
        partitions[i].unique[0] ^= (uint8_t)(i + 1);
    }
    partitions[32].first_lba = FIRST;
    partitions[32].last_lba = SECTORS - 64;
    fake_disk_put_table(&disk, &header, partitions, 33);
    disk.bad_sector = 2;
    assert_int_equal(find(), OK);
    disk.bad_sector = UINT64_MAX;
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_come_by_faults_and_go_clean),
        cmocka_unit_test(a_written_page_goes_to_a_slot),
        cmocka_unit_test(two_opens_find_one_section),
        cmocka_unit_test(an_error_is_told_once),
        cmocka_unit_test(a_chain_that_ends_early_is_read_so_far),
        cmocka_unit_test(volumes_are_found_by_every_table),
        cmocka_unit_test(an_unreadable_partition_hides_nothing),
        cmocka_unit_test(an_unreadable_table_hides_its_entries_only),
    };

    return cmocka_run_group_tests_name("sections of files", tests, set_up, NULL);
}

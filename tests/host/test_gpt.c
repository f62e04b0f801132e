/* Partition tables: sound ones, damaged ones, and ones that lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "pmm/pmm.h"
#include "swapdisk/format/checksum.h"
#include "swapdisk/format/little.h"
#include "tests/host/fake/disk.h"
#include "tests/host/fake/machine.h"

#define SECTORS 16384U

static struct fake_disk disk;
static struct gpt table;

static int set_up(void **state)
{
    (void)state;
    fake_machine_start(16 * MIB);
    fake_disk_make(&disk, SECTORS, "Fake", "S1");
    fake_disk_prepare(&disk, 0x11);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fake_disk_free(&disk);
    return 0;
}

static enum status read_table(void)
{
    struct sector_source source = fake_disk_source(&disk);

    return gpt_read(&source, &table, (struct pfn){600}, (struct pfn){601});
}

static uint8_t *at(uint64_t lba)
{
    return disk.bytes + lba * SECTOR_SIZE;
}

/* Corrects a header's checksum after it was changed. */
static void seal_header(uint8_t *sector)
{
    put_le32(sector + 16, 0);
    put_le32(sector + 16, checksum_crc32(0, sector, 92));
}

static void checksums_have_the_published_values(void **state)
{
    (void)state;
    assert_int_equal(checksum_crc32(0, "123456789", 9), 0xcbf43926);
    assert_int_equal(checksum_crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(checksum_crc32(checksum_crc32(0, "1234", 4), "56789", 5), 0xcbf43926);
}

static void sound_table(void **state)
{
    struct gpt_partition expected = fake_disk_partition(&disk);

    (void)state;
    assert_int_equal(read_table(), OK);
    assert_null(gpt_disagreement(&table));
    assert_false(table.from_backup);
    assert_int_equal(table.count, 1);
    assert_memory_equal(table.partitions[0].type, swap_partition_type, 16);
    assert_memory_equal(table.partitions[0].unique, expected.unique, 16);
    assert_int_equal(table.partitions[0].first_lba, expected.first_lba);
    assert_int_equal(table.partitions[0].last_lba, expected.last_lba);
    assert_int_equal(table.header.alternate_lba, SECTORS - 1);
}

static void blank_disk(void **state)
{
    (void)state;
    memset(disk.bytes, 0, SECTORS * SECTOR_SIZE);
    assert_int_equal(read_table(), STATUS_NOT_FOUND);
    assert_int_equal(table.count, 0);
}

static void backup_serves_when_the_primary_is_damaged(void **state)
{
    (void)state;
    at(1)[40] ^= 1;
    assert_int_equal(read_table(), OK);
    assert_true(table.from_backup);
    assert_int_equal(table.count, 1);
    assert_int_equal(table.partitions[0].first_lba, 2048);
    assert_non_null(gpt_disagreement(&table));

    fake_disk_prepare(&disk, 0x11);
    at(2)[60] ^= 1;
    assert_int_equal(read_table(), OK);
    assert_true(table.from_backup);
    assert_int_equal(table.count, 1);
    assert_non_null(strstr(gpt_disagreement(&table), "entries"));
}

static void damaged_backup_is_noticed(void **state)
{
    (void)state;
    at(SECTORS - 1)[56] ^= 1;
    assert_int_equal(read_table(), OK);
    assert_false(table.from_backup);
    assert_int_equal(table.count, 1);
    assert_non_null(gpt_disagreement(&table));

    fake_disk_prepare(&disk, 0x11);
    at(SECTORS - 33)[0] ^= 1;
    assert_int_equal(read_table(), OK);
    assert_non_null(gpt_disagreement(&table));

    fake_disk_prepare(&disk, 0x11);
    memset(at(SECTORS - 1), 0, SECTOR_SIZE);
    assert_int_equal(read_table(), OK);
    assert_string_equal(gpt_disagreement(&table), "the backup partition table is missing");
}

static void both_damaged(void **state)
{
    (void)state;
    at(1)[40] ^= 1;
    at(SECTORS - 1)[40] ^= 1;
    assert_int_equal(read_table(), STATUS_CORRUPT);
    assert_int_equal(table.count, 0);
}

/* Flips every bit that a checksum covers, and of the signature: no flip may be accepted. */
static void every_flip_in_the_header_is_noticed(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 92 * 8; bit++) {
        at(1)[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        assert_int_equal(read_table(), OK);
        assert_true(table.from_backup);
        assert_non_null(gpt_disagreement(&table));
        at(1)[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
    assert_int_equal(read_table(), OK);
    assert_null(gpt_disagreement(&table));
}

static void disks_of_another_size(void **state)
{
    struct sector_source source = fake_disk_source(&disk);

    (void)state;
    /* The disk has grown: the backup is no longer at its end. */
    source.sectors = SECTORS - 8;
    assert_int_equal(gpt_read(&source, &table, (struct pfn){600}, (struct pfn){601}),
                     STATUS_CORRUPT);
    for (uint64_t sectors = 0; sectors < 80; sectors++) {
        source.sectors = sectors;
        assert_int_not_equal(gpt_read(&source, &table, (struct pfn){600}, (struct pfn){601}), OK);
    }
}

static void grown_disk(void **state)
{
    uint8_t *small = disk.bytes;
    struct fake_disk large;

    (void)state;
    fake_disk_make(&large, SECTORS + 64, "Fake", "S1");
    memcpy(large.bytes, small, SECTORS * SECTOR_SIZE);
    fake_disk_free(&disk);
    disk = large;
    assert_int_equal(read_table(), OK);
    assert_int_equal(table.count, 1);
    assert_string_equal(gpt_disagreement(&table), "the backup partition table is missing");
}

/* Each copy is sound by itself; they do not belong together. */
static void copies_that_differ(void **state)
{
    struct gpt_header header = fake_disk_gpt_header(&disk);
    struct gpt_partition partition = fake_disk_partition(&disk);
    uint8_t entries[SECTOR_SIZE];
    uint8_t sector[SECTOR_SIZE];

    (void)state;
    memcpy(sector, at(1), SECTOR_SIZE);
    memcpy(entries, at(2), SECTOR_SIZE);
    partition.last_lba -= 8;
    fake_disk_put_table(&disk, &header, &partition, 1);
    memcpy(at(1), sector, SECTOR_SIZE);
    memcpy(at(2), entries, SECTOR_SIZE);
    assert_int_equal(read_table(), OK);
    assert_string_equal(gpt_disagreement(&table), "the backup table differs from the primary");

    fake_disk_prepare(&disk, 0x11);
    put_le64(at(1) + 32, SECTORS - 2);
    seal_header(at(1));
    assert_int_equal(read_table(), OK);
    assert_false(table.from_backup);
    assert_string_equal(gpt_disagreement(&table), "the backup table is not at the end of the disk");
}

/* The primary header copied to the end of the disk is no backup. */
static void header_at_the_wrong_end(void **state)
{
    (void)state;
    memcpy(at(SECTORS - 1), at(1), SECTOR_SIZE);
    at(1)[40] ^= 1;
    assert_int_equal(read_table(), STATUS_CORRUPT);
}

static void sources_end_where_they_say(void **state)
{
    struct sector_source source = fake_disk_source(&disk);
    struct pfn frame = {600};
    struct pfn second = {601};

    (void)state;
    assert_int_equal(source_read(&source, SECTORS - 1, 1, frame, second), OK);
    assert_int_equal(source_read(&source, SECTORS - 1, 2, frame, second), STATUS_RANGE);
    assert_int_equal(source_read(&source, SECTORS, 1, frame, second), STATUS_RANGE);
    assert_int_equal(source_read(&source, UINT64_MAX, 8, frame, second), STATUS_RANGE);
    assert_int_equal(source_read(&source, SECTORS - 8, 8, frame, second), OK);
    assert_true(PANICS((void)source_read(&source, 0, 9, frame, second)));
    assert_true(PANICS((void)source_read(&source, 0, 1, frame, frame)));
}

struct lie {
    unsigned offset;
    unsigned size;
    uint64_t value;
};

static void headers_that_lie_are_refused(void **state)
{
    static const struct lie lies[] = {
        {8, 4, 0x20000}, /* revision */
        {12, 4, 91},     /* header size */
        {12, 4, 513},
        {12, 4, UINT32_MAX},
        {20, 4, 1}, /* reserved */
        {24, 8, 2}, /* own place */
        {32, 8, 1}, /* the other copy */
        {32, 8, SECTORS},
        {32, 8, UINT64_MAX},
        {40, 8, UINT64_MAX}, /* usable range */
        {40, 8, 3},
        {48, 8, SECTORS},
        {48, 8, UINT64_MAX},
        {48, 8, 33},
        {72, 8, 0}, /* place of the entries */
        {72, 8, 1},
        {72, 8, 4000},
        {72, 8, UINT64_MAX},
        {72, 8, UINT64_MAX - 31},
        {80, 4, 0}, /* how many */
        {80, 4, 1025},
        {80, 4, UINT32_MAX},
        {84, 4, 0}, /* their size */
        {84, 4, 64},
        {84, 4, 129},
        {84, 4, 384},
        {84, 4, 8192},
        {84, 4, UINT32_C(1) << 31},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(lies); i++) {
        struct gpt_header header;

        fake_disk_prepare(&disk, 0x11);
        if (lies[i].size == 4)
            put_le32(at(1) + lies[i].offset, (uint32_t)lies[i].value);
        else
            put_le64(at(1) + lies[i].offset, lies[i].value);
        seal_header(at(1));
        if (gpt_header_decode(at(1), 1, SECTORS, 0, &header) == NULL)
            fail_msg("lie %zu passed", i);
        assert_int_equal(read_table(), OK);
        assert_true(table.from_backup);
    }
}

/* Puts two partitions and reads the table: both copies are sealed, so only sense can refuse. */
static enum status read_two(uint64_t first_a, uint64_t last_a, uint64_t first_b, uint64_t last_b)
{
    struct gpt_header header = fake_disk_gpt_header(&disk);
    struct gpt_partition two[2] = {fake_disk_partition(&disk), fake_disk_partition(&disk)};

    two[0].first_lba = first_a;
    two[0].last_lba = last_a;
    two[1].first_lba = first_b;
    two[1].last_lba = last_b;
    memset(two[1].unique, 0x77, 16);
    fake_disk_put_table(&disk, &header, two, 2);
    return read_table();
}

static void partitions_must_be_disjoint_and_inside(void **state)
{
    (void)state;
    assert_int_equal(read_two(2048, 4095, 4096, 8191), OK);
    assert_int_equal(table.count, 2);
    assert_null(gpt_disagreement(&table));
    assert_int_equal(read_two(2048, 4096, 4096, 8191), STATUS_CORRUPT);
    assert_int_equal(read_two(4096, 8191, 2048, 4096), STATUS_CORRUPT);
    assert_int_equal(read_two(2048, 9000, 4096, 8191), STATUS_CORRUPT);
    assert_int_equal(read_two(4096, 8191, 2048, 9000), STATUS_CORRUPT);
    assert_int_equal(read_two(2048, 2047, 4096, 8191), STATUS_CORRUPT);
    assert_int_equal(read_two(33, 100, 4096, 8191), STATUS_CORRUPT);
    assert_int_equal(read_two(34, 100, 4096, SECTORS - 34), OK);
    assert_int_equal(read_two(34, 100, 4096, SECTORS - 33), STATUS_CORRUPT);
    assert_int_equal(read_two(34, 100, 4096, UINT64_MAX), STATUS_CORRUPT);
    assert_int_equal(read_two(34, 100, UINT64_MAX - 1, UINT64_MAX), STATUS_CORRUPT);
    assert_string_equal(table.primary_problem, "a partition lies outside the usable range");
}

static void equal_guids_are_refused(void **state)
{
    (void)state;
    fake_disk_split_partition(&disk, 0);
    assert_int_equal(read_table(), STATUS_CORRUPT);
    fake_disk_split_partition(&disk, 1);
    assert_int_equal(read_table(), OK);
}

static void larger_entries_are_understood(void **state)
{
    struct gpt_header header = fake_disk_gpt_header(&disk);
    struct gpt_partition partition = fake_disk_partition(&disk);

    (void)state;
    header.entry_count = 32;
    header.entry_size = 512;
    fake_disk_put_table(&disk, &header, &partition, 1);
    assert_int_equal(read_table(), OK);
    assert_null(gpt_disagreement(&table));
    assert_int_equal(table.count, 1);
    assert_int_equal(table.partitions[0].first_lba, 2048);
}

/* A table of any lawful shape on a disk of its own, with partitions of one sector each. */
static enum status read_shape(uint32_t entry_count, uint32_t entry_size, unsigned used)
{
    static struct gpt_partition partitions[GPT_PARTITIONS_MAX + 1];
    struct sector_source source;
    struct gpt_header header;
    struct fake_disk big;
    uint64_t sectors = ((uint64_t)entry_count * entry_size + SECTOR_SIZE - 1) / SECTOR_SIZE;
    enum status status;

    fake_disk_make(&big, 2 * sectors + 8192, "Fake", "S1");
    header = fake_disk_gpt_header(&big);
    header.entry_count = entry_count;
    header.entry_size = entry_size;
    header.first_usable = 2 + sectors;
    header.last_usable = big.sectors - 2 - sectors;
    for (unsigned i = 0; i < used; i++) {
        partitions[i] = fake_disk_partition(&big);
        partitions[i].first_lba = partitions[i].last_lba = header.first_usable + i;
        memset(partitions[i].type, 0x77, 16);
        partitions[i].unique[0] = (uint8_t)i;
        partitions[i].unique[1] = (uint8_t)(i >> 8);
    }
    fake_disk_put_table(&big, &header, partitions, used);
    source = fake_disk_source(&big);
    status = gpt_read(&source, &table, (struct pfn){600}, (struct pfn){601});
    fake_disk_free(&big);
    return status;
}

static void tables_of_any_lawful_size(void **state)
{
    static const uint32_t shapes[][3] = {{1, 128, 1},       {128, 256, 128},   {128, 4096, 100},
                                         {1024, 4096, 10},  {4096, 128, 1},    {4096, 128, 4096},
                                         {8192, 128, 4000}, {32768, 128, 300}, {1025, 128, 1025}};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(shapes); i++) {
        assert_int_equal(read_shape(shapes[i][0], shapes[i][1], shapes[i][2]), OK);
        assert_null(gpt_disagreement(&table));
        assert_int_equal(table.count, shapes[i][2]);
    }
}

static void tables_beyond_the_work_limits(void **state)
{
    (void)state;
    assert_int_equal(read_shape(1025, 4096, 3), STATUS_LIMIT);
    assert_string_equal(table.primary_problem,
                        "the partition table is larger than 4 MiB, more than is read");
    assert_int_equal(read_shape(32769, 128, 3), STATUS_LIMIT);
    assert_int_equal(read_shape(5000, 128, GPT_PARTITIONS_MAX + 1), STATUS_LIMIT);
    assert_string_equal(table.primary_problem,
                        "the disk has more than 4,096 partitions, more than are compared");
    assert_int_equal(table.count, 0);
}

static void mbr_kinds(void **state)
{
    (void)state;
    at(0)[446 + 16 + 4] = 0x07;
    assert_int_equal(read_table(), OK);
    assert_string_equal(gpt_disagreement(&table), "its MBR holds partitions");

    fake_disk_prepare(&disk, 0x11);
    memset(at(0) + 446, 0, 64);
    assert_int_equal(read_table(), OK);
    assert_non_null(gpt_disagreement(&table));

    fake_disk_prepare(&disk, 0x11);
    at(0)[510] = 0;
    assert_int_equal(read_table(), OK);
    assert_non_null(gpt_disagreement(&table));

    fake_disk_prepare(&disk, 0x11);
    at(0)[446 + 8] = 2;
    assert_int_equal(read_table(), OK);
    assert_non_null(gpt_disagreement(&table));
}

static void unreadable_sectors(void **state)
{
    (void)state;
    disk.bad_sector = 1;
    assert_int_equal(read_table(), OK);
    assert_true(table.from_backup);
    disk.bad_sector = 5;
    assert_int_equal(read_table(), OK);
    assert_true(table.from_backup);
    disk.bad_sector = 0;
    assert_int_equal(read_table(), OK);
    assert_non_null(gpt_disagreement(&table));
    memset(at(SECTORS - 1), 0, SECTOR_SIZE);
    disk.bad_sector = 1;
    assert_int_equal(read_table(), STATUS_CORRUPT);
}

/* A disk that claims success and delivers nothing, half, or one wrong bit, at each single read. */
static void reads_that_lie_are_noticed(void **state)
{
    static const enum fake_failure failures[] = {FAKE_SILENT, FAKE_SHORT, FAKE_FLIP};
    uint64_t reads;

    (void)state;
    assert_int_equal(read_table(), OK);
    reads = disk.commands;
    for (size_t i = 0; i < ARRAY_COUNT(failures); i++) {
        for (uint64_t number = 0; number < reads; number++) {
            disk.commands = 0;
            disk.fail_from = number;
            disk.fail_count = 1;
            disk.failure = failures[i];
            assert_int_equal(read_table(), OK);
            assert_non_null(gpt_disagreement(&table));
        }
    }
    disk.fail_from = 0;
    disk.fail_count = UINT64_MAX;
    disk.failure = FAKE_SILENT;
    assert_int_equal(read_table(), STATUS_IO);
}

static void guid_as_text(void **state)
{
    char text[GPT_GUID_TEXT_SIZE];

    (void)state;
    gpt_guid_text(swap_partition_type, text);
    assert_string_equal(text, "884d1742-3b38-4d93-9ca8-faef6a858151");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(checksums_have_the_published_values),
        cmocka_unit_test_setup_teardown(sound_table, set_up, tear_down),
        cmocka_unit_test_setup_teardown(blank_disk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(backup_serves_when_the_primary_is_damaged, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(damaged_backup_is_noticed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(both_damaged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_flip_in_the_header_is_noticed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(disks_of_another_size, set_up, tear_down),
        cmocka_unit_test_setup_teardown(grown_disk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(copies_that_differ, set_up, tear_down),
        cmocka_unit_test_setup_teardown(header_at_the_wrong_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sources_end_where_they_say, set_up, tear_down),
        cmocka_unit_test_setup_teardown(headers_that_lie_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(partitions_must_be_disjoint_and_inside, set_up, tear_down),
        cmocka_unit_test_setup_teardown(equal_guids_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(larger_entries_are_understood, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tables_of_any_lawful_size, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tables_beyond_the_work_limits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(mbr_kinds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unreadable_sectors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(reads_that_lie_are_noticed, set_up, tear_down),
        cmocka_unit_test(guid_as_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

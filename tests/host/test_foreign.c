/*
 * Foreign disks: whatever is on them, no swap option makes the application write to one.
 *
 * Each kind of disk is examined alone and in groups of up to 31 on one controller, with every swap
 * option, with and without wipe=1 and a hypervisor; the area must open in RAM, and all disks must
 * stay as they were, byte by byte. Disks with one damaged field carry our partition type and the
 * set that the options name, so nothing but that field protects them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/print.h"
#include "pmm/pmm.h"
#include "swapdisk/area.h"
#include "swapdisk/disks.h"
#include "swapdisk/format/checksum.h"
#include "swapdisk/format/little.h"
#include "tests/host/fake/hba.h"
#include "tests/host/fake/machine.h"

#define SECTORS   4096U
#define FIRST     2048U
#define GROUP     31U
#define KINDS_MAX 256U
#define PRIMARY   1U
#define BACKUP    (SECTORS - 1)

/* A disk and its content at the start. */
struct foreign {
    struct fake_disk disk;
    uint8_t *before;
    char name[64];
    bool needs_twin; /* alone, it is a prepared disk */
};

static struct foreign foreign[KINDS_MAX];
static unsigned kinds;
static unsigned runs;
static uint64_t examined;
static struct fake_hba fake;

static struct foreign *add_disk(const char *format, ...) PRINTF_LIKE(1, 2);

/* Adds a blank disk under a name. */
static struct foreign *add_disk(const char *format, ...)
{
    struct foreign *added = &foreign[kinds++];
    va_list arguments;

    assert_true(kinds <= KINDS_MAX);
    va_start(arguments, format);
    print_to_va(added->name, sizeof(added->name), format, arguments);
    va_end(arguments);
    fake_disk_make(&added->disk, SECTORS, "Fake", "S1");
    return added;
}

static void finish_disk(struct foreign *disk)
{
    disk->before = malloc(SECTORS * SECTOR_SIZE);
    assert_non_null(disk->before);
    memcpy(disk->before, disk->disk.bytes, SECTORS * SECTOR_SIZE);
}

/* ---- content of other systems, on the whole disk and in a partition of another type ---- */

struct mark {
    const char *name;
    uint32_t offset;
    const char *bytes;
    unsigned size;
};

#define MARK(name_, offset_, bytes_)                                                               \
    {                                                                                              \
        name_, offset_, bytes_, sizeof(bytes_) - 1                                                 \
    }

static const struct mark marks[] = {
    MARK("ext4", 0x438, "\x53\xef"),          MARK("xfs", 0, "XFSB"),
    MARK("btrfs", 0x10040, "_BHRfS_M"),       MARK("NTFS", 3, "NTFS    "),
    MARK("LUKS", 0, "LUKS\xba\xbe"),          MARK("LVM", 512, "LABELONE"),
    MARK("md 1.2", 4096, "\xfc\x4e\x2b\xa9"), MARK("md 1.1", 0, "\xfc\x4e\x2b\xa9"),
    MARK("Linux swap", 4086, "SWAPSPACE2"),   MARK("hibernation image", 4086, "S1SUSPEND"),
    MARK("ISO 9660", 0x8001, "CD001"),
};

static void add_marks(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(marks); i++) {
        for (unsigned in_partition = 0; in_partition < 2; in_partition++) {
            struct foreign *disk =
                add_disk("%s%s", marks[i].name, in_partition != 0 ? " in a partition" : "");
            struct gpt_header table = fake_disk_gpt_header(&disk->disk);
            struct gpt_partition partition = fake_disk_partition(&disk->disk);

            memset(partition.type, 0x77, 16);
            if (in_partition != 0)
                fake_disk_put_table(&disk->disk, &table, &partition, 1);
            memcpy(disk->disk.bytes + (in_partition != 0 ? FIRST * SECTOR_SIZE : 0) +
                       marks[i].offset,
                   marks[i].bytes, marks[i].size);
            finish_disk(disk);
        }
    }
}

static void add_mbr(void)
{
    struct foreign *disk = add_disk("MBR with four partitions");

    for (unsigned i = 0; i < 4; i++) {
        uint8_t *record = disk->disk.bytes + 446 + 16 * (size_t)i;

        record[4] = 0x83;
        put_le32(record + 8, 64 + 900 * i);
        put_le32(record + 12, 800);
    }
    put_le16(disk->disk.bytes + 510, 0xaa55);
    finish_disk(disk);
}

static void add_entry_sizes(void)
{
    static const uint32_t sizes[] = {256, 4096};

    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        struct foreign *disk = add_disk("entries of %u bytes", sizes[i]);
        struct gpt_header table = fake_disk_gpt_header(&disk->disk);
        struct gpt_partition partition = fake_disk_partition(&disk->disk);

        table.entry_size = sizes[i];
        table.first_usable = 2 + table.entry_count * sizes[i] / SECTOR_SIZE;
        table.last_usable = SECTORS - table.first_usable;
        partition.last_lba = table.last_usable;
        memset(partition.type, 0x77, 16);
        fake_disk_put_table(&disk->disk, &table, &partition, 1);
        finish_disk(disk);
    }
}

static void add_overlaps(void)
{
    for (unsigned i = 0; i < 3; i++) {
        struct foreign *disk = add_disk("overlapping partitions %u", i);
        struct gpt_header table = fake_disk_gpt_header(&disk->disk);
        struct gpt_partition partitions[3];

        fake_disk_prepare(&disk->disk, 0x11);
        for (unsigned j = 0; j < 3; j++) {
            partitions[j] = fake_disk_partition(&disk->disk);
            memset(partitions[j].unique, 0x50 + (int)j, 16);
        }
        partitions[0] = fake_disk_partition(&disk->disk);
        memset(partitions[1].type, 0x77, 16);
        memset(partitions[2].type, 0x77, 16);
        /* Another over the start of ours, over its end, and two others over one another. */
        partitions[1].first_lba = i == 1 ? partitions[0].last_lba : 100;
        partitions[1].last_lba = i == 0 ? FIRST : i == 1 ? partitions[0].last_lba + 1 : 200;
        partitions[2].first_lba = i == 2 ? 200 : 40;
        partitions[2].last_lba = i == 2 ? 300 : 50;
        fake_disk_put_table(&disk->disk, &table, partitions, 3);
        finish_disk(disk);
    }
}

/* ---- prepared disks that are not what their header was made for ---- */

static void add_copies(void)
{
    struct foreign *disk;

    for (unsigned i = 0; i < 2; i++) {
        disk = add_disk("twin %u", i);
        fake_disk_prepare(&disk->disk, 0x11);
        disk->needs_twin = true;
        finish_disk(disk);
    }
    for (unsigned version = 1; version <= 2; version++) {
        disk = add_disk("clone of version %u with another serial number", version);
        if (version == 1)
            fake_disk_prepare(&disk->disk, 0x11);
        else
            fake_disk_prepare_2(&disk->disk, 0x11);
        strcpy(disk->disk.serial, "S2");
        fake_disk_identify(&disk->disk);
        finish_disk(disk);
        for (unsigned sectors = SECTORS - 64; sectors <= SECTORS + 64; sectors += 128) {
            disk = add_disk("version %u, resized to %u sectors", version, sectors);
            if (version == 1)
                fake_disk_prepare(&disk->disk, 0x11);
            else
                fake_disk_prepare_2(&disk->disk, 0x11);
            finish_disk(disk);
            /* Sectors beyond the stored ones repeat those at the start. */
            disk->disk.sectors = sectors;
            fake_disk_identify(&disk->disk);
        }
    }
}

/* Makes a prepared disk a set of the group of bytes 0x55. */
static struct foreign *add_group_member(const char *name, enum set_role role, uint32_t member,
                                        uint64_t generation)
{
    struct foreign *disk = add_disk("%s", name);
    struct swap_header header;

    fake_disk_prepare(&disk->disk, 0x11);
    header = fake_disk_swap_header_2(&disk->disk, (uint8_t)(0x60 + kinds));
    header.role = role;
    header.members = 2;
    header.member = member;
    header.generation = generation;
    memset(header.group_uuid, 0x55, sizeof(header.group_uuid));
    fake_disk_put_headers_2(&disk->disk, &header, NULL);
    finish_disk(disk);
    disk->needs_twin = true;
    return disk;
}

/* Sets of one group that do not belong together: each is refused beside the others. They come
 * first, so that all are in one run. */
static void add_groups(void)
{
    add_group_member("first half", SET_MIRROR, 0, 7);
    add_group_member("another first half", SET_MIRROR, 0, 7);
    add_group_member("second half of another generation", SET_MIRROR, 1, 9);
    add_group_member("stripe in the group of a mirror", SET_STRIPE, 1, 7);
}

/* ---- one damaged field each ---- */

static void seal_gpt_header(uint8_t *sector)
{
    uint32_t size = get_le32(sector + 12);

    put_le32(sector + 16, 0);
    if (size <= SECTOR_SIZE)
        put_le32(sector + 16, checksum_crc32(0, sector, size));
}

/* One field of one copy of the table's header, with and without a right checksum. */
static void add_table_fields(void)
{
    static const struct {
        const char *name;
        unsigned at;
    } fields[] = {{"signature", 0},   {"revision", 8},      {"size", 12},
                  {"checksum", 16},   {"reserved", 20},     {"own LBA", 24},
                  {"other LBA", 32},  {"first usable", 40}, {"last usable", 48},
                  {"disk GUID", 56},  {"entries LBA", 72},  {"entry count", 80},
                  {"entry size", 84}, {"entries CRC", 88}};

    for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
        for (unsigned sealed = 0; sealed < 2; sealed++) {
            uint64_t lba = i % 2 == 0 ? PRIMARY : BACKUP;
            struct foreign *disk =
                add_disk("table's %s, %s", fields[i].name, sealed != 0 ? "sealed" : "damaged");
            uint8_t *sector;

            fake_disk_prepare(&disk->disk, 0x11);
            sector = disk->disk.bytes + lba * SECTOR_SIZE;
            sector[fields[i].at] ^= 0x04;
            if (sealed != 0 && fields[i].at != 16)
                seal_gpt_header(sector);
            finish_disk(disk);
        }
    }
}

/* One field of the partition's entry, in both sound tables. */
static void add_entry_fields(void)
{
    for (unsigned field = 0; field < 5; field++) {
        static const char *const names[] = {"type", "unique GUID", "first LBA", "last LBA",
                                            "attributes"};
        struct foreign *disk = add_disk("entry's %s", names[field]);
        struct gpt_header table = fake_disk_gpt_header(&disk->disk);
        struct gpt_partition partition = fake_disk_partition(&disk->disk);

        fake_disk_prepare(&disk->disk, 0x11);
        partition.type[3] ^= field == 0 ? 1 : 0;
        partition.unique[3] ^= field == 1 ? 1 : 0;
        partition.first_lba += field == 2 ? 8 : 0;
        partition.last_lba -= field == 3 ? 8 : 0;
        partition.attributes = field == 4 ? GPT_ATTRIBUTE_READ_ONLY : 0;
        fake_disk_put_table(&disk->disk, &table, &partition, 1);
        finish_disk(disk);
    }
}

/* One field of the first copy of our header, under a right checksum. */
static void add_header_fields(unsigned version)
{
    static const struct {
        const char *name;
        unsigned at;
        unsigned version;
    } fields[] = {{"magic", 0, 1},         {"version", 16, 1},     {"size", 20, 1},
                  {"sector size", 28, 1},  {"set UUID", 32, 1},    {"partition GUID", 48, 1},
                  {"disk GUID", 64, 1},    {"first LBA", 80, 1},   {"last LBA", 88, 1},
                  {"disk sectors", 96, 1}, {"generation", 104, 1}, {"state", 112, 1},
                  {"kind", 116, 1},        {"time", 120, 1},       {"prepared by", 128, 1},
                  {"model", 192, 1},       {"serial", 240, 1},     {"role", 264, 2},
                  {"members", 268, 2},     {"group UUID", 272, 2}, {"member", 288, 2},
                  {"reserved", 292, 2},    {"log first", 296, 2},  {"log sectors", 304, 2},
                  {"used slots", 312, 2},  {"zeroes", 316, 2}};

    for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
        struct foreign *disk;
        uint8_t *page;

        if (fields[i].version > version)
            continue;
        disk = add_disk("header %u's %s", version, fields[i].name);
        if (version == 1)
            fake_disk_prepare(&disk->disk, 0x11);
        else
            fake_disk_prepare_2(&disk->disk, 0x11);
        page = disk->disk.bytes + FIRST * SECTOR_SIZE;
        page[fields[i].at] ^= fields[i].at >= 128 && fields[i].at < 264 ? 0x01 : 0x10;
        put_le32(page + 24, 0);
        put_le32(page + 24,
                 checksum_crc32c(0, page, version == 1 ? SWAP_HEADER_SIZE : SECTOR_SIZE));
        finish_disk(disk);
    }
}

/* ---- examining them ---- */

static void assert_unchanged(unsigned first, unsigned count, const struct options *options)
{
    for (unsigned i = first; i < first + count; i++) {
        if (foreign[i].disk.log_count != 0 ||
            memcmp(foreign[i].disk.bytes, foreign[i].before, SECTORS * SECTOR_SIZE) != 0)
            fail_msg("'%s' was written with swap=%u wipe=%u", foreign[i].name, options->swap,
                     options->wipe);
    }
    if (fake.complaints != 0)
        fail_msg("%u complaints, the first: %s", fake.complaints, fake.complaint);
}

/* One whole run beside a group of disks: scan, swap some pages, close, stop. */
static void run_beside(unsigned first, unsigned count, const struct options *options,
                       bool hypervisor)
{
    struct pfn frame;
    struct slot slot;

    fake_machine_start(24 * MIB);
    fake_clock_step_ns = 100000;
    fake_pci_clear();
    fake_hba_make(&fake, 32);
    for (unsigned i = 0; i < count; i++)
        fake_hba_attach(&fake, i, FAKE_DISK, &foreign[first + i].disk);
    fake_pci_add_hba((struct pci_place){0, 31, 0}, &fake);
    assert_int_equal(pmm_alloc(FRAME_ANONYMOUS, FRAME_CLEARED, &frame), OK);
    disks_scan(options, hypervisor);
    assert_int_equal(disks_count(), count);
    assert_int_equal(swap_open(options, 16), OK);
    if (swap_usage().backing != SWAP_BACKING_RAM)
        fail_msg("one of %u disks from '%s' on is taken", count, foreign[first].name);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(swap_alloc(&slot), OK);
        assert_int_equal(swap_write(slot, frame), OK);
    }
    assert_int_equal(swap_close(), OK);
    disks_stop();
    assert_unchanged(first, count, options);
    runs++;
    examined += count;
}

static void run_with_all_options(unsigned first, unsigned count)
{
    for (unsigned i = 0; i < 16; i++) {
        struct options options = {.swap = i % 4 == 0   ? SWAP_AUTO
                                          : i % 4 == 1 ? SWAP_NONE
                                                       : SWAP_SET,
                                  .wipe = i / 4 % 2 != 0};

        /* The set that damaged disks claim; and a list of it, of its group, and of others. */
        memset(options.swap_set[0].uuid, 0x11, 16);
        options.swap_sets = i % 4 == 3 ? 4 : 1;
        for (unsigned entry = 1; entry < 4; entry++) {
            memset(options.swap_set[entry].uuid, entry == 1 ? 0x55 : 0x11 + (int)entry, 16);
            options.swap_set[entry].priority = (uint16_t)entry;
        }
        run_beside(first, count, &options, i / 8 != 0);
    }
}

static void each_alone(void **state)
{
    (void)state;
    for (unsigned i = 0; i < kinds; i++) {
        if (!foreign[i].needs_twin)
            run_with_all_options(i, 1);
    }
}

static void many_at_once(void **state)
{
    (void)state;
    for (unsigned first = 0; first < kinds; first += GROUP)
        run_with_all_options(first, kinds - first < GROUP ? kinds - first : GROUP);
}

/* Why the others are refused: one of the twins alone is a prepared disk, and is used. */
static void a_twin_alone_is_taken(void **state)
{
    struct options options = {.swap = SWAP_AUTO};

    (void)state;
    fake_machine_start(24 * MIB);
    fake_clock_step_ns = 100000;
    fake_pci_clear();
    fake_hba_make(&fake, 2);
    for (unsigned i = 0; i < kinds; i++) {
        if (!foreign[i].needs_twin)
            continue;
        fake_pci_clear();
        fake_pci_add_hba((struct pci_place){0, 31, 0}, &fake);
        fake_hba_attach(&fake, 0, FAKE_DISK, &foreign[i].disk);
        disks_scan(&options, true);
        assert_int_equal(swap_open(&options, 16), OK);
        assert_int_equal(swap_usage().backing, SWAP_BACKING_DISK);
        assert_int_equal(swap_close(), OK);
        disks_stop();
    }
}

static int make_disks(void **state)
{
    (void)state;
    add_groups();
    add_marks();
    add_mbr();
    add_entry_sizes();
    add_overlaps();
    add_copies();
    add_table_fields();
    add_entry_fields();
    add_header_fields(1);
    add_header_fields(2);
    return 0;
}

static int free_disks(void **state)
{
    (void)state;
    print_message("%u foreign disks, %u runs, %u disks examined: none was written\n", kinds, runs,
                  (unsigned)examined);
    for (unsigned i = 0; i < kinds; i++) {
        fake_disk_free(&foreign[i].disk);
        free(foreign[i].before);
    }
    return 0;
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_twin_alone_is_taken),
        cmocka_unit_test(each_alone),
        cmocka_unit_test(many_at_once),
    };

    return cmocka_run_group_tests(tests, make_disks, free_disks);
}

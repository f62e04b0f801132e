/* FAT32 volumes: those of mkfs.fat and mtools, and damaged and hostile ones. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "pmm/pmm.h"
#include "swapdisk/format/little.h"
#include "swapdisk/fs/fat.h"
#include "tests/host/fake/disk.h"
#include "tests/host/fake/fat.h"
#include "tests/host/fake/machine.h"

#define MANY 100U /* files of one directory */

static struct fake_disk disk;
static struct fat_volume volume;
static struct fat_entry entry;
static struct fat_file file;
static int image; /* of mkfs.fat: sparse, since mtools takes 65,525 clusters for FAT32 or more */
static uint32_t last_runs; /* of the file that was checked last */
static uint64_t used_before;
static unsigned image_unit; /* sectors that the image's reader takes as a whole */

static uint64_t kernel_frames(void)
{
    return pmm_usage().by_kind[FRAME_KERNEL];
}

static int set_up(void **state)
{
    (void)state;
    fake_machine_start(16 * MIB);
    return 0;
}

/* Returns the byte of a test file with this number. */
static uint8_t byte_of(unsigned number, uint32_t at)
{
    return (uint8_t)(at * 7 + at / 4096 * 13 + number * 41 + 3);
}

/* Compares a whole file with its generator, through its runs. */
static void check_content(unsigned number, uint32_t size)
{
    static uint8_t text[SECTOR_SIZE];
    uint32_t sector = 0;

    assert_int_equal(file.size, size);
    while ((uint64_t)sector * SECTOR_SIZE < size) {
        uint64_t lba;
        uint32_t sectors;

        assert_int_equal(fat_file_place(&file, sector, &lba, &sectors), OK);
        assert_true(sectors > 0 && lba + sectors <= volume.source.sectors);
        for (uint32_t i = 0; i < sectors * SECTOR_SIZE; i++) {
            uint32_t at = sector * SECTOR_SIZE + i;
            uint8_t byte;

            if (i % SECTOR_SIZE == 0)
                assert_int_equal(pread(image, text, SECTOR_SIZE, (off_t)(lba * SECTOR_SIZE + i)),
                                 SECTOR_SIZE);
            byte = text[i % SECTOR_SIZE];
            if (at < size && byte != byte_of(number, at))
                fail_msg("byte %u of file %u is %x", at, number, byte);
        }
        sector += sectors;
    }
}

static void check_file(const char *path, unsigned number, uint32_t size)
{
    assert_int_equal(fat_find(&volume, path, &entry), OK);
    assert_int_equal(fat_file_open(&volume, &entry, &file), OK);
    assert_null(file.problem);
    assert_int_equal(file.found, file.clusters);
    check_content(number, size);
    last_runs = file.runs;
    fat_file_close(&file);
}

/* ---- volumes of mkfs.fat and mtools ---- */

static char folder[] = "/tmp/test_fat.XXXXXX";

__attribute__((format(printf, 1, 2))) static void shell(const char *format, ...)
{
    char command[1024];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(command, sizeof(command), format, arguments);
    va_end(arguments);
    if (system(command) != 0)
        fail_msg("failed: %s", command);
}

static void make_file(const char *name, unsigned number, uint32_t size)
{
    char path[128];
    FILE *out;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    out = fopen(path, "wb");
    assert_non_null(out);
    for (uint32_t i = 0; i < size; i++)
        putc(byte_of(number, i), out);
    assert_int_equal(fclose(out), 0);
}

/* Fills a volume: many small files in a directory with a long name, a nested path, and one file
 * in the holes that deleted ones have left. */
static void fill_image(unsigned shift)
{
    char name[32];

    for (unsigned i = 0; i < MANY; i++) {
        snprintf(name, sizeof(name), "many file %03u.bin", i);
        make_file(name, i, 600 + i * 5);
    }
    make_file("large.bin", 200, 300001);
    make_file("empty.txt", 0, 0);
    make_file("nested.bin", 201, 4096);
    shell("mmd -i %s/image '::A directory with a long name' ::ONE ::ONE/two "
          "'::ONE/two/\xc3\xa4\xe2\x82\xac deep'",
          folder);
    shell("mcopy -i %s/image %s/many* '::A directory with a long name'", folder, folder);
    shell("mdel -i %s/image '::A directory with a long name/many file ??[13579].bin'", folder);
    /* The search for a free cluster begins at the volume's start again. */
    shell("printf '\\2\\0\\0\\0' | dd of=%s/image bs=1 seek=%u conv=notrunc status=none", folder,
          (SECTOR_SIZE << shift) + 492);
    shell("mcopy -i %s/image %s/large.bin '::A directory with a long name/fragmented file.bin'",
          folder, folder);
    shell("mcopy -i %s/image %s/empty.txt ::", folder, folder);
    shell("mcopy -i %s/image %s/nested.bin '::ONE/two/\xc3\xa4\xe2\x82\xac deep/nested.bin'",
          folder, folder);
}

static enum status read_image(void *context, uint64_t lba, unsigned sectors, struct pfn frame)
{
    size_t size = (size_t)sectors * SECTOR_SIZE;

    (void)context;
    assert_int_equal((lba | sectors) & (image_unit - 1), 0);
    assert_int_equal(pread(image, frame_pointer(frame), size, (off_t)(lba * SECTOR_SIZE)), size);
    return OK;
}

static void open_image(uint64_t sectors, unsigned shift)
{
    struct sector_source source = {read_image, NULL, sectors, shift};
    char path[64];

    snprintf(path, sizeof(path), "%s/image", folder);
    image = open(path, O_RDONLY);
    assert_true(image >= 0);
    used_before = kernel_frames();
    assert_int_equal(fat_open(&volume, &source, 0, sectors - 1), OK);
}

static void close_image(void)
{
    fat_close(&volume);
    assert_int_equal(kernel_frames(), used_before);
    close(image);
}

static void open_disk(void)
{
    struct sector_source source = fake_disk_source(&disk);

    used_before = kernel_frames();
    assert_int_equal(fat_open(&volume, &source, 0, disk.sectors - 1), OK);
}

static void close_disk(void)
{
    fat_close(&volume);
    assert_int_equal(kernel_frames(), used_before);
    assert_int_equal(disk.log_count, 0);
    fake_disk_free(&disk);
}

static void volumes_of_mkfs(unsigned cluster_sectors, unsigned mib, unsigned shift)
{
    char path[128];

    assert_non_null(mkdtemp(folder));
    shell("PATH=$PATH:/sbin:/usr/sbin mkfs.fat -F 32 -S %u -s %u -C %s/image %u >/dev/null 2>&1",
          SECTOR_SIZE << shift, cluster_sectors >> shift, folder, mib * 1024);
    image_unit = 1U << shift;
    fill_image(shift);
    open_image((uint64_t)mib * 2048, shift);
    assert_int_equal(volume.cluster_sectors, cluster_sectors);
    for (unsigned i = 0; i < MANY; i += 2) {
        snprintf(path, sizeof(path), "/a directory with a LONG name/Many File %03u.bin", i);
        check_file(path, i, 600 + i * 5);
    }
    check_file("A directory with a long name\\fragmented file.bin", 200, 300001);
    if (cluster_sectors == 1)
        assert_true(last_runs > MANY / 3);
    check_file("empty.txt", 0, 0);
    check_file("one/TWO/\xc3\xa4\xe2\x82\xac deep/nested.bin", 201, 4096);
    assert_int_equal(fat_find(&volume, "A directory with a long name/many file 001.bin", &entry),
                     STATUS_NOT_FOUND);
    assert_int_equal(fat_find(&volume, "empty.txt/x", &entry), STATUS_NOT_FOUND);
    close_image();
    shell("rm -r %s", folder);
    memset(folder + strlen(folder) - 6, 'X', 6);
}

static void clusters_of_one_sector(void **state)
{
    (void)state;
    volumes_of_mkfs(1, 36, 0);
}

static void clusters_of_a_page(void **state)
{
    (void)state;
    volumes_of_mkfs(8, 260, 0);
}

static void clusters_of_32_kib(void **state)
{
    (void)state;
    volumes_of_mkfs(64, 2052, 0);
}

static void sectors_of_4096_bytes(void **state)
{
    (void)state;
    volumes_of_mkfs(8, 260, SECTOR_SHIFT_4K);
}

/* ---- volumes made by hand ---- */

static struct fake_fat fat;

/* A volume with one file of five clusters, each apart from the next. */
static uint32_t make_volume(uint32_t size)
{
    uint32_t first;

    fake_disk_make(&disk, 4096, "Fake", "S1");
    fake_fat_format(&fat, &disk, 0, 4096, 1);
    first = fake_fat_chain(&fat, 5, 2);
    fake_fat_enter(&fat, FAKE_FAT_ROOT, "FILE    BIN", "A file.bin", 0, first, size);
    return first;
}

static void open_file(const char *problem)
{
    open_disk();
    assert_int_equal(fat_find(&volume, "file.bin", &entry), OK);
    assert_int_equal(fat_file_open(&volume, &entry, &file), OK);
    if (problem == NULL)
        assert_null(file.problem);
    else
        assert_non_null(strstr(file.problem, problem));
}

static void close_file(void)
{
    fat_file_close(&file);
    close_disk();
}

static void sound_chain(void **state)
{
    uint64_t lba;
    uint32_t sectors;

    (void)state;
    make_volume(5 * SECTOR_SIZE);
    open_file(NULL);
    assert_int_equal(file.runs, 5);
    assert_string_equal(entry.name, "A file.bin");
    assert_int_equal(fat_file_place(&file, 4, &lba, &sectors), OK);
    assert_int_equal(sectors, 1);
    assert_int_equal(fat_file_place(&file, 5, &lba, &sectors), STATUS_RANGE);
    close_file();
}

static void chain_that_ends_early(void **state)
{
    uint32_t first = make_volume(5 * SECTOR_SIZE);
    uint64_t lba;
    uint32_t sectors;

    (void)state;
    fake_fat_set(&fat, first + 4, FAKE_FAT_LAST);
    open_file("ends before its size");
    assert_int_equal(file.found, 3);
    assert_int_equal(fat_file_place(&file, 2, &lba, &sectors), OK);
    assert_int_equal(fat_file_place(&file, 3, &lba, &sectors), STATUS_CORRUPT);
    close_file();

    first = make_volume(5 * SECTOR_SIZE);
    fake_fat_set(&fat, first + 4, 0);
    open_file("ends before its size");
    close_file();
}

static void chain_with_a_loop(void **state)
{
    uint32_t first = make_volume(5 * SECTOR_SIZE);

    (void)state;
    fake_fat_set(&fat, first + 8, first);
    open_file("or is a loop");
    close_file();
    first = make_volume(5 * SECTOR_SIZE);
    fake_fat_set(&fat, first, first);
    open_file("or is a loop");
    close_file();
    make_volume(4 * SECTOR_SIZE);
    open_file("goes on behind its size");
    close_file();
}

static void chain_that_leaves_the_volume(void **state)
{
    static const uint32_t outside[] = {1, 0x0ffffff7, 0x0ffffff0, 0x00ffffff};

    (void)state;
    for (unsigned i = 0; i < ARRAY_COUNT(outside); i++) {
        uint32_t first = make_volume(5 * SECTOR_SIZE);

        fake_fat_set(&fat, first + 2, outside[i]);
        open_file("leaves the volume");
        assert_int_equal(file.found, 2);
        close_file();
    }
}

static void file_larger_than_the_volume(void **state)
{
    (void)state;
    make_volume(UINT32_MAX);
    open_disk();
    assert_int_equal(fat_find(&volume, "file.bin", &entry), OK);
    assert_int_equal(fat_file_open(&volume, &entry, &file), STATUS_CORRUPT);
    assert_non_null(strstr(volume.reason, "larger than the volume"));
    close_disk();
}

static void directory_with_a_loop(void **state)
{
    uint8_t *entries;

    (void)state;
    make_volume(5 * SECTOR_SIZE);
    fake_fat_set(&fat, FAKE_FAT_ROOT, FAKE_FAT_ROOT);
    entries = fake_fat_cluster(&fat, FAKE_FAT_ROOT);
    for (unsigned i = 0; i < SECTOR_SIZE / 32; i++)
        entries[i * 32] = 0xe5;
    open_disk();
    assert_int_equal(fat_find(&volume, "none", &entry), STATUS_CORRUPT);
    assert_non_null(strstr(volume.reason, "loop"));
    close_disk();
}

static void broken_long_names(void **state)
{
    (void)state;
    for (unsigned byte = 0; byte < 14; byte += 13) { /* its order, then its checksum */
        make_volume(5 * SECTOR_SIZE);
        fake_fat_cluster(&fat, FAKE_FAT_ROOT)[byte] ^= 2;
        open_disk();
        assert_int_equal(fat_find(&volume, "a file.bin", &entry), STATUS_NOT_FOUND);
        assert_int_equal(fat_find(&volume, "file.bin", &entry), OK);
        assert_string_equal(entry.name, "FILE.BIN");
        close_disk();
    }
    make_volume(5 * SECTOR_SIZE);
    put_le16(fake_fat_cluster(&fat, FAKE_FAT_ROOT) + 3, '/');
    open_disk();
    assert_int_equal(fat_find(&volume, "file.bin", &entry), OK);
    assert_string_equal(entry.name, "FILE.BIN");
    close_disk();
}

/* A value of the boot sector, and the reason for which it is refused. */
static void refused(unsigned offset, unsigned bytes, uint32_t value, const char *reason)
{
    struct sector_source source;
    uint8_t text[4];

    make_volume(5 * SECTOR_SIZE);
    put_le32(text, value);
    memcpy(disk.bytes + offset, text, bytes);
    source = fake_disk_source(&disk);
    assert_int_not_equal(fat_open(&volume, &source, 0, disk.sectors - 1), OK);
    assert_non_null(volume.reason);
    if (strstr(volume.reason, reason) == NULL)
        fail_msg("byte %u: %s", offset, volume.reason);
    fake_disk_free(&disk);
}

static void boot_sectors_that_lie(void **state)
{
    (void)state;
    refused(510, 2, 0, "no FAT32 boot sector");
    refused(17, 2, 512, "no FAT32 boot sector");
    refused(22, 2, 9, "no FAT32 boot sector");
    refused(11, 2, 4096, "size of the disk");
    refused(42, 2, 1, "later version");
    refused(13, 1, 3, "impossible size");
    refused(13, 1, 0, "impossible size");
    refused(32, 4, 4097, "larger than its partition");
    refused(14, 2, 0, "no allocation table");
    refused(16, 1, 0, "no allocation table");
    refused(16, 1, 3, "no allocation table");
    refused(40, 2, 0x82, "no allocation table");
    refused(36, 4, 0x7fffffff, "no room for data");
    refused(36, 4, 1, "does not fit");
    refused(44, 4, 1, "outside");
    refused(44, 4, 4090, "outside");
}

static void reads_that_fail(void **state)
{
    struct sector_source source;

    (void)state;
    for (uint64_t at = 0; at < 12; at++) {
        enum status status;

        make_volume(5 * SECTOR_SIZE);
        source = fake_disk_source(&disk);
        disk.fail_from = at;
        disk.fail_count = 1;
        disk.failure = at % 2 == 0 ? FAKE_ERROR : FAKE_FLIP;
        used_before = kernel_frames();
        status = fat_open(&volume, &source, 0, disk.sectors - 1);
        if (status == OK) {
            status = fat_find(&volume, "file.bin", &entry);
            if (status == OK)
                status = fat_file_open(&volume, &entry, &file);
            if (status == OK)
                fat_file_close(&file);
            fat_close(&volume);
        }
        assert_int_equal(status, disk.commands > at ? STATUS_IO : OK);
        assert_int_equal(kernel_frames(), used_before);
        fake_disk_free(&disk);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(clusters_of_one_sector, set_up),
        cmocka_unit_test_setup(clusters_of_a_page, set_up),
        cmocka_unit_test_setup(clusters_of_32_kib, set_up),
        cmocka_unit_test_setup(sectors_of_4096_bytes, set_up),
        cmocka_unit_test_setup(sound_chain, set_up),
        cmocka_unit_test_setup(chain_that_ends_early, set_up),
        cmocka_unit_test_setup(chain_with_a_loop, set_up),
        cmocka_unit_test_setup(chain_that_leaves_the_volume, set_up),
        cmocka_unit_test_setup(file_larger_than_the_volume, set_up),
        cmocka_unit_test_setup(directory_with_a_loop, set_up),
        cmocka_unit_test_setup(broken_long_names, set_up),
        cmocka_unit_test_setup(boot_sectors_that_lie, set_up),
        cmocka_unit_test_setup(reads_that_fail, set_up),
    };

    return cmocka_run_group_tests_name("FAT32", tests, NULL, NULL);
}

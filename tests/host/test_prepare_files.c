/* The host tool that prepares a FAT32 volume for writing: its two headers, and its refusals, each
 * of which leaves every byte of the disk as it was. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "swapdisk/format/checksum.h"
#include "swapdisk/format/gpt.h"
#include "swapdisk/format/header.h"
#include "swapdisk/format/little.h"

/* The tool's exit statuses, as its --help tells them. */
enum { EXIT_DONE, EXIT_NOT_ALLOWED, EXIT_USAGE, EXIT_SYSTEM };

/* The tool, from the project's folder, in which tests run. */
#define TOOL "build/prepare-files"

/* The larger one has enough clusters of a sector for FAT32. */
#define SIZE    (8 * MIB)
#define LARGE   (40 * MIB)
#define ENTRIES (128U * 128)
#define FIRST   2048U
#define SECTORS (image_size / SECTOR_SIZE)
#define LAST    (SECTORS - 2049)
#define VOLUME  ((uint32_t)(LAST - FIRST - 15)) /* sectors before the partition's last 8 KiB */
#define UUID    "01234567-89ab-cdef-0123-456789abcdef"

static char folder[] = "/tmp/test_prepare_files.XXXXXX";
static char image[64];
static char said[64]; /* the file that takes the tool's words */
static uint8_t *before;
static uint8_t *now;
static uint64_t image_size;

/* The bytes of the two headers. */
#define FIRST_PLACE  ((FIRST + FILES_HEADER_SECTOR) * SECTOR_SIZE)
#define SECOND_PLACE ((LAST - 7) * SECTOR_SIZE)

static struct gpt_partition partitions[2];

static int begin(void **state)
{
    (void)state;
    before = malloc(LARGE);
    now = malloc(LARGE);
    if (before == NULL || now == NULL || mkdtemp(folder) == NULL)
        return -1;
    /* Run alone, this test may come before the tool. */
    unsetenv("MAKEFLAGS");
    if (access(TOOL, X_OK) != 0 && system("make -s " TOOL) != 0)
        return -1;
    snprintf(image, sizeof(image), "%s/image", folder);
    snprintf(said, sizeof(said), "%s/said", folder);
    return 0;
}

static int end(void **state)
{
    (void)state;
    unlink(image);
    unlink(said);
    free(before);
    free(now);
    return rmdir(folder);
}

/* Runs the tool on a target with options before it; returns its exit status. */
static int run_on(const char *target, ...)
{
    const char *arguments[16] = {"prepare-files"};
    unsigned count = 1;
    va_list list;
    int status;
    pid_t child;

    va_start(list, target);
    for (const char *next; (next = va_arg(list, const char *)) != NULL;)
        arguments[count++] = next;
    va_end(list);
    arguments[count] = target;
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int words = open(said, O_WRONLY | O_CREAT | O_TRUNC, 0600);

        dup2(words, 1);
        dup2(words, 2);
        execv(TOOL, (char *const *)arguments);
        _exit(100);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

#define RUN(...) run_on(image, ##__VA_ARGS__, NULL)

static bool words_have(const char *text)
{
    char words[8192] = "";
    FILE *file = fopen(said, "re");

    assert_non_null(file);
    words[fread(words, 1, sizeof(words) - 1, file)] = '\0';
    fclose(file);
    return strstr(words, text) != NULL;
}

static void put(uint64_t offset, const void *bytes, size_t size)
{
    int fd = open(image, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, size, (off_t)offset), (ssize_t)size);
    close(fd);
}

static void get_image(uint8_t *bytes)
{
    int fd = open(image, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pread(fd, bytes, image_size, 0), image_size);
    close(fd);
}

/* The tool refuses, with this word, and changes nothing. */
static void assert_refused(const char *word)
{
    int status;

    get_image(before);
    status = RUN("--yes");
    if (status != EXIT_NOT_ALLOWED || !words_have(word))
        fail_msg("status %d, without the word \"%s\"", status, word);
    get_image(now);
    assert_memory_equal(now, before, image_size);
    assert_int_equal(RUN(), EXIT_NOT_ALLOWED);
}

/* ---- disks ---- */

/* Writes both tables with the first of the partitions. */
static void put_tables(unsigned count)
{
    static uint8_t entries[ENTRIES];
    uint8_t sector[SECTOR_SIZE];
    struct gpt_header header = {.my_lba = 1,
                                .alternate_lba = SECTORS - 1,
                                .first_usable = 34,
                                .last_usable = SECTORS - 34,
                                .entries_lba = 2,
                                .entry_count = 128,
                                .entry_size = 128,
                                .disk_guid = {0xd1, 0x5c}};

    memset(entries, 0, sizeof(entries));
    for (unsigned i = 0; i < count; i++) {
        gpt_entry_encode(entries + i * sizeof(entries) / 128, &partitions[i], 0, "files");
        put_le64(entries + i * sizeof(entries) / 128 + 48, partitions[i].attributes);
    }
    header.entries_crc = checksum_crc32(0, entries, sizeof(entries));
    gpt_mbr_encode(sector, SECTORS, 0);
    put(0, sector, sizeof(sector));
    gpt_header_encode(sector, &header);
    put(SECTOR_SIZE, sector, sizeof(sector));
    put(2 * SECTOR_SIZE, entries, sizeof(entries));
    header.my_lba = SECTORS - 1;
    header.alternate_lba = 1;
    header.entries_lba = SECTORS - 33;
    gpt_header_encode(sector, &header);
    put(header.my_lba * SECTOR_SIZE, sector, sizeof(sector));
    put(header.entries_lba * SECTOR_SIZE, entries, sizeof(entries));
}

/* Makes a blank disk with one partition of files. */
static void make_disk_of(uint64_t size)
{
    image_size = size;
    unlink(image);
    put(size - 1, "", 1);
    for (unsigned i = 0; i < 2; i++) {
        partitions[i] = (struct gpt_partition){
            .unique = {(uint8_t)(0x11 + i)}, .first_lba = FIRST, .last_lba = LAST};
        memcpy(partitions[i].type, files_partition_type, GPT_GUID_SIZE);
    }
    put_tables(1);
}

static void make_disk(void)
{
    make_disk_of(SIZE);
}

/* The volume, as the boot sector describes it (FAT specification, 3.1 and 3.3). */
static void put_volume(uint32_t sectors)
{
    uint8_t boot[SECTOR_SIZE] = {0};

    put_le16(boot + 11, SECTOR_SIZE);
    put_le16(boot + 14, 32);
    put_le32(boot + 32, sectors);
    put_le32(boot + 36, 600);
    put_le16(boot + 510, 0xaa55);
    put(FIRST * SECTOR_SIZE, boot, sizeof(boot));
}

static void make_prepared(void)
{
    make_disk();
    put_volume(VOLUME);
    assert_int_equal(RUN("--yes", "--uuid", UUID), EXIT_DONE);
}

static void run_shell(const char *format, ...)
{
    char command[512];
    va_list list;

    va_start(list, format);
    vsnprintf(command, sizeof(command), format, list);
    va_end(list);
    assert_int_equal(system(command), 0);
}

/* ---- tests ---- */

/* A volume of mkfs.fat, with a file by mtools: two pages change, and the volume stays sound. */
static void a_real_volume_is_prepared(void **state)
{
    struct swap_header headers[2];
    uint8_t uuid[16];

    (void)state;
    make_disk_of(LARGE);
    run_shell("PATH=$PATH:/sbin:/usr/sbin mkfs.fat -F 32 -s 1 --offset %u %s %u >%s 2>&1", FIRST,
              image, (unsigned)VOLUME / 2, said);
    run_shell("mcopy -i %s@@1M Makefile ::/file", image);
    get_image(before);
    assert_int_equal(RUN("--serial", "S 1", "--model", "M"), EXIT_DONE);
    assert_true(words_have("dry run"));
    get_image(now);
    assert_memory_equal(now, before, image_size);
    assert_int_equal(RUN("--yes", "--uuid", UUID, "--serial", "S 1", "--model", "M"), EXIT_DONE);
    assert_true(words_have("done: files=" UUID));
    get_image(now);
    assert_null(swap_header_decode(now + FIRST_PLACE, &headers[0]));
    assert_null(swap_header_decode(now + SECOND_PLACE, &headers[1]));
    assert_null(swap_headers_disagree(&headers[0], &headers[1]));
    assert_int_equal(headers[0].kind, SET_FILES);
    assert_int_equal(headers[0].first_lba, FIRST);
    assert_int_equal(headers[0].last_lba, LAST);
    assert_string_equal(headers[0].serial, "S 1");
    assert_memory_equal(headers[0].partition_guid, partitions[0].unique, 16);
    assert_true(swap_uuid_parse(UUID, uuid));
    assert_memory_equal(headers[0].set_uuid, uuid, 16);
    memcpy(now + FIRST_PLACE, before + FIRST_PLACE, SWAP_HEADER_SIZE);
    memcpy(now + SECOND_PLACE, before + SECOND_PLACE, SWAP_HEADER_SIZE);
    assert_memory_equal(now, before, image_size);
    run_shell("mcopy -n -i %s@@1M ::/file %s/copy && cmp Makefile %s/copy && rm %s/copy", image,
              folder, folder, folder);
    run_shell("dd if=%s of=%s/volume bs=1M skip=1 status=none && PATH=$PATH:/sbin:/usr/sbin "
              "fsck.fat -n %s/volume >%s; status=$?; rm %s/volume; exit $status",
              image, folder, folder, said, folder);
}

static void it_can_be_prepared_again(void **state)
{
    struct swap_header was;
    struct swap_header is;

    (void)state;
    make_prepared();
    get_image(before);
    assert_int_equal(RUN("--yes", "--serial", "OTHER"), EXIT_DONE);
    get_image(now);
    assert_null(swap_header_decode(before + FIRST_PLACE, &was));
    assert_null(swap_header_decode(now + FIRST_PLACE, &is));
    assert_memory_not_equal(was.set_uuid, is.set_uuid, 16);
    assert_string_equal(is.serial, "OTHER");
    /* As the header of another partition it is data of someone else. */
    partitions[0].unique[0]++;
    put_tables(1);
    assert_refused("unknown kind");
}

/* Fields of the boot sector, each by itself, in a volume that is sound otherwise. */
static void a_volume_of_another_kind_is_refused(void **state)
{
    const struct {
        unsigned at;
        unsigned size;
        uint32_t value;
        const char *word;
    } fields[] = {
        {510, 2, 0xaa54, "FAT32"},
        {11, 2, 4096, "FAT32"},
        {17, 2, 512, "FAT32"},
        {22, 2, 1, "FAT32"},
        {36, 4, 0, "FAT32"},
        {32, 4, 0, "FAT32"},
        {14, 2, 23, "23 reserved sectors"},
        {14, 2, 0, "reserved"},
        {32, 4, VOLUME + 9, "are free"},
        {32, 4, UINT32_MAX, "are free"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
        uint8_t bytes[4];

        make_disk();
        put_volume(VOLUME);
        put_le32(bytes, fields[i].value);
        put(FIRST * SECTOR_SIZE + fields[i].at, bytes, fields[i].size);
        assert_refused(fields[i].word);
    }
    make_disk();
    assert_refused("FAT32");
    /* Up to the second header, with the fewest reserved sectors. */
    put_volume(VOLUME + 8);
    put(FIRST * SECTOR_SIZE + 14, "\x18", 1);
    assert_int_equal(RUN("--yes"), EXIT_DONE);
}

/* Neither place is overwritten unless it is blank: then the other one is left alone, too. */
static void data_in_a_place_is_refused(void **state)
{
    static const unsigned bytes[] = {0, 100, 511, 4095};
    struct swap_header swap;
    uint8_t page[SWAP_HEADER_SIZE];

    (void)state;
    for (size_t i = 0; i < 2 * ARRAY_COUNT(bytes); i++) {
        make_disk();
        put_volume(VOLUME);
        put((i % 2 == 0 ? FIRST_PLACE : SECOND_PLACE) + bytes[i / 2], "x", 1);
        assert_refused("unknown kind");
    }
    /* A header of swap may still have pages behind it. */
    make_prepared();
    get_image(now);
    assert_null(swap_header_decode(now + SECOND_PLACE, &swap));
    swap.kind = SET_SWAP;
    memcpy(page, now + SECOND_PLACE, sizeof(page));
    swap_header_encode(page, &swap);
    put(SECOND_PLACE, page, sizeof(page));
    assert_refused("unknown kind");
}

static void tables_are_judged(void **state)
{
    static const unsigned bits[] = {0, 1, 2, 3, 48, 60, 61, 62, 63};

    (void)state;
    make_disk();
    put_tables(0);
    assert_refused("no partition of the type");
    memset(now, 0, 34 * SECTOR_SIZE);
    put(0, now, 34 * SECTOR_SIZE);
    put((SECTORS - 33) * SECTOR_SIZE, now, 33 * SECTOR_SIZE);
    assert_refused("no sound GUID partition table");
    make_disk();
    put_volume(VOLUME);
    put(image_size - SECTOR_SIZE, "x", 1); /* the second table */
    assert_refused("not sound");
    make_disk();
    put_volume(VOLUME);
    put(446 + 16 + 4, "\x0c", 1); /* a second record, which others take for a volume */
    put(446 + 16 + 12, "\x08", 1);
    assert_refused("not sound");
    for (size_t i = 0; i < ARRAY_COUNT(bits); i++) {
        make_disk();
        put_volume(VOLUME);
        partitions[0].attributes = UINT64_C(1) << bits[i];
        put_tables(1);
        if (bits[i] < 62)
            assert_refused("attributes that forbid writing");
        else
            assert_int_equal(RUN("--yes"), EXIT_DONE);
    }
}

static void partitions_are_judged(void **state)
{
    (void)state;
    make_disk();
    put_volume(VOLUME);
    memcpy(partitions[0].type, swap_partition_type, GPT_GUID_SIZE);
    put_tables(1);
    assert_refused("no partition of the type of files");
    make_disk();
    put_volume(VOLUME);
    partitions[0].last_lba = 8191;
    partitions[1].first_lba = 8192;
    put_tables(2);
    assert_refused("several partitions");
    make_disk();
    partitions[0].first_lba = FIRST + 1;
    put_tables(1);
    assert_refused("no multiple of 4 KiB");
    make_disk();
    put_volume(VOLUME);
    partitions[0].last_lba = FIRST + SWAP_SECTORS_MIN - 2;
    put_tables(1);
    assert_refused("too small");
}

static void usage_is_told(void **state)
{
    (void)state;
    make_disk();
    put_volume(VOLUME);
    get_image(before);
    assert_int_equal(RUN("--yes", "--uuid", "00000000-0000-0000-0000-000000000000"), EXIT_USAGE);
    assert_int_equal(RUN("--yes", "--uuid", "0123"), EXIT_USAGE);
    assert_int_equal(RUN("--yes", "--serial", ""), EXIT_USAGE);
    assert_int_equal(RUN("--yes", "--serial", "a serial number of over 20 letters"), EXIT_USAGE);
    assert_int_equal(RUN("--yes", "--model", " M"), EXIT_USAGE);
    assert_int_equal(RUN("--yes", "--force"), EXIT_USAGE);
    assert_int_equal(RUN("--yes", image), EXIT_USAGE);
    assert_int_equal(run_on(folder, "--yes", NULL), EXIT_USAGE);
    assert_int_equal(run_on("/dev/null", "--yes", NULL), EXIT_USAGE);
    assert_int_equal(run_on(said, "--yes", "--help", NULL), EXIT_DONE);
    assert_int_equal(run_on("/nonexistent/image", "--yes", NULL), EXIT_SYSTEM);
    get_image(now);
    assert_memory_equal(now, before, image_size);
}

/* If the plan cannot be told, nothing is done. A closed stream is refused: the disk would be opened
 * in its place and take the words. */
static void words_that_cannot_be_written(void **state)
{
    static const char *const redirections[] = {">/dev/full", ">&-", "<&- >/dev/null"};

    (void)state;
    make_disk();
    put_volume(VOLUME);
    get_image(before);
    for (size_t i = 0; i < ARRAY_COUNT(redirections); i++) {
        run_shell("%s --yes %s %s 2>/dev/null; test $? = %d", TOOL, image, redirections[i],
                  EXIT_SYSTEM);
        get_image(now);
        assert_memory_equal(now, before, image_size);
    }
}

/* QEMU locks the images of its disks in this way. */
static void an_image_in_use_is_refused(void **state)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd;

    (void)state;
    make_disk();
    put_volume(VOLUME);
    fd = open(image, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    assert_refused("is in use");
    close(fd);
    assert_int_equal(RUN("--yes"), EXIT_DONE);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_real_volume_is_prepared),
        cmocka_unit_test(it_can_be_prepared_again),
        cmocka_unit_test(a_volume_of_another_kind_is_refused),
        cmocka_unit_test(data_in_a_place_is_refused),
        cmocka_unit_test(tables_are_judged),
        cmocka_unit_test(partitions_are_judged),
        cmocka_unit_test(usage_is_told),
        cmocka_unit_test(words_that_cannot_be_written),
        cmocka_unit_test(an_image_in_use_is_refused),
    };

    return cmocka_run_group_tests(tests, begin, end);
}

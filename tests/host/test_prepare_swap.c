/* The host tool that prepares disks: its output, and above all its refusals. */
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
#include "swapdisk/format/header.h"
#include "swapdisk/format/log_page.h"

/* The tool's exit statuses, as its --help tells them. */
enum { EXIT_DONE, EXIT_NOT_ALLOWED, EXIT_USAGE, EXIT_SYSTEM };

/* The tool, from the project's folder, in which tests run. */
#define TOOL "build/prepare-swap"

#define IMAGE_SIZE (8 * MIB)
#define UUID       "01234567-89ab-cdef-0123-456789abcdef"

static char folder[] = "/tmp/test_prepare_swap.XXXXXX";
static char image[64];
static char said[64]; /* the file that takes the tool's words */
static uint8_t *before;

/* A shared object that replaces functions of libraries in the tool; NULL: none. */
static const char *preloaded;

static int set_up(void **state)
{
    (void)state;
    preloaded = NULL;
    unlink(image);
    return 0;
}

static int begin(void **state)
{
    (void)state;
    before = malloc(IMAGE_SIZE);
    if (before == NULL || mkdtemp(folder) == NULL)
        return -1;
    /* Run alone, this test may come before the tool. */
    unsetenv("MAKEFLAGS");
    if ((access(TOOL, X_OK) != 0 || access("build/read-log", X_OK) != 0) &&
        system("make -s " TOOL " build/read-log") != 0)
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
    return rmdir(folder);
}

/* In the child: words go to a file, typed text comes from a pipe. */
static _Noreturn void become(char **arguments, const char *typed)
{
    int words = open(said, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int ends[2];

    if (words < 0 || pipe(ends) != 0 ||
        write(ends[1], typed, strlen(typed)) != (ssize_t)strlen(typed))
        _exit(100);
    close(ends[1]);
    dup2(ends[0], 0);
    dup2(words, 1);
    dup2(words, 2);
    if (preloaded != NULL)
        setenv("LD_PRELOAD", preloaded, 1);
    execv(TOOL, arguments);
    _exit(100);
}

/* Runs the tool on the image with up to six arguments before it; returns its exit status. */
static int run_on(const char *target, const char *typed, ...)
{
    char *arguments[16] = {strdup("prepare-swap")};
    unsigned count = 1;
    va_list list;
    int status;
    pid_t child;

    va_start(list, typed);
    for (const char *next; (next = va_arg(list, const char *)) != NULL;)
        arguments[count++] = strdup(next);
    va_end(list);
    arguments[count++] = strdup(target);
    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        become(arguments, typed);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    for (unsigned i = 0; i < count; i++)
        free(arguments[i]);
    return WEXITSTATUS(status);
}

/* Runs the tool with these options before the image; the second types text into it. */
#define RUN(...)        run_on(image, "", ##__VA_ARGS__, NULL)
#define RUN_TYPING(...) run_on(image, __VA_ARGS__, NULL)

static bool words_have(const char *text)
{
    char words[8192] = "";
    FILE *file = fopen(said, "re");
    size_t size;

    assert_non_null(file);
    size = fread(words, 1, sizeof(words) - 1, file);
    words[size] = '\0';
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

static void blank_image(void)
{
    int fd = open(image, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, IMAGE_SIZE), 0);
    close(fd);
}

static void get_image(uint8_t *bytes)
{
    int fd = open(image, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pread(fd, bytes, IMAGE_SIZE, 0), IMAGE_SIZE);
    close(fd);
}

static void remember(void)
{
    get_image(before);
}

static void assert_unchanged(void)
{
    static uint8_t now[IMAGE_SIZE];

    get_image(now);
    assert_memory_equal(now, before, IMAGE_SIZE);
}

static void dry_run_changes_nothing(void **state)
{
    (void)state;
    assert_int_equal(RUN(), EXIT_DONE);
    assert_int_equal(access(image, F_OK), -1);
    blank_image();
    remember();
    assert_int_equal(RUN(), EXIT_DONE);
    assert_true(words_have("dry run"));
    assert_unchanged();
}

/* Checks the disk with the application's own functions. */
static void makes_what_the_application_accepts(void **state)
{
    uint8_t uuid[16];
    struct swap_header headers[2];
    struct gpt_header table;
    uint64_t second;

    (void)state;
    assert_int_equal(
        RUN("--yes", "--size", "8M", "--uuid", UUID, "--serial", "S 1", "--model", "M"), EXIT_DONE);
    remember();
    assert_null(gpt_header_decode(before + SECTOR_SIZE, 1, IMAGE_SIZE / SECTOR_SIZE, 0, &table));
    assert_null(swap_header_decode(before + MIB, &headers[0]));
    second = swap_second_header_lba(headers[0].first_lba, headers[0].last_lba) * SECTOR_SIZE;
    assert_null(swap_header_decode(before + second, &headers[1]));
    assert_null(swap_headers_disagree(&headers[0], &headers[1]));
    assert_true(swap_uuid_parse(UUID, uuid));
    assert_memory_equal(headers[0].set_uuid, uuid, 16);
    assert_memory_equal(headers[0].disk_guid, table.disk_guid, 16);
    assert_string_equal(headers[0].serial, "S 1");
    assert_string_equal(headers[0].model, "M");
    assert_int_equal(headers[0].disk_sectors, IMAGE_SIZE / SECTOR_SIZE);
    assert_int_equal(headers[0].state, SWAP_STATE_CLEAN);
    assert_int_equal(headers[0].first_lba, 2048);
    assert_true(words_have(UUID));
}

static void prepared_image_can_be_prepared_again(void **state)
{
    struct swap_header was;
    struct swap_header is;

    (void)state;
    assert_int_equal(RUN("--yes", "--size", "8M"), EXIT_DONE);
    remember();
    assert_null(swap_header_decode(before + MIB, &was));
    assert_int_equal(RUN("--yes", "--serial", "OTHER"), EXIT_DONE);
    remember();
    assert_null(swap_header_decode(before + MIB, &is));
    assert_memory_equal(was.partition_guid, is.partition_guid, 16);
    assert_memory_not_equal(was.set_uuid, is.set_uuid, 16);
    assert_string_equal(is.serial, "OTHER");
}

/* Marks where the systems that make them put them, with a word that the refusal must have. */
static const struct {
    uint64_t offset;
    const char *bytes;
    size_t size;
    const char *word;
} marks[] = {
    {0x438, "\x53\xef", 2, "ext4"},
    {0, "XFSB", 4, "XFS"},
    {0x10040, "_BHRfS_M", 8, "Btrfs"},
    {3, "NTFS    ", 8, "NTFS"},
    {3, "EXFAT   ", 8, "exFAT"},
    {3, "-FVE-FS-", 8, "BitLocker"},
    {82, "FAT32   ", 8, "FAT32"},
    {54, "FAT16   ", 8, "FAT16"},
    {0, "LUKS\xba\xbe", 6, "LUKS"},
    {512, "LABELONE", 8, "LVM"},
    {0, "\xfc\x4e\x2b\xa9", 4, "RAID"},
    {4096, "\xfc\x4e\x2b\xa9", 4, "RAID"},
    {IMAGE_SIZE - 8192, "\xfc\x4e\x2b\xa9", 4, "RAID"},
    {IMAGE_SIZE - 65536, "\xfc\x4e\x2b\xa9", 4, "RAID"},
    {4086, "SWAPSPACE2", 10, "swap space"},
    {65526, "SWAPSPACE2", 10, "swap space"},
    {4086, "S1SUSPEND", 9, "hibernated"},
    {4086, "ULSUSPEND", 9, "hibernated"},
    {4086, "LINHIB0001", 10, "hibernated"},
    {512, "EFI PART", 8, "GUID partition table"},
    {510, "\x55\xaa", 2, "boot sector"},
    {0, "hsqs", 4, "SquashFS"},
    {0x8001, "CD001", 5, "ISO 9660"},
    {0x1018, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca", 8, "bcache"},
};

/* Each mark by itself, on a disk that is blank otherwise. */
static void every_known_content_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(marks); i++) {
        blank_image();
        put(marks[i].offset, marks[i].bytes, marks[i].size);
        remember();
        assert_int_equal(RUN("--yes"), EXIT_NOT_ALLOWED);
        if (!words_have("refused, since there is") || !words_have(marks[i].word))
            fail_msg("mark %zu, %s, is not named", i, marks[i].word);
        assert_unchanged();
        assert_int_equal(RUN(), EXIT_NOT_ALLOWED);
    }
}

static void unknown_content_is_refused(void **state)
{
    static const uint64_t places[] = {0,
                                      5000,
                                      MIB - 1,
                                      MIB,
                                      3 * MIB + 17,
                                      IMAGE_SIZE - MIB - 1,
                                      IMAGE_SIZE - MIB,
                                      IMAGE_SIZE - 1};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
        blank_image();
        put(places[i], "x", 1);
        remember();
        assert_int_equal(RUN("--yes"), EXIT_NOT_ALLOWED);
        assert_true(words_have("unknown kind"));
        assert_unchanged();
    }
}

/* Also inside a partition of our type, and behind data that are zeroes. */
static void content_in_the_middle_of_a_partition(void **state)
{
    static const uint8_t zeroes[SECTOR_SIZE];
    struct swap_header header;
    uint64_t second;

    (void)state;
    assert_int_equal(RUN("--yes", "--size", "8M"), EXIT_DONE);
    remember();
    assert_null(swap_header_decode(before + MIB, &header));
    second = swap_second_header_lba(header.first_lba, header.last_lba) * SECTOR_SIZE;
    put(MIB, zeroes, sizeof(zeroes));
    put(second, zeroes, sizeof(zeroes));
    put(MIB + SECTOR_SIZE, zeroes, sizeof(zeroes)); /* the lists of bad slots */
    put(second + SECTOR_SIZE, zeroes, sizeof(zeroes));
    assert_int_equal(RUN(), EXIT_DONE);
    put(4 * MIB, zeroes, sizeof(zeroes));
    put(5 * MIB + 3, "x", 1);
    remember();
    assert_int_equal(RUN("--yes"), EXIT_NOT_ALLOWED);
    assert_true(words_have("unknown kind"));
    assert_unchanged();
}

/* A device of up to 64 MiB is read as a whole. */
static void content_in_the_middle_of_a_device(void **state)
{
    char command[512];
    int status;

    (void)state;
    blank_image();
    for (unsigned pass = 0; pass < 2; pass++) {
        remember();
        snprintf(command, sizeof(command),
                 "device=$(losetup -f --show %s 2>/dev/null) || exit 99; "
                 "%s --model M --serial S $device >%s 2>&1; status=$?; losetup -d $device; "
                 "exit $status",
                 image, TOOL, said);
        status = WEXITSTATUS(system(command));
        if (status == 99)
            skip(); /* no devices that are files here */
        assert_int_equal(status, pass == 0 ? EXIT_DONE : EXIT_NOT_ALLOWED);
        assert_int_equal(words_have("unknown kind"), pass != 0);
        assert_unchanged();
        put(3 * MIB + 4095, "x", 1);
    }
}

/* Runs the tool on the image by a shell, with its streams redirected. */
static int run_redirected(const char *options, const char *redirection)
{
    char command[256];

    snprintf(command, sizeof(command), "%s %s %s %s", TOOL, options, image, redirection);
    return WEXITSTATUS(system(command));
}

/* If the plan cannot be told, nothing is done. A closed stream is refused: the image would be
 * opened in its place and take the words. */
static void words_that_cannot_be_written(void **state)
{
    static const char *const redirections[] = {">/dev/full 2>/dev/null", ">&- 2>/dev/null", "2>&-",
                                               "<&- >/dev/null 2>/dev/null"};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(redirections); i++) {
        blank_image();
        remember();
        assert_int_equal(run_redirected("--yes", redirections[i]), EXIT_SYSTEM);
        assert_unchanged();
        unlink(image);
        assert_int_equal(run_redirected("--yes --size 8M", redirections[i]), EXIT_SYSTEM);
        assert_int_equal(access(image, F_OK), -1);
        assert_int_equal(run_redirected("--help", redirections[i]), EXIT_SYSTEM);
        assert_int_equal(run_redirected("", redirections[i]), EXIT_SYSTEM);
    }
}

static void force_asks_for_the_serial_number(void **state)
{
    (void)state;
    blank_image();
    put(0x438, "\x53\xef", 2);
    remember();
    assert_int_equal(RUN_TYPING("", "--yes", "--force"), EXIT_NOT_ALLOWED);
    assert_unchanged();
    assert_int_equal(RUN_TYPING("yes\n", "--yes", "--force"), EXIT_NOT_ALLOWED);
    assert_unchanged();
    assert_int_equal(RUN_TYPING("QM00002\n", "--yes", "--force"), EXIT_NOT_ALLOWED);
    assert_unchanged();
    assert_int_equal(RUN("--force"), EXIT_DONE);
    assert_unchanged();
    assert_int_equal(RUN_TYPING("QM00001\n", "--yes", "--force"), EXIT_DONE);
    remember();
    assert_memory_equal(before + 512, "EFI PART", 8);
}

/* A partition of our type may have been given another content since. */
static void content_inside_our_partition(void **state)
{
    (void)state;
    assert_int_equal(RUN("--yes", "--size", "8M"), EXIT_DONE);
    put(MIB + 0x438, "\x53\xef", 2);
    remember();
    assert_int_equal(RUN("--yes"), EXIT_NOT_ALLOWED);
    assert_true(words_have("ext4"));
    assert_unchanged();
    put(MIB, "XFSB", 4);
    remember();
    assert_int_equal(RUN("--yes"), EXIT_NOT_ALLOWED);
    assert_unchanged();
}

/* Sizes are exact or refused: never another size than the one that was asked for. */
static void sizes(void **state)
{
    static const char *const wrong[] = {"17179869185G",
                                        "16777217T",
                                        "65T",
                                        "18446744073709551616",
                                        "-1M",
                                        " 8M",
                                        "8MM",
                                        "8P",
                                        "0",
                                        "M",
                                        "0x8M",
                                        "+8M"};

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(RUN("--size", wrong[i]), EXIT_USAGE);
        assert_int_equal(access(image, F_OK), -1);
    }
    assert_int_equal(RUN("--size", "2T"), EXIT_DONE);
    assert_true(words_have("will create the file with 2199023255552 bytes"));
    assert_int_equal(RUN("--uuid", "00000000-0000-0000-0000-000000000000"), EXIT_USAGE);
    assert_true(words_have("nil UUID"));
}

/* Attributes that keep the application from writing keep this program from preparing. */
static void attributes_are_respected(void **state)
{
    static const unsigned bits[] = {0, 1, 2, 3, 48, 60, 61, 62, 63};
    static uint8_t entries[128 * 128];

    (void)state;
    for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
        struct gpt_header table;
        uint8_t sector[SECTOR_SIZE];
        uint64_t places[2] = {1, IMAGE_SIZE / SECTOR_SIZE - 1};

        unlink(image);
        assert_int_equal(RUN("--yes", "--size", "8M"), EXIT_DONE);
        remember();
        memcpy(entries, before + 2 * SECTOR_SIZE, sizeof(entries));
        entries[48 + bits[i] / 8] |= (uint8_t)(1U << bits[i] % 8);
        for (unsigned copy = 0; copy < 2; copy++) {
            assert_null(gpt_header_decode(before + places[copy] * SECTOR_SIZE, places[copy],
                                          IMAGE_SIZE / SECTOR_SIZE, 0, &table));
            table.entries_crc = checksum_crc32(0, entries, sizeof(entries));
            gpt_header_encode(sector, &table);
            put(table.entries_lba * SECTOR_SIZE, (const char *)entries, sizeof(entries));
            put(places[copy] * SECTOR_SIZE, (const char *)sector, sizeof(sector));
        }
        remember();
        assert_int_equal(RUN("--yes"), bits[i] >= 62 ? EXIT_DONE : EXIT_NOT_ALLOWED);
        assert_true(bits[i] >= 62 || words_have("attributes that forbid writing"));
        if (bits[i] < 62)
            assert_unchanged();
    }
}

/* A volume of VMFS has its mark behind the first MiB, where only libblkid looks. */
static void libblkid_is_asked(void **state)
{
    (void)state;
    blank_image();
    put(MIB, "\x0d\xd0\x01\xc0", 4);
    remember();
    assert_int_equal(RUN("--yes"), EXIT_NOT_ALLOWED);
    assert_true(words_have("VMFS_volume_member (found by libblkid)"));
    assert_unchanged();
}

/* Replaces one function of libfdisk in the tool by this source. */
static void replace_in_libfdisk(const char *source)
{
    static char object[128];
    char command[1024];

    snprintf(object, sizeof(object), "%s/replaced.so", folder);
    snprintf(command, sizeof(command), "printf '%%s' '%s' | gcc -shared -fPIC -w -o %s -x c -",
             source, object);
    assert_int_equal(system(command), 0);
    preloaded = object;
}

/* libfdisk has another opinion on a table that we accept, or finds one where we find none. */
static void libfdisk_is_asked(void **state)
{
    static const struct {
        const char *source;
        const char *words;
    } opinions[] = {
        {"int fdisk_has_label(void *c) { return 0; }", "libfdisk finds no GUID partition table"},
        {"unsigned long fdisk_get_npartitions(void *c) { return 0; }",
         "libfdisk does not find the partition"},
        {"unsigned long fdisk_partition_get_end(void *p) { return 5; }",
         "libfdisk finds another end of the partition"},
        {"const char *fdisk_partition_get_uuid(void *p) { return \"none\"; }",
         "libfdisk finds another GUID of the partition"},
        {"const char *fdisk_parttype_get_string(void *t) { return \"none\"; }",
         "libfdisk finds another type of the partition"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(opinions); i++) {
        preloaded = NULL;
        blank_image();
        assert_int_equal(RUN("--yes"), EXIT_DONE);
        remember();
        replace_in_libfdisk(opinions[i].source);
        assert_int_equal(RUN("--yes"), EXIT_NOT_ALLOWED);
        assert_true(words_have(opinions[i].words));
        assert_unchanged();
    }
    blank_image();
    remember();
    replace_in_libfdisk("int fdisk_has_label(void *c) { return 1; }");
    assert_int_equal(RUN("--yes"), EXIT_NOT_ALLOWED);
    assert_true(words_have("a partition table (found by libfdisk)"));
    assert_unchanged();
    unlink(preloaded);
    preloaded = NULL;
}

/* A file system of 512 KiB cannot hold the start of the image. */
static void full_disk_leaves_no_image(void **state)
{
    char command[512];
    int status;

    (void)state;
    snprintf(command, sizeof(command),
             "%s sh -c 'mount -t tmpfs -o size=512k none %s || exit 99; "
             "%s --yes --size 8M %s/new >%s/words 2>&1; status=$?; cat %s/words; "
             "test ! -e %s/new || exit 98; exit $status' >/tmp/test_prepare_swap.words 2>&1",
             geteuid() == 0 ? "unshare -m" : "unshare -rm", folder, TOOL, folder, folder, folder,
             folder);
    status = system(command);
    if (!WIFEXITED(status) || WEXITSTATUS(status) == 99 || WEXITSTATUS(status) == 1) {
        unlink("/tmp/test_prepare_swap.words");
        skip(); /* no name spaces of mounts here */
    }
    assert_int_equal(WEXITSTATUS(status), EXIT_SYSTEM);
    assert_int_equal(system("grep -q 'disk full' /tmp/test_prepare_swap.words"), 0);
    unlink("/tmp/test_prepare_swap.words");
}

static void sets_of_a_group(void **state)
{
    struct swap_header header;
    struct bad_slots bad;
    uint8_t uuid[16];

    (void)state;
    assert_int_equal(RUN("--role", "mirror"), EXIT_USAGE);
    assert_int_equal(RUN("--kind", "files"), EXIT_USAGE); /* a swap partition has no files */
    assert_int_equal(RUN("--role", "mirror", "--group", UUID, "--member", "3/2"), EXIT_USAGE);
    assert_int_equal(
        RUN("--yes", "--size", "8M", "--role", "stripe", "--group", UUID, "--member", "2/3"),
        EXIT_DONE);
    remember();
    assert_null(swap_header_decode(before + MIB, &header));
    assert_null(bad_slots_decode(before + MIB, &header, &bad));
    assert_int_equal(header.version, 2);
    assert_int_equal(header.kind, SET_SWAP);
    assert_int_equal(header.role, SET_STRIPE);
    assert_int_equal(header.members, 3);
    assert_int_equal(header.member, 1);
    assert_true(swap_uuid_parse(UUID, uuid));
    assert_memory_equal(header.group_uuid, uuid, 16);
    assert_true(header.log_sectors > 0);
    assert_int_equal(bad.count, 0);
}

static bool file_is_there(const char *path)
{
    return access(path, F_OK) == 0;
}

/* Both halves get headers of one group, or neither is touched. */
static void two_halves_of_a_mirror(void **state)
{
    char other[80];
    struct swap_header headers[2];

    (void)state;
    snprintf(other, sizeof(other), "%s/other", folder);
    assert_int_equal(RUN("--mirror", other, "--uuid", UUID), EXIT_USAGE);
    assert_int_equal(RUN("--mirror", other, "--role", "stripe"), EXIT_USAGE);
    assert_int_equal(RUN("--mirror", image), EXIT_USAGE);
    assert_int_equal(RUN("--serial", "A", "--serial", "B"), EXIT_USAGE);
    assert_int_equal(RUN("--role", "mirror", "--group", UUID, "--member", "1/3"), EXIT_USAGE);
    /* A dry run, one serial number for both, and a second half that cannot be made. */
    assert_int_equal(RUN("--size", "8M", "--mirror", other), EXIT_DONE);
    assert_true(words_have("half 2 of 2"));
    assert_int_equal(
        RUN("--yes", "--size", "8M", "--serial", "A", "--serial", "A", "--mirror", other),
        EXIT_NOT_ALLOWED);
    assert_int_equal(RUN("--yes", "--size", "8M", "--mirror", "/dev/no-such-disk"), EXIT_USAGE);
    assert_false(file_is_there(image) || file_is_there(other));

    assert_int_equal(RUN("--yes", "--size", "8M", "--mirror", other), EXIT_DONE);
    for (unsigned i = 0; i < 2; i++) {
        uint8_t page[SWAP_HEADER_SIZE];
        int fd = open(i == 0 ? image : other, O_RDONLY | O_CLOEXEC);

        assert_int_equal(pread(fd, page, sizeof(page), MIB), sizeof(page));
        close(fd);
        assert_null(swap_header_decode(page, &headers[i]));
        assert_int_equal(headers[i].role, SET_MIRROR);
        assert_int_equal(headers[i].members, 2);
        assert_int_equal(headers[i].member, i);
        assert_string_equal(headers[i].serial, i == 0 ? "QM00001" : "QM00003");
    }
    assert_memory_equal(headers[0].group_uuid, headers[1].group_uuid, 16);
    assert_memory_not_equal(headers[0].set_uuid, headers[1].set_uuid, 16);
    assert_memory_not_equal(headers[0].disk_guid, headers[1].disk_guid, 16);
    assert_int_equal(headers[0].generation, headers[1].generation);

    /* Halves of two sizes: neither is changed. */
    remember();
    unlink(other);
    assert_int_equal(run_on(other, "", "--yes", "--size", "16M", NULL), EXIT_DONE);
    assert_int_equal(RUN("--yes", "--mirror", other), EXIT_NOT_ALLOWED);
    assert_true(words_have("have one size"));
    assert_unchanged();
    unlink(other);
}

/* Prepared anew, a set keeps its bad slots and the number of slots that may hold pages. */
static void preparing_again_keeps_what_is_known(void **state)
{
    struct bad_slots bad = {.generation = 8, .count = 1, .slots = {17}};
    static uint8_t page[SWAP_HEADER_SIZE];
    struct swap_header header;

    (void)state;
    assert_int_equal(RUN("--yes", "--size", "8M"), EXIT_DONE);
    remember();
    assert_null(swap_header_decode(before + MIB, &header));
    header.used_slots = 1234;
    swap_header_encode(page, &header);
    bad_slots_encode(page, &header, &bad);
    put(MIB, (const char *)page, sizeof(page));
    assert_int_equal(RUN("--yes"), EXIT_DONE);
    remember();
    assert_null(swap_header_decode(before + MIB, &header));
    assert_int_equal(header.used_slots, 1234);
    memset(&bad, 0, sizeof(bad));
    assert_null(bad_slots_decode(before + MIB, &header, &bad));
    assert_int_equal(bad.count, 1);
    assert_int_equal(bad.slots[0], 17);
}

/* Runs read-log on the image; its words go where those of the tool go. */
static int read_log(const char *options)
{
    char command[256];

    snprintf(command, sizeof(command), "build/read-log %s %s >%s 2>&1", options, image, said);
    return WEXITSTATUS(system(command));
}

static void put_log(const struct swap_header *header, unsigned place, uint64_t run,
                    uint64_t sequence, const char *text)
{
    static uint8_t page[LOG_PAGE_SIZE];
    struct log_page log = {
        .run = run, .sequence = sequence, .length = (uint32_t)strlen(text), .text = text};

    memcpy(log.set_uuid, header->set_uuid, 16);
    log_page_encode(page, &log);
    put(header->log_first_lba * SECTOR_SIZE + place * LOG_PAGE_SIZE, (const char *)page,
        sizeof(page));
}

static void logs_are_read(void **state)
{
    struct swap_header header;

    (void)state;
    assert_int_equal(RUN("--yes", "--size", "8M"), EXIT_DONE);
    remember();
    assert_null(swap_header_decode(before + MIB, &header));
    assert_int_equal(read_log(""), 1);
    assert_true(words_have("no log"));
    put_log(&header, 0, 4, 2, "three\n");
    put_log(&header, 3, 4, 0, "one\n");
    put_log(&header, 5, 3, 0, "older\n");
    put_log(&header, 9, 4, 1, "two\n");
    assert_int_equal(read_log(""), 0);
    assert_true(words_have("one\ntwo\nthree\n"));
    assert_false(words_have("older"));
    assert_int_equal(read_log("--run 3"), 0);
    assert_true(words_have("older\n"));
    put(header.log_first_lba * SECTOR_SIZE + 9 * LOG_PAGE_SIZE + 70, "x", 1);
    assert_int_equal(read_log(""), 1);
    assert_true(words_have("pages 1 to 1 of run 4 are missing"));
    assert_true(words_have("1 pages are damaged"));
    assert_int_equal(read_log("--run 0"), 2);
}

static void damaged_tables_are_refused(void **state)
{
    (void)state;
    assert_int_equal(RUN("--yes", "--size", "8M"), EXIT_DONE);
    put(512 + 50, "x", 1);
    remember();
    assert_int_equal(RUN("--yes", "--force"), EXIT_NOT_ALLOWED);
    assert_true(words_have("not sound"));
    assert_unchanged();
}

static void image_in_use(void **state)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1};
    int fd;

    (void)state;
    blank_image();
    remember();
    fd = open(image, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    assert_int_equal(RUN("--yes"), EXIT_NOT_ALLOWED);
    assert_true(words_have("in use"));
    assert_unchanged();
    close(fd);
    assert_int_equal(RUN("--yes"), EXIT_DONE);
}

static void wrong_usage(void **state)
{
    (void)state;
    assert_int_equal(RUN("--nonsense"), EXIT_USAGE);
    assert_int_equal(RUN("another"), EXIT_USAGE);
    assert_int_equal(RUN("--size", "8X"), EXIT_USAGE);
    assert_int_equal(RUN("--size", "-8M"), EXIT_USAGE);
    assert_int_equal(RUN("--size", "0"), EXIT_USAGE);
    assert_int_equal(RUN("--size", "1M"), EXIT_USAGE);
    assert_int_equal(RUN("--size", "8388609"), EXIT_USAGE);
    assert_int_equal(RUN("--uuid", "1"), EXIT_USAGE);
    assert_int_equal(RUN("--serial", ""), EXIT_USAGE);
    assert_int_equal(RUN("--serial", " x"), EXIT_USAGE);
    assert_int_equal(RUN("--serial", "123456789012345678901"), EXIT_USAGE);
    assert_int_equal(RUN("--model", "a\tb"), EXIT_USAGE);
    assert_int_equal(run_on("/dev/faultline-none", "", "--yes", NULL), EXIT_USAGE);
    assert_int_equal(run_on("/dev/null", "", "--yes", NULL), EXIT_USAGE);
    assert_int_equal(run_on(folder, "", "--yes", NULL), EXIT_USAGE);
    assert_int_equal(access(image, F_OK), -1);
    assert_int_equal(RUN("--help"), EXIT_DONE);
    assert_true(words_have("exit status"));
    blank_image();
    assert_int_equal(RUN("--size", "16M"), EXIT_USAGE);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(dry_run_changes_nothing, set_up),
        cmocka_unit_test_setup(makes_what_the_application_accepts, set_up),
        cmocka_unit_test_setup(prepared_image_can_be_prepared_again, set_up),
        cmocka_unit_test_setup(every_known_content_is_refused, set_up),
        cmocka_unit_test_setup(unknown_content_is_refused, set_up),
        cmocka_unit_test_setup(content_in_the_middle_of_a_partition, set_up),
        cmocka_unit_test_setup(content_in_the_middle_of_a_device, set_up),
        cmocka_unit_test_setup(words_that_cannot_be_written, set_up),
        cmocka_unit_test_setup(force_asks_for_the_serial_number, set_up),
        cmocka_unit_test_setup(content_inside_our_partition, set_up),
        cmocka_unit_test_setup(sizes, set_up),
        cmocka_unit_test_setup(attributes_are_respected, set_up),
        cmocka_unit_test_setup(libblkid_is_asked, set_up),
        cmocka_unit_test_setup(libfdisk_is_asked, set_up),
        cmocka_unit_test_setup(full_disk_leaves_no_image, set_up),
        cmocka_unit_test_setup(sets_of_a_group, set_up),
        cmocka_unit_test_setup(two_halves_of_a_mirror, set_up),
        cmocka_unit_test_setup(preparing_again_keeps_what_is_known, set_up),
        cmocka_unit_test_setup(logs_are_read, set_up),
        cmocka_unit_test_setup(damaged_tables_are_refused, set_up),
        cmocka_unit_test_setup(image_in_use, set_up),
        cmocka_unit_test_setup(wrong_usage, set_up),
    };

    return cmocka_run_group_tests(tests, begin, end);
}

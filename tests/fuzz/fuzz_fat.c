/*
 * FAT32 volumes of any content: every directory is walked and every file opened; the work ends, no
 * access leaves the volume, and each run lies in its data.
 *
 * The input is laid over a sound volume as patches of (place, bytes). Places count from the boot
 * sector, the table and the first directories, where every byte means something.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/check.h"
#include "pmm/pmm.h"
#include "swapdisk/format/little.h"
#include "swapdisk/fs/fat.h"
#include "tests/host/fake/disk.h"
#include "tests/host/fake/fat.h"
#include "tests/host/fake/machine.h"

#define SECTORS   512U
#define FIRST     8U
#define DEEPEST   4U
#define MOST_READ 400U /* entries that one input may take */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fake_disk disk;
static struct fake_fat fat;
static uint8_t *pristine;
static unsigned entries_read;

static void prepare(void)
{
    uint32_t first;

    fake_machine_start(16 * MIB);
    fake_disk_make(&disk, SECTORS, "Fake", "S1");
    fake_fat_format(&fat, &disk, FIRST, SECTORS - FIRST - 4, 2);
    first = fake_fat_chain(&fat, 1, 1);
    fake_fat_enter(&fat, FAKE_FAT_ROOT, "SUB        ", "A directory", 0x10, first, 0);
    fake_fat_enter(&fat, first, "DEEP    BIN", "a file of some length.bin", 0,
                   fake_fat_chain(&fat, 9, 1), 9000);
    fake_fat_enter(&fat, FAKE_FAT_ROOT, "SPREAD  BIN", "spread.bin", 0, fake_fat_chain(&fat, 7, 2),
                   7000);
    fake_fat_enter(&fat, FAKE_FAT_ROOT, "EMPTY   BIN", NULL, 0, 0, 0);
    pristine = malloc(SECTORS * SECTOR_SIZE);
    CHECK(pristine != NULL);
    memcpy(pristine, disk.bytes, SECTORS * SECTOR_SIZE);
}

/* Returns the address of a place: boot sector, table, root, or the directory in it. */
static uint8_t *place_of(uint8_t where, uint16_t offset)
{
    switch (where % 4) {
    case 0: return fake_disk_sector(&disk, FIRST) + offset % SECTOR_SIZE;
    case 1: return fake_disk_sector(&disk, FIRST + FAKE_FAT_RESERVED) + offset % 256;
    case 2: return fake_fat_cluster(&fat, FAKE_FAT_ROOT) + offset % 1024;
    default: return fake_fat_cluster(&fat, FAKE_FAT_ROOT + 1) + offset % 1024;
    }
}

static void patch(const uint8_t *data, size_t size)
{
    while (size > 4) {
        uint8_t *to = place_of(data[0], get_le16(data + 1));
        size_t length = data[3] % 40;

        data += 4;
        size -= 4;
        length = length < size ? length : size;
        memcpy(to, data, length);
        data += length;
        size -= length;
    }
}

/* Every sector that the chain has lies in the data area. */
static void judge_file(const struct fat_volume *volume, const struct fat_file *file)
{
    uint32_t sectors = (uint32_t)(((uint64_t)file->size + SECTOR_SIZE - 1) / SECTOR_SIZE);
    uint32_t next = 0;
    uint64_t lba;
    uint32_t count;

    CHECK(file->found <= file->clusters && file->clusters <= volume->clusters);
    CHECK(file->problem != NULL || file->found == file->clusters);
    while (next < sectors && fat_file_place(file, next, &lba, &count) == OK) {
        CHECK(count > 0 && count <= sectors - next);
        CHECK(lba >= volume->data_lba && lba + count <= volume->first_lba + volume->total_sectors);
        next += count;
    }
    CHECK(next == sectors || file->problem != NULL);
}

static void walk(struct fat_volume *volume, uint32_t first, unsigned depth)
{
    struct fat_directory at = fat_directory_begin(first);
    struct fat_entry entry;
    struct fat_file file;

    while (entries_read < MOST_READ && fat_directory_next(volume, &at, &entry) == OK) {
        entries_read++;
        CHECK(entry.name[0] != '\0' && strlen(entry.name) < FAT_NAME_SIZE);
        CHECK(strpbrk(entry.name, "/\\") == NULL && strlen(entry.short_name) <= 12);
        if (entry.directory && depth < DEEPEST)
            walk(volume, entry.first, depth + 1);
        if (!entry.directory && fat_file_open(volume, &entry, &file) == OK) {
            judge_file(volume, &file);
            fat_file_close(&file);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sector_source source;
    struct fat_volume volume;
    struct fat_entry entry;
    uint64_t used = 0;

    if (pristine == NULL)
        prepare();
    used = pmm_usage().by_kind[FRAME_KERNEL];
    memcpy(disk.bytes, pristine, SECTORS * SECTOR_SIZE);
    patch(data, size);
    source = fake_disk_source(&disk);
    if (fat_open(&volume, &source, FIRST, SECTORS - 5) == OK) {
        entries_read = 0;
        walk(&volume, volume.root, 0);
        (void)!fat_find(&volume, "a directory/A FILE of some length.bin", &entry);
        fat_close(&volume);
    } else {
        CHECK(volume.reason != NULL);
    }
    CHECK(pmm_usage().by_kind[FRAME_KERNEL] == used);
    return 0;
}

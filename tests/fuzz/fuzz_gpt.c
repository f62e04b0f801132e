/*
 * Partition tables of any content: whatever is accepted obeys the rules of gpt.h.
 *
 * The input is laid over a sound disk as patches of (sector, offset, bytes), and both headers'
 * checksums may be corrected afterwards, so that the checks behind the checksum are reached.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/check.h"
#include "swapdisk/format/checksum.h"
#include "swapdisk/format/gpt.h"
#include "swapdisk/format/little.h"
#include "tests/host/fake/disk.h"
#include "tests/host/fake/machine.h"

#define SECTORS 256U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fake_disk disk;
static uint8_t *pristine;

static void prepare(void)
{
    struct gpt_header header;
    struct gpt_partition partition;

    fake_machine_start(16 * MIB);
    fake_disk_make(&disk, SECTORS, "Fake", "S1");
    header = fake_disk_gpt_header(&disk);
    partition = fake_disk_partition(&disk);
    partition.first_lba = 48;
    partition.last_lba = 127;
    fake_disk_put_table(&disk, &header, &partition, 1);
    pristine = malloc(SECTORS * SECTOR_SIZE);
    CHECK(pristine != NULL);
    memcpy(pristine, disk.bytes, SECTORS * SECTOR_SIZE);
}

/* Corrects the checksums of a header and of its entries, where they lie on the disk. */
static void seal(uint8_t *sector)
{
    uint64_t lba = get_le64(sector + 72);
    uint64_t size = (uint64_t)get_le32(sector + 80) * get_le32(sector + 84);

    if (lba < SECTORS && size <= (SECTORS - lba) * SECTOR_SIZE)
        put_le32(sector + 88, checksum_crc32(0, disk.bytes + lba * SECTOR_SIZE, (size_t)size));
    if (get_le32(sector + 12) > SECTOR_SIZE)
        return;
    put_le32(sector + 16, 0);
    put_le32(sector + 16, checksum_crc32(0, sector, get_le32(sector + 12)));
}

/* Each patch: sector, offset (2 bytes), length, bytes. */
static void patch(const uint8_t *data, size_t size)
{
    while (size > 4) {
        size_t at = data[0] * (size_t)SECTOR_SIZE + get_le16(data + 1) % SECTOR_SIZE;
        size_t length = data[3] % 64;

        data += 4;
        size -= 4;
        length = length < size ? length : size;
        length = length < SECTORS * SECTOR_SIZE - at ? length : SECTORS * SECTOR_SIZE - at;
        memcpy(disk.bytes + at, data, length);
        data += length;
        size -= length;
    }
}

static void judge(const struct gpt *gpt)
{
    CHECK(gpt->primary_problem == NULL || gpt->from_backup);
    CHECK(!gpt->from_backup || gpt->backup_problem == NULL);
    CHECK(gpt->count <= GPT_PARTITIONS_MAX);
    CHECK(gpt->header.first_usable <= gpt->header.last_usable && gpt->header.last_usable < SECTORS);
    for (unsigned i = 0; i < gpt->count; i++) {
        const struct gpt_partition *a = &gpt->partitions[i];

        CHECK(a->first_lba >= gpt->header.first_usable && a->first_lba <= a->last_lba &&
              a->last_lba <= gpt->header.last_usable);
        for (unsigned j = 0; j < i; j++)
            CHECK(a->last_lba < gpt->partitions[j].first_lba ||
                  gpt->partitions[j].last_lba < a->first_lba);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct gpt gpt;
    struct sector_source source;

    if (pristine == NULL)
        prepare();
    if (size == 0)
        return 0;
    memcpy(disk.bytes, pristine, SECTORS * SECTOR_SIZE);
    patch(data + 1, size - 1);
    if ((data[0] & 1) != 0)
        seal(disk.bytes + SECTOR_SIZE);
    if ((data[0] & 2) != 0)
        seal(disk.bytes + (SECTORS - 1) * SECTOR_SIZE);
    source = fake_disk_source(&disk);
    if (gpt_read(&source, &gpt, (struct pfn){600}, (struct pfn){601}) == OK)
        judge(&gpt);
    else
        CHECK(gpt.count == 0);
    return 0;
}

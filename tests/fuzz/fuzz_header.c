/*
 * Fuzzes the validator with whole disks. It must accept only a disk that is prepared in every
 * respect, and must reject an accepted disk after any single bit flip.
 *
 * The input patches a prepared disk; the checksums of tables and headers may be corrected
 * afterwards. An accepted disk is compared with its real content.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/check.h"
#include "swapdisk/choose.h"
#include "swapdisk/format/checksum.h"
#include "swapdisk/format/little.h"
#include "swapdisk/validate.h"
#include "tests/host/fake/disk.h"
#include "tests/host/fake/machine.h"

#define SECTORS 2200U
#define FIRST   2048U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fake_disk disk;
static uint8_t *pristine[3]; /* with headers of version 1, of version 2, and of a mirror's half */

/* Offsets of patches: mostly sectors that the validator reads. */
static const uint16_t places[] = {
    0, 1, 2, FIRST, FIRST + 1, FIRST + 7, SECTORS - 1, SECTORS - 33, 0xffff};

static uint64_t second_header(void)
{
    return swap_second_header_lba(FIRST, fake_disk_partition(&disk).last_lba);
}

static void prepare(void)
{
    fake_machine_start(16 * MIB);
    fake_disk_make(&disk, SECTORS, "Fake", "S1");
    for (unsigned i = 0; i < ARRAY_COUNT(pristine); i++) {
        struct swap_header header = fake_disk_swap_header(&disk, 0x11);
        static const struct bad_slots list = {.generation = 5, .count = 2, .slots = {0, 3}};

        fake_disk_prepare(&disk, 0x11);
        if (i >= 1) {
            header.version = 2;
            header.log_sectors = 16;
            header.log_first_lba = second_header() - header.log_sectors;
            if (i == 2) {
                header.role = SET_MIRROR;
                header.members = 2;
                memset(header.group_uuid, 0x77, sizeof(header.group_uuid));
            }
            fake_disk_put_headers_2(&disk, &header, &list);
        }
        pristine[i] = malloc(SECTORS * SECTOR_SIZE);
        CHECK(pristine[i] != NULL);
        memcpy(pristine[i], disk.bytes, SECTORS * SECTOR_SIZE);
    }
}

static void seal_header(uint8_t *page)
{
    put_le32(page + 24, 0);
    put_le32(page + 24,
             checksum_crc32c(0, page, get_le32(page + 16) == 1 ? SWAP_HEADER_SIZE : SECTOR_SIZE));
}

static void seal_list(uint8_t *page)
{
    put_le32(page + 520, 0);
    put_le32(page + 520, checksum_crc32c(0, page + 512, SWAP_HEADER_SIZE - 512));
}

static void seal_table(uint8_t *sector, uint64_t entries)
{
    put_le32(sector + 88, checksum_crc32(0, disk.bytes + entries * SECTOR_SIZE, 128 * 128));
    put_le32(sector + 16, 0);
    put_le32(sector + 16, checksum_crc32(0, sector, 92));
}

static void seal(unsigned what)
{
    if ((what & 8) != 0)
        seal_list(disk.bytes + FIRST * SECTOR_SIZE);
    if ((what & 16) != 0)
        seal_list(disk.bytes + second_header() * SECTOR_SIZE);
    if ((what & 1) != 0)
        seal_header(disk.bytes + FIRST * SECTOR_SIZE);
    if ((what & 2) != 0)
        memcpy(disk.bytes + second_header() * SECTOR_SIZE, disk.bytes + FIRST * SECTOR_SIZE,
               SWAP_HEADER_SIZE);
    if ((what & 4) != 0) {
        memcpy(disk.bytes + (SECTORS - 33) * SECTOR_SIZE, disk.bytes + 2 * SECTOR_SIZE, 128 * 128);
        seal_table(disk.bytes + SECTOR_SIZE, 2);
        seal_table(disk.bytes + (SECTORS - 1) * SECTOR_SIZE, SECTORS - 33);
    }
}

static void patch(const uint8_t *data, size_t size)
{
    while (size > 4) {
        uint64_t lba = places[data[0] % ARRAY_COUNT(places)];
        size_t at = (size_t)(lba == 0xffff ? second_header() : lba) * SECTOR_SIZE +
                    get_le16(data + 1) % SECTOR_SIZE;
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

static bool accepted(struct disk_finding *finding)
{
    struct disk_identity identity = fake_disk_identity(&disk);
    struct disk_view view = {
        .device = &disk, .identity = &identity, .source = fake_disk_source(&disk)};
    enum status status = validate_disk(&view, finding);

    CHECK(status == OK && memchr(finding->reason, 0, REASON_SIZE) != NULL);
    return finding->prepared;
}

/* Checks that the finding matches the disk's identity and its partition entries. */
static void judge(const struct disk_finding *finding)
{
    const struct swap_header *header = &finding->header;
    const struct bad_slots *list = validate_bad_slots();
    unsigned found = 0;

    CHECK(header->version <= 2 && header->kind == SET_SWAP);
    CHECK(header->role == SET_ALONE || (header->members >= 2 && header->member < header->members &&
                                        (header->role == SET_STRIPE || header->members == 2)));
    CHECK(swap_header_slots(header) > 0 && header->used_slots <= swap_header_slots(header));
    CHECK(list->count <= BAD_SLOTS_MAX && (header->version == 2 || list->count == 0));
    for (uint32_t i = 0; i < list->count; i++)
        CHECK(list->slots[i] < swap_header_slots(header) &&
              (i == 0 || list->slots[i] > list->slots[i - 1]));

    CHECK(strcmp(header->model, "Fake") == 0 && strcmp(header->serial, "S1") == 0);
    CHECK(header->disk_sectors == SECTORS && header->sector_size == 512);
    CHECK(finding->first_lba % 8 == 0 && finding->first_lba < finding->last_lba &&
          finding->last_lba < SECTORS - 33);
    CHECK(header->first_lba == finding->first_lba && header->last_lba == finding->last_lba);
    CHECK(memcmp(header->disk_guid, disk.bytes + SECTOR_SIZE + 56, 16) == 0);
    for (unsigned i = 0; i < 128; i++) {
        const uint8_t *entry = disk.bytes + 2 * SECTOR_SIZE + (size_t)i * 128;

        if (memcmp(entry, swap_partition_type, 16) != 0)
            continue;
        CHECK(memcmp(entry + 16, header->partition_guid, 16) == 0);
        CHECK(get_le64(entry + 32) == finding->first_lba &&
              get_le64(entry + 40) == finding->last_lba);
        found++;
    }
    CHECK(found == 1);
}

/* One bit of one of the two headers, chosen by the input. In version 2 one in the list counts as a
 * torn copy: the other copy, if it is sound, is the list. */
static void flip_one(const struct disk_finding *was, uint16_t choice)
{
    uint64_t lba = (choice & 0x8000) != 0 ? swap_second_header_lba(was->first_lba, was->last_lba)
                                          : was->first_lba;
    uint8_t *bytes = disk.bytes + lba * SECTOR_SIZE;
    struct disk_finding finding;
    unsigned bit = choice & 0x7fff;

    bytes[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    if (was->header.version == 1 || bit < SECTOR_SIZE * 8)
        CHECK(!accepted(&finding));
    else if (accepted(&finding))
        judge(&finding);
}

/* Beside another prepared disk, whose header is the pristine half with a few changed fields, at
 * most one of two that claim one place is chosen, and halves only if they belong together. */
static void choose_beside(const struct disk_finding *finding, const uint8_t *data)
{
    static struct disk_finding both[2];
    struct options options = {.swap = (data[0] & 1) != 0 ? SWAP_AUTO : SWAP_SET, .swap_sets = 2};
    struct swap_header *other = &both[1].header;
    unsigned chosen;

    both[0] = both[1] = *finding;
    memcpy(options.swap_set[0].uuid, finding->header.set_uuid, 16);
    other->set_uuid[3] ^= data[0] & 2;
    other->group_uuid[3] ^= data[0] & 4;
    other->member ^= data[0] >> 3 & 1;
    other->generation += data[1] % 4;
    other->last_lba -= data[1] & 0x10;
    memcpy(options.swap_set[1].uuid, other->set_uuid, 16);
    both[0].next = &both[1];
    both[1].next = NULL;
    chosen = swap_choose(both, &options, true);
    CHECK(chosen == (unsigned)both[0].chosen + both[1].chosen);
    if (chosen < 2)
        return;
    CHECK(memcmp(both[0].header.set_uuid, other->set_uuid, 16) != 0);
    CHECK(options.swap == SWAP_SET || swap_same_group(&both[0].header, other));
    if (swap_same_group(&both[0].header, other)) {
        CHECK(both[0].header.member != other->member && both[0].header.role == other->role);
        CHECK(other->role != SET_MIRROR ||
              (swap_header_slots(other) == swap_header_slots(&both[0].header) &&
               other->generation - both[0].header.generation <= 1));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct disk_finding finding;

    if (pristine[0] == NULL)
        prepare();
    if (size < 3)
        return 0;
    memcpy(disk.bytes, pristine[(data[0] >> 6) % ARRAY_COUNT(pristine)], SECTORS * SECTOR_SIZE);
    patch(data + 3, size - 3);
    seal(data[0]);
    if (!accepted(&finding))
        return 0;
    judge(&finding);
    choose_beside(&finding, data + 1);
    flip_one(&finding, get_le16(data + 1));
    return 0;
}

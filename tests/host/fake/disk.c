/* A disk as host tests have it. */
#include "tests/host/fake/disk.h"

#include <stdlib.h>
#include <string.h>

#include "lib/check.h"
#include "pmm/frame.h"
#include "swapdisk/format/checksum.h"

#define ENTRIES       128U
#define ENTRY_SIZE    128U
#define TABLE_SECTORS (ENTRIES * ENTRY_SIZE / SECTOR_SIZE)

unsigned fake_disk_shift;

/* Stores an ATA text: the first character of each pair in the high byte, padded with blanks. */
static void put_text(uint16_t *words, unsigned count, const char *text)
{
    size_t length = strlen(text);

    for (unsigned i = 0; i < count * 2; i++) {
        unsigned letter = i < length ? (unsigned char)text[i] : ' ';

        if (i % 2 == 0)
            words[i / 2] = (uint16_t)(letter << 8);
        else
            words[i / 2] = (uint16_t)(words[i / 2] | letter);
    }
}

void fake_disk_seal(struct fake_disk *disk)
{
    unsigned sum = 0xa5;

    for (unsigned i = 0; i < 255; i++)
        sum += (disk->words[i] & 0xffU) + (disk->words[i] >> 8);
    disk->words[255] = (uint16_t)(0xa5U | (0x100U - (sum & 0xffU)) << 8);
}

void fake_disk_identify(struct fake_disk *disk)
{
    memset(disk->words, 0, sizeof(disk->words));
    disk->words[0] = 0x0040;
    put_text(&disk->words[10], 10, disk->serial);
    put_text(&disk->words[23], 4, "1.0");
    put_text(&disk->words[27], 20, disk->model);
    disk->words[49] = 0x0300;
    disk->words[75] = 31;
    disk->words[76] = 0x0100;
    disk->words[83] = 0x7400;
    disk->words[84] = 0x4020;
    disk->words[85] = 0x0020;
    for (unsigned i = 0; i < 4; i++)
        disk->words[100 + i] = (uint16_t)(disk->sectors >> disk->shift >> (16 * i));
    disk->words[106] = 0x4000;
    if (disk->shift > 0) {
        disk->words[106] |= 1U << 12;
        disk->words[117] = (uint16_t)(SECTOR_SIZE << disk->shift >> 1);
    }
    disk->words[128] = 0x0001;
    disk->words[169] = 0x0001;
    fake_disk_seal(disk);
}

void fake_disk_make(struct fake_disk *disk, uint64_t sectors, const char *model, const char *serial)
{
    *disk = (struct fake_disk){.sectors = sectors,
                               .shift = fake_disk_shift,
                               .stored = sectors,
                               .bad_sector = UINT64_MAX,
                               .bad_write = UINT64_MAX,
                               .bad_write_from = UINT64_MAX};
    disk->bytes = calloc(sectors, SECTOR_SIZE);
    CHECK(disk->bytes != NULL && strlen(model) < sizeof(disk->model) &&
          strlen(serial) < sizeof(disk->serial));
    strcpy(disk->model, model);
    strcpy(disk->serial, serial);
    fake_disk_identify(disk);
}

void fake_disk_free(struct fake_disk *disk)
{
    for (size_t i = 0; i < disk->log_count; i++)
        free(disk->log[i].data);
    free(disk->log);
    free(disk->bytes);
    *disk = (struct fake_disk){0};
}

struct gpt_header fake_disk_gpt_header(const struct fake_disk *disk)
{
    uint64_t one = gpt_primary_lba(disk->shift); /* a logical sector */
    struct gpt_header header = {.my_lba = one,
                                .alternate_lba = disk->sectors - one,
                                .first_usable = 2 * one + TABLE_SECTORS,
                                .last_usable = disk->sectors - one - TABLE_SECTORS - 1,
                                .entries_lba = 2 * one,
                                .shift = disk->shift,
                                .entry_count = ENTRIES,
                                .entry_size = ENTRY_SIZE};

    memset(header.disk_guid, 0xd1, GPT_GUID_SIZE);
    return header;
}

struct gpt_partition fake_disk_partition(const struct fake_disk *disk)
{
    struct gpt_partition partition = {.first_lba = 2048, .last_lba = disk->sectors - 64};

    /* The last logical sector ends with it. */
    if (disk->shift > 0)
        partition.last_lba--;

    memcpy(partition.type, swap_partition_type, GPT_GUID_SIZE);
    memset(partition.unique, 0x9a, GPT_GUID_SIZE);
    return partition;
}

struct swap_header fake_disk_swap_header(const struct fake_disk *disk, uint8_t uuid_byte)
{
    struct gpt_partition partition = fake_disk_partition(disk);
    struct swap_header header = {.version = 1,
                                 .kind = SET_SWAP,
                                 .members = 1,
                                 .first_lba = partition.first_lba,
                                 .last_lba = partition.last_lba,
                                 .disk_sectors = disk->sectors,
                                 .sector_size = SECTOR_SIZE << disk->shift,
                                 .generation = 7,
                                 .state = SWAP_STATE_CLEAN,
                                 .prepared_at = 1700000000,
                                 .prepared_by = "a host test"};

    memset(header.set_uuid, uuid_byte, 16);
    memcpy(header.partition_guid, partition.unique, 16);
    memset(header.disk_guid, 0xd1, 16);
    strcpy(header.model, disk->model);
    strcpy(header.serial, disk->serial);
    return header;
}

uint8_t *fake_disk_sector(const struct fake_disk *disk, uint64_t lba)
{
    CHECK(lba < disk->sectors);
    return disk->bytes + lba % disk->stored * SECTOR_SIZE;
}

void fake_disk_put_table(struct fake_disk *disk, const struct gpt_header *header,
                         const struct gpt_partition *partitions, unsigned count)
{
    struct gpt_header copy = *header;
    size_t size = (size_t)header->entry_count * header->entry_size;
    uint64_t one = gpt_primary_lba(disk->shift);
    uint64_t sectors = round_up(size, one * SECTOR_SIZE) / SECTOR_SIZE;
    uint64_t backup_entries = disk->sectors - one - sectors;
    uint8_t *entries = fake_disk_sector(disk, header->entries_lba);

    CHECK(count <= header->entry_count && header->entries_lba + sectors < backup_entries);
    memset(entries, 0, sectors * SECTOR_SIZE);
    for (unsigned i = 0; i < count; i++)
        gpt_entry_encode(entries + (size_t)i * header->entry_size, &partitions[i], disk->shift,
                         "Faultline swap");
    memcpy(fake_disk_sector(disk, backup_entries), entries, sectors * SECTOR_SIZE);
    copy.entries_crc = checksum_crc32(0, entries, size);
    gpt_header_encode(fake_disk_sector(disk, one), &copy);
    copy.my_lba = disk->sectors - one;
    copy.alternate_lba = one;
    copy.entries_lba = backup_entries;
    gpt_header_encode(fake_disk_sector(disk, disk->sectors - one), &copy);
    gpt_mbr_encode(fake_disk_sector(disk, 0), disk->sectors, disk->shift);
}

void fake_disk_split_partition(struct fake_disk *disk, uint8_t differ)
{
    struct gpt_header header = fake_disk_gpt_header(disk);
    struct gpt_partition parts[2] = {fake_disk_partition(disk), fake_disk_partition(disk)};

    parts[0].last_lba = 4095;
    parts[1].first_lba = 4096;
    parts[1].unique[0] ^= differ;
    fake_disk_put_table(disk, &header, parts, 2);
}

void fake_disk_put_headers(struct fake_disk *disk, const struct swap_header *header)
{
    struct gpt_partition partition = fake_disk_partition(disk);

    swap_header_encode(fake_disk_sector(disk, partition.first_lba), header);
    swap_header_encode(
        fake_disk_sector(disk, swap_second_header_lba(partition.first_lba, partition.last_lba)),
        header);
}

void fake_disk_prepare(struct fake_disk *disk, uint8_t uuid_byte)
{
    struct gpt_header table = fake_disk_gpt_header(disk);
    struct gpt_partition partition = fake_disk_partition(disk);
    struct swap_header header = fake_disk_swap_header(disk, uuid_byte);

    fake_disk_put_table(disk, &table, &partition, 1);
    fake_disk_put_headers(disk, &header);
}

struct swap_header fake_disk_swap_header_2(const struct fake_disk *disk, uint8_t uuid_byte)
{
    struct swap_header header = fake_disk_swap_header(disk, uuid_byte);

    header.version = 2;
    header.log_sectors = 128;
    header.log_first_lba =
        swap_second_header_lba(header.first_lba, header.last_lba) - header.log_sectors;
    return header;
}

void fake_disk_put_headers_2(struct fake_disk *disk, const struct swap_header *header,
                             const struct bad_slots *list)
{
    static const struct bad_slots empty = {.generation = 1};
    uint64_t second = swap_second_header_lba(header->first_lba, header->last_lba);
    uint8_t *page = fake_disk_sector(disk, header->first_lba);

    swap_header_encode(page, header);
    bad_slots_encode(page, header, list != NULL ? list : &empty);
    memcpy(fake_disk_sector(disk, second), page, SWAP_HEADER_SIZE);
}

void fake_disk_prepare_2(struct fake_disk *disk, uint8_t uuid_byte)
{
    struct swap_header header = fake_disk_swap_header_2(disk, uuid_byte);

    fake_disk_prepare(disk, uuid_byte);
    fake_disk_put_headers_2(disk, &header, NULL);
}

bool fake_disk_fails(struct fake_disk *disk)
{
    uint64_t number = disk->commands++;

    return number >= disk->fail_from && number - disk->fail_from < disk->fail_count;
}

void fake_disk_log(struct fake_disk *disk, uint64_t lba, unsigned sectors)
{
    size_t size = (size_t)sectors * SECTOR_SIZE;
    struct fake_event *event;

    disk->log = realloc(disk->log, (disk->log_count + 1) * sizeof(*disk->log));
    CHECK(disk->log != NULL);
    event = &disk->log[disk->log_count++];
    *event = (struct fake_event){.lba = lba, .sectors = sectors};
    if (sectors > 0) {
        event->data = malloc(size);
        CHECK(event->data != NULL);
        memcpy(event->data, fake_disk_sector(disk, lba), size);
    }
}

void fake_disk_trim(struct fake_disk *disk, uint64_t lba, unsigned sectors)
{
    for (unsigned i = 0; i < sectors; i++)
        memset(fake_disk_sector(disk, lba + i), FAKE_TRIMMED, SECTOR_SIZE);
    fake_disk_log(disk, lba, sectors);
    disk->log[disk->log_count - 1].trim = true;
}

static enum status source_read_disk(void *context, uint64_t lba, unsigned sectors, struct pfn frame)
{
    struct fake_disk *disk = context;
    uint8_t *to = frame_pointer(frame);
    size_t size = (size_t)sectors * SECTOR_SIZE;
    bool fails = fake_disk_fails(disk);

    CHECK(sectors > 0 && sectors <= SECTORS_PER_PAGE && lba + sectors <= disk->sectors);
    if (disk->bad_sector >= lba && disk->bad_sector - lba < sectors)
        return STATUS_IO;
    if (fails && disk->failure == FAKE_ERROR)
        return STATUS_IO;
    if (fails && disk->failure == FAKE_SILENT)
        return OK;
    if (fails && disk->failure == FAKE_SHORT)
        size /= 2;
    memcpy(to, fake_disk_sector(disk, lba), size);
    if (fails && disk->failure == FAKE_FLIP)
        to[size / 2] ^= 0x10;
    return OK;
}

struct sector_source fake_disk_source(struct fake_disk *disk)
{
    return (struct sector_source){source_read_disk, disk, disk->sectors, disk->shift};
}

struct disk_identity fake_disk_identity(const struct fake_disk *disk)
{
    struct disk_identity identity;
    const char *why;
    enum status status = identity_decode(disk->words, &identity, &why);

    CHECK_MSG(status == OK, "the fake disk is refused: %s", why);
    return identity;
}

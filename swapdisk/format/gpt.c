/* The GUID partition table: reads both copies, checks each and compares them. */
#include "swapdisk/format/gpt.h"

#include <stddef.h>

#include "lib/bytes.h"
#include "lib/check.h"
#include "pmm/frame.h"
#include "swapdisk/format/checksum.h"
#include "swapdisk/format/identify.h"
#include "swapdisk/format/little.h"

/* The protective MBR (UEFI 2.10, table 5.3 and 5.4). */
#define MBR_RECORDS      446
#define MBR_RECORD_SIZE  16
#define MBR_RECORD_TYPE  4
#define MBR_RECORD_START 8
#define MBR_RECORD_COUNT 12
#define MBR_SIGNATURE    510
#define MBR_TYPE_GPT     0xee
#define MBR_SIGNATURE_LE 0xaa55

/* The header (UEFI 2.10, table 5.5), by byte offset. */
#define HEADER_SIGNATURE    0
#define HEADER_REVISION     8
#define HEADER_SIZE         12
#define HEADER_CRC          16
#define HEADER_RESERVED     20
#define HEADER_MY_LBA       24
#define HEADER_ALTERNATE    32
#define HEADER_FIRST_USABLE 40
#define HEADER_LAST_USABLE  48
#define HEADER_DISK_GUID    56
#define HEADER_ENTRIES_LBA  72
#define HEADER_ENTRY_COUNT  80
#define HEADER_ENTRY_SIZE   84
#define HEADER_ENTRIES_CRC  88
#define HEADER_LEAST_SIZE   92
#define GPT_REVISION        UINT32_C(0x00010000)

/* An entry (UEFI 2.10, table 5.6). */
#define ENTRY_TYPE         0
#define ENTRY_UNIQUE       16
#define ENTRY_FIRST_LBA    32
#define ENTRY_LAST_LBA     40
#define ENTRY_ATTRIBUTES   48
#define ENTRY_NAME         56
#define ENTRY_NAME_LETTERS 36
#define ENTRY_LEAST_SIZE   128

/* Of the logical sectors. */
#define PRIMARY_LOGICAL 1U

static const uint8_t signature[8] = "EFI PART";

static const char no_table[] = "there is no partition table";
static const char too_large[] = "the partition table is larger than 4 MiB, more than is read";
static const char too_many[] = "the disk has more than 4,096 partitions, more than are compared";
static const char unreadable[] = "the partition table cannot be read";

/* State of reading one copy of the table. */
struct table_read {
    const struct sector_source *source;
    struct gpt *gpt;
    struct pfn frame;
    struct pfn second;
    bool collect; /* partitions are added to gpt */
    struct gpt_header header;
    uint32_t crc;
    enum status status; /* of the source */
};

/* Returns the sectors of the array of entries, which begins and ends with a logical sector. */
static uint64_t entry_sectors(const struct gpt_header *header)
{
    uint64_t size = (uint64_t)header->entry_count * header->entry_size;

    return round_up(size, (uint64_t)SECTOR_SIZE << header->shift) / SECTOR_SIZE;
}

static bool is_primary(const struct gpt_header *header)
{
    return header->my_lba == gpt_primary_lba(header->shift);
}

/* Returns whether the array of entries is in its place: between the MBR and the usable sectors, or
 * between those and the backup header. */
static bool entries_placed(const struct gpt_header *header)
{
    uint64_t count = entry_sectors(header);

    if (is_primary(header))
        return header->entries_lba > header->my_lba && header->entries_lba < header->first_usable &&
               count <= header->first_usable - header->entries_lba;
    return header->entries_lba > header->last_usable && header->entries_lba < header->my_lba &&
           count <= header->my_lba - header->entries_lba;
}

static bool header_crc_holds(const uint8_t *sector, uint32_t size)
{
    static const uint8_t no_crc[4];
    uint32_t crc = checksum_crc32(0, sector, HEADER_CRC);

    crc = checksum_crc32(crc, no_crc, sizeof(no_crc));
    crc = checksum_crc32(crc, sector + HEADER_CRC + 4, size - HEADER_CRC - 4);
    return crc == get_le32(sector + HEADER_CRC);
}

static const char *header_ranges(const struct gpt_header *header, uint64_t sectors)
{
    if (header->first_usable > header->last_usable || header->last_usable >= sectors)
        return "the partition table's usable range is not on the disk";
    if (header->entry_size < ENTRY_LEAST_SIZE || header->entry_size > PAGE_SIZE ||
        (header->entry_size & (header->entry_size - 1)) != 0)
        return "the partition table's entries have an impossible size";
    if (header->entry_count == 0)
        return "the partition table has room for no entry";
    if (is_primary(header)
            ? header->alternate_lba <= header->last_usable || header->alternate_lba >= sectors
            : header->alternate_lba != gpt_primary_lba(header->shift) ||
                  header->my_lba <= header->last_usable)
        return "the partition table gives its other copy an address that is not possible";
    if (!entries_placed(header))
        return "the partition table's entries are outside of their place";
    return (uint64_t)header->entry_count * header->entry_size > GPT_TABLE_BYTES_MAX ? too_large
                                                                                    : NULL;
}

/* Takes the fields; addresses become sectors of 512 bytes. */
static void decode_header(const uint8_t *sector, struct gpt_header *header)
{
    unsigned shift = header->shift;

    header->my_lba = sector_first(get_le64(sector + HEADER_MY_LBA), shift);
    header->alternate_lba = sector_first(get_le64(sector + HEADER_ALTERNATE), shift);
    header->first_usable = sector_first(get_le64(sector + HEADER_FIRST_USABLE), shift);
    header->last_usable = sector_last(get_le64(sector + HEADER_LAST_USABLE), shift);
    memcpy(header->disk_guid, sector + HEADER_DISK_GUID, GPT_GUID_SIZE);
    header->entries_lba = sector_first(get_le64(sector + HEADER_ENTRIES_LBA), shift);
    header->entry_count = get_le32(sector + HEADER_ENTRY_COUNT);
    header->entry_size = get_le32(sector + HEADER_ENTRY_SIZE);
    header->entries_crc = get_le32(sector + HEADER_ENTRIES_CRC);
}

const char *gpt_header_decode(const uint8_t sector[512], uint64_t lba, uint64_t sectors,
                              unsigned shift, struct gpt_header *header)
{
    uint32_t size = get_le32(sector + HEADER_SIZE);

    CHECK(lba < sectors && header != NULL);
    *header = (struct gpt_header){.shift = shift};
    if (memcmp(sector + HEADER_SIGNATURE, signature, sizeof(signature)) != 0)
        return no_table;
    if (get_le32(sector + HEADER_REVISION) != GPT_REVISION || size < HEADER_LEAST_SIZE ||
        size > SECTOR_SIZE)
        return "the partition table's header has an unknown revision or size";
    if (!header_crc_holds(sector, size))
        return "the partition table's header has a wrong checksum";
    decode_header(sector, header);
    if (!all_zero(sector + HEADER_RESERVED, 4))
        return "the partition table's header has data in reserved bytes";
    if (header->my_lba != lba)
        return "the partition table's header has the address of another sector";
    return header_ranges(header, sectors);
}

static void decode_entry(const uint8_t *entry, unsigned shift, struct gpt_partition *partition)
{
    memcpy(partition->type, entry + ENTRY_TYPE, GPT_GUID_SIZE);
    memcpy(partition->unique, entry + ENTRY_UNIQUE, GPT_GUID_SIZE);
    partition->first_lba = sector_first(get_le64(entry + ENTRY_FIRST_LBA), shift);
    partition->last_lba = sector_last(get_le64(entry + ENTRY_LAST_LBA), shift);
    partition->attributes = get_le64(entry + ENTRY_ATTRIBUTES);
}

/* Adds a partition. Returns what is wrong if it contradicts the header or an earlier partition. */
static const char *add_partition(struct table_read *read, const uint8_t *entry)
{
    struct gpt *gpt = read->gpt;
    struct gpt_partition *added = &gpt->partitions[gpt->count];

    if (gpt->count == GPT_PARTITIONS_MAX)
        return too_many;
    *added = (struct gpt_partition){0};
    decode_entry(entry, read->header.shift, added);
    if (added->first_lba > added->last_lba || added->first_lba < read->header.first_usable ||
        added->last_lba > read->header.last_usable)
        return "a partition lies outside the usable range";
    for (unsigned i = 0; i < gpt->count; i++) {
        const struct gpt_partition *other = &gpt->partitions[i];

        if (added->first_lba <= other->last_lba && other->first_lba <= added->last_lba)
            return "two partitions overlap";
        if (memcmp(added->unique, other->unique, GPT_GUID_SIZE) == 0)
            return "two partitions have the same GUID";
    }
    gpt->count++;
    return NULL;
}

/* Scans the entries in the frame just read: size bytes, a whole number of entries. */
static const char *scan_entries(struct table_read *read, uint32_t size)
{
    const uint8_t *bytes = frame_pointer(read->frame);

    CHECK(size <= PAGE_SIZE && size % read->header.entry_size == 0);
    read->crc = checksum_crc32(read->crc, bytes, size);
    for (uint32_t at = 0; read->collect && at < size; at += read->header.entry_size) {
        const char *problem;

        if (all_zero(bytes + at + ENTRY_TYPE, GPT_GUID_SIZE))
            continue;
        problem = add_partition(read, bytes + at);
        if (problem != NULL)
            return problem;
    }
    return NULL;
}

static const char *gpt_read_entries(struct table_read *read)
{
    uint64_t lba = read->header.entries_lba;
    uint64_t left = (uint64_t)read->header.entry_count * read->header.entry_size;
    const char *problem = NULL;

    read->crc = 0;
    if (read->collect)
        read->gpt->count = 0;
    while (left > 0) {
        uint32_t size = (uint32_t)min_u64(left, PAGE_SIZE);
        const char *found;

        read->status = source_read(read->source, lba, (size + SECTOR_SIZE - 1) / SECTOR_SIZE,
                                   read->frame, read->second);
        if (read->status != OK)
            return unreadable;
        found = scan_entries(read, size);
        if (problem == NULL)
            problem = found;
        lba += SECTORS_PER_PAGE;
        left -= size;
    }
    /* A wrong checksum explains any other problem. */
    return read->crc != read->header.entries_crc
               ? "the partition table's entries have a wrong checksum"
               : problem;
}

/* Reads header and entries at lba. Returns NULL, or what is wrong; then gpt has no partitions. */
static const char *read_table(struct table_read *read, uint64_t lba)
{
    const char *problem;

    read->status = source_read(read->source, lba, 1, read->frame, read->second);
    if (read->status != OK)
        return unreadable;
    problem = gpt_header_decode(frame_pointer(read->frame), lba, read->source->sectors,
                                read->source->shift, &read->header);
    if (problem == NULL)
        problem = gpt_read_entries(read);
    if (read->collect) {
        if (problem == NULL)
            read->gpt->header = read->header;
        else
            read->gpt->count = 0;
    }
    return problem;
}

static const char *mbr_decode(const uint8_t *sector)
{
    unsigned protective = 0;

    if (get_le16(sector + MBR_SIGNATURE) != MBR_SIGNATURE_LE)
        return "its MBR has no signature";
    for (unsigned i = 0; i < 4; i++) {
        const uint8_t *record = sector + MBR_RECORDS + i * MBR_RECORD_SIZE;

        if (all_zero(record, MBR_RECORD_SIZE))
            continue;
        if (record[MBR_RECORD_TYPE] != MBR_TYPE_GPT)
            return "its MBR holds partitions";
        if (get_le32(record + MBR_RECORD_START) != PRIMARY_LOGICAL)
            return "its protective MBR record starts elsewhere";
        protective++;
    }
    return protective == 1 ? NULL : "it has no protective MBR record, or several";
}

/* Returns how primary and backup differ, NULL if they agree and the backup is at the disk's end. */
static const char *tables_differ(const struct gpt_header *a, const struct gpt_header *b)
{
    if (a->alternate_lba != b->my_lba)
        return "the backup table is not at the end of the disk";
    if (memcmp(a->disk_guid, b->disk_guid, GPT_GUID_SIZE) != 0 ||
        a->first_usable != b->first_usable || a->last_usable != b->last_usable ||
        a->entry_count != b->entry_count || a->entry_size != b->entry_size ||
        a->entries_crc != b->entries_crc)
        return "the backup table differs from the primary";
    return NULL;
}

static bool is_limit(const char *problem)
{
    return problem == too_large || problem == too_many;
}

static enum status no_sound_table(const struct gpt *gpt, enum status primary, enum status backup)
{
    if (primary != OK && backup != OK)
        return primary;
    if (is_limit(gpt->primary_problem) || is_limit(gpt->backup_problem))
        return STATUS_LIMIT;
    return gpt->primary_problem == no_table && gpt->backup_problem == no_table ? STATUS_NOT_FOUND
                                                                               : STATUS_CORRUPT;
}

enum status gpt_read(const struct sector_source *source, struct gpt *gpt, struct pfn frame,
                     struct pfn second)
{
    struct table_read primary = {
        .source = source, .gpt = gpt, .frame = frame, .second = second, .collect = true};
    struct table_read backup = primary;

    /* Not the partitions: those up to count are set as they are read. */
    memset(gpt, 0, offsetof(struct gpt, partitions));
    if (source->sectors >> source->shift <= PRIMARY_LOGICAL + 1)
        return STATUS_NOT_FOUND;
    gpt->mbr_problem = source_read(source, 0, 1, frame, second) == OK
                           ? mbr_decode(frame_pointer(frame))
                           : "its first sector cannot be read";
    gpt->primary_problem = read_table(&primary, gpt_primary_lba(source->shift));
    backup.collect = gpt->from_backup = gpt->primary_problem != NULL;
    gpt->backup_problem = read_table(&backup, source->sectors - gpt_primary_lba(source->shift));
    if (gpt->from_backup && gpt->backup_problem != NULL)
        return no_sound_table(gpt, primary.status, backup.status);
    if (!gpt->from_backup && gpt->backup_problem == NULL)
        gpt->backup_problem = tables_differ(&primary.header, &backup.header);
    return OK;
}

const char *gpt_disagreement(const struct gpt *gpt)
{
    if (gpt->primary_problem != NULL)
        return gpt->primary_problem;
    if (gpt->backup_problem == no_table)
        return "the backup partition table is missing";
    if (gpt->backup_problem != NULL)
        return gpt->backup_problem;
    return gpt->mbr_problem;
}

void gpt_mbr_encode(uint8_t sector[512], uint64_t sectors, unsigned shift)
{
    uint8_t *record = sector + MBR_RECORDS;

    memset(sector, 0, SECTOR_SIZE);
    record[2] = 2; /* CHS of LBA 1, and the largest CHS: required by the format, used by no one */
    record[MBR_RECORD_TYPE] = MBR_TYPE_GPT;
    memset(record + 5, 0xff, 3);
    put_le32(record + MBR_RECORD_START, PRIMARY_LOGICAL);
    put_le32(record + MBR_RECORD_COUNT, (uint32_t)min_u64((sectors >> shift) - 1, UINT32_MAX));
    put_le16(sector + MBR_SIGNATURE, MBR_SIGNATURE_LE);
}

void gpt_header_encode(uint8_t sector[512], const struct gpt_header *header)
{
    memset(sector, 0, SECTOR_SIZE);
    memcpy(sector + HEADER_SIGNATURE, signature, sizeof(signature));
    put_le32(sector + HEADER_REVISION, GPT_REVISION);
    put_le32(sector + HEADER_SIZE, HEADER_LEAST_SIZE);
    put_le64(sector + HEADER_MY_LBA, header->my_lba >> header->shift);
    put_le64(sector + HEADER_ALTERNATE, header->alternate_lba >> header->shift);
    put_le64(sector + HEADER_FIRST_USABLE, header->first_usable >> header->shift);
    put_le64(sector + HEADER_LAST_USABLE, header->last_usable >> header->shift);
    memcpy(sector + HEADER_DISK_GUID, header->disk_guid, GPT_GUID_SIZE);
    put_le64(sector + HEADER_ENTRIES_LBA, header->entries_lba >> header->shift);
    put_le32(sector + HEADER_ENTRY_COUNT, header->entry_count);
    put_le32(sector + HEADER_ENTRY_SIZE, header->entry_size);
    put_le32(sector + HEADER_ENTRIES_CRC, header->entries_crc);
    put_le32(sector + HEADER_CRC, checksum_crc32(0, sector, HEADER_LEAST_SIZE));
}

void gpt_entry_encode(uint8_t entry[128], const struct gpt_partition *partition, unsigned shift,
                      const char *name)
{
    CHECK(strlen(name) <= ENTRY_NAME_LETTERS);
    memset(entry, 0, ENTRY_LEAST_SIZE);
    memcpy(entry + ENTRY_TYPE, partition->type, GPT_GUID_SIZE);
    memcpy(entry + ENTRY_UNIQUE, partition->unique, GPT_GUID_SIZE);
    put_le64(entry + ENTRY_FIRST_LBA, partition->first_lba >> shift);
    put_le64(entry + ENTRY_LAST_LBA, partition->last_lba >> shift);
    put_le64(entry + ENTRY_ATTRIBUTES, partition->attributes);
    for (unsigned i = 0; name[i] != '\0'; i++)
        put_le16(entry + ENTRY_NAME + 2 * i, (uint8_t)name[i]);
}

void gpt_guid_text(const uint8_t guid[GPT_GUID_SIZE], char text[GPT_GUID_TEXT_SIZE])
{
    /* The first three fields are little-endian numbers; the rest has the order of the text. */
    static const uint8_t order[GPT_GUID_SIZE] = {3, 2, 1,  0,  5,  4,  7,  6,
                                                 8, 9, 10, 11, 12, 13, 14, 15};

    for (unsigned i = 0; i < GPT_GUID_SIZE; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *text++ = '-';
        *text++ = "0123456789abcdef"[guid[order[i]] >> 4];
        *text++ = "0123456789abcdef"[guid[order[i]] & 15];
    }
    *text = '\0';
}

/* The header of a prepared swap partition: layout, checks and positions. */
#include "swapdisk/format/header.h"

#include "lib/bytes.h"
#include "lib/check.h"
#include "swapdisk/format/checksum.h"
#include "swapdisk/format/little.h"

/* 884D1742-3B38-4D93-9CA8-FAEF6A858151 */
const uint8_t swap_partition_type[GPT_GUID_SIZE] = {
    0x42, 0x17, 0x4d, 0x88, 0x38, 0x3b, 0x93, 0x4d, 0x9c, 0xa8, 0xfa, 0xef, 0x6a, 0x85, 0x81, 0x51,
};

/* 0184FFB1-AA25-4421-BEC5-E1E948B35D54 */
const uint8_t files_partition_type[GPT_GUID_SIZE] = {
    0xb1, 0xff, 0x84, 0x01, 0x25, 0xaa, 0x21, 0x44, 0xbe, 0xc5, 0xe1, 0xe9, 0x48, 0xb3, 0x5d, 0x54,
};

/* Byte offsets, as in docs/disk-safety.md. Bytes without a name are zero. */
#define AT_MAGIC          0
#define AT_VERSION        16
#define AT_SIZE           20
#define AT_CRC            24
#define AT_SECTOR_SIZE    28
#define AT_SET_UUID       32
#define AT_PARTITION_GUID 48
#define AT_DISK_GUID      64
#define AT_FIRST_LBA      80
#define AT_LAST_LBA       88
#define AT_DISK_SECTORS   96
#define AT_GENERATION     104
#define AT_STATE          112
#define AT_KIND           116 /* version 1: zero */
#define AT_PREPARED_AT    120
#define AT_PREPARED_BY    128
#define AT_MODEL          192 /* 48 bytes */
#define AT_SERIAL         240 /* 24 bytes */
#define AT_END_1          264 /* version 1 ends here */
#define AT_ROLE           264
#define AT_MEMBERS        268
#define AT_GROUP_UUID     272
#define AT_MEMBER         288
#define AT_RESERVED       292 /* 4 bytes */
#define AT_LOG_FIRST      296
#define AT_LOG_SECTORS    304
#define AT_USED_SLOTS     312
#define AT_END_2          316

#define MODEL_FIELD  48
#define SERIAL_FIELD 24

_Static_assert(AT_END_2 <= SECTOR_SIZE, "all fields that change are in one sector");
_Static_assert(AT_MODEL == AT_PREPARED_BY + SWAP_PREPARED_BY_SIZE, "packed without holes");
_Static_assert(IDENTITY_MODEL_SIZE <= MODEL_FIELD && IDENTITY_SERIAL_SIZE <= SERIAL_FIELD,
               "the texts fit their fields");

static const uint8_t magic[16] = "Faultline swap\r\n";

/* Returns the checksum: of the page in version 1, of its first sector in version 2. */
static uint32_t page_checksum(const uint8_t page[SWAP_HEADER_SIZE], uint32_t version)
{
    static const uint8_t no_checksum[4];
    size_t size = version == 1 ? SWAP_HEADER_SIZE : SECTOR_SIZE;
    uint32_t crc = checksum_crc32c(0, page, AT_CRC);

    crc = checksum_crc32c(crc, no_checksum, sizeof(no_checksum));
    return checksum_crc32c(crc, page + AT_CRC + 4, size - AT_CRC - 4);
}

static void header_put_text(uint8_t *field, const char *text, size_t size)
{
    size_t length = strlen(text);

    CHECK(length < size);
    memset(field, 0, size);
    memcpy(field, text, length);
}

/* Decodes a text field: printable ASCII, padded with zeroes. Returns false for anything else. */
static bool get_text(const uint8_t *field, size_t field_size, char *text, size_t size)
{
    size_t length = 0;

    while (length < field_size && field[length] >= ' ' && field[length] < 0x7f)
        length++;
    if (length >= size || !all_zero(field + length, field_size - length))
        return false;
    memcpy(text, field, length);
    text[length] = '\0';
    return true;
}

static void encode_version_2(uint8_t *page, const struct swap_header *header)
{
    put_le32(page + AT_KIND, header->kind);
    put_le32(page + AT_ROLE, header->role);
    put_le32(page + AT_MEMBERS, header->members);
    memcpy(page + AT_GROUP_UUID, header->group_uuid, 16);
    put_le32(page + AT_MEMBER, header->member);
    put_le64(page + AT_LOG_FIRST, header->log_first_lba >> sector_shift_of(header->sector_size));
    put_le64(page + AT_LOG_SECTORS, header->log_sectors >> sector_shift_of(header->sector_size));
    put_le32(page + AT_USED_SLOTS, header->used_slots);
}

void swap_header_encode(uint8_t page[SWAP_HEADER_SIZE], const struct swap_header *header)
{
    unsigned shift = sector_shift_of(header->sector_size);

    CHECK(header->version == 1 || header->version == SWAP_HEADER_VERSION);
    CHECK(header->state == SWAP_STATE_CLEAN || header->state == SWAP_STATE_IN_USE);
    memset(page, 0, SWAP_HEADER_SIZE);
    memcpy(page + AT_MAGIC, magic, sizeof(magic));
    put_le32(page + AT_VERSION, header->version);
    put_le32(page + AT_SIZE, SWAP_HEADER_SIZE);
    put_le32(page + AT_SECTOR_SIZE, header->sector_size);
    memcpy(page + AT_SET_UUID, header->set_uuid, 16);
    memcpy(page + AT_PARTITION_GUID, header->partition_guid, 16);
    memcpy(page + AT_DISK_GUID, header->disk_guid, 16);
    put_le64(page + AT_FIRST_LBA, header->first_lba >> shift);
    put_le64(page + AT_LAST_LBA, header->last_lba >> shift);
    put_le64(page + AT_DISK_SECTORS, header->disk_sectors >> shift);
    put_le64(page + AT_GENERATION, header->generation);
    put_le32(page + AT_STATE, header->state);
    put_le64(page + AT_PREPARED_AT, header->prepared_at);
    header_put_text(page + AT_PREPARED_BY, header->prepared_by, SWAP_PREPARED_BY_SIZE);
    header_put_text(page + AT_MODEL, header->model, MODEL_FIELD);
    header_put_text(page + AT_SERIAL, header->serial, SERIAL_FIELD);
    if (header->version == SWAP_HEADER_VERSION)
        encode_version_2(page, header);
    put_le32(page + AT_CRC, page_checksum(page, header->version));
}

static void decode_numbers(const uint8_t *page, struct swap_header *header)
{
    unsigned shift = sector_shift_of(get_le32(page + AT_SECTOR_SIZE));

    memcpy(header->set_uuid, page + AT_SET_UUID, 16);
    memcpy(header->partition_guid, page + AT_PARTITION_GUID, 16);
    memcpy(header->disk_guid, page + AT_DISK_GUID, 16);
    header->first_lba = sector_first(get_le64(page + AT_FIRST_LBA), shift);
    header->last_lba = sector_last(get_le64(page + AT_LAST_LBA), shift);
    header->disk_sectors = sector_first(get_le64(page + AT_DISK_SECTORS), shift);
    header->sector_size = get_le32(page + AT_SECTOR_SIZE);
    header->generation = get_le64(page + AT_GENERATION);
    header->state = (enum swap_state)get_le32(page + AT_STATE);
    header->prepared_at = get_le64(page + AT_PREPARED_AT);
}

static const char *decode_version_1(const uint8_t *page, struct swap_header *header)
{
    header->kind = SET_SWAP;
    header->role = SET_ALONE;
    header->members = 1;
    return all_zero(page + AT_KIND, 4) && all_zero(page + AT_END_1, SWAP_HEADER_SIZE - AT_END_1)
               ? NULL
               : "its header has data in reserved bytes";
}

/* Returns what is wrong with a set's place in its group. */
static const char *group_problem(const struct swap_header *header)
{
    if (header->role > SET_STRIPE)
        return "its header has an unknown role";
    if (header->role == SET_ALONE
            ? header->members != 1 || header->member != 0 || !all_zero(header->group_uuid, 16)
            : header->members < 2 || header->member >= header->members ||
                  all_zero(header->group_uuid, 16))
        return "its header has an impossible place in its group";
    return NULL;
}

/* Returns what is wrong with the positions in the partition; called once these are sensible. */
static const char *layout_problem(const struct swap_header *header)
{
    uint64_t second;

    if (header->first_lba > header->last_lba || header->last_lba == UINT64_MAX ||
        header->last_lba - header->first_lba < SWAP_SECTORS_MIN - 1 ||
        header->first_lba % SECTORS_PER_PAGE != 0)
        return "its header has an impossible partition";
    second = swap_second_header_lba(header->first_lba, header->last_lba);
    if (header->log_sectors == 0
            ? header->log_first_lba != 0
            : header->log_sectors % SECTORS_PER_PAGE != 0 ||
                  header->log_sectors >
                      second - header->first_lba - SWAP_HEADER_SECTORS - SECTORS_PER_PAGE ||
                  header->log_first_lba != second - header->log_sectors)
        return "its header has an impossible log area";
    return header->used_slots > swap_header_slots(header)
               ? "its header has more used slots than slots"
               : NULL;
}

static const char *decode_version_2(const uint8_t *page, struct swap_header *header)
{
    unsigned shift = sector_shift_of(header->sector_size);
    const char *problem;

    header->kind = (enum set_kind)get_le32(page + AT_KIND);
    header->role = (enum set_role)get_le32(page + AT_ROLE);
    header->members = get_le32(page + AT_MEMBERS);
    memcpy(header->group_uuid, page + AT_GROUP_UUID, 16);
    header->member = get_le32(page + AT_MEMBER);
    header->log_first_lba = sector_first(get_le64(page + AT_LOG_FIRST), shift);
    header->log_sectors = sector_first(get_le64(page + AT_LOG_SECTORS), shift);
    header->used_slots = get_le32(page + AT_USED_SLOTS);
    if (!all_zero(page + AT_RESERVED, 4) || !all_zero(page + AT_END_2, SECTOR_SIZE - AT_END_2))
        return "its header has data in reserved bytes";
    if (header->kind != SET_SWAP && header->kind != SET_FILES)
        return "its header has an unknown kind";
    problem = group_problem(header);
    return problem != NULL ? problem : layout_problem(header);
}

const char *swap_header_decode(const uint8_t page[SWAP_HEADER_SIZE], struct swap_header *header)
{
    uint32_t state = get_le32(page + AT_STATE);
    uint32_t version = get_le32(page + AT_VERSION);
    const char *problem;

    *header = (struct swap_header){0};
    if (memcmp(page + AT_MAGIC, magic, sizeof(magic)) != 0)
        return "it has no Faultline header";
    if (version != 1 && version != SWAP_HEADER_VERSION)
        return "its header has another version";
    if (get_le32(page + AT_SIZE) != SWAP_HEADER_SIZE)
        return "its header has another size";
    if (get_le32(page + AT_CRC) != page_checksum(page, version))
        return "its header has a wrong checksum";
    if (state != SWAP_STATE_CLEAN && state != SWAP_STATE_IN_USE)
        return "its header has an unknown state";
    decode_numbers(page, header);
    header->version = version;
    problem = version == 1 ? decode_version_1(page, header) : decode_version_2(page, header);
    if (problem != NULL)
        return problem;
    if (!get_text(page + AT_PREPARED_BY, SWAP_PREPARED_BY_SIZE, header->prepared_by,
                  sizeof(header->prepared_by)) ||
        !get_text(page + AT_MODEL, MODEL_FIELD, header->model, sizeof(header->model)) ||
        !get_text(page + AT_SERIAL, SERIAL_FIELD, header->serial, sizeof(header->serial)))
        return "its header has a damaged text";
    return NULL;
}

const char *swap_headers_disagree(const struct swap_header *first, const struct swap_header *second)
{
    if (first->version != second->version || first->kind != second->kind ||
        first->role != second->role || first->members != second->members ||
        first->member != second->member || memcmp(first->group_uuid, second->group_uuid, 16) != 0 ||
        first->log_first_lba != second->log_first_lba || first->log_sectors != second->log_sectors)
        return "its two headers have different contents";
    if (memcmp(first->set_uuid, second->set_uuid, 16) != 0 ||
        memcmp(first->partition_guid, second->partition_guid, 16) != 0 ||
        memcmp(first->disk_guid, second->disk_guid, 16) != 0 ||
        first->first_lba != second->first_lba || first->last_lba != second->last_lba ||
        first->disk_sectors != second->disk_sectors || first->sector_size != second->sector_size ||
        first->prepared_at != second->prepared_at ||
        strcmp(first->prepared_by, second->prepared_by) != 0 ||
        strcmp(first->model, second->model) != 0 || strcmp(first->serial, second->serial) != 0)
        return "its two headers have different contents";
    if (first->generation == second->generation)
        return first->state == second->state && first->used_slots == second->used_slots
                   ? NULL
                   : "its two headers have different states";
    if (second->generation < UINT64_MAX && first->generation == second->generation + 1)
        return NULL;
    return "its two headers have different generations";
}

const char *swap_header_misplaced(const struct swap_header *header, const struct gpt *gpt,
                                  const struct gpt_partition *partition,
                                  const struct disk_identity *identity)
{
    if (memcmp(header->disk_guid, gpt->header.disk_guid, 16) != 0)
        return "its header was made for a disk with another GUID";
    if (header->sector_size != identity->sector_size)
        return "its header was made for a disk with other sectors";
    if (memcmp(header->partition_guid, partition->unique, 16) != 0)
        return "its header was made for another partition";
    if (header->first_lba != partition->first_lba || header->last_lba != partition->last_lba)
        return "its header was made for a partition at another place";
    if (header->disk_sectors != identity->sectors)
        return "its header was made for a disk of another size";
    if (strcmp(header->model, identity->model) != 0)
        return "its header was made for a disk of another model";
    if (strcmp(header->serial, identity->serial) != 0)
        return "its header was made for a disk with another serial number";
    return NULL;
}

uint64_t swap_second_header_lba(uint64_t first_lba, uint64_t last_lba)
{
    CHECK(first_lba <= last_lba && last_lba < UINT64_MAX &&
          last_lba - first_lba + 1 >= SWAP_SECTORS_MIN);
    return (last_lba + 1) / SWAP_HEADER_SECTORS * SWAP_HEADER_SECTORS - SWAP_HEADER_SECTORS;
}

uint64_t swap_slot_count(uint64_t first_lba, uint64_t last_lba)
{
    uint64_t second = swap_second_header_lba(first_lba, last_lba);

    CHECK(first_lba % SECTORS_PER_PAGE == 0);
    return (second - first_lba - SWAP_HEADER_SECTORS) / SECTORS_PER_PAGE;
}

uint64_t swap_header_slots(const struct swap_header *header)
{
    CHECK(header->log_sectors % SECTORS_PER_PAGE == 0);
    return swap_slot_count(header->first_lba, header->last_lba) -
           header->log_sectors / SECTORS_PER_PAGE;
}

static const char hex_digits[] = "0123456789abcdef";

/* Returns whether a UUID's text has a hyphen before this byte. */
static bool hyphen_before(unsigned byte)
{
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

void swap_uuid_text(const uint8_t uuid[16], char text[37])
{
    for (unsigned i = 0; i < 16; i++) {
        if (hyphen_before(i))
            *text++ = '-';
        *text++ = hex_digits[uuid[i] >> 4];
        *text++ = hex_digits[uuid[i] & 15];
    }
    *text = '\0';
}

static int hex_value(char letter)
{
    if (letter >= '0' && letter <= '9')
        return letter - '0';
    if (letter >= 'a' && letter <= 'f')
        return letter - 'a' + 10;
    if (letter >= 'A' && letter <= 'F')
        return letter - 'A' + 10;
    return -1;
}

bool swap_uuid_parse(const char *text, uint8_t uuid[16])
{
    for (unsigned i = 0; i < 16; i++) {
        int high;
        int low;

        if (hyphen_before(i) && *text++ != '-')
            return false;
        high = hex_value(text[0]);
        low = high < 0 ? -1 : hex_value(text[1]);
        if (low < 0)
            return false;
        uuid[i] = (uint8_t)(high * 16 + low);
        text += 2;
    }
    return *text == '\0';
}

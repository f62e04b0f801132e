/* The list of bad slots of a prepared partition. */
#include "swapdisk/format/header.h"

#include "lib/bytes.h"
#include "lib/check.h"
#include "swapdisk/format/checksum.h"
#include "swapdisk/format/little.h"

/* Byte offsets in the page, as in docs/disk-safety.md. */
#define AT_MAGIC      512
#define AT_CRC        520
#define AT_COUNT      524
#define AT_GENERATION 528
#define AT_SET_UUID   536
#define AT_SLOTS      552

_Static_assert(AT_MAGIC == SECTOR_SIZE, "the list begins after the header's own sector");
_Static_assert(AT_SLOTS + 4 * BAD_SLOTS_MAX == SWAP_HEADER_SIZE, "the list fills the page");

static const uint8_t magic[8] = "badslots";

static uint32_t list_checksum(const uint8_t *page)
{
    static const uint8_t no_checksum[4];
    uint32_t crc = checksum_crc32c(0, page + AT_MAGIC, AT_CRC - AT_MAGIC);

    crc = checksum_crc32c(crc, no_checksum, sizeof(no_checksum));
    return checksum_crc32c(crc, page + AT_CRC + 4, SWAP_HEADER_SIZE - AT_CRC - 4);
}

void bad_slots_encode(uint8_t page[SWAP_HEADER_SIZE], const struct swap_header *header,
                      const struct bad_slots *list)
{
    CHECK(header->version == SWAP_HEADER_VERSION && list->count <= BAD_SLOTS_MAX);
    memset(page + AT_MAGIC, 0, SWAP_HEADER_SIZE - AT_MAGIC);
    memcpy(page + AT_MAGIC, magic, sizeof(magic));
    put_le32(page + AT_COUNT, list->count);
    put_le64(page + AT_GENERATION, list->generation);
    memcpy(page + AT_SET_UUID, header->set_uuid, 16);
    for (uint32_t i = 0; i < list->count; i++) {
        CHECK(list->slots[i] < swap_header_slots(header) &&
              (i == 0 || list->slots[i - 1] < list->slots[i]));
        put_le32(page + AT_SLOTS + 4 * i, list->slots[i]);
    }
    put_le32(page + AT_CRC, list_checksum(page));
}

const char *bad_slots_decode(const uint8_t page[SWAP_HEADER_SIZE], const struct swap_header *header,
                             struct bad_slots *list)
{
    uint32_t count = get_le32(page + AT_COUNT);

    memset(list, 0, sizeof(*list));
    if (memcmp(page + AT_MAGIC, magic, sizeof(magic)) != 0 ||
        get_le32(page + AT_CRC) != list_checksum(page))
        return "its list of bad slots has a wrong checksum";
    if (memcmp(page + AT_SET_UUID, header->set_uuid, 16) != 0)
        return "its list of bad slots is that of another set";
    if (count > BAD_SLOTS_MAX ||
        !all_zero(page + AT_SLOTS + 4 * (size_t)count, 4 * (size_t)(BAD_SLOTS_MAX - count)))
        return "its list of bad slots has a wrong length";
    for (uint32_t i = 0; i < count; i++) {
        list->slots[i] = get_le32(page + AT_SLOTS + 4 * i);
        if (list->slots[i] >= swap_header_slots(header) ||
            (i > 0 && list->slots[i - 1] >= list->slots[i]))
            return "its list of bad slots is out of order";
    }
    list->count = count;
    list->generation = get_le64(page + AT_GENERATION);
    return NULL;
}

const char *bad_slots_choose(struct bad_slots *first, const char *first_problem,
                             const struct bad_slots *second, const char *second_problem)
{
    if (first_problem != NULL && second_problem != NULL)
        return first_problem;
    if (second_problem != NULL)
        return NULL;
    if (first_problem != NULL) {
        memcpy(first, second, sizeof(*first));
        return NULL;
    }
    if (first->generation == second->generation)
        return first->count == second->count && memcmp(first->slots, second->slots,
                                                       first->count * sizeof(first->slots[0])) == 0
                   ? NULL
                   : "its two lists of bad slots differ";
    return second->generation < UINT64_MAX && first->generation == second->generation + 1
               ? NULL
               : "its two lists of bad slots have different generations";
}

/* A page of the log area. */
#include "swapdisk/format/log_page.h"

#include "lib/bytes.h"
#include "lib/check.h"
#include "swapdisk/format/checksum.h"
#include "swapdisk/format/little.h"

/* Byte offsets; the bytes without a name are zero. */
#define AT_MAGIC    0
#define AT_CRC      16
#define AT_LENGTH   20
#define AT_RUN      24
#define AT_SEQUENCE 32
#define AT_SET_UUID 40
#define AT_RESERVED 56
#define AT_TEXT     64

_Static_assert(AT_TEXT + LOG_PAGE_TEXT == LOG_PAGE_SIZE, "the text fills the page");

static const uint8_t magic[16] = "Faultline log\r\n";

static uint32_t log_checksum(const uint8_t *page)
{
    static const uint8_t no_checksum[4];
    uint32_t crc = checksum_crc32c(0, page, AT_CRC);

    crc = checksum_crc32c(crc, no_checksum, sizeof(no_checksum));
    return checksum_crc32c(crc, page + AT_CRC + 4, LOG_PAGE_SIZE - AT_CRC - 4);
}

void log_page_encode(uint8_t page[LOG_PAGE_SIZE], const struct log_page *log)
{
    CHECK(log->length <= LOG_PAGE_TEXT && log->run > 0);
    memset(page, 0, LOG_PAGE_SIZE);
    memcpy(page + AT_MAGIC, magic, sizeof(magic));
    put_le32(page + AT_LENGTH, log->length);
    put_le64(page + AT_RUN, log->run);
    put_le64(page + AT_SEQUENCE, log->sequence);
    memcpy(page + AT_SET_UUID, log->set_uuid, 16);
    memcpy(page + AT_TEXT, log->text, log->length);
    put_le32(page + AT_CRC, log_checksum(page));
}

bool log_page_decode(const uint8_t page[LOG_PAGE_SIZE], struct log_page *log)
{
    uint32_t length = get_le32(page + AT_LENGTH);

    if (memcmp(page + AT_MAGIC, magic, sizeof(magic)) != 0 ||
        get_le32(page + AT_CRC) != log_checksum(page) || length > LOG_PAGE_TEXT ||
        get_le64(page + AT_RUN) == 0 || get_le64(page + AT_RUN) > LOG_RUN_LAST ||
        !all_zero(page + AT_RESERVED, AT_TEXT - AT_RESERVED) ||
        !all_zero(page + AT_TEXT + length, LOG_PAGE_TEXT - length))
        return false;
    *log = (struct log_page){.run = get_le64(page + AT_RUN),
                             .sequence = get_le64(page + AT_SEQUENCE),
                             .length = length,
                             .text = (const char *)page + AT_TEXT};
    memcpy(log->set_uuid, page + AT_SET_UUID, 16);
    return true;
}

bool log_page_damaged(const uint8_t page[LOG_PAGE_SIZE])
{
    struct log_page log;

    return memcmp(page + AT_MAGIC, magic, sizeof(magic)) == 0 && !log_page_decode(page, &log);
}

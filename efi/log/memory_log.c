/* A log that stays in memory over a warm reset. */
#include "efi/log/memory_log.h"

#include "lib/bytes.h"
#include "lib/check.h"
#include "lib/units.h"
#include "swapdisk/format/checksum.h"

#define HEADERS      2U
#define HEADER_PLACE 64U /* bytes from one header to the next */

struct memory_log_header {
    char magic[16];
    uint32_t generation; /* from 1; the larger of two sound headers counts */
    uint32_t length;
    uint32_t check;        /* of the text */
    uint32_t header_check; /* of the bytes before */
};

_Static_assert(sizeof(struct memory_log_header) == 32 && HEADERS * HEADER_PLACE <= MEMORY_LOG_TEXT,
               "the headers come before the text");

static const char memory_log_magic[16] = "Faultline kept\r";

static void block_write_bytes(volatile uint8_t *to, const void *from, size_t size)
{
    const uint8_t *bytes = from;

    for (size_t i = 0; i < size; i++)
        to[i] = bytes[i];
}

static uint32_t header_check_value(const struct memory_log_header *header)
{
    return checksum_crc32c(0, header, offsetof(struct memory_log_header, header_check));
}

/* Writes the older header: each generation has the place of the one before the last. */
static void write_header(struct memory_log *log)
{
    struct memory_log_header header = {
        .generation = ++log->generation, .length = log->length, .check = log->check};

    memcpy(header.magic, memory_log_magic, sizeof(header.magic));
    header.header_check = header_check_value(&header);
    block_write_bytes(log->block + log->generation % HEADERS * HEADER_PLACE, &header,
                      sizeof(header));
}

void memory_log_begin(struct memory_log *log, volatile void *block, size_t size)
{
    CHECK(size > MEMORY_LOG_TEXT && size - MEMORY_LOG_TEXT <= UINT32_MAX);
    *log = (struct memory_log){.block = block, .size = size};
    memory_log_erase(block);
    write_header(log);
}

void memory_log_add(struct memory_log *log, const char *text, size_t size)
{
    size_t room = log->size - MEMORY_LOG_TEXT - log->length;

    size = (size_t)min_u64(size, room);
    if (size == 0)
        return;
    block_write_bytes(log->block + MEMORY_LOG_TEXT + log->length, text, size);
    log->check = checksum_crc32c(log->check, text, size);
    log->length += (uint32_t)size;
    write_header(log);
}

const char *memory_log_find(const volatile void *block, size_t size, size_t *length)
{
    const uint8_t *bytes = (const uint8_t *)(uintptr_t)block;
    const char *text = (const char *)bytes + MEMORY_LOG_TEXT;
    uint32_t newest = 0;

    for (unsigned i = 0; i < HEADERS; i++) {
        struct memory_log_header header;

        memcpy(&header, bytes + (size_t)i * HEADER_PLACE, sizeof(header));
        if (memcmp(header.magic, memory_log_magic, sizeof(header.magic)) != 0 ||
            header.header_check != header_check_value(&header) || header.generation <= newest ||
            header.length == 0 || header.length > size - MEMORY_LOG_TEXT ||
            checksum_crc32c(0, text, header.length) != header.check)
            continue;
        newest = header.generation;
        *length = header.length;
    }
    return newest > 0 ? text : NULL;
}

void memory_log_erase(volatile void *block)
{
    volatile uint8_t *bytes = block;

    for (size_t i = 0; i < (size_t)HEADERS * HEADER_PLACE; i++)
        bytes[i] = 0;
}

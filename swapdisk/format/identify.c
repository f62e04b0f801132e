/* Decodes the data of IDENTIFY DEVICE. */
#include "swapdisk/format/identify.h"

#include "lib/bytes.h"
#include "lib/check.h"

/* Words of the IDENTIFY DEVICE data (ACS-3, table 45). */
#define WORD_GENERAL        0
#define WORD_SERIAL         10 /* 10 words */
#define WORD_FIRMWARE       23 /* 4 words */
#define WORD_MODEL          27 /* 20 words */
#define WORD_CAPABILITIES   49
#define WORD_QUEUE_DEPTH    75
#define WORD_SATA           76
#define WORD_COMMAND_SETS_2 83
#define WORD_COMMAND_SETS_3 84
#define WORD_ENABLED_1      85
#define WORD_SECTORS_EXT    100 /* 4 words */
#define WORD_SECTOR_SIZE    106
#define WORD_SECTOR_WORDS   117 /* 2 words */
#define WORD_SECURITY       128
#define WORD_DATA_SETS      169
#define WORD_INTEGRITY      255

#define GENERAL_NOT_ATA        (1U << 15)
#define GENERAL_REMOVABLE      (1U << 7)
#define GENERAL_INCOMPLETE     (1U << 2)
#define CAPABILITIES_DMA       (1U << 8)
#define COMMANDS_LBA48         (1U << 10)
#define COMMANDS_FLUSH_EXT     (1U << 13)
#define COMMANDS_LOGS          (1U << 5) /* general purpose logging */
#define SATA_NCQ               (1U << 8)
#define QUEUE_DEPTH_MASK       31U
#define COMMANDS_VALID_MASK    (3U << 14)
#define COMMANDS_VALID         (1U << 14)
#define ENABLED_WRITE_CACHE    (1U << 5)
#define SECTOR_SIZE_VALID_MASK (3U << 14)
#define SECTOR_SIZE_VALID      (1U << 14)
#define SECTOR_SIZE_LONG       (1U << 12)
#define SECURITY_ENABLED       (1U << 1)
#define SECURITY_LOCKED        (1U << 2)
#define DATA_SETS_TRIM         (1U << 0)
#define INTEGRITY_SIGNATURE    0xa5U

/* LBA48 commands carry 48 bits. */
#define LOGICAL_SECTORS_LIMIT (UINT64_C(1) << 48)

/* A smaller disk cannot hold a partition table. */
#define SECTORS_LEAST 128U

/* Returns a character for the log: a blank for zero, '?' for control characters. */
static char printable(unsigned letter)
{
    if (letter == 0)
        return ' ';
    return letter >= ' ' && letter < 0x7f ? (char)letter : '?';
}

/* Decodes an ATA text: the first character of each pair is in the high byte, blanks pad it. */
static void decode_text(const uint16_t *words, unsigned count, char *text)
{
    unsigned length = count * 2;
    unsigned start = 0;

    for (unsigned i = 0; i < length; i++)
        text[i] = printable(i % 2 == 0 ? words[i / 2] >> 8 : words[i / 2] & 0xffU);
    while (length > 0 && text[length - 1] == ' ')
        length--;
    while (start < length && text[start] == ' ')
        start++;
    memmove(text, text + start, length - start);
    text[length - start] = '\0';
}

/* Checks word 255: if its low byte is the signature, all 512 bytes add up to zero. */
static bool integrity_holds(const uint16_t words[256])
{
    unsigned sum = 0;

    if ((words[WORD_INTEGRITY] & 0xff) != INTEGRITY_SIGNATURE)
        return true;
    for (unsigned i = 0; i < 256; i++)
        sum += (words[i] & 0xffU) + (words[i] >> 8);
    return (sum & 0xff) == 0;
}

static bool all_equal(const uint16_t words[256])
{
    for (unsigned i = 1; i < 256; i++) {
        if (words[i] != words[0])
            return false;
    }
    return true;
}

static uint32_t decode_sector_size(const uint16_t words[256])
{
    uint64_t size;

    if ((words[WORD_SECTOR_SIZE] & SECTOR_SIZE_VALID_MASK) != SECTOR_SIZE_VALID ||
        (words[WORD_SECTOR_SIZE] & SECTOR_SIZE_LONG) == 0)
        return SECTOR_SIZE;
    size = 2 * (words[WORD_SECTOR_WORDS] | (uint64_t)words[WORD_SECTOR_WORDS + 1] << 16);
    return size > UINT32_MAX ? UINT32_MAX : (uint32_t)size;
}

/* A word of all ones in word 76 means that it is not used. */
static void decode_queue(const uint16_t words[256], struct disk_identity *identity)
{
    bool queued = words[WORD_SATA] != UINT16_MAX && (words[WORD_SATA] & SATA_NCQ) != 0;
    uint16_t sets = words[WORD_COMMAND_SETS_3];

    identity->queue_depth = queued ? (words[WORD_QUEUE_DEPTH] & QUEUE_DEPTH_MASK) + 1 : 1;
    identity->error_log =
        queued && (sets & COMMANDS_VALID_MASK) == COMMANDS_VALID && (sets & COMMANDS_LOGS) != 0;
}

static void decode_fields(const uint16_t words[256], struct disk_identity *identity)
{
    uint16_t sets = words[WORD_COMMAND_SETS_2];

    decode_text(&words[WORD_MODEL], 20, identity->model);
    decode_text(&words[WORD_SERIAL], 10, identity->serial);
    decode_text(&words[WORD_FIRMWARE], 4, identity->firmware);
    identity->sector_size = decode_sector_size(words);
    identity->dma = (words[WORD_CAPABILITIES] & CAPABILITIES_DMA) != 0;
    if ((sets & COMMANDS_VALID_MASK) == COMMANDS_VALID) {
        identity->lba48 = (sets & COMMANDS_LBA48) != 0;
        identity->flush_ext = (sets & COMMANDS_FLUSH_EXT) != 0;
    }
    identity->write_cache = (words[WORD_ENABLED_1] & ENABLED_WRITE_CACHE) != 0;
    identity->security_enabled = (words[WORD_SECURITY] & SECURITY_ENABLED) != 0;
    identity->security_locked = (words[WORD_SECURITY] & SECURITY_LOCKED) != 0;
    identity->trim = (words[WORD_DATA_SETS] & DATA_SETS_TRIM) != 0;
    identity->removable = (words[WORD_GENERAL] & GENERAL_REMOVABLE) != 0;
    for (unsigned i = 0; i < 4; i++)
        identity->sectors |= (uint64_t)words[WORD_SECTORS_EXT + i] << (16 * i);
    /* A capacity above the limit stays as it is: it is refused, not used. */
    identity->sector_shift = sector_shift_of(identity->sector_size);
    if (identity->sectors <= LOGICAL_SECTORS_LIMIT)
        identity->sectors <<= identity->sector_shift;
}

enum status identity_decode(const uint16_t words[256], struct disk_identity *identity,
                            const char **why)
{
    CHECK(words != NULL && identity != NULL && why != NULL);
    *identity = (struct disk_identity){0};
    *why = NULL;
    if (all_equal(words))
        *why = "its identification is blank";
    else if (!integrity_holds(words))
        *why = "the checksum of its identification is wrong";
    if (*why != NULL)
        return STATUS_CORRUPT;

    decode_fields(words, identity);
    decode_queue(words, identity);
    if ((words[WORD_GENERAL] & GENERAL_NOT_ATA) != 0)
        *why = "it is not an ATA disk";
    else if ((words[WORD_GENERAL] & GENERAL_INCOMPLETE) != 0)
        *why = "its identification is incomplete";
    else if (!identity->lba48 || !identity->dma)
        *why = "it lacks 48-bit addresses or DMA";
    else if (identity->sector_size != SECTOR_SIZE << identity->sector_shift)
        *why = "its logical sectors have neither 512 nor 4096 bytes";
    else if (identity->sectors < SECTORS_LEAST ||
             identity->sectors >> identity->sector_shift > LOGICAL_SECTORS_LIMIT)
        *why = "its capacity is out of range";
    return *why == NULL ? OK : STATUS_UNSUPPORTED;
}

bool identity_same(const struct disk_identity *a, const struct disk_identity *b)
{
    CHECK(a != NULL && b != NULL);
    return a->sectors == b->sectors && a->sector_size == b->sector_size &&
           strcmp(a->model, b->model) == 0 && strcmp(a->serial, b->serial) == 0;
}

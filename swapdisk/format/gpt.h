/*
 * The GUID partition table: both copies are read, checked and compared.
 *
 * The primary table describes the disk if it is sound, otherwise the backup does.
 * gpt_disagreement() returns whether both are sound and equal, which writing requires.
 *
 * Units: sectors of 512 bytes; ranges of partitions are inclusive. The disk's own addresses are
 * those of its logical sectors, and converted here.
 * Owns: nothing; the caller's struct gpt. GUIDs are kept in the byte order of the disk.
 * Fails with: STATUS_NOT_FOUND (no table in either place), STATUS_CORRUPT (tables, but neither
 * sound), STATUS_LIMIT (too large for the work limits), and the status of the source's read.
 * Context: thread; waits for the disk with the source's bound.
 * Spec: UEFI 2.10, 5.2.3 (protective MBR), 5.3 (GPT disk layout).
 */
#ifndef SWAPDISK_FORMAT_GPT_H
#define SWAPDISK_FORMAT_GPT_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/status.h"
#include "swapdisk/format/verified_read.h"

#define GPT_GUID_SIZE 16

/* The work is bounded, not the number of entries: bytes of an array that are read, and partitions
 * that are compared with one another. */
#define GPT_TABLE_BYTES_MAX (4 * MIB)
#define GPT_PARTITIONS_MAX  4096U

/* Attribute bits of an entry (UEFI 2.10, table 5.8; bit 60 is Microsoft's read-only). */
#define GPT_ATTRIBUTE_REQUIRED  (UINT64_C(1) << 0)
#define GPT_ATTRIBUTE_READ_ONLY (UINT64_C(1) << 60)

/* Attribute bits that a partition of ours may have: 'hidden' and 'no drive letter'. */
#define GPT_ATTRIBUTES_ALLOWED (UINT64_C(3) << 62)

struct gpt_partition {
    uint8_t type[GPT_GUID_SIZE];
    uint8_t unique[GPT_GUID_SIZE];
    uint64_t first_lba;
    uint64_t last_lba; /* inclusive */
    uint64_t attributes;
};

/* One of the two headers. */
struct gpt_header {
    uint8_t disk_guid[GPT_GUID_SIZE];
    uint64_t my_lba;
    uint64_t alternate_lba;
    uint64_t first_usable;
    uint64_t last_usable;
    uint64_t entries_lba;
    uint32_t entry_count;
    uint32_t entry_size;
    uint32_t entries_crc;
    unsigned shift; /* of the disk's logical sectors */
};

struct gpt {
    const char *mbr_problem;     /* NULL: a protective MBR and no other record */
    const char *primary_problem; /* NULL: sound; else what is wrong */
    const char *backup_problem;
    bool from_backup; /* the fields below are from the backup */
    struct gpt_header header;
    unsigned count;
    struct gpt_partition partitions[GPT_PARTITIONS_MAX]; /* disjoint, inside the usable range */
};

/* Reads MBR and both tables of the source. frame and second are scratch. */
MUST_USE enum status gpt_read(const struct sector_source *source, struct gpt *gpt, struct pfn frame,
                              struct pfn second);

/* Returns NULL if MBR, primary and backup are sound and agree, else why not. */
const char *gpt_disagreement(const struct gpt *gpt);

/* Sector of the first header. */
static inline uint64_t gpt_primary_lba(unsigned shift)
{
    return UINT64_C(1) << shift;
}

/* Decodes and checks one header that was read from lba, of a disk with this many sectors. Returns
 * NULL if it is sound, else what is wrong. */
const char *gpt_header_decode(const uint8_t sector[512], uint64_t lba, uint64_t sectors,
                              unsigned shift, struct gpt_header *header);

/* Encode the protective MBR, one header with its checksum, and one entry of 128 bytes with an ASCII
 * name of at most 36 characters; the bytes of the logical sector behind are zero. */
void gpt_mbr_encode(uint8_t sector[512], uint64_t sectors, unsigned shift);
void gpt_header_encode(uint8_t sector[512], const struct gpt_header *header);
void gpt_entry_encode(uint8_t entry[128], const struct gpt_partition *partition, unsigned shift,
                      const char *name);

/* Writes a GUID as text: 36 characters and a zero. */
#define GPT_GUID_TEXT_SIZE 37
void gpt_guid_text(const uint8_t guid[GPT_GUID_SIZE], char text[GPT_GUID_TEXT_SIZE]);

#endif

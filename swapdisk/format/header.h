/*
 * The header of a prepared swap partition: who may be written, said by the partition itself.
 *
 * It stands twice in the partition, in its first 4 KiB and in its last whole 4 KiB, and repeats
 * what the disk, its partition table and its position say elsewhere: a copy of the partition to
 * another place or disk no longer agrees with its surroundings. Everything that changes in
 * operation lies in the first sector, so that an update is one sector and cannot be torn.
 * docs/disk-safety.md has the layout.
 *
 * Units: sectors of 512 bytes, slots of 4 KiB; LBA ranges are inclusive. Owns: nothing; pure.
 * State on the disk: clean -> (first slot write) -> in use -> (orderly end) -> clean; each step
 * adds 1 to the generation, in the first copy before the second.
 * Fails with: a sentence in words. Context: any.
 */
#ifndef SWAPDISK_FORMAT_HEADER_H
#define SWAPDISK_FORMAT_HEADER_H

#include <stdbool.h>
#include <stdint.h>

#include "swapdisk/format/gpt.h"
#include "swapdisk/format/identify.h"

#define SWAP_HEADER_SIZE      4096U
#define SWAP_HEADER_VERSION   1U
#define SWAP_HEADER_SECTORS   (SWAP_HEADER_SIZE / SECTOR_SIZE)
#define SWAP_PREPARED_BY_SIZE 64

/* The least sectors of a partition: two headers and a slot. */
#define SWAP_SECTORS_MIN 24U

/* The partition type, in the disk's byte order: chosen at random for this project. */
extern const uint8_t swap_partition_type[GPT_GUID_SIZE];

enum swap_state { SWAP_STATE_CLEAN = 1, SWAP_STATE_IN_USE = 2 };

struct swap_header {
    uint8_t set_uuid[16];       /* in the byte order of its text */
    uint8_t partition_guid[16]; /* in the disk's byte order, as in the partition table */
    uint8_t disk_guid[16];
    uint64_t first_lba;
    uint64_t last_lba;
    uint64_t disk_sectors;
    uint32_t sector_size;
    uint64_t generation;
    enum swap_state state;
    uint64_t prepared_at; /* seconds since 1970 */
    char prepared_by[SWAP_PREPARED_BY_SIZE];
    char model[IDENTITY_MODEL_SIZE];
    char serial[IDENTITY_SERIAL_SIZE];
};

/* Builds the 4 KiB with their checksum. */
void swap_header_encode(uint8_t page[SWAP_HEADER_SIZE], const struct swap_header *header);

/* Decodes them; NULL when every byte is as swap_header_encode would make it, else what is wrong. */
const char *swap_header_decode(const uint8_t page[SWAP_HEADER_SIZE], struct swap_header *header);

/* Whether the two copies tell the same. The first may be one generation ahead, since it is written
 * first. NULL when they agree, else why not. */
const char *swap_headers_disagree(const struct swap_header *first,
                                  const struct swap_header *second);

/* Whether a header agrees with the partition, the table and the disk. NULL or why not. */
const char *swap_header_misplaced(const struct swap_header *header, const struct gpt *gpt,
                                  const struct gpt_partition *partition,
                                  const struct disk_identity *identity);

/* Where things stand in a partition of at least SWAP_SECTORS_MIN sectors. */
uint64_t swap_second_header_lba(uint64_t first_lba, uint64_t last_lba);
uint64_t swap_slot_count(uint64_t first_lba, uint64_t last_lba);

/* A UUID in the byte order of its text; parse accepts exactly 36 characters, either case. */
void swap_uuid_text(const uint8_t uuid[16], char text[37]);
bool swap_uuid_parse(const char *text, uint8_t uuid[16]);

#endif

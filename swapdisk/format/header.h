/*
 * The header of a prepared partition, which permits writing to that partition.
 *
 * The partition has two copies, in its first 4 KiB and in its last whole 4 KiB. Each copy repeats
 * facts about the disk, its partition table and its position: a copy of the partition on
 * another place or disk does not match and is refused. All fields that change in
 * operation are in the first 512 bytes, so an update writes one sector and cannot be torn.
 * docs/disk-safety.md has the layout.
 *
 * Units: sectors of 512 bytes, slots of 4 KiB; LBA ranges are inclusive. On the disk the addresses
 * are of logical sectors, of which the header says the size. Owns: nothing; pure.
 * State on the disk: clean -> (first slot write) -> in use -> (orderly end) -> clean; each step
 * adds 1 to the generation, in the first copy before the second.
 * Fails with: a sentence that says what is wrong. Context: any.
 */
#ifndef SWAPDISK_FORMAT_HEADER_H
#define SWAPDISK_FORMAT_HEADER_H

#include <stdbool.h>
#include <stdint.h>

#include "swapdisk/format/gpt.h"
#include "swapdisk/format/identify.h"

#define SWAP_HEADER_SIZE      4096U
#define SWAP_HEADER_VERSION   2U /* written by prepare-swap; version 1 is accepted as well */
#define SWAP_HEADER_SECTORS   (SWAP_HEADER_SIZE / SECTOR_SIZE)
#define SWAP_PREPARED_BY_SIZE 64

/* Least sectors of a partition: two headers and a slot. */
#define SWAP_SECTORS_MIN 24U

/* The partition types, in the disk's byte order: chosen at random for this project. */
extern const uint8_t swap_partition_type[GPT_GUID_SIZE];
extern const uint8_t files_partition_type[GPT_GUID_SIZE];

/* A partition of files is a FAT32 volume with a header of kind files in its reserved sectors, of
 * which FAT leaves these alone, and one behind the volume's end (rule F2). */
#define FILES_HEADER_SECTOR 16U

enum swap_state { SWAP_STATE_CLEAN = 1, SWAP_STATE_IN_USE = 2 };

/* What the partition is for. */
enum set_kind { SET_SWAP = 1, SET_FILES = 2 };

/* The role of a set in a group of sets that belong together. */
enum set_role { SET_ALONE, SET_MIRROR, SET_STRIPE };

/* In version 1, the fields after `serial` have the values of a lone swap set without a log area. */
struct swap_header {
    uint32_t version;
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
    enum set_kind kind;
    enum set_role role;
    uint32_t members;       /* sets of the group; 1 for a lone set */
    uint32_t member;        /* this set's place in the group, from 0 */
    uint8_t group_uuid[16]; /* zero for a lone set */
    uint64_t log_first_lba; /* the log area, directly before the second header */
    uint64_t log_sectors;   /* 0: none; otherwise a multiple of 8 */
    uint32_t used_slots;    /* slots below this may hold pages; version 1: not known, and 0 */
};

/* Encodes the header and its checksum; the rest of the page is zero. Version 2 has its list of bad
 * slots there (bad_slots.c), with a checksum of its own. */
void swap_header_encode(uint8_t page[SWAP_HEADER_SIZE], const struct swap_header *header);

/* Decodes a header. Returns NULL if every byte up to the list of bad slots is as swap_header_encode
 * writes it, else what is wrong. */
const char *swap_header_decode(const uint8_t page[SWAP_HEADER_SIZE], struct swap_header *header);

/* Returns NULL if the two copies agree, else why not. The first may be one generation ahead, since
 * an update writes it first. */
const char *swap_headers_disagree(const struct swap_header *first,
                                  const struct swap_header *second);

/* Returns NULL if a header matches the partition, the table and the disk, else why not. */
const char *swap_header_misplaced(const struct swap_header *header, const struct gpt *gpt,
                                  const struct gpt_partition *partition,
                                  const struct disk_identity *identity);

/* Return the sector of the second header and the number of slots, in a partition of at least
 * SWAP_SECTORS_MIN sectors. */
uint64_t swap_second_header_lba(uint64_t first_lba, uint64_t last_lba);
uint64_t swap_slot_count(uint64_t first_lba, uint64_t last_lba);

/* Returns the number of slots that a header leaves between the first header and the log area. */
uint64_t swap_header_slots(const struct swap_header *header);

/* Convert a UUID in the byte order of its text. swap_uuid_parse accepts exactly 36 characters, of
 * either case. */
void swap_uuid_text(const uint8_t uuid[16], char text[37]);
bool swap_uuid_parse(const char *text, uint8_t uuid[16]);

/* The list of bad slots (bad_slots.c): slots that are never used again. Each copy of a header of
 * version 2 has a copy of the list, in the sectors after the first. An update writes the next
 * generation of the list to the first copy, then, after a flush, to the second. It takes several
 * sectors, so a power cut can tear it: a copy with a wrong checksum counts as torn, and the other
 * copy is the list, which is the old or the new one. */

#define BAD_SLOTS_MAX 886U

struct bad_slots {
    uint64_t generation;
    uint32_t count;
    uint32_t slots[BAD_SLOTS_MAX]; /* ascending */
};

/* Writes the list into the page of a header, after its first sector. */
void bad_slots_encode(uint8_t page[SWAP_HEADER_SIZE], const struct swap_header *header,
                      const struct bad_slots *list);

/* Decodes the list of one copy. Returns NULL, or what is wrong; a torn copy is wrong as well. */
const char *bad_slots_decode(const uint8_t page[SWAP_HEADER_SIZE], const struct swap_header *header,
                             struct bad_slots *list);

/* Chooses the list of a set from both copies, each of which is torn if its problem is not NULL.
 * The first may be one generation ahead. Returns NULL and leaves the list in `first`, or what is
 * wrong. */
const char *bad_slots_choose(struct bad_slots *first, const char *first_problem,
                             const struct bad_slots *second, const char *second_problem);

#endif

/*
 * A disk as host tests have it: sectors in memory, an identity, failures as settings, and a log of
 * everything that was written.
 *
 * Units: sectors of 512 bytes, also of a disk that says that its logical sectors are larger. Owns:
 * the sectors and the log, from fake_disk_make to fake_disk_free. Context: host tests.
 */
#ifndef TESTS_HOST_FAKE_DISK_H
#define TESTS_HOST_FAKE_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "swapdisk/block/block.h"
#include "swapdisk/format/header.h"
#include "swapdisk/format/verified_read.h"

enum fake_failure {
    FAKE_ERROR,  /* the device reports an error */
    FAKE_HANG,   /* the command never ends */
    FAKE_SHORT,  /* ends well, having moved half, and says so in the byte count */
    FAKE_SILENT, /* ends well, having moved nothing, and claims it had */
    FAKE_FLIP,   /* ends well with one bit turned over */
    FAKE_TORN,   /* writes: half of the sectors arrive, then an error */
    FAKE_LINK,   /* the link reports an error */
    FAKE_VANISH  /* the disk is unplugged in the middle */
};

/* Faults of the log of queued errors. */
enum fake_bad_log { FAKE_LOG_SOUND, FAKE_LOG_CHECKSUM, FAKE_LOG_OTHER_TAG };

/* One entry of the log; sectors 0 is a flush. A TRIM writes FAKE_TRIMMED to its sectors. */
#define FAKE_TRIMMED 0xd5

struct fake_event {
    bool trim;
    uint64_t lba;
    unsigned sectors;
    uint8_t *data;
};

/* Shift of the logical sectors of the disks that are made from now on (identify.h). */
extern unsigned fake_disk_shift;

struct fake_disk {
    uint64_t sectors;
    unsigned shift;
    uint64_t stored; /* of them that there are; the others repeat them */
    uint8_t *bytes;
    char model[IDENTITY_MODEL_SIZE];
    char serial[IDENTITY_SERIAL_SIZE];
    uint16_t words[256]; /* the answer to IDENTIFY DEVICE; tests change it */

    uint64_t commands;   /* reads, writes and flushes so far */
    uint64_t fail_from;  /* the first of them that fails, from 0 */
    uint64_t fail_count; /* how many fail; 0 = none */
    enum fake_failure failure;
    uint64_t bad_sector;     /* reads of it fail; UINT64_MAX = none */
    uint64_t bad_write;      /* writes to it fail; likewise */
    uint64_t bad_write_from; /* writes to this sector and all behind fail; likewise */

    void (*on_command)(void); /* called after each command of a controller */

    unsigned identify_failures; /* number of IDENTIFY commands that fail */
    unsigned log_failures;      /* number of READ LOG EXT commands that fail */
    enum fake_bad_log bad_log;

    struct fake_event *log;
    size_t log_count;
};

void fake_disk_make(struct fake_disk *disk, uint64_t sectors, const char *model,
                    const char *serial);
void fake_disk_free(struct fake_disk *disk);

/* Fills in the words from model, serial and size; called by fake_disk_make. */
void fake_disk_identify(struct fake_disk *disk);

/* Corrects the checksum in word 255 after a change of the words. */
void fake_disk_seal(struct fake_disk *disk);

/* Writes a partition table with one partition of our type from sector 2048 on, and both headers,
 * as ovmf/prepare-swap does. uuid_byte fills the set's UUID. */
void fake_disk_prepare(struct fake_disk *disk, uint8_t uuid_byte);

/* As above, from parts that the caller may have changed; computes the entries' checksum and both
 * headers again. */
void fake_disk_put_table(struct fake_disk *disk, const struct gpt_header *header,
                         const struct gpt_partition *partitions, unsigned count);
void fake_disk_put_headers(struct fake_disk *disk, const struct swap_header *header);

/* Return the structures that fake_disk_prepare writes: a test changes them and puts them again. */
struct gpt_header fake_disk_gpt_header(const struct fake_disk *disk);
struct gpt_partition fake_disk_partition(const struct fake_disk *disk);

/* Splits the partition into two of the same type, whose GUIDs differ in the bits of `differ`. */
void fake_disk_split_partition(struct fake_disk *disk, uint8_t differ);
struct swap_header fake_disk_swap_header(const struct fake_disk *disk, uint8_t uuid_byte);

/* As fake_disk_prepare, with a header of version 2 and a log area of 64 KiB. */
void fake_disk_prepare_2(struct fake_disk *disk, uint8_t uuid_byte);
struct swap_header fake_disk_swap_header_2(const struct fake_disk *disk, uint8_t uuid_byte);

/* Writes both headers of version 2 with a list of bad slots; NULL: an empty one. */
void fake_disk_put_headers_2(struct fake_disk *disk, const struct swap_header *header,
                             const struct bad_slots *list);

/* Returns the bytes of a sector. */
uint8_t *fake_disk_sector(const struct fake_disk *disk, uint64_t lba);

/* Returns whether the next command fails, and counts it. */
bool fake_disk_fails(struct fake_disk *disk);

/* Notes a write (the sectors are in the disk already) or, with 0 sectors, a flush. */
void fake_disk_log(struct fake_disk *disk, uint64_t lba, unsigned sectors);

/* Discards sectors, and notes it. */
void fake_disk_trim(struct fake_disk *disk, uint64_t lba, unsigned sectors);

/* Returns the disk as a source of sectors, without a controller. */
struct sector_source fake_disk_source(struct fake_disk *disk);

/* Returns the disk as a block device (disk_block.c); transfers and flushes count as commands. */
struct block_device fake_disk_block(struct fake_disk *disk);

/* Returns the disk's identity, decoded. */
struct disk_identity fake_disk_identity(const struct fake_disk *disk);

#endif

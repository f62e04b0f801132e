/*
 * Several prepared disks on two controllers, for tests of swap areas.
 *
 * Disk i has the serial number S1 + i and the set UUID of bytes 0x11 * (i + 1); it is on controller
 * i % 2. Owns: the disks from rig_start to rig_end. Context: host tests.
 */
#ifndef TESTS_HOST_FAKE_SWAP_RIG_H
#define TESTS_HOST_FAKE_SWAP_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/options.h"
#include "lib/print.h"
#include "swapdisk/area.h"
#include "tests/host/fake/hba.h"

#define RIG_DISKS   (OPTION_SETS_MAX + 1)
#define RIG_SECTORS 4096U
#define RIG_FIRST   2048U

struct rig {
    struct fake_hba hbas[2];
    struct fake_disk disks[RIG_DISKS];
    unsigned disk_count;
    struct options options;
    struct {
        struct print_sink sink; /* first, so that a sink is the log */
        char text[65536];
        size_t length;
    } noted;
};

extern struct rig rig;

/* Makes the first `disks` disks, each with a header of version 2, and their machine. The simulated
 * memory has been started. */
void rig_start(unsigned disks);

/* Makes disks [first, first + count) one group of this role. */
void rig_group(enum set_role role, unsigned first, unsigned count);

/* Names the disks of `set`, a bit for each, in swap=, with these priorities; NULL: all 0. */
void rig_name(unsigned set, const uint16_t *priorities);

/* Scans the disks and opens the areas, as on a virtual machine. */
void rig_open(void);

/* Scans the disks and opens the areas once more, after swap_close. */
void rig_open_again(void);

/* Stops the disks, frees them, and checks that no controller has complained. */
void rig_end(void);

/* Returns how often the log so far has these words. */
unsigned rig_said(const char *words);

/* Returns the number of the disk, from 0, that has a slot; of a mirror its first one. */
unsigned rig_disk_of(struct slot slot);

/* Returns the bytes of a slot on a disk of its area. */
uint8_t *rig_slot_bytes(unsigned disk, struct slot slot);

/* Makes the next `times` commands of a disk fail. */
void rig_fail(unsigned disk, enum fake_failure failure, uint64_t times);

/* Fills a frame with words made from a seed; returns whether it has them. */
void rig_fill(struct pfn frame, unsigned seed);
bool rig_filled(struct pfn frame, unsigned seed);

#endif

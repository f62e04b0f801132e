/*
 * Scratch tables for mmu-truth: a root of their own, entries written raw, and single accesses.
 *
 * One path of tables leads to two frames, one of data and one of code; every entry on it may be
 * any word. A second path leads to the few instructions that ring 3 executes. The tables are not
 * the tree's: no class, no counts. Two roots show them, one with the kernel's half and one with a
 * copy of it without the no-execute bit, which is reserved while EFER.NXE is off.
 *
 *     USER_CODE  ring 3's instructions, readable and executable
 *     SCRATCH  + the frame's own address below 1 GiB, so that a page of any size reaches it
 *
 * Units: levels 1 to 5. Owns: its frames, from scratch_start to scratch_end.
 * State: scratch_start -> (scratch_enter -> accesses -> scratch_leave)* -> scratch_end. Between
 * enter and leave interrupts are off and the registers are those of the mode.
 * Fails with: STATUS_NO_MEMORY. Context: thread, one at a time.
 * Rules: A4 (the second root has writable and executable memory; nothing but a test loads it).
 */
#ifndef TESTS_EXPERIMENTS_MMU_TRUTH_SCRATCH_H
#define TESTS_EXPERIMENTS_MMU_TRUTH_SCRATCH_H

#include "lib/status.h"
#include "lib/units.h"
#include "tests/model/mmu.h"

/* The target of an access: data for reads and writes, code for fetches. */
enum scratch_target { SCRATCH_DATA, SCRATCH_CODE, SCRATCH_TARGETS };

/* The result of an access. */
struct scratch_outcome {
    bool allowed;
    uint8_t vector;   /* of the trap, if not allowed */
    uint64_t error;   /* error code of a page fault */
    uint64_t address; /* CR2 of a page fault */
    uint64_t value;   /* read, if allowed */
};

MUST_USE enum status scratch_start(void);
void scratch_end(void);

/* Returns a machine with all modes off; its limits are this processor's. */
struct mmu_machine scratch_machine(void);

/* Loads the scratch root and sets the registers; and sets them back. */
void scratch_enter(const struct mmu_machine *mode);
void scratch_leave(void);

uint64_t scratch_address(enum scratch_target target);
struct phys scratch_frame(enum scratch_target target);

/* Returns the target of an entry of this level: the next table or, if large, the page that contains
 * the target's frame. */
uint64_t scratch_base(enum scratch_target target, unsigned level, bool large);

/* Returns a pointer to the entry itself. */
volatile uint64_t *scratch_entry(enum scratch_target target, unsigned level);

/* Sets every entry on the path to allow all accesses. */
void scratch_open_path(enum scratch_target target);

/* Returns the address that an access uses: in the data, or in the code. */
uint64_t scratch_accessed(struct mmu_access access);

/* Flushes the target's translation, then makes one access. A write stores value in the data. */
struct scratch_outcome scratch_access(struct mmu_access access, uint64_t value);

/* Returns a pointer to the word of the data frame through the direct map. */
volatile uint64_t *scratch_data(void);

#endif

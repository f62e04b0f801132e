/*
 * Judges the accesses of mmu-truth: as the manual says, as a listed emulator deviates, or
 * different.
 *
 * An emulator's deviations from the manual are listed by rule, and only accesses on that emulator,
 * by its CPUID leaf, are excused by them. The log gives each with its number, and the totals of
 * each rule. Where the manual leaves the accessed flag open, the processor's choice is a figure.
 *
 * State: judge_start -> (judge_trial -> judge_print_kept)* -> judge_report.
 * Fails with: nothing. Context: judge_trial with interrupts off, in a mode of the scratch tables.
 */
#ifndef TESTS_EXPERIMENTS_MMU_TRUTH_JUDGE_H
#define TESTS_EXPERIMENTS_MMU_TRUTH_JUDGE_H

#include "tests/experiments/mmu_truth/scratch.h"

/* Kinds of access: read, write and fetch, from ring 0 and from ring 3. */
#define ACCESSES (2U * MMU_KINDS)

/* One combination: the access, the entries of its walk, the model's result and the processor's. */
struct trial {
    struct mmu_machine mode;
    struct mmu_access access;
    enum scratch_target target;
    unsigned upper;                  /* the level whose entry is varied beside the leaf's */
    uint64_t before[MMU_LEVELS_MAX]; /* the entries of the walk, index level - 1 */
    uint64_t after[MMU_LEVELS_MAX];
    uint64_t data; /* of the data frame, before */
    uint64_t written;
    struct mmu_result expected;
    struct scratch_outcome found;
};

void judge_start(void);

/* Compares one access with the model and counts it. Keeps the first differences for printing. */
void judge_trial(const struct trial *trial);

/* Prints the differences that were kept; needs the kernel's own tables. */
void judge_print_kept(void);

uint64_t judge_made(void);
uint64_t judge_differences(void);

/* Makes the checks and prints the figures; began: when the experiment did, in ns. */
void judge_report(uint64_t began);

#endif

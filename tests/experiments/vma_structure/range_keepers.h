/*
 * Three ways to keep which ranges of an address space are taken, for
 * tests/experiments/vma_structure/vma_structure.c: a list in order of address, a red-black tree
 * that knows the largest gap of each subtree, and the page tables themselves, scanned.
 *
 * Each counts the cache lines that it touches when it is told to. A line that the same operation
 * touched before does not count again, within a memory of 4,096 lines.
 *
 * Units: pages; ranges half-open. Owns: the nodes, blocks of 2 MiB; the scanned tree.
 * State: keeper_make_room -> (start, insert all, operate, stop) for each keeper -> keeper_end.
 * Fails with: false, when memory is out. Context: thread, one at a time.
 */
#ifndef TESTS_EXPERIMENTS_VMA_STRUCTURE_RANGE_KEEPERS_H
#define TESTS_EXPERIMENTS_VMA_STRUCTURE_RANGE_KEEPERS_H

#include <stdbool.h>
#include <stdint.h>

#define KEEPER_RANGES_MAX 100000U
#define KEEPERS           3U

/* No range, no gap. */
#define KEEPER_NONE UINT32_MAX

struct keeper {
    const char *name;
    bool (*start)(uint32_t pages); /* the most pages that are kept */
    void (*stop)(void);
    /* A range has the number of its node, which another range may get after it is removed. */
    bool (*insert)(uint32_t number, uint32_t start, uint32_t end);
    void (*remove)(uint32_t number, uint32_t start, uint32_t end);
    /* The start of the range at a page; KEEPER_NONE: none is there. */
    uint32_t (*find)(uint32_t page);
    /* Returns the lowest page at which this many are free, up to and including the limit. */
    uint32_t (*find_gap)(uint32_t size);
};

extern const struct keeper keepers[KEEPERS];

/* Makes room for this many nodes. */
bool keeper_make_room(uint32_t ranges);
void keeper_end(void);

/* Begins, or ends, counting of lines for one operation; returns how many were counted. */
uint64_t keeper_count_lines(bool on);

#endif

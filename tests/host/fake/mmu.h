/*
 * The processors' MMUs in software, each with a TLB that forgets nothing until it is flushed.
 *
 * It walks the simulated page tables as the SDM specifies: rights of all levels combined, A set on
 * each entry used, D on leaves that are written. It caches every translation and every table entry
 * that it has read, until a flush, even across faults: the worst behaviour that the SDM allows. So
 * a missing flush shows as a wrong page. With PCIDs, cached entries are tagged with the loaded
 * context, except global pages; entries of other contexts stay, and show when their context is
 * loaded again without a flush.
 *
 * Written from the SDM alone, not from paging/: an independent model.
 * State: fake_mmu_start -> started; the root is the machine's. Fails with: a panic with values.
 * Context: host tests.
 * Spec: Intel SDM volume 3, 4.5 to 4.7 (walk, rights, A and D, error code) and 4.10 (caches).
 */
#ifndef TESTS_HOST_FAKE_MMU_H
#define TESTS_HOST_FAKE_MMU_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/units.h"

struct fake_access {
    bool write;
    bool execute;
    bool user; /* ring 3 */
    bool ac;   /* EFLAGS.AC: lets ring 0 at user pages although SMAP is on */
};

/* Empties the caches and handles the machine's flushes; trees have this many levels. */
void fake_mmu_start(unsigned levels);

/* Translates one access of the current root. False: a page fault with this error code. */
bool fake_mmu_translate(uint64_t address, struct fake_access access, struct phys *physical,
                        uint64_t *error);

/* Caches the translation of an address speculatively, as a processor may at any time. */
void fake_mmu_speculate(uint64_t address);

/* Compares all that the calling processor may use of its cache with the tables: a cached
 * translation may allow less than they do, but it names the same frame and allows no more
 * (rule P2). Panics on a difference. */
void fake_mmu_check(void);

/* The walk of a root by itself, without caches and without setting A or D. */
struct fake_walk {
    bool present; /* up to and including the entry of the level that was asked for */
    unsigned level;
    uint64_t entry; /* the lowest entry met */
    uint64_t frame; /* that it names, in 4 KiB frames */
    bool write;     /* rights of all levels together */
    bool user;
    bool execute;
    bool may_write; /* the software's bit 11, of all levels together (rule E2) */
};

/* Walks down to a leaf, or to the entry of that level if it comes first. */
struct fake_walk fake_mmu_walk(struct phys root, unsigned levels, uint64_t address,
                               unsigned lowest);

#endif

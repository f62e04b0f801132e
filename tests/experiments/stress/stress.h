/*
 * Between tests/experiments/stress/stress.c, which starts the workers and sums up, and
 * tests/experiments/stress/steps.c, which is what they do.
 *
 * Three parts of one address space:
 *
 *   own pages      each worker alone maps, fills, protects, blanks, checks and unmaps its own
 *   shared pages   each worker counts up its own word of every page
 *   blocks         2 MiB each, in which everybody writes now and then, and that read as zeroes of
 *                  one entry in between
 *
 * A shared page or a block is an area. One worker at a time closes an area: it takes the rights
 * away from all, looks whether anything changes, and opens it again. Whoever is refused meanwhile
 * is refused rightly.
 *
 * Units: bytes, pages. Owns: the areas' numbers. Fails with: worker->wrong, what was wrong first.
 * Context: threads, one worker on each processor.
 */
#ifndef TESTS_EXPERIMENTS_STRESS_STRESS_H
#define TESTS_EXPERIMENTS_STRESS_STRESS_H

#include "lib/random.h"
#include "vmm/space/space.h"

#define STRESS_WORKERS_MAX 16U
#define STRESS_OWN_PAGES   64U
#define STRESS_SHARED      8U
#define STRESS_BLOCKS      8U

#define STRESS_SHARED_START UINT64_C(0x10000000)
#define STRESS_BLOCKS_START UINT64_C(0x40000000)
#define STRESS_BLOCK_BYTES  (UINT64_C(2) << 20)

#define STRESS_WORDS (PAGE_SIZE / sizeof(uint64_t))

/* The purpose of one of a worker's own pages. */
enum stress_access { OWN_UNMAPPED, OWN_NONE, OWN_READ, OWN_WRITE };

struct stress_worker {
    struct thread *thread;
    struct space *space;
    unsigned number;
    unsigned count; /* of workers */
    struct random random;
    uint64_t end_ns;
    uint64_t steps;
    uint64_t forks;
    uint64_t protects; /* calls */
    uint64_t refused;  /* accesses that the rights forbade, each with the right fault */
    uint64_t closed;   /* areas that it closed */
    const char *wrong; /* the first failure; NULL: none */
    uint64_t wrong_address;
    enum stress_access access[STRESS_OWN_PAGES];
    uint64_t tags[STRESS_OWN_PAGES]; /* of the page's content; 0: zeroes */
    uint64_t own_count[STRESS_SHARED];
    uint64_t seen[STRESS_SHARED][STRESS_WORKERS_MAX];
    uint64_t buffer[STRESS_WORDS];
};

/* Opens all areas: before the workers start. */
void stress_begin(void);

/* Performs one step; the worker's random numbers choose its kind. */
void stress_step(struct stress_worker *worker);

/* Checks every page of the worker's own. */
void stress_check_all(struct stress_worker *worker);

/* Returns a worker's word of a shared page. */
uint64_t stress_shared_word(unsigned page, unsigned worker);

#endif

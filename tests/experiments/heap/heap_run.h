/*
 * Runs the heap's programs (tests/programs/heap_program.h) for an experiment, phase by phase.
 *
 * Units: pages of 4 KiB, ticks. Owns: one run at a time: its space, its job, its background thread,
 * and the reserve while memory is made short. State: heap_run_start -> heap_run_phase, as often as
 * the job has phases, and once more -> heap_run_end.
 * Fails with: false, after a failed check that says why. Context: thread, in the kernel's root.
 */
#ifndef TESTS_EXPERIMENTS_HEAP_HEAP_RUN_H
#define TESTS_EXPERIMENTS_HEAP_HEAP_RUN_H

#include "cpu/smp/thread.h"
#include "tests/programs/heap_program.h"

/* What one phase has left behind. */
struct heap_sample {
    uint64_t resident;   /* pages of the heap's range */
    uint64_t live;       /* bytes of blocks */
    uint64_t dirty_free; /* pages */
    uint64_t given_back; /* pages, in all */
    uint64_t faults;     /* that brought a page of the heap, in all */
};

struct heap_run {
    enum heap_policy_kind kind;
    struct space *space;
    struct program program;
    struct program background;
    struct thread *thread; /* of the background program; NULL: none */
    uint64_t reserve;      /* before memory was made short; 0: it is not */
    bool rests;            /* between phases, until a background program has given all back */
    bool ended;            /* by HEAP_PROGRAM_DONE, every free accepted, the audit sound */
};

/* The job of the run: the experiment sets it before the start, and reads it after the end. */
extern struct heap_job heap_run_job;

bool heap_run_start(struct heap_run *run, enum heap_policy_kind kind);

/* Runs the program to the end of its next phase, and rests if the run does. Returns true while
 * there are more phases. */
bool heap_run_phase(struct heap_run *run, struct heap_sample *sample);

/* Makes memory short, or ends that: the marks of the low-memory notice move, the frames do not. */
void heap_run_squeeze(struct heap_run *run, bool low);

/* Reads the job back, and frees all. */
void heap_run_end(struct heap_run *run);

/* Prints a figure of this run, `kind.name`. */
void heap_run_metric(const struct heap_run *run, const char *name, uint64_t value,
                     const char *unit);

#endif

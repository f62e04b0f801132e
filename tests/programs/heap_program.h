/*
 * Programs of ring 3 in C: they use the heap (lib/heap), and report to the kernel's experiment.
 *
 * The linker script puts their objects, and those of lib/heap, beside the other user code; the
 * kernel copies the whole range into a program's pages and never executes the original. So they
 * have no data of their own, call only each other and lib/heap, and find their job at a fixed
 * address. They use only vmm/program/program.h of the kernel.
 *
 * The churn: blocks of many sizes come and go between a high and a low number of live blocks, by
 * phases. Each block is filled with its tag, and compared when it is freed. The program exits at
 * the end of a phase, with HEAP_PROGRAM_PHASE, and goes on when it is run again.
 *
 * Units: bytes, ticks. Owns: the job's ranges. Context: ring 3.
 */
#ifndef TESTS_PROGRAMS_HEAP_PROGRAM_H
#define TESTS_PROGRAMS_HEAP_PROGRAM_H

#include "lib/heap/heap.h"
#include "vmm/program/program.h"

#define HEAP_PROGRAM_JOB   UINT64_C(0x900000) /* struct heap_job */
#define HEAP_PROGRAM_ARENA UINT64_C(0x10000000)
#define HEAP_PROGRAM_SLOTS 1000U
#define HEAP_PROGRAM_TIMES 4000U /* latencies that a job has room for */

/* Exit codes of the program. */
enum heap_program_exit {
    HEAP_PROGRAM_DONE,
    HEAP_PROGRAM_PHASE, /* run it again for the next one */
    HEAP_PROGRAM_BROKEN /* no heap, or a free that was refused */
};

struct heap_slot {
    uint64_t *block;
    uint64_t words;
    uint64_t tag;
};

struct heap_job {
    /* Set by the experiment. */
    uint64_t arena_size;
    uint64_t kind; /* enum heap_policy_kind */
    uint64_t seed;
    uint64_t phases;
    uint64_t requests;  /* of a phase: each takes a block or frees one */
    uint64_t high;      /* live blocks in each fourth phase, from the first */
    uint64_t low;       /* in the others */
    uint64_t period_us; /* from one request to the next; 0: no rest, and no latencies */
    uint64_t tick_khz;  /* ticks in a millisecond */
    uint64_t stop;      /* the background program ends */
    /* Set by the programs. */
    struct heap *heap;
    uint64_t wrong_words; /* that a block held when it was freed */
    uint64_t refused;     /* requests for which the heap had no room */
    uint64_t notices;
    uint64_t busy;            /* ticks in requests */
    uint64_t aside;           /* ticks in the notice's handler and the background program */
    uint64_t giving_back;     /* ticks in the kernel's call that takes pages back; in the above */
    uint64_t stretch;         /* pages given back since the current stretch began */
    uint64_t longest_stretch; /* of one request, notice or step of the background */
    uint64_t time_count;      /* latencies */
    uint32_t times[HEAP_PROGRAM_TIMES];
    struct heap_slot slots[HEAP_PROGRAM_SLOTS];
};

/* The entries; an experiment passes their address to user_code_address. */
_Noreturn void heap_program_churn(void);
_Noreturn void heap_program_background(void);

#endif

/*
 * Between the files that run a schedule: run.c (runs), fiber.c (who is next), access.c (accesses of
 * memory), buffer.c (stores that others do not see yet), seam.c (calls of cpu/machine.h), memory.c
 * (the copy that runs start from).
 *
 * Owns: the explorer, which lies in memory of its own so that restoring leaves it alone.
 * Context: host tests, one thread; these files are compiled without instrumentation.
 */
#ifndef TESTS_HOST_EXPLORE_INTERNAL_H
#define TESTS_HOST_EXPLORE_INTERNAL_H

#include <setjmp.h>
#include <ucontext.h>

#include "cpu/machine.h"
#include "cpu/smp/thread.h"
#include "tests/host/explore/run.h"

/* Regions of memory whose accesses count. */
#define REGIONS 4U

/* Of them the first ones are simulated memory: what an instruction of a program can reach, and what
 * is put back page by page. */
#define REGIONS_WRITTEN 2U

/* Occurrences of an instruction are counted by a hash of its address. */
#define CODE_HASHES 4096U

enum processor_state {
    READY,
    PAUSED,   /* in machine_pause or machine_relax: goes on when another has run */
    FLUSHING, /* until others have answered */
    SLEEPING, /* until a mutex is free */
    DONE
};

/* Stores that a processor can hold back. Larger ones are not held back. */
#define STORES_MAX      64U
#define STORE_BYTES_MAX 16U

/* A store that others may not see yet: its processor sees it, and so it is in memory while that one
 * runs. */
struct held_store {
    uintptr_t at;
    size_t size;
    /* While the processor runs the content before the store; while its stores are hidden the new
     * content. */
    uint8_t bytes[STORE_BYTES_MAX];
};

struct processor {
    ucontext_t context;
    void *stack;
    enum processor_state state;
    bool relaxes; /* paused in machine_relax, which answers others */
    bool interrupts;
    unsigned instruction; /* more than 0: inside of one instruction, where nothing is a point */
    uint64_t pending;     /* processors that have yet to answer, a bit each */
    struct mutex *mutex;
    int priority;
    uint32_t since;                       /* the access at which it was switched to */
    uint32_t slice;                       /* accesses until it must let others run */
    const volatile void *tried;           /* the lock byte that it has found held, */
    unsigned tries;                       /* this often in a row */
    struct held_store stores[STORES_MAX]; /* since the buffer was last empty, the oldest first */
    unsigned store_count;
    bool hides; /* them: another processor runs, and memory has the content before them */
};

/* A part of memory, and for each 8 bytes of it which processors read and write them. */
struct region {
    uintptr_t base;
    size_t size;
    uint8_t *users;
    uint8_t
        *written; /* simulated memory: for each page, whether it was written since the restore */
    char *kept;   /* the content that runs start from */
};

struct explorer {
    struct run_settings settings;
    struct processor processors[RUN_PROCESSORS_MAX];
    unsigned self;
    bool running;
    struct run *run;
    unsigned next;    /* switch of the schedule */
    unsigned changes; /* random: points where the priority changes */
    uint32_t change_at[16];
    int lowest; /* priority given so far */
    uint64_t random;
    struct region regions[REGIONS];
    sigjmp_buf landing;
    bool guarded;
    char *why; /* of what is guarded */
    size_t why_size;
    bool interrupts; /* outside of a run */
    uint32_t run_number;
    uint32_t restored;                                  /* times */
    uint32_t code_run[RUN_PROCESSORS_MAX][CODE_HASHES]; /* the run that the count is of */
    uint32_t code_count[RUN_PROCESSORS_MAX][CODE_HASHES];
};

extern struct explorer *explorer;

#define CALLER __builtin_return_address(0)

static inline bool explorer_runs(void)
{
    return explorer != NULL && explorer->running;
}

static inline struct processor *explorer_self(void)
{
    return &explorer->processors[explorer->self];
}

/* Whether a switch may happen now. */
static inline bool explorer_may_switch(void)
{
    return explorer_runs() && explorer_self()->instruction == 0;
}

/* ---- run.c ---- */

/* Draws for a random run. */
uint64_t explorer_random(void);

/* ---- fiber.c ---- */

/* Who goes on in place of the running processor, which waits or is done: the next in turn unless
 * the schedule says another. The running one if none can. */
unsigned explorer_successor(void);
void explorer_switch(unsigned to);

/* Counts one access; ends the run when there were too many. */
void explorer_count(const void *code);

/* Another processor may go on here. */
void explorer_point(const void *code);

/* The running processor waits: another goes on. Ends the run if none can. */
void explorer_wait(const void *code);

/* Pauses: another goes on if there is one. */
void explorer_pause(bool relaxes, const void *code);

/* A try of a lock byte has failed. */
void explorer_failed_try(const volatile void *lock, const void *code);

/* The processors that the flushing one awaits and that can answer now. */
uint64_t explorer_answering(const struct processor *processor);

/* Into an instruction (1) or out of it (-1), without a point. */
void explorer_deepen(int by);

/* Notes what happened for the trace. */
void explorer_note(enum run_event_kind kind, int64_t value, const void *code);

/* Ends the run, or what is guarded, which must be under way. */
_Noreturn void explorer_end(enum run_end end);

/* ---- memory.c ---- */

/* Finds the regions; memory is the size of the simulated one. */
void explorer_lay_out(uint64_t memory);

/* ---- access.c ---- */

enum access_kind {
    ACCESS_READ,
    ACCESS_STORE, /* which later reads may pass (x86) */
    ACCESS_LOCKED /* reads and writes, and empties the store buffer */
};

/* An access of size bytes by the code, which may be a point. */
void explorer_access(const volatile void *at, size_t size, enum access_kind kind, const void *code);

/* Whether several processors use the word, and one of them writes it. */
bool explorer_is_shared(uintptr_t at);

/* ---- buffer.c ---- */

/* A store is about to be made. */
void explorer_buffer(uintptr_t at, size_t size);

/* Others see all stores of the processor. */
void explorer_drain(struct processor *processor);

/* Whether the running processor has stores to hold back that others could miss. */
bool explorer_has_stores(void);

/* Hides the running processor's youngest stores, at most so many, and drains the others; shows
 * them to it again, unless others have drained them meanwhile. */
void explorer_hide(unsigned count);
void explorer_show(void);

#endif

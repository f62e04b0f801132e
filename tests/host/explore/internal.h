/*
 * Between the files that run a schedule: run.c (runs), fiber.c (the next processor), access.c
 * (accesses of memory), buffer.c (stores that others do not see yet), seam.c (calls of
 * cpu/machine.h), memory.c (the copy that runs start from).
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

/* The first of them are simulated memory: instructions of programs can reach it, and it is restored
 * page by page. */
#define REGIONS_WRITTEN 2U

/* Occurrences of an instruction are counted by a hash of its address. */
#define CODE_HASHES 4096U

enum processor_state {
    READY,
    PAUSED,   /* in machine_pause or machine_relax: continues after another has run */
    FLUSHING, /* until others have answered */
    SLEEPING, /* until a mutex is free */
    DONE
};

/* Stores that a processor can hold back. Larger ones are not held back. */
#define STORES_MAX      64U
#define STORE_BYTES_MAX 16U

/* A store that others may not see yet. Its own processor sees it, so it is in memory while that
 * processor runs. */
struct held_store {
    uintptr_t at;
    size_t size;
    /* While the processor runs: the content before the store. While its stores are hidden: the new
     * content. */
    uint8_t bytes[STORE_BYTES_MAX];
};

struct processor {
    ucontext_t context;
    void *stack;
    enum processor_state state;
    bool relaxes; /* paused in machine_relax, which answers others */
    bool interrupts;
    unsigned instruction; /* more than 0: inside an instruction, where no access is a point */
    uint64_t pending;     /* processors that have yet to answer, a bit each */
    struct mutex *mutex;
    int priority;
    uint32_t since;                       /* the access at which it was switched to */
    uint32_t slice;                       /* accesses until it must let others run */
    const volatile void *tried;           /* the lock byte that it has found held, */
    unsigned tries;                       /* how often in a row */
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
    unsigned next;    /* next switch of the schedule */
    unsigned changes; /* random: points where the priority changes */
    uint32_t change_at[16];
    int lowest; /* priority given so far */
    uint64_t random;
    struct region regions[REGIONS];
    sigjmp_buf landing;
    bool guarded;
    char *why; /* where run_guarded returns to */
    size_t why_size;
    bool interrupts; /* outside of a run */
    uint32_t run_number;
    uint32_t restored;                                  /* times */
    uint32_t code_run[RUN_PROCESSORS_MAX][CODE_HASHES]; /* the run to which the count belongs */
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

/* Returns true if a switch may happen now. */
static inline bool explorer_may_switch(void)
{
    return explorer_runs() && explorer_self()->instruction == 0;
}

/* ---- run.c ---- */

/* Draws priorities and points for a random run. */
uint64_t explorer_random(void);

/* ---- fiber.c ---- */

/* Returns the processor that continues in place of the running one, which waits or is done: the
 * next in turn, unless the schedule names another; the running one if none can run. */
unsigned explorer_successor(void);
void explorer_switch(unsigned to);

/* Counts one access; ends the run when there were too many. */
void explorer_count(const void *code);

/* Marks a point: another processor may continue here. */
void explorer_point(const void *code);

/* Lets another processor run, because the running one waits. Ends the run if none can. */
void explorer_wait(const void *code);

/* Lets another processor run, if there is one. */
void explorer_pause(bool relaxes, const void *code);

/* Called after a failed try of a lock byte. */
void explorer_failed_try(const volatile void *lock, const void *code);

/* Returns the processors whose answers the flushing one awaits and that can answer now. */
uint64_t explorer_answering(const struct processor *processor);

/* Enters (1) or leaves (-1) an instruction, without a point. */
void explorer_deepen(int by);

/* Adds an event to the trace. */
void explorer_note(enum run_event_kind kind, int64_t value, const void *code);

/* Ends the run or the guarded call that is under way. */
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

/* Handles an access of size bytes by the code, which may be a point. */
void explorer_access(const volatile void *at, size_t size, enum access_kind kind, const void *code);

/* Returns true if several processors use the word and one of them writes it. */
bool explorer_is_shared(uintptr_t at);

/* ---- buffer.c ---- */

/* Called before a store. */
void explorer_buffer(uintptr_t at, size_t size);

/* Makes all stores of the processor visible to others. */
void explorer_drain(struct processor *processor);

/* Returns true if the running processor has stores that it could hold back from others. */
bool explorer_has_stores(void);

/* Hide the running processor's youngest stores, at most `count`, and drain the others; show the
 * hidden ones again, unless others have drained them meanwhile. */
void explorer_hide(unsigned count);
void explorer_show(void);

#endif

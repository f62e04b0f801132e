/*
 * One run: programs on simulated processors, in one schedule.
 *
 * A processor is a fiber of the only thread. Before each access that matters the scheduler may let
 * another one run: the portable sources are compiled with the instrumentation of ThreadSanitizer,
 * and its calls arrive in access.c. A schedule is the list of all preemptions, by the number of the
 * access that they precede, so that the same program and the same list give the same run.
 *
 * Units: accesses, counted over all processors from the start of a run. Owns: the fibers' stacks,
 * and the copy of memory that each run starts from.
 * State: run_init -> (set-up) -> run_keep_memory -> (run_go | run_guarded -> run_restore_memory)*.
 * Fails with: a run's end; a failure of the host's calls ends the process.
 * Context: host tests, one thread.
 */
#ifndef TESTS_HOST_EXPLORE_RUN_H
#define TESTS_HOST_EXPLORE_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RUN_PROCESSORS_MAX 3U
#define RUN_SWITCHES_MAX   64U
#define RUN_EVENTS_MAX     400U

/* Accesses after which a run counts as one that never ends. */
#define RUN_ACCESSES_MAX 250000U

#define RUN_HOLDS_ALL UINT8_MAX

/* In the list of points: the processor has stores that it could hold back. */
#define RUN_POINT_HOLDS (UINT32_C(1) << 31)

/* Before access number `at`, processor `to` continues in place of the running one, which holds back
 * at most `holds` of its youngest stores (buffer.c). */
struct run_switch {
    uint32_t at;
    uint8_t to;
    uint8_t holds;
};

struct run_schedule {
    uint8_t first; /* the processor that begins */
    uint8_t count;
    struct run_switch switches[RUN_SWITCHES_MAX];
};

enum run_end {
    RUN_ENDED,
    RUN_PANIC,
    RUN_SIGNAL,   /* of the host: an access to an unmapped address */
    RUN_HANG,     /* RUN_ACCESSES_MAX */
    RUN_DEADLOCK, /* no processor can go on */
    RUN_NO_HINT   /* a loop waits for a lock without machine_pause or machine_relax */
};

enum run_event_kind {
    EVENT_OPERATION,         /* begins: value is its number in the processor's program */
    EVENT_RESULT,            /* value is its status */
    EVENT_PREEMPTED,         /* value: by which processor */
    EVENT_PREEMPTED_HOLDING, /* likewise, and holds back stores */
    EVENT_WAITS,             /* value: which processor runs meanwhile */
    EVENT_ASKS,              /* for a flush; value: a bit for each processor that must answer */
    EVENT_ANSWERS            /* value: the processor that asked */
};

/* One event of the trace. */
struct run_event {
    uint32_t at;
    uint8_t processor;
    enum run_event_kind kind;
    int64_t value;
    const void *code; /* address of the instruction */
};

struct run {
    /* The programs to run. */
    unsigned processors;
    void (*program)(unsigned processor);
    struct run_schedule schedule;
    /* Draw the schedule by priorities (PCT): the one drawn is in `schedule` afterwards. */
    bool random;
    uint64_t seed;
    unsigned depth;   /* changes of priority */
    uint32_t horizon; /* number of points to choose from */
    /* Where to store the access numbers of all points, with RUN_POINT_HOLDS; NULL: nowhere. */
    uint32_t *point_at;
    unsigned point_max;

    /* The result of a run. */
    enum run_end end;
    char why[400];
    const void *where; /* address of the instruction, for a hang and a loop without a hint */
    uint32_t accesses;
    uint32_t points;
    uint32_t holding;     /* of them with stores to hold back */
    unsigned event_count; /* may be more than are stored */
    struct run_event events[RUN_EVENTS_MAX];
};

/* Settings of all runs. */
struct run_settings {
    unsigned
        thin; /* an instruction is a point this often in a run, then at powers of two; 0: always */
    /* Every access is a point, not only those of words that several processors use. */
    bool everywhere;
    bool delays; /* processors have store buffers */
};

/* Must be called first. memory: the size of simulated memory, in bytes. */
void run_init(uint64_t memory);
struct run_settings *run_settings(void);

/* Keeps simulated memory and all variables as they are now: run_restore_memory puts them back. */
void run_keep_memory(void);
void run_restore_memory(void);

/* Allocates memory that run_restore_memory does not restore. */
void *run_own_memory(size_t size);

/* Runs the programs to the end of all, or to the first failure. */
enum run_end run_go(struct run *run);

/* Calls body(context) outside a schedule. A panic or signal ends the call and is reported in
 * words. */
enum run_end run_guarded(void (*body)(void *context), void *context, char *why, size_t size);

/* Returns the words seen so far that two processors use and one of them writes. */
unsigned run_shared_words(void);

/* ---- for programs ---- */

/* Called between two operations and after the last. */
void run_operation(unsigned number);
void run_result(int64_t status);

/* Enclose an instruction of a program: no other processor runs in between, and no answer
 * arrives. */
void run_instruction_begin(void);
void run_instruction_end(void);

#endif

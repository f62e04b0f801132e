/* One run: processors start, and the first failure or the end of all ends it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/host/explore/internal.h"
#include "tests/host/fake/machine.h"

#define STACK_BYTES (UINT64_C(256) << 10)

/* Accesses in one go, after which a processor lets others run: calls of the tests are shorter. */
#define FIRST_SLICE 30000U

struct explorer *explorer;

/* ---- processors ---- */

uint64_t explorer_random(void)
{
    explorer->random ^= explorer->random << 13;
    explorer->random ^= explorer->random >> 7;
    explorer->random ^= explorer->random << 17;
    return explorer->random * UINT64_C(0x2545f4914f6cdd1d) >> 11;
}

static bool all_done(void)
{
    for (unsigned i = 0; i < explorer->run->processors; i++) {
        if (explorer->processors[i].state != DONE)
            return false;
    }
    return true;
}

/* The outermost function of each fiber. */
static void live(void)
{
    unsigned to;

    explorer->run->program(explorer->self);
    explorer_drain(explorer_self());
    explorer_self()->state = DONE;
    if (all_done())
        explorer_end(RUN_ENDED);
    explorer_count(CALLER);
    to = explorer_successor();
    if (to == explorer->self)
        explorer_end(RUN_DEADLOCK);
    explorer_switch(to);
    abort();
}

static void start_processor(unsigned number)
{
    struct processor *processor = &explorer->processors[number];
    void *stack = processor->stack;

    memset(processor, 0, sizeof(*processor));
    processor->stack = stack;
    processor->interrupts = true;
    processor->slice = FIRST_SLICE;
    getcontext(&processor->context);
    processor->context.uc_stack.ss_sp = stack;
    processor->context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&processor->context, live, 0);
}

/* Priorities and the points where they change (Burckhardt and others, PCT, ASPLOS 2010). */
static void prepare_random(struct run *run)
{
    explorer->random = run->seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    (void)explorer_random();
    (void)explorer_random();
    explorer->lowest = 0;
    explorer->changes = run->depth < 16 ? run->depth : 16;
    for (unsigned i = 0; i < explorer->changes; i++)
        explorer->change_at[i] = 1 + (uint32_t)(explorer_random() % (run->horizon + 1));
    run->schedule.first = (uint8_t)(explorer_random() % run->processors);
    run->schedule.count = 0;
    for (unsigned i = 0; i < run->processors; i++)
        explorer->processors[i].priority =
            100 - (int)((i + run->processors - run->schedule.first) % run->processors);
}

/* ---- runs ---- */

enum run_end run_go(struct run *run)
{
    explorer->run = run;
    explorer->run_number++;
    explorer->next = 0;
    run->end = RUN_ENDED;
    run->why[0] = '\0';
    run->accesses = run->points = run->holding = run->event_count = 0;
    for (unsigned i = 0; i < run->processors; i++)
        start_processor(i);
    if (run->random)
        prepare_random(run);
    explorer->self = run->schedule.first;
    fake_machine_be_cpu(explorer->self);
    if (sigsetjmp(explorer->landing, 1) == 0) {
        explorer->running = true;
        setcontext(&explorer_self()->context);
    }
    fake_machine_be_cpu(0);
    return run->end;
}

enum run_end run_guarded(void (*body)(void *context), void *context, char *why, size_t size)
{
    int end;

    explorer->why = why;
    explorer->why_size = size;
    explorer->guarded = true;
    end = sigsetjmp(explorer->landing, 1);
    if (end == 0)
        body(context);
    explorer->guarded = false;
    return end == 0 ? RUN_ENDED : (enum run_end)(end - 1);
}

struct run_settings *run_settings(void)
{
    return &explorer->settings;
}

void *run_own_memory(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED) {
        perror("mmap of the explorer's memory");
        abort();
    }
    return memory;
}

void run_init(uint64_t memory)
{
    explorer = run_own_memory(sizeof(*explorer));
    explorer->interrupts = true;
    for (unsigned i = 0; i < RUN_PROCESSORS_MAX; i++)
        explorer->processors[i].stack = run_own_memory(STACK_BYTES);
    explorer_lay_out(memory);
}

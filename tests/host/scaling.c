/*
 * How faults of the fast path scale from one processor to two: the portable objects as the kernel
 * has them, on two threads of this machine.
 *
 *     build/scaling [MILLISECONDS]    of each case; 120 unless given
 *
 * Prints a line for each case: its name, millions of faults a second on one processor and on two,
 * the ratio, the goal, and how many rounds counted. Rounds on one processor and on two alternate
 * and the best of each counts: other programs only make a round slower. A round on two counts only
 * if both threads were at work for nine tenths of it. A case without such a round prints "-".
 *
 * Units: nanoseconds. Fails with: status 2 if this machine has no two processors; status 1 and
 * words if a fault was not resolved.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cpu/machine.h"
#include "cpu/registers.h"
#include "cpu/trap/trap.h"
#include "tests/host/fake/kernel_map.h"
#include "tests/host/fake/machine.h"
#include "vmm/fault/fault.h"
#include "vmm/space/commit.h"
#include "vmm/space/end.h"
#include "vmm/space/space.h"

#define MEMORY     (256 * MIB)
#define START      UINT64_C(0x600000000)
#define PROCESSORS 2U
#define OVERLAP    0.9
#define TABLE      (PTE_ENTRIES * PAGE_SIZE)

#define READ  (uint64_t) PF_US
#define WRITE (uint64_t)(PF_US | PF_WR)

#define READ_WRITE ((struct rights){.write = true, .user = true})

struct scaling_case {
    const char *name;
    double goal;
    uint64_t error; /* of the faults */
    unsigned faults;
    bool same_table; /* the two take turns within leaf tables; else each has its own */
    bool own_space;  /* each copies the pages of a fork of its own */
};

static const struct scaling_case cases[] = {
    {"zero_read", 1.9, READ, 8192, false, false},
    {"zero_read_same_table", 1.4, READ, 8192, true, false},
    {"first_write", 1.9, WRITE, 2048, false, false},
    {"first_write_same_table", 1.2, WRITE, 2048, true, false},
    {"cow_copy", 1.85, WRITE | PF_P, 1022, false, true},
};

/* The work of one processor in a round. */
struct worker {
    const struct scaling_case *of;
    pthread_t thread;
    unsigned cpu;    /* simulated */
    size_t host_cpu; /* of this machine */
    unsigned many;   /* workers of the round */
    struct space *space;
    struct space *parent; /* of a fork; NULL: none */
    uint64_t began, ended;
};

static unsigned arrived;
static size_t host_cpus[PROCESSORS];

/* As in the kernel: the tests' others do not wait for each other. */
void machine_pause(void)
{
    __builtin_ia32_pause();
}

static uint64_t now_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void must(bool right, const char *words)
{
    if (right)
        return;
    fprintf(stderr, "scaling: %s\n", words);
    exit(1);
}

static void make_fault(uint64_t address, uint64_t error)
{
    struct trap_frame frame = {.cr2 = address, .error = error, .rip = 0x401000};

    must(trap_page_fault(address, error, &frame), "a fault was not resolved");
}

static struct space *make_space(const struct scaling_case *of)
{
    struct space *space;
    uint64_t size = 2 * PROCESSORS * (uint64_t)of->faults * PAGE_SIZE;

    must(space_create(&space) == OK &&
             space_map(space, &SPACE_AT(START, size, READ_WRITE), NULL) == OK,
         "no space");
    space_set_zero_levels(space, 1);
    return space;
}

/* Fills the worker's own pages on its own processor, whose caches then have them, forks, and copies
 * the leaf tables by a write to the first page of each. */
static void prepare_copies(struct worker *worker)
{
    uint64_t end = START + (worker->of->faults + 8) * PAGE_SIZE;

    worker->parent = make_space(worker->of);
    space_switch(worker->parent);
    for (uint64_t at = START; at < end; at += PAGE_SIZE)
        make_fault(at, WRITE);
    must(space_fork(worker->parent, &worker->space) == OK, "no fork");
    space_switch(worker->space);
    for (uint64_t at = START; at < end; at += TABLE)
        make_fault(at, WRITE | PF_P);
}

static uint64_t address_of(const struct worker *worker, unsigned i)
{
    const struct scaling_case *of = worker->of;

    if (of->own_space) /* all but the first page of each table */
        return START +
               (i / (PTE_ENTRIES - 1) * PTE_ENTRIES + i % (PTE_ENTRIES - 1) + 1) * PAGE_SIZE;
    if (of->same_table)
        return START + ((uint64_t)i * worker->many + worker->cpu) * PAGE_SIZE;
    return START + ((uint64_t)worker->cpu * of->faults + i) * PAGE_SIZE;
}

/* Makes the leaf tables, so that the faults take the fast path: reads the last page of each. */
static void prepare_tables(const struct worker *worker)
{
    for (uint64_t at = START; at < START + PROCESSORS * (uint64_t)worker->of->faults * PAGE_SIZE;
         at += TABLE)
        make_fault(at + TABLE - PAGE_SIZE, READ);
}

/* Spins, so that each runs at the moment in which the last one comes. */
static void await_others(unsigned many)
{
    __atomic_add_fetch(&arrived, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&arrived, __ATOMIC_ACQUIRE) < many)
        __builtin_ia32_pause();
}

static void *work(void *context)
{
    struct worker *worker = context;
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(worker->host_cpu, &set);
    must(sched_setaffinity(0, sizeof(set), &set) == 0, "the processor cannot be chosen");
    fake_machine_be_cpu(worker->cpu);
    if (worker->of->own_space)
        prepare_copies(worker);
    else
        space_switch(worker->space);
    (void)machine_interrupts_off();
    await_others(worker->many);
    worker->began = now_ns();
    for (unsigned i = 0; i < worker->of->faults; i++)
        make_fault(address_of(worker, i), worker->of->error);
    worker->ended = now_ns();
    machine_interrupts_restore(true);
    space_switch(NULL);
    return NULL;
}

/* Returns the time from the first start to the last end, or 0 if the threads did not overlap. */
static uint64_t time_of_round(const struct worker *workers, unsigned many)
{
    uint64_t first = UINT64_MAX, last = 0, both_from = 0, both_to = UINT64_MAX;

    for (unsigned i = 0; i < many; i++) {
        first = workers[i].began < first ? workers[i].began : first;
        last = workers[i].ended > last ? workers[i].ended : last;
        both_from = workers[i].began > both_from ? workers[i].began : both_from;
        both_to = workers[i].ended < both_to ? workers[i].ended : both_to;
    }
    if (both_to <= both_from || (double)(both_to - both_from) < OVERLAP * (double)(last - first))
        return 0;
    return last - first;
}

static uint64_t run_round(const struct scaling_case *of, unsigned many)
{
    struct worker workers[PROCESSORS] = {0};
    struct space *space = of->own_space ? NULL : make_space(of);

    arrived = 0;
    for (unsigned i = 0; i < many; i++)
        workers[i] = (struct worker){
            .of = of, .cpu = i, .host_cpu = host_cpus[i], .many = many, .space = space};
    if (space != NULL) {
        space_switch(space);
        prepare_tables(&workers[0]);
        space_switch(NULL);
    }
    for (unsigned i = 0; i < many; i++)
        must(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0, "no thread");
    for (unsigned i = 0; i < many; i++)
        pthread_join(workers[i].thread, NULL);
    for (unsigned i = 0; i < many && of->own_space; i++) {
        space_destroy(workers[i].space);
        space_destroy(workers[i].parent);
    }
    if (space != NULL)
        space_destroy(space);
    space_finish_ends(); /* there is no idle processor that does it */
    return time_of_round(workers, many);
}

static void measure(const struct scaling_case *of, uint64_t ns)
{
    uint64_t end = now_ns() + ns;
    uint64_t best[PROCESSORS] = {UINT64_MAX, UINT64_MAX};
    unsigned counted = 0;

    while (now_ns() < end) {
        for (unsigned many = 1; many <= PROCESSORS; many++) {
            uint64_t time = run_round(of, many);

            if (time != 0 && time < best[many - 1])
                best[many - 1] = time;
            counted += many == PROCESSORS && time != 0;
        }
    }
    if (counted == 0 || best[0] == UINT64_MAX) {
        printf("%s - - - %.2f 0\n", of->name, of->goal);
        return;
    }
    printf("%s %.1f %.1f %.2f %.2f %u\n", of->name, 1e3 * of->faults / (double)best[0],
           2e3 * of->faults / (double)best[1], 2 * (double)best[0] / (double)best[1], of->goal,
           counted);
}

/* Finds two processors that this process may use. */
static bool choose_processors(void)
{
    unsigned found = 0;
    cpu_set_t set;

    must(sched_getaffinity(0, sizeof(set), &set) == 0, "no processors");
    for (size_t cpu = 0; cpu < CPU_SETSIZE && found < PROCESSORS; cpu++) {
        if (CPU_ISSET(cpu, &set))
            host_cpus[found++] = cpu;
    }
    return found == PROCESSORS;
}

int main(int count, char **words)
{
    uint64_t milliseconds = count > 1 ? strtoull(words[1], NULL, 10) : 120;

    if (!choose_processors())
        return 2;
    fake_processors = (UINT64_C(1) << PROCESSORS) - 1;
    fake_machine_start(MEMORY);
    fake_kernel_map_start();
    must(vmm_init() == OK, "no start");
    fake_kernel_map_set_levels(4);
    fault_start();
    commit_choose(OVERCOMMIT_ALWAYS);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        measure(&cases[i], milliseconds * 1000000);
    return 0;
}

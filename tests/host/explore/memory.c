/*
 * The copy of memory that every run starts from. Simulated memory and the records of its frames are
 * large, and a run changes little of them: the instrumented code notes the pages that it writes,
 * and these are copied back. At times all is compared, in case that other code writes there.
 * Variables are few, and are compared each time.
 */
#include "tests/host/explore/internal.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "paging/kernel/layout.h"
#include "pmm/frame.h"

#define HOST_PAGE         UINT64_C(4096)
#define DESCRIPTORS_BYTES UINT64_C(4096)
#define SIGNAL_STACK      UINT64_C(65536)

/* All of memory is compared after each of the first restores, and then after every N-th. */
#define COMPARED_FIRST 8U
#define COMPARED_EACH  256U

/* Symbols of the linker around the variables. */
extern char __data_start[];
extern char _end[];

static void add_region(unsigned number, uintptr_t from, uintptr_t to)
{
    struct region *region = &explorer->regions[number];

    region->base = round_down(from, HOST_PAGE);
    region->size = round_up(to, HOST_PAGE) - region->base;
    region->users = run_own_memory(region->size / 8);
    region->written = run_own_memory(region->size / HOST_PAGE);
    region->kept = run_own_memory(region->size);
}

/* Handles an access to an unmapped address: the run ends. */
static void end_by_signal(int number)
{
    if (explorer_runs())
        snprintf(explorer->run->why, sizeof(explorer->run->why), "signal %d", number);
    else if (explorer->guarded)
        snprintf(explorer->why, explorer->why_size, "signal %d", number);
    if (explorer_runs() || explorer->guarded)
        explorer_end(RUN_SIGNAL);
    signal(number, SIG_DFL);
    raise(number);
}

static void catch_signals(void)
{
    static const int caught[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    stack_t stack = {.ss_sp = run_own_memory(SIGNAL_STACK), .ss_size = SIGNAL_STACK};
    struct sigaction action = {.sa_handler = end_by_signal, .sa_flags = SA_ONSTACK | SA_NODEFER};

    sigaltstack(&stack, NULL);
    for (unsigned i = 0; i < sizeof(caught) / sizeof(caught[0]); i++)
        sigaction(caught[i], &action, NULL);
}

/* Instructions of programs can reach the first two (access.c). */
void explorer_lay_out(uint64_t memory)
{
    uint64_t records = memory / PAGE_SIZE * sizeof(struct frame);

    add_region(0, DIRECT_MAP_BASE, DIRECT_MAP_BASE + memory);
    add_region(1, FRAME_RECORDS_BASE, FRAME_RECORDS_BASE + records);
    add_region(2, (uintptr_t)__data_start, (uintptr_t)_end);
    add_region(3, DESCRIPTORS_BASE, DESCRIPTORS_BASE + DESCRIPTORS_BYTES);
    catch_signals();
}

void run_keep_memory(void)
{
    for (unsigned i = 0; i < REGIONS; i++) {
        struct region *region = &explorer->regions[i];

        memcpy(region->kept, (void *)region->base, region->size);
        memset(region->written, 0, region->size / HOST_PAGE);
    }
}

static bool differs(const struct region *region, size_t page)
{
    size_t at = page * HOST_PAGE;

    return memcmp((const char *)region->base + at, region->kept + at, HOST_PAGE) != 0;
}

static void copy_page(struct region *region, size_t page)
{
    size_t at = page * HOST_PAGE;

    region->written[page] = 0;
    memcpy((char *)region->base + at, region->kept + at, HOST_PAGE);
}

static void restore_written(struct region *region)
{
    bool compares = explorer->restored < COMPARED_FIRST || explorer->restored % COMPARED_EACH == 0;

    for (size_t page = 0; page < region->size / HOST_PAGE; page++) {
        if (region->written[page] != 0)
            copy_page(region, page);
        if (compares && differs(region, page)) {
            fprintf(stderr, "page %zx of memory is not as it was, and no write was seen\n", page);
            abort();
        }
    }
}

static void restore_different(struct region *region)
{
    for (size_t page = 0; page < region->size / HOST_PAGE; page++) {
        if (differs(region, page))
            copy_page(region, page);
    }
}

void run_restore_memory(void)
{
    explorer->restored++;
    for (unsigned i = 0; i < REGIONS_WRITTEN; i++)
        restore_written(&explorer->regions[i]);
    for (unsigned i = REGIONS_WRITTEN; i < REGIONS; i++)
        restore_different(&explorer->regions[i]);
}

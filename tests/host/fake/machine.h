/*
 * The simulated machine of the host tests: physical memory, a clock, and a TLB that tests can read.
 *
 * Replaces cpu/ behind cpu/machine.h. Memory is mapped at DIRECT_MAP_BASE and the records at
 * FRAME_RECORDS_BASE, the same constants that the tested code was compiled with.
 *
 * Context: host tests. Fails by ending the process with a message.
 */
#ifndef TESTS_HOST_FAKE_MACHINE_H
#define TESTS_HOST_FAKE_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

/* Lays out bytes of RAM from physical address 0 (and starts over if called again), builds the
 * memory map and starts pmm/. */
void fake_machine_start(uint64_t bytes);

/* As fake_machine_start without the memory map and pmm_init. */
void fake_machine_memory(uint64_t bytes);

/* Makes the calling thread this processor; every thread begins as processor 0. */
void fake_machine_be_cpu(unsigned number);

/* Every panic ends here: expect one with PANICS, otherwise the process aborts. */
#include <setjmp.h>
extern jmp_buf fake_panic_landing;
extern int fake_panic_expected;
void fake_expect_panic(void);
extern char fake_panic_message[512];

/* if (PANICS(statement)) ...: true when the statement panics. */
#define PANICS(statement)                                                                          \
    (__extension__({                                                                               \
        volatile int panicked_ = 1;                                                                \
        fake_expect_panic();                                                                       \
        if (setjmp(fake_panic_landing) == 0) {                                                     \
            statement;                                                                             \
            panicked_ = 0;                                                                         \
        }                                                                                          \
        fake_panic_expected = 0;                                                                   \
        panicked_;                                                                                 \
    }))

/* Moves the clock on by itself on every look, by this many nanoseconds (1,000 at the start). */
extern uint64_t fake_clock_step_ns;
extern uint64_t fake_clock_ns;

/* How often an idle processor was to be woken. */
extern unsigned fake_wakes;

/* How often interrupts were turned on again: each ends a time with interrupts off. */
extern uint64_t fake_interrupts_opened;

/* Called on each flush, as the processor that makes it; tests with an MMU model set them. NULL:
 * nothing. */
extern void (*fake_on_flush_page)(uint64_t address);
extern void (*fake_on_flush_space)(void);
extern void (*fake_on_flush_all)(void);

/* Makes a flush as the calling processor. */
struct machine_flush;
void fake_machine_flush(const struct machine_flush *flush);

/* Called where code waits for other processors, so that a test can act as one. NULL: no call. */
extern void (*fake_on_relax)(void);

/* True if threads may sleep on semaphores; the function that runs meanwhile. False and NULL at the
 * start. */
extern bool fake_may_wait;
extern void (*fake_on_sleep)(void);

/* Processors that run, a bit each: 1 at the start. One is asked for a flush as another one. */
extern uint64_t fake_processors;

/* The other processors that were asked for an acknowledgement, a bit each. */
extern uint64_t fake_asked;

/* Whether the machine has contexts, and which one the calling processor has loaded. */
extern bool fake_contexts;
unsigned fake_machine_context(void);

#endif

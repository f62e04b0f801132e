/*
 * Kernel threads: workers on chosen processors that sleep and wake.
 *
 * A thread belongs to one processor for its life and is left only where it yields, sleeps or waits:
 * there is no preemption, so data that only one processor's threads share needs no lock
 * between two such calls. A processor without a ready thread runs its idle thread: in the kernel's
 * own root (rule P5), with interrupts on, at the work for idle processors if there is some, else
 * halted.
 *
 * Units: microseconds, nanoseconds. Owns: the stacks that it is given, and threads from creation to
 * join; the layer above lends their memory (struct thread_memory).
 * State: free -> thread_create -> ready <-> running <-> waiting -> ended -> thread_join -> free.
 * Fails with: STATUS_LIMIT (no stack of that processor is free), STATUS_NO_MEMORY.
 * Context: thread, without any spin lock. semaphore_up: any.
 */
#ifndef CPU_SMP_THREAD_H
#define CPU_SMP_THREAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu/machine.h"
#include "lib/check.h"
#include "lib/status.h"

/* Threads of one processor besides its idle one (and the first one's main thread). */
#define THREADS_PER_CPU 4U

struct thread;

/* ---- start ---- */

/* Allocator of threads: objects of thread_size() bytes, all zeroes. */
struct thread_memory {
    enum status (*take)(void **object);
    void (*give)(void *object);
};

size_t thread_size(void);

/* Sets where threads' memory comes from. Called once, before the first thread is created; *from
 * must not change. */
void threads_come_from(const struct thread_memory *from);

/* Turns the running code into a thread: the main thread on processor 0, else the idle thread. */
void threads_start(unsigned number);

/* Gives a processor a stack for one more thread; the first of processor 0 is its idle thread's. */
void thread_add_stack(unsigned number, uint64_t top);

/* Runs the idle loop. */
_Noreturn void thread_idle(void);

/* Sets the function that a switch calls when the next thread has another space than the last one,
 * with that space, or NULL for the kernel's own root. Interrupts are off. */
void thread_on_switch(void (*enter_space)(void *space));

/* ---- threads ---- */

MUST_USE enum status thread_create(unsigned cpu, void (*entry)(void *argument), void *argument,
                                   struct thread **thread);

/* Waits until the thread ends, and frees it. */
void thread_join(struct thread *thread);

/* Gives the running thread low priority for the rest of its life: it runs only when no other thread
 * of its processor is ready. A thread that waits for something that it holds must sleep, and not
 * yield: a yield never reaches a thread of lower priority. The main thread keeps its priority. */
void thread_set_low(void);

/* Lets the processor's other ready threads of its priority run first. */
void thread_yield(void);

void thread_sleep_us(uint64_t microseconds);

/* Returns the number of threads that were created and not joined. */
unsigned thread_count(void);

/* Returns whether the running code is a thread that may wait. */
bool thread_may_wait(void);

/* For the layers above, an entry for each processor: the program that its running thread executes;
 * NULL: none. A switch saves it with the thread. */
extern void *thread_programs[];

/* Sets the space of the running thread, which it keeps across its waits. */
void thread_set_space(void *space);

/* ---- semaphores and mutexes ---- */

struct thread_queue {
    struct thread *first;
    struct thread *last;
};

struct semaphore {
    uint8_t lock;
    unsigned count;
    struct thread_queue waiting;
};

void semaphore_up(struct semaphore *semaphore);
void semaphore_down(struct semaphore *semaphore);

/* A sleeping lock for long work. All zeroes: free. */
enum mutex_state { MUTEX_FREE, MUTEX_HELD, MUTEX_WANTED /* held, with waiters */ };

struct mutex {
    uint8_t state;              /* atomic; it becomes and ceases to be WANTED under the lock */
    uint8_t lock;               /* of the queue */
    const struct thread *owner; /* while held; NULL before there are threads */
    struct thread_queue waiting;
};

/* Locks it if it is free. */
MUST_USE static inline bool mutex_try(struct mutex *mutex)
{
    uint8_t state = MUTEX_FREE;

    if (!__atomic_compare_exchange_n(&mutex->state, &state, MUTEX_HELD, false, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED))
        return false;
    mutex->owner = machine_thread();
    return true;
}

/* Slow paths of the two below: wait for a mutex that is not free, and lock it; hand a mutex over to
 * its first waiter. */
void mutex_wait(struct mutex *mutex);
void mutex_hand_over(struct mutex *mutex);

static inline void mutex_lock(struct mutex *mutex)
{
    if (__builtin_expect(!mutex_try(mutex), 0))
        mutex_wait(mutex);
}

/* Clears the owner first, so that a thread is the owner only while it holds the mutex. */
static inline void mutex_unlock(struct mutex *mutex)
{
    uint8_t state = MUTEX_HELD;

    CHECK(mutex->owner == machine_thread());
    mutex->owner = NULL;
    if (__builtin_expect(!__atomic_compare_exchange_n(&mutex->state, &state, MUTEX_FREE, false,
                                                      __ATOMIC_RELEASE, __ATOMIC_RELAXED),
                         0))
        mutex_hand_over(mutex);
}

/* Returns the processor whose thread holds the mutex, as a bit; 0 if none does, and UINT64_MAX if
 * one may that is not known, since it is just taking or releasing it. A thread that takes the mutex
 * after the caller's last locked instruction sees what the caller stored before. */
uint64_t mutex_processors(const struct mutex *mutex);

/* ---- idle processors ---- */

/* Sets the work of idle processors. Idle threads call it with interrupts on, again and again while
 * it returns true and no thread is ready. A step is short and never waits, since a thread that
 * becomes ready waits for its end. */
void thread_set_idle_work(bool (*step)(void));

/* Wakes one halted processor, if there is one, to look for idle work. A hint: one that is just
 * about to halt is not woken, and looks when something else wakes it. Context: any. */
void thread_wake_idle(void);

/* ---- time ---- */

/* Sets the function that each processor calls once a second, with interrupts off; this processor's
 * second begins now. */
void thread_set_every_second(void (*look)(void));

#endif

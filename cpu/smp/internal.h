/*
 * Shared by threads and semaphores: the thread itself, its queues, switching.
 *
 * A queue is protected by its owner's lock. Owns: nothing. Fails with: nothing.
 * Context: interrupts off.
 */
#ifndef CPU_SMP_INTERNAL_H
#define CPU_SMP_INTERNAL_H

#include <stdint.h>

#include "cpu/smp/thread.h"

enum thread_state { THREAD_FREE, THREAD_READY, THREAD_RUNNING, THREAD_WAITING, THREAD_ENDED };

/* Protectors: (c) constant once created; (r) the ready lock of its processor; (p) its processor,
 * interrupts off; (q) the lock of the queue where it waits. */
struct thread {
    uint64_t rsp;        /* (p) while it does not run */
    struct thread *next; /* (r)(q) in one queue at most */
    uint8_t state;       /* (r) */
    unsigned cpu;        /* (c) */
    struct stack *stack; /* (c) NULL: the main thread's, or an idle one's */
    void *space;         /* (p) */
    uint64_t wake_ns;    /* (p) while it sleeps */
    void (*entry)(void *argument);
    void *argument;
    struct semaphore ended;
    struct fpu_state *fpu; /* (p) its program's vector registers, while it does not run */
    uint64_t rsp0;  /* (p) the processor's stack for traps from ring 3, while it does not run */
    void *program;  /* (p) its entry of thread_programs, while it does not run */
    bool low;       /* (c) after thread_set_low: runs only if no other thread is ready */
    bool gives_way; /* (p) in thread_give_way */
};

/* Appends a thread; removes and returns the first one, or NULL. */
void thread_queue_push(struct thread_queue *queue, struct thread *thread);
struct thread *thread_queue_pop(struct thread_queue *queue);

/* Makes a thread ready, and wakes its CPU if that is halted. */
void thread_make_ready(struct thread *thread);

/* Lets the processor's other ready threads run first, one of low priority before all: the caller
 * may wait for that one. */
void thread_give_way(void);

/* Switches to the next ready thread. The running one is in a queue already, or has ended. */
void thread_schedule(void);

#endif

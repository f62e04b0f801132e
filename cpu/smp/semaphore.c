/* Queues of threads; semaphores and mutexes, whose waiters sleep; what layers above keep with a
 * thread. */
#include "cpu/smp/thread.h"

#include "cpu/percpu.h"
#include "cpu/smp/internal.h"
#include "cpu/smp/spin.h"
#include "lib/check.h"

void thread_queue_push(struct thread_queue *queue, struct thread *thread)
{
    thread->next = NULL;
    if (queue->last != NULL)
        queue->last->next = thread;
    else
        queue->first = thread;
    queue->last = thread;
}

struct thread *thread_queue_pop(struct thread_queue *queue)
{
    struct thread *thread = queue->first;

    if (thread == NULL)
        return NULL;
    queue->first = thread->next;
    if (queue->first == NULL)
        queue->last = NULL;
    thread->next = NULL;
    return thread;
}

void semaphore_up(struct semaphore *semaphore)
{
    bool were_on = machine_interrupts_off();
    struct thread *woken;

    spin_lock(&semaphore->lock);
    woken = thread_queue_pop(&semaphore->waiting);
    if (woken == NULL)
        semaphore->count++;
    spin_unlock(&semaphore->lock);
    if (woken != NULL)
        thread_make_ready(woken);
    machine_interrupts_restore(were_on);
}

/* Puts the thread into a queue whose lock is held, and leaves the processor. Another processor may
 * make the thread ready before it is off its stack; that is safe, since only this processor runs
 * it. */
static void wait_in(struct thread_queue *queue, uint8_t *lock)
{
    struct thread *self = cpu_self()->current;

    CHECK(thread_may_wait());
    self->state = THREAD_WAITING;
    thread_queue_push(queue, self);
    spin_unlock(lock);
    thread_schedule();
}

void semaphore_down(struct semaphore *semaphore)
{
    bool were_on = machine_interrupts_off();

    spin_lock(&semaphore->lock);
    if (semaphore->count > 0) {
        semaphore->count--;
        spin_unlock(&semaphore->lock);
    } else {
        wait_in(&semaphore->waiting, &semaphore->lock);
    }
    machine_interrupts_restore(were_on);
}

/* The state changes by locked instructions, the owner by plain stores behind and before them: while
 * a new owner's is not visible yet, none is. An owner that is read here and has released the mutex
 * since may be a thread no more; its processor is then as good as any. */
uint64_t mutex_processors(const struct mutex *mutex)
{
    const struct thread *owner;

    if (__atomic_load_n(&mutex->state, __ATOMIC_SEQ_CST) == MUTEX_FREE)
        return 0;
    owner = __atomic_load_n(&mutex->owner, __ATOMIC_SEQ_CST);
    return owner == NULL ? UINT64_MAX : UINT64_C(1) << owner->cpu % CPU_MAX;
}

/* Marks the mutex as wanted, or acquires it if it is free now. Returns true if acquired. holds: its
 * queue */
static bool mutex_try_or_mark(struct mutex *mutex)
{
    for (;;) {
        uint8_t state = MUTEX_HELD;

        if (mutex_try(mutex))
            return true;
        if (__atomic_compare_exchange_n(&mutex->state, &state, MUTEX_WANTED, false,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED) ||
            state == MUTEX_WANTED)
            return false;
    }
}

void mutex_wait(struct mutex *mutex)
{
    bool were_on = machine_interrupts_off();

    spin_lock(&mutex->lock);
    if (mutex_try_or_mark(mutex)) {
        spin_unlock(&mutex->lock);
    } else {
        CHECK_MSG(mutex->owner != cpu_self()->current, "a mutex is locked twice by its owner");
        /* The unlocking thread hands it over. */
        wait_in(&mutex->waiting, &mutex->lock);
        CHECK(mutex->state != MUTEX_FREE && mutex->owner == cpu_self()->current);
    }
    machine_interrupts_restore(were_on);
}

void mutex_hand_over(struct mutex *mutex)
{
    bool were_on = machine_interrupts_off();
    struct thread *next;

    spin_lock(&mutex->lock);
    next = thread_queue_pop(&mutex->waiting);
    CHECK(mutex->state == MUTEX_WANTED && next != NULL);
    mutex->owner = next;
    __atomic_store_n(&mutex->state, mutex->waiting.first != NULL ? MUTEX_WANTED : MUTEX_HELD,
                     __ATOMIC_RELEASE);
    spin_unlock(&mutex->lock);
    thread_make_ready(next);
    machine_interrupts_restore(were_on);
}

/* ---- kept with the running thread ---- */

void *thread_programs[CPU_MAX];

void thread_set_space(void *space)
{
    struct thread *self = cpu_self()->current;

    if (self != NULL)
        self->space = space;
}

void thread_give_way(void)
{
    struct thread *self = cpu_self()->current;

    if (!thread_may_wait())
        return;
    self->gives_way = !self->low;
    thread_yield();
    self->gives_way = false;
}

void thread_set_low(void)
{
    CHECK(cpu_self()->current->stack != NULL);
    cpu_self()->current->low = true;
}

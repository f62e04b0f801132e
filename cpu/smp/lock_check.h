/*
 * Lock checks of the test build (make CHECKS=1): holders and order of spin locks.
 *
 * The run ends, with both names, if a lock is released by a processor that does not hold it, is
 * taken twice, is waited for with interrupts on, or is waited for against an order seen before. A
 * lock that is taken by try cannot wait, so any order is allowed for it; but locks waited for while
 * it is held are checked. Table locks are ordered by level, parents first (rule P8).
 *
 * It also measures the longest hold of each lock and the longest time with interrupts off. Under
 * QEMU's -icount a tick of the clock is a number of instructions, and the figures are exact;
 * instructions of the checks are left out.
 *
 * Units: ticks of machine_ticks. Owns: the orders seen so far, the longest times, and each
 * processor's list of held locks.
 * Fails with: a panic. Context: any, from traps_init on.
 */
#ifndef CPU_SMP_LOCK_CHECK_H
#define CPU_SMP_LOCK_CHECK_H

#include <stdbool.h>
#include <stdint.h>

/* Called before a lock is waited for, after it was taken, and before it is released. */
void lock_check_wait(const uint8_t *lock);
void lock_check_taken(const uint8_t *lock);
void lock_check_release(const uint8_t *lock);

/* Panics if this processor holds a spin lock. Called before operations that may take long. */
void lock_check_none(void);

/* For tests that continue after a panic: return how many locks this processor holds, and forget all
 * but the first `count`. */
unsigned lock_check_count(void);
void lock_check_abandon(unsigned count);

/* Begins to measure, from zero. */
void lock_check_measure(void);

/* The longest hold of a lock of one class, or the longest time with interrupts off. */
struct lock_check_longest {
    const void *what; /* the lock, or the code that turned interrupts on; NULL: nothing */
    uint64_t ticks;
};

/* Classes below LOCK_CHECK_LEVELS are table locks by level, the root's first. */
#define LOCK_CHECK_LEVELS  6U
#define LOCK_CHECK_CLASSES 512U
struct lock_check_longest lock_check_longest_hold(unsigned class);
struct lock_check_longest lock_check_longest_off(void);

#endif

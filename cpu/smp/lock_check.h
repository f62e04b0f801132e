/*
 * Lock checks of the test build (make CHECKS=1): holders and order of spin locks.
 *
 * A lock that is released by another processor than the one that took it, is taken twice, is waited
 * for with interrupts on, or is waited for against an order that was seen before, ends the run with
 * both names. A lock that is taken by try cannot wait, so that it may come in any order; locks
 * waited for while it is held count. Table locks are ordered by level, parents first (rule P8).
 *
 * Units: none. Owns: the orders seen so far, and each processor's list of held locks.
 * Fails with: a panic. Context: any, from traps_init on.
 */
#ifndef CPU_SMP_LOCK_CHECK_H
#define CPU_SMP_LOCK_CHECK_H

#include <stdbool.h>
#include <stdint.h>

/* Before it is waited for, after it was taken, and before it is released. */
void lock_check_wait(const uint8_t *lock);
void lock_check_taken(const uint8_t *lock);
void lock_check_release(const uint8_t *lock);

/* Before something that may take long: this processor holds no spin lock. */
void lock_check_none(void);

/* For tests that go on after a panic: how many locks this processor holds, and those that it took
 * since then are held no more. */
unsigned lock_check_count(void);
void lock_check_abandon(unsigned count);

#endif

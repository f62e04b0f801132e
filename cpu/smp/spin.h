/*
 * A spin lock of one byte, small enough for a frame record.
 *
 * The caller handles interrupts: rule P4 asks that they be off from the first read of a
 * walk to the release of its lock, and that a lock met on a walk is taken by try.
 * Context: any. Cannot fail; a lock that is never released spins for ever, as a deadlock would.
 */
#ifndef CPU_SMP_SPIN_H
#define CPU_SMP_SPIN_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu/machine.h"
#include "lib/check.h"

/* In the test build each step is checked (cpu/smp/lock_check.h). */
#ifdef LOCK_CHECKS
#include "cpu/smp/lock_check.h"
#define LOCK_CHECK(step, lock) lock_check_##step(lock)
#else
#define LOCK_CHECK(step, lock) ((void)0)
#endif

static inline bool spin_try_unchecked(uint8_t *lock)
{
    return __atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE) == 0;
}

static inline bool spin_try(uint8_t *lock)
{
    if (!spin_try_unchecked(lock))
        return false;
    LOCK_CHECK(taken, lock);
    return true;
}

static inline void spin_lock(uint8_t *lock)
{
    LOCK_CHECK(wait, lock);
    while (!spin_try_unchecked(lock)) {
        while (__atomic_load_n(lock, __ATOMIC_RELAXED) != 0)
            machine_pause();
    }
    LOCK_CHECK(taken, lock);
}

/* Releases a lock without checking that it is held, for code where each instruction counts. */
static inline void spin_unlock_fast(uint8_t *lock)
{
    LOCK_CHECK(release, lock);
    __atomic_store_n(lock, 0, __ATOMIC_RELEASE);
}

static inline void spin_unlock(uint8_t *lock)
{
    CHECK(__atomic_load_n(lock, __ATOMIC_RELAXED) == 1);
    spin_unlock_fast(lock);
}

#endif

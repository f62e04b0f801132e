/*
 * A spin lock of one byte, small enough for a frame record.
 *
 * Interrupts are the caller's affair: RULES.md P4 asks that they be off from the first read of a
 * walk to the release of its lock, and that a lock met on a walk is taken by try.
 * Context: any. Cannot fail; a lock that is never released spins for ever, as a deadlock would.
 */
#ifndef CPU_SPIN_H
#define CPU_SPIN_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu/machine.h"
#include "lib/check.h"

static inline bool spin_try(uint8_t *lock)
{
    return __atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE) == 0;
}

static inline void spin_lock(uint8_t *lock)
{
    while (!spin_try(lock)) {
        while (__atomic_load_n(lock, __ATOMIC_RELAXED) != 0)
            machine_pause();
    }
}

static inline void spin_unlock(uint8_t *lock)
{
    CHECK(__atomic_load_n(lock, __ATOMIC_RELAXED) == 1);
    __atomic_store_n(lock, 0, __ATOMIC_RELEASE);
}

#endif

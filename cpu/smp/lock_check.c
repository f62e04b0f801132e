/* Lock checks of the test build. */
#include "cpu/smp/lock_check.h"

#ifdef LOCK_CHECKS

#include "cpu/cpu.h"
#include "cpu/machine.h"
#include "cpu/points.h"
#include "lib/check.h"

/* The locks of frame records lie in one window of 512 GiB, all at one offset of 32 bytes
 * (pmm/frame.h); the level is 23 bytes before the lock. */
#ifdef FRAME_RECORDS_BASE /* host tests choose another */
#define RECORDS_START FRAME_RECORDS_BASE
#else
#define RECORDS_START UINT64_C(0xffffc00000000000)
#endif
#define RECORDS_END  (RECORDS_START + (UINT64_C(1) << 39))
#define LEVEL_BEFORE 23
#define LEVELS       LOCK_CHECK_LEVELS

/* Classes: one for each level of tables, then one for each other lock, by its address. */
#define CLASSES  LOCK_CHECK_CLASSES
#define HELD_MAX 16U

static const uint8_t *locks[CLASSES];
static uint64_t after[CLASSES][CLASSES / 64]; /* b of a: b was waited for while a was held */

static struct {
    const uint8_t *locks[HELD_MAX];
    uint64_t since[HELD_MAX];
    unsigned count;
    uint64_t off_since; /* 0: interrupts are on */
    uint64_t checking;  /* ticks that the checks themselves took */
    uint64_t began;     /* of the check that runs */
} held[CPU_MAX];

static bool measures;
static struct lock_check_longest holds[CLASSES];
static struct lock_check_longest off;

/* ---- measuring ---- */

/* Begin and end a check. Return the ticks so far without those of checks. */
static uint64_t check_begin(unsigned cpu)
{
    held[cpu].began = machine_ticks();
    return held[cpu].began - held[cpu].checking;
}

static void check_end(unsigned cpu)
{
    held[cpu].checking += machine_ticks() - held[cpu].began;
}

/* Keeps a time if it is the longest so far. If processors do so at once, the shorter time may
 * win. */
static void keep_longest(struct lock_check_longest *longest, const void *what, uint64_t ticks)
{
    if (ticks > longest->ticks)
        *longest = (struct lock_check_longest){what, ticks};
}

void lock_check_measure(void)
{
    for (unsigned i = 0; i < CLASSES; i++)
        holds[i] = (struct lock_check_longest){0};
    off = (struct lock_check_longest){0};
    measures = true;
}

void lock_check_interrupts_off(void)
{
    if (measures)
        held[machine_cpu()].off_since = machine_ticks() - held[machine_cpu()].checking;
}

__attribute__((noinline)) void lock_check_interrupts_on(void)
{
    unsigned cpu;

    if (!measures)
        return;
    cpu = machine_cpu();
    if (held[cpu].off_since != 0)
        keep_longest(&off, __builtin_return_address(0),
                     machine_ticks() - held[cpu].checking - held[cpu].off_since);
    held[cpu].off_since = 0;
}

void lock_check_interrupts_opened(void)
{
    lock_check_interrupts_off();
}

struct lock_check_longest lock_check_longest_hold(unsigned class)
{
    return holds[class];
}

struct lock_check_longest lock_check_longest_off(void)
{
    return off;
}

/* ---- checking ---- */

static bool lock_check_is_table(const uint8_t *lock)
{
    return (uint64_t)(uintptr_t)lock >= RECORDS_START && (uint64_t)(uintptr_t)lock < RECORDS_END;
}

/* Returns the class of a lock; CLASSES if there are too many classes: the lock is then not
 * checked. */
static unsigned class_of(const uint8_t *lock)
{
    if (lock_check_is_table(lock))
        return LEVELS - 1 - *(lock - LEVEL_BEFORE) % LEVELS;
    for (unsigned n = 0; n < CLASSES - LEVELS; n++) {
        unsigned i = LEVELS + (unsigned)(((uintptr_t)lock / 64 + n) % (CLASSES - LEVELS));
        const uint8_t *none = NULL;

        if (__atomic_load_n(&locks[i], __ATOMIC_ACQUIRE) == lock ||
            __atomic_compare_exchange_n(&locks[i], &none, lock, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE) ||
            none == lock)
            return i;
    }
    return CLASSES;
}

static bool is_order_recorded(unsigned first, unsigned second)
{
    return (__atomic_load_n(&after[first][second / 64], __ATOMIC_RELAXED) >> second % 64 & 1) != 0;
}

/* Records that the second lock is acquired while the first is held, and every order that follows.
 * The recorded orders stay transitively closed. */
static void record_order(unsigned first, unsigned second)
{
    for (unsigned a = 0; a < CLASSES; a++) {
        if (a != first && !is_order_recorded(a, first))
            continue;
        __atomic_or_fetch(&after[a][second / 64], UINT64_C(1) << second % 64, __ATOMIC_RELAXED);
        for (unsigned word = 0; word < CLASSES / 64; word++)
            __atomic_or_fetch(&after[a][word], after[second][word], __ATOMIC_RELAXED);
    }
}

static void check_order(const uint8_t *mine, const uint8_t *lock)
{
    unsigned first = class_of(mine);
    unsigned second = class_of(lock);

    if (first == CLASSES || second == CLASSES)
        return;
    CHECK_MSG(mine != lock, "lock %p is waited for by cpu %u, which holds it", lock, machine_cpu());
    CHECK_MSG(first != second, "lock %p is waited for while its like %p is held", lock, mine);
    CHECK_MSG(!is_order_recorded(second, first) &&
                  !(lock_check_is_table(lock) && lock_check_is_table(mine) && second < first),
              "lock order: %p is waited for while %p is held; it was the other way round before",
              lock, mine);
    if (!is_order_recorded(first, second))
        record_order(first, second);
}

void lock_check_wait(const uint8_t *lock)
{
    unsigned cpu = machine_cpu();

    (void)check_begin(cpu);
    CHECK_MSG(!machine_interrupts_on(), "lock %p is waited for with interrupts on", lock);
    for (unsigned i = 0; i < held[cpu].count; i++)
        check_order(held[cpu].locks[i], lock);
    check_end(cpu);
}

void lock_check_taken(const uint8_t *lock)
{
    unsigned cpu = machine_cpu();

    uint64_t now = check_begin(cpu);

    CHECK_MSG(held[cpu].count < HELD_MAX, "cpu %u holds too many locks", cpu);
    held[cpu].since[held[cpu].count] = now;
    held[cpu].locks[held[cpu].count++] = lock;
    check_end(cpu);
}

void lock_check_release(const uint8_t *lock)
{
    unsigned cpu = machine_cpu();
    unsigned at = held[cpu].count;
    uint64_t now = check_begin(cpu);

    while (at > 0 && held[cpu].locks[at - 1] != lock)
        at--;
    CHECK_MSG(at > 0, "lock %p is released by cpu %u, which does not hold it", lock, cpu);
    held[cpu].count--;
    if (measures && class_of(lock) < CLASSES)
        keep_longest(&holds[class_of(lock)], lock, now - held[cpu].since[at - 1]);
    for (; at <= held[cpu].count; at++) {
        held[cpu].locks[at - 1] = held[cpu].locks[at];
        held[cpu].since[at - 1] = held[cpu].since[at];
    }
    check_end(cpu);
}

void lock_check_none(void)
{
    unsigned cpu = machine_cpu();

    CHECK_MSG(held[cpu].count == 0, "cpu %u waits while it holds lock %p", cpu, held[cpu].locks[0]);
}

unsigned lock_check_count(void)
{
    return held[machine_cpu()].count;
}

void lock_check_abandon(unsigned count)
{
    if (held[machine_cpu()].count > count)
        held[machine_cpu()].count = count;
}

#endif

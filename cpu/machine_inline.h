/*
 * The shortest functions of cpu/machine.h, as instructions in place of calls.
 *
 * The compiler's command line includes this file in every kernel source, before cpu/machine.h,
 * whose declarations then name these functions. Host tests leave it out and link functions of the
 * same names. So the logic has neither a condition for the host nor inline assembly. The paths of
 * page faults, where each instruction counts, make no call and need no callee-saved register.
 *
 * Units: bytes. Owns: nothing. Context: any. Fails with: nothing.
 * Spec: Intel SDM volume 2.
 */
#ifndef CPU_MACHINE_INLINE_H
#define CPU_MACHINE_INLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu/gs.h"
#include "cpu/points.h"

#define MACHINE_FLAG_IF    (UINT64_C(1) << 9)
#define MACHINE_PAGE_WORDS 512L

/* How frames are cleared and copied: by REP STOSB and MOVSB where the processor makes them fast,
 * else by words. Words until cpu_prepare_paging knows. */
extern bool machine_by_bytes;

static inline bool machine_interrupts_on(void)
{
    uint64_t flags;

    __asm__ volatile("pushfq\n\tpopq %0" : "=r"(flags));
    return (flags & MACHINE_FLAG_IF) != 0;
}

static inline bool machine_interrupts_off(void)
{
    bool were_on = machine_interrupts_on();

    __asm__ volatile("cli" : : : "memory");
    if (were_on)
        INTERRUPTS_CHECK(off);
    return were_on;
}

static inline void machine_interrupts_restore(bool were_on)
{
    if (!were_on)
        return;
    INTERRUPTS_CHECK(on);
    __asm__ volatile("sti" : : : "memory");
}

static inline void machine_pause(void)
{
    __asm__ volatile("pause" : : : "memory");
}

/* Returns the running processor's number. Valid from traps_init on: before that GS is the
 * firmware's. */
static inline unsigned machine_cpu(void)
{
    uint64_t number;

    __asm__ volatile("movl %%gs:%c1, %k0" : "=r"(number) : "i"(GS_NUMBER));
    if (number > UINT32_MAX)
        __builtin_unreachable(); /* so that it need not be extended to index with */
    return (unsigned)number;
}

static inline void *machine_space(void)
{
    void *space;

    __asm__ volatile("movq %%gs:%c1, %0" : "=r"(space) : "i"(GS_SPACE));
    return space;
}

static inline const void *machine_top(void)
{
    const void *top;

    __asm__ volatile("movq %%gs:%c1, %0" : "=r"(top) : "i"(GS_TOP));
    return top;
}

static inline const void *machine_thread(void)
{
    const void *thread;

    __asm__ volatile("movq %%gs:%c1, %0" : "=r"(thread) : "i"(GS_THREAD));
    return thread;
}

static inline __attribute__((always_inline)) void machine_count(unsigned which)
{
    __asm__ volatile("incq %%gs:%c0" : : "i"(GS_COUNTS + which * 8) : "memory");
}

static inline uint64_t machine_counted(void)
{
    uint64_t sum;

    __asm__ volatile("movq %%gs:%c1, %0\n\taddq %%gs:%c1+8, %0\n\taddq %%gs:%c1+16, %0\n\t"
                     "addq %%gs:%c1+24, %0\n\taddq %%gs:%c1+32, %0"
                     : "=&r"(sum)
                     : "i"(GS_COUNTS));
    return sum;
}

static inline void machine_set_space(void *space, const void *top)
{
    __asm__ volatile("movq %0, %%gs:%c1" : : "r"(space), "i"(GS_SPACE));
    __asm__ volatile("movq %0, %%gs:%c1" : : "r"(top), "i"(GS_TOP));
}

static inline void machine_clear_frame(void *frame)
{
    long count = MACHINE_PAGE_WORDS;

    CODE_POINT(POINT_CLEAR);
    if (__builtin_expect(!machine_by_bytes, 1)) {
        __asm__ volatile("rep stosq" : "+D"(frame), "+c"(count) : "a"(0L) : "memory");
    } else {
        count *= (long)sizeof(uint64_t);
        __asm__ volatile("rep stosb" : "+D"(frame), "+c"(count) : "a"(0L) : "memory");
    }
    CODE_POINT(POINT_ALLOCATE);
}

static inline void machine_fill_frame(void *frame, uint64_t word)
{
    long count = MACHINE_PAGE_WORDS;

    __asm__ volatile("rep stosq" : "+D"(frame), "+c"(count) : "a"(word) : "memory");
}

static inline void machine_copy_frame(void *restrict to, const void *restrict from)
{
    long count = MACHINE_PAGE_WORDS;

    CODE_POINT(POINT_COPY);
    if (__builtin_expect(!machine_by_bytes, 1)) {
        __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    } else {
        count *= (long)sizeof(uint64_t);
        __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    }
}

static inline void machine_flush_page(uint64_t address)
{
    __asm__ volatile("invlpg (%0)" : : "r"(address) : "memory");
}

#endif

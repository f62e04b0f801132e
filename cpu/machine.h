/*
 * The one seam to the machine: the operations of the processor that portable code calls.
 *
 * In the kernel these are in cpu/machine.S, cpu/machine.c and cpu/clock/time.c, the shortest of
 * them in cpu/machine_inline.h, which every source gets before this header. Host tests link
 * tests/host/fake/machine.c instead, with a simulated MMU and TLB. So no logic has an #ifdef for
 * the host, and none has inline assembly. `make check` proves that the core links with nothing else
 * unresolved.
 *
 * Units: bytes, nanoseconds, ticks of the time-stamp counter.
 * Fails with: nothing. Context: any, unless said otherwise.
 * Spec: Intel SDM volumes 2 and 3.
 */
#ifndef CPU_MACHINE_H
#define CPU_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/units.h"

/* Turns interrupts off; returns whether they were on, the argument of the matching restore. */
bool machine_interrupts_off(void);
void machine_interrupts_restore(bool were_on);

/* Returns whether interrupts are on (EFLAGS.IF). */
bool machine_interrupts_on(void);

/* Executes PAUSE. Every waiting loop calls it: QEMU with -icount makes no progress otherwise. */
void machine_pause(void);

/* Returns the number of the running processor; the boot processor is 0. */
unsigned machine_cpu(void);

/* Return the address space of the running processor and its top table, as last set on this
 * processor; before that NULL, and a table with an empty lower half. */
void *machine_space(void);
const void *machine_top(void);
void machine_set_space(void *space, const void *top);

/* Counts an event on the running processor: one instruction, and no lock. The counts of a processor
 * only rise; others may read them. */
#define MACHINE_COUNTS 5U
void machine_count(unsigned which);
const uint64_t *machine_counts_of(unsigned cpu);
uint64_t machine_counted(void); /* the sum of the running processor's counts */

/* Returns the running thread of cpu/smp/thread.h; NULL before there are threads. */
const void *machine_thread(void);

/* Fills a frame of 4 KiB with zeroes or with a word, or copies one, through addresses aligned to
 * 4 KiB. */
void machine_clear_frame(void *frame);
void machine_fill_frame(void *frame, uint64_t word);
void machine_copy_frame(void *restrict to, const void *restrict from);

/* Invalidates this processor's translations: of one page with the paging-structure caches (INVLPG),
 * of all that is not global, or of everything with global pages. The first two concern the context
 * that is loaded, the last one all. They serialize: earlier stores are visible to all processors
 * (SDM volume 3, 9.3), also under QEMU, which takes a lock for each. */
void machine_flush_page(uint64_t address);
void machine_flush_space(void);
void machine_flush_all(void);

/* Returns the set of online processors, a bit for each machine_cpu(). */
uint64_t machine_processors(void);

/* Translations to invalidate. */
struct machine_flush {
    enum { MACHINE_FLUSH_PAGES, MACHINE_FLUSH_SPACE, MACHINE_FLUSH_ALL } kind;
    unsigned count;
    const uint64_t *pages; /* constant until machine_shootdown returns */
};

/* Flushes on the processors of one set, including this one if it is in it. Returns when they and
 * those of the other set have answered: each has then left any code with interrupts off that it was
 * in at the call. While it waits it answers the requests of others. The caller holds no spin
 * lock. */
void machine_shootdown(uint64_t where, uint64_t answers, const struct machine_flush *flush);

/* Answers other processors' requests and, if interrupts are on, yields to this processor's other
 * threads. Long waiting loops call it. */
void machine_relax(void);

/* Return CR3 without its low 12 bits, and load it. A load flushes the translations of the current
 * context that are not global, and keeps the context. */
void machine_load_root(struct phys root);
struct phys machine_root(void);

/* Returns whether translations are tagged by a context, the process-context identifier (CR4.PCIDE);
 * the same on all processors. Without them there is only context 0. */
bool machine_has_contexts(void);

/* Loads a root as a context, 0 to 4095. Without `keep`, flushes the context's cached translations
 * that are not global. */
void machine_load_context(struct phys root, unsigned context, bool keep);

/* Returns the time-stamp counter; under -icount its tick is a known number of instructions. */
uint64_t machine_ticks(void);

/* Returns monotonic time from a calibrated clock, which bounds every wait for hardware. */
uint64_t machine_now_ns(void);

/* Returns the CRC-32C of size bytes, continued from crc (0 to begin), by the CRC32 instruction if
 * there is one. Polynomial 0x1EDC6F41 reflected, initial and final inversion included. */
uint32_t machine_crc32c(uint32_t crc, const void *data, size_t size);

/* A bound on a wait. Use: for (d = deadline_after_ms(30); !ready();) if (deadline_passed(d)) ... */
struct deadline {
    uint64_t at_ns;
};

static inline struct deadline deadline_after_us(uint64_t microseconds)
{
    return (struct deadline){machine_now_ns() + microseconds * 1000};
}

static inline struct deadline deadline_after_ms(uint64_t milliseconds)
{
    return deadline_after_us(milliseconds * 1000);
}

static inline bool deadline_passed(struct deadline deadline)
{
    machine_pause();
    return machine_now_ns() >= deadline.at_ns;
}

/* Spins for at least this long. */
static inline void delay_us(uint64_t microseconds)
{
    struct deadline end = deadline_after_us(microseconds);

    while (!deadline_passed(end)) {
    }
}

#endif

/*
 * Between the files of the fast path: fault_fast.c (the walk, and what stands in the entry) and
 * fault_fast_page.c (the kinds of faults that take a page).
 *
 * Units: addresses in bytes. Owns: nothing. Context: a fault, interrupts off.
 * State: fault_fast.c has locked the leaf table; each function below goes on from there, and
 * unlocks it. True: the fault is resolved; false: what fault_give_up says.
 */
#ifndef VMM_FAULT_FAST_INTERNAL_H
#define VMM_FAULT_FAST_INTERNAL_H

#include "cpu/smp/spin.h"
#include "cpu/trap/trap.h"
#include "paging/tree/tree.h"
#include "vmm/fault/fault.h"

#define INLINE              static inline __attribute__((always_inline))
#define GOES_ON             __attribute__((noinline))
#define OUT_OF_LINE         static __attribute__((noinline, cold))
#define UNLIKELY(condition) __builtin_expect((condition), 0)

#define CLASS(class) ((uint64_t)(class) << PTE_CLASS_SHIFT)

/* How it ended. */
enum fast_result {
    FAST_RESOLVED,
    FAST_SLOW_PATH, /* to the slow path; nothing has changed */
    FAST_UNMAPPED,  /* the address is not mapped, or guarded */
    FAST_REFILL,    /* the processor's cache of frames is empty; nothing has changed */
    FAST_DAMAGED    /* a free frame's record has been written to */
};

/* Constants of 64 bits, as words in memory: an instruction can use such a one in place, while each
 * use of an immediate costs an instruction more. They are defined elsewhere, so that the compiler
 * does not know better. */
INLINE void *direct(uint64_t physical)
{
    return fault_constants.direct_map + physical;
}

INLINE struct frame *record_of(uint64_t physical)
{
    return (struct frame *)(uintptr_t)(fault_constants.records +
                                       physical / (PAGE_SIZE / sizeof(struct frame)));
}

INLINE struct frame *record_at(uint32_t index)
{
    return (struct frame *)(uintptr_t)fault_constants.records + index;
}

INLINE bool fast_unlock_table(struct frame *table)
{
    spin_unlock_fast(&table->lock);
    return true;
}

/* Unlocks the table and ends the path: without a frame it was a try, and has failed; otherwise the
 * slow path goes on, or the processor's caches are filled and it begins again. */
bool fault_give_up(struct trap_frame *frame, struct frame *table, enum fast_result result);

/* A ticket is written. own_bits: what the new entry has besides the page. */
bool fault_first_write(struct trap_frame *frame, struct pte *leaf, struct frame *table,
                       uint64_t own_bits);

/* A COW entry that shows the zero page is written; word: the entry. */
bool fault_write_zero_page(struct trap_frame *frame, struct pte *leaf, struct frame *table,
                           uint64_t word, uint64_t address);

/* A COW entry is written whose page several entries name: this one gets a copy. */
bool fault_copy_page(struct trap_frame *frame, struct pte *leaf, struct frame *table,
                     uint64_t address);

#endif

/*
 * Shared by the files of the fast path: fast.c (the walk and the entry's state), fast_page.c (the
 * faults that take a page) and fast_section.c (those that link a section's page).
 *
 * Units: addresses in bytes. Owns: nothing. Context: a fault, interrupts off.
 * State: fast.c has locked the leaf table; each function below continues from there and unlocks it.
 * Returns true if the fault is resolved, else the result of fault_give_up.
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

/* The result of a step of the fast path. */
enum fast_result {
    FAST_RESOLVED,
    FAST_SLOW_PATH, /* the slow path must decide; nothing has changed */
    FAST_REFILL,    /* the processor's cache of frames is empty; nothing has changed */
    FAST_DAMAGED    /* a free frame's record has been written to */
};

/* 64-bit constants as words in memory: an instruction can use a memory operand, while an immediate
 * costs one more instruction per use. They are defined in another file, so that the compiler cannot
 * turn them back into immediates. */
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

/* Returns the offset of an entry in its table, in bytes. */
INLINE unsigned leaf_place(const struct pte *leaf)
{
    return (unsigned)(uintptr_t)leaf & (PAGE_SIZE - sizeof(*leaf));
}

INLINE unsigned leaf_index(const struct pte *leaf)
{
    return leaf_place(leaf) / sizeof(*leaf);
}

INLINE bool fast_unlock_table(struct frame *table)
{
    spin_unlock_fast(&table->lock);
    return true;
}

/* Lock and flags are adjacent, and a usable table has no flag: one exchange takes the lock and
 * checks that the table is not dead (rule P6). */
INLINE bool fast_lock_table(struct frame *record)
{
    uint16_t free_and_alive = 0;

    _Static_assert(offsetof(struct frame, flags) == offsetof(struct frame, lock) + 1 &&
                       offsetof(struct frame, lock) % sizeof(uint16_t) == 0,
                   "one word");
    if (!__atomic_compare_exchange_n((uint16_t *)(void *)&record->lock, &free_and_alive, 1, false,
                                     __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return false;
    LOCK_CHECK(taken, &record->lock);
    return true;
}

/* Unlocks the table and ends the path. Without a trap frame it was only a try, and returns false.
 * Otherwise continues in the slow path, or refills the processor's caches and retries. */
bool fault_give_up(struct trap_frame *frame, struct frame *table, enum fast_result result);

/* Resolves a write to a ticket. own_bits: the new entry without its frame. */
bool fault_first_write(struct trap_frame *frame, struct pte *leaf, struct frame *table,
                       uint64_t own_bits);

/* Resolves a write to a COW entry of the zero page. word: the entry. */
bool fault_write_zero_page(struct trap_frame *frame, struct pte *leaf, struct frame *table,
                           uint64_t word, uint64_t address);

/* Resolves a write to a COW entry with other references: this entry gets a copy. */
bool fault_copy_page(struct trap_frame *frame, struct pte *leaf, struct frame *table,
                     uint64_t address);

/* Resolves a program's write to a ticket of a region with the hint: with pages for the group, which
 * are at hand. Unlocks the table. Returns false, and has changed nothing, if there is none. */
bool fault_write_around(struct pte *leaf, const struct descriptor *descriptor);

/* Resolves a fault at a ticket of a section, if the page is resident in the section and needs no
 * copy (fast_section.c). */
bool fault_link_section(uint64_t address, uint64_t error, struct trap_frame *frame,
                        const struct descriptor *descriptor, struct frame *table, struct pte *leaf);

#endif

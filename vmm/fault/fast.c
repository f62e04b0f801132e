/*
 * The fast path of faults: resolves the common faults in one walk under one lock.
 *
 * It handles the rows of the table in fault.c that need no new table, no disk and no reclaim: a
 * ticket read or written, the zero page written, a COW page written by one of several owners or by
 * the last. In every other case it changes nothing and calls the slow path, which also finds the
 * reason of a violation. Interrupts are off throughout, as in any walk (rule P4); locks are only
 * tried.
 *
 * It repeats steps of fault.c with constants instead of loops, since every fault pays for each
 * instruction (`make bench`). Three measures keep them few: one compare replaces each group of
 * conditions; rare cases end the path instead of being handled on it; and no function is called, so
 * that the registers saved by the entry suffice.
 */
#include "vmm/fault/fast_internal.h"

#include "cpu/machine.h"
#include "cpu/points.h"
#include "vmm/fault/entry.h"
#include "vmm/page/page.h"

/* Own is class 1, COW 2, shared 3: this bit is clear only along a path of own tables. */
#define PTE_NOT_OWN (UINT64_C(1) << (PTE_CLASS_SHIFT + 1))

/* The bits of a link to an own table that the processor has walked, besides the frame. */
#define OWN_TABLE (PTE_P | PTE_RW | PTE_US | PTE_A | CLASS(PTE_OWN) | PTE_MAY_WRITE)

/* The entries of the lower half in the top table; canonical addresses of the upper half have larger
 * indexes. */
#define LOWER_ENTRIES (PTE_ENTRIES / 2)

/* An error code can be compared with an entry. */
_Static_assert(PF_P == 1 && PF_WR == 2 && PF_US == 4, "as in the error code");
_Static_assert(PTE_P == 1 && PTE_RW == 2 && PTE_US == 4, "as in an entry");

/* One fault in progress. */
struct fast {
    uint64_t address;
    uint64_t error;
    struct trap_frame *frame;
    struct pte *leaf;     /* its entry in the leaf table */
    struct frame *record; /* of the leaf table */
};

/* ---- the walk ---- */

/* Returns the result for an entry that ends the walk. */
INLINE enum fast_result end_at(uint64_t word)
{
    return word == 0 || word == pte_guard().word ? FAST_UNMAPPED : FAST_SLOW_PATH;
}

/* Handles an unusual entry: a link to a shared table or one not yet accessed, or the end of the
 * walk. A write needs own tables on the whole path; a read may fill shared ones in place. */
INLINE bool step_unusual(uint64_t *word, uint64_t error)
{
    uint64_t wrong;

    /* Subtracting P leaves zero in these three bits only for a link to an own table. */
    wrong = (*word - PTE_P) & (PTE_P | PTE_PS | PTE_NOT_OWN);
    if (wrong != 0 && (wrong != PTE_NOT_OWN || (error & PF_WR) != 0))
        return false;
    *word &= fault_constants.frame_mask;
    return true;
}

/* Descends one level. word: in, the entry; out, the next table's address. Subtracting the bits of
 * the usual link leaves the address, so that one test shows whether the link is usual. */
INLINE bool step(uint64_t *word, const struct pte *entry, uint64_t error)
{
    *word = pte_read(entry).word - OWN_TABLE;
    if (__builtin_expect((*word & fault_constants.no_frame) == 0, 1))
        return true;
    *word += OWN_TABLE;
    return step_unusual(word, error);
}

/* Descends one level from the table whose address is the word. */
INLINE bool fast_step_down(uint64_t *word, const struct fast *fast, unsigned level)
{
    const struct pte *entries = direct(*word);

    return step(word, &entries[pte_index(fast->address, level)], fast->error);
}

/* Outside of any space the top table is the kernel's, whose lower half is empty. */
INLINE enum fast_result walk_to_leaf(struct fast *fast, unsigned levels)
{
    uint64_t index = fast->address >> (PAGE_SHIFT + 9 * (levels - 1));
    const struct pte *top = machine_top();
    uint64_t word;

    if (UNLIKELY(index >= LOWER_ENTRIES))
        return FAST_SLOW_PATH;
    if (!step(&word, &top[index], fast->error))
        return end_at(word);
    if (levels == 5 && !fast_step_down(&word, fast, 4))
        return end_at(word);
    if (!fast_step_down(&word, fast, 3) || !fast_step_down(&word, fast, 2))
        return end_at(word);
    fast->record = record_of(word);
    fast->leaf = (struct pte *)direct(word) + pte_index(fast->address, 1);
    return FAST_RESOLVED;
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

/* ---- rare cases, out of line ---- */

/* Refills the processor's frame cache and retries. */
OUT_OF_LINE bool fast_refill(uint64_t address, uint64_t error, struct trap_frame *frame)
{
    return (pmm_refill() && fault_fast_any(address, error)) || fault_slow(address, error, frame);
}

/* Without a frame it is a try, which ends here. */
OUT_OF_LINE bool otherwise(uint64_t address, uint64_t error, struct trap_frame *frame,
                           enum fast_result result)
{
    if (frame == NULL)
        return false;
    if (result == FAST_UNMAPPED && (error & ~(PF_P | PF_WR | PF_US | PF_ID)) == 0)
        return fault_unmapped(address, error, frame);
    if (result == FAST_REFILL)
        return fast_refill(address, error, frame);
    return fault_slow(address, error, frame);
}

INLINE bool fast_leave(const struct fast *fast, enum fast_result result)
{
    return otherwise(fast->address, fast->error, fast->frame, result);
}

OUT_OF_LINE bool unlock_otherwise(uint64_t address, uint64_t error, struct trap_frame *frame,
                                  enum fast_result result, struct frame *table)
{
    spin_unlock_fast(&table->lock);
    return otherwise(address, error, frame, result);
}

INLINE bool unlock_and_leave(const struct fast *fast, enum fast_result result)
{
    return unlock_otherwise(fast->address, fast->error, fast->frame, result, fast->record);
}

/* Takes address and error code from the frame, which saves two registers. */
__attribute__((noinline, cold)) bool fault_give_up(struct trap_frame *frame, struct frame *table,
                                                   enum fast_result result)
{
    spin_unlock_fast(&table->lock);
    return frame != NULL && otherwise(frame->cr2, frame->error, frame, result);
}

/* ---- by the entry's state ---- */

INLINE bool resolve_ticket(const struct fast *fast, struct pte entry)
{
    uint32_t index = (uint32_t)pte_payload(entry) & 0xffff;
    const struct descriptor *descriptor =
        (const struct descriptor *)(uintptr_t)fault_constants.descriptors + index;

    if (UNLIKELY(index >= descriptor_bound()) || UNLIKELY(descriptor->ticket.word != entry.word))
        return unlock_and_leave(fast, end_at(entry.word));
    if (UNLIKELY(fast->error >= 32))
        return unlock_and_leave(fast, FAST_SLOW_PATH);
    if (UNLIKELY((descriptor->allows >> fast->error & 1) == 0))
        return unlock_and_leave(fast, FAST_SLOW_PATH);
    if ((fast->error & PF_WR) != 0)
        return fault_first_write(fast->frame, fast->leaf, fast->record, descriptor->own_bits);
    /* Neither the ticket nor the zero page is counted: live and held do not change. */
    CODE_POINT(POINT_MAP);
    __atomic_store_n(&fast->leaf->word, descriptor->zero_leaf.word, __ATOMIC_RELEASE);
    count_event(&space_current()->faults.zero_read);
    return fast_unlock_table(fast->record);
}

/* Handles a write to a resident page. One compare checks everything: the entry is a COW leaf with
 * the right to write, of the ring that writes, and the error code has no other bit. */
INLINE bool write_leaf(const struct fast *fast, struct pte entry)
{
    const uint64_t compared = PTE_P | PTE_RW | PTE_US | PTE_CLASS_MASK | PTE_MAY_WRITE;
    const struct frame *record = frame_record(pte_frame(entry));

    if (UNLIKELY(((entry.word & compared) ^ fast->error) !=
                 (PTE_RW | CLASS(PTE_COW) | PTE_MAY_WRITE)))
        return unlock_and_leave(fast, FAST_SLOW_PATH);
    if (pfn_equal(pte_frame(entry), fault_zero_page))
        return fault_write_zero_page(fast->frame, fast->leaf, fast->record, entry.word,
                                     fast->address);
    if (__atomic_load_n(&record->count, __ATOMIC_ACQUIRE) != 1)
        return fault_copy_page(fast->frame, fast->leaf, fast->record, fast->address);
    if (UNLIKELY((record->flags & FRAME_SWAP_CACHED) != 0))
        return unlock_and_leave(fast, FAST_SLOW_PATH);
    CODE_POINT(POINT_MAP);
    /* COW becomes own and R/W is set; the processor may set A meanwhile (rule E8). */
    __atomic_fetch_xor(&fast->leaf->word, CLASS(PTE_COW) | CLASS(PTE_OWN) | PTE_RW,
                       __ATOMIC_ACQ_REL);
    count_event(&space_current()->faults.cow_reuse);
    return fast_unlock_table(fast->record);
}

/* ---- entry points ---- */

INLINE bool handle(struct fast *fast, unsigned levels)
{
    struct pte entry;
    enum fast_result result;

    CODE_POINT(POINT_FIND);
    result = walk_to_leaf(fast, levels);
    if (UNLIKELY(result != FAST_RESOLVED))
        return fast_leave(fast, result);
    if (UNLIKELY(!fast_lock_table(fast->record)))
        return fast_leave(fast, FAST_SLOW_PATH);
    entry = pte_read(fast->leaf);
    return pte_present(entry) ? write_leaf(fast, entry) : resolve_ticket(fast, entry);
}

bool fault_fast_4(uint64_t address, uint64_t error, struct trap_frame *frame)
{
    struct fast fast = {.address = address, .error = error, .frame = frame};

    return handle(&fast, 4);
}

bool fault_fast_5(uint64_t address, uint64_t error, struct trap_frame *frame)
{
    struct fast fast = {.address = address, .error = error, .frame = frame};

    return handle(&fast, 5);
}

bool fault_fast_any(uint64_t address, uint64_t error)
{
    const struct space *space = space_current();

    return space != NULL && (space->tree.levels == 5 ? fault_fast_5(address, error, NULL)
                                                     : fault_fast_4(address, error, NULL));
}

/*
 * The fast path of faults: resolves the common faults in one walk under one lock.
 *
 * It handles the rows of the table in fault.c that need no disk and no reclaim: a ticket read or
 * written, also of a section whose page is resident, the zero page written, a COW page written by
 * one of several owners or by the last. In every other case it changes nothing and calls the slow
 * path, which also finds the reason of a violation. Interrupts are off throughout, as in any walk
 * (rule P4); locks are only tried.
 *
 * It repeats steps of fault.c with constants instead of loops, since every fault pays for each
 * instruction (`make bench`). Three measures keep them few: one compare replaces each group of
 * conditions; rare cases end the path instead of being handled on it; and no function is called, so
 * that the registers saved by the entry suffice.
 */
#include "vmm/fault/fast_internal.h"

#include "cpu/machine.h"
#include "cpu/points.h"
#include "cpu/registers.h"
#include "paging/ticket/ticket.h"
#include "vmm/fault/entry.h"
#include "vmm/page/page.h"

/* Own is class 1, COW 2, shared 3: this bit is clear only along a path of own tables. */
#define PTE_NOT_OWN (UINT64_C(1) << (PTE_CLASS_SHIFT + 1))

/* The bits of a link to an own table that the processor has walked, besides the frame. */
#define OWN_TABLE (PTE_P | PTE_RW | PTE_US | PTE_A | CLASS(PTE_OWN) | PTE_MAY_WRITE)

/* The entries of the lower half in the top table; canonical addresses of the upper half have larger
 * indexes. */
#define LOWER_ENTRIES (PTE_ENTRIES / 2)

/* The bits of an error code whose causes entries explain. */
#define USUAL_ERROR (PF_P | PF_WR | PF_US | PF_ID)

/* P, W and U are the same bits in an error code and in an entry, so the two can be compared. */
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

/* Outside of any space the top table is the kernel's, whose lower half is empty. Returns false if
 * the walk ends above the leaf table. word: out, the entry there; not a ticket at addresses of the
 * upper half. */
INLINE bool walk_to_leaf(struct fast *fast, unsigned levels, uint64_t *word)
{
    uint64_t index = fast->address >> (PAGE_SHIFT + 9 * (levels - 1));
    const struct pte *top = machine_top();

    *word = PTE_P;
    if (UNLIKELY(index >= LOWER_ENTRIES))
        return false;
    if (!step(word, &top[index], fast->error))
        return false;
    if (levels == 5 && !fast_step_down(word, fast, 4))
        return false;
    if (!fast_step_down(word, fast, 3) || !fast_step_down(word, fast, 2))
        return false;
    fast->record = record_of(*word);
    fast->leaf = (struct pte *)direct(*word) + pte_index(fast->address, 1);
    return true;
}

/* ---- rare cases, out of line ---- */

/* Refills the processor's frame cache and retries. */
OUT_OF_LINE bool fast_refill(uint64_t address, uint64_t error, struct trap_frame *frame)
{
    return (pmm_refill() && fault_fast_any(address, error)) || fault_slow(address, error, frame);
}

/* Continues in the slow path. A call without a trap frame was only a try, and returns false. */
INLINE bool go_slowly(uint64_t address, uint64_t error, struct trap_frame *frame)
{
    return frame != NULL && fault_slow(address, error, frame);
}

INLINE bool violate(uint64_t address, uint64_t error, struct trap_frame *frame, enum status reason)
{
    return frame != NULL && fault_violates(address, error, frame, reason);
}

OUT_OF_LINE bool otherwise(uint64_t address, uint64_t error, struct trap_frame *frame,
                           enum fast_result result)
{
    if (frame == NULL)
        return false;
    if (result == FAST_REFILL)
        return fast_refill(address, error, frame);
    return fault_slow(address, error, frame);
}

/* Pauses before the first look at a held lock, which double with each; then the slow path. A
 * processor resolves dozens of faults in this time: two that fill one table in turn drift apart,
 * instead of passing its record to and fro at each fault. */
#define LOCK_PAUSES 64U
#define LOCK_LOOKS  3U

/* Another processor holds the lock of the leaf table, or the table is dead: starts over at the root
 * with interrupts as they were (rule P4). */
OUT_OF_LINE bool fast_start_over(uint64_t address, uint64_t error, struct trap_frame *frame,
                                 const struct frame *table)
{
    bool held = frame != NULL;

    for (unsigned look = 0; held && look < LOCK_LOOKS; look++) {
        machine_interrupts_restore((frame->rflags & RFLAGS_IF) != 0);
        for (unsigned i = 0; i < LOCK_PAUSES << look; i++)
            machine_pause();
        (void)machine_interrupts_off();
        held = __atomic_load_n(&table->lock, __ATOMIC_RELAXED) != 0;
    }
    return (!held && frame != NULL && fault_fast_any(address, error)) ||
           go_slowly(address, error, frame);
}

/* The frame in a withheld entry. */
#define WITHHELD_FRAME UINT64_C(0x00f00000fffffff0)

/* The bits of a leaf that say whether it is a sound one that a program may read and not write; only
 * US is set then, and the class. */
#define READ_ONLY_BITS                                                                             \
    (PTE_HIGH_ZERO | UINT64_C(0xff) << 44 | PTE_PWT | PTE_PCD | PTE_PAT | PTE_G | PTE_RW |         \
     PTE_US | PTE_MAY_WRITE)

INLINE bool fast_is_withheld(uint64_t word)
{
    return (word & ~WITHHELD_FRAME) == pte_withheld((struct pfn){0}).word;
}

INLINE bool fast_is_read_only(uint64_t word)
{
    return (word & READ_ONLY_BITS) == PTE_US && (word & PTE_CLASS_MASK) != 0;
}

/* Returns true if the access is a program's write that maps pages for a group of tickets. */
INLINE bool writes_around(const struct descriptor *descriptor, uint64_t error)
{
    return descriptor->around > 0 && error == (PF_WR | PF_US) && descriptor->rights.write &&
           descriptor->rights.user;
}

/* Ends the path at a ticket of a locked leaf table with pages for its group. */
static GOES_ON bool fast_write_around(uint64_t address, uint64_t error, struct trap_frame *frame,
                                      const struct descriptor *descriptor, struct frame *table)
{
    struct pte *leaf = (struct pte *)frame_pointer(frame_pfn(table)) + pte_index(address, 1);

    return fault_write_around(leaf, descriptor) || go_slowly(address, error, frame);
}

/* Ends the path at a ticket above the leaf table that neither a page nor zeros resolve; error is
 * below 32. */
static GOES_ON bool fast_make_tables_of_section(uint64_t address, uint64_t error,
                                                struct trap_frame *frame,
                                                const struct descriptor *descriptor)
{
    struct space *space = space_current();
    struct frame *record = NULL;
    struct pte *leaf;

    if ((descriptor->links >> error & 1) != 0)
        record = ticket_split(&space->tree, address, descriptor->ticket, &leaf);
    if (record == NULL)
        return go_slowly(address, error, frame);
    count_event(&space->faults.path);
    return fault_link_section(address, error, frame, descriptor, record, leaf);
}

/* Ends the path at a ticket above the leaf table: makes the tables down to it, and resolves the
 * fault there; error is below 32. A read needs a table only where no larger zeros are mapped. */
static GOES_ON bool fast_make_tables(uint64_t address, uint64_t error, struct trap_frame *frame,
                                     const struct descriptor *descriptor)
{
    bool around = UNLIKELY(descriptor->around > 0) && writes_around(descriptor, error);
    struct space *space = space_current();
    struct frame *record = NULL;
    struct pte *leaf;

    if ((descriptor->allows >> error & 1) == 0 && !around)
        return fast_make_tables_of_section(address, error, frame, descriptor);
    if (descriptor->page_level == 1 && ((error & PF_WR) != 0 || space->zero_levels == 1))
        record = ticket_split(&space->tree, address, descriptor->ticket, &leaf);
    if (record == NULL)
        return go_slowly(address, error, frame);
    count_event(&space->faults.path);
    if (around)
        return fast_write_around(address, error, frame, descriptor, record);
    if ((error & PF_WR) != 0)
        return fault_first_write(frame, leaf, record, descriptor->own_bits);
    __atomic_store_n(&leaf->word, descriptor->zero_leaf.word, __ATOMIC_RELEASE);
    machine_count(FAULT_ZERO_READ);
    return fast_unlock_table(record);
}

/* Ends the path at an entry that is neither present nor a ticket. */
static GOES_ON bool end_at_no_ticket(uint64_t address, uint64_t error, struct trap_frame *frame,
                                     uint64_t word)
{
    if (word == pte_guard().word)
        return violate(address, error, frame, STATUS_NOT_FOUND);
    return (error & PF_US) != 0 && fast_is_withheld(word)
               ? violate(address, error, frame, STATUS_DENIED)
               : go_slowly(address, error, frame);
}

/* Ends the path at an entry that is not present: a violation if nothing is mapped or the rights
 * deny the access. A ticket's descriptor stays while interrupts are off since the walk. */
INLINE bool end_at_absent(uint64_t address, uint64_t error, struct trap_frame *frame, uint64_t word)
{
    const struct descriptor *descriptor;

    _Static_assert(USUAL_ERROR < 32, "a number of a bit in a descriptor");
    if ((error & ~USUAL_ERROR) != 0)
        return go_slowly(address, error, frame);
    if (word == 0)
        return violate(address, error, frame, STATUS_NOT_FOUND);
    descriptor = descriptor_of((struct pte){word}, descriptor_bound());
    if (descriptor == NULL)
        return end_at_no_ticket(address, error, frame, word);
    return (descriptor->denies >> error & 1) != 0
               ? violate(address, error, frame, STATUS_DENIED)
               : fast_make_tables(address, error, frame, descriptor);
}

/* Ends the path at an entry above the leaf table. */
static GOES_ON bool end_above(uint64_t address, uint64_t error, struct trap_frame *frame,
                              uint64_t word)
{
    return (word & PTE_P) != 0 ? go_slowly(address, error, frame)
                               : end_at_absent(address, error, frame, word);
}

/* Ends the path at an entry of the locked leaf table that is neither present nor a ticket. */
static GOES_ON bool end_at_other(uint64_t address, uint64_t error, struct trap_frame *frame,
                                 uint64_t word, struct frame *table)
{
    spin_unlock_fast(&table->lock);
    if ((error & ~USUAL_ERROR) != 0)
        return go_slowly(address, error, frame);
    if ((error & PF_US) != 0 && fast_is_withheld(word))
        return violate(address, error, frame, STATUS_DENIED);
    return word == 0 || word == pte_guard().word ? violate(address, error, frame, STATUS_NOT_FOUND)
                                                 : go_slowly(address, error, frame);
}

/* Ends the path at a ticket that a single page or zeros do not resolve; error is below 32. */
static GOES_ON bool end_at_ticket(uint64_t address, uint64_t error, struct trap_frame *frame,
                                  const struct descriptor *descriptor, struct frame *table,
                                  struct pte *leaf)
{
    if ((descriptor->denies >> error & 1) != 0) {
        spin_unlock_fast(&table->lock);
        return violate(address, error, frame, STATUS_DENIED);
    }
    if (writes_around(descriptor, error) && frame != NULL)
        return fast_write_around(address, error, frame, descriptor, table);
    if ((descriptor->links >> error & 1) != 0)
        return fault_link_section(address, error, frame, descriptor, table, leaf);
    spin_unlock_fast(&table->lock);
    return go_slowly(address, error, frame);
}

/* Ends the path at a ticket for a reason that no entry explains. */
OUT_OF_LINE bool end_unusual(uint64_t address, uint64_t error, struct trap_frame *frame,
                             struct frame *table)
{
    spin_unlock_fast(&table->lock);
    return go_slowly(address, error, frame);
}

/* Ends the path at a page. Only a program's write to a page that is read-only, and no corrupt
 * entry, is a violation here; other causes are rare. */
static GOES_ON bool end_at_page(uint64_t address, uint64_t error, struct trap_frame *frame,
                                uint64_t word, struct frame *table)
{
    spin_unlock_fast(&table->lock);
    return error == (PF_P | PF_WR | PF_US) && fast_is_read_only(word)
               ? violate(address, error, frame, STATUS_DENIED)
               : go_slowly(address, error, frame);
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
        return end_at_other(fast->address, fast->error, fast->frame, entry.word, fast->record);
    if (UNLIKELY(fast->error >= 32))
        return end_unusual(fast->address, fast->error, fast->frame, fast->record);
    if (UNLIKELY((descriptor->allows >> fast->error & 1) == 0))
        return end_at_ticket(fast->address, fast->error, fast->frame, descriptor, fast->record,
                             fast->leaf);
    if ((fast->error & PF_WR) != 0)
        return fault_first_write(fast->frame, fast->leaf, fast->record, descriptor->own_bits);
    /* Neither the ticket nor the zero page is counted: live and held do not change. */
    CODE_POINT(POINT_MAP);
    __atomic_store_n(&fast->leaf->word, descriptor->zero_leaf.word, __ATOMIC_RELEASE);
    machine_count(FAULT_ZERO_READ);
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
        return end_at_page(fast->address, fast->error, fast->frame, entry.word, fast->record);
    if (pfn_equal(pte_frame(entry), fault_zero_page))
        return fault_write_zero_page(fast->frame, fast->leaf, fast->record, entry.word,
                                     fast->address);
    if (__atomic_load_n(&record->count, __ATOMIC_ACQUIRE) != 1)
        return fault_copy_page(fast->frame, fast->leaf, fast->record, fast->address);
    if (UNLIKELY((record->flags & (FRAME_SWAP_CACHED | FRAME_SHARED)) != 0)) /* rules C9, N5 */
        return end_at_page(fast->address, fast->error, fast->frame, entry.word, fast->record);
    CODE_POINT(POINT_MAP);
    /* COW becomes own and R/W is set; the processor may set A meanwhile (rule E8). */
    __atomic_fetch_xor(&fast->leaf->word, CLASS(PTE_COW) | CLASS(PTE_OWN) | PTE_RW,
                       __ATOMIC_ACQ_REL);
    machine_count(FAULT_COW_REUSE);
    return fast_unlock_table(fast->record);
}

/* ---- entry points ---- */

INLINE bool handle(struct fast *fast, unsigned levels)
{
    struct pte entry;
    uint64_t word;

    CODE_POINT(POINT_FIND);
    if (UNLIKELY(!walk_to_leaf(fast, levels, &word)))
        return end_above(fast->address, fast->error, fast->frame, word);
    if (UNLIKELY(!fast_lock_table(fast->record)))
        return fast_start_over(fast->address, fast->error, fast->frame, fast->record);
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

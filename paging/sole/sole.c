/* The one entry of a page. */
#include "paging/sole/sole.h"

#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "lib/check.h"

/* Returns the state of a level-1 entry if it references the page, otherwise empty. A slot or ticket
 * may have the page's number. */
static enum pte_state state_for(struct pte entry, struct pfn page)
{
    uint64_t type = (entry.word & PTE_TYPE_MASK) >> PTE_TYPE_SHIFT;

    if (pte_present(entry))
        return pfn_equal(pte_frame(entry), page) ? PTE_LEAF : PTE_EMPTY;
    if (!pfn_equal(pte_payload_frame(entry), page))
        return PTE_EMPTY;
    return type == PTE_TYPE_TRANSIT    ? PTE_TRANSIT
           : type == PTE_TYPE_WITHHELD ? PTE_WITHHELD
                                       : PTE_EMPTY;
}

static struct pte *sole_entry(struct tree_pointer at)
{
    return (struct pte *)frame_pointer(at.table) + at.index;
}

/* Locks the ring of the page's back pointer, and returns it; NULL if the page has none. While it is
 * locked, the back pointer's table is not freed: before that, the removal of the page's entry there
 * changes the back pointer, under this lock. Only sole_exchange ends it without the lock, for an
 * eviction: that has set FRAME_IO and seen no hold but its own, so nobody else is here for the
 * page. So no grace of rule P5 is needed. */
static struct tree_ring_lock *lock_ring(const struct frame *record, struct pfn *table)
{
    struct tree_ring_lock *ring;

    for (;;) {
        table->index = __atomic_load_n(&record->page.back_table, __ATOMIC_RELAXED);
        if (pfn_is_none(*table))
            return NULL;
        ring = tree_ring_lock_of(frame_record(*table));
        spin_lock(&ring->lock);
        if (table->index == __atomic_load_n(&record->page.back_table, __ATOMIC_RELAXED) &&
            ring == tree_ring_lock_of(frame_record(*table)))
            return ring;
        spin_unlock_fast(&ring->lock);
    }
}

enum pte_state sole_lock(struct pfn page, struct tree_pointer *at)
{
    const struct frame *record = frame_record(page);
    enum pte_state state = PTE_EMPTY;
    struct tree_ring_lock *ring;
    struct frame *table;

    CHECK(!machine_interrupts_on() && record->kind == FRAME_ANONYMOUS);
    ring = lock_ring(record, &at->table);
    if (ring == NULL)
        return PTE_EMPTY;
    table = frame_record(at->table);
    at->index = record->page.back_index;
    /* A table that is locked is not tried: those of the next pages may be the same. */
    if (__atomic_load_n(&table->lock, __ATOMIC_RELAXED) == 0 && spin_try(&table->lock)) {
        if ((table->flags & FRAME_DEAD) == 0 &&
            __atomic_load_n(&record->count, __ATOMIC_ACQUIRE) == 2)
            state = state_for(pte_read(sole_entry(*at)), page);
        if (state == PTE_EMPTY)
            spin_unlock_fast(&table->lock);
    }
    spin_unlock_fast(&ring->lock);
    return state;
}

struct pte sole_exchange(struct pfn page, struct tree_pointer at, struct pte with)
{
    struct pte old;
    bool keeps = state_for(with, page) != PTE_EMPTY;

    CHECK(frame_record(at.table)->lock == 1 && at.index < PTE_ENTRIES);
    old = pte_exchange(sole_entry(at), with);
    CHECK_MSG(state_for(old, page) != PTE_EMPTY && (keeps || pte_state(with, 1) == PTE_SWAPPED),
              "the sole entry of page %x: %lx becomes %lx", page.index, old.word, with.word);
    /* Who has read the old back pointer finds the table locked, or no entry of the page there. */
    if (!keeps)
        __atomic_store_n(&frame_record(page)->page.back_table, UINT32_MAX, __ATOMIC_RELAXED);
    return old;
}

/* Tables that are looked at with the ring locked; as many as the reverse map looks at in a step. */
#define SOLE_LOOKS 64U

bool sole_has_second(struct pfn page)
{
    const struct frame *record = frame_record(page);
    struct tree_pointer at = {.table = PFN_NONE};
    struct tree_ring_lock *ring;
    struct pfn first;
    unsigned found = 0;

    CHECK(!machine_interrupts_on() && record->kind == FRAME_ANONYMOUS);
    ring = lock_ring(record, &at.table);
    if (ring == NULL)
        return false;
    first = at.table;
    at.index = record->page.back_index;
    for (unsigned i = 0; i < SOLE_LOOKS && found < 2; i++) {
        found += state_for(pte_read(sole_entry(at)), page) != PTE_EMPTY;
        at.table.index = frame_record(at.table)->table.ring_next;
        if (pfn_is_none(at.table) || pfn_equal(at.table, first))
            break;
    }
    spin_unlock_fast(&ring->lock);
    return found > 1;
}

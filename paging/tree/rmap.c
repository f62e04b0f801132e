/*
 * The reverse map: from a page to the entries that reference it (rule R1).
 *
 * A page's record holds a back pointer to one entry. A copied table joins a ring, directly behind
 * its source. So all entries that reference an anonymous page have the same index in tables of one
 * ring. A table that was never copied is in no ring: its links are none.
 */
#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "paging/tree/internal.h"

/* Guards the links of all rings and the back pointers of all pages. Taken inside table locks. */
uint8_t tree_ring_lock;

bool rmap_lock(void)
{
    bool were_on = machine_interrupts_off();

    spin_lock(&tree_ring_lock);
    return were_on;
}

void rmap_unlock(bool were_on)
{
    spin_unlock(&tree_ring_lock);
    machine_interrupts_restore(were_on);
}

/* Returns the next table of the ring, or the table itself if it is alone. */
struct pfn rmap_next_of(struct pfn table)
{
    uint32_t next = frame_record(table)->table.ring_next;

    return next == UINT32_MAX ? table : (struct pfn){next};
}

void rmap_join(struct pfn table, struct pfn source)
{
    bool were_on = rmap_lock();
    struct frame *fresh = frame_record(table);
    struct frame *behind = frame_record(source);
    struct pfn next = rmap_next_of(source);

    CHECK(fresh->table.ring_next == UINT32_MAX && fresh->table.ring_prev == UINT32_MAX);
    fresh->table.ring_prev = source.index;
    fresh->table.ring_next = next.index;
    behind->table.ring_next = table.index;
    frame_record(next)->table.ring_prev = table.index;
    rmap_unlock(were_on);
}

void rmap_leave(struct pfn table)
{
    bool were_on = rmap_lock();
    struct frame *record = frame_record(table);
    struct pfn next = rmap_next_of(table);

    if (!pfn_equal(next, table)) {
        struct frame *after = frame_record(next);
        struct frame *before = frame_record((struct pfn){record->table.ring_prev});

        before->table.ring_next = next.index;
        after->table.ring_prev = record->table.ring_prev;
        if (before == after)
            after->table.ring_next = after->table.ring_prev = UINT32_MAX;
    }
    record->table.ring_next = record->table.ring_prev = UINT32_MAX;
    rmap_unlock(were_on);
}

/* Returns true if two tables are in one ring. */
static bool rmap_in_same_ring(struct pfn table, struct pfn other)
{
    struct pfn at = rmap_next_of(table);

    while (!pfn_equal(at, table) && !pfn_equal(at, other))
        at = rmap_next_of(at);
    return pfn_equal(at, other);
}

/* Exchanging the successors of two tables joins their rings, or splits one ring in two. */
void rmap_merge(struct pfn table, struct pfn from)
{
    bool were_on = rmap_lock();
    struct pfn behind_table = rmap_next_of(table);
    struct pfn behind_from = rmap_next_of(from);

    if (!pfn_equal(behind_from, from) && !rmap_in_same_ring(table, from)) {
        frame_record(table)->table.ring_next = behind_from.index;
        frame_record(behind_from)->table.ring_prev = table.index;
        frame_record(from)->table.ring_next = behind_table.index;
        frame_record(behind_table)->table.ring_prev = from.index;
    }
    rmap_unlock(were_on);
}

void rmap_set_pointer(struct pfn page, struct pfn table, unsigned index)
{
    bool were_on = rmap_lock();
    const struct frame *record = frame_record(page);

    CHECK_MSG(record->page.back_table == UINT32_MAX || record->page.back_index == index,
              "page %x has another entry at index %u, not %u", page.index, record->page.back_index,
              index);
    rmap_reference(page, table, index);
    rmap_unlock(were_on);
}

/* Returns the state of an entry that references the page (leaf, in transit, withheld), or empty. */
enum pte_state rmap_names_as(struct pfn table, unsigned index, struct pfn page)
{
    struct pte entry = pte_read((const struct pte *)frame_pointer(table) + index);
    struct pfn named = PFN_NONE;
    enum pte_state state;

    if (pte_present(entry))
        return pfn_equal(pte_frame(entry), page) ? PTE_LEAF : PTE_EMPTY;
    state = pte_state(entry, 1);
    if (state == PTE_TRANSIT || state == PTE_WITHHELD)
        named = pte_payload_frame(entry);
    return pfn_equal(named, page) ? state : PTE_EMPTY;
}

/* Sets the back pointer to another entry at the index, or to none. Another processor may remove
 * that entry meanwhile and reads the back pointer without the ring's lock (rmap_points_into). So
 * the back pointer is stored first, and the entry checked again afterwards. */
static void rmap_choose_another(struct frame *record, struct pfn page, struct pfn table,
                                unsigned index)
{
    for (struct pfn at = rmap_next_of(table); !pfn_equal(at, table); at = rmap_next_of(at)) {
        if (rmap_names_as(at, index, page) == PTE_EMPTY)
            continue;
        record->page.back_index = (uint16_t)index;
        __atomic_store_n(&record->page.back_table, at.index, __ATOMIC_RELAXED);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (rmap_names_as(at, index, page) != PTE_EMPTY)
            return;
    }
    __atomic_store_n(&record->page.back_table, UINT32_MAX, __ATOMIC_RELAXED);
}

bool rmap_has_pointer(struct pfn page)
{
    const struct frame *record = frame_record(page);
    struct pfn table = {record->page.back_table};

    return !pfn_is_none(table) && frame_record(table)->kind == FRAME_TABLE &&
           rmap_names_as(table, record->page.back_index, page) != PTE_EMPTY;
}

void rmap_repoint(struct pfn page, struct pfn table, unsigned index)
{
    struct frame *record = frame_record(page);

    spin_lock(&tree_ring_lock);
    if (record->page.back_table == table.index)
        rmap_choose_another(record, page, table, index);
    spin_unlock_fast(&tree_ring_lock);
}

void tree_repoint(struct pfn page, struct pfn table, unsigned index)
{
    bool were_on;

    CHECK(index < PTE_ENTRIES);
    if (!rmap_points_into(frame_record(page), table))
        return;
    were_on = machine_interrupts_off();
    rmap_repoint(page, table, index);
    machine_interrupts_restore(were_on);
}

void rmap_clear_flag(struct pfn page, uint8_t flag)
{
    bool were_on = rmap_lock();

    __atomic_and_fetch(&frame_record(page)->flags, (uint8_t)~flag, __ATOMIC_RELAXED);
    rmap_unlock(were_on);
}

bool tree_claim(struct pfn page, uint8_t flag)
{
    bool were_on = rmap_lock();
    struct frame *record = frame_record(page);
    bool alone = __atomic_load_n(&record->count, __ATOMIC_ACQUIRE) == 1;

    if (alone)
        __atomic_and_fetch(&record->flags, (uint8_t)~flag, __ATOMIC_RELAXED);
    rmap_unlock(were_on);
    return alone;
}

void rmap_reference(struct pfn page, struct pfn table, unsigned index)
{
    struct frame *record = frame_record(page);

    CHECK(record->kind == FRAME_ANONYMOUS && index < PTE_ENTRIES);
    record->page.back_table = table.index;
    record->page.back_index = (uint16_t)index;
}

/* As tree_find_pointers; the ring is locked. */
static unsigned rmap_find_pointers(struct pfn page, enum pte_state state,
                                   struct tree_pointer *pointers, unsigned max)
{
    const struct frame *record = frame_record(page);
    struct pfn first = {record->page.back_table};
    struct pfn at = first;
    unsigned found = 0;

    if (record->kind != FRAME_ANONYMOUS || pfn_is_none(first))
        return 0;
    do {
        if (rmap_names_as(at, record->page.back_index, page) == state) {
            if (found < max)
                pointers[found] = (struct tree_pointer){at, record->page.back_index};
            found++;
        }
        at = rmap_next_of(at);
    } while (!pfn_equal(at, first));
    return found;
}

unsigned tree_find_pointers(struct pfn page, enum pte_state state, struct tree_pointer *pointers,
                            unsigned max)
{
    bool were_on = rmap_lock();
    unsigned found = rmap_find_pointers(page, state, pointers, max);

    rmap_unlock(were_on);
    return found;
}

/* Reads the count first: no table can join the ring meanwhile, and an entry that is removed
 * meanwhile only makes the result false. */
bool tree_all_in_state(struct pfn page, enum pte_state state)
{
    bool were_on = rmap_lock();
    uint32_t count = __atomic_load_n(&frame_record(page)->count, __ATOMIC_ACQUIRE);
    bool all = rmap_find_pointers(page, state, NULL, 0) + 1 == count;

    rmap_unlock(were_on);
    return all;
}

/* Returns true if the entry references the page: then its table is in the ring, and stays a table
 * while the ring is locked. */
static bool is_pointer_of(struct pfn page, enum pte_state state, struct tree_pointer pointer)
{
    const struct frame *record = frame_record(page);
    struct pfn first = {record->page.back_table};
    struct pfn at = first;

    if (record->kind != FRAME_ANONYMOUS || pfn_is_none(first) ||
        record->page.back_index != pointer.index)
        return false;
    do {
        if (pfn_equal(at, pointer.table))
            return rmap_names_as(at, pointer.index, page) == state;
        at = rmap_next_of(at);
    } while (!pfn_equal(at, first));
    return false;
}

/* The table lock is only tried, so that taking it inside the ring's lock, against the lock order,
 * cannot deadlock. */
enum status tree_lock_pointer(struct pfn page, enum pte_state state, struct tree_pointer pointer)
{
    struct frame *table = frame_record(pointer.table);
    enum status status = STATUS_NOT_FOUND;
    bool were_on = rmap_lock();

    CHECK(!were_on);
    if (is_pointer_of(page, state, pointer)) {
        status = spin_try(&table->lock) ? OK : STATUS_AGAIN;
        /* Another may have replaced the entry between the look and the lock. */
        if (status == OK && ((table->flags & FRAME_DEAD) != 0 ||
                             rmap_names_as(pointer.table, pointer.index, page) != state)) {
            spin_unlock(&table->lock);
            status = STATUS_NOT_FOUND;
        }
    }
    rmap_unlock(were_on);
    return status;
}

uint64_t tree_pointer_address(struct tree_pointer pointer)
{
    const struct frame *record = frame_record(pointer.table);

    CHECK(record->kind == FRAME_TABLE);
    return (((uint64_t)record->base_high << 32 | record->table.base_low) << 21) +
           pointer.index * pte_span(record->level);
}

struct pfn rmap_hold_cached(struct pfn table, unsigned index, struct slot slot)
{
    bool were_on = rmap_lock();
    struct pfn found = PFN_NONE;
    struct pfn at = rmap_next_of(table);

    for (; pfn_is_none(found) && !pfn_equal(at, table); at = rmap_next_of(at)) {
        struct pte entry = pte_read((const struct pte *)frame_pointer(at) + index);
        enum pte_state state = pte_state(entry, 1);
        struct pfn page = state == PTE_LEAF ? pte_frame(entry) : pte_payload_frame(entry);

        if ((state == PTE_LEAF && entry_is_held(entry)) || state == PTE_TRANSIT) {
            const struct frame *record = frame_record(page);

            /* The flag is cleared under the ring's lock, so that the page stays in the swap cache;
             * but its last reference may have been dropped. */
            if ((record->flags & FRAME_SWAP_CACHED) != 0 && record->page.slot == slot.index &&
                tree_try_hold(page))
                found = page;
        }
    }
    rmap_unlock(were_on);
    return found;
}

/*
 * The reverse map: from a page to the entries that reference it (rule R1).
 *
 * A page's record holds a back pointer to one entry. A copied table joins a ring, directly behind
 * its source. So all entries that reference an anonymous page have the same index in tables of one
 * ring. A table that was never copied is in no ring: its links are none.
 *
 * Rings share TREE_RING_LOCKS locks: the low bits of a table's ring_or_section choose one, which
 * all tables of a ring have in common. A table that joins takes its source's; a merge gives one
 * ring the other's, with both locked. A page's back pointer is guarded by the lock of the table
 * that it names.
 */
#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "paging/tree/internal.h"

struct tree_ring_lock tree_ring_locks[TREE_RING_LOCKS];

/* Tables of a ring that are looked at before its lock is released for a moment. */
#define RING_STEP 64U

/* Locks the ring of a table; interrupts are off. */
static struct tree_ring_lock *rmap_spin(struct pfn table)
{
    for (;;) {
        struct tree_ring_lock *ring = tree_ring_lock_of(frame_record(table));

        spin_lock(&ring->lock);
        if (ring == tree_ring_lock_of(frame_record(table)))
            return ring;
        spin_unlock_fast(&ring->lock);
    }
}

struct rmap_hold rmap_lock_table(struct pfn table)
{
    bool were_on = machine_interrupts_off();

    return (struct rmap_hold){.ring = rmap_spin(table), .were_on = were_on};
}

/* Returns the lock of the ring that a page's back pointer is in; without one, any does. */
static struct tree_ring_lock *ring_of_page(struct pfn page)
{
    struct pfn table = {__atomic_load_n(&frame_record(page)->page.back_table, __ATOMIC_RELAXED)};

    return pfn_is_none(table) ? &tree_ring_locks[0] : tree_ring_lock_of(frame_record(table));
}

struct rmap_hold rmap_lock_page(struct pfn page)
{
    struct rmap_hold hold = {.were_on = machine_interrupts_off()};

    for (;;) {
        hold.ring = ring_of_page(page);
        spin_lock(&hold.ring->lock);
        if (hold.ring == ring_of_page(page))
            return hold;
        spin_unlock_fast(&hold.ring->lock);
    }
}

void rmap_unlock(struct rmap_hold hold)
{
    spin_unlock(&hold.ring->lock);
    machine_interrupts_restore(hold.were_on);
}

/* Returns the next table of the ring, or the table itself if it is alone. */
struct pfn rmap_next_of(struct pfn table)
{
    uint32_t next = frame_record(table)->table.ring_next;

    return next == UINT32_MAX ? table : (struct pfn){next};
}

void rmap_join(struct pfn table, struct pfn source)
{
    struct rmap_hold hold = rmap_lock_table(source);
    struct frame *fresh = frame_record(table);
    struct frame *behind = frame_record(source);
    struct pfn next = rmap_next_of(source);

    CHECK(fresh->table.ring_next == UINT32_MAX && fresh->table.ring_prev == UINT32_MAX);
    __atomic_store_n(&fresh->table.ring_or_section, behind->table.ring_or_section,
                     __ATOMIC_RELAXED);
    fresh->table.section_high = behind->table.section_high;
    fresh->table.ring_prev = source.index;
    fresh->table.ring_next = next.index;
    behind->table.ring_next = table.index;
    frame_record(next)->table.ring_prev = table.index;
    hold.ring->changes++;
    rmap_unlock(hold);
}

void rmap_leave(struct pfn table)
{
    struct rmap_hold hold = rmap_lock_table(table);
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
    hold.ring->changes++;
    rmap_unlock(hold);
}

/* Returns true if two tables are in one ring. */
static bool rmap_in_same_ring(struct pfn table, struct pfn other)
{
    struct pfn at = rmap_next_of(table);

    while (!pfn_equal(at, table) && !pfn_equal(at, other))
        at = rmap_next_of(at);
    return pfn_equal(at, other);
}

/* Locks the rings of two tables, in the order of the locks' addresses. */
static void lock_both(struct pfn table, struct pfn from, struct tree_ring_lock *rings[2])
{
    for (;;) {
        struct tree_ring_lock *a = tree_ring_lock_of(frame_record(table));
        struct tree_ring_lock *b = tree_ring_lock_of(frame_record(from));

        rings[0] = a < b ? a : b;
        rings[1] = a < b ? b : a;
        spin_lock(&rings[0]->lock);
        if (rings[1] != rings[0])
            spin_lock(&rings[1]->lock);
        if (tree_ring_lock_of(frame_record(table)) == a &&
            tree_ring_lock_of(frame_record(from)) == b)
            return;
        if (rings[1] != rings[0])
            spin_unlock_fast(&rings[1]->lock);
        spin_unlock_fast(&rings[0]->lock);
    }
}

/* Gives all tables of a ring the lock of another ring; both are locked. */
static void take_ring_lock(struct pfn table, struct pfn from)
{
    uint32_t name = frame_record(from)->table.ring_or_section;
    struct pfn at = table;

    do {
        __atomic_store_n(&frame_record(at)->table.ring_or_section, name, __ATOMIC_RELAXED);
        at = rmap_next_of(at);
    } while (!pfn_equal(at, table));
}

/* Joins the rings of two tables. Exchanging the successors in a single ring would split it. */
void rmap_merge(struct pfn table, struct pfn from)
{
    bool were_on = machine_interrupts_off();
    struct tree_ring_lock *rings[2];
    struct pfn behind_table;
    struct pfn behind_from;

    lock_both(table, from, rings);
    behind_table = rmap_next_of(table);
    behind_from = rmap_next_of(from);
    if (!pfn_equal(behind_from, from) && !rmap_in_same_ring(table, from)) {
        take_ring_lock(table, from);
        frame_record(table)->table.ring_next = behind_from.index;
        frame_record(behind_from)->table.ring_prev = table.index;
        frame_record(from)->table.ring_next = behind_table.index;
        frame_record(behind_table)->table.ring_prev = from.index;
        rings[0]->changes++;
        rings[1]->changes++;
    }
    if (rings[1] != rings[0])
        spin_unlock_fast(&rings[1]->lock);
    spin_unlock_fast(&rings[0]->lock);
    machine_interrupts_restore(were_on);
}

void rmap_set_pointer(struct pfn page, struct pfn table, unsigned index)
{
    struct rmap_hold hold = rmap_lock_table(table);
    const struct frame *record = frame_record(page);

    CHECK_MSG(record->page.back_table == UINT32_MAX || record->page.back_index == index,
              "page %x has another entry at index %u, not %u", page.index, record->page.back_index,
              index);
    rmap_reference(page, table, index);
    rmap_unlock(hold);
}

/* Returns the state of an entry that references the page (leaf, in transit, withheld), or empty. */
enum pte_state rmap_state_of(struct pfn table, unsigned index, struct pfn page)
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
void rmap_choose_another(struct frame *record, struct pfn page, struct pfn table, unsigned index)
{
    /* The caller still owns the removed entry's reference: a count of 1 means no other entry. */
    bool last = __atomic_load_n(&record->count, __ATOMIC_ACQUIRE) == 1;

    for (struct pfn at = last ? table : rmap_next_of(table); !pfn_equal(at, table);
         at = rmap_next_of(at)) {
        if (rmap_state_of(at, index, page) == PTE_EMPTY)
            continue;
        record->page.back_index = (uint16_t)index;
        __atomic_store_n(&record->page.back_table, at.index, __ATOMIC_RELAXED);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (rmap_state_of(at, index, page) != PTE_EMPTY)
            return;
    }
    __atomic_store_n(&record->page.back_table, UINT32_MAX, __ATOMIC_RELAXED);
}

bool rmap_has_pointer(struct pfn page)
{
    const struct frame *record = frame_record(page);
    struct pfn table = {record->page.back_table};

    return !pfn_is_none(table) && frame_record(table)->kind == FRAME_TABLE &&
           rmap_state_of(table, record->page.back_index, page) != PTE_EMPTY;
}

/* Chooses another back pointer after rmap_points_into returned true, with interrupts off. */
static void rmap_repoint(struct pfn page, struct pfn table, unsigned index)
{
    struct frame *record = frame_record(page);
    struct tree_ring_lock *ring = rmap_spin(table);

    if (record->page.back_table == table.index)
        rmap_choose_another(record, page, table, index);
    spin_unlock_fast(&ring->lock);
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
    struct rmap_hold hold = rmap_lock_page(page);

    __atomic_and_fetch(&frame_record(page)->flags, (uint8_t)~flag, __ATOMIC_RELAXED);
    rmap_unlock(hold);
}

bool tree_claim(struct pfn page, uint8_t flag)
{
    struct rmap_hold hold = rmap_lock_page(page);
    struct frame *record = frame_record(page);
    bool alone = __atomic_load_n(&record->count, __ATOMIC_ACQUIRE) == 1;

    if (alone)
        __atomic_and_fetch(&record->flags, (uint8_t)~flag, __ATOMIC_RELAXED);
    rmap_unlock(hold);
    return alone;
}

void rmap_reference(struct pfn page, struct pfn table, unsigned index)
{
    struct frame *record = frame_record(page);

    CHECK(record->kind == FRAME_ANONYMOUS && index < PTE_ENTRIES);
    record->page.back_table = table.index;
    record->page.back_index = (uint16_t)index;
}

/* A walk around a page's ring, in steps. It starts over if the ring changes between two of them. */
struct rmap_walk {
    struct pfn page;
    enum pte_state state;
    struct tree_pointer *pointers; /* at most max are stored */
    unsigned max;
    unsigned found;
    uint32_t count; /* of the page, when the walk began */
    struct tree_ring_lock *ring;
    uint32_t changes;
    struct pfn first;
    struct pfn at;
};

static void rmap_walk_begin(struct rmap_walk *walk, struct tree_ring_lock *ring)
{
    const struct frame *record = frame_record(walk->page);

    walk->ring = ring;
    walk->changes = ring->changes;
    walk->count = __atomic_load_n(&record->count, __ATOMIC_ACQUIRE);
    walk->first.index = record->kind == FRAME_ANONYMOUS ? record->page.back_table : UINT32_MAX;
    walk->at = walk->first;
    walk->found = 0;
}

/* Looks at some tables of the locked ring. Returns true when it has been around. */
static bool rmap_walk_some(struct rmap_walk *walk)
{
    unsigned index = frame_record(walk->page)->page.back_index;

    for (unsigned i = 0; i < RING_STEP && !pfn_is_none(walk->first); i++) {
        if (rmap_state_of(walk->at, index, walk->page) == walk->state) {
            if (walk->found < walk->max)
                walk->pointers[walk->found] = (struct tree_pointer){walk->at, (uint16_t)index};
            walk->found++;
        }
        walk->at = rmap_next_of(walk->at);
        if (pfn_equal(walk->at, walk->first))
            return true;
    }
    return pfn_is_none(walk->first);
}

static void rmap_walk_around(struct rmap_walk *walk)
{
    bool done = false;

    while (!done) {
        struct rmap_hold hold = rmap_lock_page(walk->page);

        CHECK(hold.ring != NULL);
        if (walk->ring != hold.ring || walk->changes != hold.ring->changes)
            rmap_walk_begin(walk, hold.ring);
        done = rmap_walk_some(walk);
        rmap_unlock(hold);
    }
}

unsigned tree_find_pointers(struct pfn page, enum pte_state state, struct tree_pointer *pointers,
                            unsigned max)
{
    struct rmap_walk walk = {.page = page, .state = state, .pointers = pointers, .max = max};

    rmap_walk_around(&walk);
    return walk.found;
}

/* Compares with the count at the walk's begin: no table can have joined the ring since. An entry or
 * a hold dropped meanwhile only makes the result false. */
bool tree_all_in_state(struct pfn page, enum pte_state state)
{
    struct rmap_walk walk = {.page = page, .state = state};

    rmap_walk_around(&walk);
    return walk.found + 1 == walk.count;
}

/* Returns true if the entry references the page: then its table is in the ring, and stays a table
 * while the ring is locked. A table that is alone stays because the entry of the page's back
 * pointer cannot be removed before the back pointer is. */
static bool is_pointer_of(struct pfn page, enum pte_state state, struct tree_pointer pointer,
                          const struct tree_ring_lock *ring)
{
    const struct frame *record = frame_record(page);
    const struct frame *table = frame_record(pointer.table);

    if (record->kind != FRAME_ANONYMOUS || record->page.back_table == UINT32_MAX ||
        record->page.back_index != pointer.index)
        return false;
    if (record->page.back_table != pointer.table.index &&
        (table->kind != FRAME_TABLE || tree_ring_lock_of(table) != ring ||
         table->table.ring_next == UINT32_MAX))
        return false;
    return rmap_state_of(pointer.table, pointer.index, page) == state;
}

/* Only tries the table's lock inside the ring's, against the lock order: no deadlock. */
enum status tree_lock_pointer(struct pfn page, enum pte_state state, struct tree_pointer pointer)
{
    struct frame *table = frame_record(pointer.table);
    enum status status = STATUS_NOT_FOUND;
    struct rmap_hold hold = rmap_lock_page(page);

    CHECK(!hold.were_on);
    if (is_pointer_of(page, state, pointer, hold.ring)) {
        status = spin_try(&table->lock) ? OK : STATUS_AGAIN;
        /* Another may have replaced the entry between the look and the lock. */
        if (status == OK && ((table->flags & FRAME_DEAD) != 0 ||
                             rmap_state_of(pointer.table, pointer.index, page) != state)) {
            spin_unlock(&table->lock);
            status = STATUS_NOT_FOUND;
        }
    }
    rmap_unlock(hold);
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
    struct rmap_hold hold = rmap_lock_table(table);
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
    rmap_unlock(hold);
    return found;
}

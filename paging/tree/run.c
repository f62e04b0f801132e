/*
 * Runs of entries of one table.
 *
 * A few pages that only this processor may have cached change without a batch: under the table's
 * lock, with interrupts off, it sees that no other processor runs the tree, changes the entries and
 * flushes its own translations. A processor that joins the tree waits for this one before it walks
 * (space_switch), and sees the new entries.
 */
#include "paging/tree/run.h"

#include "cpu/machine.h"
#include "paging/kernel/layout.h"
#include "paging/tree/internal.h"
#include "paging/tree/table_access.h"
#include "pmm/pmm.h"

/* ---- finding ---- */

/* Returns the highest level, above 1, whose entries begin and end at the range's ends. */
static inline unsigned tree_run_level_of(const struct tree *tree, uint64_t start, uint64_t end)
{
    unsigned level = 2;

    while (level < tree->levels && (start | end) % pte_span(level + 1) == 0)
        level++;
    return level;
}

/* Finds the table of a run. Only range calls, which hold the regions' lock, free own tables or
 * create them where nothing is mapped. So the walk needs no table locks, and interrupts may be on.
 * It does not enter shared tables, which a fault may replace. */
static inline __attribute__((always_inline)) bool find(struct tree_run *run,
                                                       const struct tree *tree, uint64_t start,
                                                       uint64_t end, unsigned levels,
                                                       unsigned bottom)
{
    unsigned last = pte_shift(bottom);
    unsigned shift = pte_shift(levels);
    struct pte *place;

    if ((start ^ (end - 1)) >> (last + PTE_INDEX_BITS) != 0 || table_access() == TABLES_RECURSIVE)
        return false;
    place = (struct pte *)frame_pointer(tree->root) + (start >> shift) % PTE_ENTRIES;
#pragma GCC unroll 5
    for (; shift > last; shift -= PTE_INDEX_BITS) {
        struct pte entry = pte_read(place);

        if (__builtin_expect(!entry_is_own_table(entry), 0)) {
            if (entry.word != 0)
                return false;
            break;
        }
        place = own_table_entries(entry) + (start >> (shift - PTE_INDEX_BITS)) % PTE_ENTRIES;
    }
    run->tree = tree;
    run->start = start;
    run->count = (uint16_t)((end - start) >> last);
    run->bottom = (uint8_t)bottom;
    run->lowest = (uint8_t)(bottom + (shift - last) / PTE_INDEX_BITS);
    run->place = place;
    run->table = frame_of_pointer(place);
    return true;
}

/* Two instances of the walk: in the common one both levels are constants and the loop unrolls. */
__attribute__((noinline)) static bool find_any(struct tree_run *run, const struct tree *tree,
                                               uint64_t start, uint64_t end)
{
    bool higher = (start | end) % pte_span(2) == 0;

    return find(run, tree, start, end, tree->levels,
                higher ? tree_run_level_of(tree, start, end) : 1);
}

bool tree_run_find(struct tree_run *run, const struct tree *tree, uint64_t start, uint64_t end)
{
    if (__builtin_expect((start | end) % pte_span(2) == 0 || tree->levels != 4, 0))
        return find_any(run, tree, start, end);
    return find(run, tree, start, end, 4, 1);
}

/* ---- putting ---- */

enum status tree_run_take_missing(struct tree_run *run)
{
    for (unsigned level = run->bottom; level < run->lowest; level++) {
        enum status status = pmm_alloc(FRAME_TABLE, FRAME_CLEARED, &run->fresh[level - 1]);

        if (status != OK) {
            run->lowest = (uint8_t)level;
            tree_run_give(run);
            return status;
        }
    }
    return OK;
}

void tree_run_give(struct tree_run *run)
{
    for (unsigned level = run->bottom; level < run->lowest; level++)
        pmm_free_clean(run->fresh[level - 1]);
}

/* Sets empty entries of a table that is locked or not yet visible. */
static inline void tree_run_put_entries(struct pfn table, struct pte *at, unsigned count,
                                        struct pte with)
{
    struct frame *record = frame_record(table);
    const struct pte *end = at + count;
    unsigned live = record->live + count;

    CHECK_MSG(live <= PTE_ENTRIES, "table %x: %u live", table.index, live);
    record->live = (uint16_t)live;
    for (; at < end; at++) {
        CHECK_MSG(at->word == 0, "entry %lx of table %x is mapped", at->word, table.index);
        __atomic_store_n(&at->word, with.word, __ATOMIC_RELEASE);
    }
}

/* Links a lower table into a table that is locked or not yet visible. */
static void put_link(struct pfn table, struct pte *at, struct pfn below)
{
    struct frame *record = frame_record(table);

    CHECK(at->word == 0);
    __atomic_store_n(&at->word, pte_table(below, PTE_OWN).word, __ATOMIC_RELEASE);
    record->live++;
    record->table.held++;
}

/* Fills the missing tables from the lowest up, then links the highest, which makes all visible. */
__attribute__((noinline)) static void put_tables(const struct tree_run *run, struct pte with)
{
    unsigned level = run->bottom;
    bool were_on;

    for (; level < run->lowest; level++) {
        struct pfn table = run->fresh[level - 1];
        struct pte *at = table_access_direct(table, level, run->start);

        tree_place_table(table, level, run->start);
        if (level == run->bottom)
            tree_run_put_entries(table, at, run->count, with);
        else
            put_link(table, at, run->fresh[level - 2]);
    }
    were_on = machine_interrupts_off();
    tree_lock_patiently(run->table, were_on);
    put_link(run->table, run->place, run->fresh[level - 2]);
    tree_unlock(run->table);
    machine_interrupts_restore(were_on);
}

void tree_run_put(const struct tree_run *run, struct pte with)
{
    struct pfn table = run->table;
    bool were_on;

    if (!tree_run_is_there(run)) {
        put_tables(run, with);
        return;
    }
    were_on = machine_interrupts_off();
    tree_lock_patiently(table, were_on);
    tree_run_put_entries(table, run->place, run->count, with);
    tree_unlock_fast(table);
    machine_interrupts_restore(were_on);
}

/* ---- changing ---- */

/* The parts in which two leaves of equal kind and rights may differ: a frame number has 32 bits. */
#define LEAF_VARIES ((uint64_t)UINT32_MAX << PAGE_SHIFT | PTE_A | PTE_D)

/* The rights bits of a leaf. */
#define RIGHTS_BITS (PTE_RW | PTE_MAY_WRITE | PTE_US | PTE_NX)

#define OWN_BITS (PTE_P | (uint64_t)PTE_OWN << PTE_CLASS_SHIFT)

/* Returns true if this processor alone runs the tree, and the locked run is short, of leaves. */
static inline bool run_is_alone(const struct tree_run *run)
{
    return run->bottom == 1 && run->count <= TREE_RUN_ALONE &&
           __atomic_load_n(&run->tree->processors, __ATOMIC_SEQ_CST) == UINT64_C(1)
                                                                            << machine_cpu();
}

static inline bool run_lock(const struct tree_run *run)
{
    bool were_on = machine_interrupts_off();

    CHECK(tree_run_is_there(run));
    tree_lock_patiently(run->table, were_on);
    return were_on;
}

static inline void run_unlock(const struct tree_run *run, bool were_on)
{
    tree_unlock_fast(run->table);
    machine_interrupts_restore(were_on);
}

/* Returns true if the entry is a sound own leaf of a page. */
static inline bool is_own_leaf(struct pte entry)
{
    uint64_t may_write = entry.word >> 11;

    _Static_assert(PTE_RW == 1U << 1 && PTE_MAY_WRITE == 1U << 11, "R/W is derived (rule E1)");
    return (entry.word & ~(LEAF_VARIES | RIGHTS_BITS)) == OWN_BITS &&
           ((entry.word >> 1 ^ may_write) & 1) == 0;
}

/* ---- replacing ---- */

/* Returns true if the entry has no target and cannot be cached. */
static inline bool entry_is_plain(struct pte entry)
{
    return !pte_present(entry) && !entry_is_held(entry);
}

/* Replaces own leaves of one shape, from an index on, and returns how many. */
static inline unsigned replace_leaves(const struct tree_run *run, unsigned from, uint64_t shape,
                                      struct pte with, struct pte *removed)
{
    uint64_t address = run->start + from * PAGE_SIZE;
    struct pte *place = run->place;
    unsigned count = run->count;
    unsigned at = from;

    for (; at < count; at++, address += PAGE_SIZE) {
        struct pte entry = pte_read(&place[at]);

        if ((entry.word & ~LEAF_VARIES) != shape)
            break;
        removed[at] = entry;
        __atomic_store_n(&place[at].word, with.word, __ATOMIC_RELEASE);
        machine_flush_page(address);
    }
    return at - from;
}

/* Replaces own leaves, zero pages and plain entries of a locked run that is alone. Stores the own
 * leaves, by their place, in removed[from] and behind; otherwise empty entries. */
static unsigned replace_alone(const struct tree_run *run, unsigned from, struct pte with,
                              struct pte *removed)
{
    struct frame *record = frame_record(run->table);
    unsigned live = record->live;
    unsigned held = record->table.held;
    unsigned at = from;

    while (at < run->count) {
        struct pte entry = pte_read(&run->place[at]);
        unsigned leaves;

        if (is_own_leaf(entry)) {
            leaves = replace_leaves(run, at, entry.word & ~LEAF_VARIES, with, removed);
            CHECK(leaves > 0);
            live -= with.word == 0 ? leaves : 0;
            held -= leaves;
            at += leaves;
            continue;
        }
        if (!entry_is_plain(entry) && !entry_is_zero(entry))
            break;
        live = live - (entry.word != 0) + (with.word != 0);
        __atomic_store_n(&run->place[at].word, with.word, __ATOMIC_RELEASE);
        if (pte_present(entry))
            machine_flush_page(run->start + at * PAGE_SIZE);
        removed[at++] = pte_empty();
    }
    CHECK_MSG(live <= PTE_ENTRIES && held <= live, "table %x: %u live, %u held", run->table.index,
              live, held);
    record->live = (uint16_t)live;
    record->table.held = (uint16_t)held;
    return at;
}

/* As replace_alone, of a run of one entry. */
static inline unsigned replace_one_alone(const struct tree_run *run, struct pte with,
                                         struct pte *removed)
{
    struct frame *record = frame_record(run->table);
    struct pte entry = pte_read(run->place);
    bool own = is_own_leaf(entry);

    if (!own && !entry_is_plain(entry) && !entry_is_zero(entry))
        return 0;
    __atomic_store_n(&run->place->word, with.word, __ATOMIC_RELEASE);
    if (pte_present(entry))
        machine_flush_page(run->start);
    record->live = (uint16_t)(record->live - (entry.word != 0) + (with.word != 0));
    record->table.held = (uint16_t)(record->table.held - own);
    CHECK_MSG(record->table.held <= record->live, "table %x: %u live, %u held", run->table.index,
              record->live, record->table.held);
    *removed = own ? entry : pte_empty();
    return 1;
}

/* Goes on with a locked run at an entry that has a target, and unlocks. */
__attribute__((noinline)) static unsigned replace_pages(const struct tree_run *run, unsigned from,
                                                        struct pte with, bool were_on)
{
    struct pte removed[TREE_RUN_ALONE]; /* set from `from` on */
    unsigned done = from;

    if (run_is_alone(run))
        done = run->count == 1 ? replace_one_alone(run, with, removed)
                               : replace_alone(run, from, with, removed);
    run_unlock(run, were_on);
    if (done == 1 && run->count == 1)
        tree_drop_page(run->table, pte_index(run->start, 1), removed[0]);
    else if (done > from)
        tree_drop_pages(run->table, pte_index(run->start, 1) + from, &removed[from], done - from);
    return done;
}

unsigned tree_run_replace(const struct tree_run *run, struct pte with)
{
    struct frame *record = frame_record(run->table);
    struct pte *first = run->place;
    const struct pte *end = first + run->count;
    struct pte *at = first;
    bool were_on = run_lock(run);
    unsigned gone = 0;
    unsigned come = 0;

    for (; at < end && entry_is_plain(pte_read(at)); at++) {
        gone += at->word != 0;
        __atomic_store_n(&at->word, with.word, __ATOMIC_RELEASE);
    }
    if (with.word != 0)
        come = (unsigned)(at - first);
    CHECK_MSG(gone <= record->live, "table %x: %u entries go, %u are live", run->table.index, gone,
              record->live);
    record->live = (uint16_t)(record->live - gone + come);
    if (__builtin_expect(at < end, 0))
        return replace_pages(run, (unsigned)(at - first), with, were_on);
    run_unlock(run, were_on);
    return run->count;
}

void tree_run_replace_rest(const struct tree_run *run, unsigned from, struct pte with,
                           struct tlb_batch *batch)
{
    uint64_t span = pte_span(run->bottom);

    CHECK(tree_run_is_there(run));
    tree_replace_in_table(run->tree, run->table, run->bottom, run->start + from * span,
                          run->start + run->count * span, with, batch);
}

/* ---- rights ---- */

/* Returns true if a leaf with the new rights bits denies an access that this entry allows. A page
 * that becomes user-accessible is denied to ring 0 by SMAP and SMEP. */
static inline bool is_reduced(uint64_t word, uint64_t with)
{
    return (((word ^ with) & PTE_US) | (word & ~with & PTE_MAY_WRITE) | (with & ~word & PTE_NX)) !=
           0;
}

/* How own leaves of one shape change: all but their frames, A and D. */
struct protect_shape {
    uint64_t old; /* UINT64_MAX: none yet */
    uint64_t fresh;
    bool reduced; /* cached translations may allow too much */
};

/* Finds how an own leaf changes. Returns false for another entry. */
static inline bool find_shape(struct protect_shape *shape, struct pte entry, struct pte leaf)
{
    uint64_t with = leaf.word & RIGHTS_BITS;

    if (leaf.word == 0 || !is_own_leaf(entry))
        return false;
    shape->old = entry.word & ~LEAF_VARIES;
    shape->fresh = (shape->old & ~RIGHTS_BITS) | with;
    shape->reduced = is_reduced(shape->old, with);
    return true;
}

/* As tree_run_protect, of a locked run that is alone. No other processor sets A or D meanwhile, and
 * this one does not touch the pages. */
__attribute__((noinline)) static unsigned protect_alone(const struct tree_run *run,
                                                        struct pte ticket, struct pte leaf)
{
    struct protect_shape shape = {.old = UINT64_MAX};
    unsigned done;

    for (done = 0; done < run->count; done++) {
        struct pte *at = &run->place[done];
        struct pte entry = pte_read(at);

        if ((entry.word & ~LEAF_VARIES) == shape.old || find_shape(&shape, entry, leaf)) {
            __atomic_store_n(&at->word, (entry.word & LEAF_VARIES) | shape.fresh, __ATOMIC_RELEASE);
            if (shape.reduced)
                machine_flush_page(run->start + done * PAGE_SIZE);
        } else if (pte_state(entry, 1) == PTE_TICKET) {
            __atomic_store_n(&at->word, ticket.word, __ATOMIC_RELEASE);
        } else {
            break;
        }
    }
    return done;
}

/* The same of a run of one entry. */
static inline unsigned protect_one_alone(const struct tree_run *run, struct pte ticket,
                                         struct pte leaf)
{
    struct pte *at = run->place;
    struct pte entry = pte_read(at);
    uint64_t with = leaf.word & RIGHTS_BITS;

    if (leaf.word != 0 && is_own_leaf(entry)) {
        __atomic_store_n(&at->word, (entry.word & ~RIGHTS_BITS) | with, __ATOMIC_RELEASE);
        if (is_reduced(entry.word, with))
            machine_flush_page(run->start);
        return 1;
    }
    if (pte_state(entry, 1) != PTE_TICKET)
        return 0;
    __atomic_store_n(&at->word, ticket.word, __ATOMIC_RELEASE);
    return 1;
}

unsigned tree_run_protect(const struct tree_run *run, struct pte ticket, struct pte leaf)
{
    bool were_on = run_lock(run);
    unsigned done = 0;

    if (run_is_alone(run))
        done = run->count == 1 ? protect_one_alone(run, ticket, leaf)
                               : protect_alone(run, ticket, leaf);

    run_unlock(run, were_on);
    return done;
}

void tree_run_protect_rest(const struct tree_run *run, unsigned from, struct pte ticket,
                           struct rights rights, struct tlb_batch *batch)
{
    CHECK(tree_run_is_there(run) && run->bottom == 1);
    tree_protect_in_table(run->tree, run->table, run->start + from * PAGE_SIZE,
                          run->start + run->count * PAGE_SIZE, ticket, rights, batch);
}

/*
 * The rule of sharing: share, and the table copy of unshare.
 *
 * A copied table treats each entry so (rule C4):
 *
 *   entry                     in the copy             in the source
 *   empty, ticket, guard      copied                  unchanged
 *   leaf or table, own        COW, count + 1          becomes COW too
 *   leaf or table, COW        count + 1               unchanged
 *   zero page, zero table     copied                  unchanged
 *   shared link, shared leaf  count + 1, rights kept  unchanged
 *   swapped                   slot's count + 1        unchanged
 *   in transit, withheld      frame's count + 1       unchanged
 */
#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "lib/bytes.h"
#include "paging/kernel/map.h"
#include "paging/tree/internal.h"
#include "pmm/pmm.h"

struct pte tree_share_entry(struct pte *source, unsigned level)
{
    struct pte entry = pte_read(source);

    switch (pte_state(entry, level)) {
    case PTE_EMPTY:
    case PTE_TICKET:
    case PTE_GUARD: return entry;
    case PTE_LEAF:
    case PTE_TABLE:
        if (!entry_is_held(entry))
            return entry;
        tree_hold(pte_frame(entry));
        if (pte_class(entry) == PTE_OWN)
            pte_make_cow(source);
        entry = pte_read(source);
        /* The source keeps its D; the copy starts without. */
        return (struct pte){pte_class(entry) == PTE_COW ? entry.word & ~PTE_D : entry.word};
    case PTE_SWAPPED: tree_globals.hooks->slot_hold(pte_slot(entry)); return entry;
    case PTE_TRANSIT:
    case PTE_WITHHELD: tree_hold(pte_payload_frame(entry)); return entry;
    case PTE_CORRUPT:
    case PTE_STATES: break;
    }
    PANIC("entry %lx of level %u is corrupt: it cannot be shared", entry.word, level);
}

/* ---- a table ---- */

/* One short loop shares leaves or links of one class with equal rights. Where another entry
 * follows, a longer one shares what remains of a step or block; then the short one goes on. */
#define SHARE_BLOCK 64U

/* Bits in which two entries of equal kind and rights may differ; a frame number has 32 bits. */
#define SHARE_VARIES ((uint64_t)UINT32_MAX << PAGE_SHIFT | PTE_A | PTE_D)

/* Returns the bits that change if an own entry becomes COW; 0 for a COW entry. */
static inline uint64_t share_change(uint64_t word)
{
    uint64_t own = (uint64_t)PTE_OWN << PTE_CLASS_SHIFT;
    uint64_t cow = (uint64_t)PTE_COW << PTE_CLASS_SHIFT;

    return (word & PTE_CLASS_MASK) == own ? own ^ cow ^ (word & PTE_RW) : 0;
}

/* Leaves or links of one class, own or COW, with equal rights. */
struct share_shape {
    uint64_t base;   /* their bits, but for those that may differ */
    uint64_t change; /* turns the source's entry into COW */
    uint64_t zeros;  /* the entry that maps zeros, less the base: it is not counted */
};

/* Entries that are shared in one step of the short loop. */
#define SHARE_STEP 8U
_Static_assert(PTE_ENTRIES % SHARE_BLOCK == 0 && SHARE_BLOCK % SHARE_STEP == 0, "whole steps");

/* Restores the counts that were saturated and were raised nevertheless. */
static __attribute__((noinline, cold)) void share_mend_counts(const struct pte *from,
                                                              const struct pte *to)
{
    for (; from < to; from++)
        if (__atomic_load_n(&frame_record(pte_frame(*from))->count, __ATOMIC_RELAXED) >=
            COUNT_STILL)
            frame_count_saturate(pte_frame(*from));
}

/* Shares one entry if it has the shape. The copy starts without D. An own entry is never of zeros.
 * Sets *large if the count is very large now. */
static inline __attribute__((always_inline)) bool share_one(struct pte *to, struct pte *from,
                                                            const struct share_shape *shape,
                                                            bool own, uint64_t *large)
{
    /* Without borrow, if the entry has the shape: then only what may differ remains. */
    uint64_t varies = __atomic_load_n(&from->word, __ATOMIC_RELAXED) - shape->base;
    int32_t *count;

    if (__builtin_expect((varies & ~SHARE_VARIES) != 0, 0) || (!own && varies == shape->zeros))
        return false;
    count = (int32_t *)&record_of_varying(varies)->count;
    if (__atomic_add_fetch(count, 1, __ATOMIC_RELAXED) < 0)
        *large = varies;
    if (own) /* locked: the processor may set A meanwhile, or D in a table that it writes */
        (void)__atomic_xor_fetch(&from->word, shape->change, __ATOMIC_RELAXED);
    to->word = (varies & ~PTE_D) + (shape->base ^ (own ? shape->change : 0));
    return true;
}

/* Shares entries as long as they have the shape, and returns how many, at most `most`. */
static inline __attribute__((always_inline)) unsigned share_run(struct pte *to, struct pte *from,
                                                                unsigned most,
                                                                const struct share_shape *given,
                                                                bool own)
{
    const struct share_shape shape = *given; /* in registers */
    const struct pte *first = to;
    const struct pte *end = from + most;
    uint64_t large = 0;
    unsigned step = 0;

    for (; from < end; from += SHARE_STEP, to += SHARE_STEP) {
#pragma GCC unroll 8
        for (step = 0; step < SHARE_STEP; step++)
            if (!share_one(&to[step], &from[step], &shape, own, &large))
                break;
        if (step < SHARE_STEP)
            break;
        step = 0;
    }
    if (__builtin_expect(large != 0, 0))
        share_mend_counts(first, to + step);
    return (unsigned)(to - first) + step;
}

/* Two instances of the loop: one writes to the source, one does not. */
static __attribute__((noinline)) unsigned
share_own_run(struct pte *to, struct pte *from, unsigned most, const struct share_shape *shape)
{
    return share_run(to, from, most, shape, true);
}

static __attribute__((noinline)) unsigned
share_cow_run(struct pte *to, struct pte *from, unsigned most, const struct share_shape *shape)
{
    return share_run(to, from, most, shape, false);
}

/* Kinds of entries that were decoded before in this table: most others are like one of them. */
struct share_seen {
    unsigned level;
    uint64_t plain;     /* an entry that has no counted target: empty at first */
    uint64_t shapes[4]; /* by class: a sound leaf or link without the bits that may differ, or 0 */
};

/* Shares an entry of any kind, and remembers it. */
static struct pte share_any(struct share_seen *seen, struct pte *from)
{
    uint64_t word = pte_read(from).word;
    struct pte copy = tree_share_entry(from, seen->level);

    if (!entry_is_held(copy))
        seen->plain = word;
    else if (pte_present(copy) && (word & PTE_PS) == 0)
        seen->shapes[pte_class((struct pte){word})] = word & ~SHARE_VARIES;
    return copy;
}

/* Shares [from, end) of a table, entries of several kinds. Returns how many are counted. */
static unsigned share_each(struct share_seen *seen, struct pte *to, struct pte *from, unsigned i,
                           unsigned end)
{
    unsigned held = 0;

    for (; i < end; i++) {
        struct pte entry = pte_read(&from[i]);
        enum pte_class class = pte_class(entry);
        uint64_t change;

        if (entry.word == seen->plain) {
            to[i] = entry;
            continue;
        }
        if ((entry.word & ~SHARE_VARIES) != seen->shapes[class] || class == PTE_SHARED ||
            !pte_present(entry) || zero_ladder_has(pte_frame(entry))) {
            to[i] = share_any(seen, &from[i]);
            held += entry_is_held(to[i]);
            continue;
        }
        change = share_change(entry.word);
        frame_count_up(pte_frame(entry));
        if (change != 0)
            (void)__atomic_xor_fetch(&from[i].word, change, __ATOMIC_RELAXED);
        to[i].word = (entry.word ^ change) & ~PTE_D;
        held++;
    }
    return held;
}

/* Returns true, and the shape, if an entry is a sound leaf or link to share with those like it. */
static bool share_shape_of(struct pte entry, unsigned level, struct share_shape *shape)
{
    enum pte_class class = pte_class(entry);
    enum pte_state state;

    if (!pte_present(entry) || (class != PTE_OWN && class != PTE_COW) || entry_is_zero(entry))
        return false;
    state = pte_state(entry, level);
    shape->base = entry.word & ~SHARE_VARIES;
    shape->change = share_change(entry.word);
    shape->zeros = phys_of((struct pfn){zero_ladder_first.index + level - 1}).address | PTE_A;
    return state == PTE_LEAF || state == PTE_TABLE;
}

/* Shares the entries from `i`, a step's first, that are like it. Returns how many: 0 of others. */
static unsigned share_like(const struct share_seen *seen, struct pte *to, struct pte *from,
                           unsigned i)
{
    struct share_shape shape;

    if (!share_shape_of(pte_read(&from[i]), seen->level, &shape))
        return 0;
    return shape.change != 0 ? share_own_run(&to[i], &from[i], PTE_ENTRIES - i, &shape)
                             : share_cow_run(&to[i], &from[i], PTE_ENTRIES - i, &shape);
}

/* Returns the first entry from `i` on, at most `end`, that is not this word. */
static unsigned share_skip(const struct pte *from, unsigned i, unsigned end, uint64_t word)
{
#pragma GCC unroll 8
    for (; i < end; i++)
        if (__atomic_load_n(&from[i].word, __ATOMIC_RELAXED) != word)
            break;
    return i;
}

/* Shares the entries of a table, `held` of which are counted; only copies those behind these. */
static void share_entries(struct pte *to, struct pte *from, unsigned level, unsigned held)
{
    struct share_seen seen = {.level = level};
    unsigned i = 0;

    if (held < PTE_ENTRIES)
        machine_copy_frame(to, from);
    while (held > 0) {
        unsigned alike;
        unsigned step;
        unsigned end;

        CHECK_MSG(i < PTE_ENTRIES, "a table of level %u holds %u more than its entries", level,
                  held);
        alike = share_like(&seen, to, from, i);
        CHECK(alike <= held);
        held -= alike;
        if (held == 0)
            break;
        i += alike;
        step = alike >= SHARE_STEP ? SHARE_STEP : SHARE_BLOCK; /* an end of a run is often alone */
        end = i / step * step + step;
        alike = share_each(&seen, to, from, share_skip(from, i, end, seen.plain), end);
        CHECK(alike <= held);
        held -= alike;
        i = end;
    }
}

void tree_copy_table(struct pfn to, struct pfn from)
{
    struct frame *source = frame_record(from);
    struct frame *copy = frame_record(to);
    struct pte *from_entries = frame_pointer(from);
    struct pte *to_entries = frame_pointer(to);

    CHECK(source->lock == 1 && source->level == copy->level);
    CHECK(source->table.base_low == copy->table.base_low && source->base_high == copy->base_high);
    share_entries(to_entries, from_entries, source->level, source->table.held);
    copy->live = source->live;
    copy->table.held = source->table.held;
    rmap_join(to, from);
}

void tree_kill_table(struct pfn table)
{
    struct frame *record = frame_record(table);
    bool were_on = machine_interrupts_off();

    spin_lock(&record->lock);
    record->flags |= FRAME_DEAD;
    spin_unlock(&record->lock);
    machine_interrupts_restore(were_on);
}

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

/* Entries are looked at in blocks, so that those of equal kind are shared by one short loop. */
#define SHARE_BLOCK 64U

_Static_assert(PTE_ENTRIES % SHARE_BLOCK == 0, "a table is whole blocks");

/* Bits in which two entries of equal kind and rights may differ; a frame number has 32 bits. */
#define SHARE_VARIES ((uint64_t)UINT32_MAX << PAGE_SHIFT | PTE_A | PTE_D)

/* Returns the bits that change if an own entry becomes COW; 0 for a COW entry. */
static inline uint64_t share_change(uint64_t word)
{
    uint64_t own = (uint64_t)PTE_OWN << PTE_CLASS_SHIFT;
    uint64_t cow = (uint64_t)PTE_COW << PTE_CLASS_SHIFT;

    return (word & PTE_CLASS_MASK) == own ? own ^ cow ^ (word & PTE_RW) : 0;
}

/* Restores the counts that were saturated and were raised nevertheless. */
static __attribute__((noinline, cold)) void share_mend_counts(const struct pte *entries)
{
    for (unsigned i = 0; i < SHARE_BLOCK; i++)
        if (__atomic_load_n(&frame_record(pte_frame(entries[i]))->count, __ATOMIC_RELAXED) >=
            COUNT_STILL)
            frame_count_saturate(pte_frame(entries[i]));
}

/* Shares a block of leaves or links of one class, own or COW, with equal rights, whose targets are
 * all counted. `change` turns the source's entries into COW; the copies start without D. */
static inline __attribute__((always_inline)) void share_block(struct pte *to, struct pte *from,
                                                              uint64_t change)
{
    uint32_t counts = 0;

#pragma GCC unroll 16
    for (unsigned i = 0; i < SHARE_BLOCK; i++) {
        uint64_t word = __atomic_load_n(&from[i].word, __ATOMIC_RELAXED);
        uint32_t *count = &pte_record((struct pte){word})->count;

        __atomic_add_fetch(count, 1, __ATOMIC_RELAXED);
        counts |= __atomic_load_n(count, __ATOMIC_RELAXED);
        if (change != 0) /* locked: the processor may set D meanwhile */
            (void)__atomic_xor_fetch(&from[i].word, change, __ATOMIC_RELAXED);
        to[i].word = (word ^ change) & ~PTE_D;
    }
    if (__builtin_expect(counts >> 31 != 0, 0))
        share_mend_counts(to);
}

/* Returns true if a block's entries are leaves or links of one class, own or COW, with equal
 * rights, and all are counted. `full`: every entry of the table is counted. No zero page or table
 * is own. */
static inline bool share_block_is_alike(struct pte_bits bits, unsigned level, bool full)
{
    enum pte_class class = pte_class((struct pte){bits.any});
    enum pte_state state;

    if (((bits.any ^ bits.all) & ~SHARE_VARIES) != 0 || (bits.all & PTE_P) == 0 ||
        (class != PTE_OWN && !(class == PTE_COW && full)))
        return false;
    state = pte_state((struct pte){bits.any}, level);
    return state == PTE_LEAF || state == PTE_TABLE;
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

/* Shares a block of entries of several kinds. */
static void share_each(struct share_seen *seen, struct pte *to, struct pte *from)
{
    for (unsigned i = 0; i < SHARE_BLOCK; i++) {
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
            continue;
        }
        change = share_change(entry.word);
        frame_count_up(pte_frame(entry));
        if (change != 0)
            (void)__atomic_xor_fetch(&from[i].word, change, __ATOMIC_RELAXED);
        to[i].word = (entry.word ^ change) & ~PTE_D;
    }
}

static void share_entries(struct pte *to, struct pte *from, unsigned level, bool full)
{
    struct share_seen seen = {.level = level};

    for (unsigned i = 0; i < PTE_ENTRIES; i += SHARE_BLOCK) {
        struct pte_bits bits = pte_common(&from[i], &from[i + SHARE_BLOCK]);

        if (bits.any == bits.all && bits.any == seen.plain) {
            for (unsigned k = i; k < i + SHARE_BLOCK; k++)
                to[k].word = seen.plain;
        } else if (share_block_is_alike(bits, level, full)) {
            uint64_t change = share_change(bits.all);

            /* Two instances of the loop: one writes to the source, one does not. */
            if (change != 0)
                share_block(&to[i], &from[i], change);
            else
                share_block(&to[i], &from[i], 0);
        } else {
            share_each(&seen, &to[i], &from[i]);
        }
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
    if (source->table.held == 0)
        machine_copy_frame(to_entries, from_entries);
    else
        share_entries(to_entries, from_entries, source->level, source->table.held == PTE_ENTRIES);
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

/*
 * Drops the entries of a dying leaf table, and removed leaves.
 *
 * Most tables are full of leaves of one class with equal rights. The difference of an entry and the
 * bits that all have in common shows whether it is one: then only the frame's number, A and D
 * remain. Entries of any other kind are dropped one by one.
 */
#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "paging/tree/internal.h"
#include "pmm/pmm.h"

/* Pages of one dying table, and those of them with no reference left. */
struct page_run {
    struct pfn table;
    unsigned zeros; /* mappings of the zero page, which stay */
    uint64_t shape; /* a leaf that was found sound, without the bits that may differ; or 0 */
    uint64_t plain; /* a sound entry without a target */
    unsigned gone_count;
    struct pfn gone[TREE_PAGES_TOGETHER];
};

/* Returns the index of an entry in its table. */
static inline unsigned drop_index(const struct pte *at)
{
    return (unsigned)((uintptr_t)at / sizeof(*at) % PTE_ENTRIES);
}

/* Drops the reference and returns true if it is the last: D and back pointer need no update. */
static inline bool drop_if_last(struct pfn page)
{
    uint32_t one = 1;

    return __atomic_compare_exchange_n(&frame_record(page)->count, &one, 0, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
}

/* Drops a zeroed entry's reference. The back pointer moves while the count still includes it. */
static inline void drop_page_ref(struct page_run *run, struct pfn page, struct pte entry,
                                 unsigned index)
{
    if (!drop_if_last(page)) {
        fold_dirty(entry);
        tree_repoint(page, run->table, index);
        if (tree_release(page) != 0)
            return;
    }
    run->gone[run->gone_count++] = page;
}

/* Bits in which two leaves of equal kind and rights may differ; a frame number has 32 bits. */
#define LEAF_VARIES ((uint64_t)UINT32_MAX << PAGE_SHIFT | PTE_A | PTE_D)

/* Drops own leaves in [at, end) that are like the base. Returns the first one that is not. */
static __attribute__((noinline)) struct pte *drop_own_run(struct page_run *run, struct pte *at,
                                                          const struct pte *end, uint64_t base)
{
    struct pfn *gone = run->gone + run->gone_count; /* a local pointer stays in a register */

#pragma GCC unroll 4
    for (; at < end; at++) {
        struct pte entry = *at;
        struct pfn page = pte_frame(entry);

        if (__builtin_expect(((entry.word - base) & ~LEAF_VARIES) != 0, 0))
            break;
        *at = pte_empty();
        if (__builtin_expect(!drop_if_last(page), 0)) {
            run->gone_count = (unsigned)(gone - run->gone);
            drop_page_ref(run, page, entry, drop_index(at));
            gone = run->gone + run->gone_count;
            continue;
        }
        *gone++ = page;
    }
    run->gone_count = (unsigned)(gone - run->gone);
    return at;
}

/* Drops an entry of any kind. Returns true if it had a target. */
static bool drop_any(struct tree_dropper *dropper, struct page_run *run, struct pte *at)
{
    unsigned index = drop_index(at);
    struct pte entry = *at;
    struct pfn page;

    if (pte_state(entry, 1) == PTE_CORRUPT)
        PANIC("entry %lx at %u of table %x is corrupt", entry.word, index, run->table.index);
    if (!entry_is_held(entry))
        return false;
    page = entry_page(entry, 1);
    *at = pte_empty();
    if (pfn_is_none(page))
        tree_drop_entry(dropper, entry, 1);
    else
        drop_page_ref(run, page, entry, index);
    return true;
}

/* Handles an emptied leaf whose page now has count 0, or a very large one. A saturated count gets
 * the reference back, and a mapping of the zero page stays. */
static __attribute__((noinline, cold)) void drop_odd_count(struct page_run *run, struct pte *at,
                                                           struct pte entry)
{
    /* No count rises from 0, and a very large one stays so. */
    uint32_t count = __atomic_load_n(&pte_record(entry)->count, __ATOMIC_ACQUIRE);

    if (count == 0)
        run->gone[run->gone_count++] = pte_frame(entry);
    if (count < COUNT_STILL - 1)
        return;
    __atomic_add_fetch(&pte_record(entry)->count, 1, __ATOMIC_RELAXED);
    if (entry_is_zero(entry)) {
        *at = entry;
        run->zeros++;
    } else {
        (void)frame_count_keep(pte_frame(entry));
    }
}

/* Drops the reference of an emptied leaf that is no back pointer. False: for drop_odd_count. */
static inline __attribute__((always_inline)) bool drop_leaf_ref(struct pte entry,
                                                                struct frame *record)
{
    int32_t *count = (int32_t *)&record->count; /* a very large one is negative */

    if ((entry.word & PTE_D) != 0 && (record->flags & FRAME_DIRTY) == 0)
        __atomic_or_fetch(&record->flags, FRAME_DIRTY, __ATOMIC_RELAXED);
    return __builtin_expect(__atomic_fetch_sub(count, 1, __ATOMIC_ACQ_REL) > 1, 1);
}

/* Drops a sound leaf. */
static inline void drop_cow_leaf(struct page_run *run, struct pte *at)
{
    /* Exchanged, and so ordered before the look at the back pointer (rmap_points_into). */
    struct pte entry = pte_exchange(at, pte_empty());
    struct frame *record = pte_record(entry);

    if (__atomic_load_n(&record->page.back_table, __ATOMIC_RELAXED) == run->table.index)
        drop_page_ref(run, pte_frame(entry), entry, drop_index(at));
    else if (!drop_leaf_ref(entry, record))
        drop_odd_count(run, at, entry);
}

/* ---- groups of COW leaves ---- */

_Static_assert(PTE_ENTRIES % TREE_DROP_GROUP == 0, "a table is whole groups");

/* A group of leaves with equal rights. They are emptied together, with one fence; and dropped under
 * one hold of the ring's lock, if their pages have their back pointers here. */
struct leaf_group {
    struct pte *at;
    uint64_t base;                    /* their bits, but for those that may differ */
    uint64_t varies[TREE_DROP_GROUP]; /* what may differ */
};

/* Drops an emptied leaf, its page's back pointer, that the locked ring's next table has not. */
static __attribute__((noinline)) void drop_unlike_next(struct page_run *run, struct pte *at,
                                                       struct pte entry)
{
    struct pfn page = pte_frame(entry);

    if (drop_if_last(page)) {
        run->gone[run->gone_count++] = page;
        return;
    }
    rmap_choose_another(pte_record(entry), page, run->table, drop_index(at));
    if (!drop_leaf_ref(entry, pte_record(entry)))
        drop_odd_count(run, at, entry);
}

/* Drops leaves of an emptied group from `i` on, under one hold of the ring's lock. Where one was
 * its page's back pointer, that becomes the leaf of the ring's next table. Returns the first leaf
 * that is not dropped: behind one that the next table has not, which may mean a walk around the
 * ring. */
static __attribute__((noinline)) unsigned
drop_pointers_some(struct page_run *run, const struct leaf_group *group, unsigned i)
{
    const uint64_t base = group->base;
    const uint32_t table = run->table.index;
    struct rmap_hold hold = rmap_lock_table(run->table);
    struct pfn next = rmap_next_of(run->table);
    const struct pte *others = (const struct pte *)frame_pointer(next) + drop_index(group->at);
    bool alike = true;

    for (; alike && i < TREE_DROP_GROUP; i++) {
        uint64_t varies = group->varies[i];
        struct pte entry = {varies + base};
        struct frame *record = record_of_varying(varies);

        alike = __atomic_load_n(&record->page.back_table, __ATOMIC_RELAXED) != table ||
                rmap_move_pointer(record, next, &others[i], entry);
        if (!alike)
            drop_unlike_next(run, &group->at[i], entry);
        else if (!drop_leaf_ref(entry, record))
            drop_odd_count(run, &group->at[i], entry);
    }
    rmap_unlock(hold);
    return i;
}

static void drop_pointers(struct page_run *run, const struct leaf_group *group, unsigned i)
{
    while (i < TREE_DROP_GROUP)
        i = drop_pointers_some(run, group, i);
}

/* As drop_pointers, after the count of the first page was lowered. */
static __attribute__((noinline, cold)) void
drop_odd_first(struct page_run *run, const struct leaf_group *group, unsigned i)
{
    drop_odd_count(run, &group->at[i], (struct pte){group->varies[i] + group->base});
    drop_pointers(run, group, i + 1);
}

/* Empties a group of leaves. Returns false, and changes nothing, if one differs from the base in
 * more than may differ; *any has all that does. The fence comes before the looks at the back
 * pointers (rmap_points_into). */
static inline __attribute__((always_inline)) bool empty_group(struct leaf_group *group,
                                                              uint64_t *any)
{
    uint64_t all = 0;

#pragma GCC unroll 16
    for (unsigned i = 0; i < TREE_DROP_GROUP; i++) {
        uint64_t varies = __atomic_load_n(&group->at[i].word, __ATOMIC_RELAXED) - group->base;

        group->varies[i] = varies;
        all |= varies;
    }
    *any = all;
    if (__builtin_expect((all & ~LEAF_VARIES) != 0, 0))
        return false;
#pragma GCC unroll 16
    for (unsigned i = 0; i < TREE_DROP_GROUP; i++)
        __atomic_store_n(&group->at[i].word, 0, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return true;
}

/* Drops the leaves of an emptied group; `dirty`: some have D. */
static inline __attribute__((always_inline)) void
drop_group(struct page_run *run, const struct leaf_group *group, bool dirty)
{
    const uint32_t table = run->table.index;

#pragma GCC unroll 16
    for (unsigned i = 0; i < TREE_DROP_GROUP; i++) {
        struct frame *record = record_of_varying(group->varies[i]);

        if (__builtin_expect(__atomic_load_n(&record->page.back_table, __ATOMIC_RELAXED) == table,
                             0)) {
            drop_pointers(run, group, i);
            return;
        }
        if (!drop_leaf_ref((struct pte){dirty ? group->varies[i] : 0}, record)) {
            drop_odd_first(run, group, i);
            return;
        }
    }
}

/* Drops COW leaves in [at, end), in groups like the first. Returns the first that is left. */
static __attribute__((noinline)) struct pte *drop_cow_leaves(struct page_run *run, struct pte *at,
                                                             const struct pte *end)
{
    struct leaf_group group; /* large, so it is not cleared */
    uint64_t any;

    group.base = at->word & ~LEAF_VARIES;
    for (group.at = at; group.at + TREE_DROP_GROUP <= end; group.at += TREE_DROP_GROUP) {
        if (!empty_group(&group, &any))
            break;
        if ((any & PTE_D) != 0)
            drop_group(run, &group, true);
        else
            drop_group(run, &group, false);
    }
    return group.at;
}

/* Drops entries of any kind. Returns how many had a target. */
static unsigned drop_each(struct tree_dropper *dropper, struct page_run *run, struct pte *at,
                          const struct pte *end)
{
    unsigned held = 0;

    for (; at < end; at++) {
        struct pte entry = *at;

        if (entry.word == run->plain)
            continue;
        if ((entry.word & ~LEAF_VARIES) != run->shape || run->shape == 0) {
            if (drop_any(dropper, run, at))
                held++;
            else
                run->plain = entry.word;
            if (pte_present(entry))
                run->shape = entry.word & ~LEAF_VARIES;
            continue;
        }
        drop_cow_leaf(run, at);
        held++;
    }
    return held;
}

/* Drops the first entries, those that are leaves like the first, else some of any kind. Adds those
 * that had a target to *held, and returns the first entry that is not dropped. */
static struct pte *drop_first(struct tree_dropper *dropper, struct page_run *run, struct pte *at,
                              const struct pte *end, unsigned *held)
{
    struct pte *next = at;

    if (pte_is_leaf_of(*at, PTE_OWN))
        next = drop_own_run(run, at, end, at->word & ~LEAF_VARIES);
    else if (pte_is_leaf_of(*at, PTE_COW))
        next = drop_cow_leaves(run, at, end);
    *held += (unsigned)(next - at);
    if (next == at) {
        next = at + min_u64((uint64_t)(end - at), TREE_DROP_GROUP);
        *held += drop_each(dropper, run, at, next);
    }
    return next;
}

unsigned drop_leaves(struct tree_dropper *dropper, unsigned most)
{
    unsigned top = dropper->depth - 1;
    struct page_run run; /* large, so it is not cleared */
    struct frame *record = frame_record(dropper->tables[top]);
    struct pte *at = (struct pte *)frame_pointer(dropper->tables[top]) + dropper->next[top];
    unsigned count =
        (unsigned)min_u64(round_up(most, TREE_DROP_GROUP), PTE_ENTRIES - dropper->next[top]);
    const struct pte *first = at;
    const struct pte *end = at + count;
    unsigned held = 0;

    run.table = dropper->tables[top];
    run.gone_count = run.zeros = 0;
    run.shape = run.plain = 0;
    while (at < end && held - run.zeros < record->table.held)
        at = drop_first(dropper, &run, at, end, &held);
    CHECK(run.zeros <= held && held - run.zeros <= record->table.held);
    record->live = (uint16_t)(record->live - (held - run.zeros));
    record->table.held = (uint16_t)(record->table.held - (held - run.zeros));
    count = (unsigned)(at - first);
    dropper->next[top] = (uint16_t)(dropper->next[top] + count);
    if (run.gone_count > 0)
        tree_globals.hooks->pages_free_last(run.gone, run.gone_count);
    return count;
}

void tree_drop_page(struct pfn table, unsigned index, struct pte entry)
{
    struct pfn page = pte_frame(entry);

    if (entry.word == 0)
        return;
    if (__builtin_expect(!drop_if_last(page), 0)) {
        fold_dirty(entry);
        tree_repoint(page, table, index);
        if (tree_release(page) != 0)
            return;
    }
    tree_globals.hooks->page_free_last(page);
}

void tree_drop_pages(struct pfn table, unsigned index, const struct pte *entries, unsigned count)
{
    struct page_run run; /* large, so it is not cleared */

    struct pfn *gone = run.gone; /* a local pointer stays in a register */

    run.table = table;
    for (unsigned i = 0; i < count; i++) {
        struct pfn page = pte_frame(entries[i]);

        if (entries[i].word == 0)
            continue;
        if (__builtin_expect(!drop_if_last(page), 0)) {
            run.gone_count = (unsigned)(gone - run.gone);
            drop_page_ref(&run, page, entries[i], index + i);
            gone = run.gone + run.gone_count;
            continue;
        }
        *gone++ = page;
    }
    run.gone_count = (unsigned)(gone - run.gone);
    if (run.gone_count > 0)
        tree_globals.hooks->pages_free_last(run.gone, run.gone_count);
}

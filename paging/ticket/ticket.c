/* Splitting a ticket on the fast path of faults. */
#include "paging/ticket/ticket.h"

#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "lib/check.h"
#include "paging/tree/table_access.h"
#include "pmm/pmm.h"

#define INLINE static inline __attribute__((always_inline))

/* Returns true if an entry above level 1 is a sound link to an own table. */
INLINE bool is_own_link(struct pte entry)
{
    const uint64_t own = pte_table((struct pfn){0}, PTE_OWN).word & ~PTE_A;

    return (entry.word & ~(PTE_FRAME_MASK | PTE_A | PTE_D)) == own;
}

/* Returns the table of a link, through the direct map. */
INLINE struct pte *entries_of(struct pte link)
{
    return phys_pointer((struct phys){link.word & PTE_FRAME_MASK});
}

/* The loops below are unrolled where the number of tables is constant, so that no table's number
 * need be in memory. */
#define UNROLL _Pragma("GCC unroll 4")

__attribute__((noinline, cold)) static void give_fresh(struct pfn table)
{
    pmm_free(table);
}

/* Takes tables for the levels from 1 to `count`, or none, from the processor's cache. */
INLINE bool take_fresh(struct pfn *tables, unsigned count)
{
    struct pmm_cache *caches = pmm_caches_of(machine_cpu());

    UNROLL
    for (unsigned taken = 0; taken < count; taken++) {
        if (!pmm_take(caches, PMM_CACHE_ANY, FRAME_TABLE, FRAME_UNCLEARED, &tables[taken])) {
            UNROLL
            while (taken > 0)
                give_fresh(tables[--taken]);
            return false;
        }
        pmm_check_free(tables[taken]);
        pmm_prepare(tables[taken], FRAME_TABLE);
    }
    return true;
}

/* Fills the tables with a ticket and links each to the next higher one. The lowest is locked.
 * Returns the highest. */
INLINE struct pfn link_fresh(const struct pfn *tables, unsigned count, uint64_t address,
                             struct pte ticket)
{
    UNROLL
    for (unsigned level = 1; level <= count; level++) {
        struct frame *record = frame_record(tables[level - 1]);
        struct pte *entries = frame_pointer(tables[level - 1]);

        tree_place_table(tables[level - 1], level, address);
        record->live = PTE_ENTRIES;
        machine_fill_frame(entries, ticket.word);
        if (level > 1) {
            entries[pte_index(address, level)] = pte_table(tables[level - 2], PTE_OWN);
            record->table.held = 1;
        }
    }
    spin_lock(&frame_record(tables[0])->lock);
    return tables[count - 1];
}

/* As tree_lock. */
INLINE bool split_lock_fast(struct frame *record)
{
    if (!spin_try(&record->lock))
        return false;
    if ((record->flags & FRAME_DEAD) == 0)
        return true;
    spin_unlock_fast(&record->lock);
    return false;
}

/* Splits the ticket of an entry; the link leads to its table. */
INLINE struct frame *split_at(struct pte link, struct pte *at, unsigned level, uint64_t address,
                              struct pte ticket, struct pte **leaf)
{
    struct frame *record = frame_record(pte_frame(link));
    struct frame *made = NULL;
    struct pfn fresh[TREE_LEVELS_MAX - 1];

    if (!split_lock_fast(record))
        return NULL;
    if (pte_read(at).word == ticket.word && take_fresh(fresh, level - 1)) {
        struct pfn top = link_fresh(fresh, level - 1, address, ticket);

        __atomic_store_n(&at->word, pte_table(top, PTE_OWN).word, __ATOMIC_RELEASE);
        record->table.held++;
        *leaf = table_access_direct(fresh[0], 1, address);
        made = frame_record(fresh[0]);
    }
    spin_unlock_fast(&record->lock);
    return made;
}

/* The instance for two tables, and the one for any number. */
__attribute__((noinline)) static struct frame *
split_at_3(struct pte link, struct pte *at, uint64_t address, struct pte ticket, struct pte **leaf)
{
    return split_at(link, at, 3, address, ticket, leaf);
}

__attribute__((noinline)) static struct frame *split_at_any(struct pte link, struct pte *at,
                                                            unsigned level, uint64_t address,
                                                            struct pte ticket, struct pte **leaf)
{
    CHECK(level > 1 && level < TREE_LEVELS_MAX);
    return split_at(link, at, level, address, ticket, leaf);
}

/* The walk with five levels. */
__attribute__((noinline)) static struct frame *split_of_five(struct pfn root, uint64_t address,
                                                             struct pte ticket, struct pte **leaf)
{
    struct pte link = pte_read(table_access_direct(root, 5, address));

    if (!is_own_link(link))
        return NULL;
    for (unsigned level = 4; level > 1; level--) {
        struct pte *at = table_access_direct(pte_frame(link), level, address);
        struct pte entry = pte_read(at);

        if (!is_own_link(entry))
            return split_at_any(link, at, level, address, ticket, leaf);
        link = entry;
    }
    return NULL;
}

/* The root is left to the slow path, which waits while it forks. */
struct frame *ticket_split(const struct tree *tree, uint64_t address, struct pte ticket,
                           struct pte **leaf)
{
    struct pte top;
    struct pte link;
    struct pte *at;

    if (__builtin_expect(tree->levels != 4, 0))
        return split_of_five(tree->root, address, ticket, leaf);
    top = pte_read(table_access_direct(tree->root, 4, address));
    if (!is_own_link(top))
        return NULL;
    at = entries_of(top) + pte_index(address, 3);
    link = pte_read(at);
    if (!is_own_link(link))
        return split_at_3(top, at, address, ticket, leaf);
    at = entries_of(link) + pte_index(address, 2);
    return is_own_link(pte_read(at)) ? NULL : split_at(link, at, 2, address, ticket, leaf);
}

/* Range calls on a tree, in two halves: prepare may fail, perform cannot (rule C7). */
#include "cpu/machine.h"
#include "paging/kernel/layout.h"
#include "paging/tree/internal.h"
#include "paging/tree/table_access.h"

/* Tickets, guards and empty entries may be at every level, also in the root of five levels.
 * There an entry covers 256 TiB; otherwise a larger range would need tables between its boundary
 * paths. */
#define HIGHEST_LEVEL 5U

/* The second half of one range call. */
struct range_call {
    const struct tree *tree;
    enum table_access way;
    uint64_t start;
    uint64_t end;
    struct tlb_batch *batch;
    /* Processes the entries of one locked table on [from, to), whose spans lie in the range.
     * Returns the address where it stopped: the batch is full, or the entry is a table. */
    uint64_t (*run)(const struct range_call *call, struct pfn table, unsigned level, uint64_t from,
                    uint64_t to);
    bool goes_down;  /* into tables whose spans lie in the range */
    bool zeroes;     /* replace: by zero mappings, otherwise by `with` */
    struct pte with; /* replace: ticket, guard or empty; protect: the ticket of the new rights */
    struct rights rights;
};

/* Returns the highest level at which an entry can begin or end at this address. */
static unsigned boundary_level(uint64_t address)
{
    unsigned level = 1;

    while (level < HIGHEST_LEVEL && address % pte_span(level + 1) == 0)
        level++;
    return level;
}

static void check_range(const struct tree *tree, uint64_t start, uint64_t end)
{
    CHECK((start | end) % PAGE_SIZE == 0);
    CHECK_MSG(start < end && end <= lower_half_end(tree->levels), "range %lx to %lx", start, end);
}

/* A table that must exist or become own, with its path. */
struct wanted_path {
    uint64_t address;
    unsigned level;
};

/* Makes one or two paths, or none: all tables are allocated first. */
static enum status make_paths(struct tree *tree, const struct wanted_path *paths, unsigned count,
                              enum tree_purpose purpose, struct tlb_batch *batch)
{
    struct tree_reserve reserve = {.count = 0};
    enum status status = OK;

    CHECK(count >= 1 && count <= 2);
    do {
        unsigned needs[2] = {0, 0};

        for (unsigned i = 0; i < count; i++)
            needs[i] = tree_path_needs(tree, paths[i].address, paths[i].level, purpose);
        if (status == STATUS_AGAIN)
            machine_pause();
        status = tree_reserve_fill(&reserve, needs[0] + needs[1]);
        /* A path that needs no table exists and is own. */
        for (unsigned i = 0; i < count && status == OK; i++) {
            if (needs[i] > 0)
                status = tree_make_path(tree, paths[i].address, paths[i].level, purpose, &reserve,
                                        batch);
        }
    } while (status == STATUS_AGAIN);
    tree_reserve_drain(&reserve);
    return status;
}

enum status tree_prepare_range(struct tree *tree, uint64_t start, uint64_t end,
                               struct tlb_batch *batch)
{
    const struct wanted_path paths[] = {{start, boundary_level(start)},
                                        {end - 1, boundary_level(end)}};
    bool first_is_lower = paths[0].level < paths[1].level;
    unsigned higher = paths[first_is_lower].level;

    check_range(tree, start, end);
    /* If one table is on the path to the other, one path suffices. */
    if ((start ^ (end - 1)) / pte_span(higher + 1) == 0)
        return make_paths(tree, &paths[!first_is_lower], 1, TREE_BUILD, batch);
    return make_paths(tree, paths, 2, TREE_BUILD, batch);
}

void tree_own_ends(struct tree *parent, uint64_t start, uint64_t end, struct tlb_batch *batch)
{
    check_range(parent, start, end);
    (void)tree_own_path(parent, start, boundary_level(start), batch);
    (void)tree_own_path(parent, end - 1, boundary_level(end), batch);
}

enum status tree_prepare_protect(struct tree *tree, uint64_t start, uint64_t end,
                                 struct tlb_batch *batch)
{
    enum status status = tree_prepare_range(tree, start, end, batch);

    for (uint64_t at = start; at < end && status == OK;) {
        struct tree_place place;
        enum tree_obstacle obstacle = tree_find_obstacle(tree, at, &place);
        uint64_t step = pte_span(place.level == 1 ? 2 : place.level);
        unsigned level = obstacle == OBSTACLE_SHARED_PAGE ? place.level - 1U : place.level;

        if (obstacle == OBSTACLE_NONE)
            at = round_down(at, step) + step;
        else if (obstacle != OBSTACLE_CHANGED)
            status = make_paths(tree, &(struct wanted_path){at, level}, 1, TREE_CHANGE, batch);
    }
    return status;
}

/* ---- performing ---- */

/* Processes the entries of one table on [from, to), under its lock while the batch has room.
 * Returns the address where it stopped: `to`, or an entry that a fault has turned into a table
 * meanwhile. */
static uint64_t run_in_table(const struct range_call *call, struct pfn table, unsigned level,
                             uint64_t from, uint64_t to)
{
    bool stopped = false;

    while (from < to && !stopped) {
        bool were_on = machine_interrupts_off();
        uint64_t before;

        tree_lock_patiently(table, were_on);
        do {
            before = from;
            from = call->run(call, table, level, from, to);
        } while (before < from && from < to && tlb_has_room(call->batch));
        tree_unlock(table);
        machine_interrupts_restore(were_on);
        stopped = from == before && tlb_has_room(call->batch);
        if (from < to && !tlb_has_room(call->batch))
            tlb_make_room(call->batch);
    }
    return from;
}

/* Returns the end of the run of entries from an address on: their spans lie in the range, and none
 * is a table to descend into. Entries of level 1 always qualify. */
static uint64_t end_of_run(const struct range_call *call, const struct pte *entries, unsigned level,
                           uint64_t at, uint64_t to)
{
    uint64_t span = pte_span(level);

    if (level == 1)
        return to;
    while (at < to && at >= call->start && at + span <= call->end &&
           !(call->goes_down && entry_is_table(pte_read(&entries[pte_index(at, level)]))))
        at += span;
    return at;
}

/* Frees an own table that became empty. No fault and no other range call can fill it. */
static void tree_range_free_table(const struct range_call *call, struct pfn above, unsigned level,
                                  uint64_t at, struct pfn table)
{
    bool were_on;

    if (!tlb_has_room(call->batch))
        tlb_make_room(call->batch);
    were_on = machine_interrupts_off();
    tree_lock_patiently(above, were_on);
    tree_kill_table(table);
    tree_unlink_dead(above, table_access_edit(call->way, call->tree, above, level, at), table,
                     call->batch);
    tree_unlock(above);
    machine_interrupts_restore(were_on);
    tlb_add_page(call->batch, at);
    table_access_changed(call->batch);
}

static void tree_range_visit_table(const struct range_call *call, struct pfn table, unsigned level,
                                   uint64_t base)
{
    uint64_t span = pte_span(level);
    const struct pte *entries = frame_pointer(table);
    uint64_t at = round_down(max_u64(call->start, base), span);
    uint64_t to = min_u64(call->end, base + PTE_ENTRIES * span);

    while (at < to) {
        uint64_t from = at;
        struct pte entry;

        at = end_of_run(call, entries, level, at, to);
        if (from < at) {
            at = run_in_table(call, table, level, from, at);
            continue;
        }
        /* Read only now: a fault may make a table of an entry at any moment, but no range call but
         * this one makes anything else of a table. */
        entry = pte_read(&entries[pte_index(at, level)]);
        CHECK_MSG(level > 1 && entry_is_table(entry) && pte_class(entry) == PTE_OWN,
                  "entry %lx of level %u at %lx is no own table", entry.word, level, at);
        tree_range_visit_table(call, pte_frame(entry), level - 1, at);
        if (frame_record(pte_frame(entry))->live == 0)
            tree_range_free_table(call, table, level, at, pte_frame(entry));
        at += span;
    }
}

/* ---- replacing ---- */

/* Replaces one entry of a locked table. */
static void replace_one(const struct range_call *call, struct pfn table, unsigned level,
                        uint64_t at)
{
    struct pte *place = table_access_edit(call->way, call->tree, table, level, at);
    struct pte with = call->zeroes ? zero_ladder_entry(level, call->rights) : call->with;
    struct pte old = pte_read(place);

    /* A table's last reference is dropped: mark it dead (P6). Its count cannot rise (P7). */
    if (level > 1 && entry_is_table(old) && frame_record(pte_frame(old))->count == 1)
        tree_kill_table(pte_frame(old));
    old = tree_replace_at(table, place, with);
    if (entry_may_be_cached(old))
        tlb_add_range(call->batch, at, at + pte_span(level));
    if (entry_is_held(old))
        tlb_release(call->batch, (struct tlb_release){.entry = old, .level = (uint8_t)level});
}

static uint64_t replace_run(const struct range_call *call, struct pfn table, unsigned level,
                            uint64_t from, uint64_t to)
{
    for (; from < to && tlb_has_room(call->batch); from += pte_span(level))
        replace_one(call, table, level, from);
    return from;
}

void tree_replace_in_table(const struct tree *tree, struct pfn table, unsigned level, uint64_t from,
                           uint64_t to, struct pte with, struct tlb_batch *batch)
{
    uint64_t stopped = run_in_table(
        &(struct range_call){.tree = tree, .batch = batch, .run = replace_run, .with = with}, table,
        level, from, to);

    CHECK(stopped == to);
}

static void tree_range_perform(struct tree *tree, uint64_t start, uint64_t end,
                               struct range_call *call)
{
    call->tree = tree;
    call->way = table_access_for(tree);
    call->start = start;
    call->end = end;
    check_range(tree, start, end);
    tree_range_visit_table(call, tree->root, tree->levels, 0);
}

void tree_replace_range(struct tree *tree, uint64_t start, uint64_t end, struct pte with,
                        struct tlb_batch *batch)
{
    CHECK(!pte_present(with));
    tree_range_perform(tree, start, end,
                       &(struct range_call){.batch = batch, .run = replace_run, .with = with});
}

void tree_zero_range(struct tree *tree, uint64_t start, uint64_t end, struct rights rights,
                     struct tlb_batch *batch)
{
    CHECK(!rights.none);
    tree_range_perform(
        tree, start, end,
        &(struct range_call){.batch = batch, .run = replace_run, .zeroes = true, .rights = rights});
}

/* ---- protecting ---- */

/* The rights bits of a present entry. */
#define RIGHTS_BITS (PTE_RW | PTE_MAY_WRITE | PTE_US | PTE_NX)

/* Changes a leaf in place, since the processor may set A and D at any time (rule E8). */
static void protect_leaf(const struct range_call *call, struct pte *place, struct pte entry,
                         unsigned level)
{
    uint64_t with = pte_leaf(pte_frame(entry), level, pte_class(entry), call->rights).word;

    __atomic_and_fetch(&place->word, ~RIGHTS_BITS | with, __ATOMIC_ACQ_REL);
    __atomic_or_fetch(&place->word, with & RIGHTS_BITS, __ATOMIC_ACQ_REL);
}

/* Returns the new entry for one that cannot be changed in place. */
static struct pte protected_entry(const struct range_call *call, struct pte entry, unsigned level)
{
    struct rights rights = call->rights;
    struct pfn page = pte_payload_frame(entry);

    switch (pte_state(entry, level)) {
    case PTE_EMPTY:
    case PTE_GUARD: return entry;
    case PTE_TICKET: return call->with;
    case PTE_SWAPPED: return pte_swapped(pte_slot(entry), rights);
    case PTE_TRANSIT: return pte_transit(page, rights);
    case PTE_WITHHELD:
        /* COW is correct for any count: the first write checks for the last owner. */
        return pte_page(page, level, PTE_COW, rights);
    case PTE_LEAF:
    case PTE_TABLE:
        if (entry_is_zero(entry))
            return rights.none ? call->with : zero_ladder_entry(level, rights);
        if (entry_is_section_leaf(entry, level))
            return call->with; /* the section keeps the page */
        if (pte_state(entry, level) == PTE_LEAF)
            return pte_withheld(pte_frame(entry));
        break;
    default: break;
    }
    PANIC("entry %lx of level %u cannot be protected", entry.word, level);
}

static void protect_one(const struct range_call *call, struct pfn table, unsigned level,
                        uint64_t at)
{
    struct pte *place = table_access_edit(call->way, call->tree, table, level, at);
    struct pte entry = pte_read(place);

    if (!call->rights.none && pte_state(entry, level) == PTE_LEAF && !entry_is_zero(entry)) {
        protect_leaf(call, place, entry, level);
        return;
    }
    entry = tree_replace_at(table, place, protected_entry(call, entry, level));
    if (entry_is_section_leaf(entry, level))
        tlb_release(call->batch, (struct tlb_release){.entry = entry, .level = (uint8_t)level});
    else if (pte_present(entry) && entry_is_held(entry) && (entry.word & PTE_D) != 0)
        __atomic_or_fetch(&frame_record(pte_frame(entry))->flags, FRAME_DIRTY, __ATOMIC_RELAXED);
}

/* Returns true if the new rights deny an access that entries with these bits allowed. A page that
 * becomes user-accessible is denied to ring 0 by SMAP and SMEP. */
static bool rights_are_reduced(const struct range_call *call, uint64_t any, uint64_t all)
{
    return call->rights.none || ((any & PTE_MAY_WRITE) != 0 && !call->rights.write) ||
           ((all & PTE_NX) == 0 && !call->rights.execute && pte_nx != 0) ||
           ((any & PTE_US) != 0 && !call->rights.user) ||
           ((all & PTE_US) == 0 && call->rights.user);
}

/* Changes own leaves in place: a locked instruction each for bits to clear and to set (rule E8). */
static void protect_own_leaves(const struct range_call *call, struct pte *from,
                               const struct pte *to, struct pte_bits bits)
{
    uint64_t with = pte_leaf((struct pfn){0}, 1, PTE_OWN, call->rights).word & RIGHTS_BITS;
    uint64_t keep = ~RIGHTS_BITS | with;

    if ((bits.any & ~keep) != 0) {
#pragma GCC unroll 8
        for (struct pte *at = from; at < to; at++)
            __atomic_and_fetch(&at->word, keep, __ATOMIC_ACQ_REL);
    }
    if ((bits.all & with) != with) {
#pragma GCC unroll 8
        for (struct pte *at = from; at < to; at++)
            __atomic_or_fetch(&at->word, with, __ATOMIC_ACQ_REL);
    }
}

/* Returns the rights that a cached translation of the entry may allow. */
static uint64_t cached_bits(struct pte entry, unsigned level)
{
    if (pte_present(entry) || pte_rights(entry).none)
        return entry.word;
    return pte_leaf(pte_payload_frame(entry), level, PTE_OWN, pte_rights(entry)).word;
}

/* Changes entries of any kind, one by one, while the batch has room; *to: where it stopped. */
static struct pte_bits protect_each(const struct range_call *call, struct pfn table, unsigned level,
                                    uint64_t from, uint64_t *to)
{
    struct pte_bits bits = {.any = 0, .all = UINT64_MAX};
    uint64_t at = from;

    for (; at < *to && tlb_has_room(call->batch); at += pte_span(level)) {
        struct pte entry = pte_read(table_access_direct(table, level, at));

        if (entry_may_be_cached(entry)) {
            bits.any |= cached_bits(entry, level);
            bits.all &= cached_bits(entry, level);
        }
        protect_one(call, table, level, at);
    }
    *to = at;
    return bits;
}

/* Leaf entries are processed in runs: an entry that is no own leaf slows only its own run. */
#define RUN_ENTRIES 64U

static uint64_t protect_run(const struct range_call *call, struct pfn table, unsigned level,
                            uint64_t from, uint64_t to)
{
    uint64_t most = min_u64(to, from + RUN_ENTRIES * pte_span(level));
    /* Check again under the lock: a fault may have turned an entry into a table. */
    uint64_t end = end_of_run(call, frame_pointer(table), level, from, most);
    struct pte *first = table_access_edit(call->way, call->tree, table, level, from);
    struct pte *last = first + (end - from) / pte_span(level);
    struct pte_bits bits = {0};
    bool fast = level == 1 && !call->rights.none;

    if (fast) {
        bits = pte_common(first, last);
        fast = pte_are_leaves_of(bits, PTE_OWN);
    }
    if (fast)
        protect_own_leaves(call, first, last, bits);
    else
        bits = protect_each(call, table, level, from, &end);
    if (bits.any != 0 && rights_are_reduced(call, bits.any, bits.all))
        tlb_add_range(call->batch, from, end);
    return end;
}

void tree_protect_in_table(const struct tree *tree, struct pfn table, uint64_t from, uint64_t to,
                           struct pte ticket, struct rights rights, struct tlb_batch *batch)
{
    const struct range_call call = {
        .tree = tree, .batch = batch, .run = protect_run, .with = ticket, .rights = rights};
    uint64_t stopped = run_in_table(&call, table, 1, from, to);

    CHECK(stopped == to);
}

void tree_protect_range(struct tree *tree, uint64_t start, uint64_t end, struct pte ticket,
                        struct rights rights, struct tlb_batch *batch)
{
    tree_range_perform(tree, start, end,
                       &(struct range_call){.batch = batch,
                                            .run = protect_run,
                                            .goes_down = true,
                                            .with = ticket,
                                            .rights = rights});
}

/*
 * Moving a range within a tree: its entries take the same places under other tables.
 *
 * The distance is a multiple of what an entry stands for that is larger than the range
 * (tree_move_alignment). So the fewest entries that cover the source and the fewest that cover the
 * target stand at the same levels and at the same indexes, and all of them in tables on the two
 * boundary paths, which are made before: the rest moves by its upper entries, however much it is.
 * Only entries of the top table change their index; no page stands there.
 *
 * Entries go some at a time: out of the source's table, a flush that also waits for whoever is in a
 * walk, into the target's (rule P2: nothing can be used at two addresses). In between they stand
 * nowhere, and reclaim, which looks for as many entries as a page has counts, leaves such a page
 * alone. A page in transit is waited for, since who ends the transfer looks for its entry.
 *
 * Tables that move keep their rings, and get their new base. An entry that changes its table finds
 * the other pointers to its page by the ring as before: the rings of both tables become one.
 */
#include "cpu/machine.h"
#include "paging/kernel/layout.h"
#include "paging/tree/internal.h"
#include "paging/tree/table_access.h"

/* Entries between two flushes: so many are kept on the stack. */
#define MOVE_TOGETHER 64U

_Static_assert(MOVE_TOGETHER <= TLB_RELEASES_MAX, "put_one hands over as many under a lock");

/* One call of tree_move_range. */
struct move {
    struct tree *tree;
    uint64_t from;
    uint64_t end;
    uint64_t distance; /* from an address to where it moves to, modulo 2^64 */
};

/* Entries that follow each other in one table, on their way. */
struct carried {
    uint64_t address; /* of the first one, in the source */
    unsigned level;
    unsigned count;
    struct pte entries[MOVE_TOGETHER];
};

uint64_t tree_move_alignment(const struct tree *tree, uint64_t size)
{
    unsigned level = 1;

    while (level < tree->levels && pte_span(level) <= size)
        level++;
    return pte_span(level);
}

enum status tree_prepare_move(struct tree *tree, uint64_t from, uint64_t to, uint64_t size,
                              struct tlb_batch *batch)
{
    enum status status;

    CHECK_MSG((to - from) % tree_move_alignment(tree, size) == 0 &&
                  (to >= from + size || from >= to + size),
              "%lx bytes do not move from %lx to %lx", size, from, to);
    status = tree_prepare_protect(tree, from, from + size, batch);
    return status == OK ? tree_prepare_range(tree, to, to + size, batch) : status;
}

/* ---- one step ---- */

/* Returns whether interrupts were on. */
static bool tree_move_lock_table(struct pfn table)
{
    bool were_on = machine_interrupts_off();

    tree_lock_patiently(table, were_on);
    return were_on;
}

static void unlock_table(struct pfn table, bool were_on)
{
    tree_unlock(table);
    machine_interrupts_restore(were_on);
}

/* The table that an entry of a locked table names, which a range call has made own; PFN_NONE when
 * it names none. */
static struct pfn own_table(struct pte entry, unsigned level)
{
    if (level == 1 || !entry_is_table(entry))
        return PFN_NONE;
    CHECK_MSG(pte_class(entry) == PTE_OWN, "entry %lx of level %u is shared and cannot move",
              entry.word, level);
    return pte_frame(entry);
}

/* The table of a level on an address's path, which is there, and own. */
static struct pfn table_on_path(const struct tree *tree, uint64_t address, unsigned level)
{
    struct pfn table = tree->root;

    for (unsigned at = tree->levels; at > level; at--) {
        struct pte entry = pte_read(table_way_direct(table, at, address));

        table = own_table(entry, at);
        CHECK_MSG(!pfn_is_none(table), "entry %lx of level %u on the path of %lx", entry.word, at,
                  address);
    }
    return table;
}

/* Takes at most `most` entries out of a table, up to one that is in transit. */
static void tree_move_take(struct carried *carried, struct pfn table, unsigned most,
                           struct tlb_batch *batch)
{
    uint64_t span = pte_span(carried->level);
    uint64_t at = carried->address;
    bool were_on = tree_move_lock_table(table);

    for (; carried->count < most; at += span) {
        struct pte entry = pte_read(table_way_direct(table, carried->level, at));

        if (pte_state(entry, carried->level) == PTE_TRANSIT)
            break;
        entry = tree_replace_entry(table, pte_index(at, carried->level), pte_empty());
        if (pte_present(entry))
            tlb_add_range(batch, at, at + span);
        if (!pfn_is_none(own_table(entry, carried->level)))
            table_way_changed(batch);
        carried->entries[carried->count++] = entry;
    }
    unlock_table(table, were_on);
    /* Walks that have found an entry at its old place are over after the flush. */
    tlb_add_grace(batch);
}

/* What a table that nobody can reach stands for from now on, and all tables below it. */
static void rebase(struct pfn table, uint64_t distance)
{
    struct frame *record = frame_record(table);
    const struct pte *entries = frame_pointer(table);
    uint64_t base = ((uint64_t)record->base_high << 32 | record->slot_or_base) << 21;

    base = (base + distance) >> 21;
    record->slot_or_base = (uint32_t)base;
    record->base_high = (uint16_t)(base >> 32);
    for (unsigned i = 0; record->level > 1 && i < PTE_ENTRIES; i++) {
        struct pfn below = own_table(entries[i], record->level);

        if (!pfn_is_none(below))
            rebase(below, distance);
    }
}

/* Puts the entry into the target's locked table, where there is nothing but, at times, own tables
 * that hold nothing, since nothing is mapped there: they go. */
static void put_one(struct pte entry, unsigned level, uint64_t to, struct pfn table,
                    struct tlb_batch *batch)
{
    struct pte old = pte_read(table_way_direct(table, level, to));

    if (old.word != 0) {
        struct pfn empty = own_table(old, level);

        CHECK_MSG(!pfn_is_none(empty), "entry %lx of level %u stands at %lx", old.word, level, to);
        tree_kill_table(empty);
        tlb_add_page(batch, to);
        tlb_release(batch, (struct tlb_release){.entry = old, .level = (uint8_t)level});
    }
    tree_replace_entry(table, pte_index(to, level), entry);
}

/* Puts the entries into the target's table. */
static void tree_move_put(const struct move *move, const struct carried *carried, struct pfn table,
                          struct tlb_batch *batch)
{
    uint64_t to = carried->address + move->distance;
    bool were_on;

    for (unsigned i = 0; i < carried->count; i++) {
        struct pfn below = own_table(carried->entries[i], carried->level);

        if (!pfn_is_none(below))
            rebase(below, move->distance);
    }
    were_on = tree_move_lock_table(table);
    for (unsigned i = 0; i < carried->count; i++) {
        struct pfn page = entry_page(carried->entries[i], carried->level);

        put_one(carried->entries[i], carried->level, to, table, batch);
        /* A section's page keeps the name of the section's own entry. */
        if (!pfn_is_none(page) && !entry_is_shared_leaf(carried->entries[i], carried->level))
            rmap_set_pointer(page, table, pte_index(to, carried->level));
        to += pte_span(carried->level);
    }
    unlock_table(table, were_on);
}

/* Moves at most `most` entries from an address on, which lie in the range with all that they stand
 * for; returns how many. */
static unsigned move_some(const struct move *move, struct pfn source, unsigned level,
                          uint64_t address, unsigned most)
{
    struct pfn target = table_on_path(move->tree, address + move->distance, level);
    struct carried carried = {.address = address, .level = level};
    struct tlb_batch batch;

    if (level < move->tree->levels)
        rmap_merge(target, source);
    tlb_begin(&batch, move->tree);
    tree_move_take(&carried, source, most, &batch);
    tlb_commit(&batch);
    tlb_begin(&batch, move->tree);
    tree_move_put(move, &carried, target, &batch);
    tlb_commit(&batch);
    if (carried.count == 0)
        machine_relax(); /* the first one is in transit */
    return carried.count;
}

/* ---- all steps ---- */

static void move_table(const struct move *move, struct pfn table, unsigned level, uint64_t base)
{
    uint64_t span = pte_span(level);
    uint64_t at = round_down(max_u64(move->from, base), span);
    uint64_t to = min_u64(move->end, base + PTE_ENTRIES * span);

    while (at < to) {
        uint64_t whole = at >= move->from ? (to - at) / span : 0;

        if (whole > 0) {
            at += span * move_some(move, table, level, at, (unsigned)min_u64(whole, MOVE_TOGETHER));
            continue;
        }
        move_table(move, table_on_path(move->tree, max_u64(at, move->from), level - 1), level - 1,
                   at);
        at += span;
    }
}

void tree_move_range(struct tree *tree, uint64_t from, uint64_t to, uint64_t size)
{
    struct move move = {.tree = tree, .from = from, .end = from + size, .distance = to - from};
    struct tlb_batch batch;

    move_table(&move, tree->root, tree->levels, 0);
    /* Nothing stands there any more; tables that are empty now are given back. */
    tlb_begin(&batch, tree);
    tree_replace_range(tree, from, from + size, pte_empty(), &batch);
    tlb_commit(&batch);
}

/*
 * Moves a range within a tree: its entries move to the same indexes of other tables.
 *
 * The distance is a multiple of the span of an entry that is larger than the range
 * (tree_move_alignment). So the fewest entries that cover source and target have the same levels
 * and indexes, and all are in tables on the two boundary paths, which are made before. Everything
 * else moves with its upper entries, whatever its size. Only entries of the top table change their
 * index; they map no pages.
 *
 * Entries move in groups: out of the source's table, a flush that also waits for walks, into the
 * target's table (rule P2: no page is accessible at two addresses). In between no table holds them.
 * Reclaim, which must find as many entries as a page has references, then skips such a page. A page
 * in transit is waited for, since the end of the transfer looks for its entry.
 *
 * Tables that move keep their rings and get a new base. The rings of both boundary tables are
 * joined, so that pages which change their table can still be found.
 */
#include "cpu/machine.h"
#include "paging/kernel/layout.h"
#include "paging/tree/internal.h"
#include "paging/tree/table_access.h"

/* Entries per group; they are kept on the stack. */
#define MOVE_TOGETHER 64U

_Static_assert(MOVE_TOGETHER <= TLB_RELEASES_MAX, "move_put_entry releases as many under one lock");

/* One call of tree_move_range. */
struct move {
    struct tree *tree;
    uint64_t from;
    uint64_t end;
    uint64_t distance; /* from source to target, modulo 2^64 */
};

/* Consecutive entries of one table, between source and target. */
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

/* Returns the own table that an entry of a locked table references, or PFN_NONE. */
static struct pfn own_table(struct pte entry, unsigned level)
{
    if (level == 1 || !entry_is_table(entry))
        return PFN_NONE;
    CHECK_MSG(pte_class(entry) == PTE_OWN, "entry %lx of level %u is shared and cannot move",
              entry.word, level);
    return pte_frame(entry);
}

/* Returns the table of a level on an address's path, which exists and is own. */
static struct pfn table_on_path(const struct tree *tree, uint64_t address, unsigned level)
{
    struct pfn table = tree->root;

    for (unsigned at = tree->levels; at > level; at--) {
        struct pte entry = pte_read(table_access_direct(table, at, address));

        table = own_table(entry, at);
        CHECK_MSG(!pfn_is_none(table), "entry %lx of level %u on the path of %lx", entry.word, at,
                  address);
    }
    return table;
}

/* Removes up to `most` entries from a table; stops at one in transit. */
static void tree_move_take(struct carried *carried, struct pfn table, unsigned most,
                           struct tlb_batch *batch)
{
    uint64_t span = pte_span(carried->level);
    uint64_t at = carried->address;
    bool were_on = tree_move_lock_table(table);

    for (; carried->count < most; at += span) {
        struct pte entry = pte_read(table_access_direct(table, carried->level, at));

        if (pte_state(entry, carried->level) == PTE_TRANSIT)
            break;
        entry = tree_replace_entry(table, pte_index(at, carried->level), pte_empty());
        if (pte_present(entry))
            tlb_add_range(batch, at, at + span);
        if (!pfn_is_none(own_table(entry, carried->level)))
            table_access_changed(batch);
        carried->entries[carried->count++] = entry;
    }
    unlock_table(table, were_on);
    /* Walks that found an entry at its old place are over after the flush. */
    tlb_add_grace(batch);
}

/* Sets the new base of an unreachable table, and of all tables below it. */
static void rebase(struct pfn table, uint64_t distance)
{
    struct frame *record = frame_record(table);
    const struct pte *entries = frame_pointer(table);
    uint64_t base = ((uint64_t)record->base_high << 32 | record->table.base_low) << 21;

    base = (base + distance) >> 21;
    record->table.base_low = (uint32_t)base;
    record->base_high = (uint8_t)(base >> 32);
    for (unsigned i = 0; record->level > 1 && i < PTE_ENTRIES; i++) {
        struct pfn below = own_table(entries[i], record->level);

        if (!pfn_is_none(below))
            rebase(below, distance);
    }
}

/* Puts the entry into the target's locked table. Frees empty own tables there. */
static void move_put_entry(struct pte entry, unsigned level, uint64_t to, struct pfn table,
                           struct tlb_batch *batch)
{
    struct pte old = pte_read(table_access_direct(table, level, to));

    if (old.word != 0) {
        struct pfn empty = own_table(old, level);

        CHECK_MSG(!pfn_is_none(empty), "entry %lx of level %u stands at %lx", old.word, level, to);
        tree_kill_table(empty);
        tlb_add_page(batch, to);
        tlb_release(batch, (struct tlb_release){.entry = old, .level = (uint8_t)level});
    }
    tree_replace_entry(table, pte_index(to, level), entry);
}

/* Puts the group into the target's table. */
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

        move_put_entry(carried->entries[i], carried->level, to, table, batch);
        /* A section's page keeps its back pointer to the section's own entry. */
        if (!pfn_is_none(page) && !entry_is_section_leaf(carried->entries[i], carried->level))
            rmap_set_pointer(page, table, pte_index(to, carried->level));
        to += pte_span(carried->level);
    }
    unlock_table(table, were_on);
}

/* Moves up to `most` entries from an address on, whose spans lie in the range. Returns how many. */
static unsigned move_group(const struct move *move, struct pfn source, unsigned level,
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
    if (tree_has_copies(source)) /* looked at now: a fault may have put a copy before the take */
        tree_mark_copies(target);
    tlb_begin(&batch, move->tree);
    tree_move_put(move, &carried, target, &batch);
    tlb_commit(&batch);
    if (carried.count == 0)
        machine_relax(); /* the first entry is in transit */
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
            at +=
                span * move_group(move, table, level, at, (unsigned)min_u64(whole, MOVE_TOGETHER));
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
    /* Frees the source's tables that are empty now. */
    tlb_begin(&batch, tree);
    tree_replace_range(tree, from, from + size, pte_empty(), &batch);
    tlb_commit(&batch);
}

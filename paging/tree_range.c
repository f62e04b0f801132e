/* Range calls on a tree, in their two halves: prepare may fail, replace cannot (rule C7). */
#include "cpu/machine.h"
#include "paging/layout.h"
#include "paging/table_way.h"
#include "paging/tree_internal.h"

/* A ticket, guard or empty entry may stand at every level, in the root of five levels too: it is
 * the only entry there that could stand for 256 TiB at once, and without it a range of several
 * would need tables between its two boundary paths. */
#define HIGHEST_LEVEL 5U

/* The second half of one range call. */
struct replacement {
    const struct tree *tree;
    enum table_way way;
    uint64_t start;
    uint64_t end;
    struct pte with;
    struct tlb_batch *batch;
};

/* The highest level at which an entry can begin, or end, at this address. */
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

enum status tree_prepare_range(struct tree *tree, uint64_t start, uint64_t end,
                               struct tlb_batch *batch)
{
    struct tree_reserve reserve = {0};
    enum status status = tree_reserve_fill(&reserve, 2U * (tree->levels - 1U));

    check_range(tree, start, end);
    if (status == OK) {
        do {
            status =
                tree_make_path(tree, start, boundary_level(start), TREE_BUILD, &reserve, batch);
            if (status == OK)
                status =
                    tree_make_path(tree, end - 1, boundary_level(end), TREE_BUILD, &reserve, batch);
        } while (status == STATUS_AGAIN);
    }
    tree_reserve_drain(&reserve);
    return status;
}

/* Takes a lock for a range call: faults hold it for moments only, so it is tried again with
 * interrupts open (rule P4). Returns whether they were on. */
static bool lock_patiently(struct pfn table)
{
    for (;;) {
        bool were_on = machine_interrupts_off();

        if (tree_lock(table))
            return were_on;
        CHECK((frame_record(table)->flags & FRAME_DEAD) == 0);
        machine_interrupts_restore(were_on);
        machine_pause();
    }
}

static void replace_one(const struct replacement *how, struct pfn table, unsigned level,
                        struct pte with, uint64_t address)
{
    bool were_on = lock_patiently(table);
    struct pte *at = table_way_edit(how->way, how->tree, table, level, address);
    struct pte old = pte_read(at);

    /* The last pointer to a table goes: rule P6. Its count cannot be raised meanwhile (P7). */
    if (level > 1 && entry_is_table(old) && frame_record(pte_frame(old))->count == 1)
        tree_kill_table(pte_frame(old));
    old = tree_replace_at(table, at, with);
    tree_unlock(table);
    machine_interrupts_restore(were_on);
    if (pte_present(old))
        tlb_add_range(how->batch, address, address + pte_span(level));
    if (entry_is_held(old))
        tlb_release(how->batch, (struct tlb_release){.entry = old, .level = (uint8_t)level});
}

static void replace_in_table(const struct replacement *how, struct pfn table, unsigned level,
                             uint64_t base)
{
    uint64_t span = pte_span(level);
    const struct pte *entries = frame_pointer(table);
    uint64_t from = max_u64(how->start, base);
    uint64_t to = min_u64(how->end, base + PTE_ENTRIES * span);

    for (uint64_t at = round_down(from, span); at < to; at += span) {
        unsigned index = pte_index(at, level);
        struct pte entry = pte_read(&entries[index]);

        if (at >= how->start && at + span <= how->end) {
            replace_one(how, table, level, how->with, at);
            continue;
        }
        CHECK_MSG(level > 1 && entry_is_table(entry) && pte_class(entry) == PTE_OWN,
                  "entry %lx of level %u at %lx is no own table", entry.word, level, at);
        replace_in_table(how, pte_frame(entry), level - 1, at);
        if (frame_record(pte_frame(entry))->live == 0)
            replace_one(how, table, level, pte_empty(), at);
    }
}

void tree_replace_range(struct tree *tree, uint64_t start, uint64_t end, struct pte with,
                        struct tlb_batch *batch)
{
    struct replacement how = {.tree = tree,
                              .way = table_way_for(tree),
                              .start = start,
                              .end = end,
                              .with = with,
                              .batch = batch};

    CHECK(!pte_present(with));
    check_range(tree, start, end);
    replace_in_table(&how, tree->root, tree->levels, 0);
}

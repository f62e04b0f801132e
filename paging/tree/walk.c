/* The one tree: walks, table locks, and paths for filling and changing. */
#include "paging/tree/tree.h"

#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "paging/kernel/map.h"
#include "paging/tree/internal.h"
#include "paging/tree/table_access.h"
#include "pmm/pmm.h"

struct tree_globals tree_globals;

static const struct tlb_owner released = {.drop = tree_drop, .drop_empty = tree_drop_empty};

void tree_init(struct pfn zero_page, const struct tree_hooks *hooks)
{
    tlb_set_owner(&released);
    tree_globals = (struct tree_globals){.hooks = hooks};
    zero_ladder_init(zero_page);
}

/* ---- tables ---- */

enum status tree_reserve_fill(struct tree_reserve *reserve, unsigned tables)
{
    CHECK(tables <= TREE_RESERVE_MAX);
    while (reserve->count < tables) {
        enum status status =
            pmm_alloc(FRAME_TABLE, FRAME_UNCLEARED, &reserve->tables[reserve->count]);

        if (status != OK)
            return status;
        reserve->count++;
    }
    return OK;
}

void tree_reserve_drain(struct tree_reserve *reserve)
{
    while (reserve->count > 0)
        pmm_free(reserve->tables[--reserve->count]);
}

unsigned tree_path_needs(const struct tree *tree, uint64_t address, unsigned level,
                         enum tree_purpose purpose)
{
    bool were_on = machine_interrupts_off();
    struct pfn table = tree->root;
    unsigned at = tree->levels;
    unsigned needs = 0;
    bool own = true;

    for (; at > level; at--) {
        struct pte entry = pte_read(table_access_direct(table, at, address));

        tlb_check_walk(tree, table);
        if (!entry_is_table(entry))
            break;
        /* Below a copied table nothing is own: the copy shares all its targets. */
        own = own && pte_class(entry) == PTE_OWN;
        needs += !own && purpose != TREE_FILL;
        table = pte_frame(entry);
    }
    machine_interrupts_restore(were_on);
    return needs + at - level;
}

/* Takes a table from the reserve and sets its level and base. */
static struct pfn take_table(struct tree_reserve *reserve, unsigned level, uint64_t address)
{
    struct pfn table;

    CHECK(reserve->count > 0);
    table = reserve->tables[--reserve->count];
    tree_place_table(table, level, address);
    return table;
}

bool tree_lock(struct pfn table)
{
    struct frame *record = frame_record(table);

    CHECK(!machine_interrupts_on());
    if (!spin_try(&record->lock))
        return false;
    if ((record->flags & FRAME_DEAD) == 0)
        return true;
    spin_unlock(&record->lock);
    return false;
}

void tree_unlock(struct pfn table)
{
    spin_unlock(&frame_record(table)->lock);
}

void tree_hold(struct pfn frame)
{
    frame_count_up(frame);
}

bool tree_try_hold(struct pfn frame)
{
    return frame_count_up_unless_0(frame);
}

uint32_t tree_release(struct pfn frame)
{
    return frame_count_down(frame);
}

struct pte tree_replace_at(struct pfn table, struct pte *at, struct pte with)
{
    struct frame *record = frame_record(table);
    struct pfn page;
    struct pte old;
    int live;
    int held;

    CHECK(record->lock == 1);
    old = pte_exchange(at, with);
    live = (with.word != 0) - (old.word != 0);
    held = (int)entry_is_held(with) - (int)entry_is_held(old);
    record->live = (uint16_t)(record->live + live);
    record->table.held = (uint16_t)(record->table.held + held);
    CHECK_MSG(record->live <= PTE_ENTRIES && record->table.held <= record->live,
              "table %x: %u live, %u held after %lx -> %lx", table.index, record->live,
              record->table.held, old.word, with.word);
    page = entry_page(old, record->level);
    if (!pfn_is_none(page) && !pfn_equal(page, entry_page(with, record->level)))
        tree_repoint(page, table, (unsigned)((uintptr_t)at / sizeof(*at) % PTE_ENTRIES));
    return old;
}

struct pte tree_replace_entry(struct pfn table, unsigned index, struct pte with)
{
    CHECK(index < PTE_ENTRIES);
    return tree_replace_at(table, (struct pte *)frame_pointer(table) + index, with);
}

/* ---- walking ---- */

struct tree_place tree_walk(const struct tree *tree, uint64_t address)
{
    return tree_walk_by(table_access_for(tree), tree, address);
}

struct tree_place tree_walk_by(enum table_access way, const struct tree *tree, uint64_t address)
{
    struct tree_place place = {.table = tree->root, .level = tree->levels, .own = true};

    for (;;) {
        place.index = (uint16_t)pte_index(address, place.level);
        place.entry = table_access_read(way, tree, place.table, place.level, address);
        tlb_check_walk(tree, place.table);
        if (place.level == 1 || !entry_is_table(place.entry))
            return place;
        place.own = place.own && pte_class(place.entry) == PTE_OWN;
        place.table = pte_frame(place.entry);
        place.level--;
    }
}

/* Returns the obstacle that a large page poses. Locks its table, because a split stores the page's
 * new count before it replaces the entries. Interrupts are off. */
static enum tree_obstacle large_obstacle(const struct tree_place *place, bool were_on)
{
    enum tree_obstacle obstacle = OBSTACLE_NONE;
    struct pte entry;

    tree_lock_patiently(place->table, were_on);
    entry = pte_read((const struct pte *)frame_pointer(place->table) + place->index);
    if (entry_is_table(entry))
        obstacle = OBSTACLE_CHANGED;
    else if (__atomic_load_n(&frame_record(entry_page(entry, place->level))->count,
                             __ATOMIC_ACQUIRE) > 1)
        obstacle = OBSTACLE_SHARED_PAGE;
    tree_unlock(place->table);
    return obstacle;
}

enum tree_obstacle tree_find_obstacle(const struct tree *tree, uint64_t at,
                                      struct tree_place *place)
{
    bool were_on = machine_interrupts_off();
    enum tree_obstacle obstacle = OBSTACLE_NONE;

    *place = tree_walk(tree, at);
    if (!place->own)
        obstacle = OBSTACLE_SHARED_TABLE;
    else if (place->level > 1 && !pfn_is_none(entry_page(place->entry, place->level)))
        obstacle = large_obstacle(place, were_on);
    machine_interrupts_restore(were_on);
    return obstacle;
}

/* ---- paths ---- */

struct step {
    uint64_t address;
    struct pfn table;
    unsigned level; /* of the table */
    enum tree_purpose purpose;
    struct tree_reserve *reserve;
    struct tlb_batch *batch;
};

/* Splits a ticket, guard or empty entry into a table full of it, a zero link into one of zeros. */
static struct pfn split_entry(const struct step *step, unsigned index, struct pte entry)
{
    struct pfn table = take_table(step->reserve, step->level - 1, step->address);
    struct pte *entries = frame_pointer(table);
    struct pte part =
        entry_is_zero(entry) ? zero_ladder_entry(step->level - 1, pte_rights(entry)) : entry;

    machine_fill_frame(entries, part.word);
    if (entry.word != 0)
        frame_record(table)->live = PTE_ENTRIES;
    tree_replace_entry(step->table, index, pte_table(table, PTE_OWN));
    return table;
}

/* Splits a zero link, which processors may have cached. */
static enum status split_zero_link(const struct step *step, unsigned index, struct pte entry,
                                   struct pfn *next)
{
    if (step->purpose == TREE_FILL)
        return STATUS_AGAIN; /* another processor has filled it already */
    *next = split_entry(step, index, entry);
    /* The pages are the same, but paging-structure caches still lead to the zero table. */
    tlb_add_page(step->batch, step->address);
    table_access_changed(step->batch);
    return OK;
}

/* Makes the entry's table own: in place if this is its only pointer, else by a copy (rules C4, C6).
 * Until all have answered, others may fill the source, and processors whose paging-structure caches
 * lead there cache what the copy has no entry for: all of the table's span is stale (rule P2). */
static enum status unshare_entry(const struct step *step, unsigned index, struct pte entry,
                                 struct pfn *own)
{
    struct pfn source = pte_frame(entry);
    struct pte *entries = frame_pointer(step->table);
    uint64_t base = round_down(step->address, pte_span(step->level));

    if (!tree_lock(source))
        return STATUS_AGAIN;
    if (__atomic_load_n(&frame_record(source)->count, __ATOMIC_ACQUIRE) == 1) {
        tree_unlock(source);
        pte_make_own(&entries[index]);
        table_access_changed(step->batch);
        *own = source;
        return OK;
    }
    *own = take_table(step->reserve, step->level - 1, step->address);
    tree_copy_table(*own, source);
    tree_unlock(source);
    tree_replace_entry(step->table, index, pte_table(*own, PTE_OWN));
    tlb_add_range(step->batch, base, base + pte_span(step->level));
    table_access_changed(step->batch);
    tlb_release(step->batch, (struct tlb_release){.entry = entry, .level = (uint8_t)step->level});
    return OK;
}

/* Splits a large page on the path into a table of its parts. If the page was shared, the table is
 * too; the walk starts over and copies it. */
static enum status split_page(const struct step *step, unsigned index, struct pte entry,
                              struct pfn *next)
{
    struct pfn table = take_table(step->reserve, step->level - 1, step->address);
    struct pfn page = entry_page(entry, step->level);
    unsigned sharers;
    enum status status = tree_split_large(page, step->level, step->table, table, 0, &sharers);

    if (status != OK) {
        step->reserve->tables[step->reserve->count++] = table;
        return status;
    }
    /* The pages are the same, but translations of two sizes must not coexist. */
    if (sharers == 1)
        tlb_add_page(step->batch, step->address);
    else
        tlb_add_everything(step->batch);
    table_access_changed(step->batch);
    *next = table;
    return pte_class(pte_read((struct pte *)frame_pointer(step->table) + index)) == PTE_OWN
               ? OK
               : STATUS_AGAIN;
}

/* Descends from a locked table to the next, and makes that fit the purpose. If the reserve is
 * empty, or another processor changed the entry, the walk starts over. */
static enum status tree_walk_step_down(const struct step *step, struct pfn *next)
{
    unsigned index = pte_index(step->address, step->level);
    struct pte entry = pte_read((struct pte *)frame_pointer(step->table) + index);
    enum pte_state state = pte_state(entry, step->level);

    if (state == PTE_TABLE && !entry_is_zero(entry) &&
        (step->purpose == TREE_FILL || pte_class(entry) == PTE_OWN)) {
        *next = pte_frame(entry);
        return OK;
    }
    if (step->reserve->count == 0 || (state == PTE_EMPTY && step->purpose != TREE_BUILD))
        return STATUS_AGAIN;
    switch (state) {
    case PTE_TABLE:
        if (entry_is_zero(entry))
            return split_zero_link(step, index, entry, next);
        CHECK_MSG(pte_class(entry) == PTE_COW, "entry %lx of class %u on a path", entry.word,
                  pte_class(entry));
        return unshare_entry(step, index, entry, next);
    case PTE_EMPTY:
    case PTE_TICKET:
    case PTE_GUARD: *next = split_entry(step, index, entry); return OK;
    case PTE_LEAF:
    case PTE_WITHHELD: return split_page(step, index, entry, next);
    default:
        PANIC("entry %lx (%s) of level %u on the path of %lx", entry.word, pte_state_name(state),
              step->level, step->address);
    }
}

enum status tree_make_path(struct tree *tree, uint64_t address, unsigned level,
                           enum tree_purpose purpose, struct tree_reserve *reserve,
                           struct tlb_batch *batch)
{
    struct step step = {.address = address,
                        .table = tree->root,
                        .level = tree->levels,
                        .purpose = purpose,
                        .reserve = reserve,
                        .batch = batch};
    enum status status = OK;
    bool were_on;

    CHECK(address < tree->end && level >= 1);
    /* Each table that is unshared is released under the lock of the one above (P4). */
    if (!tlb_has_room_for(batch, tree->levels))
        tlb_make_room(batch);
    were_on = machine_interrupts_off();
    while (step.level > level && status == OK) {
        struct pfn next = PFN_NONE;

        tlb_check_walk(tree, step.table);
        if (!tree_lock(step.table)) {
            status = STATUS_AGAIN;
            break;
        }
        if (step.level == tree->levels && tree->forking && purpose == TREE_CHANGE)
            status = STATUS_AGAIN;
        else
            status = tree_walk_step_down(&step, &next);
        tree_unlock(step.table);
        if (status == OK) {
            step.table = next;
            step.level--;
        }
    }
    machine_interrupts_restore(were_on);
    return status;
}

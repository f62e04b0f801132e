/* Plain trees: roots on top of each other. */
#include "paging/plain/plain.h"

#include "cpu/machine.h"
#include "paging/tlb/tlb.h"
#include "paging/tree/table_access.h"
#include "pmm/pmm.h"

/* Entries that a drop handles before it yields the processor. */
#define DROP_ENTRIES (4 * PTE_ENTRIES)

unsigned plain_levels_for(uint64_t bytes)
{
    unsigned levels = 1;

    while (plain_room(levels) < bytes)
        levels++;
    CHECK_MSG(levels <= TREE_LEVELS_MAX, "a tree of %lx bytes", bytes);
    return levels;
}

/* Allocates a table of a level, for addresses from 0 on. */
static enum status make_root(unsigned level, struct pfn *root)
{
    enum status status = pmm_alloc(FRAME_TABLE, FRAME_CLEARED, root);
    struct frame *record;

    CHECK(level >= 1 && level <= TREE_LEVELS_MAX);
    if (status != OK)
        return status;
    record = frame_record(*root);
    record->level = (uint8_t)level;
    record->table.base_low = 0;
    record->base_high = 0;
    record->table.ring_or_section = root->index;
    return OK;
}

static struct pfn root_of(const struct tree *tree)
{
    return (struct pfn){__atomic_load_n(&tree->root.index, __ATOMIC_ACQUIRE)};
}

/* Makes a table the root. Its record is complete. */
static void set_root(struct tree *tree, struct pfn root)
{
    tree->levels = frame_record(root)->level;
    tree->end = plain_room(tree->levels);
    __atomic_store_n(&tree->root.index, root.index, __ATOMIC_SEQ_CST);
}

enum status plain_create(struct tree *tree, unsigned levels)
{
    struct pfn root;
    enum status status = make_root(levels, &root);

    if (status != OK)
        return status;
    *tree = (struct tree){.plain = true, .walkers = TLB_WALKED_BY_ALL};
    set_root(tree, root);
    return OK;
}

void plain_drop(struct pfn root)
{
    struct tree_dropper dropper;

    CHECK_MSG(frame_record(root)->count == 1, "root %x still has count %u", root.index,
              frame_record(root)->count);
    /* Any level above the leaf table's will do: the entry is that of a table. */
    tree_drop_begin(&dropper, &(struct tlb_release){.entry = pte_table(root, PTE_OWN), .level = 2});
    while (!tree_drop_some(&dropper, DROP_ENTRIES))
        machine_relax();
}

void plain_destroy(struct tree *tree)
{
    CHECK(tree->plain && tree->processors == 0);
    plain_drop(tree->root);
    tree->root = PFN_NONE;
}

struct tree plain_view(const struct tree *tree)
{
    struct pfn root = root_of(tree);
    uint8_t levels = frame_record(root)->level;

    CHECK(!machine_interrupts_on());
    return (struct tree){.root = root,
                         .levels = levels,
                         .plain = true,
                         .end = plain_room(levels),
                         .walkers = TLB_WALKED_BY_ALL};
}

struct tree_place plain_walk(const struct tree *tree, uint64_t address)
{
    struct tree_place place = {.table = root_of(tree), .own = true};

    place.level = frame_record(place.table)->level;
    if (address >= plain_room(place.level)) {
        place.level++;
        place.entry = pte_empty();
        return place;
    }
    for (;;) {
        place.index = (uint16_t)pte_index(address, place.level);
        place.entry = pte_read(table_access_direct(place.table, place.level, address));
        if (place.level == 1 || !pte_present(place.entry))
            return place;
        place.own = place.own && pte_class(place.entry) == PTE_OWN;
        place.table = pte_frame(place.entry);
        place.level--;
    }
}

/* Locks a table that cannot die meanwhile; interrupts are off, and come on between the tries. */
static void lock_table(struct pfn table, bool were_on)
{
    while (!tree_lock(table)) {
        machine_interrupts_restore(were_on);
        machine_pause();
        (void)machine_interrupts_off();
    }
}

void plain_fork(struct tree *child, struct tree *parent)
{
    bool were_on = machine_interrupts_off();

    CHECK(child->levels == parent->levels && frame_record(child->root)->live == 0);
    lock_table(parent->root, were_on);
    tree_copy_table(child->root, parent->root);
    tree_unlock(parent->root);
    machine_interrupts_restore(were_on);
}

enum status plain_grow(struct tree *tree, unsigned levels)
{
    struct pfn roots[TREE_LEVELS_MAX];
    unsigned count = 0;
    enum status status = OK;

    CHECK(levels <= TREE_LEVELS_MAX);
    while (status == OK && tree->levels + count < levels) {
        status = make_root(tree->levels + count + 1, &roots[count]);
        count += status == OK;
    }
    if (status != OK) {
        while (count > 0)
            pmm_free(roots[--count]);
        return status;
    }
    for (unsigned i = 0; i < count; i++) {
        struct frame *record = frame_record(roots[i]);

        ((struct pte *)frame_pointer(roots[i]))[0] = pte_table(tree->root, PTE_OWN);
        record->live = 1;
        record->table.held = 1;
        set_root(tree, roots[i]);
    }
    return OK;
}

struct pfn plain_lower(struct tree *tree, unsigned levels)
{
    struct pfn old = tree->root;
    struct pfn table = old;
    bool were_on = machine_interrupts_off();
    struct pte entry;

    CHECK(levels >= 1 && levels < tree->levels);
    for (unsigned level = tree->levels; level > levels + 1; level--)
        table = pte_frame(pte_read(frame_pointer(table)));
    lock_table(table, were_on);
    entry = pte_read(frame_pointer(table));
    CHECK_MSG(pte_present(entry) && pte_class(entry) == PTE_OWN, "entry %lx of table %x",
              entry.word, table.index);
    /* The table's count, which was the entry's, becomes the tree's. */
    set_root(tree, pte_frame(entry));
    tree_replace_entry(table, 0, pte_empty());
    tree_unlock(table);
    machine_interrupts_restore(were_on);
    return old;
}

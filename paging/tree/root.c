/*
 * Roots of trees: create, destroy, and fork, which shares the entries of one root with another.
 *
 * A stock of prepared roots saves clearing and copying when a tree is created: their lower half is
 * zero, their upper half the kernel's. The stock keeps the size that tree_ready_roots gave it, so
 * that the ledger is even after all trees are destroyed.
 */
#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "paging/kernel/layout.h"
#include "paging/kernel/map.h"
#include "paging/tree/internal.h"
#include "paging/tree/table_access.h"
#include "pmm/pmm.h"

/* Entries that a destroy drops before it yields the processor. */
#define DROP_ENTRIES (4 * PTE_ENTRIES)

static bool take_ready_root(struct pfn *root)
{
    bool were_on = machine_interrupts_off();
    bool taken;

    spin_lock(&tree_globals.ready.lock);
    taken = tree_globals.ready.count > 0;
    if (taken)
        *root = tree_globals.ready.roots[--tree_globals.ready.count];
    spin_unlock(&tree_globals.ready.lock);
    machine_interrupts_restore(were_on);
    return taken;
}

/* Adds a root to the stock. Returns false if it is full. */
static bool keep_ready_root(struct pfn root)
{
    bool were_on = machine_interrupts_off();
    bool kept;

    spin_lock(&tree_globals.ready.lock);
    kept = tree_globals.ready.count < TREE_READY_ROOTS;
    if (kept) {
        pmm_retype(root, FRAME_ROOT);
        tree_globals.ready.roots[tree_globals.ready.count++] = root;
    }
    spin_unlock(&tree_globals.ready.lock);
    machine_interrupts_restore(were_on);
    return kept;
}

static enum status tree_root_make_root(struct pfn *root)
{
    enum status status = pmm_alloc(FRAME_TABLE, FRAME_CLEARED, root);

    if (status != OK)
        return status;
    frame_record(*root)->level = (uint8_t)kernel_map_levels();
    frame_record(*root)->table.base_low = 0;
    kernel_map_share_half(*root);
    return OK;
}

enum status tree_ready_roots(void)
{
    struct pfn root;
    enum status status = OK;

    while (take_ready_root(&root))
        pmm_free(root);
    while (status == OK && tree_globals.ready.count < TREE_READY_ROOTS) {
        status = tree_root_make_root(&root);
        if (status == OK)
            (void)keep_ready_root(root);
    }
    return status;
}

enum status tree_create(struct tree *tree)
{
    enum status status = OK;

    if (take_ready_root(&tree->root))
        pmm_retype(tree->root, FRAME_TABLE);
    else
        status = tree_root_make_root(&tree->root);
    tree->levels = (uint8_t)kernel_map_levels();
    tree->end = lower_half_end(tree->levels);
    tree->forking = false;
    tree->plain = false;
    tree->processors = 0;
    tree->walkers = 0;
    pcid_start(&tree->context);
    return status;
}

/* Clears the entries of a root that hold nothing, and frees it. */
static void free_root(struct pfn root)
{
    struct frame *record = frame_record(root);
    struct pte *entries = frame_pointer(root);

    for (unsigned i = 0; record->live > 0; i++) {
        CHECK(i < PTE_ENTRIES / 2);
        if (entries[i].word == 0)
            continue;
        entries[i] = pte_empty();
        record->live--;
    }
    if (!keep_ready_root(root))
        pmm_free(root);
}

/* An entry in a dead table cannot be locked: who ends the transfer of its page waits until it is
 * dropped. So a leaf table dies and is emptied within one call. */
bool tree_destroy_some(struct tree *tree, struct tree_dropper *dropper, unsigned entries)
{
    const struct frame *record = frame_record(tree->root);

    if (dropper->depth == 0) {
        CHECK_MSG(record->count == 1 && tree->processors == 0,
                  "root %x has count %u, processors %lx", tree->root.index, record->count,
                  tree->processors);
        CHECK(machine_root().address != phys_of(tree->root).address);
        dropper->tables[dropper->depth++] = tree->root;
        dropper->next[0] = 0;
    }
    while (dropper->depth > 1 || record->table.held > 0) {
        unsigned least = drop_step_least(dropper);
        unsigned most = least == 0 ? PTE_ENTRIES : entries;

        if (least > entries)
            return false;
        most -= drop_step(dropper, most);
        entries = entries > most ? entries - most : 0;
    }
    free_root(tree->root);
    tree->root = PFN_NONE;
    return true;
}

void tree_destroy(struct tree *tree)
{
    struct tree_dropper dropper = {0};

    while (!tree_destroy_some(tree, &dropper, DROP_ENTRIES))
        machine_relax();
}

void tree_fork(struct tree *child, struct tree *parent, struct tlb_batch *batch)
{
    struct frame *from = frame_record(parent->root);
    struct frame *to = frame_record(child->root);
    struct pte *from_entries = frame_pointer(parent->root);
    struct pte *to_entries = frame_pointer(child->root);
    bool were_on = machine_interrupts_off();
    unsigned left;

    CHECK(child->levels == parent->levels && to->live == 0);
    spin_lock(&from->lock);
    parent->forking = true;
    left = from->live;
    for (unsigned i = 0; left > 0; i++) {
        CHECK(i < PTE_ENTRIES / 2);
        if (from_entries[i].word == 0)
            continue;
        to_entries[i] = tree_share_entry(&from_entries[i], parent->levels);
        left--;
    }
    to->live = from->live;
    to->table.held = from->table.held;
    spin_unlock(&from->lock);
    machine_interrupts_restore(were_on);
    /* All writable translations of the parent, and its paging-structure caches (rule P2). */
    tlb_add_space(batch);
}

void tree_fork_end(struct tree *parent)
{
    bool were_on = machine_interrupts_off();
    struct frame *root = frame_record(parent->root);

    spin_lock(&root->lock);
    CHECK(parent->forking);
    parent->forking = false;
    spin_unlock(&root->lock);
    machine_interrupts_restore(were_on);
}

/* Makes a link of a locked table own if it is the only reference. Returns the table. */
static struct pfn own_entry(struct pte *at, struct tlb_batch *batch)
{
    struct pfn table = pte_frame(pte_read(at));

    CHECK_MSG(__atomic_load_n(&frame_record(table)->count, __ATOMIC_ACQUIRE) == 1,
              "table %x has count %u, and is to be own again", table.index,
              frame_record(table)->count);
    if (pte_class(pte_read(at)) == PTE_COW) {
        pte_make_own(at);
        table_access_changed(batch);
    }
    return table;
}

uint64_t tree_own_path(struct tree *parent, uint64_t address, unsigned lowest,
                       struct tlb_batch *batch)
{
    struct pfn table = parent->root;
    unsigned level = parent->levels;
    uint64_t span;

    while (level > lowest) {
        struct pte *at = table_access_direct(table, level, address);
        bool were_on = machine_interrupts_off();
        bool locked = tree_lock(table);
        bool goes_on = locked && entry_is_table(pte_read(at));
        struct pfn next = goes_on ? own_entry(at, batch) : PFN_NONE;

        if (locked)
            tree_unlock(table);
        machine_interrupts_restore(were_on);
        if (locked && !goes_on)
            break;
        if (locked) {
            table = next;
            level--;
        } else {
            machine_pause(); /* a fault holds the lock briefly (rule P4) */
        }
    }
    span = pte_span(level > 1 ? level : 2);
    return round_down(address, span) + span;
}

/*
 * The rule of sharing: share, the copy of a table that unshare makes, and drop.
 *
 * What a copied table does with each entry (rule C4):
 *
 *   entry                     in the copy             in the source
 *   empty, ticket, guard      copied                  unchanged
 *   leaf or table, own        COW, count + 1          becomes COW too
 *   leaf or table, COW        count + 1               unchanged
 *   zero page                 copied                  unchanged
 *   shared link, shared leaf  count + 1, rights kept  unchanged
 *   swapped                   slot's count + 1        unchanged
 *   in transit, withheld      frame's count + 1       unchanged
 */
#include "cpu/machine.h"
#include "cpu/spin.h"
#include "lib/bytes.h"
#include "paging/kernel_map.h"
#include "paging/tree_internal.h"
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
        /* What the source wrote is known from its own D; the copy starts without. */
        return (struct pte){pte_class(entry) == PTE_COW ? entry.word & ~PTE_D : entry.word};
    case PTE_SWAPPED: tree_globals.hooks->slot_hold(pte_slot(entry)); return entry;
    case PTE_TRANSIT:
    case PTE_WITHHELD: tree_hold(pte_payload_frame(entry)); return entry;
    case PTE_CORRUPT:
    case PTE_STATES: break;
    }
    PANIC("entry %lx of level %u is corrupt: it cannot be shared", entry.word, level);
}

void tree_copy_table(struct pfn to, struct pfn from)
{
    struct frame *source = frame_record(from);
    struct frame *copy = frame_record(to);
    struct pte *from_entries = frame_pointer(from);
    struct pte *to_entries = frame_pointer(to);

    CHECK(source->lock == 1 && source->level == copy->level);
    CHECK(source->slot_or_base == copy->slot_or_base && source->base_high == copy->base_high);
    if (source->held == 0) {
        machine_copy_frame(to_entries, from_entries);
    } else {
        for (unsigned i = 0; i < PTE_ENTRIES; i++)
            to_entries[i] = tree_share_entry(&from_entries[i], source->level);
    }
    copy->live = source->live;
    copy->held = source->held;
    ring_join(to, from);
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

/* Nobody names the table any more, and no walk is in it, since those that could be have ended
 * before the flush was answered. Reclaim may still come by the ring, under its lock; it finds it
 * dead. What it names is let go of: then the table itself (rule C5). Recursion ends at level 1. */
static void drop_table(struct pfn table)
{
    struct frame *record = frame_record(table);
    struct pte *entries = frame_pointer(table);

    CHECK_MSG(record->kind == FRAME_TABLE, "dropping frame %x of kind %u as a table", table.index,
              record->kind);
    tree_kill_table(table);
    for (unsigned i = 0; i < PTE_ENTRIES && record->held > 0; i++) {
        struct tlb_release release = {.entry = entries[i], .level = record->level};
        struct pfn page = entry_page(release.entry, release.level);

        if (!entry_is_held(release.entry))
            continue;
        entries[i] = pte_empty();
        record->live--;
        record->held--;
        if (!pfn_is_none(page))
            tree_repoint(page, table, i);
        tree_drop(&release);
    }
    ring_leave(table);
    pmm_free(table);
}

void tree_forget_page(struct pfn page)
{
    if (tree_release(page) == 0)
        tree_globals.hooks->page_gone(page);
}

static void drop_page(struct pfn page, const struct tlb_release *release)
{
    if (pte_present(release->entry) && (release->entry.word & PTE_D) != 0)
        __atomic_or_fetch(&frame_record(page)->flags, FRAME_DIRTY, __ATOMIC_RELAXED);
    tree_forget_page(page);
}

void tree_drop(const struct tlb_release *release)
{
    struct pte entry = release->entry;

    switch (pte_state(entry, release->level)) {
    case PTE_EMPTY:
    case PTE_TICKET:
    case PTE_GUARD: return;
    case PTE_LEAF:
        if (entry_is_held(entry))
            drop_page(pte_frame(entry), release);
        return;
    case PTE_TRANSIT:
    case PTE_WITHHELD: drop_page(pte_payload_frame(entry), release); return;
    case PTE_SWAPPED: tree_globals.hooks->slot_release(pte_slot(entry)); return;
    case PTE_TABLE:
        if (tree_release(pte_frame(entry)) == 0)
            drop_table(pte_frame(entry));
        return;
    case PTE_CORRUPT:
    case PTE_STATES: break;
    }
    PANIC("entry %lx of level %u is corrupt: it cannot be dropped", entry.word, release->level);
}

/* ---- whole trees ---- */

enum status tree_create(struct tree *tree)
{
    enum status status = pmm_alloc(FRAME_TABLE, FRAME_CLEARED, &tree->root);

    if (status != OK)
        return status;
    tree->levels = (uint8_t)kernel_map_levels();
    tree->forking = false;
    tree->processors = 0;
    pcid_start(&tree->context);
    frame_record(tree->root)->level = tree->levels;
    frame_record(tree->root)->slot_or_base = 0;
    kernel_map_share_half(tree->root);
    return OK;
}

void tree_destroy(struct tree *tree)
{
    struct frame *record = frame_record(tree->root);
    struct pte *entries = frame_pointer(tree->root);

    CHECK_MSG(record->count == 1, "root %x still has count %u", tree->root.index, record->count);
    CHECK_MSG(tree->processors == 0, "processors %lx still have root %x", tree->processors,
              tree->root.index);
    CHECK(machine_root().address != phys_of(tree->root).address);
    for (unsigned i = 0; i < PTE_ENTRIES / 2; i++) {
        struct tlb_release release = {.entry = entries[i], .level = tree->levels};

        entries[i] = pte_empty();
        tree_drop(&release);
    }
    pmm_free(tree->root);
    tree->root = PFN_NONE;
}

void tree_fork(struct tree *child, struct tree *parent, struct tlb_batch *batch)
{
    struct frame *from = frame_record(parent->root);
    struct frame *to = frame_record(child->root);
    struct pte *from_entries = frame_pointer(parent->root);
    struct pte *to_entries = frame_pointer(child->root);
    bool were_on = machine_interrupts_off();

    CHECK(child->levels == parent->levels && to->live == 0);
    spin_lock(&from->lock);
    parent->forking = true;
    for (unsigned i = 0; i < PTE_ENTRIES / 2; i++)
        to_entries[i] = tree_share_entry(&from_entries[i], parent->levels);
    to->live = from->live;
    to->held = from->held;
    spin_unlock(&from->lock);
    machine_interrupts_restore(were_on);
    /* Every translation of the parent that allows writing, and the caches above it (rule P2). */
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

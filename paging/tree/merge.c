/*
 * Merges the pages of a table's 512 entries into one large page, which replaces the table.
 *
 * In place, if the pages are the parts of one aligned block in order, as a split leaves them.
 * Otherwise by copying into the caller's block; blank entries become zeros. All pages must belong
 * to this tree alone: the path is own, each page has one reference, and all rights are equal.
 * Otherwise nothing changes.
 *
 * The steps (rules P2, P6). The caller has locked the regions, so that only faults and reclaim run
 * concurrently:
 *
 *   look       under the table's lock: check each entry; pages leave their clock
 *   take out   mark the table dead and make no entry present; from here on nothing fails, and
 *              faults on the table wait
 *   flush      no processor reads or writes the pages, nor sets a bit of an entry
 *   fill       copy to the block, or join its parts
 *   link       the large page replaces the table, under the lock of the table above
 *   drop       after another flush: the table, and with it the pages that were copied
 *
 * The large page is dirty if a part was, and accessed if a part was (rule E8).
 */
#include "cpu/machine.h"
#include "paging/kernel/layout.h"
#include "paging/tree/internal.h"
#include "paging/tree/table_access.h"
#include "pmm/pmm.h"

/* A merge in progress. */
struct merging {
    struct tree *tree;
    struct tree_merge *merge;
    struct pfn parent; /* the table above the table of the parts */
    struct pfn table;
    struct pfn first; /* the page of the first entry, if there is one */
    unsigned order;   /* of the parts */
    unsigned pages;
    bool in_order; /* so far the pages are the parts of one block */
    bool used;
    bool dirty;
};

/* ---- looking ---- */

/* Finds the table of the parts and the one above it, through own links only. */
static bool find_tables(struct merging *merging)
{
    const struct tree_merge *merge = merging->merge;
    struct pfn table = merging->tree->root;

    for (unsigned level = merging->tree->levels; level >= merge->level; level--) {
        struct pte entry = pte_read(table_access_direct(table, level, merge->address));

        if (!entry_is_table(entry) || pte_class(entry) != PTE_OWN)
            return false;
        merging->parent = table;
        table = pte_frame(entry);
    }
    merging->table = table;
    return true;
}

static bool same_rights(struct rights a, struct rights b)
{
    return a.write == b.write && (a.execute == b.execute || pte_nx == 0) && a.user == b.user &&
           a.none == b.none;
}

/* Checks a page: it can become a part if its entry is its only reference. */
static enum tree_merged merge_page_ok(struct merging *merging, unsigned index, struct pte entry)
{
    struct pfn page = pte_frame(entry);

    if (pte_class(entry) == PTE_SHARED || !same_rights(pte_rights(entry), merging->merge->rights))
        return TREE_MERGE_UNFIT;
    if (__atomic_load_n(&frame_record(page)->count, __ATOMIC_ACQUIRE) != 1)
        return pte_class(entry) == PTE_OWN ? TREE_MERGE_IN_USE : TREE_MERGE_SHARED;
    if (index == 0) {
        merging->first = page;
        merging->in_order = page.index % (PTE_ENTRIES << merging->order) == 0;
    }
    merging->in_order =
        merging->in_order && page.index == merging->first.index + (index << merging->order);
    merging->pages++;
    return TREE_MERGED;
}

/* Checks one entry. Returns TREE_MERGED if it does not prevent the merge. */
static enum tree_merged merge_check_entry(struct merging *merging, unsigned index, struct pte entry)
{
    struct tree_merge *merge = merging->merge;

    switch (pte_state(entry, merge->level - 1)) {
    case PTE_TICKET: return entry.word == merge->ticket.word ? TREE_MERGED : TREE_MERGE_UNFIT;
    case PTE_SWAPPED:
        merge->missing = merge->address + index * PAGE_SIZE;
        return TREE_MERGE_MISSING;
    case PTE_TRANSIT: return TREE_MERGE_IN_USE;
    case PTE_LEAF: return entry_is_zero(entry) ? TREE_MERGED : merge_page_ok(merging, index, entry);
    case PTE_TABLE: return entry_is_zero(entry) ? TREE_MERGED : TREE_MERGE_UNFIT;
    default: return TREE_MERGE_UNFIT;
    }
}

/* Checks every entry of the locked table; changes nothing. */
static enum tree_merged tree_merge_look(struct merging *merging)
{
    const struct pte *entries = frame_pointer(merging->table);
    const struct tree_merge *merge = merging->merge;

    for (unsigned i = 0; i < PTE_ENTRIES; i++) {
        enum tree_merged found = merge_check_entry(merging, i, pte_read(&entries[i]));

        if (found != TREE_MERGED)
            return found;
    }
    if (merging->pages == 0)
        return TREE_MERGE_NOTHING;
    if (merging->in_order && merging->pages == PTE_ENTRIES)
        return TREE_MERGED;
    /* Parts that are large pages are not copied: that would take too long. */
    if (merge->level > 2)
        return TREE_MERGE_UNFIT;
    return pfn_is_none(merge->block) ? TREE_MERGE_NO_BLOCK : TREE_MERGE_COPIED;
}

/* ---- taking out ---- */

/* Puts the pages of the first entries back into their clocks. */
static void merge_republish_pages(const struct merging *merging, unsigned entries)
{
    const struct pte *at = frame_pointer(merging->table);

    for (unsigned i = 0; i < entries; i++) {
        struct pte entry = pte_read(&at[i]);

        if (pte_present(entry) && !entry_is_zero(entry))
            tree_globals.hooks->page_put(pte_frame(entry), merging->order);
    }
}

/* Takes the pages out of their clocks: then only entries of the locked table lead to them. */
static bool take_pages(const struct merging *merging)
{
    const struct pte *at = frame_pointer(merging->table);

    for (unsigned i = 0; i < PTE_ENTRIES; i++) {
        struct pte entry = pte_read(&at[i]);

        if (!pte_present(entry) || entry_is_zero(entry) ||
            tree_globals.hooks->page_take(pte_frame(entry), merging->order))
            continue;
        merge_republish_pages(merging, i);
        return false;
    }
    return true;
}

/* Makes every entry non-present. Pages to copy become in transit. Pages that are merged in place,
 * and zero mappings, become tickets: an empty entry would tell a fault that nothing is mapped. A
 * ticket counts as live, but not as held. */
static void take_entries(struct merging *merging, bool in_place)
{
    struct pte *at = frame_pointer(merging->table);

    for (unsigned i = 0; i < PTE_ENTRIES; i++) {
        struct pte entry = pte_read(&at[i]);
        struct pfn page = pte_frame(entry);
        bool zero = entry_is_zero(entry);

        if (!pte_present(entry))
            continue;
        entry = pte_exchange(&at[i], zero || in_place ? merging->merge->ticket
                                                      : pte_transit(page, merging->merge->rights));
        if (zero)
            continue;
        merging->used = merging->used || (entry.word & PTE_A) != 0;
        merging->dirty = merging->dirty || (entry.word & PTE_D) != 0 ||
                         (frame_record(page)->flags & FRAME_DIRTY) != 0;
    }
    if (in_place)
        frame_record(merging->table)->table.held = 0;
}

/* holds on success: the table, dead, and its pages, which only it can reach */
static enum tree_merged tree_merge_begin(struct merging *merging)
{
    bool were_on = machine_interrupts_off();
    enum tree_merged found = TREE_MERGE_IN_USE;

    if (!find_tables(merging)) {
        found = TREE_MERGE_NOTHING;
    } else if (tree_lock(merging->table)) {
        found = tree_merge_look(merging);
        if ((found == TREE_MERGED || found == TREE_MERGE_COPIED) && !take_pages(merging))
            found = TREE_MERGE_IN_USE;
        if (found == TREE_MERGED || found == TREE_MERGE_COPIED) {
            frame_record(merging->table)->flags |= FRAME_DEAD;
            take_entries(merging, found == TREE_MERGED);
        }
        tree_unlock(merging->table);
    }
    machine_interrupts_restore(were_on);
    return found;
}

static void tree_merge_flush(const struct merging *merging)
{
    uint64_t start = merging->merge->address;
    struct tlb_batch batch;

    tlb_begin(&batch, merging->tree);
    tlb_add_range(&batch, start, start + pte_span(merging->merge->level));
    tlb_commit(&batch);
}

/* ---- filling ---- */

static void tree_merge_copy_pages(const struct merging *merging)
{
    const struct pte *at = frame_pointer(merging->table);

    for (unsigned i = 0; i < PTE_ENTRIES; i++) {
        void *part = frame_pointer((struct pfn){merging->merge->block.index + i});

        if (pte_state(at[i], 1) == PTE_TRANSIT)
            machine_copy_frame(part, frame_pointer(pte_payload_frame(at[i])));
        else
            machine_clear_frame(part);
    }
}

/* Makes the large page, in no clock yet, with the reference of its future entry. */
static struct pfn tree_merge_fill(const struct merging *merging, bool in_place)
{
    struct pfn page = in_place ? merging->first : merging->merge->block;

    if (in_place)
        pmm_join(page, leaf_order(merging->merge->level), merging->order);
    else
        tree_merge_copy_pages(merging);
    if (merging->dirty)
        frame_record(page)->flags |= FRAME_DIRTY;
    return page;
}

/* ---- linking ---- */

static void link_page(const struct merging *merging, struct pfn page)
{
    const struct tree_merge *merge = merging->merge;
    unsigned index = pte_index(merge->address, merge->level);
    struct pte leaf = pte_leaf(page, merge->level, PTE_OWN, merge->rights);
    struct tlb_batch batch;
    struct pte old;
    bool were_on;

    if (!merging->used)
        leaf.word &= ~PTE_A;
    __atomic_add_fetch(merge->progress, 1, __ATOMIC_RELAXED);
    tlb_begin(&batch, merging->tree);
    were_on = machine_interrupts_off();
    tree_lock_patiently(merging->parent, were_on);
    rmap_reference(page, merging->parent, index);
    tree_globals.hooks->page_put(page, leaf_order(merge->level));
    old = tree_replace_entry(merging->parent, index, leaf);
    tree_unlock(merging->parent);
    machine_interrupts_restore(were_on);
    CHECK_MSG(pfn_equal(pte_frame(old), merging->table), "entry %lx at %lx names no table %x",
              old.word, merge->address, merging->table.index);
    /* No entry was present since the first flush, but paging-structure caches may lead to it. */
    tlb_add_page(&batch, merge->address);
    table_access_changed(&batch);
    tlb_release(&batch, (struct tlb_release){.entry = old, .level = (uint8_t)merge->level});
    tlb_commit(&batch);
}

enum tree_merged tree_merge(struct tree *tree, struct tree_merge *merge)
{
    struct merging merging = {
        .tree = tree, .merge = merge, .order = leaf_order(merge->level - 1), .first = PFN_NONE};
    enum tree_merged found;

    CHECK((merge->level == 2 || merge->level == 3) && !merge->rights.none);
    CHECK(merge->address % pte_span(merge->level) == 0 &&
          merge->address < lower_half_end(tree->levels));
    found = tree_merge_begin(&merging);
    if (found != TREE_MERGED && found != TREE_MERGE_COPIED)
        return found;
    /* holds: the table, dead; its pages; nothing fails from here on */
    tree_merge_flush(&merging);
    link_page(&merging, tree_merge_fill(&merging, found == TREE_MERGED));
    return found;
}

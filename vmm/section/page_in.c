/*
 * The pages of sections: made resident by faults, evicted by reclaim.
 *
 * The entry in the section's own tree is of class own, or COW if a snapshot has the page too, and
 * holds one reference (rule S1). It is the page's back pointer, or in the ring of that. Leaves in
 * spaces map only a page whose entry is own, or one of a frozen section: so neither a section nor
 * its snapshot sees what is written through the other. No processor walks the section's tree and
 * no window maps its root: it is always reached through the direct map.
 *
 * A fault holds the page from the lock of the section's table until the space's entry maps it. So
 * reclaim, which compares the page's count after its flush, sees either the hold or the leaf; and a
 * snapshot, which waits until no page has another reference, is after it or before.
 */
#include "cpu/machine.h"
#include "lib/bytes.h"
#include "paging/sole/sole.h"
#include "swapdisk/area.h"
#include "vmm/page/managed.h"
#include "vmm/page/page.h"
#include "vmm/page/transfer.h"
#include "vmm/section/internal.h"

/* The rights of the section's own entries; each mapping narrows them. */
static const struct rights entry_rights = {.write = true, .user = true};

/* ---- paths ---- */

/* Records the family in the leaf table of a place, which has no page yet or was copied with the
 * record. Interrupts are off. */
static void name_leaf_table(struct section *section, uint64_t at)
{
    struct tree_place place = plain_walk(&section->tree, at);

    while (place.level == 1 && !tree_lock(place.table)) {
        machine_pause();
        place = plain_walk(&section->tree, at);
    }
    if (place.level > 1)
        return;
    section_name_table(place.table, section->family);
    tree_unlock(place.table);
}

/* As tree_make_path, unless a snapshot is being made: it names the tables that it finds. */
static enum status make_named_path(struct section *section, uint64_t at, unsigned level,
                                   struct page_reserve *reserve, struct tlb_batch *batch)
{
    bool were_on = machine_interrupts_off();
    struct tree view = plain_view(&section->tree);
    enum status status = STATUS_AGAIN;

    if (!section_is_marked(section) && at < view.end)
        status = tree_make_path(&view, at, level, TREE_BUILD, &reserve->tables, batch);
    if (status == OK)
        name_leaf_table(section, at);
    machine_interrupts_restore(were_on);
    return status;
}

/* Returns the tables that the path needs at most; none for a place that the tree has no room for.
 */
static unsigned tables_needed(const struct section *section, uint64_t at, unsigned level)
{
    bool were_on = machine_interrupts_off();
    struct tree view = plain_view(&section->tree);
    unsigned needs = at < view.end ? tree_path_needs(&view, at, level, TREE_BUILD) : 0;

    machine_interrupts_restore(were_on);
    return needs;
}

enum status section_own_path(struct section *section, uint64_t at, unsigned level,
                             struct page_reserve *reserve)
{
    enum status status = tree_reserve_fill(&reserve->tables, tables_needed(section, at, level));
    struct tlb_batch batch;

    if (status == STATUS_NO_MEMORY)
        return page_reclaim_some() ? STATUS_AGAIN : STATUS_NO_MEMORY;
    if (status != OK)
        return status;
    tlb_begin(&batch, &section->tree);
    status = make_named_path(section, at, level, reserve, &batch);
    tlb_commit(&batch);
    if (status == STATUS_AGAIN)
        machine_relax();
    return status == OK ? STATUS_AGAIN : status;
}

/* ---- locks ---- */

bool section_lock_place(const struct tree_place *place, bool *were_on)
{
    const struct pte *entries = frame_pointer(place->table);

    *were_on = machine_interrupts_off();
    if (tree_lock(place->table)) {
        if (pte_read(&entries[place->index]).word == place->entry.word)
            return true;
        tree_unlock(place->table);
    }
    machine_interrupts_restore(*were_on);
    machine_pause();
    return false;
}

void section_unlock_place(const struct tree_place *place, bool were_on)
{
    tree_unlock(place->table);
    machine_interrupts_restore(were_on);
}

/* Walks again and locks the table if the entry is unchanged, and so is whether the path is own. */
static bool lock_unchanged(struct section *section, uint64_t at, const struct tree_place *place)
{
    struct tree_place now = plain_walk(&section->tree, at);
    const struct pte *entries = frame_pointer(now.table);

    if (!pfn_equal(now.table, place->table) || now.level != place->level || now.own != place->own ||
        !tree_lock(now.table))
        return false;
    if (pte_read(&entries[now.index]).word == place->entry.word)
        return true;
    tree_unlock(now.table);
    return false;
}

/* Locks the table of a page that is made or held. STATUS_RANGE: it is behind the end by now. Under
 * the lock this is decided, and so is whether a snapshot is being made: it changes the size, or the
 * mark, then passes the lock. */
static enum status lock_inside(const struct section_place *where, const struct tree_place *place,
                               bool *were_on)
{
    enum status status = STATUS_AGAIN;

    *were_on = machine_interrupts_off();
    if (lock_unchanged(where->section, where->at, place)) {
        if (where->at >= section_reach(where->section))
            status = STATUS_RANGE;
        else if (!section_is_marked(where->section))
            return OK;
        tree_unlock(place->table);
    }
    machine_interrupts_restore(*were_on);
    if (section_is_marked(where->section))
        machine_relax();
    machine_pause();
    return status;
}

/* ---- bringing ---- */

/* Takes the page that was set aside, and marks its record as a section's. */
static struct pfn section_take_page(struct page_reserve *reserve)
{
    struct pfn page = page_reserve_take(reserve);

    __atomic_or_fetch(&frame_record(page)->flags, FRAME_SHARED, __ATOMIC_RELAXED);
    frame_record(page)->page.slot = 0; /* recalled leaves (object.c): it has no slot */
    return page;
}

/* Maps a page that only the caller can find at the entry, and holds it for the caller. The table is
 * locked. Returns the old entry. */
static struct pte put_page(const struct section_place *where, const struct tree_place *place,
                           struct pfn page)
{
    CHECK(place->level == 1 && place->own);
    /* The processor that made the table may not have named it yet; reclaim may find the page. */
    section_name_table(place->table, where->section->family);
    rmap_reference(page, place->table, place->index);
    tree_hold(page);
    page_publish(page);
    return tree_replace_entry(place->table, place->index, pte_leaf(page, 1, PTE_OWN, entry_rights));
}

/* Makes a blank page on its first touch. */
static enum status make_page(struct page_reserve *reserve, const struct section_place *where,
                             const struct tree_place *place, struct pfn *page)
{
    enum status status = page_reserve_fill(reserve, FRAME_CLEARED);
    bool were_on;

    if (status == OK)
        status = lock_inside(where, place, &were_on);
    if (status != OK)
        return status;
    *page = section_take_page(reserve);
    put_page(where, place, *page);
    section_unlock_place(place, were_on);
    /* holds: page(count of the entry, the caller's) */
    return OK;
}

static enum status hold_page(const struct section_place *where, const struct tree_place *place,
                             struct pfn *page)
{
    bool were_on;
    enum status status = lock_inside(where, place, &were_on);

    if (status != OK)
        return status;
    *page = pte_frame(place->entry);
    tree_hold(*page);
    section_unlock_place(place, were_on);
    return OK;
}

/* Returns true if one entry alone references the page, in the section's locked table. Entries of
 * other sections come only from copies of tables, which raise the count first, and which the ring
 * has before they are linked. A copied table stands beside its source in the ring, so a second
 * entry is most often near the first; the whole ring is searched only if none is there. A
 * transfer cannot begin and end meanwhile: eviction awaits an answer of this processor. */
static bool is_sole_entry(struct pfn page)
{
    if (__atomic_load_n(&frame_record(page)->count, __ATOMIC_ACQUIRE) == 1)
        return true;
    return !sole_has_second(page) && tree_find_pointers(page, PTE_TRANSIT, NULL, 0) == 0 &&
           tree_find_pointers(page, PTE_LEAF, NULL, 0) == 1;
}

static bool is_in_transfer(struct pfn page)
{
    return (__atomic_load_n(&frame_record(page)->flags, __ATOMIC_ACQUIRE) & FRAME_IO) != 0;
}

/* Gives the section a copy of its own, in a locked table. No leaf maps the old page for it. The
 * other entries may be gone by now: then the old page ends with the count of this one. */
static void section_copy_page(struct page_reserve *reserve, const struct section_place *where,
                              const struct tree_place *place, struct pfn shared, struct pfn *page)
{
    CHECK(!pfn_equal(reserve->page, shared) && frame_record(shared)->count > 0);
    *page = section_take_page(reserve);
    machine_copy_frame(frame_pointer(*page), frame_pointer(shared));
    __atomic_or_fetch(&frame_record(*page)->flags, frame_record(shared)->flags & FRAME_DIRTY,
                      __ATOMIC_RELAXED);
    put_page(where, place, *page);
}

/* Holds a page for use that snapshots may have, too: makes the entry own for its last section,
 * otherwise copies the page. */
static enum status hold_own_page(struct page_reserve *reserve, const struct section_place *where,
                                 const struct tree_place *place, struct pfn *page)
{
    struct pfn shared = pte_frame(place->entry);
    bool were_on;
    bool sole;
    enum status status = lock_inside(where, place, &were_on);

    if (status != OK)
        return status;
    CHECK(place->own && pte_class(place->entry) == PTE_COW);
    sole = is_sole_entry(shared);
    if (is_in_transfer(shared) || (!sole && pfn_is_none(reserve->page))) {
        section_unlock_place(place, were_on);
        machine_relax();
        status = page_reserve_fill(reserve, FRAME_UNCLEARED);
        return status == OK ? STATUS_AGAIN : status;
    }
    if (sole) {
        pte_make_own((struct pte *)frame_pointer(place->table) + place->index);
        tree_hold(shared);
        *page = shared;
        section_unlock_place(place, were_on);
        return OK;
    }
    section_copy_page(reserve, where, place, shared, page);
    section_unlock_place(place, were_on);
    page_release(shared);
    return OK;
}

/* Puts the entry in transit with a new page, whose content will be read: other faults on it wait.
 * The page is not in the swap cache, since mappings write to it without a fault. */
static enum status begin_page(struct page_reserve *reserve, const struct section_place *where,
                              const struct tree_place *place, struct pfn *page)
{
    enum status status = page_reserve_fill(reserve, FRAME_UNCLEARED);
    bool were_on;

    CHECK(place->level == 1);
    if (status == OK)
        status = lock_inside(where, place, &were_on);
    if (status != OK)
        return status;
    *page = section_take_page(reserve);
    section_name_table(place->table, where->section->family); /* as in put_page */
    transfer_begin_in(*page, (struct tree_pointer){place->table, place->index}, entry_rights,
                      SLOT_NONE);
    section_unlock_place(place, were_on);
    return OK;
}

/* Reads a page from its slot, once for all mappings. The slot is freed, so the page counts as
 * written from now on. */
static enum status read_page(struct space *space, struct page_reserve *reserve,
                             const struct section_place *where, const struct tree_place *place,
                             struct pfn *page)
{
    struct slot slot = pte_slot(place->entry);
    enum status status;

    managed_ghost_hit(slot);
    status = begin_page(reserve, where, place, page);
    if (status != OK)
        return status;
    managed_returns(*page, slot);
    /* holds: page(count of the entry, the transfer's, FRAME_IO), slot(what was the entry's) */
    status = swap_read(slot, *page);
    __atomic_or_fetch(&frame_record(*page)->flags, FRAME_DIRTY, __ATOMIC_RELAXED);
    transfer_end(*page, &(struct transfer_end){
                            .result = status == OK ? TRANSFER_LEAF : TRANSFER_SLOT, .slot = slot});
    swap_release(slot);
    if (status != OK)
        page_release(*page);
    else if (space != NULL)
        count_event(&space->faults.swap_in);
    return status;
}

/* Fills the part of a page that the pager has; what was cut off from the section is zero. */
static enum status get_page(const struct section *section, uint64_t at, struct pfn page)
{
    uint64_t backed = __atomic_load_n(&section->backed, __ATOMIC_RELAXED);
    uint64_t bytes = backed > at ? min_u64(backed - at, PAGE_SIZE) : 0;
    enum status status =
        bytes > 0 ? section->pager->get(section->source, at / PAGE_SIZE, page) : OK;

    CHECK_MSG((frame_record(page)->flags & (FRAME_IO | FRAME_SHARED)) == (FRAME_IO | FRAME_SHARED),
              "frame %x is filled with flags %x", page.index, frame_record(page)->flags);
    memset((uint8_t *)frame_pointer(page) + bytes, 0, PAGE_SIZE - bytes);
    return status;
}

/* Asks the pager, once for all mappings. If it fails the entry is empty again. */
static enum status ask_pager(struct page_reserve *reserve, const struct section_place *where,
                             const struct tree_place *place, struct pfn *page)
{
    enum status status = begin_page(reserve, where, place, page);

    if (status != OK)
        return status;
    /* holds: page(count of the entry, the transfer's, FRAME_IO) */
    status = get_page(where->section, where->at, *page);
    transfer_end(*page,
                 &(struct transfer_end){.result = status == OK ? TRANSFER_LEAF : TRANSFER_TICKET,
                                        .ticket = pte_empty()});
    if (status != OK)
        page_release(*page);
    return status;
}

/* Returns true if the walk's end needs own tables above: tables that a snapshot has too are only
 * read. */
static bool needs_path(const struct tree_place *place, enum pte_state state, bool alone)
{
    return place->level > 1 || (!place->own && (state == PTE_LEAF ? alone : state != PTE_TRANSIT));
}

enum status section_bring(struct space *space, const struct section_place *where,
                          enum section_purpose purpose, struct page_reserve *reserve,
                          struct pfn *page)
{
    struct section *section = where->section;
    bool alone = purpose == SECTION_USE && !section->frozen;
    bool were_on = machine_interrupts_off();
    struct tree_place place = plain_walk(&section->tree, where->at);
    enum pte_state state = pte_state(place.entry, place.level);

    machine_interrupts_restore(were_on);
    if (where->at >= section_reach(section))
        return STATUS_RANGE;
    if (needs_path(&place, state, alone))
        return section_own_path(section, where->at, 1, reserve);
    switch (state) {
    case PTE_EMPTY:
        return section->pager->get == NULL ? make_page(reserve, where, &place, page)
                                           : ask_pager(reserve, where, &place, page);
    case PTE_LEAF:
        return alone && pte_class(place.entry) == PTE_COW
                   ? hold_own_page(reserve, where, &place, page)
                   : hold_page(where, &place, page);
    case PTE_SWAPPED: return read_page(space, reserve, where, &place, page);
    case PTE_TRANSIT: machine_relax(); return STATUS_AGAIN;
    default:
        PANIC("entry %lx (%s) of a section at %lx", place.entry.word, pte_state_name(state),
              where->at);
    }
}

/*
 * The pages of sections: made resident by faults, evicted by reclaim.
 *
 * The entry in the section's own tree is of class shared, too, and holds one reference. So only
 * shared leaves map a section's page, and the page's back pointer is the section's entry. The
 * record of that entry's table names the section. No processor walks the section's tree and no
 * window maps its root: it is always reached through the direct map.
 *
 * A fault holds the page from the lock of the section's table until the space's entry maps it. So
 * reclaim, which compares the page's count after its flush, sees either the hold or the leaf.
 */
#include "cpu/machine.h"
#include "lib/bytes.h"
#include "swapdisk/area.h"
#include "vmm/page/managed.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"
#include "vmm/page/transfer.h"
#include "vmm/section/internal.h"

/* The rights of the section's own entries; each mapping narrows them. */
static const struct rights entry_rights = {.write = true, .user = true};

/* ---- from a table to its section ---- */

/* Records in the table's frame which section it belongs to: the section's offset in the direct map,
 * in units of 16 bytes, fits into 48 bits. The table is locked. */
static void table_set_section(struct pfn table, const struct section *section)
{
    uint64_t place = ((uint64_t)(uintptr_t)section - DIRECT_MAP_BASE) / 16;
    struct frame *record = frame_record(table);

    CHECK_MSG(place >> 48 == 0 && (uintptr_t)section % 16 == 0, "a section at %p", section);
    record->table.ring_or_section = (uint32_t)place;
    record->table.section_high = (uint16_t)(place >> 32);
}

/* Returns the section of a locked table. The table is not dead and so keeps its section alive: the
 * drop of the tree waits for the lock. */
static struct section *section_of(struct pfn table)
{
    const struct frame *record = frame_record(table);
    uint64_t place = (uint64_t)record->table.section_high << 32 | record->table.ring_or_section;

    return phys_pointer((struct phys){place * 16});
}

/* ---- letting go ---- */

/* Visits a shared leaf of the page, in a locked table. */
typedef bool visit_leaf(struct pfn page, struct pfn table, unsigned index, struct pte *leaf);

static bool maps_as_shared(struct pte entry, struct pfn page)
{
    return pte_present(entry) && pte_class(entry) == PTE_SHARED &&
           pfn_equal(pte_frame(entry), page);
}

static const struct mapping *mapping_at_place(const struct mapping_index_node *node)
{
    return (const struct mapping *)((const char *)node - offsetof(struct mapping, place));
}

/* Visits the leaf of one mapping that maps the page, if its table can be locked. Returns the
 * visit's result. After a fork two mappings may share one table. */
static bool visit_mapping(const struct mapping *mapping, uint64_t at, struct pfn page,
                          visit_leaf *visit)
{
    uint64_t address = at + mapping->origin;
    struct tree_place place;
    struct pte *leaf;
    bool done;

    CHECK_MSG(address >= mapping->node.start && address < mapping->node.end,
              "place %lx is not in a mapping of %lx to %lx", at, mapping->node.start,
              mapping->node.end);
    place = tree_walk_by(TABLES_DIRECT, &mapping->space->tree, address);
    if (place.level > 1 || !maps_as_shared(place.entry, page) || !tree_lock(place.table))
        return false;
    leaf = (struct pte *)frame_pointer(place.table) + place.index;
    done = maps_as_shared(pte_read(leaf), page) && visit(page, place.table, place.index, leaf);
    tree_unlock(place.table);
    return done;
}

/* Visits the leaves of the page at a place of the section. A mapping's tree exists as long as the
 * mapping is in the index, whose lock is held; interrupts are off in its walk, so that no table of
 * it is freed (rule P5). */
static unsigned visit_leaves(struct section *section, uint64_t place, struct pfn page,
                             visit_leaf *visit)
{
    struct mapping_cursor cursor = {0};
    unsigned visited = 0;
    bool more = true;

    while (more) {
        bool were_on = section_lock(section);

        for (unsigned i = 0; i < SECTION_VISITS_TOGETHER && more; i++) {
            struct mapping_index_node *node =
                mapping_index_next(&section->mappings, &cursor, place, place + PAGE_SIZE);

            more = node != NULL;
            if (more)
                visited += visit_mapping(mapping_at_place(node), place, page, visit);
        }
        section_unlock(section, were_on);
    }
    return visited;
}

static bool section_page_take_accessed(struct pfn page, struct pfn table, unsigned index,
                                       struct pte *leaf)
{
    (void)page;
    (void)table;
    (void)index;
    return (__atomic_fetch_and(&leaf->word, ~PTE_A, __ATOMIC_ACQ_REL) & PTE_A) != 0;
}

static bool shared_take_accessed(struct section *section, uint64_t place, struct pfn page)
{
    return visit_leaves(section, place, page, section_page_take_accessed) > 0;
}

/* The leaf carries the rights; its region, or the one being created, holds the descriptor. */
static bool recall_leaf(struct pfn page, struct pfn table, unsigned index, struct pte *leaf)
{
    struct pte ticket;
    struct pte old;

    if (!descriptor_shared_ticket(pte_rights(pte_read(leaf)), &ticket))
        return false;
    old = tree_replace_entry(table, index, ticket);
    if ((old.word & PTE_D) != 0)
        __atomic_or_fetch(&frame_record(page)->flags, FRAME_DIRTY, __ATOMIC_RELAXED);
    return true;
}

unsigned section_recall(struct section *section, uint64_t place, struct pfn page)
{
    return visit_leaves(section, place, page, recall_leaf);
}

static struct section *shared_hold(struct tree_pointer at)
{
    struct section *section = section_of(at.table);

    return section_try_hold(section) ? section : NULL;
}

static bool shared_comes_again(const struct section *section)
{
    return section->pager->get != NULL;
}

static const struct reclaim_shared shared_pages = {.hold = shared_hold,
                                                   .release = section_put,
                                                   .take_accessed = shared_take_accessed,
                                                   .recall = section_recall,
                                                   .comes_again = shared_comes_again};

void section_start_reclaim(void)
{
    reclaim_set_shared(&shared_pages);
}

/* ---- bringing ---- */

/* Makes the section's tables down to the page's entry. */
static enum status section_page_make_path(struct page_reserve *reserve, struct tree *tree,
                                          uint64_t at)
{
    enum status status =
        tree_reserve_fill(&reserve->tables, tree_path_needs(tree, at, 1, TREE_BUILD));
    struct tlb_batch batch;

    if (status == STATUS_NO_MEMORY)
        return page_reclaim_some() ? STATUS_AGAIN : STATUS_NO_MEMORY;
    if (status != OK)
        return status;
    tlb_begin(&batch, tree);
    status = tree_make_path(tree, at, 1, TREE_BUILD, &reserve->tables, &batch);
    tlb_commit(&batch);
    if (status == STATUS_AGAIN)
        machine_relax();
    return status == OK ? STATUS_AGAIN : status;
}

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

/* As section_lock_place, for a page that is made or held. STATUS_RANGE: it is behind the end by
 * now. Under the lock this is decided: who makes the section smaller changes the size, then looks
 * at the entry behind the lock. */
static enum status lock_inside(const struct section *section, uint64_t at,
                               const struct tree_place *place, bool *were_on)
{
    if (!section_lock_place(place, were_on))
        return STATUS_AGAIN;
    if (at < section_reach(section))
        return OK;
    section_unlock_place(place, *were_on);
    return STATUS_RANGE;
}

/* The page set aside becomes the section's: its record says so from now on. The table is locked. */
static struct pfn section_take_page(struct page_reserve *reserve, const struct section *section,
                                    const struct tree_place *place)
{
    struct pfn page = page_reserve_take(reserve);

    __atomic_or_fetch(&frame_record(page)->flags, FRAME_SHARED, __ATOMIC_RELAXED);
    frame_record(page)->page.slot = 0; /* recalled leaves (object.c): it has no slot */
    table_set_section(place->table, section);
    return page;
}

/* Makes a blank page on its first touch. */
static enum status make_page(struct page_reserve *reserve, const struct section_place *where,
                             const struct tree_place *place, struct pfn *page)
{
    enum status status = page_reserve_fill(reserve, FRAME_CLEARED);
    bool were_on;

    if (status == OK)
        status = lock_inside(where->section, where->at, place, &were_on);
    if (status != OK)
        return status;
    *page = section_take_page(reserve, where->section, place);
    rmap_reference(*page, place->table, place->index);
    tree_hold(*page);
    page_publish(*page);
    tree_replace_entry(place->table, place->index, pte_leaf(*page, 1, PTE_SHARED, entry_rights));
    section_unlock_place(place, were_on);
    /* holds: page(count of the entry, the caller's) */
    return OK;
}

static enum status hold_page(const struct section_place *where, const struct tree_place *place,
                             struct pfn *page)
{
    bool were_on;
    enum status status = lock_inside(where->section, where->at, place, &were_on);

    if (status != OK)
        return status;
    *page = pte_frame(place->entry);
    tree_hold(*page);
    section_unlock_place(place, were_on);
    return OK;
}

/* Puts the entry in transit with a new page, whose content is to be read: others that want it
 * wait. The page is not in the swap cache, since mappings write to it without a fault. */
static enum status begin_page(struct page_reserve *reserve, const struct section_place *where,
                              const struct tree_place *place, struct pfn *page)
{
    enum status status = page_reserve_fill(reserve, FRAME_UNCLEARED);
    bool were_on;

    CHECK(place->level == 1);
    if (status == OK)
        status = lock_inside(where->section, where->at, place, &were_on);
    if (status != OK)
        return status;
    *page = section_take_page(reserve, where->section, place);
    transfer_begin_in(*page, (struct tree_pointer){place->table, place->index}, entry_rights,
                      SLOT_NONE);
    section_unlock_place(place, were_on);
    return OK;
}

/* Reads a page from its slot, once for all mappings. The slot goes, so that the page counts as
 * written from now on. */
static enum status read_page(struct space *space, struct page_reserve *reserve,
                             const struct section_place *where, const struct tree_place *place,
                             struct pfn *page)
{
    struct slot slot = pte_slot(place->entry);
    enum status status;

    managed_coming(slot);
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

enum status section_bring(struct space *space, const struct section_place *where,
                          struct page_reserve *reserve, struct pfn *page)
{
    struct section *section = where->section;
    bool were_on = machine_interrupts_off();
    struct tree_place place = tree_walk_by(TABLES_DIRECT, &section->tree, where->at);
    enum pte_state state = pte_state(place.entry, place.level);

    machine_interrupts_restore(were_on);
    if (where->at >= section_reach(section))
        return STATUS_RANGE;
    if (place.level > 1)
        return section_page_make_path(reserve, &section->tree, where->at);
    switch (state) {
    case PTE_EMPTY:
        return section->pager->get == NULL ? make_page(reserve, where, &place, page)
                                           : ask_pager(reserve, where, &place, page);
    case PTE_LEAF: return hold_page(where, &place, page);
    case PTE_SWAPPED: return read_page(space, reserve, where, &place, page);
    case PTE_TRANSIT: machine_relax(); return STATUS_AGAIN;
    default:
        PANIC("entry %lx (%s) of a section at %lx", place.entry.word, pte_state_name(state),
              where->at);
    }
}

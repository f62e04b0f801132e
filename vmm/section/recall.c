/*
 * Recall: the leaves of a section's page, in all spaces, become tickets again.
 *
 * The record of a section's leaf table names the section's family, whose index has all mappings.
 * One visit of them is not complete: it misses a leaf whose table another processor has locked, and
 * one in a copy of a table that is not linked yet. Such a leaf still has its count on the page. So
 * eviction gives up if a count remains, and resizing and snapshots repeat the visit.
 */
#include "cpu/machine.h"
#include "vmm/page/reclaim.h"
#include "vmm/section/internal.h"

/* ---- from a table to its sections ---- */

void section_name_table(struct pfn table, const struct section_family *family)
{
    uint64_t place = ((uint64_t)(uintptr_t)family - DIRECT_MAP_BASE) / 16;
    struct frame *record = frame_record(table);

    CHECK_MSG(place >> 48 == 0 && (uintptr_t)family % 16 == 0, "a family of sections at %p",
              family);
    record->table.ring_or_section = (uint32_t)place;
    record->table.section_high = (uint16_t)(place >> 32);
}

/* Returns the family of a locked table. The table is not dead and so keeps a section alive: the
 * drop of its tree waits for the lock. */
static struct section_family *family_of(struct pfn table)
{
    const struct frame *record = frame_record(table);
    uint64_t place = (uint64_t)record->table.section_high << 32 | record->table.ring_or_section;

    return phys_pointer((struct phys){place * 16});
}

/* ---- letting go ---- */

void section_flush(void)
{
    struct tlb_batch batch;

    tlb_begin(&batch, NULL);
    tlb_add_everything(&batch);
    tlb_commit(&batch);
}

/* Visits a leaf of the page, in a locked table; `copies`: of a private mapping. */
typedef bool visit_leaf(struct pfn page, struct pfn table, unsigned index, bool copies);

/* Leaves of shared mappings are shared, those of private ones COW (rule N6). */
static bool maps_page(struct pte entry, struct pfn page)
{
    return pte_present(entry) && pfn_equal(pte_frame(entry), page);
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
    bool entered;
    bool locked;
    bool done;

    CHECK_MSG(address >= mapping->node.start && address < mapping->node.end,
              "place %lx is not in a mapping of %lx to %lx", at, mapping->node.start,
              mapping->node.end);
    entered = tlb_walk_enter(&mapping->space->tree);
    place = tree_walk_by(TABLES_DIRECT, &mapping->space->tree, address);
    locked = place.level == 1 && maps_page(place.entry, page) && tree_lock(place.table);
    tlb_walk_leave(&mapping->space->tree, entered);
    if (!locked)
        return false;
    leaf = (struct pte *)frame_pointer(place.table) + place.index;
    done =
        maps_page(pte_read(leaf), page) && visit(page, place.table, place.index, mapping->copies);
    tree_unlock(place.table);
    return done;
}

/* Visits the leaves of the page at a place, in the mappings of all sections of a family: only those
 * of a section that has this page there map it. A mapping's tree exists as long as the
 * mapping is in the index, whose lock is held; its walk is announced, with interrupts off, so that
 * no table of it is freed (rule P5). */
static unsigned visit_leaves(struct section_family *family, uint64_t place, struct pfn page,
                             visit_leaf *visit)
{
    struct mapping_cursor cursor = {0};
    unsigned visited = 0;
    bool more = true;

    while (more) {
        bool were_on = section_lock_family(family);

        for (unsigned i = 0; i < SECTION_VISITS_TOGETHER && more; i++) {
            struct mapping_index_node *node =
                mapping_index_next(&family->mappings, &cursor, place, place + PAGE_SIZE);

            more = node != NULL;
            if (more)
                visited += visit_mapping(mapping_at_place(node), place, page, visit);
        }
        section_unlock_family(family, were_on);
    }
    return visited;
}

void section_forget_tables(struct section_family *family)
{
    struct mapping_cursor cursor = {0};
    bool more = true;

    while (more) {
        bool were_on = section_lock_family(family);

        for (unsigned i = 0; i < SECTION_VISITS_TOGETHER && more; i++) {
            struct mapping_index_node *node =
                mapping_index_next(&family->mappings, &cursor, 0, UINT64_MAX);

            more = node != NULL;
            if (more)
                __atomic_store_n(&mapping_at_place(node)->space->recent.window, SECTION_NO_WINDOW,
                                 __ATOMIC_RELAXED);
        }
        section_unlock_family(family, were_on);
    }
}

static struct pte *leaf_in(struct pfn table, unsigned index)
{
    return (struct pte *)frame_pointer(table) + index;
}

static bool section_page_take_accessed(struct pfn page, struct pfn table, unsigned index,
                                       bool copies)
{
    (void)page;
    (void)copies;
    return (__atomic_fetch_and(&leaf_in(table, index)->word, ~PTE_A, __ATOMIC_ACQ_REL) & PTE_A) !=
           0;
}

static bool shared_take_accessed(struct section_family *family, uint64_t place, struct pfn page)
{
    return visit_leaves(family, place, page, section_page_take_accessed) > 0;
}

/* Turns a leaf into a ticket with the leaf's rights; its region, or the one being created, holds
 * the descriptor. */
static bool recall_leaf(struct pfn page, struct pfn table, unsigned index, bool copies)
{
    struct pte leaf = pte_read(leaf_in(table, index));
    struct pte ticket;
    struct pte old;

    if (!descriptor_section_ticket(pte_rights(leaf), copies, &ticket))
        return false;
    old = tree_replace_entry(table, index, ticket);
    if ((old.word & PTE_D) != 0)
        __atomic_or_fetch(&frame_record(page)->flags, FRAME_DIRTY, __ATOMIC_RELAXED);
    return true;
}

unsigned section_recall(struct section_family *family, uint64_t place, struct pfn page)
{
    return visit_leaves(family, place, page, recall_leaf);
}

static struct section_family *shared_hold(struct tree_pointer at)
{
    struct section_family *family = family_of(at.table);

    return section_try_hold_family(family) ? family : NULL;
}

static bool shared_comes_again(const struct section_family *family)
{
    return family->pager->get != NULL;
}

static const struct reclaim_shared shared_pages = {.hold = shared_hold,
                                                   .release = section_put_family,
                                                   .take_accessed = shared_take_accessed,
                                                   .recall = section_recall,
                                                   .comes_again = shared_comes_again};

void section_start_reclaim(void)
{
    reclaim_set_shared(&shared_pages);
}

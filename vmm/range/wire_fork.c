/*
 * Forks of spaces with wired pages (rule A5): the child gets copies at once, and the parent keeps
 * its frames and its right to write to them.
 *
 * A fork shares the parent's tables. Until the fork ends the parent's paths stay shared, so writers
 * wait. Meanwhile the child's paths to wired pages become own, and copies replace the pages there.
 * After that only the parent references its wired pages and their tables, and they become own
 * again: first the pages, then the paths, so a write that finds an own path has nothing to copy.
 */
#include "cpu/machine.h"
#include "paging/kernel/layout.h"
#include "vmm/page/large.h"
#include "vmm/page/page.h"
#include "vmm/range/internal.h"

/* Makes the child's path to an address own, down to a level. */
static enum status wire_fork_make_path(struct space *child, uint64_t address, unsigned level)
{
    struct tree_reserve reserve = {0};
    enum status status;

    do {
        struct tlb_batch batch;

        status =
            tree_reserve_fill(&reserve, tree_path_needs(&child->tree, address, level, TREE_CHANGE));
        if (status == STATUS_NO_MEMORY && page_reclaim_some())
            status = STATUS_AGAIN;
        if (status != OK)
            continue;
        tlb_begin(&batch, &child->tree);
        status = tree_make_path(&child->tree, address, level, TREE_CHANGE, &reserve, &batch);
        tlb_commit(&batch);
        if (status == STATUS_AGAIN)
            machine_relax();
    } while (status == STATUS_AGAIN);
    tree_reserve_drain(&reserve);
    return status;
}

/* Allocates a page of this level and copies another page to it. */
static enum status make_copy(struct pfn page, unsigned level, struct pfn *copy)
{
    enum status status =
        level == 1 ? page_alloc(FRAME_UNCLEARED, copy) : large_alloc(level, FRAME_UNCLEARED, copy);

    for (uint32_t i = 0; status == OK && i < pte_span(level) / PAGE_SIZE; i++)
        machine_copy_frame(frame_pointer((struct pfn){copy->index + i}),
                           frame_pointer((struct pfn){page.index + i}));
    return status;
}

/* Locks a table of the child; retries while reclaim has it. Returns whether interrupts were on. */
static bool wire_fork_lock_table(struct pfn table)
{
    for (;;) {
        bool were_on = machine_interrupts_off();

        if (tree_lock(table))
            return were_on;
        machine_interrupts_restore(were_on);
        machine_pause();
    }
}

/* Maps a copy of a wired page in the child, whose path to it is own. */
static enum status wire_fork_map_copy(struct tree_place place, struct pfn page)
{
    struct rights rights = pte_rights(place.entry);
    struct pfn copy;
    enum status status = make_copy(page, place.level, &copy);
    bool were_on;

    CHECK(place.own);
    if (status != OK)
        return status;
    were_on = wire_fork_lock_table(place.table);
    rmap_reference(copy, place.table, place.index);
    if (place.level == 1)
        page_publish(copy);
    else
        large_publish(copy);
    (void)tree_replace_entry(place.table, place.index,
                             pte_page(copy, place.level, PTE_OWN, rights));
    tree_unlock(place.table);
    machine_interrupts_restore(were_on);
    /* No processor runs the child: nothing to flush. */
    page_release(page);
    return OK;
}

/* Returns the place where the child's walk to a wired page of the parent ends, and that page. */
static struct tree_place find_page(const struct space *child, uint64_t address, struct pfn *page)
{
    bool were_on = machine_interrupts_off();
    struct tree_place place = tree_walk(&child->tree, address);

    CHECK_MSG(place.level <= 3 && space_entry_page(place.entry, place.level, page) &&
                  page_is_wired(*page),
              "entry %lx of level %u at %lx names no wired page", place.entry.word, place.level,
              address);
    machine_interrupts_restore(were_on);
    return place;
}

/* Copies the page at an address and sets *bytes to its size. If no block is free for a large page,
 * splits the page and sets 0: the caller then copies the parts. */
static enum status copy_page(struct space *child, uint64_t address, uint64_t *bytes)
{
    struct pfn page;
    struct tree_place place = find_page(child, address, &page);
    unsigned level = place.level;
    enum status status = OK;

    if (!place.own)
        status = wire_fork_make_path(child, address, level);
    place = find_page(child, address, &page);
    if (status == OK)
        status = wire_fork_map_copy(place, page);
    *bytes = status == OK ? pte_span(level) : 0;
    return status == STATUS_NO_MEMORY && level > 1 ? wire_fork_make_path(child, address, level - 1)
                                                   : status;
}

static enum status wire_fork_copy_pages(struct space *child, struct space *parent)
{
    const struct region *region = region_find(parent, 0);
    enum status status = OK;

    for (; region != NULL && status == OK; region = region_next(parent, region)) {
        uint64_t at = region->what.wired ? region->node.start : region->node.end;

        while (at < region->node.end && status == OK) {
            uint64_t bytes;

            status = copy_page(child, at, &bytes);
            at += bytes;
        }
    }
    return status;
}

/* Makes the paths to wired pages own. No other space references their tables now. */
static void wire_fork_own_paths(struct space *parent, struct tlb_batch *batch)
{
    const struct region *region = region_find(parent, 0);

    for (; region != NULL; region = region_next(parent, region)) {
        uint64_t at = region->what.wired ? region->node.start : region->node.end;

        while (at < region->node.end) {
            uint64_t next = tree_own_path(&parent->tree, at, 1, batch);

            CHECK_MSG(next > at, "the path to %lx ends at %lx", at, next);
            at = next;
        }
    }
}

void fork_unmap_child(struct space *child)
{
    struct tlb_batch batch;

    tlb_begin(&batch, &child->tree);
    tree_replace_range(&child->tree, 0, lower_half_end(child->tree.levels), pte_empty(), &batch);
    tlb_commit(&batch);
}

enum status wire_fork(struct space *child, struct space *parent)
{
    enum status status = wire_fork_copy_pages(child, parent);
    struct tlb_batch batch;

    CHECK(parent->wired > 0 && child->tree.processors == 0);
    if (status != OK)
        fork_unmap_child(child);
    wire_mend(parent, 0, lower_half_end(parent->tree.levels));
    tlb_begin(&batch, &parent->tree);
    wire_fork_own_paths(parent, &batch);
    /* Reads may have cached translations without the right to write meanwhile. */
    tlb_add_space(&batch);
    tlb_commit(&batch);
    return status;
}

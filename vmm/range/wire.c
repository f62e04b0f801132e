/*
 * Wiring: makes the pages of a range present, and keeps them so.
 *
 * One entry maps each page of a wired region. The entry is own or withheld, on a path of own
 * tables, and the page is in no clock (vmm/page/page.h). A write fault makes it so whatever the
 * rights are; so a later right to write needs no page. Calls that would break this state hold the
 * space's lock. They end the wire with the mapping, or restore the state (fork, change of rights).
 */
#include "cpu/machine.h"
#include "vmm/page/page.h"
#include "vmm/range/internal.h"
#include "vmm/space/commit.h"

/* ---- pages ---- */

static bool is_own_page(struct tree_place place)
{
    return place.own && pte_state(place.entry, place.level) == PTE_LEAF &&
           pte_class(place.entry) == PTE_OWN;
}

/* Wires the page at an address if it is present and own. Returns its size in bytes; 0: populate it
 * and look again. */
static uint64_t wire_page(const struct space *space, uint64_t address)
{
    bool were_on = machine_interrupts_off();
    struct tree_place place = tree_walk(&space->tree, address);
    uint64_t bytes = 0;

    if (is_own_page(place) && tree_lock(place.table)) {
        place.entry = pte_read((const struct pte *)frame_pointer(place.table) + place.index);
        if (is_own_page(place) && page_wire(pte_frame(place.entry)))
            bytes = pte_span(place.level);
        tree_unlock(place.table);
    }
    machine_interrupts_restore(were_on);
    if (bytes == 0 && is_own_page(place))
        machine_pause(); /* another processor has the table or the page */
    return bytes;
}

static void unwire_page(struct pte *at, unsigned level, void *context)
{
    struct pfn page;

    (void)context;
    if (space_entry_page(pte_read(at), level, &page) && page_is_wired(page))
        page_unwire(page);
}

/* Populates and wires the pages of a region. No large page crosses its ends. If it fails, some
 * pages are wired. */
static enum status wire_region(struct space *space, const struct region *region)
{
    uint64_t end = region->node.end;
    struct fault_access access = {.write = true, .wire = true};
    enum status status = OK;
    uint64_t at = region->node.start;

    CHECK(!region->what.wired && region->what.kind == REGION_PRIVATE); /* rule A5 */
    while (at < end && status == OK) {
        uint64_t bytes = wire_page(space, at);
        unsigned filled;

        if (bytes == 0)
            status = space_bring(space, region, at, end, access, &filled);
        at += bytes;
    }
    CHECK(at <= end);
    return status;
}

/* Makes a wired page's COW entry own again, where a change of rights or a fork left it COW. */
static void make_wired_own(struct pte *at, unsigned level, void *context)
{
    struct pte entry = pte_read(at);
    struct pfn page;

    (void)context;
    if (space_entry_page(entry, level, &page) && page_is_wired(page) && pte_present(entry) &&
        pte_class(entry) == PTE_COW)
        pte_make_own(at);
}

void wire_mend(struct space *space, uint64_t start, uint64_t end)
{
    const struct region *region = space->wired > 0 ? region_find(space, start) : NULL;

    for (; region != NULL && region->node.start < end; region = region_next(space, region)) {
        if (region->what.wired)
            space_visit_pages(space, max_u64(region->node.start, start),
                              min_u64(region->node.end, end), make_wired_own, NULL);
    }
}

/* ---- ranges ---- */

/* The pages that a call has to wire. */
struct work {
    uint64_t pages;   /* not wired yet */
    uint64_t promise; /* of these: not committed yet */
    bool denied;      /* part of the range has no access, or is shared */
};

static struct work wire_work_in(const struct space *space, uint64_t start, uint64_t end)
{
    const struct region *region = region_find(space, start);
    struct work work = {0};

    for (; region != NULL && region->node.start < end; region = region_next(space, region)) {
        uint64_t pages =
            (min_u64(region->node.end, end) - max_u64(region->node.start, start)) / PAGE_SIZE;

        if (region->what.wired)
            continue;
        work.pages += pages;
        work.promise += region->what.committed ? 0 : pages;
        work.denied = work.denied || region->what.descriptor->rights.none ||
                      region_has_section(region->what.kind);
    }
    CHECK(work.promise <= work.pages && work.pages <= (end - start) / PAGE_SIZE);
    return work;
}

/* Unwires the pages of the wired regions of a range; or, after a failed wire, of the regions that
 * are not wired yet. */
static void unwire_pages(struct space *space, uint64_t start, uint64_t end, bool of_wired)
{
    const struct region *region = region_find(space, start);

    for (; region != NULL && region->node.start < end; region = region_next(space, region)) {
        if (region->what.wired == of_wired)
            space_visit_pages(space, region->node.start, region->node.end, unwire_page, NULL);
    }
}

/* Wires the regions of a range; on failure unwires them again. No region and no entry crosses the
 * range's ends. */
static enum status wire_regions(struct space *space, uint64_t start, uint64_t end)
{
    const struct region *region = region_find(space, start);
    enum status status = OK;

    for (; region != NULL && region->node.start < end && status == OK;
         region = region_next(space, region)) {
        if (!region->what.wired)
            status = wire_region(space, region);
    }
    if (status == OK) {
        region_settle(space, start, end, true);
        return OK;
    }
    unwire_pages(space, start, end, false);
    region_merge_range(space, start, end);
    return status;
}

/* Cuts entries and regions at the ends of a range. May fail with STATUS_NO_MEMORY. */
static enum status wire_cut(struct space *space, uint64_t start, uint64_t end)
{
    struct tlb_batch batch;
    enum status status;

    tlb_begin(&batch, &space->tree);
    status = tree_prepare_range(&space->tree, start, end, &batch);
    tlb_commit(&batch);
    return status == OK ? region_cut(space, start, end) : status;
}

static enum status wire_accounted(struct space *space, uint64_t start, uint64_t end,
                                  const struct work *work, bool *came)
{
    enum status status = commit_charge(work->promise);

    if (status != OK)
        return status;
    status = wire_cut(space, start, end);
    if (status == OK) {
        *came = true;
        status = wire_regions(space, start, end);
    }
    if (status != OK)
        commit_uncharge(work->promise);
    return status;
}

static enum status try_wire(struct space *space, uint64_t start, uint64_t end, bool *came)
{
    struct work work;
    enum status status;

    if (region_find_covered(space, start, end) == NULL)
        return STATUS_NOT_FOUND;
    work = wire_work_in(space, start, end);
    if (work.denied)
        return STATUS_DENIED;
    if (work.pages == 0)
        return OK;
    status = wire_charge(work.pages);
    if (status != OK)
        return status;
    status = wire_accounted(space, start, end, &work, came);
    if (status != OK)
        wire_uncharge(work.pages);
    return status;
}

enum status space_wire(struct space *space, uint64_t start, uint64_t size)
{
    enum status status = space_check_range(space, start, size);
    bool came = false; /* populating has begun: it evicts by itself, so a retry is useless */

    if (status != OK)
        return status;
    do {
        space_lock(space);
        status = try_wire(space, start, start + size, &came);
        space_unlock(space);
    } while (status == STATUS_NO_MEMORY && !came && page_reclaim_some());
    return status;
}

static enum status try_unwire(struct space *space, uint64_t start, uint64_t end)
{
    uint64_t wired = space->wired;
    enum status status;

    if (region_find_covered(space, start, end) == NULL)
        return STATUS_NOT_FOUND;
    if (wire_work_in(space, start, end).pages == (end - start) / PAGE_SIZE)
        return OK;
    status = wire_cut(space, start, end);
    if (status != OK)
        return status;
    unwire_pages(space, start, end, true);
    region_settle(space, start, end, false);
    CHECK(space->wired <= wired);
    wire_uncharge(wired - space->wired);
    return OK;
}

enum status space_unwire(struct space *space, uint64_t start, uint64_t size)
{
    enum status status = space_check_range(space, start, size);

    if (status != OK)
        return status;
    do {
        space_lock(space);
        status = try_unwire(space, start, start + size);
        space_unlock(space);
    } while (status == STATUS_NO_MEMORY && page_reclaim_some());
    return status;
}

/* ---- mappings that come with their pages ---- */

static enum status wire_fill(struct space *space, uint64_t start, uint64_t end,
                             const struct region_attributes *what, bool wired, bool *came)
{
    struct region_attributes apart = *what;
    const struct region *region;
    enum status status;

    apart.wired = false;
    apart.apart = REGION_POPULATES;
    status = space_fill_range(space, start, end, &apart, BLANK_TICKETS);
    if (status != OK)
        return status;
    *came = true;
    region = region_find(space, start);
    if (wired)
        status = wire_region(space, region);
    else if (!what->descriptor->rights.none)
        status = space_populate(space, region, start, end);
    if (status != OK)
        space_fill_undo(space, start, end, false);
    return status;
}

enum status space_fill_now(struct space *space, uint64_t start, uint64_t end,
                           const struct region_attributes *what, bool wired, bool *came)
{
    uint64_t pages = wired ? (end - start) / PAGE_SIZE : 0;
    enum status status = wire_charge(pages);

    CHECK(start < end && what->descriptor != NULL && what->kind == REGION_PRIVATE);
    if (status != OK)
        return status;
    status = wire_fill(space, start, end, what, wired, came);
    if (status != OK)
        wire_uncharge(pages);
    return status;
}

void space_fill_keep(struct space *space, uint64_t start, uint64_t end, bool wired)
{
    region_settle(space, start, end, wired);
}

/* Cannot fail: the region has not merged, and its boundary paths are own since it was filled. */
void space_fill_undo(struct space *space, uint64_t start, uint64_t end, bool wired)
{
    enum status status = space_empty_range(space, region_find(space, start), start, end);

    CHECK_MSG(status == OK, "%lx to %lx does not go again: %d", start, end, (int)status);
    if (wired)
        wire_uncharge((end - start) / PAGE_SIZE);
}

/* Advice on ranges, and queries of regions. */
#include "cpu/machine.h"
#include "paging/tree/run.h"
#include "vmm/page/page.h"
#include "vmm/range/collapse.h"
#include "vmm/range/internal.h"
#include "vmm/section/section.h"
#include "vmm/space/stack.h"

/* The part of a range that lies in one region. */
struct part {
    uint64_t start;
    uint64_t end;
};

static struct part advise_part_of(const struct region *region, uint64_t start, uint64_t end)
{
    return (struct part){.start = max_u64(region->node.start, start),
                         .end = min_u64(region->node.end, end)};
}

/* ---- will need ---- */

static enum status advise_populate(struct space *space, uint64_t start, uint64_t end)
{
    const struct region *region = region_find_covered(space, start, end);
    enum status status = OK;

    for (; region != NULL && region->node.start < end && status == OK;
         region = region_next(space, region)) {
        struct part part = advise_part_of(region, start, end);

        if (!region->what.descriptor->rights.none)
            status = space_populate(space, region, part.start, part.end);
    }
    return status;
}

/* ---- don't need ---- */

/* The range ends at end, begins in this region, and is covered. */
static bool any_is_wired(const struct space *space, const struct region *region, uint64_t end)
{
    while (!region->what.wired && region->node.end < end)
        region = region_next(space, region);
    return region->what.wired;
}

/* Discards the content of a run's pages from an index on. */
__attribute__((noinline)) static void discard_rest(const struct tree_run *run, unsigned from,
                                                   struct pte ticket)
{
    struct tlb_batch batch;

    CHECK(from < run->count);
    tlb_begin(&batch, run->tree);
    tree_run_replace_rest(run, from, ticket, &batch);
    tlb_commit(&batch);
}

/* Discards the content of pages of one leaf table that lie in one region. Returns false if the
 * range is another one. */
static bool discard_run(struct space *space, const struct region *region, uint64_t start,
                        uint64_t end)
{
    struct pte ticket = region->what.descriptor->ticket;
    struct tree_run run;
    unsigned done;

    if (end > region->node.end || !tree_run_find(&run, &space->tree, start, end) ||
        run.bottom > 1 || !tree_run_is_there(&run))
        return false;
    done = tree_run_replace(&run, ticket);
    if (done < run.count)
        discard_rest(&run, done, ticket);
    return true;
}

/* Discards the content of a range. Prepares every boundary first, and cannot fail afterwards (rule
 * C7). */
__attribute__((noinline)) static enum status
discard_range(struct space *space, const struct region *first, uint64_t start, uint64_t end)
{
    const struct region *region = first;
    enum status status = OK;
    struct tlb_batch batch;

    tlb_begin(&batch, &space->tree);
    for (; region != NULL && region->node.start < end && status == OK;
         region = region_next(space, region)) {
        struct part part = advise_part_of(region, start, end);

        status = tree_prepare_range(&space->tree, part.start, part.end, &batch);
    }
    for (region = first; region != NULL && region->node.start < end && status == OK;
         region = region_next(space, region)) {
        struct part part = advise_part_of(region, start, end);

        tree_replace_range(&space->tree, part.start, part.end, region->what.descriptor->ticket,
                           &batch);
    }
    tlb_commit(&batch);
    return status;
}

static enum status advise_discard(struct space *space, const struct region *first, uint64_t start,
                                  uint64_t end)
{
    if (any_is_wired(space, first, end))
        return STATUS_BUSY;
    return discard_run(space, first, start, end) ? OK : discard_range(space, first, start, end);
}

/* ---- walks over the pages of a range ---- */

void space_visit_pages(const struct space *space, uint64_t start, uint64_t end,
                       void (*visit)(struct pte *at, unsigned level, void *context), void *context)
{
    while (start < end) {
        bool were_on = machine_interrupts_off();
        struct tree_place place = tree_walk(&space->tree, start);
        uint64_t step = pte_span(place.level);
        bool done = place.level > 3; /* above any page's level */

        if (!done && tree_lock(place.table)) {
            visit((struct pte *)frame_pointer(place.table) + place.index, place.level, context);
            tree_unlock(place.table);
            done = true;
        }
        machine_interrupts_restore(were_on);
        if (done)
            start = round_down(start, step) + step;
        else
            machine_pause(); /* a fault holds the table's lock briefly (rule P4) */
    }
}

bool space_entry_page(struct pte entry, unsigned level, struct pfn *page)
{
    switch (pte_state(entry, level)) {
    case PTE_LEAF: *page = pte_frame(entry); break;
    case PTE_WITHHELD: *page = pte_payload_frame(entry); break;
    default: return false;
    }
    return !zero_ladder_has(*page);
}

/* Clears A and makes the page the next to be examined. No flush: a cached translation leaves the
 * bit clear, which reclaim tolerates (rule R3). Large pages are in no clock. */
static void advise_deactivate(struct pte *at, unsigned level, void *context)
{
    struct pte entry = pte_read(at);
    struct pfn page;

    (void)context;
    if (level > 1 || !space_entry_page(entry, level, &page))
        return;
    if (pte_present(entry))
        __atomic_and_fetch(&at->word, ~PTE_A, __ATOMIC_ACQ_REL);
    page_deactivate(page);
}

/* ---- sequential ---- */

static uint8_t sequential_order = AROUND_MOST;

void space_set_around(unsigned pages)
{
    CHECK(pages >= 1 && pages <= 1U << AROUND_MOST && (pages & (pages - 1)) == 0);
    sequential_order = (uint8_t)__builtin_ctz(pages);
}

/* Sets the hint region by region, since rights may differ. A hint changes no meaning, so after
 * STATUS_NO_MEMORY some regions may have it. */
static enum status hint_around(struct space *space, uint64_t start, uint64_t end, uint8_t around)
{
    enum status status = OK;

    for (uint64_t at = start; at < end && status == OK;) {
        const struct region *region = region_find(space, at);
        const struct descriptor *now = region->what.descriptor;
        struct page_hint hint = {.level = now->page_level, .around = around};
        struct part part = advise_part_of(region, at, end);
        struct descriptor *descriptor;

        CHECK(part.start == at && part.end > at);
        at = part.end;
        if (now->shared)
            section_set_around(space, part.start, part.end, around);
        if (now->around == around || now->shared)
            continue;
        status = descriptor_with_hint(now->rights, hint, &descriptor);
        if (status != OK)
            break;
        status = space_change_descriptor(space, part.start, part.end, descriptor);
        descriptor_put(descriptor, 1);
    }
    return status;
}

static enum status advise(struct space *space, uint64_t start, uint64_t end,
                          enum space_advice advice)
{
    const struct region *first = region_find_covered(space, start, end);

    if (first == NULL)
        return STATUS_NOT_FOUND;
    switch (advice) {
    case SPACE_WILL_NEED: return advise_populate(space, start, end);
    case SPACE_DONT_NEED: return advise_discard(space, first, start, end);
    case SPACE_SEQUENTIAL: return hint_around(space, start, end, sequential_order);
    case SPACE_RANDOM: return hint_around(space, start, end, 0);
    case SPACE_COLD: space_visit_pages(space, start, end, advise_deactivate, NULL); return OK;
    case SPACE_COLLAPSE: return collapse_range(space, start, end);
    }
    return STATUS_RANGE;
}

enum status space_advise(struct space *space, uint64_t start, uint64_t size,
                         enum space_advice advice)
{
    enum status status = space_check_range(space, start, size);

    if (status != OK)
        return status;
    do {
        space_lock(space);
        status = advise(space, start, start + size, advice);
        space_unlock(space);
        /* Evicting single pages hardly ever frees a block of 2 MiB. */
    } while (status == STATUS_NO_MEMORY && advice != SPACE_COLLAPSE && page_reclaim_some());
    return status;
}

/* ---- query ---- */

static void count_page(struct pte *at, unsigned level, void *context)
{
    struct pfn page;

    if (space_entry_page(pte_read(at), level, &page))
        *(uint64_t *)context += pte_span(level) / PAGE_SIZE;
}

enum status space_query(struct space *space, uint64_t address, struct space_view *view)
{
    const struct region *region;

    space_lock(space);
    region = region_find(space, address);
    if (region != NULL) {
        bool guard = region->what.kind == REGION_GUARD;

        *view = (struct space_view){.start = region->node.start,
                                    .end = region->node.end,
                                    .rights = guard ? (struct rights){.none = true}
                                                    : region->what.descriptor->rights,
                                    .kind = region->what.kind,
                                    .committed = region->what.committed,
                                    .wired = region->what.wired};
        space_visit_pages(space, view->start, view->end, count_page, &view->resident);
    }
    space_unlock(space);
    return region != NULL ? OK : STATUS_NOT_FOUND;
}

/* ---- stacks ---- */

/* No stack pointer lies in the region. */
#define NO_POINTER UINT64_MAX

/* Returns the lowest pointer in a region, or NO_POINTER. */
static uint64_t lowest_pointer(const struct region *region, const uint64_t *pointers,
                               unsigned count)
{
    uint64_t lowest = NO_POINTER;

    for (unsigned i = 0; i < count; i++) {
        if (pointers[i] > region->node.start && pointers[i] <= region->node.end)
            lowest = min_u64(lowest, pointers[i]);
    }
    return lowest;
}

/* Returns the end of the part below the pointer that nothing needs; the region's start: none. */
static uint64_t stack_free_end(const struct region *region, uint64_t pointer)
{
    CHECK(pointer > region->node.start && pointer <= region->node.end);
    if (pointer - region->node.start <= STACK_RED_ZONE)
        return region->node.start;
    return round_down(pointer - STACK_RED_ZONE, PAGE_SIZE);
}

static enum status trim_region(struct space *space, const struct region *region, uint64_t pointer,
                               uint64_t *pages)
{
    uint64_t start = region->node.start;
    uint64_t end = stack_free_end(region, pointer);
    uint64_t resident = 0;
    enum status status;

    if (end == start)
        return OK;
    space_visit_pages(space, start, end, count_page, &resident);
    if (resident == 0)
        return OK;
    status = advise_discard(space, region, start, end);
    *pages += status == OK ? resident : 0;
    return status;
}

static enum status trim_locked(struct space *space, const uint64_t *pointers, unsigned count,
                               uint64_t *pages)
{
    const struct region *region = region_find(space, 0);
    enum status status = OK;

    for (; region != NULL && status == OK; region = region_next(space, region)) {
        uint64_t pointer =
            region->what.stack ? lowest_pointer(region, pointers, count) : NO_POINTER;

        if (pointer != NO_POINTER && !region->what.wired)
            status = trim_region(space, region, pointer, pages);
    }
    return status;
}

enum status space_trim_stacks(struct space *space, const uint64_t *pointers, unsigned count,
                              uint64_t *pages)
{
    enum status status;

    do {
        space_lock(space);
        status = trim_locked(space, pointers, count, pages);
        space_unlock(space);
    } while (status == STATUS_NO_MEMORY && page_reclaim_some());
    return status;
}

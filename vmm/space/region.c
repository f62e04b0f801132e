/* Regions of an address space: their range tree, merging and splitting. */
#include "vmm/space/region.h"
#include "cpu/machine.h"
#include "vmm/space/commit.h"

static uint32_t region_limit = UINT32_MAX;

const struct region *space_region_at(struct space *space, uint64_t address)
{
    const struct region *region = region_find(space, address);

    return region != NULL && region->node.start <= address ? region : NULL;
}

/* ---- one region ---- */

/* Limits the regions of each space: a call that would exceed it fails with STATUS_LIMIT. A fork
 * gets all regions of its parent anyway. */
void space_set_region_limit(uint32_t regions)
{
    region_limit = regions != 0 ? regions : UINT32_MAX;
}

/* Nodes of the tree count the descriptors of their regions; neighbours often have the same. */
static void count_descriptors(const struct tree_range *ranges, unsigned count, bool held)
{
    const struct region *regions = (const struct region *)ranges;
    unsigned run;

    for (unsigned i = 0; i < count; i += run) {
        struct descriptor *descriptor = regions[i].what.descriptor;

        for (run = 1; i + run < count && regions[i + run].what.descriptor == descriptor;)
            run++;
        if (descriptor != NULL && held)
            descriptor_hold(descriptor, run);
        else if (descriptor != NULL)
            descriptor_put(descriptor, run);
    }
}

enum status region_own(struct space *space, uint64_t start, uint64_t end)
{
    return range_tree_own(&space->regions, start, end, count_descriptors);
}

/* Returns an own region, to be changed except in its range. */
static inline struct region *region_write(const struct space *space, const struct region *region)
{
    if (space->regions.shared)
        CHECK_MSG(range_tree_is_own(&space->regions, region->node.start),
                  "the region at %lx is in a node of several spaces", region->node.start);
    return (struct region *)region;
}

/* Inserts a region into a gap; takes over the caller's count of the descriptor. */
static inline enum status region_create(struct space *space, uint64_t start, uint64_t end,
                                        const struct region_attributes *what)
{
    struct region region = {.node = {start, end}, .what = *what};
    enum status status;

    if (space->region_count >= region_limit)
        return STATUS_LIMIT;
    status =
        range_tree_insert(&space->regions, (const struct tree_range *)&region, count_descriptors);
    if (status == OK)
        space->region_count++;
    return status;
}

/* Removes the region at start, with its count of the descriptor, and sets *gone to it. */
static inline void region_take(struct space *space, uint64_t start, struct region *gone)
{
    range_tree_remove(&space->regions, start, (struct tree_range *)gone);
    CHECK(space->region_count > 0);
    space->region_count--;
    if (gone->what.descriptor != NULL)
        descriptor_put(gone->what.descriptor, 1);
}

/* Adds the region at next to the one at start. */
__attribute__((noinline)) static void region_join(struct space *space, uint64_t start,
                                                  uint64_t next)
{
    struct region gone;

    region_take(space, next, &gone);
    range_tree_resize(&space->regions, start, start, gone.node.end);
}

/* Merges a region with its successor if they are adjacent and have equal attributes. Returns true
 * if it did: then pointers to regions have ended. */
static inline bool region_merge_next(struct space *space, const struct region *region)
{
    const struct region *next = region_next(space, region);

    if (next == NULL || next->node.start != region->node.end ||
        !attributes_equal(&region->what, &next->what))
        return false;
    region_join(space, region->node.start, next->node.start);
    return true;
}

/* ---- ranges ---- */

/* Adds the range to a neighbour with equal attributes. Returns false if there is none. */
static bool region_extend_neighbour(struct space *space, struct region_gap gap, uint64_t start,
                                    uint64_t end, const struct region_attributes *what)
{
    if (gap.before != NULL && gap.before->node.end == start &&
        attributes_equal(&gap.before->what, what)) {
        range_tree_resize(&space->regions, gap.before->node.start, gap.before->node.start, end);
        (void)region_merge_next(space, gap.before);
    } else if (gap.next != NULL && gap.next->node.start == end &&
               attributes_equal(&gap.next->what, what)) {
        range_tree_resize(&space->regions, end, start, gap.next->node.end);
    } else {
        return false;
    }
    if (what->descriptor != NULL)
        descriptor_put(what->descriptor, 1);
    return true;
}

enum status region_add(struct space *space, struct region_gap gap, uint64_t start, uint64_t end,
                       const struct region_attributes *what)
{
    enum status status = OK;

    if (space->regions.shared) {
        status = region_own(space, start, end);
        gap = region_find_gap(space, start);
    }
    if (status == OK && !region_extend_neighbour(space, gap, start, end, what))
        status = region_create(space, start, end, what);
    if (status == OK && what->committed)
        space->committed += (end - start) / PAGE_SIZE;
    return status;
}

static enum status region_cut_at(struct space *space, uint64_t address)
{
    const struct region *region = region_find(space, address);
    struct descriptor *descriptor;
    enum status status;

    if (region == NULL || region->node.start >= address)
        return OK;
    if (space->region_count >= region_limit)
        return STATUS_LIMIT;
    descriptor = region->what.descriptor;
    if (descriptor != NULL)
        descriptor_hold(descriptor, 1);
    status = range_tree_cut(&space->regions, address, count_descriptors);
    if (status == OK)
        space->region_count++;
    else if (descriptor != NULL)
        descriptor_put(descriptor, 1);
    return status;
}

enum status region_cut(struct space *space, uint64_t start, uint64_t end)
{
    enum status status = region_own(space, start, end);

    if (status != OK)
        return status;
    status = region_cut_at(space, start);
    if (status == OK)
        status = region_cut_at(space, end);
    if (status != OK)
        region_merge_range(space, start, start);
    return status;
}

void region_remove(struct space *space, uint64_t start)
{
    struct region gone;

    region_take(space, start, &gone);
    if (gone.what.committed)
        space->committed -= region_pages(&gone);
    if (gone.what.wired) {
        space->wired -= region_pages(&gone);
        wire_uncharge(region_pages(&gone));
    }
}

void region_remove_range(struct space *space, uint64_t start, uint64_t end)
{
    const struct region *region;

    while ((region = region_find(space, start)) != NULL && region->node.start < end) {
        uint64_t next = region->node.end;

        CHECK(region->node.start >= start && next <= end);
        region_remove(space, region->node.start);
        start = next;
    }
}

void region_merge_range(struct space *space, uint64_t start, uint64_t end)
{
    const struct region *region = region_find(space, start - 1);

    while (region != NULL && region->node.end <= end) {
        uint64_t at = region->node.start;

        region =
            region_merge_next(space, region) ? region_find(space, at) : region_next(space, region);
    }
}

const struct region *region_find_covered_from(const struct space *space, const struct region *first,
                                              uint64_t start, uint64_t end)
{
    const struct region *region = first;

    for (uint64_t at = start;; region = region_next(space, region)) {
        if (region == NULL || region->node.start > at || region->what.kind == REGION_GUARD)
            return NULL;
        at = region->node.end;
        if (at >= end)
            return first;
    }
}

enum status region_prepare_move(struct space *space, uint64_t start, uint64_t end, uint64_t to,
                                uint64_t new_end)
{
    enum status status = region_cut(space, start, end);

    if (status != OK)
        return status;
    status = region_own(space, to, new_end);
    if (status == OK)
        status = range_tree_reserve(&space->regions);
    if (status != OK)
        region_merge_range(space, start, end);
    return status;
}

void region_move(struct space *space, uint64_t start, uint64_t end, uint64_t to, uint64_t new_end)
{
    struct tree_range range;
    const struct region *region = (const struct region *)&range;
    enum status status;

    range_tree_remove(&space->regions, start, &range);
    CHECK(range.end == end);
    CHECK_MSG(new_end - to >= end - start, "%lx to %lx moves to %lx to %lx", start, end, to,
              new_end);
    range.start = to;
    range.end = new_end;
    status = range_tree_insert(&space->regions, &range, count_descriptors);
    CHECK_MSG(status == OK, "%lx does not move to %lx: %s", start, to, status_name(status));
    range_tree_unreserve(&space->regions);
    if (region->what.committed)
        space->committed += (new_end - to) / PAGE_SIZE - (end - start) / PAGE_SIZE;
    region_merge_range(space, to, new_end);
}

void region_set_apart(struct space *space, uint64_t start, uint64_t end, enum region_apart apart)
{
    for (const struct region *at = region_find(space, start); at != NULL && at->node.start < end;
         at = region_next(space, at)) {
        CHECK(at->node.start >= start && at->node.end <= end);
        if (at->what.apart != apart)
            region_write(space, at)->what.apart = (uint8_t)apart;
    }
}

void region_make_guards(struct space *space, uint64_t start, uint64_t end)
{
    for (const struct region *at = region_find(space, start); at != NULL && at->node.start < end;
         at = region_next(space, at)) {
        CHECK(at->node.start >= start && at->node.end <= end);
        region_write(space, at)->what.kind = REGION_GUARD;
    }
}

/* Takes over the caller's count of the descriptor. */
static inline void set_descriptor(struct space *space, const struct region *region,
                                  struct descriptor *descriptor)
{
    struct region_attributes *what = &region_write(space, region)->what;

    CHECK(descriptor->shared == region_has_section(what->kind) &&
          descriptor->copies == (what->kind == REGION_COPY)); /* rule S3 */
    if (descriptor->rights.write && !what->committed && what->kind != REGION_SHARED) {
        what->committed = true;
        space->committed += region_pages(region);
    }
    descriptor_put(what->descriptor, 1);
    what->descriptor = descriptor;
}

void region_take_descriptor(struct space *space, struct region_gap place,
                            struct descriptor *descriptor)
{
    const struct region *region = place.next;

    set_descriptor(space, region, descriptor);
    if (__atomic_load_n(&descriptor->count, __ATOMIC_RELAXED) == 1) /* no neighbour has it */
        return;
    if (place.before != NULL && place.before->node.end == region->node.start) {
        uint64_t start = place.before->node.start;

        if (region_merge_next(space, place.before))
            region = region_find(space, start);
    }
    (void)region_merge_next(space, region);
}

void region_set_descriptors(struct space *space, uint64_t start, uint64_t end,
                            const struct region_descriptors *descriptors)
{
    const struct region *region = region_find(space, start);

    for (; region != NULL && region->node.start < end; region = region_next(space, region)) {
        struct descriptor *descriptor = region_descriptor(descriptors, region->what.kind);

        CHECK(region->node.start >= start && region->node.end <= end);
        descriptor_hold(descriptor, 1);
        set_descriptor(space, region, descriptor);
    }
    region_merge_range(space, start, end);
}

static void settle_one(struct space *space, struct region *region, bool wired)
{
    struct region_attributes *what = &region->what;

    if (wired && !what->committed)
        space->committed += region_pages(region);
    if (wired && !what->wired)
        space->wired += region_pages(region);
    if (!wired && what->wired)
        space->wired -= region_pages(region);
    what->committed = what->committed || wired;
    what->wired = wired;
    if (what->apart == REGION_POPULATES)
        what->apart = REGION_MERGES;
}

void region_settle(struct space *space, uint64_t start, uint64_t end, bool wired)
{
    const struct region *region = region_find(space, start);

    for (; region != NULL && region->node.start < end; region = region_next(space, region)) {
        CHECK(region->node.start >= start && region->node.end <= end);
        settle_one(space, region_write(space, region), wired);
    }
    region_merge_range(space, start, end);
}

/* ---- all regions ---- */

/* Unwires the regions of a fork, which are wired in its parent. They may merge then. */
static enum status unwire_copies(struct space *child)
{
    const struct region *region = region_find(child, 0);
    enum status status = OK;

    while (region != NULL && status == OK) {
        uint64_t start = region->node.start;
        uint64_t end = region->node.end;

        if (!region->what.wired) {
            region = region_next(child, region);
            continue;
        }
        status = region_own(child, start, end);
        if (status == OK)
            region_settle(child, start, end, false);
        region = region_find(child, end);
    }
    return status;
}

/* What differs between the regions of a fork and those of its parent is that none is wired. */
enum status region_copy_all(struct space *child, struct space *parent)
{
    enum status status = OK;

    CHECK(child->region_count == 0 && child->committed == 0);
    range_tree_share(&child->regions, &parent->regions);
    child->region_count = parent->region_count;
    child->wired = parent->wired;
    if (parent->wired > 0)
        status = unwire_copies(child);
    CHECK(status != OK || child->wired == 0);
    child->wired = 0; /* nothing is charged for it */
    if (status == OK)
        child->committed = parent->committed;
    return status;
}

bool region_remove_some(struct space *space, unsigned most)
{
    if (!range_tree_drop_some(&space->regions, most, count_descriptors))
        return false;
    space->region_count = 0;
    space->committed = 0;
    space->wired = 0;
    return true;
}

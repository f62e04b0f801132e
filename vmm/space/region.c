/* Regions of an address space: their range tree, merging and splitting. */
#include "vmm/space/region.h"
#include "cpu/machine.h"
#include "pmm/pool.h"
#include "vmm/page/shrinker.h"
#include "vmm/space/commit.h"

static struct pool region_pool = POOL("region", struct region);

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

/* Allocates a region object: the space's spare one, or one of the pool. So a program that maps and
 * unmaps in turn takes no object from the pool, and does not come closer to the limit. */
static inline enum status region_alloc_spare(struct space *space, struct region **region)
{
    void *object = space->spare;
    enum status status = OK;

    if (object == NULL)
        status = space->region_count < region_limit ? pool_alloc_uncleared(&region_pool, &object)
                                                    : STATUS_LIMIT;
    __atomic_store_n(&space->spare, NULL, __ATOMIC_RELAXED);
    *region = object;
    return status;
}

static inline void region_free_spare(struct space *space, struct region *region)
{
    if (space->spare == NULL)
        __atomic_store_n(&space->spare, region, __ATOMIC_RELAXED);
    else
        pool_free(&region_pool, region);
}

static bool has_spare_region(const struct space *space)
{
    return __atomic_load_n(&space->spare, __ATOMIC_RELAXED) != NULL;
}

/* Frees the spare objects of spaces that are not locked. A frame is freed with its last object, so
 * freeing one page may take all of them. */
static uint64_t region_free_spares(uint64_t pages)
{
    struct region *chain = NULL;
    struct space *space;

    (void)pages;
    while ((space = space_lock_one_that_keeps(has_spare_region)) != NULL) {
        struct region *spare = space->spare;

        if (spare != NULL) { /* may be used up before the space was locked */
            *(struct region **)(void *)spare = chain;
            chain = spare;
            __atomic_store_n(&space->spare, NULL, __ATOMIC_RELAXED);
        }
        space_unlock(space);
    }
    return pool_free_chain(&region_pool, chain);
}

SHRINKER(spare_regions, region_free_spares, false);

/* Inserts a region into a gap; takes over the caller's count of the descriptor. */
static inline enum status region_create(struct space *space, struct region_gap gap, uint64_t start,
                                        uint64_t end, const struct region_attributes *what)
{
    struct region *region;
    enum status status = region_alloc_spare(space, &region);

    if (status != OK)
        return status;
    region->node.start = start;
    region->node.end = end;
    region->what = *what;
    region_tree_insert_between(&space->regions, node_of(gap.before), &region->node,
                               node_of(gap.next));
    space->region_count++;
    return OK;
}

static inline void region_destroy(struct space *space, struct region *region)
{
    CHECK(space->region_count > 0);
    region_tree_remove(&space->regions, &region->node);
    space->region_count--;
    if (region->what.descriptor != NULL)
        descriptor_put(region->what.descriptor, 1);
    region_free_spare(space, region);
}

/* Merges a region with its successor if they are adjacent and have equal attributes. Returns true
 * if it did. */
static bool region_merge_next(struct space *space, struct region *region)
{
    struct region *next = region_next(region);
    uint64_t end;

    if (next == NULL || next->node.start != region->node.end ||
        !attributes_equal(&region->what, &next->what))
        return false;
    end = next->node.end;
    region_destroy(space, next);
    region_tree_resize(&region->node, region->node.start, end);
    return true;
}

/* ---- ranges ---- */

/* Adds the range to a neighbour with equal attributes. Returns false if there is none. */
static bool region_extend_neighbour(struct space *space, struct region_gap gap, uint64_t start,
                                    uint64_t end, const struct region_attributes *what)
{
    if (gap.before != NULL && gap.before->node.end == start &&
        attributes_equal(&gap.before->what, what)) {
        region_tree_resize(&gap.before->node, gap.before->node.start, end);
        (void)region_merge_next(space, gap.before);
    } else if (gap.next != NULL && gap.next->node.start == end &&
               attributes_equal(&gap.next->what, what)) {
        region_tree_resize(&gap.next->node, start, gap.next->node.end);
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

    if (!region_extend_neighbour(space, gap, start, end, what))
        status = region_create(space, gap, start, end, what);
    if (status == OK && what->committed)
        space->committed += (end - start) / PAGE_SIZE;
    return status;
}

static enum status region_cut_at(struct space *space, uint64_t address)
{
    struct region *region = region_find(space, address);
    uint64_t end;
    enum status status;

    if (region == NULL || region->node.start >= address)
        return OK;
    end = region->node.end;
    region_tree_resize(&region->node, region->node.start, address);
    if (region->what.descriptor != NULL)
        descriptor_hold(region->what.descriptor, 1);
    status = region_create(space, (struct region_gap){region, region_next(region)}, address, end,
                           &region->what);
    if (status != OK) {
        region_tree_resize(&region->node, region->node.start, end);
        if (region->what.descriptor != NULL)
            descriptor_put(region->what.descriptor, 1);
    }
    return status;
}

enum status region_cut(struct space *space, uint64_t start, uint64_t end)
{
    enum status status = region_cut_at(space, start);

    if (status == OK)
        status = region_cut_at(space, end);
    if (status != OK)
        region_merge_range(space, start, start);
    return status;
}

void region_remove(struct space *space, struct region *region)
{
    if (region->what.committed)
        space->committed -= region_pages(region);
    if (region->what.wired) {
        space->wired -= region_pages(region);
        wire_uncharge(region_pages(region));
    }
    region_destroy(space, region);
}

void region_remove_range(struct space *space, uint64_t start, uint64_t end)
{
    struct region *region = region_find(space, start);

    while (region != NULL && region->node.start < end) {
        struct region *next = region_next(region);

        CHECK(region->node.start >= start && region->node.end <= end);
        region_remove(space, region);
        region = next;
    }
}

void region_merge_range(struct space *space, uint64_t start, uint64_t end)
{
    struct region *region = region_find(space, start - 1);

    while (region != NULL && region->node.end <= end) {
        if (!region_merge_next(space, region))
            region = region_next(region);
    }
}

struct region *region_find_covered(const struct space *space, uint64_t start, uint64_t end)
{
    struct region *first = region_find(space, start);
    struct region *region = first;

    for (uint64_t at = start;; region = region_next(region)) {
        if (region == NULL || region->node.start > at || region->what.kind == REGION_GUARD)
            return NULL;
        at = region->node.end;
        if (at >= end)
            return first;
    }
}

void region_move(struct space *space, uint64_t start, uint64_t end, uint64_t to, uint64_t new_end)
{
    struct region *region = region_find(space, start);

    CHECK(region->node.start == start && region->node.end == end);
    CHECK_MSG(new_end - to >= end - start, "%lx to %lx moves to %lx to %lx", start, end, to,
              new_end);
    region_tree_remove(&space->regions, &region->node);
    region->node.start = to;
    region->node.end = new_end;
    region_tree_insert(&space->regions, &region->node);
    if (region->what.committed)
        space->committed += region_pages(region) - (end - start) / PAGE_SIZE;
    region_merge_range(space, to, new_end);
}

/* Takes over the caller's count of the descriptor. */
static inline void set_descriptor(struct space *space, struct region *region,
                                  struct descriptor *descriptor)
{
    struct region_attributes *what = &region->what;

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
    struct region *region = place.next;

    set_descriptor(space, region, descriptor);
    if (__atomic_load_n(&descriptor->count, __ATOMIC_RELAXED) == 1) /* no neighbour has it */
        return;
    if (place.before != NULL && place.before->node.end == region->node.start &&
        region_merge_next(space, place.before))
        region = place.before;
    (void)region_merge_next(space, region);
}

void region_set_descriptors(struct space *space, uint64_t start, uint64_t end,
                            const struct region_descriptors *descriptors)
{
    struct region *region = region_find(space, start);

    for (; region != NULL && region->node.start < end; region = region_next(region)) {
        struct descriptor *descriptor = region_descriptor(descriptors, region->what.kind);

        CHECK(region->node.start >= start && region->node.end <= end);
        descriptor_hold(descriptor, 1);
        set_descriptor(space, region, descriptor);
    }
    region_merge_range(space, start, end);
}

void region_settle(struct space *space, uint64_t start, uint64_t end, bool wired)
{
    struct region *region = region_find(space, start);

    for (; region != NULL && region->node.start < end; region = region_next(region)) {
        struct region_attributes *what = &region->what;

        CHECK(region->node.start >= start && region->node.end <= end);
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
    region_merge_range(space, start, end);
}

/* ---- all regions ---- */

/* Consecutive regions with one descriptor, whose count is changed once for all of them. */
struct descriptor_run {
    void (*change)(struct descriptor *descriptor, uint32_t counts);
    struct descriptor *descriptor;
    uint32_t length;
    struct region *chain; /* objects of the pool; each begins with the address of the next */
};

static void end_run(struct descriptor_run *run)
{
    if (run->descriptor != NULL)
        run->change(run->descriptor, run->length);
}

static void add_to_run(struct descriptor_run *run, struct descriptor *descriptor)
{
    if (descriptor != run->descriptor) {
        end_run(run);
        run->descriptor = descriptor;
        run->length = 0;
    }
    run->length++;
}

static struct region_node *copy_region(const struct region_node *node, void *context)
{
    const struct region *region = (const struct region *)node;
    struct descriptor_run *run = context;
    struct region *copy = run->chain;

    run->chain = *(struct region **)(void *)copy;
    *copy = *region;
    copy->what.wired = false;
    add_to_run(run, region->what.descriptor);
    return &copy->node;
}

enum status region_copy_all(struct space *child, const struct space *parent)
{
    struct descriptor_run run = {.change = descriptor_hold};
    void *chain;
    enum status status = pool_alloc_chain(&region_pool, parent->region_count, &chain);

    if (status != OK)
        return status;
    run.chain = chain;
    region_tree_clone(&child->regions, &parent->regions, copy_region, &run);
    CHECK(run.chain == NULL);
    end_run(&run);
    child->region_count = parent->region_count;
    child->committed = parent->committed;
    /* Neighbours that differed only in the wired attribute can merge now. */
    if (parent->wired > 0)
        region_merge_range(child, PAGE_SIZE, UINT64_MAX);
    return OK;
}

static void drop_region(struct region_node *node, void *context)
{
    struct descriptor_run *run = context;
    struct region *region = region_of(node);

    add_to_run(run, region->what.descriptor);
    *(struct region **)(void *)region = run->chain;
    run->chain = region;
}

bool region_remove_some(struct space *space, unsigned most)
{
    struct descriptor_run run = {.change = descriptor_put};

    if (space->region_count > most) {
        space->region_count -= region_tree_drain_some(&space->regions, most, drop_region, &run);
        end_run(&run);
        pool_free_chain(&region_pool, run.chain);
        return false;
    }
    region_tree_drain(&space->regions, drop_region, &run);
    end_run(&run);
    if (space->spare != NULL) {
        *(struct region **)(void *)space->spare = run.chain;
        run.chain = space->spare;
        space->spare = NULL;
    }
    pool_free_chain(&region_pool, run.chain);
    space->region_count = 0;
    space->committed = 0;
    space->wired = 0;
    return true;
}

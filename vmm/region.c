/* Regions: what is where in an address space. */
#include "cpu/machine.h"
#include "paging/layout.h"
#include "pmm/pool.h"
#include "vmm/page.h"
#include "vmm/space_internal.h"

/* ---- the balanced tree ---- */

enum status region_insert(struct space *space, uint64_t start, uint64_t end,
                          struct descriptor *descriptor)
{
    struct region *region;
    void *object;
    enum status status = pool_alloc(&region_pool, &object);

    if (status != OK)
        return status;
    region = object;
    region->start = start;
    region->end = end;
    region->descriptor = descriptor;
    if (descriptor != NULL)
        descriptor_hold(descriptor);
    CHECK(RB_INSERT(region_tree, &space->regions, region) == NULL);
    space->region_count++;
    return OK;
}

void region_remove(struct space *space, struct region *region)
{
    CHECK(space->region_count > 0);
    RB_REMOVE(region_tree, &space->regions, region);
    space->region_count--;
    if (region->descriptor != NULL)
        descriptor_put(region->descriptor);
    pool_free(&region_pool, region);
}

/* The first region that ends after the address. */
static struct region *first_ending_after(struct space *space, uint64_t address)
{
    struct region *at = RB_ROOT(&space->regions);
    struct region *found = NULL;

    while (at != NULL) {
        if (at->end > address) {
            found = at;
            at = RB_LEFT(at, link);
        } else {
            at = RB_RIGHT(at, link);
        }
    }
    return found;
}

const struct region *space_region_at(struct space *space, uint64_t address)
{
    const struct region *region = first_ending_after(space, address);

    return region != NULL && region->start <= address ? region : NULL;
}

/* ---- ranges ---- */

static enum status check_range(const struct space *space, uint64_t start, uint64_t size)
{
    uint64_t limit = lower_half_end(space->tree.levels);

    if (size == 0 || (start | size) % PAGE_SIZE != 0 || start < PAGE_SIZE || start >= limit ||
        size > limit - start)
        return STATUS_RANGE;
    return OK;
}

/* Puts a region and its entries in place; the range is known to be free and sound. */
static enum status map_free_range(struct space *space, uint64_t start, uint64_t end,
                                  struct descriptor *descriptor)
{
    struct pte with = descriptor != NULL ? descriptor->ticket : pte_guard();
    struct tlb_batch batch;
    enum status status;

    tlb_begin(&batch, &space->tree);
    status = tree_prepare_range(&space->tree, start, end, &batch);
    if (status == OK) {
        status = region_insert(space, start, end, descriptor);
        /* From here on nothing can fail. Without a region the range stays empty, and replacing
         * empty by empty gives back the tables that prepare has made. */
        tree_replace_range(&space->tree, start, end, status == OK ? with : pte_empty(), &batch);
    }
    tlb_commit(&batch);
    return status;
}

static enum status map_at(struct space *space, uint64_t start, uint64_t size,
                          struct descriptor *descriptor)
{
    enum status status = check_range(space, start, size);
    const struct region *next;

    if (status != OK)
        return status;
    space_lock(space);
    next = first_ending_after(space, start);
    if (next != NULL && next->start < start + size)
        status = STATUS_EXISTS;
    else
        status = map_free_range(space, start, start + size, descriptor);
    space_unlock(space);
    return status;
}

enum status space_map_at(struct space *space, uint64_t start, uint64_t size, struct rights rights)
{
    struct descriptor *descriptor;
    enum status status = check_range(space, start, size);

    if (status == OK)
        status = descriptor_anonymous(rights, &descriptor);
    if (status != OK)
        return status;
    do {
        status = map_at(space, start, size, descriptor);
    } while (status == STATUS_NO_MEMORY && page_make_room());
    descriptor_put(descriptor);
    return status;
}

enum status space_map_guard(struct space *space, uint64_t start, uint64_t size)
{
    return map_at(space, start, size, NULL);
}

/* The lowest aligned gap of this size. */
static enum status find_gap(struct space *space, uint64_t size, uint64_t alignment, uint64_t *start)
{
    uint64_t limit = lower_half_end(space->tree.levels);
    uint64_t at = round_up(SPACE_FIRST_ADDRESS, alignment);
    struct region *region;

    RB_FOREACH (region, region_tree, &space->regions) {
        if (at < limit && region->start >= at && region->start - at >= size)
            break;
        if (region->end > at)
            at = round_up(region->end, alignment);
    }
    if (at >= limit || size > limit - at)
        return STATUS_NOT_FOUND;
    *start = at;
    return OK;
}

enum status space_map(struct space *space, uint64_t size, uint64_t alignment, struct rights rights,
                      uint64_t *start)
{
    enum status status;

    CHECK(alignment >= PAGE_SIZE && (alignment & (alignment - 1)) == 0);
    if (size == 0 || size % PAGE_SIZE != 0)
        return STATUS_RANGE;
    space_lock(space);
    status = find_gap(space, size, alignment, start);
    space_unlock(space);
    return status == OK ? space_map_at(space, *start, size, rights) : status;
}

/* Makes a boundary at the address: a region across it becomes two. No entry changes (T1). */
static enum status split_region_at(struct space *space, uint64_t address)
{
    struct region *region = first_ending_after(space, address);
    uint64_t end;
    enum status status;

    if (region == NULL || region->start >= address)
        return OK;
    end = region->end;
    region->end = address;
    status = region_insert(space, address, end, region->descriptor);
    if (status != OK)
        region->end = end;
    return status;
}

static void remove_regions(struct space *space, uint64_t start, uint64_t end)
{
    struct region *region = first_ending_after(space, start);

    while (region != NULL && region->start < end) {
        struct region *next = RB_NEXT(region_tree, &space->regions, region);

        CHECK(region->start >= start && region->end <= end);
        region_remove(space, region);
        region = next;
    }
}

static enum status unmap(struct space *space, uint64_t start, uint64_t size)
{
    enum status status = check_range(space, start, size);
    const struct region *first;
    struct tlb_batch batch;

    if (status != OK)
        return status;
    space_lock(space);
    first = first_ending_after(space, start);
    if (first == NULL || first->start >= start + size) {
        space_unlock(space);
        return STATUS_NOT_FOUND;
    }
    tlb_begin(&batch, &space->tree);
    status = tree_prepare_range(&space->tree, start, start + size, &batch);
    if (status == OK)
        status = split_region_at(space, start);
    if (status == OK)
        status = split_region_at(space, start + size);
    if (status == OK) {
        tree_replace_range(&space->tree, start, start + size, pte_empty(), &batch);
        tlb_add_grace(&batch);
    }
    tlb_commit(&batch);
    /* Faults that found a ticket are over: now its descriptor may go. */
    if (status == OK)
        remove_regions(space, start, start + size);
    space_unlock(space);
    return status;
}

enum status space_unmap(struct space *space, uint64_t start, uint64_t size)
{
    enum status status;

    do {
        status = unmap(space, start, size);
    } while (status == STATUS_NO_MEMORY && page_make_room());
    return status;
}

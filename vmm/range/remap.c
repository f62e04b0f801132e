/* Making a mapping larger or smaller, where it is. */
#include "cpu/machine.h"
#include "vmm/page/page.h"
#include "vmm/space/internal.h"

/* One call of space_remap. */
struct remapping {
    uint64_t start;
    uint64_t end;     /* as it is */
    uint64_t new_end; /* as it is to be */
    bool came;        /* new pages of a wired part were on their way: no more can be tried */
};

static enum status remap_grow(struct space *space, struct remapping *remap, struct region *region)
{
    const struct region *next = region_next(region);
    enum status status;

    if (region->node.end != remap->end || (next != NULL && next->node.start < remap->new_end))
        return STATUS_EXISTS;
    if (!region->what.wired)
        return space_fill_range(space, remap->end, remap->new_end, &region->what, BLANK_TICKETS);
    if (region->what.descriptor->rights.none)
        return STATUS_DENIED; /* as space_wire */
    status = space_fill_now(space, remap->end, remap->new_end, &region->what, true, &remap->came);
    if (status == OK)
        space_fill_keep(space, remap->end, remap->new_end, true);
    return status;
}

static enum status try_remap(struct space *space, struct remapping *remap)
{
    struct region *region = region_find(space, remap->start);
    enum status status = OK;

    if (region == NULL || region->node.start > remap->start || region->node.end < remap->end)
        return STATUS_NOT_FOUND;
    if (remap->new_end > remap->end)
        status = remap_grow(space, remap, region);
    else if (remap->new_end < remap->end)
        status = space_empty_range(space, region, remap->new_end, remap->end);
    return status;
}

enum status space_remap(struct space *space, uint64_t start, uint64_t old_size, uint64_t new_size)
{
    struct remapping remap = {.start = start, .end = start + old_size, .new_end = start + new_size};
    enum status status = space_check_range(space, start, old_size);

    if (status == OK)
        status = space_check_range(space, start, new_size);
    if (status != OK)
        return status;
    do {
        space_lock(space);
        status = try_remap(space, &remap);
        space_unlock(space);
    } while (status == STATUS_NO_MEMORY && !remap.came && page_reclaim_some());
    return status;
}

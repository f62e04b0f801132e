/* Changing the rights of a range: entries and regions together. */
#include "cpu/machine.h"
#include "vmm/page/page.h"
#include "vmm/range/internal.h"
#include "vmm/section/section.h"
#include "vmm/space/commit.h"

/* Returns the number of pages that become writable for the first time; they are charged to the
 * commit account. */
static uint64_t protect_newly_writable(const struct space *space, uint64_t start, uint64_t end)
{
    struct region *region = region_find(space, start);
    uint64_t bytes = 0;

    for (; region != NULL && region->node.start < end; region = region_next(region)) {
        if (!region->what.committed && region->what.kind == REGION_PRIVATE)
            bytes += min_u64(region->node.end, end) - max_u64(region->node.start, start);
    }
    return bytes / PAGE_SIZE;
}

/* Changes the entries of private and of shared regions, whose tickets differ. No entry covers pages
 * of both kinds. */
static void protect_entries(struct space *space, uint64_t start, uint64_t end,
                            const struct region_descriptors *descriptors, struct tlb_batch *batch)
{
    struct region *region = region_find(space, start);

    while (start < end) {
        enum region_kind kind = region->what.kind;
        const struct descriptor *descriptor =
            kind == REGION_SHARED ? descriptors->shared : descriptors->blank;
        uint64_t to = start;

        CHECK_MSG(descriptor != NULL, "no descriptor for the shared region at %lx", start);
        for (; to < end && region->what.kind == kind; region = region_next(region))
            to = min_u64(end, region->node.end);
        tree_protect_range(&space->tree, start, to, descriptor->ticket, descriptor->rights, batch);
        start = to;
    }
}

/* Changes the rights of a covered and charged range. */
static enum status change_rights(struct space *space, uint64_t start, uint64_t end,
                                 const struct region_descriptors *descriptors)
{
    struct tlb_batch batch;
    enum status status;

    tlb_begin(&batch, &space->tree);
    status = tree_prepare_protect(&space->tree, start, end, &batch);
    if (status == OK)
        status = region_cut(space, start, end);
    if (status == OK) {
        protect_entries(space, start, end, descriptors, &batch);
        tlb_add_grace(&batch);
    }
    tlb_commit(&batch);
    /* Faults that read an old ticket have ended, so its descriptor may be freed. */
    if (status == OK) {
        region_set_descriptors(space, start, end, descriptors);
        wire_mend(space, start, end);
    }
    return status;
}

enum status space_change_descriptor(struct space *space, uint64_t start, uint64_t end,
                                    struct descriptor *descriptor)
{
    return change_rights(space, start, end,
                         &(struct region_descriptors){.blank = descriptor, .shared = NULL});
}

/* Makes one attempt at space_protect. STATUS_AGAIN: the space has shared regions, and the caller
 * gave no descriptor for them. */
static enum status try_protect(struct space *space, uint64_t start, uint64_t end,
                               const struct region_descriptors *descriptors)
{
    enum status status = STATUS_NOT_FOUND;

    space_lock(space);
    if (space_has_mappings(space) &&
        (descriptors->shared == NULL ||
         !section_rights_allowed(space, start, end, descriptors->blank->rights))) {
        status = descriptors->shared == NULL ? STATUS_AGAIN : STATUS_DENIED;
    } else if (region_find_covered(space, start, end) != NULL) {
        uint64_t promised =
            descriptors->blank->rights.write ? protect_newly_writable(space, start, end) : 0;

        status = commit_charge(promised);
        if (status == OK) {
            status = change_rights(space, start, end, descriptors);
            if (status != OK)
                commit_uncharge(promised);
        }
    }
    space_unlock(space);
    return status;
}

/* Returns the hint that all regions of the range have; if they differ, that for single small
 * pages. */
static struct page_hint common_hint(struct space *space, uint64_t start, uint64_t end)
{
    const struct region *region;
    struct page_hint hint = {0};

    space_lock(space);
    region = region_find_covered(space, start, end);
    for (struct region *at = region_find(space, start);
         region != NULL && at != NULL && at->node.start < end; at = region_next(at)) {
        struct page_hint one = descriptor_hint(at->what.descriptor);
        bool first = hint.level == 0;

        hint.level = first || hint.level == one.level ? one.level : 1;
        hint.around = first || hint.around == one.around ? one.around : 0;
    }
    space_unlock(space);
    hint.level = hint.level == 0 ? 1 : hint.level;
    return hint;
}

enum status space_protect(struct space *space, uint64_t start, uint64_t size, struct rights rights)
{
    struct region_descriptors descriptors = {0};
    enum status status = space_check_range(space, start, size);

    if (status == OK)
        status = descriptor_with_hint(rights, common_hint(space, start, start + size),
                                      &descriptors.blank);
    if (status != OK)
        return status;
    do {
        status = try_protect(space, start, start + size, &descriptors);
        if (status == STATUS_AGAIN) {
            status = descriptor_shared(rights, &descriptors.shared);
            if (status == OK)
                status = try_protect(space, start, start + size, &descriptors);
        }
    } while (status == STATUS_NO_MEMORY && page_reclaim_some());
    descriptor_put(descriptors.blank, 1);
    if (descriptors.shared != NULL)
        descriptor_put(descriptors.shared, 1);
    return status;
}

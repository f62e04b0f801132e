/* Changing the rights of a range: entries and regions together. */
#include "cpu/machine.h"
#include "paging/tree/run.h"
#include "vmm/page/page.h"
#include "vmm/range/internal.h"
#include "vmm/section/section.h"
#include "vmm/space/commit.h"

#define INLINE static inline __attribute__((always_inline))

/* Returns the number of pages that become writable for the first time; they are charged to the
 * commit account. */
static uint64_t protect_newly_writable(const struct space *space, uint64_t start, uint64_t end)
{
    const struct region *region = region_find(space, start);
    uint64_t bytes = 0;

    for (; region != NULL && region->node.start < end; region = region_next(space, region)) {
        if (!region->what.committed && region->what.kind != REGION_SHARED)
            bytes += min_u64(region->node.end, end) - max_u64(region->node.start, start);
    }
    return bytes / PAGE_SIZE;
}

/* Changes the entries of private and of shared regions, whose tickets differ. No entry covers pages
 * of both kinds. */
static void protect_entries(struct space *space, uint64_t start, uint64_t end,
                            const struct region_descriptors *descriptors, struct tlb_batch *batch)
{
    const struct region *region = region_find(space, start);

    while (start < end) {
        enum region_kind kind = region->what.kind;
        const struct descriptor *descriptor = region_descriptor(descriptors, kind);
        uint64_t to = start;

        CHECK_MSG(descriptor != NULL, "no descriptor for the region at %lx", start);
        for (; to < end && region->what.kind == kind; region = region_next(space, region))
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
    return change_rights(space, start, end, &(struct region_descriptors){.blank = descriptor});
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
    for (const struct region *at = region_find(space, start);
         region != NULL && at != NULL && at->node.start < end; at = region_next(space, at)) {
        struct page_hint one = descriptor_hint(at->what.descriptor);
        bool first = hint.level == 0;

        hint.level = first || hint.level == one.level ? one.level : 1;
        hint.around = first || hint.around == one.around ? one.around : 0;
    }
    space_unlock(space);
    hint.level = hint.level == 0 ? 1 : hint.level;
    return hint;
}

/* Holds both descriptors of memory that sections back, or neither. A retry sees one and assumes
 * that the other is held, too. */
static enum status hold_section_descriptors(struct rights rights,
                                            struct region_descriptors *descriptors)
{
    enum status status = descriptor_section(rights, false, &descriptors->shared);

    CHECK(descriptors->copies == NULL);
    if (status != OK)
        return status;
    status = descriptor_section(rights, true, &descriptors->copies);
    if (status != OK) {
        descriptor_put(descriptors->shared, 1);
        descriptors->shared = NULL;
    }
    return status;
}

/* ---- a few pages ---- */

/* Changes the entries of a run from an index on, which other processors may have cached, or which
 * are not all own pages. */
__attribute__((noinline)) static void protect_rest(const struct tree_run *run, unsigned from,
                                                   const struct descriptor *descriptor)
{
    struct tlb_batch batch;

    CHECK(from < run->count);
    tlb_begin(&batch, run->tree);
    tree_run_protect_rest(run, from, descriptor->ticket, descriptor->rights, &batch);
    tlb_add_grace(&batch);
    tlb_commit(&batch);
}

/* Changes the entries of a run of pages, and waits for walks that may still hold an old one. */
INLINE void protect_run_entries(const struct tree_run *run, const struct descriptor *descriptor)
{
    unsigned done = tree_run_protect(run, descriptor->ticket, (struct pte){descriptor->own_bits});

    if (done == run->count)
        tlb_await_walks(run->tree);
    else
        protect_rest(run, done, descriptor);
}

/* Changes a run that is charged and lies in one region; takes over the count of the descriptor. */
INLINE enum status protect_run_of(struct space *space, struct region_gap place, uint64_t end,
                                  const struct tree_run *run, struct descriptor *descriptor)
{
    const struct region *region = place.next;

    if (region->node.start != run->start || region->node.end != end || space->regions.shared) {
        enum status status = region_cut(space, run->start, end);

        if (status != OK)
            return status;
        place = region_find_gap(space, run->start);
    }
    protect_run_entries(run, descriptor);
    /* Faults that found an old ticket are over: its descriptor may be freed. */
    region_take_descriptor(space, place, descriptor);
    return OK;
}

/* Returns true if the range is pages of one leaf table, all in a private region that is not wired,
 * along an own path. Such a path has nothing to prepare. */
INLINE bool protect_is_run(const struct space *space, const struct region *region, uint64_t start,
                           uint64_t end, struct tree_run *run)
{
    return region != NULL && region->node.start <= start && end <= region->node.end &&
           region->what.kind == REGION_PRIVATE && !region->what.wired &&
           !space_has_mappings(space) && tree_run_find(run, &space->tree, start, end) &&
           run->bottom == 1 && tree_run_is_there(run);
}

/* STATUS_AGAIN: the range is no run; then nothing has changed. */
INLINE enum status protect_few(struct space *space, uint64_t start, uint64_t end,
                               struct rights rights)
{
    struct region_gap place = region_find_gap(space, start);
    struct descriptor *descriptor;
    struct tree_run run;
    uint64_t promised;
    enum status status;

    if (!protect_is_run(space, place.next, start, end, &run))
        return STATUS_AGAIN;
    status =
        descriptor_with_hint(rights, descriptor_hint(place.next->what.descriptor), &descriptor);
    if (status != OK)
        return status;
    promised = rights.write && !place.next->what.committed ? (end - start) / PAGE_SIZE : 0;
    if (promised != 0)
        status = commit_charge(promised);
    if (status == OK) {
        status = protect_run_of(space, place, end, &run, descriptor);
        if (status != OK)
            commit_uncharge(promised);
    }
    if (status != OK)
        descriptor_put(descriptor, 1);
    return status;
}

__attribute__((noinline)) static enum status protect_many(struct space *space, uint64_t start,
                                                          uint64_t size, struct rights rights)
{
    struct region_descriptors descriptors = {0};
    enum status status =
        descriptor_with_hint(rights, common_hint(space, start, start + size), &descriptors.blank);

    if (status != OK)
        return status;
    do {
        status = try_protect(space, start, start + size, &descriptors);
        if (status == STATUS_AGAIN) {
            status = hold_section_descriptors(rights, &descriptors);
            if (status == OK)
                status = try_protect(space, start, start + size, &descriptors);
        }
    } while (status == STATUS_NO_MEMORY && page_reclaim_some());
    descriptor_put(descriptors.blank, 1);
    if (descriptors.shared != NULL)
        descriptor_put(descriptors.shared, 1);
    if (descriptors.copies != NULL)
        descriptor_put(descriptors.copies, 1);
    return status;
}

enum status space_protect(struct space *space, uint64_t start, uint64_t size, struct rights rights)
{
    enum status status = space_check_range(space, start, size);

    if (status != OK)
        return status;
    space_lock(space);
    status = protect_few(space, start, start + size, rights);
    space_unlock(space);
    return status == STATUS_AGAIN || status == STATUS_NO_MEMORY
               ? protect_many(space, start, size, rights)
               : status;
}

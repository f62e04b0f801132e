/* Mapping and unmapping: regions together with their entries. */
#include "cpu/machine.h"
#include "paging/kernel/layout.h"
#include "vmm/flex/flex.h"
#include "vmm/page/page.h"
#include "vmm/range/internal.h"
#include "vmm/range/spare_tables.h"
#include "vmm/section/mapping.h"
#include "vmm/space/commit.h"

/* ---- map ---- */

/* A map call in progress. */
struct map_call {
    struct space *space;
    uint64_t start;
    uint64_t size;
    uint64_t alignment;                 /* 0: at start */
    uint8_t level;                      /* of its pages; 1: small ones */
    uint8_t blank;                      /* of enum space_blank */
    uint8_t populate;                   /* SPACE_POPULATED, SPACE_WIRED */
    bool grows;                         /* continues the mapping that ends at start */
    bool came;                          /* populating has begun: a retry is useless */
    const struct space_request *window; /* names the section to map; NULL: a new one */
    struct region_attributes what;      /* owns a count of the descriptor until a region takes it */
};

#define INLINE static inline __attribute__((always_inline))

/* Finds a free place, or checks that the given one is free. Sets *gap to the gap around it. */
INLINE enum status map_find_place(struct map_call *map, struct region_gap *gap)
{
    const struct space *space = map->space;

    if (map->alignment != 0 && !range_tree_find_gap(&space->regions, SPACE_FIRST_ADDRESS,
                                                    lower_half_end(space->tree.levels), map->size,
                                                    map->alignment, &map->start))
        return STATUS_NOT_FOUND;
    *gap = region_find_gap(space, map->start);
    return gap->next != NULL && gap->next->node.start < map->start + map->size ? STATUS_EXISTS : OK;
}

/* Sets the entries of a prepared range. Cannot fail. */
static void map_put_entries(const struct map_call *map, uint64_t end, struct pte ticket,
                            struct tlb_batch *batch)
{
    const struct descriptor *descriptor = map->what.descriptor;
    struct tree *tree = &map->space->tree;

    if (map->blank == BLANK_ZEROES && descriptor != NULL && !descriptor->rights.none)
        tree_zero_range(tree, map->start, end, descriptor->rights, batch);
    else
        tree_replace_range(tree, map->start, end, ticket, batch);
}

/* Adds a region and its entries. The range is free and checked. */
__attribute__((noinline)) static enum status
fill_range(const struct map_call *map, struct region_gap gap, uint64_t end, struct pte ticket)
{
    struct tree *tree = &map->space->tree;
    struct tlb_batch batch;
    enum status status;

    tlb_begin(&batch, tree);
    status = tree_prepare_range(tree, map->start, end, &batch);
    if (status == OK) {
        status = region_add(map->space, gap, map->start, end, &map->what);
        /* From here on nothing can fail. Without a region, replacing empty by empty frees the
         * tables that prepare has made. */
        if (status == OK)
            map_put_entries(map, end, ticket, &batch);
        else
            tree_replace_range(tree, map->start, end, pte_empty(), &batch);
    }
    tlb_commit(&batch);
    return status;
}

/* As fill_range, for a run of entries of one table; no flush is needed. */
INLINE enum status fill_run(const struct map_call *map, struct region_gap gap, struct tree_run *run,
                            struct pte ticket)
{
    enum status status = tree_run_take(run);

    if (status != OK)
        return status;
    status = region_add(map->space, gap, map->start, map->start + map->size, &map->what);
    if (status == OK)
        tree_run_put(run, ticket);
    else
        tree_run_give(run);
    return status;
}

/* Maps a place that is found and charged. */
INLINE enum status fill_place(const struct map_call *map, struct region_gap gap)
{
    const struct descriptor *descriptor = map->what.descriptor;
    struct pte ticket = descriptor == NULL ? pte_guard() : descriptor->ticket;
    uint64_t end = map->start + map->size;
    struct tree_run run;

    if (map->blank == BLANK_TICKETS && tree_run_find(&run, &map->space->tree, map->start, end) &&
        tree_run_is_blank(&run))
        return fill_run(map, gap, &run, ticket);
    return fill_range(map, gap, end, ticket);
}

/* Maps the request's section, or a new one for the range; section_map charges it. */
__attribute__((noinline)) static enum status fill_shared(const struct map_call *map,
                                                         struct region_gap gap)
{
    uint64_t end = map->start + map->size;
    enum status status;

    if (map->grows)
        status = section_map_growth(map->space, map->start - PAGE_SIZE, map->start, end);
    else if (map->window != NULL)
        status = section_map_window(map->space, map->window->section, map->window->offset,
                                    map->start, end, map->what.kind == REGION_COPY);
    else
        status = section_map(map->space, map->start, end);
    if (status != OK)
        return status;
    status = fill_place(map, gap);
    if (status != OK)
        section_unmap_range(map->space, map->start, end);
    return status;
}

INLINE enum status fill_accounted(const struct map_call *map, struct region_gap gap)
{
    uint64_t promised = map->what.committed ? map->size / PAGE_SIZE : 0;
    enum status status;

    if (map->what.kind == REGION_SHARED)
        return fill_shared(map, gap);
    status = commit_charge(promised);
    if (status != OK)
        return status;
    status = map->what.kind == REGION_COPY ? fill_shared(map, gap) : fill_place(map, gap);
    if (status != OK)
        commit_uncharge(promised);
    return status;
}

enum status space_fill_range(struct space *space, uint64_t start, uint64_t end,
                             const struct region_attributes *what, enum space_blank blank)
{
    struct map_call map = {.space = space,
                           .start = start,
                           .size = end - start,
                           .blank = (uint8_t)blank,
                           .grows = true,
                           .what = *what};
    struct descriptor *descriptor = what->descriptor;
    enum status status;

    if (descriptor != NULL)
        descriptor_hold(descriptor, 1);
    status = fill_accounted(&map, region_find_gap(space, start));
    if (status != OK && descriptor != NULL)
        descriptor_put(descriptor, 1);
    return status;
}

/* Maps a charged place and populates it. */
__attribute__((noinline)) static enum status fill_now(struct map_call *map)
{
    uint64_t end = map->start + map->size;
    bool wired = (map->populate & SPACE_WIRED) != 0;
    enum status status = space_fill_now(map->space, map->start, end, &map->what, wired, &map->came);

    if (status != OK)
        return status;
    descriptor_put(map->what.descriptor, 1); /* the regions have their own counts */
    space_fill_keep(map->space, map->start, end, wired);
    return OK;
}

INLINE enum status try_map(struct map_call *map)
{
    struct region_gap gap;
    enum status status;

    space_lock(map->space);
    status = map_find_place(map, &gap);
    if (status == OK)
        status = map->populate == 0 ? fill_accounted(map, gap) : fill_now(map);
    space_unlock(map->space);
    return status;
}

INLINE enum status map_own_range(struct map_call *map)
{
    enum status status;

    do {
        status = try_map(map);
    } while (status == STATUS_NO_MEMORY && !map->came && page_reclaim_some());
    return status;
}

/* Maps blank memory. The region takes over the count of the descriptor. */
INLINE enum status map_blank_here(struct map_call *map, struct rights rights)
{
    enum status status = descriptor_blank(rights, map->level, &map->what.descriptor);

    if (status != OK)
        return status;
    map->what.committed = rights.write || (map->populate & SPACE_WIRED) != 0;
    status = map_own_range(map);
    if (status != OK)
        descriptor_put(map->what.descriptor, 1);
    return status;
}

/* The out-of-line copy, for all calls but the most common. */
__attribute__((noinline)) static enum status map_blank(struct map_call *map, struct rights rights)
{
    return map_blank_here(map, rights);
}

enum status space_map_small_pages(struct space *space, uint64_t at, uint64_t size,
                                  struct rights rights)
{
    struct map_call map = {.space = space, .start = at, .size = size, .level = 1};
    enum status status = space_check_range(space, at, size);

    return status == OK ? map_blank_here(&map, rights) : status;
}

/* Maps memory of a section: shared, or privately, where what may be written is charged. The region
 * takes over the count of the descriptor. */
static enum status map_section(struct map_call *map, struct rights rights, bool copies)
{
    enum status status = descriptor_section(rights, copies, &map->what.descriptor);

    if (status != OK)
        return status;
    CHECK(!copies || map->window != NULL);
    map->what.kind = copies ? REGION_COPY : REGION_SHARED;
    map->what.committed = copies && rights.write;
    status = map_own_range(map);
    if (status != OK)
        descriptor_put(map->what.descriptor, 1);
    return status;
}

/* Checks the combination of flags. The kernel chooses it, not a program, so a wrong one is a
 * bug. */
static void check_request(const struct space_request *request)
{
    const uint32_t present = SPACE_POPULATED | SPACE_WIRED;

    CHECK(request->alignment == 0 || (request->alignment >= PAGE_SIZE &&
                                      (request->alignment & (request->alignment - 1)) == 0));
    CHECK(request->page_level <= 3 && request->flags < SPACE_STACK << 1);
    CHECK(request->section == NULL ||
          ((request->flags & ~(uint32_t)SPACE_SHARED) == 0 && request->page_level <= 1));
    if ((request->flags & (SPACE_SHARED | SPACE_GUARD | SPACE_ZEROES | SPACE_STACK)) != 0)
        CHECK((request->flags & present) == 0 && request->page_level <= 1 &&
              (request->flags & (request->flags - 1)) == 0);
}

/* Returns OK, STATUS_RANGE, or STATUS_DENIED for wired memory without access and for rights that
 * the section does not allow. */
static enum status refuse_request(const struct space *space, const struct space_request *request)
{
    if (request->rights.none && (request->flags & SPACE_WIRED) != 0)
        return STATUS_DENIED;
    if (request->section != NULL &&
        (request->offset % PAGE_SIZE != 0 || request->size > SECTION_SIZE_MAX ||
         request->offset > SECTION_SIZE_MAX - request->size))
        return STATUS_RANGE;
    if (request->section != NULL &&
        !section_allows(request->section, request->rights, (request->flags & SPACE_SHARED) == 0))
        return STATUS_DENIED;
    if (request->alignment == 0)
        return space_check_range(space, request->at, request->size);
    return request->size == 0 || request->size % PAGE_SIZE != 0 ? STATUS_RANGE : OK;
}

enum status space_map_request(struct space *space, const struct space_request *request,
                              uint64_t *start)
{
    struct map_call map = {.space = space,
                           .start = request->at,
                           .size = request->size,
                           .alignment = request->alignment,
                           .level = request->page_level > 1 ? request->page_level : 1,
                           .blank =
                               (request->flags & SPACE_ZEROES) != 0 ? BLANK_ZEROES : BLANK_TICKETS,
                           .populate = (uint8_t)(request->flags & (SPACE_POPULATED | SPACE_WIRED)),
                           .window = request->section != NULL ? request : NULL,
                           .what.stack = (request->flags & SPACE_STACK) != 0};
    enum status status = refuse_request(space, request);

    check_request(request);
    if (status != OK)
        return status;
    if ((request->flags & SPACE_GUARD) != 0) {
        map.what.kind = REGION_GUARD;
        status = map_own_range(&map);
    } else if ((request->flags & SPACE_SHARED) != 0 || request->section != NULL) {
        status = map_section(&map, request->rights, (request->flags & SPACE_SHARED) == 0);
    } else {
        status = map_blank(&map, request->rights);
    }
    if (start != NULL)
        *start = map.start;
    return status;
}

/* ---- unmap ---- */

/* Clears the entries of a range, then waits for walks that may still hold one. */
__attribute__((noinline)) static enum status empty_entries(struct space *space, uint64_t start,
                                                           uint64_t end)
{
    struct tlb_batch batch;
    enum status status;

    tlb_begin(&batch, &space->tree);
    status = tree_prepare_range(&space->tree, start, end, &batch);
    if (status == OK)
        status = region_cut(space, start, end);
    if (status == OK) {
        tree_replace_range(&space->tree, start, end, pte_empty(), &batch);
        tlb_add_grace(&batch);
    }
    tlb_commit(&batch);
    return status;
}

/* As empty_entries, for the entries of a run from an index on. */
__attribute__((noinline)) static void empty_rest(const struct tree_run *run, unsigned from)
{
    struct tlb_batch batch;

    CHECK(from < run->count);
    tlb_begin(&batch, run->tree);
    tree_run_replace_rest(run, from, pte_empty(), &batch);
    tlb_add_grace(&batch);
    tlb_commit(&batch);
}

/* Clears a run, and waits for walks that may still hold one of its entries. */
static inline void map_clear_run(struct space *space, const struct tree_run *run)
{
    unsigned cleared = tree_run_replace(run, pte_empty());

    if (cleared == run->count)
        tlb_await_walks(&space->tree);
    else
        empty_rest(run, cleared);
    if (tree_run_is_last(run))
        spare_tables_keep(space, run);
}

/* Clears the entries, then removes the regions: by then faults that read a ticket have ended, so
 * its descriptor may be freed. */
INLINE enum status empty_range(struct space *space, const struct region *first, uint64_t start,
                               uint64_t end)
{
    uint64_t committed = space->committed;
    bool is_one = first->node.start == start && first->node.end == end;
    enum status status = section_cut(space, start, end);
    struct tree_run run;

    if (status != OK)
        return status;
    if (!tree_run_find(&run, &space->tree, start, end) || !tree_run_is_there(&run)) {
        status = empty_entries(space, start, end);
    } else {
        status = is_one ? region_own_inside(space, start, end) : region_cut(space, start, end);
        if (status == OK)
            map_clear_run(space, &run);
    }
    if (status != OK)
        return status;
    if (is_one)
        region_remove(space, start);
    else
        region_remove_range(space, start, end);
    section_unmap_range(space, start, end);
    commit_uncharge(committed - space->committed);
    return OK;
}

enum status space_empty_range(struct space *space, const struct region *first, uint64_t start,
                              uint64_t end)
{
    return empty_range(space, first, start, end);
}

/* Unmaps; the space is locked. */
INLINE enum status unmap_locked(struct space *space, uint64_t start, uint64_t size)
{
    const struct region *first = region_find(space, start);

    if (first == NULL || first->node.start >= start + size)
        return STATUS_NOT_FOUND;
    return empty_range(space, first, start, start + size);
}

static enum status try_unmap(struct space *space, uint64_t start, uint64_t size)
{
    enum status status;

    space_lock(space);
    status = unmap_locked(space, start, size);
    space_unlock(space);
    return status;
}

/* Unmaps a range with mappings that are lent or borrowed. */
__attribute__((noinline)) static enum status unmap_tied(struct space *space, uint64_t start,
                                                        uint64_t size)
{
    enum status status;

    lends_lock();
    status = flex_free_range(space, start, start + size);
    if (status == OK) {
        lends_lock_space(space);
        status = unmap_locked(space, start, size);
        lends_unlock_space(space);
    }
    lends_unlock();
    return status;
}

enum status space_unmap(struct space *space, uint64_t start, uint64_t size)
{
    enum status status = space_check_range(space, start, size);

    if (status != OK)
        return status;
    do {
        status = try_unmap(space, start, size);
        if (__builtin_expect(status == OK, 1))
            return OK;
        if (status == STATUS_AGAIN)
            status = unmap_tied(space, start, size);
    } while (status == STATUS_NO_MEMORY && page_reclaim_some());
    return status;
}

/* Mapping and unmapping: regions and their entries come and go together. */
#include "cpu/machine.h"
#include "paging/layout.h"
#include "vmm/commit.h"
#include "vmm/page.h"
#include "vmm/space_internal.h"

enum status space_check_range(const struct space *space, uint64_t start, uint64_t size)
{
    uint64_t limit = lower_half_end(space->tree.levels);

    if (size == 0 || (start | size) % PAGE_SIZE != 0 || start < PAGE_SIZE || start >= limit ||
        size > limit - start)
        return STATUS_RANGE;
    return OK;
}

/* ---- map ---- */

/* One call that maps. */
struct mapping {
    struct space *space;
    uint64_t start;
    uint64_t size;
    uint64_t alignment; /* 0: at start */
    unsigned level;     /* of large pages; 0: small ones */
    struct region_what what;
    enum space_blank blank;
    unsigned coming; /* of enum space_coming */
    bool came;       /* its pages were on their way: no more can be tried */
};

/* Finds the place, or sees that it is free. */
static enum status find_place(struct mapping *map)
{
    const struct space *space = map->space;
    const struct region *next;

    if (map->alignment != 0)
        return region_tree_find_gap(&space->regions, SPACE_FIRST_ADDRESS,
                                    lower_half_end(space->tree.levels), map->size, map->alignment,
                                    &map->start)
                   ? OK
                   : STATUS_NOT_FOUND;
    next = region_find(space, map->start);
    return next != NULL && next->node.start < map->start + map->size ? STATUS_EXISTS : OK;
}

/* The entries of a range that is prepared. Cannot fail. */
static void put_entries(struct space *space, uint64_t start, uint64_t end,
                        const struct region_what *what, enum space_blank blank,
                        struct tlb_batch *batch)
{
    if (blank == BLANK_ZEROES && !what->descriptor->rights.none)
        tree_zero_range(&space->tree, start, end, what->descriptor->rights, batch);
    else
        tree_replace_range(&space->tree, start, end,
                           what->kind == REGION_GUARD ? pte_guard() : what->descriptor->ticket,
                           batch);
}

/* Puts a region and its entries in place; the range is known to be free and sound. */
static enum status fill_place(struct space *space, uint64_t start, uint64_t end,
                              const struct region_what *what, enum space_blank blank)
{
    struct tlb_batch batch;
    enum status status;

    tlb_begin(&batch, &space->tree);
    status = tree_prepare_range(&space->tree, start, end, &batch);
    if (status == OK) {
        status = region_add(space, start, end, what);
        /* From here on nothing can fail. Without a region the range stays empty, and replacing
         * empty by empty gives back the tables that prepare has made. */
        if (status == OK)
            put_entries(space, start, end, what, blank, &batch);
        else
            tree_replace_range(&space->tree, start, end, pte_empty(), &batch);
    }
    tlb_commit(&batch);
    return status;
}

enum status space_fill_range(struct space *space, uint64_t start, uint64_t end,
                             const struct region_what *what, enum space_blank blank)
{
    uint64_t promised = what->committed ? (end - start) / PAGE_SIZE : 0;
    enum status status = commit_take(promised);

    if (status != OK)
        return status;
    status = fill_place(space, start, end, what, blank);
    if (status != OK)
        commit_give(promised);
    return status;
}

/* The range is free. */
static enum status fill_range(struct mapping *map)
{
    uint64_t end = map->start + map->size;
    bool wired = (map->coming & SPACE_WIRED) != 0;
    enum status status;

    if (map->coming == 0)
        return space_fill_range(map->space, map->start, end, &map->what, map->blank);
    status = space_fill_now(map->space, map->start, end, &map->what, wired, &map->came);
    if (status == OK)
        space_fill_keep(map->space, map->start, end, wired);
    return status;
}

static enum status try_map(struct mapping *map)
{
    enum status status;

    space_lock(map->space);
    status = find_place(map);
    if (status == OK)
        status = fill_range(map);
    space_unlock(map->space);
    return status;
}

static enum status map_range(struct mapping *map)
{
    enum status status;

    do {
        status = try_map(map);
    } while (status == STATUS_NO_MEMORY && !map->came && page_make_room());
    return status;
}

/* Maps blank memory; the count of the descriptor is the regions' afterwards. */
static enum status map_blank(struct mapping *map, struct rights rights)
{
    enum status status =
        descriptor_blank(rights, map->level == 0 ? 1 : map->level, &map->what.descriptor);

    if (status != OK)
        return status;
    map->what.committed = rights.write || (map->coming & SPACE_WIRED) != 0;
    status = map_range(map);
    descriptor_put(map->what.descriptor, 1);
    return status;
}

enum status space_map_at(struct space *space, uint64_t start, uint64_t size, struct rights rights)
{
    struct mapping map = {.space = space, .start = start, .size = size};
    enum status status = space_check_range(space, start, size);

    return status == OK ? map_blank(&map, rights) : status;
}

enum status space_map_large_at(struct space *space, uint64_t start, uint64_t size,
                               struct rights rights, unsigned level)
{
    struct mapping map = {.space = space, .start = start, .size = size, .level = level};
    enum status status = space_check_range(space, start, size);

    CHECK(level == 2 || level == 3);
    return status == OK ? map_blank(&map, rights) : status;
}

enum status space_map_with(struct space *space, uint64_t start, uint64_t size, struct rights rights,
                           unsigned level, unsigned coming)
{
    struct mapping map = {
        .space = space, .start = start, .size = size, .level = level, .coming = coming};
    enum status status = space_check_range(space, start, size);

    CHECK(level >= 1 && level <= 3 && coming <= (SPACE_POPULATED | SPACE_WIRED));
    if (status == OK && rights.none && (coming & SPACE_WIRED) != 0)
        status = STATUS_DENIED;
    return status == OK ? map_blank(&map, rights) : status;
}

enum status space_map_zeroes(struct space *space, uint64_t start, uint64_t size,
                             struct rights rights)
{
    struct mapping map = {.space = space, .start = start, .size = size, .blank = BLANK_ZEROES};
    enum status status = space_check_range(space, start, size);

    return status == OK ? map_blank(&map, rights) : status;
}

enum status space_map(struct space *space, uint64_t size, uint64_t alignment, struct rights rights,
                      uint64_t *start)
{
    struct mapping map = {.space = space, .size = size, .alignment = alignment};
    enum status status;

    CHECK(alignment >= PAGE_SIZE && (alignment & (alignment - 1)) == 0);
    if (size == 0 || size % PAGE_SIZE != 0)
        return STATUS_RANGE;
    status = map_blank(&map, rights);
    *start = map.start;
    return status;
}

enum status space_map_guard(struct space *space, uint64_t start, uint64_t size)
{
    struct mapping map = {
        .space = space, .start = start, .size = size, .what = {.kind = REGION_GUARD}};
    enum status status = space_check_range(space, start, size);

    return status == OK ? map_range(&map) : status;
}

/* ---- unmap ---- */

/* The entries go first, then the regions: the range is known to hold some, and to be sound. */
enum status space_empty_range(struct space *space, uint64_t start, uint64_t end)
{
    uint64_t committed = space->committed;
    uint64_t wired = space->wired;
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
    /* Faults that found a ticket are over: now its descriptor may go. */
    if (status == OK)
        region_remove_range(space, start, end);
    commit_give(committed - space->committed);
    wire_give(wired - space->wired);
    return status;
}

static enum status try_unmap(struct space *space, uint64_t start, uint64_t size)
{
    const struct region *first;
    enum status status = STATUS_NOT_FOUND;

    space_lock(space);
    first = region_find(space, start);
    if (first != NULL && first->node.start < start + size)
        status = space_empty_range(space, start, start + size);
    space_unlock(space);
    return status;
}

enum status space_unmap(struct space *space, uint64_t start, uint64_t size)
{
    enum status status = space_check_range(space, start, size);

    if (status != OK)
        return status;
    do {
        status = try_unmap(space, start, size);
    } while (status == STATUS_NO_MEMORY && page_make_room());
    return status;
}

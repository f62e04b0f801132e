/*
 * Moving a mapping with its content to another place, and resizing it in place.
 *
 * The new place is at a distance that lets the fewest entries move, however many pages there are
 * (paging/tree/move.c). Everything that can fail happens before the first entry moves.
 */
#include "cpu/machine.h"
#include "paging/kernel/layout.h"
#include "vmm/flex/flex.h"
#include "vmm/page/page.h"
#include "vmm/range/internal.h"
#include "vmm/section/mapping.h"
#include "vmm/space/commit.h"

/* A call in progress that moves [start, end) to [to, new_end). */
struct moving {
    uint64_t start;
    uint64_t end;
    uint64_t to;
    uint64_t new_end;
    bool came; /* populating has begun: a retry is useless */
};

/* Returns where in the target the new pages begin. */
static uint64_t growth_start(const struct moving *move)
{
    return move->to + (move->end - move->start);
}

/* Does everything that can fail. On failure, replacing empty by empty frees the new tables. */
static enum status move_prepare(struct space *space, const struct moving *move,
                                struct tlb_batch *batch)
{
    uint64_t made_end = growth_start(move);
    enum status status =
        tree_prepare_move(&space->tree, move->start, move->to, move->end - move->start, batch);

    CHECK(move->start < move->end && made_end <= move->new_end);
    if (status != OK)
        return status;
    if (made_end < move->new_end) {
        status = tree_prepare_range(&space->tree, made_end, move->new_end, batch);
        if (status == OK)
            made_end = move->new_end;
    }
    if (status == OK)
        status = section_cut(space, move->start, move->end);
    if (status == OK)
        status = region_prepare_move(space, move->start, move->end, move->to, move->new_end);
    if (status != OK)
        tree_replace_range(&space->tree, move->to, made_end, pte_empty(), batch);
    return status;
}

/* Moves the entries, then the region; cannot fail. New pages are filled first, since tables that
 * the source leaves empty are freed, and new pages may need them. */
static void move_perform(struct space *space, const struct moving *move,
                         const struct region_attributes *what)
{
    uint64_t growth = growth_start(move);
    struct tlb_batch batch;

    CHECK_MSG(
        (move->to - move->start) % tree_move_alignment(&space->tree, move->end - move->start) == 0,
        "%lx moves to %lx", move->start, move->to);
    if (growth < move->new_end) {
        tlb_begin(&batch, &space->tree);
        tree_replace_range(&space->tree, growth, move->new_end, what->descriptor->ticket, &batch);
        tlb_commit(&batch);
    }
    tree_move_range(&space->tree, move->start, move->to, move->end - move->start);
    region_move(space, move->start, move->end, move->to, move->new_end);
    section_move_range(space, move->start, move->end, move->to);
}

static enum status move_accounted(struct space *space, const struct moving *move,
                                  const struct region_attributes *what)
{
    struct tlb_batch batch;
    enum status status;

    tlb_begin(&batch, &space->tree);
    status = move_prepare(space, move, &batch);
    tlb_commit(&batch);
    if (status == OK)
        move_perform(space, move, what);
    return status;
}

/* Maps more of a section, or a new one, for the new pages of a region that sections back. */
static enum status map_growth(struct space *space, const struct moving *move, enum region_kind kind)
{
    uint64_t growth = growth_start(move);

    return region_has_section(kind) && growth < move->new_end
               ? section_map_growth(space, move->end - PAGE_SIZE, growth, move->new_end)
               : OK;
}

/* Charges the new pages: to the account, or to a new section, which is mapped there. */
static enum status charge_growth(struct space *space, const struct moving *move,
                                 const struct region_attributes *what)
{
    uint64_t pages = what->committed ? (move->new_end - growth_start(move)) / PAGE_SIZE : 0;
    enum status status = commit_charge(pages);

    if (status != OK)
        return status;
    status = map_growth(space, move, what->kind);
    if (status != OK)
        commit_uncharge(pages);
    return status;
}

static void uncharge_growth(struct space *space, const struct moving *move,
                            const struct region_attributes *what)
{
    uint64_t growth = growth_start(move);

    if (region_has_section(what->kind))
        section_unmap_range(space, growth, move->new_end);
    commit_uncharge(what->committed ? (move->new_end - growth) / PAGE_SIZE : 0);
}

/* Finds the lowest free place at an allowed distance: a gap in which the range has its old offset
 * from the alignment. */
static bool move_find_place(const struct space *space, struct moving *move, uint64_t new_size)
{
    uint64_t alignment = tree_move_alignment(&space->tree, move->end - move->start);
    uint64_t into = move->start % alignment;
    uint64_t gap;

    if (!range_tree_find_gap(&space->regions, SPACE_FIRST_ADDRESS,
                             lower_half_end(space->tree.levels), into + new_size, alignment, &gap))
        return false;
    move->to = gap + into;
    move->new_end = move->to + new_size;
    CHECK(move->to >= SPACE_FIRST_ADDRESS && move->new_end <= lower_half_end(space->tree.levels));
    return true;
}

static enum status check_place(const struct space *space, const struct moving *move)
{
    const struct region *next = region_find(space, move->to);

    if ((move->to - move->start) % tree_move_alignment(&space->tree, move->end - move->start) != 0)
        return STATUS_RANGE;
    return next != NULL && next->node.start < move->new_end ? STATUS_EXISTS : OK;
}

/* Moves a wired part that grows: the new pages are populated and wired first. */
static enum status move_wired(struct space *space, struct moving *move,
                              const struct region_attributes *what)
{
    uint64_t growth = growth_start(move);
    uint64_t end = move->new_end;
    enum status status = what->descriptor->rights.none ? STATUS_DENIED : OK;

    CHECK(what->wired && what->kind == REGION_PRIVATE && growth < end);
    if (status == OK)
        status = space_fill_now(space, growth, end, what, true, &move->came);
    if (status != OK)
        return status;
    move->new_end = growth;
    status = move_accounted(space, move, what);
    if (status == OK)
        space_fill_keep(space, growth, end, true);
    else
        space_fill_undo(space, growth, end, true);
    move->new_end = end;
    return status;
}

/* Chooses the place if `to` is 0, then moves the range. */
static enum status try_move(struct space *space, struct moving *move, uint64_t new_size)
{
    const struct region *region = region_find(space, move->start);
    struct region_attributes what;
    enum status status;

    if (region == NULL || region->node.start > move->start || region->node.end < move->end ||
        region->what.kind == REGION_GUARD)
        return STATUS_NOT_FOUND;
    if (move->to == 0 && !move_find_place(space, move, new_size))
        return STATUS_NOT_FOUND;
    status = check_place(space, move);
    if (status != OK)
        return status;
    what = region->what;
    if (what.wired && growth_start(move) < move->new_end)
        return move_wired(space, move, &what);
    status = charge_growth(space, move, &what);
    if (status != OK)
        return status;
    status = move_accounted(space, move, &what);
    if (status != OK)
        uncharge_growth(space, move, &what);
    return status;
}

/* Moves a range with mappings that are lent or borrowed: the tree of lends stays. They do not
 * grow. */
static enum status move_tied(struct space *space, struct moving *move, uint64_t new_size)
{
    enum status status = STATUS_DENIED;

    lends_lock();
    if (new_size == move->end - move->start)
        status = flex_cut(space, move->start, move->end);
    if (status == OK) {
        lends_lock_space(space);
        status = try_move(space, move, new_size);
        lends_unlock_space(space);
    }
    lends_unlock();
    return status;
}

static enum status move_range(struct space *space, struct moving *move, uint64_t new_size)
{
    uint64_t fixed = move->to;
    enum status status;

    do {
        move->to = fixed;
        space_lock(space);
        status = try_move(space, move, new_size);
        space_unlock(space);
        if (status == STATUS_AGAIN) {
            move->to = fixed;
            status = move_tied(space, move, new_size);
        }
    } while (status == STATUS_NO_MEMORY && !move->came && page_reclaim_some());
    return status;
}

enum status space_move(struct space *space, uint64_t start, uint64_t size, uint64_t to)
{
    struct moving move = {.start = start, .end = start + size, .to = to, .new_end = to + size};
    enum status status = space_check_range(space, start, size);

    if (status == OK)
        status = space_check_range(space, to, size);
    return status == OK ? move_range(space, &move, size) : status;
}

/* ---- growing and shrinking ---- */

/* A call of space_remap in progress. */
struct remapping {
    uint64_t start;
    uint64_t end;     /* current end */
    uint64_t new_end; /* wanted end */
    bool came;        /* populating has begun: a retry is useless */
};

static enum status remap_grow(struct space *space, struct remapping *remap,
                              const struct region *region)
{
    const struct region *next = region_next(space, region);
    struct region_attributes what = region->what;
    enum status status;

    CHECK(remap->start < remap->end && remap->end < remap->new_end);
    if (region->node.end != remap->end || (next != NULL && next->node.start < remap->new_end))
        return STATUS_EXISTS;
    what.apart = REGION_MERGES; /* what is added is neither lent nor borrowed */
    if (!what.wired)
        return space_fill_range(space, remap->end, remap->new_end, &what, BLANK_TICKETS);
    if (what.descriptor->rights.none)
        return STATUS_DENIED; /* as in space_wire */
    status = space_fill_now(space, remap->end, remap->new_end, &what, true, &remap->came);
    if (status == OK)
        space_fill_keep(space, remap->end, remap->new_end, true);
    return status;
}

/* Returns the region that has all of the old range, or NULL. */
static const struct region *remap_region(const struct space *space, const struct remapping *remap)
{
    const struct region *region = region_find(space, remap->start);

    return region != NULL && region->node.start <= remap->start && remap->end <= region->node.end
               ? region
               : NULL;
}

static enum status try_remap(struct space *space, struct remapping *remap)
{
    const struct region *region = remap_region(space, remap);
    enum status status = OK;

    CHECK(remap->start < remap->end && remap->start < remap->new_end);
    if (region == NULL)
        return STATUS_NOT_FOUND;
    if (remap->new_end > remap->end)
        status = remap_grow(space, remap, region);
    else if (remap->new_end < remap->end)
        status = space_empty_range(space, region, remap->new_end, remap->end);
    return status;
}

/* Unmaps the end of a range, from which nothing is lent any more. */
static enum status remap_shrink(struct space *space, const struct remapping *remap)
{
    enum status status = STATUS_NOT_FOUND;
    const struct region *first;

    lends_lock_space(space);
    first = region_find_covered(space, remap->new_end, remap->end);
    if (first != NULL)
        status = space_empty_range(space, first, remap->new_end, remap->end);
    lends_unlock_space(space);
    return status;
}

/* Makes a range smaller whose mapping is lent or borrowed. The lock of lends keeps that mapping; if
 * another one has come there before, its regions may change between the steps. */
static enum status remap_tied(struct space *space, const struct remapping *remap)
{
    enum status status;
    bool found;

    CHECK(remap->new_end < remap->end);
    lends_lock();
    lends_lock_space(space);
    found = remap_region(space, remap) != NULL;
    lends_unlock_space(space);
    status = found ? flex_free_range(space, remap->new_end, remap->end) : STATUS_NOT_FOUND;
    if (status == OK)
        status = remap_shrink(space, remap);
    lends_unlock();
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
        if (status == STATUS_AGAIN)
            status = remap_tied(space, &remap);
    } while (status == STATUS_NO_MEMORY && !remap.came && page_reclaim_some());
    return status;
}

enum status space_remap_moving(struct space *space, uint64_t start, uint64_t old_size,
                               uint64_t new_size, uint64_t *place)
{
    struct moving move = {.start = start, .end = start + old_size};
    enum status status = space_remap(space, start, old_size, new_size);

    *place = start;
    if (status != STATUS_EXISTS)
        return status;
    status = move_range(space, &move, new_size);
    if (status == OK)
        *place = move.to;
    return status;
}

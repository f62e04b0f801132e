/* Revoking: cutting the tree of lends at the ends of a range, and taking rights from all inside. */
#include "cpu/machine.h"
#include "vmm/flex/internal.h"
#include "vmm/page/page.h"
#include "vmm/space/region.h"

/* ---- cutting (rule H2) ---- */

static bool crosses(const struct mapping *mapping, uint64_t place)
{
    return mapping->place.from < place && place < mapping->place.to;
}

/* Returns the first mapping that crosses the place, from this one on among its siblings. */
static struct mapping *first_crossing(struct mapping *at, uint64_t place)
{
    while (at != NULL && !crosses(at, place))
        at = LIST_NEXT(at, sibling);
    return at;
}

/* Cuts a mapping whose own borrowers are cut. */
static enum status cut_one(struct mapping *mapping, uint64_t place)
{
    uint64_t address = place + mapping->origin;
    struct space *space = mapping->space;
    enum status status;

    CHECK(address > mapping->node.start && address < mapping->node.end);
    lends_lock_space(space);
    status = flex_own_tables(space, mapping->node.start, address);
    if (status == OK)
        status = section_cut(space, address, address);
    lends_unlock_space(space);
    return status;
}

/* Cuts all that descends from a mapping at a place, borrowers before their lenders. What was cut
 * in front of a failure stays cut, which changes no meaning. */
static enum status cut_descendants(const struct mapping *root, uint64_t place)
{
    struct mapping *at = first_crossing(LIST_FIRST(&root->borrowers), place);
    enum status status = OK;

    while (at != NULL && status == OK) {
        struct mapping *below = first_crossing(LIST_FIRST(&at->borrowers), place);
        struct mapping *beside;

        if (below != NULL) {
            at = below;
            continue;
        }
        status = cut_one(at, place);
        beside = first_crossing(LIST_NEXT(at, sibling), place);
        at = beside != NULL ? beside : at->lender == root ? NULL : at->lender;
    }
    return status;
}

/* Finds the space's tied mapping around an address; NULL if there is none. It stays as it is while
 * the lock of lends is held. */
static struct mapping *tied_at(struct space *space, uint64_t address)
{
    struct mapping *mapping;

    lends_lock_space(space);
    mapping = section_find(space, address);
    lends_unlock_space(space);
    return mapping != NULL && mapping->node.start < address && mapping->tied ? mapping : NULL;
}

static enum status cut_below(struct space *space, uint64_t address)
{
    const struct mapping *mapping = tied_at(space, address);

    return mapping != NULL ? cut_descendants(mapping, address - mapping->origin) : OK;
}

enum status flex_cut(struct space *space, uint64_t start, uint64_t end)
{
    enum status status = cut_below(space, start);

    CHECK(lends_locked());
    return status == OK ? cut_below(space, end) : status;
}

/* Makes the tables own where a borrowed mapping will be cut. The space is locked. */
static enum status own_tables_at(struct space *space, uint64_t address)
{
    const struct mapping *mapping = section_find(space, address);

    return mapping != NULL && mapping->lender != NULL && mapping->node.start < address
               ? flex_own_tables(space, mapping->node.start, address)
               : OK;
}

enum status flex_cut_own(struct space *space, uint64_t start, uint64_t end)
{
    enum status status = own_tables_at(space, start);

    CHECK(space->lent.held);
    if (status == OK)
        status = own_tables_at(space, end);
    return status == OK ? section_cut(space, start, end) : status;
}

/* ---- revoking ---- */

/* Adds all that descends from a range, and with `own` its mappings themselves. */
static void add_range(struct taking *taking, struct space *space, uint64_t start, uint64_t end,
                      struct rights keep, bool own)
{
    struct mapping *at;

    lends_lock_space(space);
    for (at = section_find(space, start); at != NULL && at->node.start < end;
         at = section_next_of(at)) {
        struct section_range range = {max_u64(at->node.start, start) - at->origin,
                                      min_u64(at->node.end, end) - at->origin};

        if (own)
            taking_add(taking, at, keep);
        if (at->tied)
            taking_add_descendants(taking, at, range, keep, NULL);
    }
    lends_unlock_space(space);
}

static enum status take_range(struct space *space, uint64_t start, uint64_t end, struct rights keep,
                              bool own, struct flex_taken *taken)
{
    struct taking taking;
    enum status status;

    taking_begin(&taking);
    add_range(&taking, space, start, end, keep, own);
    status = taking_prepare(&taking);
    if (status == OK)
        taking_perform(&taking, taken);
    taking_end(&taking);
    return status;
}

/* Cuts the mappings of a range that are to lose rights themselves, and ties them before another
 * call can change them. STATUS_NOT_FOUND, STATUS_DENIED: it is not shared memory as a whole. */
static enum status tie_own(struct space *space, uint64_t start, uint64_t end)
{
    const struct region *region;
    enum status status = OK;

    lends_lock_space(space);
    region = region_find_covered(space, start, end);
    if (region == NULL)
        status = STATUS_NOT_FOUND;
    for (; status == OK && region != NULL && region->node.start < end;
         region = region_next(space, region)) {
        if (region->what.kind != REGION_SHARED)
            status = STATUS_DENIED;
    }
    if (status == OK)
        status = flex_cut_own(space, start, end);
    if (status == OK)
        status = region_cut(space, start, end);
    for (struct mapping *at = section_find(space, start);
         status == OK && at != NULL && at->node.start < end; at = section_next_of(at)) {
        status = region_cut(space, at->node.start, at->node.end);
        if (status == OK)
            mapping_tie(at);
    }
    if (status != OK)
        region_merge_range(space, start, end);
    lends_unlock_space(space);
    return status;
}

static enum status revoke_range(struct space *space, uint64_t start, uint64_t end,
                                struct rights keep, bool own, struct flex_taken *taken)
{
    enum status status = flex_cut(space, start, end);

    if (status == OK && own)
        status = tie_own(space, start, end);
    return status == OK ? take_range(space, start, end, keep, own, taken) : status;
}

enum status flex_revoke(struct space *space, uint64_t start, uint64_t size, struct rights keep,
                        bool own, struct flex_taken *taken)
{
    enum status status = space_check_range(space, start, size);

    if (status != OK)
        return status;
    do {
        lends_lock();
        status = revoke_range(space, start, start + size, keep, own, taken);
        lends_unlock();
    } while (status == STATUS_NO_MEMORY && page_reclaim_some());
    return status;
}

/* Cuts the tables, mappings and regions of a range at its ends, so that unmapping it needs no
 * memory. */
static enum status prepare_unmap(struct space *space, uint64_t start, uint64_t end)
{
    enum status status;

    lends_lock_space(space);
    status = flex_own_tables(space, start, end);
    if (status == OK)
        status = section_cut(space, start, end);
    if (status == OK)
        status = region_cut(space, start, end);
    lends_unlock_space(space);
    return status;
}

static void undo_cut(struct space *space, uint64_t start, uint64_t end)
{
    lends_lock_space(space);
    region_merge_range(space, start, end);
    lends_unlock_space(space);
}

enum status flex_free_range(struct space *space, uint64_t start, uint64_t end)
{
    enum status status = flex_cut(space, start, end);

    if (status == OK)
        status = prepare_unmap(space, start, end);
    if (status != OK)
        return status;
    status = take_range(space, start, end, (struct rights){.none = true}, false, NULL);
    if (status != OK)
        undo_cut(space, start, end);
    return status;
}

void flex_set_limit(uint32_t lends)
{
    lends_set_limit(lends);
}

/* ---- the end of a space ---- */

static void leave_all(struct space *space)
{
    lends_lock_space(space);
    for (struct mapping *at = section_find(space, 0); at != NULL; at = section_next_of(at)) {
        CHECK(LIST_EMPTY(&at->borrowers));
        if (at->tied)
            mapping_untie(at);
    }
    lends_unlock_space(space);
}

void flex_end(struct space *space)
{
    enum status status;

    lends_lock();
    status = take_range(space, 0, UINT64_MAX, (struct rights){.none = true}, false, NULL);
    CHECK_MSG(status == OK, "the tables of borrowed memory are not own: %s", status_name(status));
    leave_all(space);
    lends_unlock();
}

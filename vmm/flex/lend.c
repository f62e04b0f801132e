/* Lending and giving: a mapping of the lender's pages appears in another space. */
#include "cpu/machine.h"
#include "vmm/flex/internal.h"
#include "vmm/page/page.h"
#include "vmm/space/region.h"

/* A lend: what is asked for, then how far it is. */
struct lend {
    struct space *from;
    uint64_t start;
    uint64_t end;
    struct space *to;
    uint64_t at;
    struct rights rights;
    bool gives;            /* the lender's mappings are cut at the ends */
    struct mapping *first; /* the new mappings, one for each of the lender's, by address */
    struct mapping **last;
    uint32_t count;
};

/* ---- the lender's side ---- */

/* Returns OK if the range is shared memory as a whole. */
static enum status check_source(const struct lend *lend)
{
    const struct region *region = region_find_covered(lend->from, lend->start, lend->end);

    if (region == NULL)
        return STATUS_NOT_FOUND;
    for (; region != NULL && region->node.start < lend->end;
         region = region_next(lend->from, region)) {
        if (region->what.kind != REGION_SHARED)
            return STATUS_DENIED;
    }
    return OK;
}

/* Allocates the mapping that borrows a part of one of the lender's. It remembers its lender. */
static enum status make_borrower(struct lend *lend, struct mapping *lender)
{
    uint64_t start = max_u64(lender->node.start, lend->start);
    uint64_t end = min_u64(lender->node.end, lend->end);
    uint64_t apart = lend->at - lend->start;
    struct mapping *mapping;
    enum status status = mapping_make(lend->to, lender->section, start + apart, end + apart,
                                      lender->origin + apart, &mapping);

    if (status != OK)
        return status;
    mapping->most = rights_common(lend->rights, lender->most); /* rule H1 */
    mapping->lender = lender;
    *lend->last = mapping;
    lend->last = &mapping->next;
    lend->count++;
    return OK;
}

/* Ties the lender's mappings, and allocates what borrows from them. */
static enum status make_borrowers(struct lend *lend)
{
    struct mapping *at = section_find(lend->from, lend->start);
    enum status status = OK;

    for (; at != NULL && at->node.start < lend->end && status == OK; at = section_next_of(at)) {
        status = region_cut(lend->from, at->node.start, at->node.end);
        if (status != OK)
            break;
        mapping_tie(at);
        status = make_borrower(lend, at);
    }
    return status != OK ? status : lends_check(lend->from, lend->count);
}

static void discard_borrowers(struct lend *lend)
{
    while (lend->first != NULL) {
        struct mapping *mapping = lend->first;

        lend->first = mapping->next;
        mapping_discard(mapping);
    }
}

static enum status prepare_source(struct lend *lend)
{
    enum status status;

    lends_lock_space(lend->from);
    status = check_source(lend);
    if (status == OK && lend->gives)
        status = flex_cut_own(lend->from, lend->start, lend->end);
    if (status == OK)
        status = make_borrowers(lend);
    lends_unlock_space(lend->from);
    return status;
}

/* ---- the borrower's side ---- */

/* Adds the region of one new mapping; it has no entries yet. */
static enum status add_region(struct lend *lend, const struct mapping *mapping)
{
    struct region_attributes what = {.kind = REGION_SHARED, .apart = REGION_TIED};
    enum status status = descriptor_section(mapping->most, false, &what.descriptor);

    if (status != OK)
        return status;
    status = region_add(lend->to, region_find_gap(lend->to, mapping->node.start),
                        mapping->node.start, mapping->node.end, &what);
    if (status != OK)
        descriptor_put(what.descriptor, 1);
    return status;
}

/* Adds all regions, or none. */
static enum status add_regions(struct lend *lend)
{
    const struct mapping *at = lend->first;
    enum status status = OK;

    for (; at != NULL && status == OK; at = status == OK ? at->next : at)
        status = add_region(lend, at);
    if (status != OK)
        region_remove_range(lend->to, lend->at, at->node.start);
    return status;
}

/* Puts a mapping into the space and into the tree of lends, then its tickets. */
static void insert_borrower(struct mapping *mapping, struct tlb_batch *batch)
{
    struct space *space = mapping->space;
    struct mapping *lender = mapping->lender;
    const struct region *region = region_find(space, mapping->node.start);

    mapping->lender = NULL;
    mapping_insert(mapping);
    mapping_tie(mapping);
    mapping_borrow(mapping, lender);
    tree_replace_range(&space->tree, mapping->node.start, mapping->node.end,
                       region->what.descriptor->ticket, batch);
}

/* Everything that can fail, then everything that cannot. */
static enum status map_borrowers(struct lend *lend)
{
    struct tree *tree = &lend->to->tree;
    uint64_t end = lend->at + (lend->end - lend->start);
    struct tlb_batch batch;
    enum status status;

    tlb_begin(&batch, tree);
    status = tree_prepare_range(tree, lend->at, end, &batch);
    if (status == OK) {
        status = add_regions(lend);
        if (status != OK) /* frees the tables that were made */
            tree_replace_range(tree, lend->at, end, pte_empty(), &batch);
    }
    for (struct mapping *at = lend->first; at != NULL && status == OK; at = at->next)
        insert_borrower(at, &batch);
    tlb_commit(&batch);
    return status;
}

static enum status map_target(struct lend *lend)
{
    uint64_t end = lend->at + (lend->end - lend->start);
    const struct region *next;
    enum status status = STATUS_EXISTS;

    lends_lock_space(lend->to);
    next = region_find(lend->to, lend->at);
    if (next == NULL || next->node.start >= end)
        status = map_borrowers(lend);
    lends_unlock_space(lend->to);
    return status;
}

/* Lends; the lock of lends is held and the ranges are checked. `lend` is a copy, since a call may
 * begin again. Sets *first to the new mappings, by `next`. */
static enum status lend_range(struct lend lend, struct mapping **first)
{
    enum status status;

    CHECK(lends_locked() && lend.first == NULL);
    lend.last = &lend.first;
    status = prepare_source(&lend);
    if (status == OK)
        status = map_target(&lend);
    if (status != OK)
        discard_borrowers(&lend);
    *first = lend.first;
    return status;
}

static enum status check_lend(const struct lend *lend)
{
    uint64_t size = lend->end - lend->start;
    enum status status = space_check_range(lend->from, lend->start, size);

    if (status == OK)
        status = space_check_range(lend->to, lend->at, size);
    return status == OK && lend->rights.none ? STATUS_DENIED : status;
}

enum status flex_lend(struct space *from, uint64_t start, uint64_t size, struct space *to,
                      uint64_t at, struct rights rights)
{
    struct lend lend = {from, start, start + size, to, at, rights, false, NULL, NULL, 0};
    enum status status = check_lend(&lend);
    struct mapping *first;

    if (status != OK)
        return status;
    do {
        lends_lock();
        status = lend_range(lend, &first);
        lends_unlock();
    } while (status == STATUS_NO_MEMORY && page_reclaim_some());
    return status;
}

/* ---- giving ---- */

/* Puts a new mapping into the place of its lender in the tree of lends. */
static void take_place(struct mapping *heir)
{
    struct mapping *giver = heir->lender;
    struct mapping *lender = giver->lender;

    mapping_unborrow(heir);
    mapping_bequeath(giver, heir);
    mapping_unborrow(giver);
    if (lender != NULL)
        mapping_borrow(heir, lender);
}

static uint32_t borrowers_of(const struct mapping *mapping)
{
    const struct mapping *at;
    uint32_t count = 0;

    LIST_FOREACH (at, &mapping->borrowers, sibling)
        count++;
    return count;
}

/* Removes the giver's mappings, and narrows what they have lent. Fails before anything changes. */
static enum status give_lent(struct mapping *first, struct space *to, struct rights rights)
{
    struct taking taking;
    uint32_t inherited = 0;
    enum status status;

    taking_begin(&taking);
    for (struct mapping *at = first; at != NULL; at = at->next) {
        taking_add(&taking, at->lender, (struct rights){.none = true});
        taking_add_descendants(&taking, at->lender,
                               (struct section_range){at->place.from, at->place.to}, rights, at);
        inherited += borrowers_of(at->lender) - 1;
    }
    status = lends_check(to, inherited);
    if (status == OK)
        status = taking_prepare(&taking);
    if (status == OK) {
        for (struct mapping *at = first; at != NULL; at = at->next)
            take_place(at);
        taking_perform(&taking, NULL);
    }
    taking_end(&taking);
    return status;
}

/* Takes back what was just lent. That needs no memory: the tables are as they were made. */
static void take_back(struct mapping *first)
{
    struct taking taking;
    enum status status;

    taking_begin(&taking);
    while (first != NULL) {
        struct mapping *next = first->next;

        taking_add(&taking, first, (struct rights){.none = true});
        first = next;
    }
    status = taking_prepare(&taking);
    CHECK(status == OK);
    taking_perform(&taking, NULL);
    taking_end(&taking);
}

static enum status give_range(const struct lend *lend)
{
    struct mapping *first;
    enum status status = flex_cut(lend->from, lend->start, lend->end);

    if (status == OK)
        status = lend_range(*lend, &first);
    if (status != OK)
        return status;
    status = give_lent(first, lend->to, lend->rights);
    if (status != OK)
        take_back(first);
    return status;
}

enum status flex_give(struct space *from, uint64_t start, uint64_t size, struct space *to,
                      uint64_t at, struct rights rights)
{
    struct lend lend = {from, start, start + size, to, at, rights, true, NULL, NULL, 0};
    enum status status = check_lend(&lend);

    if (status != OK)
        return status;
    do {
        lends_lock();
        status = give_range(&lend);
        lends_unlock();
    } while (status == STATUS_NO_MEMORY && page_reclaim_some());
    return status;
}

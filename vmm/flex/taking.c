/* Taking rights from mappings that were lent, wherever they are, with one flush (rule H3). */
#include "cpu/machine.h"
#include "paging/tree/table_access.h"
#include "vmm/flex/internal.h"
#include "vmm/space/region.h"

void taking_begin(struct taking *taking)
{
    CHECK(lends_locked());
    *taking = (struct taking){.last = NULL};
    taking->last = &taking->first;
    tlb_later_begin(&taking->later, taking_add_use);
}

void taking_end(struct taking *taking)
{
    CHECK(pfn_is_none(taking->later.chunks));
    for (struct mapping *at = taking->first; at != NULL; at = at->next)
        at->listed = false;
    while (taking->held > 0)
        descriptor_put(taking->descriptors[--taking->held], 1);
}

void taking_add(struct taking *taking, struct mapping *mapping, struct rights keep)
{
    CHECK(mapping->tied);
    if (mapping->listed && keep.none)
        mapping->keep = keep;
    if (mapping->listed || (!keep.none && rights_within(mapping->most, keep)))
        return;
    mapping->listed = true;
    mapping->keep = keep;
    mapping->next = NULL;
    *taking->last = mapping;
    taking->last = &mapping->next;
    taking->count++;
}

/* Returns the next mapping of a tree of lends that is not below this one; NULL after the last. */
static struct mapping *lends_skip(const struct mapping *root, const struct mapping *at)
{
    while (at != root && LIST_NEXT(at, sibling) == NULL)
        at = at->lender;
    return at == root ? NULL : LIST_NEXT(at, sibling);
}

void taking_add_descendants(struct taking *taking, const struct mapping *root,
                            struct section_range range, struct rights keep,
                            const struct mapping *except)
{
    struct mapping *at = LIST_FIRST(&root->borrowers);

    while (at != NULL) {
        bool inside = at->place.from >= range.from && at->place.to <= range.to;

        CHECK(inside || at->place.to <= range.from || at->place.from >= range.to);
        if (inside && at != except)
            taking_add(taking, at, keep);
        at = inside && !LIST_EMPTY(&at->borrowers) ? LIST_FIRST(&at->borrowers)
                                                   : lends_skip(root, at);
    }
}

/* ---- preparing ---- */

/* Holds a descriptor until the end, whose count the caller gives away. */
static void taking_hold(struct taking *taking, struct descriptor *descriptor)
{
    for (unsigned i = 0; i < taking->held; i++) {
        if (taking->descriptors[i] == descriptor) {
            descriptor_put(descriptor, 1);
            return;
        }
    }
    CHECK(taking->held < TAKING_DESCRIPTORS);
    taking->descriptors[taking->held++] = descriptor;
}

/* Holds the descriptors of all rights that may be left. */
static enum status hold_narrower(struct taking *taking, struct rights keep)
{
    enum status status = OK;

    for (unsigned bits = 0; bits < 8 && status == OK; bits++) {
        struct rights rights = {
            .write = (bits & 1) != 0, .execute = (bits & 2) != 0, .user = (bits & 4) != 0};
        struct descriptor *descriptor;

        if (!rights_within(rights, keep))
            continue;
        status = descriptor_section(rights, false, &descriptor);
        if (status == OK)
            taking_hold(taking, descriptor);
    }
    return status;
}

/* Makes the tables of a mapping own where its entries will change, and its regions. Nothing of that
 * is undone until the call is over: only a fork shares them, and only an unmap or a move frees the
 * tables. */
static enum status prepare_tables(const struct mapping *mapping)
{
    struct space *space = mapping->space;
    struct tlb_batch batch;
    enum status status;

    lends_lock_space(space);
    tlb_begin(&batch, &space->tree);
    status =
        mapping->keep.none
            ? tree_prepare_range(&space->tree, mapping->node.start, mapping->node.end, &batch)
            : tree_prepare_protect(&space->tree, mapping->node.start, mapping->node.end, &batch);
    tlb_commit(&batch);
    if (status == OK)
        status = region_own_inside(space, mapping->node.start, mapping->node.end);
    lends_unlock_space(space);
    return status;
}

enum status taking_prepare(struct taking *taking)
{
    const struct mapping *at = taking->first;
    enum status status = OK;

    for (; at != NULL && status == OK; at = at->next) {
        if (!at->keep.none)
            status = hold_narrower(taking, at->keep);
        if (status == OK)
            status = prepare_tables(at);
    }
    return status;
}

/* ---- performing ---- */

/* Closes the batch of a space that may have lost tables. Processors that run the space reach those
 * through the recursive slot, if that is in use: such translations end before the space is unlocked
 * (rule A3). */
static void defer(struct tlb_batch *batch, const struct tree *tree)
{
    tlb_defer(batch);
    if (table_access() != TABLES_RECURSIVE)
        return;
    tlb_begin(batch, tree);
    tlb_add_space(batch);
    tlb_commit(batch);
}

/* Step 1 of unmapping: no entry is left, and the regions are guards, so that nothing is mapped
 * there before the flush. They keep their descriptors, which walks may still find. */
static void guard(struct taking *taking, const struct mapping *mapping)
{
    struct space *space = mapping->space;
    const struct region *region = region_find(space, mapping->node.start);
    struct tlb_batch batch;

    CHECK(region != NULL && region->node.start == mapping->node.start);
    region_make_guards(space, mapping->node.start, mapping->node.end);
    tlb_begin_deferred(&batch, &space->tree, &taking->later);
    tree_replace_range(&space->tree, mapping->node.start, mapping->node.end, pte_empty(), &batch);
    defer(&batch, &space->tree);
}

static struct descriptor *held_with(const struct taking *taking, struct rights rights)
{
    for (unsigned i = 0; i < taking->held; i++) {
        const struct rights *has = &taking->descriptors[i]->rights;

        if (!has->none && has->write == rights.write && has->execute == rights.execute &&
            has->user == rights.user)
            return taking->descriptors[i];
    }
    PANIC("no descriptor is held for rights %u%u%u", rights.write, rights.execute, rights.user);
}

/* Lowers the rights of one region. Its old descriptor is held until walks that found it end. */
static void narrow_region(struct taking *taking, struct space *space, const struct region *region,
                          struct rights keep, struct tlb_batch *batch)
{
    struct descriptor *before = region->what.descriptor;
    struct descriptor *after;

    if (rights_within(before->rights, keep))
        return;
    after = held_with(taking, rights_common(before->rights, keep));
    descriptor_hold(before, 1);
    taking_hold(taking, before);
    tree_protect_range(&space->tree, region->node.start, region->node.end, after->ticket,
                       after->rights, batch);
    region_set_descriptors(space, region->node.start, region->node.end,
                           &(struct region_descriptors){.shared = after});
}

static void narrow(struct taking *taking, struct mapping *mapping)
{
    struct space *space = mapping->space;
    const struct region *region = region_find(space, mapping->node.start);
    struct tlb_batch batch;

    mapping->most = rights_common(mapping->most, mapping->keep);
    tlb_begin_deferred(&batch, &space->tree, &taking->later);
    for (; region != NULL && region->node.start < mapping->node.end;
         region = region_next(space, region))
        narrow_region(taking, space, region, mapping->keep, &batch);
    tlb_defer(&batch);
}

static void perform_one(struct taking *taking, struct mapping *mapping)
{
    struct space *space = mapping->space;

    lends_lock_space(space);
    if (mapping->keep.none)
        guard(taking, mapping);
    else
        narrow(taking, mapping);
    lends_unlock_space(space);
}

static bool is_empty_at(const struct space *space, uint64_t address)
{
    bool were_on = machine_interrupts_off();
    struct tree_place place = tree_walk(&space->tree, address);

    machine_interrupts_restore(were_on);
    return pte_state(place.entry, place.level) == PTE_EMPTY;
}

/* The last step: the guard goes, and the mapping, whose borrowers go too. */
static void remove_guard(struct mapping *mapping)
{
    struct space *space = mapping->space;

    lends_lock_space(space);
    CHECK_MSG(is_empty_at(space, mapping->node.start), "a guard at %lx has been filled",
              mapping->node.start);
    region_remove_range(space, mapping->node.start, mapping->node.end);
    mapping_remove(mapping);
    lends_unlock_space(space);
}

/* Adds the bits of the leaves of a mapping that keeps them, a table at a time. */
static void add_use(const struct mapping *mapping, uint64_t *used)
{
    uint64_t at = mapping->node.start;

    lends_lock_space(mapping->space);
    while (at < mapping->node.end && *used != (PTE_A | PTE_D)) {
        bool were_on = machine_interrupts_off();
        struct tree_place place = tree_walk(&mapping->space->tree, at);
        const struct pte *entries = frame_pointer(place.table);
        uint64_t span = pte_span(place.level == 1 ? 2 : place.level);
        uint64_t end = min_u64(round_down(at, span) + span, mapping->node.end);

        for (; place.level == 1 && at < end; at += PAGE_SIZE) {
            struct pte entry = pte_read(&entries[pte_index(at, 1)]);

            *used |= pte_present(entry) ? entry.word & (PTE_A | PTE_D) : 0;
        }
        machine_interrupts_restore(were_on);
        at = end;
    }
    lends_unlock_space(mapping->space);
}

void taking_perform(struct taking *taking, struct flex_taken *taken)
{
    for (struct mapping *at = taking->first; at != NULL; at = at->next)
        perform_one(taking, at);
    if (taking->count > 0)
        tlb_later_end(&taking->later);
    for (struct mapping *at = taking->first; at != NULL; at = at->next) {
        if (at->keep.none)
            mapping_unborrow(at);
        else
            add_use(at, &taking->used);
    }
    while (taking->first != NULL) {
        struct mapping *at = taking->first;

        taking->first = at->next;
        at->listed = false;
        if (at->keep.none)
            remove_guard(at);
    }
    if (taken != NULL)
        *taken = (struct flex_taken){.mappings = taking->count,
                                     .flushes = taking->later.flushes,
                                     .accessed = (taking->used & PTE_A) != 0,
                                     .dirty = (taking->used & PTE_D) != 0};
}

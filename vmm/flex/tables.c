/*
 * The tables of borrowed memory. At both ends of a borrowed mapping they are own: a lend makes them
 * so, and so do a cut and a fork. So the end of a lender, which must not fail, needs no memory to
 * empty what was borrowed from it. The same holds for the regions (rule C14).
 */
#include "vmm/flex/internal.h"
#include "vmm/space/region.h"

enum status flex_own_tables(struct space *space, uint64_t start, uint64_t end)
{
    struct tlb_batch batch;
    enum status status;

    CHECK(lends_locked() && start < end);
    tlb_begin(&batch, &space->tree);
    status = tree_prepare_range(&space->tree, start, end, &batch);
    tlb_commit(&batch);
    return status == OK ? region_own_inside(space, start, end) : status;
}

enum status flex_fork_child(struct space *child)
{
    struct mapping *at = section_find(child, 0);
    enum status status = OK;

    for (; at != NULL && status == OK; at = section_next_of(at)) {
        if (at->lender != NULL)
            status = flex_own_tables(child, at->node.start, at->node.end);
    }
    return status;
}

void flex_fork_parent(struct space *parent)
{
    struct mapping *at = section_find(parent, 0);
    struct tlb_batch batch;

    CHECK(lends_locked());
    tlb_begin(&batch, &parent->tree);
    for (; at != NULL; at = section_next_of(at)) {
        if (at->lender != NULL)
            tree_own_ends(&parent->tree, at->node.start, at->node.end, &batch);
    }
    /* Reads may have cached translations without the right to write meanwhile. */
    tlb_add_space(&batch);
    tlb_commit(&batch);
}

/* Whole spaces: forks, which copy by sharing, and the end. */
#include "cpu/machine.h"
#include "vmm/page/page.h"
#include "vmm/range/internal.h"
#include "vmm/range/spare_tables.h"
#include "vmm/section/section.h"

/* Copies the parent's regions and shares its tree with the child, which is empty. The parent is
 * locked. */
static enum status fork_into(struct space *child, struct space *parent)
{
    struct tlb_batch batch;
    enum status status = commit_charge(parent->committed);

    CHECK(child->region_count == 0 && child->committed == 0);
    if (status != OK)
        return status;
    status = region_copy_all(child, parent);
    if (status != OK) {
        commit_uncharge(parent->committed);
        return status;
    }
    status = section_copy_all(child, parent);
    if (status != OK)
        return status; /* destroying the child frees what it has */
    tlb_begin(&batch, &parent->tree);
    tree_fork(&child->tree, &parent->tree, &batch);
    /* The child must not run before the parent's translations are invalidated. */
    tlb_commit(&batch);
    if (parent->wired > 0)
        status = wire_fork(child, parent);
    tree_fork_end(&parent->tree);
    return status;
}

static enum status fork_space(struct space *parent, struct space **child)
{
    enum status status = space_create(child);

    if (status != OK)
        return status;
    (*child)->zero_levels = parent->zero_levels;
    space_lock(parent);
    (void)spare_tables_free(parent);
    status = fork_into(*child, parent);
    space_unlock(parent);
    if (status != OK)
        space_destroy(*child);
    return status;
}

enum status space_fork(struct space *parent, struct space **child)
{
    enum status status;

    do {
        status = fork_space(parent, child);
    } while (status == STATUS_NO_MEMORY && page_reclaim_some());
    return status;
}

void space_destroy(struct space *space)
{
    space_retire(space);
    section_unmap_all(space);
    space_free(space);
}

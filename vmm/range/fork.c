/* Whole spaces: forks, which copy by sharing, and the end. */
#include "cpu/machine.h"
#include "vmm/flex/flex.h"
#include "vmm/page/page.h"
#include "vmm/range/internal.h"
#include "vmm/range/spare_tables.h"
#include "vmm/section/mapping.h"
#include "vmm/space/end.h"

/* Unshares the tables of what is borrowed. `status`: of the fork so far. */
static enum status fork_tables(struct space *child, struct space *parent, enum status status)
{
    if (status == OK)
        status = flex_fork_child(child);
    if (status != OK)
        fork_unmap_child(child);
    flex_fork_parent(parent);
    return status;
}

/* Copies the parent's regions and shares its tree with the child, which is empty. The parent is
 * locked. */
static enum status fork_into(struct space *child, struct space *parent)
{
    struct tlb_batch batch;
    enum status status;

    CHECK(child->region_count == 0 && child->committed == 0);
    /* Others may be about to change borrowed regions: they are shared only under the lock of lends
     * (rule C14). */
    if (space_is_tied(parent) && !parent->lent.held)
        return STATUS_AGAIN;
    status = commit_charge(parent->committed);
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
    child->has_large = __atomic_load_n(&parent->has_large, __ATOMIC_SEQ_CST);
    if (parent->wired > 0)
        status = wire_fork(child, parent);
    if (space_is_tied(child))
        status = fork_tables(child, parent, status);
    tree_fork_end(&parent->tree);
    if (status != OK) /* while the lock of lends is held, if any is borrowed */
        section_unmap_all(child);
    return status;
}

/* Ends a space. `at_once`: also the memory that a larger one has. Who splits a large page waits for
 * its entries in dead tables, so these do not wait for anybody (rule T5). */
static void end_mapped_space(struct space *space, bool at_once)
{
    bool maps = space_has_mappings(space);

    if (maps && space_is_tied(space))
        flex_end(space);
    space_retire(space);
    if (maps)
        section_unmap_all(space);
    space_end(space, maps || at_once || space->has_large);
}

static inline __attribute__((always_inline)) enum status
fork_space(struct space *parent, struct space **child, bool holds_lends)
{
    enum status status = space_create(child);

    if (status != OK)
        return status;
    (*child)->zero_levels = parent->zero_levels;
    if (holds_lends)
        lends_lock_space(parent);
    else
        space_lock(parent);
    (void)spare_tables_free(parent);
    status = fork_into(*child, parent);
    if (holds_lends)
        lends_unlock_space(parent);
    else
        space_unlock(parent);
    /* At once (rule T5): if what the failed fork took came back from the queue, the next try would
     * take that for progress, without end. */
    if (status != OK)
        end_mapped_space(*child, true);
    return status;
}

/* Forks a space that has lent or borrowed. A copy of what it borrows is borrowed likewise. */
__attribute__((noinline)) static enum status fork_tied(struct space *parent, struct space **child)
{
    enum status status;

    lends_lock();
    status = fork_space(parent, child, true);
    lends_unlock();
    return status;
}

enum status space_fork(struct space *parent, struct space **child)
{
    enum status status;

    do {
        status = fork_space(parent, child, false);
        if (__builtin_expect(status == OK, 1))
            return OK;
        if (status == STATUS_AGAIN)
            status = fork_tied(parent, child);
    } while (status == STATUS_NO_MEMORY && page_reclaim_some());
    return status;
}

void space_destroy(struct space *space)
{
    end_mapped_space(space, false);
}

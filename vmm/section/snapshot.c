/*
 * Snapshots: a section's content as it is at one moment, by sharing its tree.
 *
 * In this order (rules S3, L4): mark the section, on which faults and calls wait; turn all leaves
 * of its pages into tickets, round after round, until no page that it alone has is referenced by
 * anything else; share the root's entries; wait for all processors that may have walked the old
 * tree; remove the mark. So no leaf through which a write could come survives, and no fault that
 * found an own path goes on with it. Time grows with the pages that were touched since the last
 * snapshot, not with the size: tables that are shared already are left alone.
 */
#include "cpu/machine.h"
#include "vmm/section/internal.h"
#include "vmm/space/commit.h"

/* Recalls all leaves. STATUS_TIMEOUT: a page is still in use. */
static enum status recall_everything(struct section *section)
{
    struct deadline end = deadline_after_ms(SECTION_LIMIT_MS);
    uint64_t reach = section_reach(section);
    uint64_t used;

    /* Once all processors have answered, tables made before the mark name the family. */
    section_flush();
    section_pass_locks(section, 0, reach);
    do {
        section_recall_range(section, 0, reach);
        used = section_settle_range(section, 0, reach);
        if (used > 0)
            machine_relax();
    } while (used > 0 && !deadline_passed(end));
    return used > 0 ? STATUS_TIMEOUT : OK;
}

static void share_tree(struct section *snapshot, struct section *section)
{
    plain_fork(&snapshot->tree, &section->tree);
    section_flush();
}

/* Makes an empty section of the same family and size; its promise is charged. */
static enum status make_empty(struct section *section, struct rights most,
                              struct section **snapshot)
{
    struct rights either = {.write = most.write || section->most.write};
    uint64_t pages = section_promise(section->pager, either, section_size(section));
    enum status status = commit_charge(pages);

    if (status != OK)
        return status;
    status = section_make_in(section->family, section_size(section), section->tree.levels, most,
                             pages, snapshot);
    if (status != OK) {
        commit_uncharge(pages);
        return status;
    }
    (*snapshot)->backed = section->backed;
    (*snapshot)->opens = 1;
    (*snapshot)->is_object = true;
    (*snapshot)->frozen = !most.write;
    return OK;
}

static enum status fill_snapshot(struct section *section, struct section *snapshot)
{
    enum status status;

    CHECK(!section_is_marked(section) && snapshot->mapped == 0);
    __atomic_add_fetch(&section->turn, 1, __ATOMIC_SEQ_CST);
    status = recall_everything(section);
    if (status == OK)
        share_tree(snapshot, section);
    __atomic_add_fetch(&section->turn, 1, __ATOMIC_SEQ_CST);
    return status;
}

enum status section_snapshot(struct section *section, struct rights most, struct section **snapshot)
{
    enum status status;

    CHECK_MSG(section->is_object && !most.none, "a snapshot of %lx bytes", section_size(section));
    if ((most.execute && !section->most.execute) || (most.user && !section->most.user))
        return STATUS_DENIED;
    /* What the one writes back would show in the other's next get. */
    if (section->pager->put != NULL && (section->most.write || most.write))
        return STATUS_DENIED;
    mutex_lock(&section->resizing);
    status = section_finish_cut(section);
    if (status == OK)
        status = make_empty(section, most, snapshot);
    if (status == OK) {
        status = fill_snapshot(section, *snapshot);
        if (status != OK)
            section_close(*snapshot);
    }
    mutex_unlock(&section->resizing);
    return status;
}

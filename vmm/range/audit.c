/* AUDIT of all spaces: regions, sections, trees and accounts compared with each other. */
#include "vmm/page/page.h"
#include "vmm/range/internal.h"
#include "vmm/section/section.h"

/* Trees audited together; a larger array allows more. */
#define AUDIT_TREES_MAX 1024U

struct audit {
    struct tree *trees;
    unsigned count;
    uint64_t committed;
    uint64_t wired;
};

static void audit_space(const struct space *space, void *context)
{
    struct audit *audit = context;

    CHECK(audit->count < AUDIT_TREES_MAX);
    region_audit(space);
    section_audit_space(space);
    audit->committed += space->committed;
    audit->wired += space->wired;
    audit->trees[audit->count++] = space->tree;
}

struct tree_census space_audit(void)
{
    static struct tree trees[AUDIT_TREES_MAX];
    struct audit audit = {.trees = trees};
    struct tree_census census;

    space_visit_all(audit_space, &audit);
    audit.count +=
        section_audit(&trees[audit.count], AUDIT_TREES_MAX - audit.count, &audit.committed);
    CHECK_MSG(audit.committed == commit_pages(),
              "%lu pages committed by regions, %lu in the account", audit.committed,
              commit_pages());
    CHECK_MSG(audit.wired == space_wired_pages() && audit.wired == page_wired(),
              "%lu pages wired by regions, %lu in the account, %lu frames", audit.wired,
              space_wired_pages(), page_wired());
    census = tree_audit(trees, audit.count);
    page_audit(&census);
    return census;
}

/* AUDIT of all spaces: regions, sections, trees and accounts compared with each other. */
#include "vmm/page/page.h"
#include "vmm/range/internal.h"
#include "vmm/section/section.h"
#include "vmm/space/end.h"

struct audit {
    uint64_t committed;
    uint64_t wired;
};

/* Panics if the regions contradict each other or the space's figures. */
static void region_audit(const struct space *space)
{
    const struct region *before = NULL;
    const struct region *region;
    uint32_t count = range_tree_audit(&space->regions);
    uint64_t committed = 0;
    uint64_t wired = 0;

    CHECK_MSG(count == space->region_count, "%u regions, %u counted", count, space->region_count);
    for (region = region_find(space, 0); region != NULL; region = region_next(space, region)) {
        CHECK_MSG((region->node.start | region->node.end) % PAGE_SIZE == 0, "region %lx to %lx",
                  region->node.start, region->node.end);
        CHECK((region->what.kind == REGION_GUARD) == (region->what.descriptor == NULL));
        CHECK_MSG(before == NULL || before->node.end < region->node.start ||
                      !attributes_equal(&before->what, &region->what),
                  "regions %lx and %lx say the same", before->node.start, region->node.start);
        CHECK(region->what.kind == REGION_PRIVATE || region->what.kind == REGION_COPY
                  ? region->what.committed || !region->what.descriptor->rights.write
                  : !region->what.committed);
        CHECK(region->what.kind == REGION_GUARD ||
              region->what.descriptor->shared == region_has_section(region->what.kind));
        CHECK(region->what.apart != REGION_POPULATES &&
              (region->what.committed || !region->what.wired));
        committed += region->what.committed ? region_pages(region) : 0;
        wired += region->what.wired ? region_pages(region) : 0;
        before = region;
    }
    CHECK_MSG(committed == space->committed && wired == space->wired,
              "%lu pages committed, %lu counted; %lu wired, %lu counted", committed,
              space->committed, wired, space->wired);
    range_tree_count_references(&space->regions);
}

static void audit_space(const struct space *space, void *context)
{
    struct audit *audit = context;

    region_audit(space);
    section_audit_space(space);
    audit->committed += space->committed;
    audit->wired += space->wired;
}

/* After all trees were met. */
static void audit_nodes(const struct space *space, void *context)
{
    (void)context;
    range_tree_compare_references(&space->regions);
}

/* What is called for each tree. */
struct visiting {
    tree_visit *visit;
    void *context;
};

static void visit_tree_of(const struct space *space, void *context)
{
    const struct visiting *visiting = context;

    visiting->visit(&space->tree, visiting->context);
}

static void visit_trees(tree_visit *visit, void *context)
{
    struct visiting visiting = {.visit = visit, .context = context};

    space_visit_all(visit_tree_of, &visiting);
    section_visit_trees(visit, context);
}

struct tree_census space_audit(void)
{
    struct audit audit = {0};
    struct tree_census census;

    space_finish_ends(); /* a tree that is dropped in part has tables without a reference */
    space_visit_all(audit_space, &audit);
    audit.committed += section_audit();
    CHECK_MSG(audit.committed == commit_pages(),
              "%lu pages committed by regions, %lu in the account", audit.committed,
              commit_pages());
    CHECK_MSG(audit.wired == space_wired_pages() && audit.wired == page_wired(),
              "%lu pages wired by regions, %lu in the account, %lu frames", audit.wired,
              space_wired_pages(), page_wired());
    space_visit_all(audit_nodes, NULL);
    census = tree_audit(visit_trees);
    page_audit(&census);
    return census;
}

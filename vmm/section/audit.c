/* AUDIT of sections: mappings compared with regions, counts with mappings. */
#include "vmm/section/internal.h"
#include "vmm/space/region.h"

static bool has_kind(const struct region *region, uint64_t at, enum region_kind kind)
{
    return region != NULL && region->node.start <= at && region->what.kind == kind;
}

static bool ends_regions(const struct mapping *mapping)
{
    const struct region *first = region_find(mapping->space, mapping->node.start);
    const struct region *last = region_find(mapping->space, mapping->node.end - 1);

    return first != NULL && first->node.start == mapping->node.start && last != NULL &&
           last->node.end == mapping->node.end;
}

/* Compares a mapping with its neighbours in the tree of lends; returns its children. */
static uint32_t audit_lends(const struct mapping *mapping)
{
    const struct mapping *lender = mapping->lender;
    const struct mapping *child;
    uint32_t children = 0;

    if (!mapping->tied) {
        CHECK(lender == NULL && LIST_EMPTY(&mapping->borrowers));
        return 0;
    }
    CHECK_MSG(ends_regions(mapping), "a lent mapping of %lx to %lx ends inside a region",
              mapping->node.start, mapping->node.end);
    if (lender != NULL)
        CHECK_MSG(lender->section == mapping->section && lender->tied &&
                      lender->place.from <= mapping->place.from &&
                      lender->place.to >= mapping->place.to &&
                      rights_within(mapping->most, lender->most),
                  "%lx to %lx of a section is borrowed from %lx to %lx, or with more rights",
                  mapping->place.from, mapping->place.to, lender->place.from, lender->place.to);
    LIST_FOREACH (child, &mapping->borrowers, sibling) {
        CHECK(child->lender == mapping);
        children++;
    }
    for (const struct region *at = region_find(mapping->space, mapping->node.start);
         at != NULL && at->node.start < mapping->node.end; at = region_next(mapping->space, at))
        CHECK_MSG(at->what.apart == REGION_TIED &&
                      rights_within(at->what.descriptor->rights, mapping->most),
                  "the region at %lx has more rights than were lent", at->node.start);
    return children;
}

/* Panics unless the section's leaf table that a space remembers is the section's. */
static void audit_recent(const struct section_recent *recent)
{
    struct tree_place place;

    if (recent->section == NULL || recent->window == SECTION_NO_WINDOW ||
        recent->turn != recent->section->turn)
        return;
    place = plain_walk(&recent->section->tree, recent->window * pte_span(2));
    CHECK_MSG(place.level == 1 && place.own && frame_record(place.table) == recent->table,
              "a space remembers another table than %x of window %lx", place.table.index,
              recent->window);
}

/* Panics unless each mapping is in shared regions, and these have no more pages than the
 * mappings. */
void section_audit_space(const struct space *space)
{
    uint64_t mapped = 0;
    uint64_t shared = 0;
    uint32_t lends = 0;
    uint32_t ties = 0;

    (void)region_tree_audit(&space->mappings);
    audit_recent(&space->recent);
    for (struct mapping *at = section_find(space, 0); at != NULL; at = section_next_of(at)) {
        const struct region *region = region_find(space, at->node.start);

        CHECK_MSG(at->space == space && (at->section->is_object ||
                                         at->node.end - at->origin <= section_reach(at->section)),
                  "mapping %lx to %lx, origin %lx, of %lx bytes", at->node.start, at->node.end,
                  at->origin, section_size(at->section));
        CHECK(at->place.from == at->node.start - at->origin &&
              at->place.to == at->node.end - at->origin);
        for (uint64_t to = at->node.start; to < at->node.end; region = region_next(space, region)) {
            CHECK_MSG(has_kind(region, to, at->copies ? REGION_COPY : REGION_SHARED),
                      "a section is mapped at %lx, where no region says so", to);
            to = region->node.end;
        }
        mapped += at->node.end - at->node.start;
        lends += audit_lends(at);
        ties += at->tied;
    }
    for (const struct region *at = region_find(space, 0); at != NULL; at = region_next(space, at))
        shared += region_has_section(at->what.kind) ? at->node.end - at->node.start : 0;
    CHECK_MSG(lends == space->lent.lends && ties == space->lent.ties,
              "%u mappings borrow, %u counted; %u are tied, %u counted", lends, space->lent.lends,
              ties, space->lent.ties);
    CHECK_MSG(mapped == shared, "%lx bytes in shared regions, sections are mapped in %lx", shared,
              mapped);
}

/* Panics if the section has a page behind its end, unless a cut could not drop it yet (rule W2). A
 * fault finds none there; but it would come back when the section grows. Tables that a snapshot has
 * too are skipped: a cut leaves none behind the end. */
static void audit_end(const struct section *section)
{
    uint64_t at = section_reach(section);

    CHECK_MSG(section->tree.levels == frame_record(section->tree.root)->level &&
                  max_u64(at, section->uncut) <= section->tree.end &&
                  at == round_up(section_size(section), PAGE_SIZE),
              "%lx bytes in a tree of %u levels", section_size(section), section->tree.levels);
    if (section->frozen || section->uncut > at)
        return;
    while (at < section->tree.end) {
        struct tree_place place = plain_walk(&section->tree, at);
        uint64_t span = pte_span(place.level);

        CHECK_MSG(place.level > 1 || !place.own || pte_state(place.entry, 1) == PTE_EMPTY,
                  "a section ends at %lx, and its entry at %lx is %lx", section_reach(section), at,
                  place.entry.word);
        at = round_down(at, span) + span;
    }
}

uint64_t section_audit(void)
{
    const struct section *section;
    uint64_t charged = 0;
    unsigned count = 0;

    LIST_FOREACH (section, sections_all(), link) {
        mapping_index_audit(&section->family->mappings);
        CHECK_MSG(section->mapped + section->opens == section->count && section->count > 0,
                  "a section has %u mappings, %u opens, count %u", section->mapped, section->opens,
                  section->count);
        CHECK(section->family->count > 0 && !section_is_marked(section));
        audit_end(section);
        count++;
        charged += section->charged;
    }
    CHECK(count == section_count());
    return charged;
}

void section_visit_trees(tree_visit *visit, void *context)
{
    const struct section *section;

    LIST_FOREACH (section, sections_all(), link)
        visit(&section->tree, context);
}

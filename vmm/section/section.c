/* Sections: the objects, and where they are mapped. */
#include "vmm/section/section.h"

#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "pmm/pool.h"
#include "vmm/page/page.h"
#include "vmm/section/internal.h"
#include "vmm/space/commit.h"
#include "vmm/space/region.h"

static struct pool section_pool = POOL("section", struct section);
static struct pool mapping_pool = POOL("mapping", struct mapping);

static LIST_HEAD(, section) sections = LIST_HEAD_INITIALIZER(sections);
static uint8_t sections_lock;

bool sections_lock_all(void)
{
    bool were_on = machine_interrupts_off();

    spin_lock(&sections_lock);
    return were_on;
}

void sections_unlock_all(bool were_on)
{
    spin_unlock(&sections_lock);
    machine_interrupts_restore(were_on);
}

/* ---- sections ---- */

static enum status create_section(uint64_t pages, struct section **created)
{
    struct section *section;
    void *object;
    enum status status = pool_alloc(&section_pool, &object);

    if (status != OK)
        return status;
    section = object;
    section->pages = pages;
    section->count = 1;
    LIST_INIT(&section->mappings);
    status = tree_create(&section->tree);
    if (status != OK) {
        pool_free(&section_pool, object);
        return status;
    }
    *created = section;
    return OK;
}

/* As create_section; charges the pages and lists the section. */
static enum status make_section(uint64_t pages, struct section **made)
{
    enum status status = commit_charge(pages);
    bool were_on;

    if (status != OK)
        return status;
    status = create_section(pages, made);
    if (status != OK) {
        commit_uncharge(pages);
        return status;
    }
    were_on = sections_lock_all();
    LIST_INSERT_HEAD(&sections, *made, link);
    section_start_reclaim(); /* before any section has a page */
    sections_unlock_all(were_on);
    return OK;
}

static void section_hold(struct section *section)
{
    __atomic_add_fetch(&section->count, 1, __ATOMIC_RELAXED);
}

void section_put(struct section *section)
{
    uint32_t before = __atomic_fetch_sub(&section->count, 1, __ATOMIC_ACQ_REL);
    bool were_on;

    CHECK(before > 0);
    if (before > 1)
        return;
    were_on = sections_lock_all();
    CHECK(section->mapping_count == 0);
    LIST_REMOVE(section, link);
    sections_unlock_all(were_on);
    tree_destroy(&section->tree);
    commit_uncharge(section->pages);
    pool_free(&section_pool, section);
}

/* ---- one mapping ---- */

static struct mapping *mapping_of(struct region_node *node)
{
    return (struct mapping *)node;
}

/* Returns the first mapping that ends after the address; the one after a mapping. NULL: none. */
static struct mapping *section_find(const struct space *space, uint64_t address)
{
    return mapping_of(region_tree_find(&space->mappings, address));
}

static struct mapping *section_next_of(struct mapping *mapping)
{
    return mapping_of(region_tree_next(&mapping->node));
}

/* Adds a new mapping to its space and to its section, which counts it. */
static void section_add(struct mapping *mapping)
{
    bool were_on = sections_lock_all();

    region_tree_insert(&mapping->space->mappings, &mapping->node);
    LIST_INSERT_HEAD(&mapping->section->mappings, mapping, link);
    mapping->section->mapping_count++;
    sections_unlock_all(were_on);
}

static enum status make_mapping(struct space *space, uint64_t start, uint64_t end,
                                struct mapping **made)
{
    void *object;
    enum status status = pool_alloc(&mapping_pool, &object);

    if (status != OK)
        return status;
    *made = object;
    (*made)->node.start = start;
    (*made)->node.end = end;
    (*made)->space = space;
    return OK;
}

static void remove_mapping(struct mapping *mapping)
{
    struct section *section = mapping->section;
    bool were_on = sections_lock_all();

    region_tree_remove(&mapping->space->mappings, &mapping->node);
    LIST_REMOVE(mapping, link);
    CHECK(section->mapping_count > 0);
    section->mapping_count--;
    sections_unlock_all(were_on);
    pool_free(&mapping_pool, mapping);
    section_put(section);
}

/* ---- ranges ---- */

enum status section_map(struct space *space, uint64_t start, uint64_t end)
{
    struct section *section;
    struct mapping *mapping;
    enum status status = make_section((end - start) / PAGE_SIZE, &section);

    CHECK_MSG(start < end && (start | end) % PAGE_SIZE == 0, "a section from %lx to %lx", start,
              end);
    if (status != OK)
        return status;
    status = make_mapping(space, start, end, &mapping);
    if (status != OK) {
        section_put(section);
        return status;
    }
    mapping->section = section; /* which has a count for it */
    mapping->origin = start;
    section_add(mapping);
    return OK;
}

static enum status section_cut_at(struct space *space, uint64_t address)
{
    struct mapping *mapping = section_find(space, address);
    struct mapping *behind;
    enum status status;
    bool were_on;

    if (mapping == NULL || mapping->node.start >= address)
        return OK;
    status = make_mapping(space, address, mapping->node.end, &behind);
    if (status != OK)
        return status;
    behind->section = mapping->section;
    behind->origin = mapping->origin;
    CHECK(address % PAGE_SIZE == 0 && address < behind->node.end);
    section_hold(behind->section);
    /* In one step: no page of it may be in no mapping in between. */
    were_on = sections_lock_all();
    region_tree_resize(&mapping->node, mapping->node.start, address);
    region_tree_insert(&space->mappings, &behind->node);
    LIST_INSERT_HEAD(&behind->section->mappings, behind, link);
    behind->section->mapping_count++;
    sections_unlock_all(were_on);
    return OK;
}

enum status section_cut_mappings(struct space *space, uint64_t start, uint64_t end)
{
    enum status status = section_cut_at(space, start);

    return status == OK ? section_cut_at(space, end) : status;
}

void section_unmap_mappings(struct space *space, uint64_t start, uint64_t end)
{
    struct mapping *mapping = section_find(space, start);

    while (mapping != NULL && mapping->node.start < end) {
        struct mapping *next = section_next_of(mapping);

        CHECK(mapping->node.start >= start && mapping->node.end <= end);
        remove_mapping(mapping);
        mapping = next;
    }
}

/* Finds the next mapping before the current one moves to its new address, outside the range. */
void section_move_range(struct space *space, uint64_t start, uint64_t end, uint64_t to)
{
    struct mapping *mapping = section_find(space, start);

    while (mapping != NULL && mapping->node.start < end) {
        struct mapping *next = section_next_of(mapping);
        bool were_on = sections_lock_all();

        CHECK(mapping->node.start >= start && mapping->node.end <= end);
        region_tree_remove(&space->mappings, &mapping->node);
        mapping->node.start += to - start;
        mapping->node.end += to - start;
        mapping->origin += to - start;
        region_tree_insert(&space->mappings, &mapping->node);
        sections_unlock_all(were_on);
        mapping = next;
    }
}

/* ---- whole spaces ---- */

enum status section_copy_mappings(struct space *child, struct space *parent)
{
    struct mapping *from = section_find(parent, 0);
    enum status status = OK;

    for (; from != NULL && status == OK; from = section_next_of(from)) {
        struct mapping *copy;

        status = make_mapping(child, from->node.start, from->node.end, &copy);
        if (status == OK) {
            copy->section = from->section;
            copy->origin = from->origin;
            section_hold(copy->section);
            section_add(copy);
        }
    }
    return status;
}

void section_unmap_all(struct space *space)
{
    section_unmap_range(space, 0, UINT64_MAX);
}

/* ---- places ---- */

/* Finds the place of an address; the lock is held. */
static bool section_place_of(struct space *space, uint64_t address, struct section_place *place)
{
    const struct mapping *mapping = section_find(space, address);

    if (mapping == NULL || mapping->node.start > address)
        return false;
    place->section = mapping->section;
    place->at = round_down(address - mapping->origin, PAGE_SIZE);
    return true;
}

bool section_hold_at(struct space *space, uint64_t address, struct section_place *place)
{
    bool were_on = sections_lock_all();
    bool found = section_place_of(space, address, place);

    if (found) {
        CHECK(place->at / PAGE_SIZE < place->section->pages);
        section_hold(place->section);
    }
    sections_unlock_all(were_on);
    return found;
}

bool section_is_at(struct space *space, uint64_t address, const struct section_place *place)
{
    struct section_place now;
    bool were_on = sections_lock_all();
    bool same = section_place_of(space, address, &now) && now.section == place->section &&
                now.at == place->at;

    sections_unlock_all(were_on);
    return same;
}

/* ---- proof ---- */

unsigned section_count(void)
{
    return section_pool.in_use;
}

static bool is_shared(const struct region *region, uint64_t at)
{
    return region != NULL && region->node.start <= at && region->what.kind == REGION_SHARED;
}

/* Each mapping lies in shared regions, and they have no more pages than mappings have. */
void section_audit_space(const struct space *space)
{
    uint64_t mapped = 0;
    uint64_t shared = 0;

    (void)region_tree_audit(&space->mappings);
    for (struct mapping *at = section_find(space, 0); at != NULL; at = section_next_of(at)) {
        struct region *region = region_find(space, at->node.start);

        CHECK_MSG(at->space == space &&
                      (at->node.start - at->origin) / PAGE_SIZE < at->section->pages &&
                      (at->node.end - at->origin) / PAGE_SIZE <= at->section->pages,
                  "mapping %lx to %lx, origin %lx, of %lu pages", at->node.start, at->node.end,
                  at->origin, at->section->pages);
        for (uint64_t to = at->node.start; to < at->node.end; region = region_next(region)) {
            CHECK_MSG(is_shared(region, to), "a section is mapped at %lx, where no region says so",
                      to);
            to = region->node.end;
        }
        mapped += at->node.end - at->node.start;
    }
    for (struct region *at = region_find(space, 0); at != NULL; at = region_next(at))
        shared += at->what.kind == REGION_SHARED ? at->node.end - at->node.start : 0;
    CHECK_MSG(mapped == shared, "%lx bytes in shared regions, sections are mapped in %lx", shared,
              mapped);
}

unsigned section_audit(struct tree *trees, unsigned max, uint64_t *committed)
{
    const struct section *section;
    unsigned count = 0;

    LIST_FOREACH (section, &sections, link) {
        const struct mapping *mapping;
        uint32_t mappings = 0;

        LIST_FOREACH (mapping, &section->mappings, link) {
            CHECK(mapping->section == section);
            mappings++;
        }
        CHECK_MSG(mappings > 0 && mappings == section->mapping_count && mappings == section->count,
                  "a section has %u mappings, %u in its record, count %u", mappings,
                  section->mapping_count, section->count);
        CHECK(count < max);
        trees[count++] = section->tree;
        *committed += section->pages;
    }
    CHECK(count == section_pool.in_use);
    return count;
}

/* Mappings: windows of spaces on sections, and the tree of lends among them. */
#include "vmm/section/mapping.h"

#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "cpu/smp/thread.h"
#include "pmm/pool.h"
#include "vmm/section/internal.h"
#include "vmm/space/region.h"

/* The default limit of rule H6: 1.5 MiB of mappings a lender. */
#define LENDS_DEFAULT 8192U

static struct pool mapping_pool = POOL("mapping", struct mapping);

static const struct rights all_rights = {.write = true, .execute = true, .user = true};

static struct mutex lends;
static uint32_t lends_most = LENDS_DEFAULT;

static bool lock_space_mappings(struct space *space)
{
    bool were_on = machine_interrupts_off();

    spin_lock(&space->mappings_lock);
    return were_on;
}

static void unlock_space_mappings(struct space *space, bool were_on)
{
    spin_unlock(&space->mappings_lock);
    machine_interrupts_restore(were_on);
}

/* ---- one mapping ---- */

/* Locks for a change of a space's mappings of one section. */
static bool lock_mappings(struct space *space, struct section *section)
{
    bool were_on = lock_space_mappings(space);

    spin_lock(&section->family->lock);
    return were_on;
}

static void unlock_mappings(struct space *space, struct section *section, bool were_on)
{
    spin_unlock(&section->family->lock);
    unlock_space_mappings(space, were_on);
}

/* Inserts a mapping into the index, at the place that its origin gives. Its space and section are
 * locked. */
static void insert_mapping(struct mapping *mapping)
{
    mapping->place.from = mapping->node.start - mapping->origin;
    mapping->place.to = mapping->node.end - mapping->origin;
    region_tree_insert(&mapping->space->mappings, &mapping->node);
    mapping_index_insert(&mapping->section->family->mappings, &mapping->place);
    mapping->section->mapped++;
}

void mapping_insert(struct mapping *mapping)
{
    bool were_on = lock_mappings(mapping->space, mapping->section);

    insert_mapping(mapping);
    unlock_mappings(mapping->space, mapping->section, were_on);
}

enum status mapping_make(struct space *space, struct section *section, uint64_t start, uint64_t end,
                         uint64_t origin, struct mapping **made)
{
    void *object;
    enum status status = pool_alloc(&mapping_pool, &object);

    CHECK_MSG(start < end && (start | end | origin) % PAGE_SIZE == 0, "a section from %lx to %lx",
              start, end);
    if (status != OK)
        return status;
    section_hold(section);
    *made = object;
    (*made)->node.start = start;
    (*made)->node.end = end;
    (*made)->space = space;
    (*made)->section = section;
    (*made)->origin = origin;
    (*made)->most = section->most;
    LIST_INIT(&(*made)->borrowers);
    return OK;
}

void mapping_discard(struct mapping *mapping)
{
    section_put(mapping->section);
    pool_free(&mapping_pool, mapping);
}

void mapping_remove(struct mapping *mapping)
{
    struct section *section = mapping->section;
    bool were_on;

    CHECK(LIST_EMPTY(&mapping->borrowers));
    if (mapping->tied)
        mapping_untie(mapping);
    were_on = lock_mappings(mapping->space, section);
    mapping->space->recent.section = NULL; /* it may be this one, and end */
    region_tree_remove(&mapping->space->mappings, &mapping->node);
    mapping_index_remove(&section->family->mappings, &mapping->place);
    section->mapped--;
    unlock_mappings(mapping->space, section, were_on);
    mapping_discard(mapping);
}

/* ---- the tree of lends ---- */

void lends_lock(void)
{
    mutex_lock(&lends);
}

void lends_unlock(void)
{
    mutex_unlock(&lends);
}

bool lends_locked(void)
{
    return __atomic_load_n(&lends.state, __ATOMIC_RELAXED) != MUTEX_FREE;
}

void lends_lock_space(struct space *space)
{
    CHECK(lends_locked());
    space_lock(space);
    space->lent.held = true;
}

void lends_unlock_space(struct space *space)
{
    space->lent.held = false;
    space_unlock(space);
}

void lends_set_limit(uint32_t limit)
{
    lends_most = limit != 0 ? limit : LENDS_DEFAULT;
}

enum status lends_check(const struct space *lender, uint64_t more)
{
    return lender->lent.lends + more > lends_most ? STATUS_LIMIT : OK;
}

void mapping_tie(struct mapping *mapping)
{
    CHECK(lends_locked() && !mapping->copies);
    if (mapping->tied)
        return;
    region_set_apart(mapping->space, mapping->node.start, mapping->node.end, REGION_TIED);
    mapping->tied = true;
    __atomic_store_n(&mapping->space->lent.ties, mapping->space->lent.ties + 1, __ATOMIC_RELAXED);
}

void mapping_borrow(struct mapping *mapping, struct mapping *lender)
{
    CHECK(mapping->tied && lender->tied && mapping->lender == NULL);
    mapping->lender = lender;
    LIST_INSERT_HEAD(&lender->borrowers, mapping, sibling);
    lender->space->lent.lends++;
}

void mapping_unborrow(struct mapping *mapping)
{
    CHECK(lends_locked());
    if (mapping->lender == NULL)
        return;
    CHECK(mapping->lender->space->lent.lends > 0);
    LIST_REMOVE(mapping, sibling);
    mapping->lender->space->lent.lends--;
    mapping->lender = NULL;
}

void mapping_bequeath(struct mapping *from, struct mapping *heir)
{
    struct mapping *child;

    CHECK(from->place.from == heir->place.from && from->place.to == heir->place.to);
    while ((child = LIST_FIRST(&from->borrowers)) != NULL) {
        mapping_unborrow(child);
        mapping_borrow(child, heir);
    }
}

void mapping_untie(struct mapping *mapping)
{
    mapping_unborrow(mapping);
    CHECK(mapping->tied && mapping->space->lent.ties > 0);
    mapping->tied = false;
    __atomic_store_n(&mapping->space->lent.ties, mapping->space->lent.ties - 1, __ATOMIC_RELAXED);
}

/* Makes both halves of a mapping that was cut at a place children of its lender, and shares out
 * its own children, which were cut there before (rule H2). */
static void split_lends(struct mapping *mapping, struct mapping *behind)
{
    struct mapping *child = LIST_FIRST(&mapping->borrowers);

    mapping_tie(behind);
    if (mapping->lender != NULL)
        mapping_borrow(behind, mapping->lender);
    while (child != NULL) {
        struct mapping *next = LIST_NEXT(child, sibling);

        CHECK(child->place.to <= behind->place.from || child->place.from >= behind->place.from);
        if (child->place.from >= behind->place.from) {
            mapping_unborrow(child);
            mapping_borrow(child, behind);
        }
        child = next;
    }
}

/* Makes a fork's copy a child of the same lender, so that a revoke finds it too. */
static void copy_lends(struct mapping *copy, const struct mapping *from)
{
    mapping_tie(copy);
    if (from->lender != NULL)
        mapping_borrow(copy, from->lender);
}

/* Returns true if a range has a mapping that is lent or borrowed. */
static bool any_is_tied(const struct space *space, uint64_t start, uint64_t end)
{
    const struct mapping *at = section_find(space, start);

    if (!space_is_tied(space))
        return false;
    for (; at != NULL && at->node.start < end; at = section_next_of((struct mapping *)at)) {
        if (at->tied)
            return true;
    }
    return false;
}

/* ---- ranges ---- */

static enum status map_part(struct space *space, struct section *section, uint64_t origin,
                            uint64_t start, uint64_t end, bool copies)
{
    struct mapping *mapping;
    enum status status = mapping_make(space, section, start, end, origin, &mapping);

    if (status != OK)
        return status;
    mapping->copies = copies;
    mapping_insert(mapping);
    return OK;
}

enum status section_map(struct space *space, uint64_t start, uint64_t end)
{
    struct section *section;
    enum status status = section_make(&pager_zero, NULL, end - start, all_rights, &section);

    if (status != OK)
        return status;
    status = map_part(space, section, start, start, end, false);
    section_put(section);
    return status;
}

enum status section_map_window(struct space *space, struct section *section, uint64_t offset,
                               uint64_t start, uint64_t end, bool copies)
{
    CHECK_MSG(section->is_object && offset < SECTION_SIZE_MAX, "a window from %lx on", offset);
    return map_part(space, section, start - offset, start, end, copies);
}

enum status section_map_growth(struct space *space, uint64_t last, uint64_t start, uint64_t end)
{
    const struct mapping *mapping = section_find(space, last);
    uint64_t offset;

    CHECK(mapping != NULL && mapping->node.start <= last);
    if (mapping->lender != NULL) /* only what was lent */
        return STATUS_DENIED;
    if (!mapping->section->is_object)
        return section_map(space, start, end);
    offset = last + PAGE_SIZE - mapping->origin;
    if (end - start > SECTION_SIZE_MAX || offset > SECTION_SIZE_MAX - (end - start))
        return STATUS_RANGE;
    return section_map_window(space, mapping->section, offset, start, end, mapping->copies);
}

bool section_rights_allowed(const struct space *space, uint64_t start, uint64_t end,
                            struct rights rights)
{
    struct mapping *at = section_find(space, start);

    for (; at != NULL && at->node.start < end; at = section_next_of(at)) {
        if (!section_allows(at->section, rights, at->copies) ||
            (at->tied && !rights_within(rights, at->most)))
            return false;
    }
    return true;
}

void section_set_around(struct space *space, uint64_t start, uint64_t end, uint8_t around)
{
    bool were_on = lock_space_mappings(space);
    struct mapping *at = section_find(space, start);

    CHECK_MSG(around <= AROUND_MOST && start < end, "groups of 2^%u from %lx on", around, start);
    for (; at != NULL && at->node.start < end; at = section_next_of(at))
        at->around = around;
    unlock_space_mappings(space, were_on);
}

static enum status section_cut_at(struct space *space, uint64_t address)
{
    struct mapping *mapping = section_find(space, address);
    struct mapping *behind;
    enum status status = OK;
    bool were_on;

    if (mapping == NULL || mapping->node.start >= address)
        return OK;
    if (mapping->lender != NULL)
        status = lends_check(mapping->lender->space, 1);
    if (mapping->tied && status == OK)
        status = region_cut(space, address, address);
    if (status == OK)
        status = mapping_make(space, mapping->section, address, mapping->node.end, mapping->origin,
                              &behind);
    if (status != OK)
        return status;
    behind->copies = mapping->copies;
    behind->most = mapping->most;
    behind->around = mapping->around;
    /* In one step, so that each page is in a mapping at all times. */
    were_on = lock_mappings(space, behind->section);
    region_tree_resize(&mapping->node, mapping->node.start, address);
    mapping_index_set_end(&mapping->place, address - mapping->origin);
    insert_mapping(behind);
    unlock_mappings(space, behind->section, were_on);
    CHECK(mapping->node.end == address && behind->node.start == address);
    if (mapping->tied)
        split_lends(mapping, behind);
    return OK;
}

enum status section_cut_mappings(struct space *space, uint64_t start, uint64_t end)
{
    enum status status = any_is_tied(space, start, end) && !space->lent.held
                             ? STATUS_AGAIN
                             : section_cut_at(space, start);

    return status == OK ? section_cut_at(space, end) : status;
}

void section_unmap_mappings(struct space *space, uint64_t start, uint64_t end)
{
    struct mapping *mapping = section_find(space, start);

    while (mapping != NULL && mapping->node.start < end) {
        struct mapping *next = section_next_of(mapping);

        CHECK(mapping->node.start >= start && mapping->node.end <= end);
        mapping_remove(mapping);
        mapping = next;
    }
}

/* Finds the next mapping before the current one moves to its new address, outside the range. Its
 * place in the section stays. */
void section_move_range(struct space *space, uint64_t start, uint64_t end, uint64_t to)
{
    struct mapping *mapping = section_find(space, start);

    while (mapping != NULL && mapping->node.start < end) {
        struct mapping *next = section_next_of(mapping);
        bool were_on = lock_mappings(space, mapping->section);

        CHECK(mapping->node.start >= start && mapping->node.end <= end);
        region_tree_remove(&space->mappings, &mapping->node);
        mapping->node.start += to - start;
        mapping->node.end += to - start;
        mapping->origin += to - start;
        region_tree_insert(&space->mappings, &mapping->node);
        unlock_mappings(space, mapping->section, were_on);
        mapping = next;
    }
}

/* ---- whole spaces ---- */

/* Copies one mapping into a fork's space. */
static enum status copy_mapping(struct space *child, const struct mapping *from)
{
    struct mapping *copy;
    enum status status = from->lender != NULL ? lends_check(from->lender->space, 1) : OK;

    if (status == OK)
        status = mapping_make(child, from->section, from->node.start, from->node.end, from->origin,
                              &copy);
    if (status != OK)
        return status;
    copy->copies = from->copies;
    copy->most = from->most;
    copy->around = from->around;
    mapping_insert(copy);
    if (from->tied)
        copy_lends(copy, from);
    return OK;
}

enum status section_copy_mappings(struct space *child, struct space *parent)
{
    struct mapping *from = section_find(parent, 0);
    enum status status = space_is_tied(parent) && !parent->lent.held ? STATUS_AGAIN : OK;

    for (; from != NULL && status == OK; from = section_next_of(from))
        status = copy_mapping(child, from);
    if (status != OK)
        section_unmap_all(child);
    return status;
}

void section_unmap_all(struct space *space)
{
    section_unmap_range(space, 0, UINT64_MAX);
}

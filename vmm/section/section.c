/* Sections: the objects and their mappings. */
#include "vmm/section/section.h"

#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "pmm/pool.h"
#include "vmm/page/page.h"
#include "vmm/section/internal.h"
#include "vmm/space/commit.h"
#include "vmm/space/region.h"

static struct pool section_pool = POOL("section", struct section);
static struct pool family_pool = POOL("section family", struct section_family);
static struct pool mapping_pool = POOL("mapping", struct mapping);

static struct section_list sections = LIST_HEAD_INITIALIZER(sections);
static uint8_t sections_lock;

static bool spin_lock_interrupts_off(uint8_t *lock)
{
    bool were_on = machine_interrupts_off();

    spin_lock(lock);
    return were_on;
}

static void spin_unlock_interrupts_restore(uint8_t *lock, bool were_on)
{
    spin_unlock(lock);
    machine_interrupts_restore(were_on);
}

bool section_lock_family(struct section_family *family)
{
    return spin_lock_interrupts_off(&family->lock);
}

void section_unlock_family(struct section_family *family, bool were_on)
{
    spin_unlock_interrupts_restore(&family->lock, were_on);
}

/* Locks for a change of a space's mappings of one section. */
static bool lock_mappings(struct space *space, struct section *section)
{
    bool were_on = spin_lock_interrupts_off(&space->mappings_lock);

    spin_lock(&section->family->lock);
    return were_on;
}

static void unlock_mappings(struct space *space, struct section *section, bool were_on)
{
    spin_unlock(&section->family->lock);
    spin_unlock_interrupts_restore(&space->mappings_lock, were_on);
}

/* ---- sections ---- */

static const struct rights all_rights = {.write = true, .execute = true, .user = true};

static enum status make_family(const struct pager *pager, const void *source,
                               struct section_family **made)
{
    void *object;
    enum status status = pool_alloc(&family_pool, &object);

    if (status != OK)
        return status;
    *made = object;
    (*made)->pager = pager;
    (*made)->source = source;
    (*made)->count = 1;
    RB_INIT(&(*made)->mappings.tree);
    return OK;
}

bool section_try_hold_family(struct section_family *family)
{
    uint32_t count = __atomic_load_n(&family->count, __ATOMIC_RELAXED);

    while (count > 0) {
        if (__atomic_compare_exchange_n(&family->count, &count, count + 1, false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED))
            return true;
    }
    return false;
}

void section_put_family(struct section_family *family)
{
    uint32_t before = __atomic_fetch_sub(&family->count, 1, __ATOMIC_ACQ_REL);

    CHECK(before > 0);
    if (before > 1)
        return;
    CHECK(family->mappings.count == 0);
    if (family->pager->end != NULL)
        family->pager->end(family->source);
    pool_free(&family_pool, family);
}

enum status section_make_in(struct section_family *family, uint64_t size, struct rights most,
                            uint64_t charged, struct section **made)
{
    struct section *section;
    void *object;
    enum status status = pool_alloc(&section_pool, &object);
    bool were_on;

    if (status != OK)
        return status;
    section = object;
    section->size = size;
    section->backed = size;
    section->count = 1;
    section->family = family;
    section->pager = family->pager;
    section->source = family->source;
    section->most = most;
    section->charged = charged;
    status = tree_create(&section->tree);
    if (status != OK) {
        pool_free(&section_pool, object);
        return status;
    }
    CHECK(section_try_hold_family(family));
    were_on = spin_lock_interrupts_off(&sections_lock);
    LIST_INSERT_HEAD(&sections, section, link);
    section_start_reclaim(); /* before any section has a page */
    spin_unlock_interrupts_restore(&sections_lock, were_on);
    *made = section;
    return OK;
}

enum status section_make(const struct pager *pager, const void *source, uint64_t size,
                         struct rights most, struct section **made)
{
    uint64_t pages = section_promise(pager, most, size);
    enum status status = commit_charge(pages);
    struct section_family *family;

    if (status != OK)
        return status;
    status = make_family(pager, source, &family);
    if (status == OK) {
        status = section_make_in(family, size, most, pages, made);
        if (status == OK)
            section_put_family(family);
        else
            pool_free(&family_pool, family); /* its pager has begun nothing */
    }
    if (status != OK)
        commit_uncharge(pages);
    return status;
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
    CHECK(section->mapped == 0);
    were_on = spin_lock_interrupts_off(&sections_lock);
    LIST_REMOVE(section, link);
    spin_unlock_interrupts_restore(&sections_lock, were_on);
    tree_destroy(&section->tree);
    commit_uncharge(section->charged);
    section_put_family(section->family);
    pool_free(&section_pool, section);
}

/* ---- one mapping ---- */

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

/* Adds a new mapping to its space and to its section, which counts it. */
static void section_add(struct mapping *mapping)
{
    bool were_on = lock_mappings(mapping->space, mapping->section);

    insert_mapping(mapping);
    unlock_mappings(mapping->space, mapping->section, were_on);
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
    bool were_on = lock_mappings(mapping->space, section);

    region_tree_remove(&mapping->space->mappings, &mapping->node);
    mapping_index_remove(&section->family->mappings, &mapping->place);
    section->mapped--;
    unlock_mappings(mapping->space, section, were_on);
    pool_free(&mapping_pool, mapping);
    section_put(section);
}

/* ---- ranges ---- */

/* Maps a section. The mapping takes over the caller's count of it. */
static enum status map_counted(struct space *space, struct section *section, uint64_t origin,
                               uint64_t start, uint64_t end, bool copies)
{
    struct mapping *mapping;
    enum status status = make_mapping(space, start, end, &mapping);

    CHECK_MSG(start < end && (start | end | origin) % PAGE_SIZE == 0, "a section from %lx to %lx",
              start, end);
    if (status != OK) {
        section_put(section);
        return status;
    }
    mapping->section = section;
    mapping->origin = origin;
    mapping->copies = copies;
    section_add(mapping);
    return OK;
}

enum status section_map(struct space *space, uint64_t start, uint64_t end)
{
    struct section *section;
    enum status status = section_make(&pager_zero, NULL, end - start, all_rights, &section);

    return status == OK ? map_counted(space, section, start, start, end, false) : status;
}

enum status section_map_window(struct space *space, struct section *section, uint64_t offset,
                               uint64_t start, uint64_t end, bool copies)
{
    CHECK_MSG(section->is_object && offset < SECTION_SIZE_MAX, "a window from %lx on", offset);
    section_hold(section);
    return map_counted(space, section, start - offset, start, end, copies);
}

enum status section_map_growth(struct space *space, uint64_t last, uint64_t start, uint64_t end)
{
    const struct mapping *mapping = section_find(space, last);
    uint64_t offset;

    CHECK(mapping != NULL && mapping->node.start <= last);
    if (!mapping->section->is_object)
        return section_map(space, start, end);
    offset = last + PAGE_SIZE - mapping->origin;
    return section_map_window(space, mapping->section, offset, start, end, mapping->copies);
}

bool section_rights_allowed(const struct space *space, uint64_t start, uint64_t end,
                            struct rights rights)
{
    struct mapping *at = section_find(space, start);

    for (; at != NULL && at->node.start < end; at = section_next_of(at)) {
        if (!section_allows(at->section, rights, at->copies))
            return false;
    }
    return true;
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
    behind->copies = mapping->copies;
    CHECK(address % PAGE_SIZE == 0 && address < behind->node.end);
    section_hold(behind->section);
    /* In one step, so that each page is in a mapping at all times. */
    were_on = lock_mappings(space, behind->section);
    region_tree_resize(&mapping->node, mapping->node.start, address);
    mapping_index_set_end(&mapping->place, address - mapping->origin);
    insert_mapping(behind);
    unlock_mappings(space, behind->section, were_on);
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
            copy->copies = from->copies;
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

/* Finds the place of an address; the space's mappings are locked. */
static bool section_place_of(struct space *space, uint64_t address, struct section_place *place)
{
    const struct mapping *mapping = section_find(space, address);

    if (mapping == NULL || mapping->node.start > address)
        return false;
    place->section = mapping->section;
    place->at = round_down(address - mapping->origin, PAGE_SIZE);
    place->copies = mapping->copies;
    return true;
}

bool section_hold_at(struct space *space, uint64_t address, struct section_place *place)
{
    bool were_on = spin_lock_interrupts_off(&space->mappings_lock);
    bool found = section_place_of(space, address, place);

    if (found)
        section_hold(place->section);
    spin_unlock_interrupts_restore(&space->mappings_lock, were_on);
    return found;
}

bool section_is_at(struct space *space, uint64_t address, const struct section_place *place)
{
    struct section_place now;
    bool were_on = spin_lock_interrupts_off(&space->mappings_lock);
    bool same = section_place_of(space, address, &now) && now.section == place->section &&
                now.at == place->at && now.copies == place->copies;

    spin_unlock_interrupts_restore(&space->mappings_lock, were_on);
    return same && place->at < section_reach(place->section);
}

/* ---- proof ---- */

unsigned section_count(void)
{
    return section_pool.in_use;
}

const struct section_list *sections_all(void)
{
    return &sections;
}

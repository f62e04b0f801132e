/* Sections: the objects, and the families of those that share pages. */
#include "vmm/section/section.h"

#include "cpu/machine.h"
#include "cpu/smp/spin.h"
#include "pmm/pool.h"
#include "vmm/section/internal.h"
#include "vmm/space/commit.h"

static struct pool section_pool = POOL("section", struct section);
static struct pool family_pool = POOL("section family", struct section_family);

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

/* ---- sections ---- */

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

void section_set_size(struct section *section, uint64_t size)
{
    __atomic_store_n(&section->size, size, __ATOMIC_SEQ_CST);
    __atomic_store_n(&section->reach, round_up(size, PAGE_SIZE), __ATOMIC_SEQ_CST);
}

enum status section_make_in(struct section_family *family, uint64_t size, unsigned levels,
                            struct rights most, uint64_t charged, struct section **made)
{
    struct section *section;
    void *object;
    enum status status = pool_alloc(&section_pool, &object);
    bool were_on;

    if (status != OK)
        return status;
    section = object;
    section_set_size(section, size);
    section->backed = size;
    section->count = 1;
    section->family = family;
    section->pager = family->pager;
    section->source = family->source;
    section->most = most;
    section->charged = charged;
    status = plain_create(&section->tree, levels);
    if (status != OK) {
        pool_free(&section_pool, object);
        return status;
    }
    if (levels == 1)
        section_name_table(section->tree.root, family);
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
        status = section_make_in(family, size, plain_levels_for(size), most, pages, made);
        if (status == OK)
            section_put_family(family);
        else
            pool_free(&family_pool, family); /* its pager has begun nothing */
    }
    if (status != OK)
        commit_uncharge(pages);
    return status;
}

void section_hold(struct section *section)
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
    plain_destroy(&section->tree);
    commit_uncharge(section->charged);
    section_put_family(section->family);
    pool_free(&section_pool, section);
}

/* ---- the levels of the tree ---- */

enum status section_raise_tree(struct section *section, uint64_t size)
{
    enum status status;

    do {
        status = plain_grow(&section->tree, plain_levels_for(size));
    } while (status == STATUS_NO_MEMORY && page_reclaim_some());
    return status;
}

/* Makes the path to the table of a level at address 0 own: no snapshot has it. */
static enum status own_first_table(struct section *section, unsigned level)
{
    struct page_reserve reserve = {.page = PFN_NONE};
    enum status status = OK;
    bool own = false;

    while (!own && status == OK) {
        bool were_on = machine_interrupts_off();
        struct tree view = plain_view(&section->tree);

        own = tree_path_needs(&view, 0, level, TREE_BUILD) == 0;
        machine_interrupts_restore(were_on);
        if (!own)
            status = section_own_path(section, 0, level, &reserve);
        status = status == STATUS_AGAIN ? OK : status;
    }
    page_reserve_drain(&reserve);
    return status;
}

/* A walk that had begun with the old root may still find the tables that go, or make more of them,
 * and a space may remember one; those that come later begin at the new root. So the spaces forget
 * after the first answer of all processors, and the tables go after the second. */
void section_lower_tree(struct section *section)
{
    unsigned levels = plain_levels_for(section_size(section));
    struct pfn old;

    CHECK(section->uncut <= section_reach(section));
    if (levels >= section->tree.levels || own_first_table(section, levels) != OK)
        return;
    old = plain_lower(&section->tree, levels);
    section_flush();
    section_forget_tables(section->family);
    section_flush();
    plain_drop(old);
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

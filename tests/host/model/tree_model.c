/* Trees without vmm/. */
#include "tests/host/model/tree_model.h"

#include <string.h>

#include "cpu/machine.h"
#include "paging/kernel/map.h"
#include "pmm/pmm.h"
#include "tests/host/fake/kernel_map.h"
#include "tests/host/fake/machine.h"

struct forest forest;

static const struct rights all_rights = {.write = true, .execute = true, .user = true};

/* ---- the hooks: what vmm/ and swapdisk/ do in the kernel ---- */

static void slot_hold(struct slot slot)
{
    CHECK(slot.index < FOREST_SLOTS && forest.slots[slot.index] > 0);
    forest.slots[slot.index]++;
}

static void slot_release(struct slot slot)
{
    CHECK(slot.index < FOREST_SLOTS && forest.slots[slot.index] > 0);
    forest.slots[slot.index]--;
}

static void page_free_last(struct pfn page)
{
    CHECK(frame_record(page)->count == 0);
    forest.pages_free_last++;
    if ((frame_record(page)->flags & FRAME_BLOCK) != 0)
        pmm_free_order(page, frame_record(page)->level);
    else
        pmm_free(page);
}

static bool page_split(struct pfn page, unsigned order, unsigned to, uint32_t entries,
                       uint32_t holds)
{
    frame_record(page)->count -= entries - 1;
    CHECK(holds == 0 && frame_record(page)->count == 1);
    pmm_split(page, order, to);
    return true;
}

static void pages_free_last(const struct pfn *pages, unsigned count)
{
    CHECK(count <= TREE_PAGES_TOGETHER);
    for (unsigned i = 0; i < count; i++)
        page_free_last(pages[i]);
}

void forest_start(uint64_t memory, unsigned levels, const uint64_t *bounds, unsigned bound_count)
{
    static const struct tree_hooks hooks = {.slot_hold = slot_hold,
                                            .slot_release = slot_release,
                                            .page_free_last = page_free_last,
                                            .pages_free_last = pages_free_last,
                                            .page_split = page_split};

    CHECK(bound_count >= 2 && bound_count <= FOREST_CELLS + 1);
    fake_machine_start(memory);
    fake_kernel_map_levels = levels;
    fake_kernel_map_start();
    tree_init(kernel_map_zero_frame(), &hooks);
    memset(&forest, 0, sizeof(forest));
    forest.levels = levels;
    forest.cell_count = bound_count - 1;
    memcpy(forest.bounds, bounds, bound_count * sizeof(bounds[0]));
}

void forest_end(void)
{
    for (unsigned i = 0; i < FOREST_TREES; i++) {
        if (forest.trees[i].exists)
            forest_destroy(i);
    }
    CHECK(pmm_usage().by_kind[FRAME_TABLE] == 0 && pmm_usage().by_kind[FRAME_ANONYMOUS] == 0);
    for (unsigned slot = 0; slot < FOREST_SLOTS; slot++)
        CHECK_MSG(forest.slots[slot] == 0, "slot %u has count %u at the end", slot,
                  forest.slots[slot]);
    pmm_audit();
}

/* ---- operations ---- */

void forest_create(unsigned number)
{
    enum status status = tree_create(&forest.trees[number].tree);

    CHECK(status == OK && !forest.trees[number].exists);
    forest.trees[number].exists = true;
    memset(forest.trees[number].cells, 0, sizeof(forest.trees[number].cells));
}

void forest_fork(unsigned child, unsigned parent)
{
    struct tlb_batch batch;

    forest_create(child);
    tlb_begin(&batch, &forest.trees[parent].tree);
    tree_fork(&forest.trees[child].tree, &forest.trees[parent].tree, &batch);
    tlb_commit(&batch);
    tree_fork_end(&forest.trees[parent].tree);
    memcpy(forest.trees[child].cells, forest.trees[parent].cells,
           sizeof(forest.trees[child].cells));
}

void forest_destroy(unsigned number)
{
    CHECK(forest.trees[number].exists);
    tree_destroy(&forest.trees[number].tree);
    forest.trees[number].exists = false;
}

static struct pte ticket_of(struct content content)
{
    if (content.kind == CONTENT_TICKET || content.kind == CONTENT_BLANK)
        return pte_ticket((uint16_t)content.number, 1);
    return content.kind == CONTENT_GUARD ? pte_guard() : pte_empty();
}

static void check_all_cells(void);

void forest_replace(unsigned number, unsigned from, unsigned to, struct content with)
{
    struct forest_tree *tree = &forest.trees[number];
    uint64_t start = forest.bounds[from];
    uint64_t end = forest.bounds[to];
    struct tlb_batch batch;
    enum status status;

    tlb_begin(&batch, &tree->tree);
    status = tree_prepare_range(&tree->tree, start, end, &batch);
    CHECK(status == OK);
    check_all_cells(); /* preparing changes no meaning */
    if (with.kind == CONTENT_ZEROES)
        tree_zero_range(&tree->tree, start, end, with.rights, &batch);
    else
        tree_replace_range(&tree->tree, start, end, ticket_of(with), &batch);
    tlb_commit(&batch);
    for (unsigned i = from; i < to; i++)
        tree->cells[i] = with;
    if (with.kind != CONTENT_NONE)
        CHECK_MSG(forest_entries(number, start, end) == forest_fewest(start, end),
                  "%lx to %lx is %u entries, %u are enough", start, end,
                  forest_entries(number, start, end), forest_fewest(start, end));
}

/* Returns a cell's content after a change of rights. */
static struct content protected_content(struct content content, struct rights rights,
                                        uint64_t ticket)
{
    struct content blank = {
        content.kind == CONTENT_ZERO ? CONTENT_BLANK : CONTENT_TICKET, ticket, {0}};

    switch (content.kind) {
    case CONTENT_NONE:
    case CONTENT_GUARD: return content;
    case CONTENT_TICKET: return blank;
    case CONTENT_BLANK: content.number = ticket; return content;
    case CONTENT_ZEROES:
    case CONTENT_ZERO:
        if (rights.none)
            return blank;
        break;
    case CONTENT_PAGE:
    case CONTENT_WITHHELD: content.kind = rights.none ? CONTENT_WITHHELD : CONTENT_PAGE; break;
    case CONTENT_LARGE:
    case CONTENT_TRANSIT:
    case CONTENT_SWAPPED: break;
    }
    content.rights = rights;
    return content;
}

void forest_protect(unsigned number, unsigned from, unsigned to, struct rights rights,
                    uint64_t ticket)
{
    struct forest_tree *tree = &forest.trees[number];
    struct tlb_batch batch;
    enum status status;

    tlb_begin(&batch, &tree->tree);
    status = tree_prepare_protect(&tree->tree, forest.bounds[from], forest.bounds[to], &batch);
    CHECK(status == OK);
    check_all_cells();
    tree_protect_range(&tree->tree, forest.bounds[from], forest.bounds[to],
                       pte_ticket((uint16_t)ticket, 1), rights, &batch);
    tlb_commit(&batch);
    for (unsigned i = from; i < to; i++)
        tree->cells[i] = protected_content(tree->cells[i], rights, ticket);
}

static struct pfn make_page(uint64_t tag)
{
    struct pfn page;
    enum status status = pmm_alloc(FRAME_ANONYMOUS, FRAME_CLEARED, &page);

    CHECK(status == OK);
    *(uint64_t *)frame_pointer(page) = tag;
    return page;
}

/* Makes an entry of this kind; *content gets its number. */
static struct pte make_entry(struct tree_place place, enum content_kind kind,
                             struct content *content)
{
    struct rights rights = all_rights;
    struct pfn page = PFN_NONE;
    unsigned slot = 0;

    *content = (struct content){kind, 0, all_rights};
    if (kind == CONTENT_WITHHELD)
        content->rights = (struct rights){.none = true};
    if (kind == CONTENT_PAGE || kind == CONTENT_WITHHELD || kind == CONTENT_TRANSIT) {
        content->number = ++forest.last_tag;
        page = make_page(content->number);
        rmap_reference(page, place.table, place.index);
    }
    switch (kind) {
    case CONTENT_PAGE: return pte_leaf(page, 1, PTE_OWN, rights);
    case CONTENT_WITHHELD: return pte_withheld(page);
    case CONTENT_TRANSIT: return pte_transit(page, rights);
    case CONTENT_ZERO: return pte_leaf(tree_zero_page(), 1, PTE_COW, rights);
    case CONTENT_SWAPPED:
        while (forest.slots[slot] != 0)
            slot++;
        CHECK(slot < FOREST_SLOTS);
        forest.slots[slot] = 1;
        content->number = slot;
        return pte_swapped((struct slot){slot}, rights);
    default: content->number = 7; return ticket_of(*content);
    }
}

/* Makes the path down to a level own. Starts over where it splits a shared large page. */
static void build_path(struct tree *tree, uint64_t address, unsigned level, struct tlb_batch *batch)
{
    struct tree_reserve reserve = {0};
    enum status status;

    do {
        status = tree_reserve_fill(&reserve, forest.levels - 1);
        CHECK(status == OK);
        status = tree_make_path(tree, address, level, TREE_BUILD, &reserve, batch);
    } while (status == STATUS_AGAIN);
    CHECK(status == OK);
    tree_reserve_drain(&reserve);
}

void forest_put(unsigned number, unsigned cell, enum content_kind kind)
{
    struct forest_tree *tree = &forest.trees[number];
    uint64_t address = forest.bounds[cell];
    struct content content;
    struct tree_place place;
    struct tlb_batch batch;
    struct pte old;

    tlb_begin(&batch, &tree->tree);
    build_path(&tree->tree, address, 1, &batch);
    (void)machine_interrupts_off();
    place = tree_walk(&tree->tree, address);
    CHECK(place.level == 1 && place.own && tree_lock(place.table));
    old = tree_replace_entry(place.table, place.index, make_entry(place, kind, &content));
    tree_unlock(place.table);
    machine_interrupts_restore(true);
    tlb_release(&batch, (struct tlb_release){.entry = old, .level = 1});
    tlb_commit(&batch);
    tree->cells[cell] = content;
}

/* Returns the place where the walk of an address passes a level with tables below. */
static struct tree_place table_at_level(const struct tree *tree, uint64_t address, unsigned level)
{
    struct tree_place place = {.table = tree->root, .level = tree->levels};

    for (;; place.level--) {
        const struct pte *entries = frame_pointer(place.table);

        place.index = (uint16_t)pte_index(address, place.level);
        place.entry = pte_read(&entries[place.index]);
        if (place.level == level)
            return place;
        place.table = pte_frame(place.entry);
    }
}

/* Makes the path of an address own and replaces a table's entry there. */
static void replace_at(struct tree *tree, uint64_t address, unsigned level, struct pfn page)
{
    struct tlb_batch batch;
    struct tree_place place;
    struct pte old;

    tlb_begin(&batch, tree);
    build_path(tree, address, level, &batch);
    (void)machine_interrupts_off();
    place = table_at_level(tree, address, level); /* a table there is dropped as a whole */
    CHECK(tree_lock(place.table));
    rmap_reference(page, place.table, place.index);
    old = tree_replace_entry(place.table, place.index, pte_leaf(page, level, PTE_OWN, all_rights));
    tree_unlock(place.table);
    machine_interrupts_restore(true);
    if (old.word != 0)
        tlb_add_everything(&batch);
    tlb_release(&batch, (struct tlb_release){.entry = old, .level = (uint8_t)level});
    tlb_commit(&batch);
}

bool forest_put_large(unsigned number, unsigned cell)
{
    struct forest_tree *tree = &forest.trees[number];
    uint64_t address = forest.bounds[cell];
    uint64_t *words;
    struct pfn page;

    if (address % (2 * MIB) != 0 || forest.bounds[cell + 1] - address < 2 * MIB ||
        pmm_alloc_order(9, FRAME_ANONYMOUS, FRAME_CLEARED, &page) != OK)
        return false;
    words = frame_pointer(page);
    words[0] = words[511 * 512] = ++forest.last_tag;
    replace_at(&tree->tree, address, 2, page);
    tree->cells[cell] = (struct content){CONTENT_LARGE, forest.last_tag, all_rights};
    return true;
}

/* ---- comparison ---- */

unsigned forest_fewest(uint64_t start, uint64_t end)
{
    unsigned count = 0;

    while (start < end) {
        uint64_t span = PAGE_SIZE;

        for (unsigned level = 1; level < forest.levels; level++) {
            if (start % (span << 9) == 0 && end - start >= span << 9)
                span <<= 9;
        }
        start += span;
        count++;
    }
    return count;
}

unsigned forest_entries(unsigned number, uint64_t start, uint64_t end)
{
    unsigned count = 0;

    while (start < end) {
        struct tree_place place = tree_walk(&forest.trees[number].tree, start);
        uint64_t span = PAGE_SIZE << 9 * (place.level - 1);

        start = start / span * span + span;
        count++;
    }
    return count;
}

static void check_tag(struct pfn page, uint64_t tag, uint64_t address)
{
    CHECK_MSG(*(uint64_t *)frame_pointer(page) == tag, "the page at %lx has tag %lu, not %lu",
              address, *(uint64_t *)frame_pointer(page), tag);
}

static void check_rights(struct rights is, struct rights wanted, uint64_t address)
{
    CHECK_MSG(is.write == wanted.write && is.execute == wanted.execute && is.user == wanted.user &&
                  is.none == wanted.none,
              "%lx has rights w%d x%d u%d none%d", address, is.write, is.execute, is.user, is.none);
}

static void check_entry(struct tree_place place, struct content content, uint64_t address)
{
    static const enum pte_state states[] = {
        [CONTENT_NONE] = PTE_EMPTY,        [CONTENT_TICKET] = PTE_TICKET,
        [CONTENT_GUARD] = PTE_GUARD,       [CONTENT_PAGE] = PTE_LEAF,
        [CONTENT_WITHHELD] = PTE_WITHHELD, [CONTENT_TRANSIT] = PTE_TRANSIT,
        [CONTENT_SWAPPED] = PTE_SWAPPED,   [CONTENT_ZERO] = PTE_LEAF,
        [CONTENT_ZEROES] = PTE_TABLE,      [CONTENT_BLANK] = PTE_TICKET};
    enum pte_state state = pte_state(place.entry, place.level);

    if (content.kind == CONTENT_ZEROES && place.level == 1)
        content.kind = CONTENT_ZERO;

    CHECK_MSG(state == states[content.kind], "%lx is %s, should be %s", address,
              pte_state_name(state), pte_state_name(states[content.kind]));
    if (content.kind == CONTENT_TICKET || content.kind == CONTENT_BLANK)
        CHECK(place.entry.word == ticket_of(content).word);
    if (content.kind >= CONTENT_ZEROES && content.kind <= CONTENT_ZERO)
        check_rights(pte_rights(place.entry), content.rights, address);
    if (content.kind == CONTENT_PAGE)
        check_tag(pte_frame(place.entry), content.number, address);
    if (content.kind == CONTENT_ZERO || content.kind == CONTENT_ZEROES)
        CHECK(pte_frame(place.entry).index == tree_zero_page().index + place.level - 1);
    if (content.kind == CONTENT_WITHHELD || content.kind == CONTENT_TRANSIT)
        check_tag(pte_payload_frame(place.entry), content.number, address);
    if (content.kind == CONTENT_SWAPPED)
        CHECK(pte_slot(place.entry).index == content.number);
}

/* Checks one page of a large page, which may have been split since. */
static void check_part(struct tree_place place, struct content content, uint64_t address)
{
    enum pte_state state = pte_state(place.entry, place.level);
    struct pfn page = state == PTE_LEAF ? pte_frame(place.entry) : pte_payload_frame(place.entry);

    CHECK_MSG(place.level <= 2 && state == (content.rights.none ? PTE_WITHHELD : PTE_LEAF),
              "%lx is %s at level %u, should be large", address, pte_state_name(state),
              place.level);
    check_rights(pte_rights(place.entry), content.rights, address);
    if (place.level == 2)
        page.index += (uint32_t)(address / PAGE_SIZE % PTE_ENTRIES);
    check_tag(page, content.number, address);
}

static void check_cells(const struct forest_tree *tree)
{
    for (unsigned i = 0; i < forest.cell_count; i++) {
        uint64_t first = forest.bounds[i];
        uint64_t last = forest.bounds[i + 1] - PAGE_SIZE;
        struct content content = tree->cells[i];

        if (content.kind == CONTENT_LARGE) {
            check_part(tree_walk(&tree->tree, first), content, first);
            last = first + 511 * PAGE_SIZE;
            check_part(tree_walk(&tree->tree, last), content, last);
            continue;
        }
        check_entry(tree_walk(&tree->tree, first), content, first);
        if (content.kind <= CONTENT_ZEROES)
            check_entry(tree_walk(&tree->tree, last), content, last);
    }
}

static void check_all_cells(void)
{
    for (unsigned i = 0; i < FOREST_TREES; i++) {
        if (forest.trees[i].exists)
            check_cells(&forest.trees[i]);
    }
}

static void visit_forest(tree_visit *visit, void *context)
{
    for (unsigned i = 0; i < FOREST_TREES; i++) {
        if (forest.trees[i].exists)
            visit(&forest.trees[i].tree, context);
    }
}

struct oracle_census forest_check(void)
{
    struct tree trees[FOREST_TREES];
    struct tree_census census;
    unsigned count = 0;
    uint64_t slots = 0;

    for (unsigned i = 0; i < FOREST_TREES; i++) {
        if (forest.trees[i].exists)
            trees[count++] = forest.trees[i].tree;
    }
    check_all_cells();
    census = tree_audit(visit_forest);
    for (unsigned slot = 0; slot < FOREST_SLOTS; slot++)
        slots += forest.slots[slot];
    CHECK_MSG(census.swapped == slots, "%lu swapped entries, %lu counts of slots", census.swapped,
              slots);
    return oracle_check(trees, count);
}

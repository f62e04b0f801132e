/* Compares address spaces with the plain model, and checks the ledger. */
#include <stdlib.h>
#include <string.h>

#include "cpu/machine.h"
#include "cpu/trap/trap.h"
#include "swapdisk/area.h"
#include "tests/host/fake/kernel_map.h"
#include "tests/host/fake/machine.h"
#include "tests/host/fake/mmu.h"
#include "tests/host/model/space_model_host.h"
#include "tests/host/model/tree_oracle.h"
#include "tests/model/space_internal.h"
#include "vmm/page/page.h"
#include "vmm/section/section.h"
#include "vmm/space/commit.h"
#include "vmm/space/end.h"

/* Descriptors in a frame of their table, which is never freed. */
#define DESCRIPTORS_A_FRAME 64U

/* Frames that a test has taken away. */
static struct pfn *hoard;
static uint32_t hoarded;

void model_start(uint64_t memory)
{
    enum status status;

    fake_machine_start(memory);
    fake_kernel_map_start();
    status = vmm_init();
    CHECK(status == OK);
    hoard = calloc(memory / PAGE_SIZE, sizeof(*hoard));
    CHECK(hoard != NULL);
}

int model_start_with_swap(uint64_t memory, uint32_t slots)
{
    struct options options = {0};

    model_start(memory);
    return swap_open(&options, slots) == OK ? 0 : -1;
}

int model_touch(uint64_t address, bool write, struct phys *physical)
{
    struct fake_access access = {.write = write, .user = true};
    uint64_t error;
    int faults = 0;

    for (; !fake_mmu_translate(address, access, physical, &error); faults++) {
        struct trap_frame frame = {.rip = 0x401000, .cr2 = address, .error = error};
        bool resolved;

        (void)machine_interrupts_off();
        resolved = trap_page_fault(address, error, &frame);
        machine_interrupts_restore(true);
        if (!resolved)
            return -1;
    }
    return faults;
}

/* ---- memory that runs out ---- */

void model_leave_frames(uint64_t frames)
{
    while (pmm_usage().by_kind[FRAME_FREE] > frames) {
        enum status status = pmm_alloc(FRAME_DEVICE, FRAME_UNCLEARED, &hoard[hoarded]);

        CHECK(status == OK);
        hoarded++;
    }
    while (pmm_usage().by_kind[FRAME_FREE] < frames && hoarded > 0)
        pmm_free(hoard[--hoarded]);
}

bool model_relieve(void)
{
    if (hoarded > 0)
        pmm_free(hoard[--hoarded]);
    return hoarded > 0;
}

/* ---- comparison ---- */

/* Checks that the right region covers the cell, with a descriptor of its rights. */
static const struct region *check_region(const struct model_space *space, unsigned cell,
                                         uint64_t address)
{
    const struct model_cell *known = &space->cells[cell];
    const struct region *region = space_region_at(space->space, address);

    CHECK_MSG((region != NULL) == (known->kind != CELL_NONE), "region at %lx: %d", address,
              region != NULL);
    if (region == NULL)
        return NULL;
    CHECK((region->what.kind == REGION_SHARED) == (known->kind == CELL_SHARED));
    CHECK_MSG((region->what.kind == REGION_GUARD) == (known->kind == CELL_GUARD),
              "region at %lx is %sa guard", address,
              region->what.kind == REGION_GUARD ? "" : "not ");
    CHECK(region->what.kind == REGION_GUARD ||
          model_same_rights(region->what.descriptor->rights, known->rights));
    return region;
}

static void check_words(const uint64_t *page, const uint64_t *known, uint64_t address)
{
    CHECK_MSG(page[0] == known[0] && page[511] == known[1],
              "the page at %lx holds %lx and %lx, the model says %lx and %lx", address, page[0],
              page[511], known[0], known[1]);
    CHECK_MSG(page[1] == 0 && page[256] == 0 && page[510] == 0,
              "the page at %lx holds what nobody wrote", address);
}

/* Returns the entry of a page in its section's own tree. */
static struct pte section_entry(const struct model_space *space, uint64_t address)
{
    struct section_place place;
    struct fake_walk walk;

    CHECK_MSG(section_hold_at(space->space, address, &place), "%lx is not mapped", address);
    walk =
        fake_mmu_walk(phys_of(place.section->tree.root), place.section->tree.levels, place.at, 1);
    section_put(place.section);
    return (struct pte){walk.level == 1 ? walk.entry : 0};
}

/* Checks that a shared page is the section's, whether this space links it or not. */
static void check_shared(const struct model_space *space, const struct region *region,
                         const struct fake_walk *walk, const uint64_t *words, uint64_t address)
{
    struct pte entry = section_entry(space, address);
    enum pte_state state = pte_state(entry, 1);

    if (walk->present)
        CHECK_MSG(walk->level == 1 && pte_class((struct pte){walk->entry}) == PTE_SHARED &&
                      state == PTE_LEAF && walk->frame == pte_frame(entry).index,
                  "%lx has the entry %lx, its section %lx", address, walk->entry, entry.word);
    else
        CHECK_MSG(walk->entry == region->what.descriptor->ticket.word,
                  "%lx is shared and has the entry %lx", address, walk->entry);
    CHECK_MSG(state == PTE_EMPTY || state == PTE_LEAF || state == PTE_SWAPPED,
              "the section of %lx has the entry %lx", address, entry.word);
    if (state == PTE_LEAF)
        check_words(frame_pointer(pte_frame(entry)), words, address);
    else if (state == PTE_SWAPPED && swap_usage().backing == SWAP_BACKING_RAM)
        check_words(frame_pointer(swap_ram_frame(pte_slot(entry))), words, address);
    else if (state == PTE_EMPTY)
        CHECK_MSG(words[0] == 0 && words[1] == 0, "what was written to %lx is lost", address);
}

/* Checks an entry that is not present; payloads are as in docs/tree.md. */
static void check_absent(const struct model_cell *known, const struct region *region,
                         const struct fake_walk *walk, const uint64_t *words, uint64_t address)
{
    struct pte entry = {walk->entry};
    struct pfn frame;

    switch (pte_state(entry, walk->level)) {
    case PTE_EMPTY: CHECK_MSG(known->kind == CELL_NONE, "%lx is empty", address); return;
    case PTE_GUARD: CHECK_MSG(known->kind == CELL_GUARD, "%lx is a guard", address); return;
    case PTE_TICKET:
        CHECK_MSG(known->kind == CELL_BLANK &&
                      walk->entry == region->what.descriptor->ticket.word && words[0] == 0 &&
                      words[1] == 0,
                  "%lx is the ticket %lx", address, walk->entry);
        return;
    case PTE_SWAPPED:
        CHECK_MSG(known->kind == CELL_BLANK && model_same_rights(pte_rights(entry), known->rights),
                  "%lx is swapped: %lx", address, walk->entry);
        if (swap_usage().backing == SWAP_BACKING_RAM)
            check_words(frame_pointer(swap_ram_frame(pte_slot(entry))), words, address);
        return;
    case PTE_WITHHELD:
        CHECK_MSG(known->kind == CELL_BLANK && known->rights.none, "%lx is withheld", address);
        /* The record of a large page is that of its first frame. */
        frame.index = pte_payload_frame(entry).index +
                      (uint32_t)(address % pte_span(walk->level) / PAGE_SIZE);
        check_words(frame_pointer(frame), words, address);
        return;
    default: PANIC("%lx has the entry %lx of level %u", address, walk->entry, walk->level);
    }
}

static void check_page(struct model_space *space, unsigned cell, unsigned page)
{
    struct model_op at = {.from = cell, .page = page};
    uint64_t address = model_address(&at);
    const uint64_t *words = cell_word(space, cell, page, 0);
    const struct model_cell *known = &space->cells[cell];
    const struct region *region = check_region(space, cell, address);
    struct fake_walk walk =
        fake_mmu_walk(phys_of(space->space->tree.root), model()->levels, address, 1);

    if (known->kind == CELL_SHARED)
        check_shared(space, region, &walk, words, address);
    if (!walk.present && known->kind == CELL_SHARED)
        return;
    if (!walk.present) {
        check_absent(known, region, &walk, words, address);
        return;
    }
    CHECK_MSG(cell_is_memory(known) && walk.level <= 3 && walk.user == known->rights.user &&
                  walk.execute == known->rights.execute && walk.write <= known->rights.write,
              "%lx has the entry %lx of level %u, rights w%d x%d u%d", address, walk.entry,
              walk.level, walk.write, walk.execute, walk.user);
    CHECK(walk.may_write == known->rights.write);
    walk.frame += address % pte_span(walk.level) / PAGE_SIZE;
    check_words(frame_pointer((struct pfn){(uint32_t)walk.frame}), words, address);
}

void model_compare(void)
{
    for (unsigned i = 0; i < MODEL_SPACES; i++) {
        for (unsigned cell = 0; model()->spaces[i].space != NULL && cell < model()->cell_count;
             cell++) {
            check_page(&model()->spaces[i], cell, 0);
            check_page(&model()->spaces[i], cell, 1);
            model_check_wired(i, cell);
        }
    }
}

struct all_trees {
    struct tree trees[MODEL_SPACES + MODEL_SHARES];
    unsigned count;
};

static void add_tree(const struct tree *tree, void *context)
{
    struct all_trees *all = context;

    CHECK(all->count < MODEL_SPACES + MODEL_SHARES);
    all->trees[all->count++] = *tree;
}

void model_check(void)
{
    struct all_trees all = {.count = 0};
    struct tree_census census = space_audit();
    struct oracle_census second;
    uint64_t tables = 0;
    uint64_t committed = model_shared_pages();
    uint64_t sections = section_audit();

    for (unsigned i = 0; i < MODEL_SPACES; i++) {
        if (model()->spaces[i].space != NULL)
            add_tree(&model()->spaces[i].space->tree, &all);
        committed += model_committed(&model()->spaces[i]);
    }
    CHECK(all.count == space_count());
    section_visit_trees(add_tree, &all);
    CHECK_MSG(sections == model_shared_pages(), "%lu pages in sections, the model says %lu",
              sections, model_shared_pages());
    CHECK_MSG(commit_pages() == committed, "%lu pages committed, the model says %lu",
              commit_pages(), committed);
    CHECK_MSG(space_wired_pages() == model_wired(), "%lu pages wired, the model says %lu",
              space_wired_pages(), model_wired());
    second = oracle_check(all.trees, all.count);
    for (unsigned level = 1; level <= 5; level++)
        tables += census.tables[level];
    CHECK_MSG(second.tables == tables, "%lu tables in one audit, %lu in the other", tables,
              second.tables);
    CHECK_MSG(second.pages <= resident_limit, "%lu pages, the limit is %lu", second.pages,
              resident_limit);
    model_compare();
    fake_mmu_check();
}

static void check_ledger(void)
{
    struct pmm_usage now;
    uint64_t grown = (descriptor_limit - model()->descriptors_at_start) / DESCRIPTORS_A_FRAME;

    space_finish_ends();
    now = pmm_usage();
    model()->at_start.by_kind[FRAME_KERNEL] += grown;
    model()->at_start.by_kind[FRAME_FREE] -= grown;
    for (unsigned kind = 0; kind < FRAME_KINDS; kind++)
        CHECK_MSG(now.by_kind[kind] == model()->at_start.by_kind[kind],
                  "%lu frames of kind %u at the end, %lu at the start", now.by_kind[kind], kind,
                  model()->at_start.by_kind[kind]);
    CHECK_MSG(swap_usage().used == 0 && swap_references() == 0, "%u slots are left",
              swap_usage().used);
    CHECK(page_clock_size() == 0 && descriptor_count() == 0 && space_count() == 0 &&
          section_count() == 0);
    CHECK(commit_pages() == 0 && space_wired_pages() == 0 && page_wired() == 0);
}

void model_end(void)
{
    model_leave_frames(UINT64_MAX);
    model_check();
    space_switch(NULL);
    model()->running = MODEL_SPACES;
    for (unsigned i = 0; i < MODEL_SPACES; i++) {
        if (model()->spaces[i].space != NULL)
            space_destroy(model()->spaces[i].space);
        model()->spaces[i].space = NULL;
    }
    check_ledger();
}

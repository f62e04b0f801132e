/*
 * fault-dumb: should the handler validate?
 *
 * The question (forum thread 1): "My #PF handler is rather simple: allocate the page if it is
 * needed. It doesn't validate if the page belongs to a valid reserved virtual buffer ... #pf
 * should be quick and dumb (unless maybe I am on the wrong path with this idea)."
 *
 * One handler in three variants, the same code but for what it asks before it maps a cleared page:
 * nothing (dumb); the ticket that stands in the entry (ticket: one compare and the rights); or the
 * tree of regions (region: a search, and the rights). A program touches fresh pages of a region
 * with leaf tables in place, then goes wild: random addresses, writes to what is read-only, and a
 * guard. The shipped handler does the same, for comparison.
 *
 * The answer is ticks for a first touch by each, and how many wild accesses were silently backed
 * with memory. The checks: with validation none, and no frame is spent; every page of the region is
 * zero and can be written, whoever made it; and without validation all of them are backed, or the
 * comparison would be with something else.
 */
#include "cpu/machine.h"
#include "cpu/trap/trap.h"
#include "lib/print.h"
#include "paging/kernel/layout.h"
#include "tests/runner/experiment.h"
#include "tests/runner/ledger.h"
#include "tests/runner/null_fault.h"
#include "tests/runner/user_pages.h"
#include "vmm/page/page.h"

#define START     UINT64_C(0x8000000000)
#define READ_ONLY UINT64_C(0x8100000000)
#define GUARD     UINT64_C(0x8200000000)

#define PAGES 1024U
#define WILD  64U /* of each kind */

/* Calls of a check whose mean is its price. */
#define PRICE_ROUNDS 1000U

/* Other regions of the space, which make the search longer. */
#define OTHERS       63U
#define OTHERS_START UINT64_C(0x9000000000)

enum question { ASK_NOTHING, ASK_TICKET, ASK_REGION, ASK_SHIPPED, QUESTIONS };

static const char *const names[QUESTIONS] = {"dumb", "ticket", "region", "shipped"};

static enum question asked;

/* ---- the handler ---- */

static bool fault_dumb_rights_allow(struct rights rights, bool write)
{
    return rights.user && (!write || rights.write);
}

static bool is_valid(struct space *space, uint64_t address, struct pte entry, bool write)
{
    const struct descriptor *descriptor;
    const struct region *region;

    if (asked == ASK_TICKET) {
        descriptor = descriptor_of(entry, descriptor_limit);
        return descriptor != NULL && fault_dumb_rights_allow(descriptor->rights, write);
    }
    if (asked == ASK_REGION) {
        region = space_region_at(space, address);
        return region != NULL && region->what.descriptor != NULL &&
               fault_dumb_rights_allow(region->what.descriptor->rights, write);
    }
    return true;
}

/* Makes missing tables down to the leaf. */
static bool fault_dumb_make_tables(struct space *space, uint64_t address)
{
    struct tree_reserve reserve = {0};
    struct tlb_batch batch;
    enum status status = tree_reserve_fill(&reserve, space->tree.levels - 1U);

    tlb_begin(&batch, &space->tree);
    if (status == OK)
        status = tree_make_path(&space->tree, address, 1, TREE_BUILD, &reserve, &batch);
    tlb_commit(&batch);
    tree_reserve_drain(&reserve);
    return status == OK;
}

/* Maps a cleared page at an entry without one. One processor runs the space. */
static bool fault_dumb_put_page(const struct tree_place *place)
{
    struct pfn page;

    if (pte_present(place->entry) || !page_try_alloc(FRAME_CLEARED, &page))
        return false;
    if (!tree_lock(place->table)) {
        pmm_free(page);
        return false;
    }
    rmap_reference(page, place->table, place->index);
    page_publish(page);
    tree_replace_entry(place->table, place->index, pte_leaf(page, 1, PTE_OWN, RIGHTS_READ_WRITE));
    tree_unlock(place->table);
    return true;
}

/* Interrupts are off. */
static bool on_fault(uint64_t address, uint64_t error, struct trap_frame *frame)
{
    struct space *space = space_current();
    struct tree_place place;

    (void)frame;
    if (space == NULL || address >= lower_half_end(space->tree.levels))
        return false;
    place = tree_walk(&space->tree, address);
    if (!is_valid(space, address, place.entry, (error & PF_WR) != 0))
        return false;
    if (place.level > 1) {
        if (!fault_dumb_make_tables(space, address))
            return false;
        place = tree_walk(&space->tree, address);
    }
    return fault_dumb_put_page(&place);
}

/* ---- a program that behaves, then one that does not ---- */

static bool fault_dumb_map_all(struct space *space)
{
    bool ok =
        SUCCEEDS(space_map(space, &SPACE_AT(START, PAGES * PAGE_SIZE, RIGHTS_READ_WRITE), NULL)) &&
        SUCCEEDS(space_map(space, &SPACE_AT(READ_ONLY, WILD * PAGE_SIZE, RIGHTS_READ), NULL)) &&
        SUCCEEDS(space_map(
            space,
            &(struct space_request){.at = GUARD, .size = WILD * PAGE_SIZE, .flags = SPACE_GUARD},
            NULL));

    for (unsigned i = 0; i < OTHERS && ok; i++)
        ok = SUCCEEDS(space_map(space,
                                &SPACE_AT(OTHERS_START + i * 4 * PAGE_SIZE, PAGE_SIZE,
                                          (i & 1) != 0 ? RIGHTS_READ : RIGHTS_READ_WRITE),
                                NULL));
    return ok;
}

/* Returns the ticks of a first touch. The first page of each table makes the table and does not
 * count. */
static uint64_t fault_dumb_touch_all(void)
{
    uint64_t ticks = 0;
    unsigned touched = 0;

    for (unsigned i = 0; i < PAGES; i++) {
        uint64_t began = machine_ticks();
        bool ok = word_write(START + i * PAGE_SIZE, i + 1);

        if (!ok)
            return 0;
        if (i % PTE_ENTRIES == 0)
            continue;
        ticks += machine_ticks() - began;
        touched++;
    }
    return ticks / touched;
}

static bool pages_are_right(void)
{
    bool ok = true;

    for (unsigned i = 0; i < PAGES && ok; i++)
        ok = page_is_zero_but(START + i * PAGE_SIZE, 0, i + 1);
    return ok;
}

/* Returns an address of the lower half where nothing is mapped, with four levels or five. */
static uint64_t nowhere(struct space *space, struct random *random)
{
    uint64_t address;

    do {
        address = random_below(random, lower_half_end(4) / PAGE_SIZE) * PAGE_SIZE + 8;
    } while (address < PAGE_SIZE || space_region_at(space, address) != NULL);
    return address;
}

/* Makes wild accesses. Returns how many succeed, though nothing allows them. */
static unsigned go_wild(struct space *space, struct random *random)
{
    unsigned backed = 0;

    for (unsigned i = 0; i < WILD; i++) {
        uint64_t value;

        backed += word_write(nowhere(space, random), 1);
        backed += word_write(READ_ONLY + i * PAGE_SIZE, 1);
        backed += word_read(GUARD + i * PAGE_SIZE, &value);
    }
    return backed;
}

/* Prints the cost of the check itself: the mean over many calls for one touched page. */
static void fault_dumb_put_price(struct space *space, const char *name)
{
    struct tree_place place = tree_walk(&space->tree, READ_ONLY);
    uint64_t began = machine_ticks();
    bool valid = true;

    for (unsigned i = 0; i < PRICE_ROUNDS; i++)
        valid &= is_valid(space, READ_ONLY, place.entry, false);
    CHECK(valid);
    null_fault_metric_of(name, "check", (machine_ticks() - began) / PRICE_ROUNDS);
}

static void try_handler(enum question question, struct random *random)
{
    bool (*shipped)(uint64_t, uint64_t, struct trap_frame *) = trap_page_fault;
    struct space *space;
    struct ledger before;
    uint64_t ticks;
    unsigned backed;
    int64_t spent;
    bool right;
    char name[32];

    if (!start_space(&space))
        return;
    right = fault_dumb_map_all(space);
    asked = question;
    if (question != ASK_SHIPPED)
        trap_page_fault = on_fault;
    ticks = fault_dumb_touch_all();
    right = right && ticks > 0 && pages_are_right();
    before = ledger_take();
    backed = go_wild(space, random);
    spent = ledger_growth(&before, FRAME_ANONYMOUS);
    trap_page_fault = shipped;
    null_fault_metric_of(names[question], "first_touch", ticks);
    if (question != ASK_SHIPPED)
        fault_dumb_put_price(space, names[question]);
    print_to(name, sizeof(name), "%s.silently_backed", names[question]);
    ktap_metric(name, backed, "accesses");
    ktap_check(right && pages_are_right(), "%s: %u pages are zero but for what was written",
               names[question], PAGES);
    if (question == ASK_NOTHING)
        ktap_check(backed == 3 * WILD && spent == 3 * WILD,
                   "%s: %u of %u wild accesses are silently backed, with %lu frames",
                   names[question], backed, 3 * WILD, (uint64_t)spent);
    else
        ktap_check(backed == 0 && spent == 0, "%s: %u of %u wild accesses are silently backed",
                   names[question], backed, 3 * WILD);
    space_audit();
    end_space(space);
}

static void fault_dumb_run(const struct options *options)
{
    struct random random = random_from(options->seed);

    null_fault_measure();
    ktap_metric("wild", UINT64_C(3) * WILD, "accesses");
    for (unsigned question = 0; question < QUESTIONS; question++)
        try_handler((enum question)question, &random);
}

EXPERIMENT(fault_dumb, 370) = {
    .theme = THEME_PAGES,
    .name = "fault-dumb",
    .question = "Should the handler validate?",
    .regions = 128,
    .checks = 2 * QUESTIONS,
    .run = fault_dumb_run,
    .answer =
        {
            .text = "Yes: else {dumb.silently_backed} of {wild} wild accesses get memory; with a "
                    "check {shipped.silently_backed}",
            .counted = "Yes: else {dumb.silently_backed} of {wild} wild accesses get memory; "
                       "asking the ticket takes {ticket.check - dumb.check} instructions, the "
                       "region {region.check - dumb.check}",
            .shipped = "asks the ticket in the entry",
        },
};

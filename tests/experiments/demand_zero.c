/* demand-zero: does memory cost nothing until it is touched, and is it zero then? */
#include "cpu/machine.h"
#include "tests/runner/experiment.h"
#include "tests/runner/ledger.h"
#include "tests/runner/user_pages.h"

#define REGION_SIZE (1024 * MIB)
#define PAGES       1024U

/* Pages lie this far apart, so that some share a leaf table and some do not. */
#define STRIDE (7 * PAGE_SIZE)

static uint64_t page_address(uint64_t start, unsigned number)
{
    return start + number * STRIDE;
}

/* Leaves junk in the frames that the next pages are made of. */
static bool dirty_frames(struct space *space, uint64_t start)
{
    bool ok = true;

    for (unsigned i = 0; i < PAGES && ok; i++)
        ok = page_fill(page_address(start, i), i + 1);
    return ok && SUCCEEDS(space_unmap(space, start, REGION_SIZE));
}

/* Writes one word of each page in random order; returns how many pages had the right content. */
static unsigned demand_zero_touch_all(uint64_t start, struct random *random)
{
    unsigned right = 0;

    for (unsigned i = 0; i < PAGES; i++) {
        unsigned number = (i * 389U + 17U) % PAGES; /* 389 is coprime to 1,024 */
        unsigned word = (unsigned)random_below(random, 512);
        uint64_t address = page_address(start, number);

        if (word_write(address + word * 8, i + 1) && page_is_zero_but(address, word, i + 1))
            right++;
    }
    return right;
}

static void demand_zero_measure(struct space *space, uint64_t start, const struct options *options)
{
    struct random random = random_from(options->seed);
    struct ledger mapped = ledger_take();
    uint64_t faults = space_faults(space).first_write;
    uint64_t ticks = machine_ticks();
    unsigned right = demand_zero_touch_all(start, &random);

    ticks = machine_ticks() - ticks;
    faults = space_faults(space).first_write - faults;
    ktap_check(right == PAGES, "%u of %u pages were zero but for the word written", right, PAGES);
    ktap_check(faults == PAGES, "one first-write fault a page: %lu", faults);
    ktap_check(ledger_growth(&mapped, FRAME_ANONYMOUS) == PAGES, "one frame a page");
    ktap_metric("pages", PAGES, "pages");
    ktap_metric("tables", (uint64_t)ledger_growth(&mapped, FRAME_TABLE), "frames");
    ktap_metric("touch_and_verify", ticks / PAGES, "ticks");
}

static void demand_zero_run(const struct options *options)
{
    struct ledger empty;
    struct space *space;
    uint64_t start = 0;
    bool mapped;

    if (!start_space(&space))
        return;
    empty = ledger_take();
    mapped = SUCCEEDS(space_map(space,
                                &(struct space_request){.size = REGION_SIZE,
                                                        .alignment = REGION_SIZE,
                                                        .rights = RIGHTS_READ_WRITE},
                                &start));
    ktap_check(mapped && ledger_growth(&empty, FRAME_ANONYMOUS) == 0 &&
                   ledger_growth(&empty, FRAME_TABLE) <= space->tree.levels - 3,
               "mapping 1 GiB takes no page, and no table below the one of its entry");
    ktap_metric("map_tables", (uint64_t)ledger_growth(&empty, FRAME_TABLE), "frames");
    ktap_check(mapped && dirty_frames(space, start), "pages filled, then unmapped");
    ktap_check(ledger_even(&empty), "the unmap gave everything back");
    mapped = SUCCEEDS(space_map(space, &SPACE_AT(start, REGION_SIZE, RIGHTS_READ_WRITE), NULL));
    if (mapped)
        demand_zero_measure(space, start, options);
    space_audit();
    ktap_check(true, "audit");
    end_space(space);
}

EXPERIMENT(demand_zero, 010) = {
    .theme = THEME_PAGES,
    .name = "demand-zero",
    .question = "Does memory cost nothing until it is touched, and is it zero then?",
    .checks = 7,
    .reserves = true,
    .run = demand_zero_run,
    .answer =
        {
            .text = "{map_tables} table and no page for 1 GiB untouched; then {pages} pages for "
                    "{pages} touched, all of them zero",
        },
};

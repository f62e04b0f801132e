/* levels: do the walkers use as many levels as the processor? The half of the addresses for
 * programs ends at 2^47 with four levels and at 2^56 with five. All pages below the end work, and
 * none past it. */
#include "cpu/cpu.h"
#include "cpu/machine.h"
#include "cpu/trap/probe.h"
#include "cpu/trap/trap.h"
#include "paging/kernel/layout.h"
#include "paging/kernel/map.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"

/* Where only five levels reach, and as high as four do. */
#define HIGH_5 (UINT64_C(1) << 50)
#define HIGH_4 (UINT64_C(1) << 46)

#define PAGES 40U

/* From one page to the next: other tables at each level that the steps reach. */
#define STEP (UINT64_C(37) * 0x40201000)

static uint64_t levels_page_at(uint64_t start, unsigned number)
{
    return start + number * STEP;
}

static bool levels_fill(uint64_t start, uint64_t tag)
{
    for (unsigned i = 0; i < PAGES; i++) {
        if (!page_is_zero(levels_page_at(start, i)) ||
            !page_fill(levels_page_at(start, i), tag + i))
            return false;
    }
    return true;
}

static bool levels_holds(uint64_t start, uint64_t tag)
{
    for (unsigned i = 0; i < PAGES; i++) {
        if (!page_holds(levels_page_at(start, i), tag + i))
            return false;
    }
    return true;
}

/* Checks that the reverse map gives the address at which the page was written. */
static bool named_back(const struct space *space, uint64_t start)
{
    for (unsigned i = 0; i < PAGES; i++) {
        struct pfn page = pte_frame(leaf_entry(space, levels_page_at(start, i)));
        struct tree_pointer pointer;

        if (tree_find_pointers(page, PTE_LEAF, &pointer, 1) != 1 ||
            tree_pointer_address(pointer) != levels_page_at(start, i)) {
            ktap_note("the page at %lx is named at %lx", levels_page_at(start, i),
                      tree_pointer_address(pointer));
            return false;
        }
    }
    return true;
}

/* Checks that a fork's writes are its own, at these addresses too. */
static bool forks(struct space *parent, uint64_t start)
{
    struct space *child;
    bool ok;

    if (!SUCCEEDS(space_fork(parent, &child)))
        return false;
    space_switch(child);
    ok = levels_holds(start, 1) && page_fill(start, 900);
    space_switch(parent);
    ok = ok && page_holds(start, 1);
    space_destroy(child);
    return ok;
}

static void try_range(struct space *space, uint64_t start)
{
    uint64_t end = lower_half_end(space->tree.levels);
    uint64_t size = round_up(PAGES * STEP, GIB);

    ktap_check(SUCCEEDS(space_map(space, &SPACE_AT(start, size, RIGHTS_READ_WRITE), NULL)) &&
                   levels_fill(start, 1) && levels_holds(start, 1),
               "%u pages from %lx on", PAGES, start);
    ktap_check(named_back(space, start), "each is found from its frame");
    ktap_check(forks(space, start), "a fork has them, and its writes are its own");
    ktap_check(SUCCEEDS(space_map(space, &SPACE_AT(end - PAGE_SIZE, PAGE_SIZE, RIGHTS_READ_WRITE),
                                  NULL)) &&
                   page_fill(end - PAGE_SIZE, 7) && page_holds(end - PAGE_SIZE, 7),
               "the last page, at %lx", end - PAGE_SIZE);
    ktap_check(SUCCEEDS(space_unmap(space, start, size)) && !word_write(start, 1),
               "unmapped, they are gone");
}

static void try_past_the_end(struct space *space)
{
    uint64_t end = lower_half_end(space->tree.levels);
    struct trap_info info = {0};
    uint64_t value;

    ktap_check(space_map(space, &SPACE_AT(end, PAGE_SIZE, RIGHTS_READ), NULL) == STATUS_RANGE &&
                   space_map(space, &SPACE_AT(end - PAGE_SIZE, 2 * PAGE_SIZE, RIGHTS_READ), NULL) ==
                       STATUS_RANGE,
               "a region cannot reach %lx", end);
    ktap_check(!probe_user_read64(end, &value, &info) && info.vector == TRAP_GP,
               "no address is there: a general protection fault");
}

static void levels_run(const struct options *options)
{
    struct space *space;

    (void)options;
    if (!start_space(&space))
        return;
    ktap_check(cpu_user_end() == lower_half_end(kernel_map_levels()) &&
                   space->tree.levels == kernel_map_levels(),
               "the processor walks %u levels, and so do trees", space->tree.levels);
    ktap_metric("levels", space->tree.levels, "levels");
    ktap_metric("pages", PAGES, "pages");
    try_range(space, space->tree.levels == 5 ? HIGH_5 : HIGH_4);
    try_past_the_end(space);
    space_audit();
    end_space(space);
}

EXPERIMENT(levels, 080) = {
    .theme = THEME_TABLES,
    .name = "levels",
    .question = "Do the walkers go as deep as the processor does?",
    .spaces = 2,
    .checks = 8,
    .reserves = true,
    .run = levels_run,
    .answer =
        {
            .text = "Yes: {levels} levels, {pages} pages at the far end found",
            .limit = "levels that this processor or this boot does not have",
        },
};

/*
 * space-limit: what does the hard limit on address spaces cost and save?
 *
 * The limit is lowered, so that it is reached before memory ends: the cost of a space, the cost of
 * the refusal past the limit, and whether a bomb of forks, each of which writes a page and forks
 * again, ends with that error and leaves everything unchanged.
 */
#include "cpu/machine.h"
#include "pmm/pmm.h"
#include "tests/runner/experiment.h"
#include "tests/runner/ledger.h"
#include "tests/runner/user_pages.h"

#define START UINT64_C(0x400000000)
#define PAGES 8U

/* Spaces at once while the experiment runs. */
#define LIMIT 800U

/* Frames that must be free for all spaces that the code allows, with some to spare. */
#define FRAMES_FOR_ALL 100000U

static struct space *spaces[LIMIT];
static unsigned count;

static void destroy_all(void)
{
    space_switch(NULL);
    while (count > 0)
        space_destroy(spaces[--count]);
}

/* ---- blank spaces ---- */

static void fill_with_blank(void)
{
    struct ledger before = ledger_take();
    uint64_t ticks = machine_ticks();
    enum status status = OK;
    struct space *one_more;

    while (count < LIMIT && status == OK) {
        status = space_create(&spaces[count]);
        count += status == OK;
    }
    ticks = machine_ticks() - ticks;
    ktap_check(count == LIMIT, "%u blank spaces exist: %s", count, status_name(status));
    if (count > 0) {
        ktap_metric("create", ticks / count, "ticks");
        ktap_metric("frames_of_thousand",
                    (uint64_t)-ledger_growth(&before, FRAME_FREE) * 1000 / count, "frames");
        ktap_metric("thousand", 1000, "spaces");
    }
    ticks = machine_ticks();
    status = space_create(&one_more);
    ticks = machine_ticks() - ticks;
    ktap_metric("refusal", ticks, "ticks");
    ktap_check(status == STATUS_LIMIT, "one more: %s", status_name(status));
    destroy_all();
    ktap_check(ledger_even(&before), "their memory is back");
}

/* ---- the real limit ---- */

/* Creates spaces up to the limit of the code, in memory of its own for their pointers. */
static void try_real_limit(const struct options *options)
{
    struct ledger before = ledger_take();
    uint64_t ticks;
    unsigned made = 0;
    enum status status = OK;
    struct space **all;
    struct pfn first;

    if (options->spaces < SPACES_MAX || pmm_usage().by_kind[FRAME_FREE] < FRAMES_FOR_ALL ||
        pmm_alloc_order(ORDER_HUGE, FRAME_KERNEL, FRAME_UNCLEARED, &first) != OK) {
        ktap_skip("there is too little memory, or spaces= is lower", "every space that may exist");
        return;
    }
    _Static_assert(SPACES_MAX * sizeof(uintptr_t) < (PAGE_SIZE << ORDER_HUGE), "all pointers fit");
    all = frame_pointer(first);
    space_set_limit(SPACES_MAX);
    while (made < SPACES_MAX && status == OK) {
        status = space_create(&all[made]);
        made += status == OK;
    }
    ticks = machine_ticks();
    if (status == OK)
        status = space_create(&all[made]);
    ktap_metric("real.refusal", machine_ticks() - ticks, "ticks");
    ktap_metric("real.spaces", made, "spaces");
    ktap_metric("real.frames", (uint64_t)-ledger_growth(&before, FRAME_FREE), "frames");
    for (unsigned i = made; i > 0; i--)
        space_destroy(all[i - 1]);
    space_set_limit(LIMIT);
    pmm_free_order(first, ORDER_HUGE);
    ktap_check(made == SPACES_MAX && status == STATUS_LIMIT && ledger_even(&before),
               "%u spaces exist, one more is refused, and their memory is back: %s", made,
               status_name(status));
}

/* ---- a bomb ---- */

static bool arm(void)
{
    bool ok = space_create(&spaces[0]) == OK;

    if (!ok)
        return false;
    count = 1;
    space_switch(spaces[0]);
    ok = space_map(spaces[0], &SPACE_AT(START, PAGES * PAGE_SIZE, RIGHTS_READ_WRITE), NULL) == OK;
    for (unsigned i = 0; i < PAGES && ok; i++)
        ok = word_write(START + i * PAGE_SIZE, i);
    return ok;
}

/* Lets every space fork, and each child write a page of its own, until a fork is refused. */
static enum status explode(void)
{
    enum status status = OK;

    while (status == OK) {
        unsigned parents = count;

        for (unsigned i = 0; i < parents && status == OK; i++) {
            struct space *child;

            status = space_fork(spaces[i], &child);
            if (status != OK)
                break;
            CHECK(count < LIMIT);
            spaces[count] = child;
            space_switch(child);
            if (!word_write(START + count % PAGES * PAGE_SIZE, 1000 + count))
                status = STATUS_NO_MEMORY;
            count++;
        }
    }
    return status;
}

/* Checks that each space has its own last write, and only in its own page. */
static bool contents_are_right(void)
{
    for (unsigned i = 1; i < count; i++) {
        uint64_t value = 0;

        space_switch(spaces[i]);
        if (!word_read(START + i % PAGES * PAGE_SIZE, &value) || value != 1000 + i)
            return false;
    }
    return true;
}

static void space_limit_run(const struct options *options)
{
    struct ledger before = ledger_take();
    enum status status;

    fill_with_blank();
    try_real_limit(options);
    ktap_check(arm(), "a space with %u pages", PAGES);
    status = explode();
    ktap_metric("bomb.spaces", count, "spaces");
    ktap_metric("bomb.frames", (uint64_t)-ledger_growth(&before, FRAME_FREE), "frames");
    ktap_check(status == STATUS_LIMIT && count == LIMIT, "a bomb of forks ends at %u spaces: %s",
               count, status_name(status));
    ktap_check(contents_are_right(), "each has what it wrote");
    destroy_all();
    ktap_check(ledger_even(&before), "all its memory is back");
    ktap_check(arm(), "a new space does its work");
    destroy_all();
}

EXPERIMENT(space_limit, 200) = {
    .theme = THEME_FRAMES,
    .name = "space-limit",
    .question = "What does the hard limit on address spaces cost and save?",
    .spaces = LIMIT,
    .checks = 9,
    .run = space_limit_run,
    .answer =
        {
            .text = "{frames_of_thousand / thousand : 2} frames a space; a bomb of forks ends at "
                    "{bomb.spaces}, and its {bomb.frames} frames come back",
            .limit = "what the limit saves where spaces hold memory: these have at most one page "
                     "of their own",
        },
};

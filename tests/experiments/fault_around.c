/*
 * fault-around: what does a write save that also maps the pages around it, and what does it waste?
 *
 * The same memory is written in order with groups of 1 to 16 pages: faults and ticks. Then only
 * every 32nd page is written: the other pages are waste. Additional pages must be blank, must
 * belong to this space alone, and may not exceed the limit of resident pages.
 */
#include "cpu/machine.h"
#include "lib/print.h"
#include "swapdisk/area.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"
#include "vmm/page/page.h"

#define START    UINT64_C(0x7c0000000)
#define PAGES    1024U
#define SPARSE   32U
#define GROUPS   5U
#define RESIDENT 64U

/* Besides a fault for each group: each leaf table takes one, and the processor's cache of frames
 * may end in the middle of a group, after 128 at the least. */
#define FAULTS_MORE (PAGES / PTE_ENTRIES + PAGES / 64)

static uint64_t fault_around_page_at(unsigned number)
{
    return START + number * PAGE_SIZE;
}

static bool map_group(struct space *space, unsigned group)
{
    space_set_around(group);
    return SUCCEEDS(
               space_map(space, &SPACE_AT(START, PAGES * PAGE_SIZE, RIGHTS_READ_WRITE), NULL)) &&
           SUCCEEDS(space_advise(space, START, PAGES * PAGE_SIZE, SPACE_SEQUENTIAL));
}

static void fault_around_put(unsigned group, const char *figure, uint64_t value, const char *unit)
{
    char name[32];

    print_to(name, sizeof(name), "group%u.%s", group, figure);
    ktap_metric(name, value, unit);
}

/* Writes every page, then checks that each has its word and zeros. */
static void write_in_order(struct space *space, unsigned group)
{
    uint64_t faults = space_faults(space).first_write;
    bool ok = map_group(space, group);
    uint64_t ticks = machine_ticks();
    unsigned right = 0;

    for (unsigned i = 0; i < PAGES; i++)
        ok = word_write(fault_around_page_at(i) + 16, i + 1) && ok;
    ticks = machine_ticks() - ticks;
    faults = space_faults(space).first_write - faults;
    for (unsigned i = 0; i < PAGES; i++)
        right += page_is_zero_but(fault_around_page_at(i), 2, i + 1);
    ok = SUCCEEDS(space_unmap(space, START, PAGES * PAGE_SIZE)) && ok;
    ktap_check(ok && right == PAGES && faults >= PAGES / group &&
                   faults <= PAGES / group + FAULTS_MORE,
               "groups of %u: %lu faults for %u pages, all of them right", group, faults, PAGES);
    fault_around_put(group, "faults", faults, "faults");
    fault_around_put(group, "write", ticks / PAGES, "ticks");
}

/* Runs the code once, so that no figure includes an emulator's translation of it. */
static void warm_up(struct space *space)
{
    for (unsigned group = 1; group <= 2; group++) {
        bool ok = map_group(space, group);

        for (unsigned i = 0; i < PAGES && ok; i++)
            ok = word_write(fault_around_page_at(i), 1);
        CHECK(ok && SUCCEEDS(space_unmap(space, START, PAGES * PAGE_SIZE)));
    }
}

static void write_sparsely(struct space *space, unsigned group)
{
    struct space_view view = {0};
    bool ok = map_group(space, group);

    for (unsigned i = 0; i < PAGES; i += SPARSE)
        ok = word_write(fault_around_page_at(i + SPARSE / 2), 1) && ok;
    ok = SUCCEEDS(space_query(space, START, &view)) && ok;
    ok = SUCCEEDS(space_unmap(space, START, PAGES * PAGE_SIZE)) && ok;
    ktap_check(ok && view.resident <= group * (PAGES / SPARSE) && view.resident >= PAGES / SPARSE,
               "groups of %u: %lu pages for %u that were written", group, view.resident,
               PAGES / SPARSE);
    fault_around_put(group, "resident", view.resident, "pages");
}

/* Writes a group with a hole, a read-only page and a guard in it, which must not change. Sets
 * *whole if all other pages came; the caches may have had fewer frames. */
static bool write_around_others(struct space *space, bool *whole)
{
    uint64_t value;
    bool ok = map_group(space, 16) &&
              SUCCEEDS(space_unmap(space, fault_around_page_at(3), PAGE_SIZE)) &&
              SUCCEEDS(space_unmap(space, fault_around_page_at(12), PAGE_SIZE)) &&
              SUCCEEDS(space_map(space,
                                 &(struct space_request){.at = fault_around_page_at(12),
                                                         .size = PAGE_SIZE,
                                                         .flags = SPACE_GUARD},
                                 NULL)) &&
              SUCCEEDS(space_protect(space, fault_around_page_at(9), PAGE_SIZE, RIGHTS_READ)) &&
              word_write(fault_around_page_at(6), 1);

    *whole = ok && leaf_state(space, fault_around_page_at(4)) == PTE_LEAF &&
             leaf_state(space, fault_around_page_at(8)) == PTE_LEAF;
    ok = ok && leaf_state(space, fault_around_page_at(9)) == PTE_TICKET &&
         leaf_state(space, fault_around_page_at(10)) == PTE_TICKET &&
         !word_read(fault_around_page_at(3), &value) &&
         !word_read(fault_around_page_at(12), &value) && !word_write(fault_around_page_at(9), 1);
    CHECK(SUCCEEDS(space_unmap(space, START, PAGES * PAGE_SIZE)));
    return ok;
}

static void leave_others_alone(struct space *space)
{
    bool whole = false;
    bool ok = true;

    for (unsigned tries = 0; tries < 4 && ok && !whole; tries++)
        ok = write_around_others(space, &whole);
    ktap_check(ok && whole, "a hole, other rights and a guard end a group");
}

static void stay_within_the_limit(struct space *space)
{
    uint64_t limit = resident_limit;
    uint64_t others = page_resident();
    uint64_t most = 0;
    bool ok;

    if (swap_usage().slots < PAGES / 4) {
        ktap_skip("the swap area is too small", "pages stay within the limit");
        return;
    }
    ok = map_group(space, 16);
    page_set_limit(others + RESIDENT);
    for (unsigned i = 0; i < PAGES / 4; i++) {
        ok = word_write(fault_around_page_at(i), i) && ok;
        most = max_u64(most, page_resident() - others);
    }
    page_set_limit(limit);
    ok = SUCCEEDS(space_unmap(space, START, PAGES * PAGE_SIZE)) && ok;
    ktap_check(ok && most <= RESIDENT, "%lu pages at most were resident, %u may be", most,
               RESIDENT);
}

static void fault_around_run(const struct options *options)
{
    struct space *space;

    (void)options;
    if (!start_space(&space))
        return;
    pmm_idle_pause(); /* how many pages a group gets depends on the frames in the caches */
    warm_up(space);
    for (unsigned i = 0; i < GROUPS; i++)
        write_in_order(space, 1U << i);
    for (unsigned i = 0; i < GROUPS; i++)
        write_sparsely(space, 1U << i);
    leave_others_alone(space);
    stay_within_the_limit(space);
    pmm_idle_resume();
    space_set_around(16);
    space_audit();
    end_space(space);
}

EXPERIMENT(fault_around, 350) = {
    .theme = THEME_PAGES,
    .name = "fault-around",
    .question = "What does a write save that brings the pages around it, and what does it waste?",
    .checks = 2 * GROUPS + 2,
    .run = fault_around_run,
    .answer =
        {
            .text = "Fewer faults in order; far apart most are wasted",
            .shipped = "groups of 16 where a program says that it goes in order",
        },
};

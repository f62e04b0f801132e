/*
 * large-page: what does a page of 2 MiB save, and what do its split and its merge cost?
 *
 * The same memory is touched with small pages and with large ones: faults, tables and ticks. Then
 * large pages undergo what small ones do: a fork with writes on both sides, which splits a page
 * once for both; an unmap and a change of rights of a part; a shortage of memory, which splits
 * large pages so that their parts can be evicted. No space may see another's write, or lose a byte.
 * Then pages are merged (tests/experiments/large_page/merge.c).
 *
 * A page of 1 GiB is tried where a whole one is free.
 */
#include "cpu/machine.h"
#include "tests/experiments/large_page/merge.h"
#include "tests/runner/experiment.h"
#include "tests/runner/ledger.h"
#include "tests/runner/null_fault.h"
#include "tests/runner/user_pages.h"
#include "vmm/page/large.h"
#include "vmm/page/page.h"

#define START      UINT64_C(0x640000000)
#define LARGE      (2 * MIB)
#define LARGES     4U
#define PAGES      (LARGES * PTE_ENTRIES)
#define APART      UINT64_C(0x6c0000000)
#define GIB_START  UINT64_C(0x700000000)
#define TAG(page)  (0x5000 + (uint64_t)(page))
#define TAG2(page) (0x9000 + (uint64_t)(page))

static uint64_t large_page_page_at(unsigned number)
{
    return START + number * PAGE_SIZE;
}

static bool fill_all(void)
{
    bool ok = true;

    for (unsigned i = 0; i < PAGES; i++)
        ok = page_fill(large_page_page_at(i), TAG(i)) && ok;
    return ok;
}

static unsigned large_page_count_right(unsigned from, unsigned to)
{
    unsigned right = 0;

    for (unsigned i = from; i < to; i++)
        right += page_holds(large_page_page_at(i), TAG(i));
    return right;
}

/* Writes one word of every page. Returns the ticks for each MiB. */
static uint64_t large_page_touch_all(bool *ok)
{
    uint64_t ticks = machine_ticks();

    for (unsigned i = 0; i < PAGES; i++)
        *ok = word_write(large_page_page_at(i), 1) && *ok;
    return (machine_ticks() - ticks) / (PAGES * PAGE_SIZE / MIB);
}

static void large_page_measure(struct space *space, bool large)
{
    struct ledger before = ledger_take();
    uint64_t faults = space_faults(space).first_write + space_faults(space).large;
    bool ok =
        (large
             ? space_map(space,
                         &SPACE_AT(START, LARGES * LARGE, RIGHTS_READ_WRITE, .page_level = 2), NULL)
             : space_map(space, &SPACE_AT(START, LARGES * LARGE, RIGHTS_READ_WRITE), NULL)) == OK;
    uint64_t ticks = large_page_touch_all(&ok);

    faults = space_faults(space).first_write + space_faults(space).large - faults;
    ktap_check(ok && faults == (large ? LARGES : PAGES), "%s pages: %lu faults",
               large ? "large" : "small", faults);
    ktap_metric(large ? "faults.large" : "faults.small", faults, "faults");
    null_fault_metric_of("touch_mib", large ? "large" : "small", ticks);
    ktap_metric(large ? "tables.large" : "tables.small",
                (uint64_t)ledger_growth(&before, FRAME_TABLE), "frames");
}

/* Checks that the first write of either side splits the page, once for both. */
static void fork_and_write(struct space *parent)
{
    uint64_t splits = large_splits();
    uint64_t ticks = machine_ticks();
    struct space *child;
    bool ok;

    if (!ktap_check(SUCCEEDS(space_fork(parent, &child)), "a fork"))
        return;
    ok = page_fill(large_page_page_at(7), TAG2(7));
    ticks = machine_ticks() - ticks;
    ktap_check(ok && large_splits() == splits + 1, "a write of one side splits one page");
    space_switch(child);
    ok = large_page_count_right(0, PAGES) == PAGES && page_fill(large_page_page_at(7), TAG2(8)) &&
         page_fill(large_page_page_at(9), TAG2(9));
    ktap_check(ok && large_splits() == splits + 1, "the other side reads all that was, and writes");
    space_switch(parent);
    ok = page_holds(large_page_page_at(7), TAG2(7)) && page_holds(large_page_page_at(9), TAG(9)) &&
         page_fill(large_page_page_at(7), TAG(7));
    ktap_check(ok && large_page_count_right(0, PAGES) == PAGES,
               "no write of the one reaches the other");
    null_fault_metric("fork_and_split", ticks);
    space_audit();
    space_destroy(child);
    ok = page_fill(large_page_page_at(PTE_ENTRIES), TAG(PTE_ENTRIES));
    ktap_check(ok && level_at(parent, large_page_page_at(PTE_ENTRIES)) == 2,
               "the last owner has the other pages back whole");
}

static void large_page_cut(struct space *space)
{
    const unsigned first = 2 * PTE_ENTRIES;
    uint64_t value;
    bool ok = SUCCEEDS(space_unmap(space, large_page_page_at(first + 5), 3 * PAGE_SIZE));

    ok = ok && level_at(space, large_page_page_at(first)) == 1 &&
         !word_read(large_page_page_at(first + 6), &value) &&
         page_holds(large_page_page_at(first + 4), TAG(first + 4)) &&
         large_page_count_right(first + 8, first + PTE_ENTRIES) == PTE_ENTRIES - 8;
    ktap_check(ok, "an unmap of three pages leaves the other 509");
    ok = SUCCEEDS(space_protect(space, large_page_page_at(3 * PTE_ENTRIES), LARGE, RIGHTS_READ)) &&
         level_at(space, large_page_page_at(3 * PTE_ENTRIES)) == 2 &&
         !word_write(large_page_page_at(3 * PTE_ENTRIES + 1), 1);
    ktap_check(ok, "a whole page read-only stays whole");
    ok = SUCCEEDS(space_protect(space, large_page_page_at(3 * PTE_ENTRIES), PAGE_SIZE,
                                RIGHTS_READ_WRITE)) &&
         level_at(space, large_page_page_at(3 * PTE_ENTRIES)) == 1 &&
         word_write(large_page_page_at(3 * PTE_ENTRIES), TAG(3 * PTE_ENTRIES)) &&
         !word_write(large_page_page_at(3 * PTE_ENTRIES + 1), 1);
    ktap_check(ok && large_page_count_right(3 * PTE_ENTRIES, PAGES) == PTE_ENTRIES,
               "one page of it writable splits it");
    space_audit();
}

/* Checks that a move keeps a large page whole, with a right back pointer: it can still be split. */
static void move(struct space *space)
{
    const unsigned first = PTE_ENTRIES;
    const uint64_t from = large_page_page_at(first);
    const uint64_t to = from + GIB;
    struct space_view view;
    bool ok = SUCCEEDS(space_query(space, from, &view)) && view.resident == PAGES &&
              SUCCEEDS(space_move(space, from, LARGE, to)) && level_at(space, to) == 2 &&
              level_at(space, from) > 1;
    struct space *child;

    ktap_check(ok, "a large page moves whole");
    space_audit();
    ok = ok && SUCCEEDS(space_fork(space, &child)) && page_fill(to + 3 * PAGE_SIZE, TAG2(3)) &&
         level_at(space, to) == 1;
    if (ok) {
        space_switch(child);
        ok = page_holds(to + 3 * PAGE_SIZE, TAG(first + 3));
        space_switch(space);
        space_destroy(child);
    }
    ok = ok && page_fill(to + 3 * PAGE_SIZE, TAG(first + 3)) &&
         SUCCEEDS(space_move(space, to, LARGE, from));
    ktap_check(ok && large_page_count_right(0, PAGES) == PAGES,
               "it is split there, and moves back");
    space_audit();
}

/* Checks that a large page is split if the clocks have no page to evict. */
static void take_apart(struct space *space)
{
    uint64_t splits = large_splits();
    bool ok = SUCCEEDS(
        space_map(space, &SPACE_AT(APART, LARGE, RIGHTS_READ_WRITE, .page_level = 2), NULL));
    uint64_t value;

    for (unsigned i = 0; i < PTE_ENTRIES && ok; i++)
        ok = word_write(APART + i * PAGE_SIZE, TAG(i));
    ok = ok && level_at(space, APART) == 2 && large_split_one();
    ktap_check(ok && large_splits() == splits + 1 && level_at(space, APART) == 1,
               "a shortage takes a large page apart");
    for (unsigned i = 0; i < PTE_ENTRIES && ok; i++)
        ok = word_read(APART + i * PAGE_SIZE, &value) && value == TAG(i);
    ktap_check(ok, "and loses nothing of it");
    space_audit();
}

/* Splits a page of 1 GiB down to 4 KiB by a change of rights, undoes the change, and merges it
 * again. */
static bool gib_comes_back(struct space *space)
{
    const uint64_t odd = GIB_START + 9 * PAGE_SIZE;

    return SUCCEEDS(space_protect(space, odd, PAGE_SIZE, RIGHTS_READ)) &&
           level_at(space, GIB_START) == 1 && level_at(space, GIB_START + LARGE) == 2 &&
           SUCCEEDS(space_protect(space, odd, PAGE_SIZE, RIGHTS_READ_WRITE)) &&
           SUCCEEDS(space_advise(space, GIB_START, GIB, SPACE_COLLAPSE)) &&
           level_at(space, GIB_START) == 3;
}

static void try_gib(struct space *space)
{
    uint64_t value = 1;
    bool ok = SUCCEEDS(space_map(
                  space, &SPACE_AT(GIB_START, GIB, RIGHTS_READ_WRITE, .page_level = 3), NULL)) &&
              word_write(GIB_START + 5 * MIB, 77);

    if (ok && level_at(space, GIB_START) != 3) {
        ktap_skip("no GiB is free as a whole", "1 GiB, split and put together");
        ktap_skip("no GiB is free as a whole", "1 GiB by one entry");
        return;
    }
    ktap_check(ok && gib_comes_back(space), "1 GiB, split and put together in place");
    space_audit();
    ok = ok && word_read(GIB_START + GIB - 8, &value) && value == 0 &&
         SUCCEEDS(space_unmap(space, GIB_START + 9 * PAGE_SIZE, PAGE_SIZE)) &&
         level_at(space, GIB_START) == 1 && level_at(space, GIB_START + 5 * MIB) == 2 &&
         word_read(GIB_START + 5 * MIB, &value) && value == 77;
    ktap_check(ok, "1 GiB by one entry, split along one path by an unmap");
    space_audit();
}

static void large_page_run(const struct options *options)
{
    struct space *space;

    (void)options;
    null_fault_measure();
    if (!start_space(&space))
        return;
    large_page_measure(space, false);
    if (SUCCEEDS(space_unmap(space, START, LARGES * LARGE)))
        large_page_measure(space, true);
    ktap_check(fill_all() && large_page_count_right(0, PAGES) == PAGES &&
                   level_at(space, START) == 2,
               "all bytes are there");
    fork_and_write(space);
    move(space);
    large_page_cut(space);
    take_apart(space);
    large_page_merge(space);
    try_gib(space);
    end_space(space);
}

EXPERIMENT(large_page, 330) = {
    .theme = THEME_PAGES,
    .name = "large-page",
    .question =
        "What does a page of 2 MiB save, and what do taking it apart and putting it together cost?",
    .spaces = 2,
    .checks = 17 + LARGE_PAGE_MERGE_CHECKS,
    .reserves = true,
    .run = large_page_run,
    .answer =
        {
            .text = "{faults.large} faults, not {faults.small}, and {tables.large} tables, not "
                    "{tables.small}",
            .counted = "{faults.large} faults, not {faults.small}, and {tables.large} tables, not "
                       "{tables.small}; putting one together takes {merge.copied} instructions, "
                       "in place {merge.in_place}",
            .limit = "a shorter walk of the TLB, which counting instructions does not show",
        },
};

/*
 * section-cost: what does a general section cost, and does a chain of snapshots make it dearer?
 *
 * Sections are stacked: each is a snapshot of the one below, up to 64 deep, and has a page of its
 * own. In other systems a fault goes down such a chain of shadow objects until one has the page.
 * Here a snapshot shares the tables of its section, so that a touch of the uppermost section finds
 * the page by one walk, however deep the page was written. The first touch in a section copies the
 * page and its table; the next one finds them. Whether it must copy is seen at the second entry of
 * the page, so that the depth does not matter for that either.
 *
 * A section's tree has as many levels as the size needs: a small section is one table.
 *
 * Figures, by depth: the cost of a first touch, of a touch of a page that is resident, of reading a
 * page without a mapping, and of a snapshot; and the first write to a page of a blank section,
 * beside that to private memory.
 */
#include "cpu/machine.h"
#include "lib/bytes.h"
#include "lib/print.h"
#include "tests/runner/experiment.h"
#include "tests/runner/ledger.h"
#include "tests/runner/user_pages.h"
#include "vmm/section/section.h"

#define PAGES     16U
#define SIZE      (PAGES * PAGE_SIZE)
#define DEPTH_MAX 64U
#define HERE      UINT64_C(0x640000000)
#define BLANK     UINT64_C(0x680000000)

static const unsigned depths[] = {1, 4, 16, 64};

#define DEPTHS (sizeof(depths) / sizeof(depths[0]))

/* Costs of one depth: ticks a page, but for the snapshot; frames. */
struct cost {
    uint64_t snapshot;
    uint64_t read;
    uint64_t first;
    uint64_t resident;
    int64_t pages;  /* that the touches copied */
    int64_t tables; /* likewise */
};

/* Level 0 wrote all pages, each next one a page in turn. */
static uint64_t stacked_value(unsigned level, unsigned page)
{
    return UINT64_C(0xc057) << 32 | level << 8 | page;
}

/* Returns the level whose page the section of a depth shows. */
static unsigned stacked_writer(unsigned depth, unsigned page)
{
    return depth < page || depth == 0 ? 0 : depth - (depth - page) % PAGES;
}

static bool stacked_put(struct section *section, unsigned level, unsigned page)
{
    uint64_t value = stacked_value(level, page);
    uint64_t done;

    return SUCCEEDS(section_write(section, page * PAGE_SIZE, &value, sizeof(value), &done));
}

/* Returns how many pages of a section have the content of their depth. */
static unsigned stacked_right(struct section *section, unsigned depth)
{
    unsigned right = 0;

    for (unsigned page = 0; page < PAGES; page++) {
        uint64_t value = 0;
        uint64_t done;

        right += section_read(section, page * PAGE_SIZE, &value, sizeof(value), &done) == OK &&
                 value == stacked_value(stacked_writer(depth, page), page);
    }
    return right;
}

/* Makes the next section of the chain, with a page of its own. */
static bool stacked_stack(struct section **chain, unsigned level)
{
    return SUCCEEDS(section_snapshot(chain[level - 1], RIGHTS_READ_WRITE, &chain[level])) &&
           stacked_put(chain[level], level, level % PAGES);
}

/* Touches all pages at an address; returns ticks a page. */
static uint64_t stacked_touch(uint64_t base, bool *ok)
{
    uint64_t ticks = machine_ticks();
    uint64_t word;

    for (unsigned page = 0; page < PAGES; page++)
        *ok = word_read(base + page * PAGE_SIZE, &word) && *ok;
    return (machine_ticks() - ticks) / PAGES;
}

static bool stacked_unmap_pages(struct space *space)
{
    return SUCCEEDS(space_advise(space, HERE, SIZE, SPACE_DONT_NEED));
}

/* Measures a section that a space maps at HERE. */
static bool stacked_measure_touches(struct space *space, struct cost *cost)
{
    struct ledger before = ledger_take();
    bool ok = true;

    cost->first = stacked_touch(HERE, &ok);
    cost->pages = ledger_growth(&before, FRAME_ANONYMOUS);
    cost->tables = ledger_growth(&before, FRAME_TABLE);
    ok = ok && stacked_unmap_pages(space);
    cost->resident = stacked_touch(HERE, &ok);
    return ok;
}

/* Measures a snapshot of the uppermost section of a chain. */
static bool stacked_measure(struct section *top, struct cost *cost)
{
    struct section *snapshot;
    struct space *space = NULL;
    uint64_t ticks = machine_ticks();
    bool ok = SUCCEEDS(section_snapshot(top, RIGHTS_READ_WRITE, &snapshot));

    if (!ok)
        return false;
    cost->snapshot = machine_ticks() - ticks;
    if (start_space(&space)) {
        ok = SUCCEEDS(space_map(space,
                                &SPACE_AT(HERE, SIZE, RIGHTS_READ_WRITE, .flags = SPACE_SHARED,
                                          .section = snapshot),
                                NULL)) &&
             stacked_measure_touches(space, cost);
        end_space(space);
    }
    section_close(snapshot);
    return ok && space != NULL;
}

static void stacked_put_metric(unsigned depth, const char *what, uint64_t value, const char *unit)
{
    char name[32];

    (void)print_to(name, sizeof(name), "depth%u.%s", depth, what);
    ktap_metric(name, value, unit);
}

static void stacked_report(unsigned depth, const struct cost *cost)
{
    stacked_put_metric(depth, "snapshot", cost->snapshot, "ticks");
    stacked_put_metric(depth, "read", cost->read, "ticks");
    stacked_put_metric(depth, "first", cost->first, "ticks");
    stacked_put_metric(depth, "resident", cost->resident, "ticks");
    stacked_put_metric(depth, "pages", (uint64_t)cost->pages, "frames");
    stacked_put_metric(depth, "tables", (uint64_t)cost->tables, "frames");
}

/* Ticks that are time differ by more from run to run. */
static void stacked_check_flat(const struct cost *lowest, const struct cost *deepest)
{
    bool counted = ktap_counts_instructions();

    ktap_check(!counted || deepest->first * 10 <= lowest->first * 11,
               "a first touch takes at most a tenth more at depth %u%s", DEPTH_MAX,
               counted ? "" : ", or instructions are not counted here");
}

/* Stacks sections up to each depth and measures there. Returns how many there are. */
static unsigned stacked_run_chain(struct section **chain, struct cost *costs)
{
    unsigned level = 0;
    bool ok = true;

    for (unsigned i = 0; i < DEPTHS && ok; i++) {
        unsigned right;
        uint64_t ticks;

        while (level < depths[i] && ok) {
            ok = stacked_stack(chain, level + 1);
            level += ok;
        }
        ticks = machine_ticks();
        right = ok ? stacked_right(chain[level], level) : 0;
        costs[i].read = (machine_ticks() - ticks) / PAGES;
        ok = ok && stacked_measure(chain[level], &costs[i]);
        stacked_report(depths[i], &costs[i]);
        ktap_check(ok && right == PAGES, "depth %u: %u of %u pages are right", depths[i], right,
                   PAGES);
        ktap_check(costs[i].pages == PAGES && costs[i].tables == costs[0].tables,
                   "depth %u: the touches copy %lu pages, with %lu tables", depths[i],
                   (uint64_t)costs[i].pages, (uint64_t)costs[i].tables);
    }
    return level;
}

/* Writes a word to each page of blank memory of a section or not; returns ticks a page. */
static uint64_t stacked_of_blank(uint32_t flags)
{
    struct space *space;
    uint64_t ticks = 0;

    if (!start_space(&space))
        return 0;
    if (SUCCEEDS(
            space_map(space, &SPACE_AT(BLANK, SIZE, RIGHTS_READ_WRITE, .flags = flags), NULL))) {
        bool ok = true;

        ticks = machine_ticks();
        for (unsigned page = 0; page < PAGES; page++)
            ok = word_write(BLANK + page * PAGE_SIZE, page) && ok;
        ticks = ok ? (machine_ticks() - ticks) / PAGES : 0;
    }
    end_space(space);
    return ticks;
}

/* ---- the levels of a tree ---- */

static enum status blank_get(const void *source, uint64_t page, struct pfn frame)
{
    (void)source;
    (void)page;
    memset(frame_pointer(frame), 0, PAGE_SIZE);
    return OK;
}

static const struct pager blank_pager = {.name = "blank", .get = blank_get};

/* Returns the tables that the last page of a section takes; SIZE_MAX: it is not read. */
static uint64_t tables_of_size(uint64_t size)
{
    struct ledger before = ledger_take();
    struct section *section;
    uint64_t tables = UINT64_MAX;
    uint64_t done;
    uint8_t byte;

    if (!SUCCEEDS(section_create(&blank_pager, NULL, size, RIGHTS_READ, &section)))
        return tables;
    if (SUCCEEDS(section_read(section, size - 1, &byte, 1, &done)))
        tables = (uint64_t)ledger_growth(&before, FRAME_TABLE);
    section_close(section);
    return tables;
}

/* The largest section of each number of levels. */
static void stacked_check_levels(void)
{
    unsigned right = 0;

    for (unsigned levels = 1; levels <= TREE_LEVELS_MAX; levels++) {
        uint64_t size = plain_room(levels);
        uint64_t tables = tables_of_size(size < SECTION_SIZE_MAX ? size : SECTION_SIZE_MAX);
        char name[32];

        (void)print_to(name, sizeof(name), "level%u.tables", levels);
        ktap_metric(name, tables, "frames");
        right += tables == levels;
    }
    ktap_check(right == TREE_LEVELS_MAX,
               "the last page of a section takes a table for each of its levels, for %u of %u",
               right, TREE_LEVELS_MAX);
}

static void section_cost_run(const struct options *options)
{
    struct section *chain[DEPTH_MAX + 1] = {NULL};
    struct cost costs[DEPTHS] = {{0}};
    unsigned level = 0;
    unsigned right = 0;
    bool ok;

    (void)options;
    ktap_metric("private.first_write", stacked_of_blank(0), "ticks");
    ktap_metric("blank.first_write", stacked_of_blank(SPACE_SHARED), "ticks");
    ok = SUCCEEDS(section_create(&pager_zero, NULL, SIZE, RIGHTS_READ_WRITE, &chain[0]));
    for (unsigned page = 0; page < PAGES && ok; page++)
        ok = stacked_put(chain[0], 0, page);
    if (ok)
        level = stacked_run_chain(chain, costs);
    stacked_check_flat(&costs[0], &costs[DEPTHS - 1]);
    stacked_check_levels();
    for (unsigned i = 0; i <= level && ok; i++)
        right += stacked_right(chain[i], i);
    ktap_check(right == (DEPTH_MAX + 1) * PAGES,
               "%u of %u pages of all sections of the chain are right", right,
               (DEPTH_MAX + 1) * PAGES);
    for (unsigned i = 0; i <= level && ok; i++)
        section_close(chain[i]);
    ktap_check(section_count() == 0, "no section is left");
}

EXPERIMENT(section_cost, 051) = {
    .theme = THEME_PAGES,
    .name = "section-cost",
    .question = "Is the overhead of generalised sections too large?",
    .checks = 2 * DEPTHS + 4,
    .run = section_cost_run,
    .answer =
        {
            .text = "No: a page takes {level1.tables} table, in a large section {level5.tables}; "
                    "a touch of {depth64.pages} pages below 64 snapshots copies them, and "
                    "makes {depth64.tables} tables",
            .counted = "No: as much below 64 snapshots as below 1; a first touch, which copies, "
                       "takes {depth64.first} instructions, {depth64.first / depth1.first : 2} "
                       "times as many; the next {depth64.resident}",
            .limit = "a chain of snapshots; sections that show parts of others are not built",
        },
};

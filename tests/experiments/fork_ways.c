/*
 * fork-ways: how should memory be copied?
 *
 * Compares four ways to copy a space. Eager copies every page at once into a new space. Page COW
 * copies every table and shares each page. Leaf-table COW also shares the leaf tables
 * (On-demand-fork, Zhao and others, EuroSys'21). COW at every level, as shipped, shares the entries
 * of the top table. The last three begin with space_fork(); the first two of them then own the
 * child's paths down to level 1 or 2.
 *
 * For each size the child writes 0, 1, 10, 50 or 100 % of its pages, chosen at random, and is then
 * destroyed. The figures are the tables and pages that the fork makes, and the costs of the fork,
 * of the writes and of the end: writes pay later for work that the fork left out. The checks
 * compare the content of every page on both sides, and the number of tables of a fork at every
 * level.
 */
#include "cpu/machine.h"
#include "lib/bytes.h"
#include "lib/print.h"
#include "pmm/pmm.h"
#include "tests/runner/experiment.h"
#include "tests/runner/ledger.h"
#include "tests/runner/null_fault.h"
#include "tests/runner/user_pages.h"
#include "vmm/page/page.h"
#include "vmm/space/end.h"

#define START UINT64_C(0x8000000000)

/* One page in each 4 GiB of a TiB. */
#define SPARSE_PAGES  256U
#define SPARSE_STRIDE (4 * GIB)

/* Beyond this only by name: an emulator takes seconds for it. */
#define DENSE_USUAL (16 * MIB)

static const unsigned shares[] = {0, 1, 10, 50, 100};

struct shape {
    const char *name;
    uint64_t pages;
    uint64_t stride;
};

static const struct shape shapes[] = {
    {"4m", 4 * MIB / PAGE_SIZE, PAGE_SIZE},   {"16m", 16 * MIB / PAGE_SIZE, PAGE_SIZE},
    {"64m", 64 * MIB / PAGE_SIZE, PAGE_SIZE}, {"256m", 256 * MIB / PAGE_SIZE, PAGE_SIZE},
    {"1024m", GIB / PAGE_SIZE, PAGE_SIZE},    {"sparse_1t", SPARSE_PAGES, SPARSE_STRIDE},
};

static uint64_t fork_ways_page_at(const struct shape *shape, uint64_t number)
{
    return START + number * shape->stride;
}

/* Returns whether a page is among those that the child writes: the same ones whenever it is
 * asked. */
static bool is_written(uint64_t number, unsigned share)
{
    struct random random = random_from(number + 1);

    return random_next(&random) % 100 < share;
}

/* ---- the four ways ---- */

static enum status own_path(struct tree *tree, uint64_t address, unsigned level,
                            enum tree_purpose purpose)
{
    struct tree_reserve reserve = {0};
    enum status status;

    do {
        struct tlb_batch batch;

        status = tree_reserve_fill(&reserve, tree->levels - 1U);
        if (status != OK)
            break;
        tlb_begin(&batch, tree);
        status = tree_make_path(tree, address, level, purpose, &reserve, &batch);
        tlb_commit(&batch);
    } while (status == STATUS_AGAIN);
    tree_reserve_drain(&reserve);
    return status;
}

/* Owns each table of this level that has pages in it. */
static bool fork_ways_own_tables(struct space *child, const struct shape *shape, unsigned level)
{
    uint64_t last = UINT64_MAX;
    enum status status = OK;

    for (uint64_t i = 0; i < shape->pages && status == OK; i++) {
        uint64_t table = fork_ways_page_at(shape, i) / pte_span(level + 1);

        if (table != last)
            status = own_path(&child->tree, fork_ways_page_at(shape, i), level, TREE_CHANGE);
        last = table;
    }
    return status == OK;
}

/* Maps a new page with the content of `from` into an entry that has none. */
static bool fork_ways_copy_page(const struct tree_place *place, struct pfn from)
{
    bool were_on = machine_interrupts_off();
    struct pfn page;
    bool ok = page_try_alloc(FRAME_UNCLEARED, &page);

    if (ok) {
        bool locked = tree_lock(place->table);

        CHECK(locked);
        memcpy(frame_pointer(page), frame_pointer(from), PAGE_SIZE);
        rmap_reference(page, place->table, place->index);
        page_publish(page);
        tree_replace_entry(place->table, place->index,
                           pte_leaf(page, 1, PTE_OWN, RIGHTS_READ_WRITE));
        tree_unlock(place->table);
    }
    machine_interrupts_restore(were_on);
    return ok;
}

/* Copies every page into a new space: nothing is shared, cleared or left to a fault. */
static bool fork_ways_copy_all(struct space *parent, const struct shape *shape,
                               struct space **child)
{
    uint64_t last = UINT64_MAX;
    bool ok = SUCCEEDS(space_create(child));

    if (!ok)
        return false;
    ok = SUCCEEDS(
        space_map(*child, &SPACE_AT(START, shape->pages * shape->stride, RIGHTS_READ_WRITE), NULL));
    for (uint64_t i = 0; i < shape->pages && ok; i++) {
        uint64_t address = fork_ways_page_at(shape, i);
        struct tree_place place;

        if (address / pte_span(2) != last)
            ok = own_path(&(*child)->tree, address, 1, TREE_BUILD) == OK;
        last = address / pte_span(2);
        place = tree_walk(&(*child)->tree, address);
        ok = ok && place.level == 1 &&
             fork_ways_copy_page(&place, pte_frame(leaf_entry(parent, address)));
    }
    return ok;
}

static bool share_leaf_tables(struct space *child, const struct shape *shape)
{
    return fork_ways_own_tables(child, shape, 2);
}

static bool fork_ways_share_pages(struct space *child, const struct shape *shape)
{
    return fork_ways_own_tables(child, shape, 1);
}

static bool share_all(struct space *child, const struct shape *shape)
{
    (void)child;
    (void)shape;
    return true;
}

static const struct way {
    const char *name;
    bool (*finish)(struct space *child, const struct shape *shape);
} ways[] = {{"eager", NULL}, /* no fork: fork_ways_copy_all() makes the child */
            {"page", fork_ways_share_pages},
            {"leaf_table", share_leaf_tables},
            {"all_levels", share_all}};

/* ---- contents ---- */

/* Returns the word that a page must have: the parent's or the child's. */
static uint64_t fork_ways_word_of(uint64_t number, bool child)
{
    return number * 2 + 1000 + child;
}

static bool fork_ways_fill(const struct shape *shape)
{
    bool ok = true;

    for (uint64_t i = 0; i < shape->pages && ok; i++)
        ok = word_write(fork_ways_page_at(shape, i) + 40, fork_ways_word_of(i, false)) &&
             word_write(fork_ways_page_at(shape, i) + 4088, i);
    return ok;
}

static uint64_t fork_ways_count_right(const struct shape *shape, unsigned share)
{
    uint64_t right = 0;

    for (uint64_t i = 0; i < shape->pages; i++) {
        uint64_t word = 0;
        uint64_t last = 0;

        right += word_read(fork_ways_page_at(shape, i) + 40, &word) &&
                 word_read(fork_ways_page_at(shape, i) + 4088, &last) && last == i &&
                 word == fork_ways_word_of(i, is_written(i, share));
    }
    return right;
}

static uint64_t write_share(const struct shape *shape, unsigned share)
{
    uint64_t ticks = machine_ticks();

    for (uint64_t i = 0; i < shape->pages && share > 0; i++) {
        if (is_written(i, share) &&
            !word_write(fork_ways_page_at(shape, i) + 40, fork_ways_word_of(i, true)))
            return 0;
    }
    return machine_ticks() - ticks;
}

/* ---- measuring ---- */

static void fork_ways_put(const struct shape *shape, const struct way *way, const char *what,
                          uint64_t ticks)
{
    char name[32];

    print_to(name, sizeof(name), "%s.%s", way->name, what);
    null_fault_metric_of(name, shape->name, ticks);
}

/* Makes the child; *child is NULL if there is none. */
static bool fork_ways_make(struct space *parent, const struct shape *shape, const struct way *way,
                           struct space **child)
{
    *child = NULL;
    if (way->finish == NULL)
        return fork_ways_copy_all(parent, shape, child);
    return SUCCEEDS(space_fork(parent, child)) && way->finish(*child, shape);
}

static void fork_ways_put_count(const struct shape *shape, const struct way *way, const char *what,
                                int64_t count)
{
    char name[48];

    print_to(name, sizeof(name), "%s.%s.%s", way->name, what, shape->name);
    ktap_metric(name, (uint64_t)count, what);
}

/* Measures one fork, its writes and its end. Returns whether both sides read the right words. */
static bool try_once(struct space *parent, const struct shape *shape, const struct way *way,
                     unsigned share)
{
    struct ledger before = ledger_take();
    uint64_t began = machine_ticks();
    struct space *child;
    char what[16];
    bool ok = fork_ways_make(parent, shape, way, &child);

    if (child == NULL)
        return false;
    if (share == 0) {
        fork_ways_put(shape, way, "fork", machine_ticks() - began);
        fork_ways_put_count(shape, way, "tables", ledger_growth(&before, FRAME_TABLE));
        fork_ways_put_count(shape, way, "pages", ledger_growth(&before, FRAME_ANONYMOUS));
        ok = ok && (way->finish != share_all || ledger_growth(&before, FRAME_TABLE) == 1) &&
             (way->finish != NULL ||
              ledger_growth(&before, FRAME_ANONYMOUS) == (int64_t)shape->pages);
    }
    space_switch(child);
    print_to(what, sizeof(what), "write%u", share);
    began = write_share(shape, share);
    if (share > 0)
        fork_ways_put(shape, way, what, began);
    ok = ok && fork_ways_count_right(shape, share) == shape->pages;
    space_switch(parent);
    ok = ok && fork_ways_count_right(shape, 0) == shape->pages;
    began = machine_ticks();
    space_destroy(child);
    space_finish_ends(); /* its tables and pages are a part of what is dropped */
    if (share == 0)
        fork_ways_put(shape, way, "drop", machine_ticks() - began);
    return ok;
}

static void fork_ways_try_shape(const struct shape *shape)
{
    struct space *parent;
    bool filled;

    if (!start_space(&parent))
        return;
    filled =
        SUCCEEDS(space_map(
            parent, &SPACE_AT(START, shape->pages * shape->stride, RIGHTS_READ_WRITE), NULL)) &&
        fork_ways_fill(shape);
    for (unsigned way = 0; way < ARRAY_COUNT(ways); way++) {
        bool ok = filled;

        for (unsigned i = 0; i < ARRAY_COUNT(shares) && ok; i++)
            ok = try_once(parent, shape, &ways[way], shares[i]);
        ktap_check(ok, "%s, %s: both sides read what they should", shape->name, ways[way].name);
    }
    space_audit();
    end_space(parent);
}

/* Returns whether memory suffices for the pages and tables of both sides, with a reserve. */
static bool fork_ways_fits(const struct shape *shape)
{
    uint64_t tables = shape->stride == PAGE_SIZE ? shape->pages / PTE_ENTRIES : shape->pages * 2;

    return (shape->pages + tables) * 2 < pmm_usage().by_kind[FRAME_FREE] / 4 * 3;
}

static void run_shapes(uint64_t most)
{
    null_fault_measure();
    for (unsigned i = 0; i < ARRAY_COUNT(shapes); i++) {
        bool dense = shapes[i].stride == PAGE_SIZE;

        if (dense && shapes[i].pages * PAGE_SIZE > most)
            continue;
        if (fork_ways_fits(&shapes[i])) {
            fork_ways_try_shape(&shapes[i]);
            continue;
        }
        for (unsigned way = 0; way < ARRAY_COUNT(ways); way++)
            ktap_skip("there is not so much memory", "%s, %s", shapes[i].name, ways[way].name);
    }
}

static void fork_ways_run(const struct options *options)
{
    (void)options;
    run_shapes(DENSE_USUAL);
}

EXPERIMENT(fork_ways, 310) = {
    .theme = THEME_TABLES,
    .name = "fork-ways",
    .question = "How should memory be copied?",
    .spaces = 2,
    .checks = 3 * ARRAY_COUNT(ways),
    .reserves = true,
    .run = fork_ways_run,
    .answer =
        {
            .text =
                "Share all levels: {all_levels.tables.16m} table for 16 MiB; page COW makes "
                "{page.tables.16m}, an eager copy {eager.tables.16m} and {eager.pages.16m} pages",
            .counted = "Share all levels: {all_levels.fork.16m} instructions for 16 MiB; page COW "
                       "{page.fork.16m}; an eager copy makes {eager.pages.16m} pages at once",
            .shipped = "all levels; its writes take more instructions than those of page COW, its "
                       "fork fewer",
            .limit = "the cost of misses in cache and TLB",
        },
};

static void fork_ways_run_all(const struct options *options)
{
    (void)options;
    run_shapes(UINT64_MAX);
}

EXPERIMENT(fork_ways_all, 320) = {
    .theme = THEME_TABLES,
    .name = "fork-ways-all",
    .question = "How should memory be copied, up to a GiB?",
    .spaces = 2,
    .checks = ARRAY_COUNT(shapes) * ARRAY_COUNT(ways),
    .only_by_name = true,
    .reserves = true,
    .run = fork_ways_run_all,
    .answer =
        {
            .text = "none; it is fork-ways with sizes that take minutes: compare its figures",
        },
};

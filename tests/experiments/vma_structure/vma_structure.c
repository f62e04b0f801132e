/*
 * vma-structure: which structure tracks virtual memory?
 *
 * The question (forum thread 2): "should I just search through the whole page table tree to find
 * one that has the present bit off?" The answer there: keep the ranges in a self-balancing tree,
 * since a browser has 567 of them over 642,410 pages; no one gave a figure.
 *
 * Three structures hold the same ranges (tests/experiments/vma_structure/range_keepers.h): a list
 * in order of address, a red-black tree that knows gaps, and the page tables, scanned entry by
 * entry; beside them a real address space does the same by its calls. At 567 ranges over 642,410
 * pages, and 10 to 100,000 ranges of a few pages, each finds the range of an address, puts in a
 * range that was taken out, and looks for the lowest gap of a size that only one gap has, at three
 * quarters of the addresses.
 *
 * The answer is ticks and cache lines for each. The check: each gives the same answers as a sorted
 * array that is searched by halves, and walked for gaps.
 */
#include "cpu/machine.h"
#include "lib/print.h"
#include "pmm/pmm.h"
#include "tests/experiments/vma_structure/range_keepers.h"
#include "tests/runner/experiment.h"
#include "tests/runner/null_fault.h"
#include "tests/runner/user_pages.h"

#define FINDS   64U
#define INSERTS 16U
#define GAPS    4U

/* The one gap of its size; all others have at most GAP_MAX pages. */
#define BIG_GAP 64U
#define GAP_MAX 4U

/* Where a real space has page 0 of the ranges. */
#define START UINT64_C(0x8000000000)

/* Ranges that a real space is given: each is a call. */
#define SPACE_MAX 10000U

struct range {
    uint32_t start;
    uint32_t end;
};

#define RANGES_A_BLOCK ((uint32_t)(2 * MIB / sizeof(struct range)))
_Static_assert(KEEPER_RANGES_MAX <= RANGES_A_BLOCK, "the model's array is one block");

struct size {
    uint32_t ranges;
    uint32_t pages; /* of all ranges */
};

static const struct size sizes[] = {
    {10, 20}, {100, 200}, {567, 642410}, {1000, 2000}, {10000, 20000}, {100000, 200000},
};

static struct {
    struct range *ranges; /* the model: sorted, none overlaps */
    uint32_t count;
    uint32_t end; /* of the last */
    struct random random;
} model;

/* ---- the model ---- */

/* Makes ranges of random sizes that add up, or nearly, to the size's pages, with small gaps
 * between. */
static void make_model(const struct size *size, uint64_t seed)
{
    uint32_t mean = size->pages / size->ranges;
    uint32_t at = 1;
    uint32_t left = size->pages;

    model.random = random_from(seed);
    model.count = size->ranges;
    for (uint32_t i = 0; i < size->ranges; i++) {
        uint32_t after = size->ranges - 1 - i;
        uint32_t pages = 1 + (uint32_t)random_below(&model.random, 2 * mean - 1);

        pages = (uint32_t)min_u64(pages, left - after);
        if (after == 0)
            pages = left;
        model.ranges[i] = (struct range){at, at + pages};
        left -= pages;
        at += pages + (i == size->ranges / 4 * 3
                           ? BIG_GAP
                           : 1 + (uint32_t)random_below(&model.random, GAP_MAX));
        model.end = model.ranges[i].end;
    }
}

static uint32_t model_find(uint32_t page)
{
    uint32_t low = 0;
    uint32_t high = model.count;

    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (model.ranges[middle].end <= page)
            low = middle + 1;
        else
            high = middle;
    }
    return low < model.count && model.ranges[low].start <= page ? model.ranges[low].start
                                                                : KEEPER_NONE;
}

static uint32_t model_find_gap(uint32_t size)
{
    uint32_t at = 0;

    for (uint32_t i = 0; i < model.count && model.ranges[i].start - at < size; i++)
        at = model.ranges[i].end;
    return at;
}

/* ---- measuring ---- */

struct cost {
    uint64_t ticks;
    uint64_t lines;
};

static void vma_structure_put(const struct keeper *keeper, const char *what,
                              const struct cost *cost, unsigned times)
{
    char name[64];

    print_to(name, sizeof(name), "%s.%s.%u", keeper->name, what, model.count);
    null_fault_metric(name, cost->ticks / times);
    print_to(name, sizeof(name), "%s.%s.%u.lines", keeper->name, what, model.count);
    if (cost->lines > 0)
        ktap_metric(name, (cost->lines + times / 2) / times, "lines");
}

/* Runs each operation twice: once for the clock, once to count cache lines. */
static bool try_finds(const struct keeper *keeper)
{
    struct cost cost = {0};
    bool right = true;

    for (unsigned i = 0; i < FINDS; i++) {
        uint32_t page = (uint32_t)random_below(&model.random, model.end);
        uint64_t began = machine_ticks();
        uint32_t found = keeper->find(page);

        cost.ticks += machine_ticks() - began;
        right &= found == model_find(page);
        keeper_count_lines(true);
        right &= keeper->find(page) == found;
        cost.lines += keeper_count_lines(false);
    }
    vma_structure_put(keeper, "find", &cost, FINDS);
    return right;
}

static bool try_inserts(const struct keeper *keeper)
{
    struct cost cost = {0};
    bool right = true;

    for (unsigned i = 0; i < INSERTS; i++) {
        uint32_t number = (uint32_t)random_below(&model.random, model.count);
        struct range range = model.ranges[number];
        uint64_t began;

        keeper->remove(number, range.start, range.end);
        right &= keeper->find(range.start) == KEEPER_NONE;
        began = machine_ticks();
        right &= keeper->insert(number, range.start, range.end);
        cost.ticks += machine_ticks() - began;
        keeper->remove(number, range.start, range.end);
        keeper_count_lines(true);
        right &= keeper->insert(number, range.start, range.end);
        cost.lines += keeper_count_lines(false);
        right &= keeper->find(range.end - 1) == range.start;
    }
    vma_structure_put(keeper, "insert", &cost, INSERTS);
    return right;
}

static bool try_gaps(const struct keeper *keeper)
{
    struct cost cost = {0};
    bool right = true;

    for (unsigned i = 0; i < GAPS; i++) {
        uint64_t began = machine_ticks();
        uint32_t found = keeper->find_gap(BIG_GAP);

        cost.ticks += machine_ticks() - began;
        right &= found == model_find_gap(BIG_GAP);
        keeper_count_lines(true);
        right &= keeper->find_gap(BIG_GAP) == found;
        cost.lines += keeper_count_lines(false);
    }
    for (uint32_t size = 1; size <= BIG_GAP + 1; size += GAP_MAX - 1)
        right &= keeper->find_gap(size) == model_find_gap(size);
    vma_structure_put(keeper, "find_gap", &cost, GAPS);
    return right;
}

static uint32_t common_divisor(uint32_t a, uint32_t b)
{
    while (b != 0) {
        uint32_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

/* Inserts the ranges in an order other than that of their addresses: in steps that reach each
 * number once. */
static bool vma_structure_fill(const struct keeper *keeper)
{
    uint32_t step = model.count / 2 + 1;
    bool ok = true;

    while (common_divisor(step, model.count) != 1)
        step++;
    for (uint32_t i = 0, number = 0; i < model.count && ok; i++) {
        ok = keeper->insert(number, model.ranges[number].start, model.ranges[number].end);
        number = (number + step) % model.count;
    }
    return ok;
}

/* Fills a list from its end, since filling from its start would take quadratic time. */
static bool fill_backwards(const struct keeper *keeper)
{
    bool ok = true;

    for (uint32_t i = model.count; i > 0 && ok; i--)
        ok = keeper->insert(i - 1, model.ranges[i - 1].start, model.ranges[i - 1].end);
    return ok;
}

static void try_keeper(const struct keeper *keeper)
{
    bool ok = false;

    if (!keeper->start(model.end)) {
        ktap_skip("there is not so much memory", "%s, %u ranges", keeper->name, model.count);
        return;
    }
    if (keeper == &keepers[0] ? fill_backwards(keeper) : vma_structure_fill(keeper)) {
        ok = try_finds(keeper);
        ok = try_inserts(keeper) && ok;
        ok = try_gaps(keeper) && ok;
    }
    ktap_check(ok, "%s, %u ranges: the answers are those of the model", keeper->name, model.count);
    keeper->stop();
}

/* ---- a real space ---- */

static struct space *space;

static bool space_start(uint32_t pages)
{
    (void)pages;
    return SUCCEEDS(space_create(&space));
}

static void space_stop(void)
{
    space_destroy(space);
}

static bool space_insert(uint32_t number, uint32_t start, uint32_t end)
{
    (void)number;
    return SUCCEEDS(space_map(
        space, &SPACE_AT(START + start * PAGE_SIZE, (end - start) * PAGE_SIZE, RIGHTS_READ_WRITE),
        NULL));
}

static void space_remove(uint32_t number, uint32_t start, uint32_t end)
{
    bool gone = SUCCEEDS(space_unmap(space, START + start * PAGE_SIZE, (end - start) * PAGE_SIZE));

    (void)number;
    CHECK(gone);
}

static uint32_t space_find(uint32_t page)
{
    const struct region *region = space_region_at(space, START + page * PAGE_SIZE);

    return region == NULL ? KEEPER_NONE : (uint32_t)((region->node.start - START) / PAGE_SIZE);
}

/* Finds a gap with space_map. One more region fills the addresses below the ranges. */
static uint32_t space_find_gap(uint32_t size)
{
    uint64_t start;

    if (!SUCCEEDS(space_map(space,
                            &(struct space_request){.size = size * PAGE_SIZE,
                                                    .alignment = PAGE_SIZE,
                                                    .rights = RIGHTS_READ_WRITE},
                            &start)))
        return KEEPER_NONE;
    return SUCCEEDS(space_unmap(space, start, size * PAGE_SIZE))
               ? (uint32_t)((start - START) / PAGE_SIZE)
               : KEEPER_NONE;
}

static const struct keeper space_keeper = {"space",      space_start, space_stop,    space_insert,
                                           space_remove, space_find,  space_find_gap};

static void try_space(void)
{
    bool ok = false;

    if (model.count > SPACE_MAX || !space_keeper.start(model.end)) {
        ktap_skip("too many calls, or too little memory", "space, %u ranges", model.count);
        return;
    }
    if (SUCCEEDS(space_map(space,
                           &(struct space_request){.at = SPACE_FIRST_ADDRESS,
                                                   .size = START - SPACE_FIRST_ADDRESS,
                                                   .flags = SPACE_GUARD},
                           NULL)) &&
        vma_structure_fill(&space_keeper)) {
        ok = try_finds(&space_keeper);
        ok = try_inserts(&space_keeper) && ok;
        ok = try_gaps(&space_keeper) && ok;
    }
    ktap_check(ok, "space, %u ranges: the answers are those of the model", model.count);
    space_keeper.stop();
}

static void vma_structure_run(const struct options *options)
{
    struct pfn block;
    bool memory = pmm_alloc_order(ORDER_HUGE, FRAME_KERNEL, FRAME_UNCLEARED, &block) == OK;

    null_fault_measure();
    if (!ktap_check(memory, "2 MiB for the model"))
        return;
    model.ranges = frame_pointer(block);
    for (unsigned i = 0; i < ARRAY_COUNT(sizes); i++) {
        bool room = keeper_make_room(sizes[i].ranges);

        make_model(&sizes[i], options->seed);
        for (unsigned k = 0; k < KEEPERS; k++) {
            if (room)
                try_keeper(&keepers[k]);
            else
                ktap_skip("there is not so much memory", "%s, %u ranges", keepers[k].name,
                          model.count);
        }
        try_space();
    }
    keeper_end();
    pmm_free_order(block, ORDER_HUGE);
}

EXPERIMENT(vma_structure, 380) = {
    .theme = THEME_TABLES,
    .name = "vma-structure",
    .question = "Which structure tracks virtual memory?",
    .reserves = true,
    .regions = 16384,
    .checks = 1 + ARRAY_COUNT(sizes) * (KEEPERS + 1),
    .run = vma_structure_run,
    .answer =
        {
            .text =
                "A balanced tree: {tree.find_gap.567.lines} cache lines to find a gap; list "
                "{list.find_gap.567.lines}, page tables {scan.find_gap.567.lines}, at 567 ranges",
            .shipped = "a balanced tree",
            .limit = "ranges that many processors change at once",
        },
};

/*
 * Rows of bench about writes to pages that a fork has shared.
 *
 * cow_copy and cow_reuse are taken after both sides own their leaf tables, as in Linux, where a
 * fork copies the tables. The other rows show the later cost of sharing the tables: the first write
 * copies the tables of its path, and a child's end counts its copies down.
 */
#include "cpu/machine.h"
#include "paging/tree/tree.h"
#include "tests/experiments/bench/bench.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"

#define FIRSTS 64U
#define ROUNDS 4U

#define SPARSE_SIZE   (256 * MIB)
#define SPARSE_PAGES  (SPARSE_SIZE / PAGE_SIZE)
#define SPARSE_TABLES ((unsigned)(SPARSE_PAGES / PTE_ENTRIES))

#define LARGE    (2 * MIB)
#define SNAPSHOT 2048U

/* Writes to the first page of each table, which makes the table the space's own. */
static void bench_own_tables(struct space *space)
{
    space_switch(space);
    for (unsigned i = 0; i < BENCH_SAMPLES; i += PTE_ENTRIES)
        CHECK(word_write(BENCH_FAR + i * PAGE_SIZE, 1));
}

/* Measures writes to all pages but the first of each table, whose write has made the table own. */
static void write_others(void)
{
    for (unsigned i = 0; i < BENCH_SAMPLES; i += PTE_ENTRIES)
        bench_measure(user_code_measure_write, BENCH_FAR + (i + 1) * PAGE_SIZE, PAGE_SIZE,
                      PTE_ENTRIES - 1);
}

static void copy_rows(struct space *parent)
{
    struct space *child;

    bench_set_overhead(user_code_measure_write);
    if (!SUCCEEDS(space_fork(parent, &child)))
        return;
    bench_own_tables(child);
    bench_own_tables(parent);
    write_others();
    bench_end_row("cow_copy");
    space_switch(child);
    write_others();
    bench_end_row("cow_reuse");
    space_switch(parent);
    bench_end_whole(child);
}

/* Measures a child's first write, when it owns no table yet. */
static void first_row(struct space *parent)
{
    for (unsigned i = 0; i < FIRSTS; i++) {
        struct space *child;

        if (!SUCCEEDS(space_fork(parent, &child)))
            break;
        space_switch(child);
        bench_measure(user_code_measure_write, BENCH_FAR, 0, 1);
        space_switch(parent);
        bench_end_whole(child);
    }
    bench_end_row("cow_first");
}

/* Makes one leaf table of the space that runs its own, whose upper tables are; returns the
 * ticks. */
static uint64_t own_leaf_table(struct space *space, uint64_t address)
{
    struct tree_reserve reserve = {.count = 0};
    bool ok =
        tree_reserve_fill(&reserve, tree_path_needs(&space->tree, address, 1, TREE_CHANGE)) == OK;
    struct tlb_batch batch;
    uint64_t began;
    uint64_t ticks;

    tlb_begin(&batch, &space->tree);
    began = machine_ticks();
    ok = ok && tree_make_path(&space->tree, address, 1, TREE_CHANGE, &reserve, &batch) == OK;
    ticks = machine_ticks() - began;
    tlb_commit(&batch);
    tree_reserve_drain(&reserve);
    CHECK(ok);
    return ticks;
}

/* Measures the copy of a table, from the kernel. All its pages are resident, and own before the
 * fork. */
static void table_row(struct space *parent)
{
    struct space *child;

    bench_time_readings();
    if (!SUCCEEDS(space_fork(parent, &child)))
        return;
    space_switch(child);
    if (bench_touch(BENCH_FAR, 1)) {
        for (unsigned i = 1; i < SPARSE_TABLES; i++)
            bench_add(own_leaf_table(child, BENCH_FAR + i * LARGE));
    }
    bench_end_row("cow_table");
    space_switch(parent);
    bench_end_whole(child);
}

/* Times a fork, one write in each 2 MiB by the child, and its end; then the end alone, for each
 * page whose table entry was copied. The parent has written all pages since the previous fork. */
static void sparse_rows(struct space *parent)
{
    uint64_t ends[ROUNDS] = {0};

    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t began = machine_ticks();
        struct space *child;

        if (!SUCCEEDS(space_fork(parent, &child)))
            break;
        space_switch(child);
        (void)bench_run_user_code(user_code_measure_write, BENCH_FAR, LARGE, SPARSE_TABLES);
        space_switch(parent);
        ends[round] = machine_ticks();
        bench_end_whole(child);
        bench_add(machine_ticks() - began);
        ends[round] = machine_ticks() - ends[round];
        if (!bench_touch(BENCH_FAR, SPARSE_PAGES))
            break;
    }
    bench_end_row("cow_sparse_256m");
    for (unsigned round = 0; round < ROUNDS; round++)
        bench_add_net(ends[round] / SPARSE_PAGES);
    bench_end_row("drop_shared");
}

/* Measures a snapshot: the parent writes random pages while a child keeps the old state. */
static void snapshot_row(struct space *parent)
{
    struct random random = random_from(1);

    for (unsigned round = 0; round < ROUNDS; round++) {
        struct space *child;
        uint64_t began;

        for (unsigned i = 0; i < SNAPSHOT; i++)
            bench_list(i, BENCH_FAR + random_below(&random, SPARSE_PAGES) * PAGE_SIZE);
        began = machine_ticks();
        if (!SUCCEEDS(space_fork(parent, &child)))
            break;
        (void)bench_run_user_code(user_code_measure_listed_write, 0, 0, SNAPSHOT);
        bench_end_whole(child);
        bench_add(machine_ticks() - began);
        if (!bench_touch(BENCH_FAR, SPARSE_PAGES))
            break;
    }
    bench_end_row("snapshot_2048");
}

void bench_cow_rows(void)
{
    struct space *parent = space_current();

    if (!bench_map(BENCH_FAR, SPARSE_PAGES) || !bench_touch(BENCH_FAR, SPARSE_PAGES))
        return;
    copy_rows(parent);
    (void)bench_touch(BENCH_FAR, SPARSE_PAGES);
    first_row(parent);
    (void)bench_touch(BENCH_FAR, SPARSE_PAGES);
    table_row(parent);
    (void)bench_touch(BENCH_FAR, SPARSE_PAGES);
    sparse_rows(parent);
    snapshot_row(parent);
    (void)bench_unmap(BENCH_FAR, SPARSE_PAGES);
}

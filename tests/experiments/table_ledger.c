/*
 * table-ledger: how is the RAM used by the tables recorded?
 *
 * The question (forum thread 2): a page table is memory too; who knows how much of it there is?
 * Three books are compared: the census of AUDIT, which follows the trees as the kernel understands
 * them; the ledger of frames by kind, which allocation and freeing keep; and a walk of its own,
 * which follows the words of the tables from the root in CR3 as the processor does, by P and PS
 * alone, and marks each table frame in a set of bits, so that a table that two spaces share counts
 * once.
 *
 * The spaces are sparse and dense ones, forks that share tables at every level, and forks that have
 * copied some. The answer is table frames by level, and what share of all RAM in use they are. The
 * checks: the three books agree after each step, level by level, and at the end nothing is left.
 */
#include "cpu/machine.h"
#include "lib/bytes.h"
#include "lib/print.h"
#include "pmm/pmm.h"
#include "tests/runner/experiment.h"
#include "tests/runner/ledger.h"
#include "tests/runner/null_fault.h"
#include "tests/runner/user_pages.h"

#define SPACES 6U
#define PAGES  64U
#define START  UINT64_C(0x10000000)

/* As the manual has them (SDM volume 3, 4.5): present, page size, and the address. */
#define HARDWARE_P       UINT64_C(1)
#define HARDWARE_PS      UINT64_C(0x80)
#define HARDWARE_ADDRESS UINT64_C(0x000ffffffffff000)

/* A frame holds the bits of this many frames. */
#define MARKS_A_FRAME ((uint64_t)PAGE_SIZE * 8)
#define MARKS_MAX     256U

static struct {
    struct pfn marks[MARKS_MAX];
    unsigned count;
    uint64_t tables[6]; /* by level */
    uint64_t shared;    /* met more than once */
} walk;

static struct space *spaces[SPACES];

/* ---- the walk of its own ---- */

static bool make_marks(void)
{
    uint64_t wanted = pmm_frame_limit() / MARKS_A_FRAME + 1;

    walk.count = 0;
    while (walk.count < wanted && walk.count < MARKS_MAX &&
           pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &walk.marks[walk.count]) == OK)
        walk.count++;
    return walk.count == wanted;
}

static void give_marks(void)
{
    while (walk.count > 0)
        pmm_free(walk.marks[--walk.count]);
}

/* Marks a frame; false if it is marked already. */
static bool table_ledger_mark(uint64_t frame)
{
    uint64_t *bits = frame_pointer(walk.marks[frame / MARKS_A_FRAME]);
    uint64_t bit = UINT64_C(1) << frame % 64;
    uint64_t *word = &bits[frame % MARKS_A_FRAME / 64];
    bool fresh = (*word & bit) == 0;

    *word |= bit;
    return fresh;
}

/* Follows a table's words and marks its frames, down to level 1. The top level's upper half is the
 * kernel's. */
static void table_ledger_follow(uint64_t physical, unsigned level, unsigned entries)
{
    const uint64_t *words = phys_pointer((struct phys){physical});

    if (!table_ledger_mark(physical >> PAGE_SHIFT)) {
        walk.shared++;
        return;
    }
    walk.tables[level]++;
    for (unsigned i = 0; i < entries && level > 1; i++) {
        uint64_t word = __atomic_load_n(&words[i], __ATOMIC_RELAXED);

        if ((word & (HARDWARE_P | HARDWARE_PS)) == HARDWARE_P)
            table_ledger_follow(word & HARDWARE_ADDRESS, level - 1, PTE_ENTRIES);
    }
}

/* Loads each space, so that the walk begins at the processor's own root. */
static void follow_all(void)
{
    memset(walk.tables, 0, sizeof(walk.tables));
    walk.shared = 0;
    for (unsigned i = 0; i < walk.count; i++)
        machine_clear_frame(frame_pointer(walk.marks[i]));
    for (unsigned i = 0; i < SPACES; i++) {
        if (spaces[i] == NULL)
            continue;
        space_switch(spaces[i]);
        table_ledger_follow(machine_root().address, spaces[i]->tree.levels, PTE_ENTRIES / 2);
    }
    space_switch(NULL);
}

/* ---- comparing ---- */

static bool table_ledger_compare(const struct ledger *before, const char *step)
{
    struct tree_census census = space_audit();
    uint64_t sum = 0;
    bool same = true;

    follow_all();
    for (unsigned level = 1; level <= 5; level++) {
        sum += walk.tables[level];
        if (census.tables[level] != walk.tables[level]) {
            ktap_note("%s: level %u has %lu tables in the census and %lu in the walk", step, level,
                      census.tables[level], walk.tables[level]);
            same = false;
        }
    }
    if (sum != (uint64_t)ledger_growth(before, FRAME_TABLE)) {
        ktap_note("%s: %lu tables in the walk, %lu in the ledger", step, sum,
                  (uint64_t)ledger_growth(before, FRAME_TABLE));
        same = false;
    }
    return same;
}

static void table_ledger_report(void)
{
    struct pmm_usage usage;
    uint64_t ticks = machine_ticks();
    uint64_t sum = 0;
    char name[32];

    follow_all();
    ticks = machine_ticks() - ticks;
    for (unsigned level = 1; level <= 5; level++) {
        print_to(name, sizeof(name), "tables.level%u", level);
        ktap_metric(name, walk.tables[level], "frames");
        sum += walk.tables[level];
    }
    ktap_metric("tables.all", sum, "frames");
    ktap_metric("links_to_shared", walk.shared, "entries");
    null_fault_metric("walk_a_table", ticks / sum);
    ticks = machine_ticks();
    usage = pmm_usage();
    ticks = machine_ticks() - ticks;
    ktap_metric("pages", usage.by_kind[FRAME_ANONYMOUS], "frames");
    null_fault_metric("ask_the_ledger", ticks);
}

/* ---- spaces ---- */

static bool table_ledger_touch(struct space *space, uint64_t stride, uint64_t tag)
{
    bool ok = true;

    space_switch(space);
    for (unsigned i = 0; i < PAGES && ok; i++)
        ok = word_write(START + i * stride, tag + i);
    space_switch(NULL);
    return ok;
}

static bool make(unsigned number, uint64_t stride)
{
    return SUCCEEDS(space_create(&spaces[number])) &&
           SUCCEEDS(space_map(spaces[number], &SPACE_AT(START, PAGES * stride, RIGHTS_READ_WRITE),
                              NULL)) &&
           table_ledger_touch(spaces[number], stride, 1);
}

static void table_ledger_end_spaces(void)
{
    for (unsigned i = 0; i < SPACES; i++) {
        if (spaces[i] != NULL)
            space_destroy(spaces[i]);
        spaces[i] = NULL;
    }
}

static void table_ledger_try_all(const struct ledger *before)
{
    bool ok = make(0, PAGE_SIZE) && make(1, 2 * MIB) && make(2, GIB);

    ktap_check(ok && table_ledger_compare(before, "made"),
               "dense, sparse and sparser: the books agree");
    if (!ok)
        return;
    ok = SUCCEEDS(space_fork(spaces[1], &spaces[3])) &&
         SUCCEEDS(space_fork(spaces[2], &spaces[4])) && SUCCEEDS(space_fork(spaces[4], &spaces[5]));
    if (!ktap_check(ok, "three forks"))
        return;
    ok = table_ledger_compare(before, "forked");
    ktap_check(ok && walk.shared > 0, "after forks, with %lu links to tables met before",
               walk.shared);
    ok = table_ledger_touch(spaces[3], 2 * MIB, 100);
    ktap_check(ok && table_ledger_compare(before, "copied"),
               "after a child has copied all of its tables");
    table_ledger_report();
    ok = SUCCEEDS(space_unmap(spaces[5], START, PAGES / 2 * GIB));
    ktap_check(ok && table_ledger_compare(before, "unmapped"),
               "after half of a grandchild is unmapped");
    space_destroy(spaces[2]);
    spaces[2] = NULL;
    ktap_check(table_ledger_compare(before, "destroyed"), "after the parent of both has gone");
}

static void table_ledger_run(const struct options *options)
{
    struct ledger before;

    (void)options;
    null_fault_measure();
    if (ktap_check(make_marks(), "a bit for each frame")) {
        before = ledger_take();
        table_ledger_try_all(&before);
        table_ledger_end_spaces();
        ktap_check(ledger_growth(&before, FRAME_TABLE) == 0, "no table is left");
    }
    give_marks();
}

EXPERIMENT(table_ledger, 300) = {
    .theme = THEME_TABLES,
    .name = "table-ledger",
    .question = "How is the RAM used by the tables recorded?",
    .spaces = SPACES,
    .checks = 8,
    .reserves = true,
    .run = table_ledger_run,
    .answer =
        {
            .text = "By each frame's kind: {tables.all} tables for {pages} pages",
            .counted = "By each frame's kind: {tables.all} tables for {pages} pages; a walk "
                       "takes {walk_a_table} instructions for each table, asking looks at none",
        },
};

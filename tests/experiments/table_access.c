/*
 * table-access: recursive slot, permanent window or direct map?
 *
 * The same entries are looked up and changed by each of the three ways of
 * paging/tree/table_access.h, first to see that they are the same, then to see what it costs. A
 * change clears the A bit of a page's entry, as reclaim does; touching the page sets it again,
 * which shows that the entry is the one that the processor walks. Figures are for one entry: time,
 * and what had to be invalidated: single translations, or all of the space at once.
 *
 * Nothing else runs in these spaces, so their own paths are changed exclusively (rule A3).
 */
#include "paging/tree/table_access.h"
#include "cpu/clock/measure.h"
#include "cpu/features.h"
#include "cpu/machine.h"
#include "cpu/trap/probe.h"
#include "cpu/trap/trap.h"
#include "lib/print.h"
#include "paging/kernel/layout.h"
#include "paging/kernel/map.h"
#include "pmm/pmm.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"
#include "vmm/space/commit.h"

#define SPACES    4U
#define PAGES     96U
#define REGION    (64 * MIB)
#define ADDRESSES 400U /* compared in each space */
#define ROUNDS    8U   /* over all pages, for each figure */
#define WAYS      3U

/* More spaces than one table of the window has room for. */
#define MANY (PTE_ENTRIES + 8)

/* A and D come and go by themselves. */
#define CONTENT (~(PTE_A | PTE_D))

static struct {
    struct space *spaces[SPACES + 1]; /* the last is a fork of the first */
    uint64_t pages[SPACES][PAGES];    /* addresses that were written */
    uint64_t dropped_pages;           /* translations invalidated one by one */
    uint64_t dropped_wholes;          /* times that all of a space were invalidated */
} test;

static uint64_t table_access_region_start(unsigned number)
{
    return UINT64_C(0x400000000) * (number + 1) + number * 2 * MIB;
}

static bool fill_space(unsigned number, struct random *random)
{
    struct space *space = test.spaces[number];
    bool ok = SUCCEEDS(space_map(
                  space, &SPACE_AT(table_access_region_start(number), REGION, RIGHTS_READ_WRITE),
                  NULL)) &&
              SUCCEEDS(space_map(space, &SPACE_AT(GIB * 512, GIB * 512, RIGHTS_READ), NULL)) &&
              SUCCEEDS(space_map(
                  space, &(struct space_request){.at = 2 * MIB, .size = MIB, .flags = SPACE_GUARD},
                  NULL));
    uint64_t value;

    space_switch(space);
    for (unsigned i = 0; i < PAGES && ok; i++) {
        uint64_t page = table_access_region_start(number) +
                        random_below(random, REGION / PAGE_SIZE) * PAGE_SIZE;

        test.pages[number][i] = page;
        ok = word_write(page, page) &&
             word_read(table_access_region_start(number) + random_below(random, REGION), &value) &&
             word_read(512 * GIB + random_below(random, 512 * GIB), &value);
    }
    return ok;
}

/* ---- the same contents ---- */

/* Reads through the slot itself: a walk would fall back to the direct map if the slot has no
 * entry. */
static bool slot_shows(const struct space *space, uint64_t address, const struct tree_place *place)
{
    uint64_t at = recursive_address(space->tree.levels, address, place->level);
    struct pte entry = pte_empty();

    if (kernel_map_recursive_read(at, &entry) && ((entry.word ^ place->entry.word) & CONTENT) == 0)
        return true;
    ktap_note("the slot shows %lx at %lx", entry.word, at);
    return false;
}

static bool table_access_same_place(enum table_access way, const struct space *space,
                                    uint64_t address)
{
    bool were_on = machine_interrupts_off();
    struct tree_place wanted = tree_walk_by(TABLES_DIRECT, &space->tree, address);
    struct tree_place found = tree_walk_by(way, &space->tree, address);

    machine_interrupts_restore(were_on);
    if (wanted.level == found.level && pfn_equal(wanted.table, found.table) &&
        wanted.own == found.own && ((wanted.entry.word ^ found.entry.word) & CONTENT) == 0)
        return way != TABLES_RECURSIVE || slot_shows(space, address, &wanted);
    ktap_note("%lx of space %u, %s: %lx of level %u in frame %x; direct: %lx of level %u in %x",
              address, space->tree.number, table_access_name(way), found.entry.word, found.level,
              found.table.index, wanted.entry.word, wanted.level, wanted.table.index);
    return false;
}

static uint64_t random_address(const struct space *space, unsigned number, struct random *random)
{
    switch (random_below(random, 3)) {
    case 0: return test.pages[number % SPACES][random_below(random, PAGES)];
    case 1: return table_access_region_start(number % SPACES) + random_below(random, REGION);
    default: return random_below(random, lower_half_end(space->tree.levels));
    }
}

/* Compares each space through the recursive slot while it is loaded, and all others through the
 * window meanwhile. */
static unsigned compare_all(struct random *random)
{
    unsigned different = 0;

    for (unsigned loaded = 0; loaded <= SPACES; loaded++) {
        space_switch(test.spaces[loaded]);
        for (unsigned i = 0; i < ADDRESSES; i++) {
            unsigned other = (unsigned)random_below(random, SPACES + 1);
            const struct space *own = test.spaces[loaded];
            const struct space *foreign = test.spaces[other];

            different += !table_access_same_place(TABLES_RECURSIVE, own,
                                                  random_address(own, loaded, random));
            different +=
                !table_access_same_place(TABLES_WINDOW, own, random_address(own, loaded, random));
            different += !table_access_same_place(TABLES_WINDOW, foreign,
                                                  random_address(own, other, random));
        }
    }
    return different;
}

static bool window_shows(uint32_t number, struct pfn top)
{
    const struct pte *entries = frame_pointer(top);
    unsigned same = 0;

    for (unsigned i = 0; i < PTE_ENTRIES; i++)
        same += ((kernel_map_window_read(number, i).word ^ entries[i].word) & CONTENT) == 0;
    return same == PTE_ENTRIES;
}

/* ---- what the slot and the window allow ---- */

static bool refused(bool succeeded, const struct trap_info *info, uint64_t error)
{
    if (!succeeded && info->vector == TRAP_PF && info->error == error)
        return true;
    ktap_note("succeeded %u, vector %u, error %lx instead of %lx", succeeded, info->vector,
              info->error, error);
    return false;
}

static void try_windows(void)
{
    const struct space *child = test.spaces[SPACES];
    uint64_t slot = recursive_address(child->tree.levels, recursive_base(child->tree.levels),
                                      child->tree.levels);
    uint64_t window = top_window_address(child->tree.number);
    struct trap_info info = {0};
    struct pte entry = pte_empty();
    bool ok = true;

    space_switch(test.spaces[SPACES]);
    ktap_check(kernel_map_recursive_read(slot, &entry) &&
                   pfn_equal(pte_frame(entry), child->tree.root),
               "a fork's recursive slot names the fork's own top table");
    ktap_check(refused(probe_write64(window, 0, &info), &info, PF_P | PF_WR),
               "the window cannot be written");
    if (!cpu_features()->nx) {
        ktap_skip("the processor has no NX", "slot and window cannot be executed");
        return;
    }
    ok = refused(probe_fetch(slot, &info), &info, PF_P | PF_ID);
    ok &= refused(probe_fetch(window, &info), &info, PF_P | PF_ID);
    ktap_check(ok, "slot and window cannot be executed");
}

/* ---- reading and changing one entry ---- */

static void drop_page(uint64_t address)
{
    machine_flush_page(address);
    test.dropped_pages++;
}

static void table_access_load(const struct space *space)
{
    machine_load_root(phys_of(space->tree.root));
    test.dropped_wholes++;
}

/* Finds the entry of level 1 with the fewest steps. The caller knows that all tables exist, as it
 * must for the slot, which only the processor walks. The window costs a translation each time. */
static struct pte *table_access_find(enum table_access way, const struct space *space,
                                     uint64_t address)
{
    const struct tree *tree = &space->tree;
    unsigned level = tree->levels;
    struct pte entry;

    if (way == TABLES_RECURSIVE)
        return (struct pte *)(uintptr_t)recursive_address(level, address, 1);
    if (way == TABLES_WINDOW) {
        entry = kernel_map_window_read(tree->number, pte_index(address, level));
        test.dropped_pages++;
    } else {
        entry = pte_read(table_access_direct(tree->root, level, address));
    }
    while (--level > 1)
        entry = pte_read(table_access_direct(pte_frame(entry), level, address));
    return table_access_direct(pte_frame(entry), 1, address);
}

static uint64_t read_own(enum table_access way, const struct space *own,
                         const struct space *foreign, uint64_t address)
{
    (void)foreign;
    return pte_read(table_access_find(way, own, address)).word;
}

static uint64_t read_foreign(enum table_access way, const struct space *own,
                             const struct space *foreign, uint64_t address)
{
    uint64_t word;

    if (way != TABLES_RECURSIVE)
        return pte_read(table_access_find(way, foreign, address)).word;
    table_access_load(foreign);
    word = pte_read(table_access_find(way, foreign, address)).word;
    table_access_load(own);
    return word;
}

static uint64_t change(enum table_access way, const struct space *space, uint64_t address)
{
    return __atomic_fetch_and(&table_access_find(way, space, address)->word, ~PTE_A,
                              __ATOMIC_ACQ_REL);
}

static uint64_t edit_own(enum table_access way, const struct space *own,
                         const struct space *foreign, uint64_t address)
{
    uint64_t word = change(way, own, address);

    (void)foreign;
    drop_page(address);
    return word;
}

/* Changes an entry of a space that is not loaded. It has no translations here: loading it drops
 * them all. */
static uint64_t edit_foreign(enum table_access way, const struct space *own,
                             const struct space *foreign, uint64_t address)
{
    uint64_t word;

    if (way != TABLES_RECURSIVE)
        return change(way, foreign, address);
    table_access_load(foreign);
    word = change(way, foreign, address);
    table_access_load(own);
    return word;
}

struct operation {
    const char *name;
    uint64_t (*run)(enum table_access way, const struct space *own, const struct space *foreign,
                    uint64_t address);
    bool foreign;
    bool edits;
};

static const struct operation operations[] = {
    {"read_own", read_own, false, false},
    {"read_foreign", read_foreign, true, false},
    {"edit_own", edit_own, false, true},
    {"edit_foreign", edit_foreign, true, true},
};

/* Returns whether the entries of the pages have A set, or all have it clear. */
static bool accessed_is(unsigned number, bool set)
{
    for (unsigned i = 0; i < PAGES; i++) {
        struct pte entry = leaf_entry(test.spaces[number], test.pages[number][i]);

        if (!pte_present(entry) || ((entry.word & PTE_A) != 0) != set) {
            ktap_note("%lx of space %u has entry %lx", test.pages[number][i],
                      test.spaces[number]->tree.number, entry.word);
            return false;
        }
    }
    return true;
}

static bool table_access_touch_all(unsigned number)
{
    bool ok = true;
    uint64_t value;

    space_switch(test.spaces[number]);
    for (unsigned i = 0; i < PAGES && ok; i++)
        ok = word_read(test.pages[number][i], &value) && value == test.pages[number][i];
    return ok;
}

/* Returns the ticks of one instruction if they are a whole number, else 0. */
static uint64_t table_access_ticks_per_instruction(void)
{
    uint64_t first;
    uint64_t second;

    measure_nops();
    first = measure_nops() - measure_nothing();
    second = measure_nops() - measure_nothing();
    return first == second && first % MEASURE_NOPS == 0 ? first / MEASURE_NOPS : 0;
}

static void table_access_put(const struct operation *operation, enum table_access way,
                             const char *what, uint64_t value, const char *unit)
{
    char name[64];

    print_to(name, sizeof(name), "%s.%s%s", operation->name, table_access_name(way), what);
    ktap_metric(name, value, unit);
}

/* Measures one figure, with every page several times. Returns whether each entry was the page's. */
static bool table_access_measure(const struct operation *operation, enum table_access way,
                                 uint64_t unit)
{
    const struct space *own = test.spaces[1];
    const struct space *foreign = test.spaces[2];
    const uint64_t *pages = test.pages[operation->foreign ? 2 : 1];
    uint64_t count = (uint64_t)PAGES * ROUNDS;
    uint64_t present = 0;
    uint64_t ticks;
    bool were_on;

    space_switch(test.spaces[1]);
    test.dropped_pages = test.dropped_wholes = 0;
    were_on = machine_interrupts_off();
    ticks = machine_ticks();
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < PAGES; i++)
            present += operation->run(way, own, foreign, pages[i]) & PTE_P;
    }
    ticks = machine_ticks() - ticks;
    machine_interrupts_restore(were_on);
    table_access_put(operation, way, "", ticks / count / (unit != 0 ? unit : 1),
                     unit != 0 ? "instructions" : "ticks");
    table_access_put(operation, way, ".invalidated", (test.dropped_pages + count / 2) / count,
                     "translations");
    table_access_put(operation, way, ".emptied", (test.dropped_wholes + count / 2) / count, "TLBs");
    return present == count;
}

static void run_operation(const struct operation *operation, uint64_t unit)
{
    unsigned number = operation->foreign ? 2 : 1;

    for (unsigned way = 0; way < WAYS; way++) {
        bool ok = table_access_touch_all(number) && accessed_is(number, true) &&
                  table_access_measure(operation, (enum table_access)way, unit);

        if (operation->edits)
            ok = ok && accessed_is(number, false) && table_access_touch_all(number) &&
                 accessed_is(number, true);
        ktap_check(ok, "%s, %s: every entry is the processor's own", operation->name,
                   table_access_name((enum table_access)way));
    }
}

/* ---- more spaces than one table of the window shows ---- */

static bool many_are_shown(void)
{
    static struct space *many[MANY];
    unsigned made = 0;
    unsigned shown = 0;
    uint64_t kernel = 0;

    while (made < MANY && space_create(&many[made]) == OK)
        made++;
    kernel = pmm_usage().by_kind[FRAME_KERNEL];
    for (unsigned i = 0; i < made; i++)
        shown += many[i]->tree.number == i && window_shows(i, many[i]->tree.root);
    while (made > 0)
        space_destroy(many[--made]);
    ktap_note("%u of %u spaces are shown, %lu frames of the kernel's then and %lu after", shown,
              (unsigned)MANY, kernel, pmm_usage().by_kind[FRAME_KERNEL]);
    return shown == MANY && window_shows(MANY - 1, tree_zero_page());
}

/* ---- the whole ---- */

static bool make_spaces(struct random *random)
{
    struct space *child;

    for (unsigned i = 0; i < SPACES; i++) {
        if (!SUCCEEDS(space_create(&test.spaces[i])) || !fill_space(i, random))
            return false;
    }
    if (!SUCCEEDS(space_fork(test.spaces[0], &child)))
        return false;
    test.spaces[SPACES] = child;
    return true;
}

static void table_access_end_spaces(void)
{
    space_switch(NULL);
    for (unsigned i = 0; i <= SPACES; i++) {
        if (test.spaces[i] != NULL)
            space_destroy(test.spaces[i]);
        test.spaces[i] = NULL;
    }
}

static void table_access_run(const struct options *options)
{
    struct random random = random_from(options->seed);
    enum table_access before = table_access();
    unsigned shown = 0;
    uint32_t number;

    if (REGION / PAGE_SIZE > commit_total()) {
        experiment_skip_rest("a region of %u MiB is more than the machine may promise",
                             (unsigned)(REGION / MIB));
        return;
    }
    if (!experiment_may_promise((SPACES + 1) * (REGION / PAGE_SIZE))) {
        experiment_skip_rest("overcommit=never does not promise enough");
        return;
    }
    /* Changes of tables then also invalidate the recursive slot's translations of them. */
    table_access_choose(TABLES_RECURSIVE);
    if (ktap_check(make_spaces(&random), "%u address spaces and a fork", SPACES)) {
        ktap_check(compare_all(&random) == 0, "%u random entries in each of %u spaces are the same",
                   ADDRESSES, SPACES + 1);
        for (unsigned i = 0; i <= SPACES; i++)
            shown += window_shows(test.spaces[i]->tree.number, test.spaces[i]->tree.root);
        ktap_check(shown == SPACES + 1, "each top table stands in the window at its number");
        ktap_check(window_shows(SPACES_MAX - 1, tree_zero_page()),
                   "the window shows zeroes where there is no space");
        try_windows();
        for (unsigned i = 0; i < ARRAY_COUNT(operations); i++)
            run_operation(&operations[i], table_access_ticks_per_instruction());
        number = test.spaces[3]->tree.number;
        space_audit();
        table_access_end_spaces();
        ktap_check(window_shows(number, tree_zero_page()), "and zeroes again after the spaces");
        ktap_check(many_are_shown(), "%u spaces, each in the window, and none after",
                   (unsigned)MANY);
    }
    table_access_end_spaces();
    table_access_choose(before);
}

EXPERIMENT(table_access, 090) = {
    .theme = THEME_TABLES,
    .name = "table-access",
    .question = "Recursive slot, permanent window or direct map?",
    .spaces = MANY,
    .checks = 21,
    .run = table_access_run,
    .answer =
        {
            .text = "The direct map: another's entry drops nothing; the slot empties "
                    "{read_foreign.recursive.emptied} TLBs, the window drops "
                    "{read_foreign.window.invalidated} entry",
            .counted = "The direct map: another's entry drops nothing; the slot empties "
                       "{read_foreign.recursive.emptied} TLBs; own entries: slot "
                       "{read_own.recursive} instructions, direct {read_own.direct}",
            .shipped = "direct map; for own entries the recursive slot takes fewer instructions",
            .limit = "misses of TLB and cache, which an emulator does not show",
        },
};

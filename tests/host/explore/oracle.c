/* The checks after every schedule. */
#include "tests/host/explore/oracle.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/check.h"
#include "pmm/pmm.h"
#include "swapdisk/area.h"
#include "tests/host/explore/scenario.h"
#include "tests/host/fake/machine.h"
#include "tests/host/fake/mmu.h"
#include "tests/host/model/tree_oracle.h"
#include "vmm/page/page.h"
#include "vmm/section/section.h"
#include "vmm/space/commit.h"
#include "vmm/space/descriptor.h"
#include "vmm/space/end.h"
#include "vmm/space/region.h"
#include "vmm/space/space.h"

#define TREES_MAX 32U

/* Descriptors in a frame of their table. */
#define DESCRIPTORS_IN_FRAME (PAGE_SIZE / sizeof(struct descriptor))

/* The object's window has at least so many bytes; other sections are mapped behind it. */
#define OBJECT_WINDOW (64 * PAGE_SIZE)

/* Pages whose content is part of the outcome. */
static const uint64_t probes[] = {PROGRAM_BASE,
                                  PROGRAM_BASE + PAGE_SIZE,
                                  PROGRAM_BASE + 5 * PAGE_SIZE,
                                  PROGRAM_BASE + 64 * PAGE_SIZE,
                                  PROGRAM_BASE + 512 * PAGE_SIZE,
                                  PROGRAM_MOVE_TO,
                                  PROGRAM_MOVE_TO + PAGE_SIZE};

static struct pmm_usage used_at_start;
static uint64_t descriptors_at_start;

void oracle_start(void)
{
    used_at_start = pmm_usage();
    descriptors_at_start = descriptor_limit;
}

/* ---- tables and pages ---- */

static void check_records(void)
{
    for (uint32_t i = 0; i < SCENARIO_MEMORY / PAGE_SIZE; i++) {
        const struct frame *record = frame_record((struct pfn){i});

        CHECK_MSG(record->kind != FRAME_TABLE || record->lock == 0, "table %x is still locked", i);
        CHECK_MSG(record->kind != FRAME_ANONYMOUS || (record->flags & FRAME_IO) == 0,
                  "page %x is still in transit", i);
    }
}

static struct tree trees_met[TREES_MAX];
static unsigned trees_count;

static void add_tree(const struct tree *tree, void *context)
{
    (void)context;
    CHECK(trees_count < TREES_MAX);
    trees_met[trees_count++] = *tree;
}

static void check_trees(void)
{
    struct tree_census census = space_audit();
    uint64_t tables = 0;

    trees_count = 0;
    for (unsigned i = 0; i < SPACES_OF_TEST; i++) {
        if (program_spaces[i] != NULL)
            add_tree(&program_spaces[i]->tree, NULL);
    }
    CHECK_MSG(trees_count == space_count(), "%u spaces of %u", space_count(), trees_count);
    section_visit_trees(add_tree, NULL);
    for (unsigned level = 1; level <= TREE_LEVELS_MAX; level++)
        tables += census.tables[level];
    CHECK(oracle_check(trees_met, trees_count).tables == tables);
}

static void check_processors(void)
{
    for (unsigned i = 0; i < scenario.processors; i++) {
        fake_machine_be_cpu(i);
        fake_mmu_check();
    }
    fake_machine_be_cpu(0);
}

/* ---- the outcome ---- */

__attribute__((format(printf, 2, 3))) static void add(char *outcome, const char *format, ...)
{
    size_t length = strlen(outcome);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(outcome + length, OUTCOME_MAX - length, format, arguments);
    va_end(arguments);
}

static void add_results(char *outcome)
{
    for (unsigned i = 0; i < scenario.processors; i++) {
        for (unsigned k = 0; k < scenario.programs[i].count; k++) {
            const struct result *result = &scenario.results[i][k];

            add(outcome, "%c%u=", 'A' + i, k);
            if (result->status != OK)
                add(outcome, "%d ", result->status);
            else
                add(outcome, "%" PRIu64 " ", result->value);
        }
    }
}

/* Returns true if an address in the window of the section that is an object, which may have been
 * moved, lies behind the section's end. */
static bool is_behind_end(uint64_t address)
{
    uint64_t place = address - (address < PROGRAM_MOVE_TO ? PROGRAM_BASE : PROGRAM_MOVE_TO);

    return place < max_u64(program_window, OBJECT_WINDOW) && place >= section_size(program_section);
}

/* Prints the page's value and rights, or '-' where nothing is mapped. */
static void add_page(char *outcome, struct space *space, uint64_t address)
{
    struct space_view view;
    uint64_t value = 0;
    bool mapped = space_query(space, address, &view) == OK && view.start <= address;
    bool read = program_touch(address, false, &value);

    CHECK_MSG(mapped || !read, "%lx is not mapped, and is read as %lx", address, value);
    if (!mapped) {
        add(outcome, "- ");
        return;
    }
    /* A private copy behind the end stays. */
    if (program_section != NULL && region_has_section(view.kind) && is_behind_end(address) &&
        (!read || view.kind == REGION_SHARED)) {
        CHECK_MSG(!read, "%lx is behind the section's end, and is read as %lx", address, value);
        add(outcome, "end ");
        return;
    }
    CHECK_MSG(read == !view.rights.none, "%lx is %s", address, read ? "read" : "not read");
    add(outcome, "%" PRIu64 "%s%s ", value,
        view.rights.none    ? "none"
        : view.rights.write ? "rw"
                            : "ro",
        view.wired ? "+wired" : "");
}

static void add_spaces(char *outcome)
{
    for (unsigned i = 0; i < SPACES_OF_TEST; i++) {
        if (program_spaces[i] == NULL)
            continue;
        add(outcome, "| space %u: ", i);
        space_switch(program_spaces[i]);
        for (unsigned k = 0; k < sizeof(probes) / sizeof(probes[0]); k++)
            add_page(outcome, program_spaces[i], probes[k]);
        fake_mmu_check();
    }
}

/* ---- the end ---- */

static void end_spaces(void)
{
    for (unsigned i = 0; i < scenario.processors; i++) {
        fake_machine_be_cpu(i);
        space_switch(NULL);
    }
    fake_machine_be_cpu(0);
    for (unsigned i = 0; i < SPACES_OF_TEST; i++) {
        if (program_spaces[i] != NULL)
            space_destroy(program_spaces[i]);
        program_spaces[i] = NULL;
    }
    space_finish_ends();
    if (program_section != NULL)
        section_close(program_section);
    program_section = NULL;
    program_window = 0;
}

/* Checks the ledger. Frames of the descriptors' table are never freed. */
static void check_ledger(void)
{
    struct pmm_usage used = pmm_usage();
    uint64_t grown = (descriptor_limit - descriptors_at_start) / DESCRIPTORS_IN_FRAME;

    for (unsigned kind = 0; kind < FRAME_KINDS; kind++) {
        uint64_t expected = used_at_start.by_kind[kind] + (kind == FRAME_KERNEL ? grown : 0) -
                            (kind == FRAME_FREE ? grown : 0);

        CHECK_MSG(used.by_kind[kind] == expected, "%lu frames of kind %u at the end, not %lu",
                  used.by_kind[kind], kind, expected);
    }
    CHECK_MSG(swap_usage().used == 0 && swap_references() == 0, "%lu slots are left",
              (uint64_t)swap_usage().used);
    CHECK(page_clock_size() == 0 && descriptor_count() == 0 && space_count() == 0 &&
          section_count() == 0);
    CHECK(commit_pages() == 0 && space_wired_pages() == 0 && page_wired() == 0);
}

void oracle_judge(char *outcome)
{
    outcome[0] = '\0';
    check_records();
    check_trees();
    check_processors();
    add_results(outcome);
    add_spaces(outcome);
    (void)space_audit();
    end_spaces();
    check_ledger();
}

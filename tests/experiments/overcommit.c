/*
 * overcommit: what is promised, and what happens at the end?
 *
 * For each policy of vmm/space/commit.h: equal parts of what memory and the disk can hold are
 * mapped one after the other, and one call asks for more than the whole machine has. Then a program
 * writes what it was promised until memory has really run out, beside another whose pages must
 * survive.
 */
#include "cpu/machine.h"
#include "lib/print.h"
#include "pmm/pmm.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"
#include "vmm/fault/fault.h"
#include "vmm/space/commit.h"

#define START UINT64_C(0x100000000000)

/* So many parts of the limit are asked for: five limits. */
#define PARTS_IN_LIMIT 4U
#define PARTS          20U

/* Each part is followed by an address range that stays free, so that none touch. */
#define GAP GIB

/* Pages of the one who must not lose any, and of the one who is told. */
#define BYSTANDER_PAGES 64U
#define VICTIM_PAGES    4096U

/* After so many allocations none succeeds any more. */
#define ALLOCATIONS 300U

static const char *const names[] = {[OVERCOMMIT_HEURISTIC] = "heuristic",
                                    [OVERCOMMIT_NEVER] = "never",
                                    [OVERCOMMIT_ALWAYS] = "always"};

_Static_assert(ARRAY_COUNT(names) == OVERCOMMIT_POLICIES, "one name for each policy");

static void overcommit_put(enum overcommit_policy way, const char *figure, uint64_t value,
                           const char *unit)
{
    char name[64];

    print_to(name, sizeof(name), "%s.%s", names[way], figure);
    ktap_metric(name, value, unit);
}

/* ---- promises ---- */

/* Maps parts until one is refused; says how many were given. */
static unsigned map_parts(struct space *space, enum overcommit_policy way, uint64_t part)
{
    enum status status = OK;
    unsigned given = 0;
    uint64_t ticks = 0;

    while (given < PARTS && status == OK) {
        ticks = machine_ticks();
        status = space_map(
            space, &SPACE_AT(START + given * (round_up(part, GAP) + GAP), part, RIGHTS_READ_WRITE),
            NULL);
        ticks = machine_ticks() - ticks;
        given += status == OK;
    }
    overcommit_put(way, "committed", commit_pages(), "pages");
    overcommit_put(way, "parts", given, "parts");
    if (status != OK)
        overcommit_put(way, "refusal", ticks, "ticks");
    ktap_note("%s: %s", names[way], status_name(status));
    return given;
}

static void ask_in_parts(enum overcommit_policy way)
{
    uint64_t limit = commit_limit();
    uint64_t whole = (commit_total() + 1) * PAGE_SIZE;
    uint64_t before = commit_pages();
    struct space *space;
    enum status status;
    unsigned given;

    if (!start_space(&space))
        return;
    given = map_parts(space, way, limit / PARTS_IN_LIMIT * PAGE_SIZE);
    ktap_check(way == OVERCOMMIT_NEVER ? given <= PARTS_IN_LIMIT && given + 1 >= PARTS_IN_LIMIT
                                       : given == PARTS,
               "%s: %u parts of a quarter of %lu pages", names[way], given, limit);
    ktap_check(commit_pages() - before == given * (limit / PARTS_IN_LIMIT),
               "%s: the account has them", names[way]);
    status = space_map(
        space,
        &(struct space_request){.size = whole, .alignment = PAGE_SIZE, .rights = RIGHTS_READ_WRITE},
        &(uint64_t){0});
    ktap_check(status == (way == OVERCOMMIT_ALWAYS ? OK : STATUS_COMMIT),
               "%s: one call for more than the machine: %s", names[way], status_name(status));
    end_space(space);
    ktap_check(commit_pages() == before, "%s: all promises are taken back", names[way]);
}

/* ---- the end of memory ---- */

/* Writes page after page until one is refused; says how many were written. */
static unsigned write_until_told(struct space *victim)
{
    unsigned written = 0;

    space_switch(victim);
    while (written < VICTIM_PAGES && word_write(START + written * PAGE_SIZE, written))
        written++;
    return written;
}

static bool fill_bystander(struct space *bystander)
{
    bool ok;

    space_switch(bystander);
    ok = SUCCEEDS(space_map(
        bystander, &SPACE_AT(START, BYSTANDER_PAGES * PAGE_SIZE, RIGHTS_READ_WRITE), NULL));
    for (unsigned i = 0; i < BYSTANDER_PAGES && ok; i++)
        ok = page_fill(START + i * PAGE_SIZE, 7000 + i);
    return ok;
}

static unsigned pages_held(struct space *bystander)
{
    unsigned held = 0;

    space_switch(bystander);
    for (unsigned i = 0; i < BYSTANDER_PAGES; i++)
        held += page_holds(START + i * PAGE_SIZE, 7000 + i);
    return held;
}

static unsigned words_held(struct space *victim, unsigned written)
{
    unsigned held = 0;

    space_switch(victim);
    for (unsigned i = 0; i < written; i++) {
        uint64_t value = 0;

        held += word_read(START + i * PAGE_SIZE, &value) && value == i;
    }
    return held;
}

static void run_out(struct space *bystander, struct space *victim)
{
    unsigned written;
    unsigned held;
    enum status reason;

    ktap_check(fill_bystander(bystander) &&
                   SUCCEEDS(space_map(victim,
                                      &SPACE_AT(START, VICTIM_PAGES * PAGE_SIZE, RIGHTS_READ_WRITE),
                                      NULL)),
               "one has %u pages, another is promised %u", BYSTANDER_PAGES, VICTIM_PAGES);
    pmm_idle_pause(); /* which allocation fails is counted over all processors */
    pmm_fail_from(ALLOCATIONS, UINT64_MAX);
    written = write_until_told(victim);
    reason = fault_last_reason();
    pmm_fail_from(0, 0);
    pmm_idle_resume();
    ktap_metric("end.committed", commit_pages(), "pages");
    ktap_metric("end.resident", pmm_usage().by_kind[FRAME_ANONYMOUS], "pages");
    ktap_metric("end.written", written, "pages");
    ktap_check(written > 0 && written < VICTIM_PAGES && reason == STATUS_NO_MEMORY,
               "the victim is told at page %u: %s", written, status_name(reason));
    held = words_held(victim, written);
    ktap_check(held == written, "it has kept %u of %u pages", held, written);
    held = pages_held(bystander);
    ktap_check(held == BYSTANDER_PAGES, "the other has %u of %u pages", held, BYSTANDER_PAGES);
}

static void overcommit_run(const struct options *options)
{
    struct space *bystander;
    struct space *victim;

    for (unsigned way = 0; way < OVERCOMMIT_POLICIES; way++) {
        commit_choose((enum overcommit_policy)way);
        ask_in_parts((enum overcommit_policy)way);
    }
    commit_choose(OVERCOMMIT_ALWAYS);
    if (start_space(&bystander)) {
        if (start_space(&victim)) {
            run_out(bystander, victim);
            end_space(victim);
        }
        end_space(bystander);
    }
    commit_choose(options->overcommit);
}

EXPERIMENT(overcommit, 210) = {
    .theme = THEME_FRAMES,
    .name = "overcommit",
    .question = "What is overcommitted, and what happens at the end?",
    .spaces = 2,
    .checks = 4 * OVERCOMMIT_POLICIES + 4,
    .run = overcommit_run,
};

/*
 * overcommit: what is promised, and what happens at the end?
 *
 * For each policy of vmm/space/commit.h: equal parts of what memory and the disk can hold are
 * mapped one after the other, and one call asks for more than the whole machine has. Then a program
 * writes its promised memory until memory has really run out, beside another program whose pages
 * must survive. A program of ring 3 is ended at the access that memory does not suffice for.
 */
#include "cpu/machine.h"
#include "lib/print.h"
#include "pmm/pmm.h"
#include "swapdisk/area.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_code.h"
#include "tests/runner/user_pages.h"
#include "vmm/fault/fault.h"
#include "vmm/space/commit.h"

#define START UINT64_C(0x100000000000)

/* Parts of the limit that are asked for: five limits in all. */
#define PARTS_IN_LIMIT 4U
#define PARTS          20U

/* Each part is followed by an address range that stays free, so that none touch. */
#define GAP GIB

/* Pages of the program that must lose none, and of the one that is refused. */
#define BYSTANDER_PAGES 64U
#define VICTIM_PAGES    4096U

/* All allocations after this many fail. */
#define ALLOCATIONS 300U

/* Frames and slots that are left when memory runs out for real. */
#define LEFT_FRAMES 1500U
#define LEFT_SLOTS  500U

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

/* Maps parts until one is refused; returns how many were mapped. */
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

/* Writes pages until a write is refused; returns how many were written. */
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

/* ---- memory that has run out ---- */

/* Frames and slots that the experiment keeps from the victim; a block is linked by its first
 * words. */
static struct {
    struct pfn blocks; /* PFN_NONE: none */
    uint64_t block_count;
    struct slot *slots;
    struct pfn slots_frame;
    unsigned slot_count;
} kept_back;

struct kept_block {
    struct pfn next;
    unsigned order;
};

/* Takes free memory in large blocks until about LEFT_FRAMES are left. */
static void keep_frames_back(void)
{
    unsigned order = ORDER_HUGE;
    struct pfn first;

    kept_back.blocks = PFN_NONE;
    kept_back.block_count = 0;
    while (order > 0) {
        struct kept_block *block;

        if (pmm_usage().by_kind[FRAME_FREE] < LEFT_FRAMES + order_frames(order) ||
            pmm_alloc_order(order, FRAME_KERNEL, FRAME_UNCLEARED, &first) != OK) {
            order--;
            continue;
        }
        block = frame_pointer(first);
        *block = (struct kept_block){.next = kept_back.blocks, .order = order};
        kept_back.blocks = first;
        kept_back.block_count++;
    }
}

/* Takes slots until LEFT_SLOTS are free. */
static bool keep_slots_back(void)
{
    struct swap_usage usage = swap_usage();
    unsigned order = 0;

    while (order_frames(order) * PAGE_SIZE < usage.slots * sizeof(struct slot))
        order++;
    kept_back.slot_count = 0;
    if (order > ORDER_HUGE ||
        pmm_alloc_order(order, FRAME_KERNEL, FRAME_UNCLEARED, &kept_back.slots_frame) != OK)
        return false;
    kept_back.slots = frame_pointer(kept_back.slots_frame);
    while (swap_usage().used + LEFT_SLOTS < usage.slots &&
           swap_alloc(&kept_back.slots[kept_back.slot_count]) == OK)
        kept_back.slot_count++;
    return true;
}

static void give_kept_back(void)
{
    unsigned order = 0;

    for (unsigned i = 0; i < kept_back.slot_count; i++)
        swap_release(kept_back.slots[i]);
    while (order_frames(order) * PAGE_SIZE < swap_usage().slots * sizeof(struct slot))
        order++;
    pmm_free_order(kept_back.slots_frame, order);
    while (!pfn_equal(kept_back.blocks, PFN_NONE)) {
        struct pfn first = kept_back.blocks;
        struct kept_block block = *(const struct kept_block *)frame_pointer(first);

        kept_back.blocks = block.next;
        pmm_free_order(first, block.order);
    }
}

/* Makes the victim's code stay in memory, so that it can still be told something. */
static bool install_program(struct space *victim)
{
    space_switch(victim);
    return SUCCEEDS(user_code_install(victim)) &&
           SUCCEEDS(space_wire(victim, round_down(user_code_address(user_code_write), PAGE_SIZE),
                               PAGE_SIZE));
}

/* Runs a program of ring 3 that writes to an address; returns how it ended. */
static enum program_end write_by_program(struct space *victim, uint64_t address,
                                         enum status *reason)
{
    struct program program = user_code_program(victim, user_code_write, address);
    enum program_end end = program_run(&program);

    *reason = program.reason;
    return end == PROGRAM_VIOLATION && program.frame.cr2 != address ? PROGRAM_TRAPPED : end;
}

/* Writes pages from ring 3, the first of which is `page`, until a write ends the program. Memory is
 * full already: pages that are still found are few. Returns the page; *reason: what it was told. */
static unsigned program_is_told(struct space *victim, unsigned page, enum status *reason)
{
    enum program_end end = PROGRAM_EXITED;

    *reason = OK;
    while (page < VICTIM_PAGES && end == PROGRAM_EXITED)
        end = write_by_program(victim, START + page++ * PAGE_SIZE, reason);
    if (end != PROGRAM_VIOLATION)
        *reason = OK;
    return page - 1;
}

/* Lets a program write until memory and swap area are full and no page can be reclaimed. */
static void run_out_for_real(struct space *bystander, struct space *victim)
{
    enum status reason;
    enum status told;
    uint64_t ticks;
    unsigned written;
    unsigned refused;
    unsigned held;

    if (!keep_slots_back()) {
        experiment_skip_rest("the swap area is too large to fill it here");
        return;
    }
    ktap_check(kept_back.slot_count > 0 || LEFT_SLOTS >= swap_usage().slots,
               "all but %u slots are in use", LEFT_SLOTS);
    keep_frames_back();
    written = write_until_told(victim);
    ticks = machine_ticks();
    (void)word_write(START + written * PAGE_SIZE, 0);
    ticks = machine_ticks() - ticks;
    reason = fault_last_reason();
    refused = program_is_told(victim, written, &told);
    ktap_metric("full.written", written, "pages");
    ktap_metric("full.in_swap", swap_usage().used - kept_back.slot_count, "pages");
    ktap_metric("full.refusal", ticks, "ticks");
    ktap_check(written > LEFT_SLOTS && written < VICTIM_PAGES &&
                   (reason == STATUS_NO_MEMORY || reason == STATUS_NO_SPACE),
               "memory and swap area are full after %u pages: %s", written, status_name(reason));
    ktap_check(told == STATUS_NO_MEMORY || told == STATUS_NO_SPACE,
               "a program of ring 3 is ended at page %u: %s", refused, status_name(told));
    give_kept_back();
    ktap_check(write_by_program(victim, START + refused * PAGE_SIZE, &told) == PROGRAM_EXITED,
               "it writes that page when there is memory again");
    held = words_held(victim, written);
    ktap_metric("full.held", held, "pages");
    ktap_check(held == written, "the victim has kept %u of %u pages", held, written);
    held = pages_held(bystander);
    ktap_metric("full.others", held, "pages");
    ktap_check(held == BYSTANDER_PAGES, "the other has %u of %u pages", held, BYSTANDER_PAGES);
}

/* Empties the victim's pages, so that its promise is whole again. */
static bool start_again(struct space *victim)
{
    space_switch(victim);
    return SUCCEEDS(space_advise(victim, START, VICTIM_PAGES * PAGE_SIZE, SPACE_DONT_NEED));
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
            if (start_again(victim) && install_program(victim))
                run_out_for_real(bystander, victim);
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
    .regions = 32,
    .checks = 4 * OVERCOMMIT_POLICIES + 10,
    .run = overcommit_run,
    .answer =
        {
            .text =
                "With overcommit=never {never.parts} of {always.parts} parts are granted; by the "
                "others all; at the end the writer is told, and no written page is lost",
            .shipped = "heuristic",
            .limit = "programs that answer the refusal by giving memory back",
        },
};

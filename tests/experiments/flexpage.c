/*
 * flexpage: what do lending, giving and revoking memory cost?
 *
 * Chains of lends, up to 64 long, and fans, up to 256 wide, are built, touched and revoked, and
 * counted: the cost of a lend and of a revoke for each mapping, by depth, by width and by size.
 * After each revoke the page tables of all spaces are searched, and on every processor a thread
 * that has read the page tries again: nothing may be left, after one flush.
 */
#include "cpu/machine.h"
#include "cpu/smp/shootdown.h"
#include "cpu/smp/thread.h"
#include "cpu/trap/probe.h"
#include "lib/print.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_code.h"
#include "tests/runner/user_pages.h"
#include "vmm/flex/flex.h"

#define SPACES  4U
#define CHAIN   64U
#define FAN_OUT 256U
#define ROUNDS  3U /* of each measurement */
#define OTHERS  7U

/* The origin's page is at START; link i of a chain at CHAIN_AT(i), each in a table of its own. */
#define START       UINT64_C(0x40000000)
#define CHAIN_AT(i) (UINT64_C(0x80000000) + (i)*UINT64_C(0x400000))
#define FAN_AT(j)   (UINT64_C(0x200000000) + (j)*UINT64_C(0x2000))
#define END         UINT64_C(0x300000000)

#define BIG (UINT64_C(1) << 30)
#define TAG UINT64_C(0xf1e8)

static struct space *flex_spaces[SPACES];

static const struct rights nothing = {.none = true};

struct shape {
    const char *name;
    unsigned depth;
    unsigned width;
};

static const struct shape shapes[] = {
    {"depth1", 1, 0}, {"depth8", 8, 0}, {"depth64", 64, 0}, {"fan16", 1, 16}, {"fan256", 1, 256},
};

/* The space of a link of the chain, and of a borrower of the fan. */
static struct space *chain_space(unsigned i)
{
    return flex_spaces[i % SPACES];
}

static struct space *fan_space(unsigned j)
{
    return flex_spaces[1 + j % (SPACES - 1)];
}

static uint64_t chain_place(unsigned i)
{
    return i == 0 ? START : CHAIN_AT(i);
}

/* Lends along the chain, then from its last link to the fan. */
static bool flex_build(const struct shape *shape)
{
    bool ok = true;

    for (unsigned i = 0; i < shape->depth && ok; i++)
        ok = SUCCEEDS(flex_lend(chain_space(i), chain_place(i), PAGE_SIZE, chain_space(i + 1),
                                chain_place(i + 1), RIGHTS_READ_WRITE));
    for (unsigned j = 0; j < shape->width && ok; j++)
        ok = SUCCEEDS(flex_lend(chain_space(shape->depth), chain_place(shape->depth), PAGE_SIZE,
                                fan_space(j), FAN_AT(j), RIGHTS_READ));
    return ok;
}

static bool flex_reads_tag(struct space *space, uint64_t address)
{
    uint64_t value = 0;

    space_switch(space);
    return word_read(address, &value) && value == TAG;
}

/* Reads the page in all borrowers. */
static bool flex_touch_all(const struct shape *shape)
{
    bool ok = true;

    for (unsigned i = 1; i <= shape->depth; i++)
        ok = flex_reads_tag(chain_space(i), chain_place(i)) && ok;
    for (unsigned j = 0; j < shape->width; j++)
        ok = flex_reads_tag(fan_space(j), FAN_AT(j)) && ok;
    space_switch(flex_spaces[0]);
    return ok;
}

/* Returns the entries that are not empty where the borrowers' pages were. */
static uint64_t flex_entries_left(void)
{
    uint64_t left = 0;

    for (unsigned s = 0; s < SPACES; s++) {
        for (uint64_t at = CHAIN_AT(0); at < END;) {
            bool were_on = machine_interrupts_off();
            struct tree_place place = tree_walk(&flex_spaces[s]->tree, at);
            uint64_t span = pte_span(place.level);

            machine_interrupts_restore(were_on);
            left += pte_state(place.entry, place.level) != PTE_EMPTY;
            at = round_down(at, span) + span;
        }
    }
    return left;
}

static void flex_put_cost(const char *name, const char *what, uint64_t ticks)
{
    char text[32];

    print_to(text, sizeof(text), "%s.%s", name, what);
    ktap_metric(text, ticks, "ticks");
}

/* The least ticks of some rounds: an interrupt, or the work of another thread, falls into one. */
struct flex_least {
    uint64_t lend;
    uint64_t revoke;
};

/* Builds, touches and revokes one shape. Returns true if nothing was left, after one flush. */
static bool flex_measure_shape(const struct shape *shape, struct flex_least *least)
{
    unsigned mappings = shape->depth + shape->width;
    struct flex_taken taken;
    uint64_t ticks = machine_ticks();

    if (!flex_build(shape))
        return false;
    least->lend = min_u64(least->lend, machine_ticks() - ticks);
    if (!flex_touch_all(shape))
        return false;
    ticks = machine_ticks();
    if (!SUCCEEDS(flex_revoke(flex_spaces[0], START, PAGE_SIZE, nothing, false, &taken)))
        return false;
    least->revoke = min_u64(least->revoke, machine_ticks() - ticks);
    return taken.mappings == mappings && taken.flushes == 1 && flex_entries_left() == 0;
}

static void flex_put_least(const char *name, const struct flex_least *least, unsigned mappings)
{
    flex_put_cost(name, "lend", least->lend / mappings);
    flex_put_cost(name, "revoke", least->revoke / mappings);
}

static void flex_measure_shapes(void)
{
    bool ok = true;

    for (unsigned i = 0; i < ARRAY_COUNT(shapes) && ok; i++) {
        struct flex_least least = {UINT64_MAX, UINT64_MAX};

        for (unsigned round = 0; round < ROUNDS && ok; round++)
            ok = flex_measure_shape(&shapes[i], &least);
        flex_put_least(shapes[i].name, &least, shapes[i].depth + shapes[i].width);
    }
    ktap_check(ok, "chains and fans: each revoke leaves nothing, with one flush");
}

/* Lends and revokes a range, of which one page is touched. */
static bool flex_measure_size(uint64_t size, struct flex_least *least)
{
    uint64_t ticks = machine_ticks();

    if (!SUCCEEDS(flex_lend(flex_spaces[0], START, size, flex_spaces[1], CHAIN_AT(0), RIGHTS_READ)))
        return false;
    least->lend = min_u64(least->lend, machine_ticks() - ticks);
    if (!flex_reads_tag(flex_spaces[1], CHAIN_AT(0)))
        return false;
    space_switch(flex_spaces[0]);
    ticks = machine_ticks();
    if (!SUCCEEDS(flex_revoke(flex_spaces[0], START, size, nothing, false, NULL)))
        return false;
    least->revoke = min_u64(least->revoke, machine_ticks() - ticks);
    return true;
}

static void flex_measure_sizes(void)
{
    static const struct {
        const char *name;
        uint64_t size;
    } sizes[] = {{"page", PAGE_SIZE}, {"gib", BIG}};
    bool ok = true;

    for (unsigned i = 0; i < ARRAY_COUNT(sizes) && ok; i++) {
        struct flex_least least = {UINT64_MAX, UINT64_MAX};

        for (unsigned round = 0; round < ROUNDS && ok; round++)
            ok = flex_measure_size(sizes[i].size, &least);
        flex_put_least(sizes[i].name, &least, 1);
    }
    ktap_check(ok && flex_entries_left() == 0, "a page and 1 GiB are lent and revoked");
}

static void flex_check_rights(void)
{
    struct flex_taken taken = {0};
    bool ok = SUCCEEDS(flex_lend(flex_spaces[0], START, PAGE_SIZE, flex_spaces[1], CHAIN_AT(1),
                                 RIGHTS_READ)) &&
              SUCCEEDS(flex_lend(flex_spaces[1], CHAIN_AT(1), PAGE_SIZE, flex_spaces[2],
                                 CHAIN_AT(2), RIGHTS_READ_WRITE)) &&
              flex_reads_tag(flex_spaces[2], CHAIN_AT(2)) && !word_write(CHAIN_AT(2), 1);

    ktap_check(ok && space_protect(flex_spaces[2], CHAIN_AT(2), PAGE_SIZE, RIGHTS_READ_WRITE) ==
                         STATUS_DENIED,
               "a borrower that asks a reader for more gets to read, and not more by protect");
    space_switch(flex_spaces[0]);
    ok = SUCCEEDS(flex_revoke(flex_spaces[0], START, PAGE_SIZE, nothing, false, &taken));
    ktap_check(ok && taken.accessed && !taken.dirty, "the lender learns of the read");
}

static void flex_check_gift(void)
{
    uint64_t ticks = machine_ticks();
    bool ok = SUCCEEDS(flex_give(flex_spaces[0], START + PAGE_SIZE, PAGE_SIZE, flex_spaces[1],
                                 CHAIN_AT(1), RIGHTS_READ_WRITE));
    uint64_t value;

    flex_put_cost("page", "give", machine_ticks() - ticks);
    ok = ok && !word_read(START + PAGE_SIZE, &value);
    space_switch(flex_spaces[1]);
    ktap_check(ok && word_write(CHAIN_AT(1), TAG), "what is given is there, and no more here");
    ok = SUCCEEDS(space_unmap(flex_spaces[1], CHAIN_AT(1), PAGE_SIZE));
    space_switch(flex_spaces[0]);
    CHECK(ok);
}

/* ---- from ring 3 ---- */

/* Performs a system call in a program of a space. Returns its result; STATUS_BUSY: a violation. */
static int64_t flex_call(struct space *space, const struct program_peer *peer, uint64_t call,
                         uint64_t rdi, uint64_t rsi, uint64_t rdx)
{
    struct program program = user_code_program(space, user_code_measure_range_call, rdi);

    program.peers = peer;
    program.peer_count = 1;
    program.frame.rsi = 1;
    program.frame.rcx = USER_CODE_BUFFER;
    program.frame.r8 = call;
    program.frame.r9 = rsi;
    program.frame.r10 = rdx;
    return program_run(&program) == PROGRAM_EXITED ? (int64_t)program.exit_code : STATUS_BUSY;
}

/* Stores to the page in a program of the borrower. Returns true unless that is a violation. */
static bool flex_program_writes(void)
{
    struct program program = user_code_program(flex_spaces[1], user_code_write, CHAIN_AT(1));

    return program_run(&program) == PROGRAM_EXITED;
}

#define REQUEST (USER_CODE_BUFFER + 2048)

/* A program lends a page, or gives one, by a request in its own memory. */
static int64_t flex_program_lends(uint64_t call, uint64_t page, uint64_t at, uint64_t rights)
{
    const struct program_peer peer = {flex_spaces[1], CHAIN_AT(1), CHAIN_AT(2)};
    const struct program_lend lend = {START + page * PAGE_SIZE, PAGE_SIZE, 0, at, rights};

    space_switch(flex_spaces[0]);
    if (!user_copy_out(REQUEST, &lend, sizeof(lend), NULL))
        return STATUS_BUSY;
    return flex_call(flex_spaces[0], &peer, call, REQUEST, 0, 0);
}

static int64_t flex_program_revokes(uint64_t keep)
{
    return flex_call(flex_spaces[0], NULL, PROGRAM_REVOKE, START + 4 * PAGE_SIZE, PAGE_SIZE, keep);
}

static void flex_check_calls(void)
{
    bool ok = SUCCEEDS(user_code_install(flex_spaces[0]));

    space_switch(flex_spaces[1]);
    ok = ok && SUCCEEDS(user_code_install(flex_spaces[1]));
    ktap_check(
        ok &&
            flex_program_lends(PROGRAM_LEND, 0, CHAIN_AT(2), PROGRAM_MAP_WRITE) == STATUS_DENIED &&
            flex_program_lends(PROGRAM_LEND, 0, CHAIN_AT(1) - PAGE_SIZE, 0) == STATUS_DENIED &&
            flex_program_lends(PROGRAM_LEND, 0, CHAIN_AT(1), 64) == STATUS_RANGE &&
            flex_call(flex_spaces[0], NULL, PROGRAM_LEND, 8, 0, 0) == STATUS_RANGE,
        "a program may lend only where its peer allows, by a request that it can read");
    ok = ok && flex_program_lends(PROGRAM_LEND, 4, CHAIN_AT(1), PROGRAM_MAP_WRITE) == OK &&
         flex_program_writes() && flex_program_revokes(0) == (PROGRAM_ACCESSED | PROGRAM_WRITTEN) &&
         !flex_program_writes();
    ktap_check(ok && flex_program_revokes(PROGRAM_MAP_NONE) > 0 &&
                   flex_program_revokes(PROGRAM_MAP_NONE) == OK,
               "a program lends a page, takes the right to write back, then the page");
    ok = flex_program_lends(PROGRAM_GIVE, 2, CHAIN_AT(1), PROGRAM_MAP_WRITE) == OK &&
         flex_program_writes();
    space_switch(flex_spaces[0]);
    ktap_check(ok && !word_write(START + 2 * PAGE_SIZE, 1) &&
                   SUCCEEDS(space_unmap(flex_spaces[1], CHAIN_AT(1), PAGE_SIZE)),
               "and gives one away");
}

/* ---- all processors ---- */

static struct {
    struct thread *threads[OTHERS];
    unsigned count;
    unsigned read; /* have the page in their TLB */
    bool revoked;  /* they shall try again */
    unsigned tried;
    unsigned stale; /* could read it again */
} probe;

/* Reads the page of the fan's last borrower in each space, again and again until it is revoked, so
 * that it is in the TLB then. */
static void flex_probe_in_space(void *argument)
{
    unsigned j = (unsigned)(uintptr_t)argument;
    uint64_t value;
    bool first = true;

    space_switch(fan_space(j));
    while (!__atomic_load_n(&probe.revoked, __ATOMIC_ACQUIRE)) {
        if (word_read(FAN_AT(j), &value) && first) {
            first = false;
            __atomic_add_fetch(&probe.read, 1, __ATOMIC_RELEASE);
        }
        machine_pause();
    }
    if (word_read(FAN_AT(j), &value))
        __atomic_add_fetch(&probe.stale, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&probe.tried, 1, __ATOMIC_RELEASE);
    space_switch(NULL);
}

static bool flex_start_probes(void)
{
    uint64_t others = machine_processors() & ~(UINT64_C(1) << machine_cpu());
    bool ok = true;

    for (; others != 0 && probe.count < OTHERS && ok; others &= others - 1) {
        unsigned cpu = (unsigned)__builtin_ctzll(others);

        ok = SUCCEEDS(thread_create(cpu, flex_probe_in_space, (void *)(uintptr_t)probe.count,
                                    &probe.threads[probe.count]));
        probe.count += ok;
    }
    while (__atomic_load_n(&probe.read, __ATOMIC_ACQUIRE) < probe.count)
        machine_relax();
    return ok;
}

static void flex_join_probes(void)
{
    __atomic_store_n(&probe.revoked, true, __ATOMIC_RELEASE);
    while (__atomic_load_n(&probe.tried, __ATOMIC_ACQUIRE) < probe.count)
        machine_relax();
    for (unsigned i = 0; i < probe.count; i++)
        thread_join(probe.threads[i]);
}

static void flex_check_all_processors(void)
{
    const struct shape shape = {"all", CHAIN, FAN_OUT};
    struct flex_taken taken = {0};
    uint64_t served;
    uint64_t left = 1;
    bool ok;

    __builtin_memset(&probe, 0, sizeof(probe));
    ok = flex_build(&shape) && flex_touch_all(&shape) && flex_start_probes();
    served = shootdown_counts().served;
    ok = ok && SUCCEEDS(flex_revoke(flex_spaces[0], START, PAGE_SIZE, nothing, false, &taken));
    served = shootdown_counts().served - served;
    left = flex_entries_left();
    flex_join_probes();
    ktap_metric("mappings", taken.mappings, "mappings");
    ktap_metric("shootdowns", taken.flushes, "shootdowns");
    ktap_metric("interrupts", served, "interrupts");
    ktap_metric("left", left, "entries");
    ktap_check(ok && taken.mappings == CHAIN + FAN_OUT && taken.flushes == 1,
               "a chain of %u with a fan of %u is revoked by one shootdown", CHAIN, FAN_OUT);
    ktap_check(ok && left == 0, "no page table has an entry of it");
    if (probe.count == 0)
        ktap_skip("there is one processor", "no other processor can read it");
    else
        ktap_check(ok && probe.stale == 0, "no other processor can read it");
}

static void flexpage_run(const struct options *options)
{
    bool ok = true;

    (void)options;
    for (unsigned i = 0; i < SPACES && ok; i++)
        ok = SUCCEEDS(space_create(&flex_spaces[i]));
    if (ok) {
        space_switch(flex_spaces[0]);
        ok = SUCCEEDS(space_map(flex_spaces[0],
                                &SPACE_AT(START, BIG, RIGHTS_READ_WRITE, .flags = SPACE_SHARED),
                                NULL)) &&
             word_write(START, TAG);
    }
    if (ok) {
        flex_check_rights();
        flex_measure_shapes();
        flex_measure_sizes();
        flex_check_gift();
        flex_check_calls();
        flex_check_all_processors();
    }
    space_switch(NULL);
    for (unsigned i = 0; i < SPACES; i++) {
        if (flex_spaces[i] != NULL)
            space_destroy(flex_spaces[i]);
        flex_spaces[i] = NULL;
    }
}

EXPERIMENT(flexpage, 053) = {
    .theme = THEME_PAGES,
    .name = "flexpage",
    .question = "What do map, grant and revoke cost?",
    .spaces = SPACES,
    .regions = 128,
    .checks = 11,
    .reserves = true,
    .run = flexpage_run,
    .answer =
        {
            .text = "{shootdowns} shootdown revokes {mappings} mappings; {left} entries are left",
            .counted = "{page.lend} instructions lend a page; 1 GiB {gib.lend}, a gift "
                       "{page.give}, a revoke {depth8.revoke} for each of 8, {depth64.revoke} of "
                       "64, {fan256.revoke} in a fan",
            .limit = "time: a shootdown waits for the slowest processor",
        },
};

/*
 * shared-map: do spaces that share memory see each other's writes?
 *
 * A parent maps memory shared, forks, and the child forks. All three see the same pages, no matter
 * which touches one first. Rights, unmap and don't-need affect only the caller, and the pages exist
 * until the last of the three ends. Then fewer pages may be resident than there are: each is
 * evicted once and read back once for all. On two processors parent and child pass a word of each
 * page back and forth, in another order each round, while pages are evicted; a third space changes
 * its rights and forks on the side.
 *
 * Figures: what it costs to make a page, to find one that another space has made, and to hand a
 * word over to the other processor.
 */
#include "cpu/machine.h"
#include "cpu/smp/thread.h"
#include "cpu/trap/probe.h"
#include "cpu/trap/trap.h"
#include "swapdisk/area.h"
#include "tests/runner/experiment.h"
#include "tests/runner/ledger.h"
#include "tests/runner/user_pages.h"
#include "vmm/fault/fault.h"
#include "vmm/page/page.h"
#include "vmm/space/commit.h"

#define START UINT64_C(0x600000000)
#define PAGES 64U

/* Pages that may be resident in addition to those that are resident already. */
#define RESIDENT 24U

/* Rounds of the two processors; fewer while pages are evicted, since they wait for the disk. */
#define ROUNDS       16U
#define ROUNDS_SHORT 2U
#define ANSWER_TIME  UINT64_C(20000000000)

#define TAG(page) (0x51000 + (uint64_t)(page))
#define NEW(page) (0x52000 + (uint64_t)(page))

struct family {
    struct space *parent;
    struct space *child;
    struct space *grandchild;
};

static uint64_t shared_map_page_at(unsigned number)
{
    return START + number * PAGE_SIZE;
}

static unsigned count_pages(uint64_t (*tag_of)(unsigned page), unsigned from, unsigned to)
{
    unsigned right = 0;

    for (unsigned i = from; i < to; i++)
        right += page_holds(shared_map_page_at(i), tag_of(i));
    return right;
}

static bool shared_map_fill_pages(uint64_t (*tag_of)(unsigned page), unsigned from, unsigned to)
{
    bool ok = true;

    for (unsigned i = from; i < to && ok; i++)
        ok = page_fill(shared_map_page_at(i), tag_of(i));
    return ok;
}

static uint64_t shared_map_old_tag(unsigned page)
{
    return TAG(page);
}

static uint64_t new_tag(unsigned page)
{
    return NEW(page);
}

/* Touches each third of the pages first from another space. */
static void touch_first(const struct family *family)
{
    struct space *const spaces[] = {family->parent, family->child, family->grandchild};
    unsigned right = 0;
    bool ok = true;

    for (unsigned i = 0; i < 3; i++) {
        space_switch(spaces[i]);
        ok = ok && shared_map_fill_pages(shared_map_old_tag, i * PAGES / 3, (i + 1) * PAGES / 3);
    }
    ktap_check(ok, "parent, child and grandchild each write a third of %u pages first", PAGES);
    for (unsigned i = 0; i < 3; i++) {
        space_switch(spaces[i]);
        right += count_pages(shared_map_old_tag, 0, PAGES);
    }
    ktap_metric("reads", UINT64_C(3) * PAGES, "pages");
    ktap_metric("right", right, "pages");
    ktap_check(right == 3 * PAGES, "%u of %u pages read as another wrote them, or oneself", right,
               3 * PAGES);
    right = 0;
    for (unsigned i = 0; i < PAGES; i++) {
        struct pte own = leaf_entry(family->parent, shared_map_page_at(i));

        for (unsigned j = 0; j < 3; j++) {
            struct pte entry = leaf_entry(spaces[j], shared_map_page_at(i));

            right += pte_state(entry, 1) == PTE_LEAF && pte_class(entry) == PTE_SHARED &&
                     pfn_equal(pte_frame(entry), pte_frame(own));
        }
    }
    ktap_check(right == 3 * PAGES, "all three name one frame for each page, by shared leaves");
}

static bool is_refused(uint64_t address, bool write)
{
    struct trap_info info = {0};
    uint64_t value;
    bool done =
        write ? probe_user_write64(address, 1, &info) : probe_user_read64(address, &value, &info);

    return !done && info.vector == TRAP_PF && info.address == address;
}

/* Checks that a change of one side's mapping does not affect the others, and that its writes do. */
static void keep_apart(const struct family *family)
{
    bool ok =
        SUCCEEDS(space_protect(family->child, shared_map_page_at(8), 8 * PAGE_SIZE, RIGHTS_READ));

    space_switch(family->child);
    ok = ok && is_refused(shared_map_page_at(9), true) && page_holds(shared_map_page_at(9), TAG(9));
    space_switch(family->parent);
    ok = ok && shared_map_fill_pages(new_tag, 8, 16);
    space_switch(family->child);
    ktap_check(ok && count_pages(new_tag, 8, 16) == 8,
               "read-only in the child: what the parent writes is read there");
    ok = SUCCEEDS(space_protect(family->child, shared_map_page_at(8), 8 * PAGE_SIZE,
                                RIGHTS_READ_WRITE)) &&
         shared_map_fill_pages(shared_map_old_tag, 8, 16);
    ok = ok && SUCCEEDS(space_unmap(family->child, shared_map_page_at(20), 4 * PAGE_SIZE)) &&
         is_refused(shared_map_page_at(21), false) &&
         count_pages(shared_map_old_tag, 16, 20) == 4 &&
         count_pages(shared_map_old_tag, 24, PAGES) == PAGES - 24;
    space_switch(family->grandchild);
    ktap_check(ok && count_pages(shared_map_old_tag, 0, PAGES) == PAGES,
               "unmapped in the middle by the child: the grandchild has all");
    ok = SUCCEEDS(
        space_advise(family->grandchild, shared_map_page_at(30), 8 * PAGE_SIZE, SPACE_DONT_NEED));
    ktap_check(ok && leaf_state(family->grandchild, shared_map_page_at(30)) == PTE_TICKET &&
                   count_pages(shared_map_old_tag, 0, PAGES) == PAGES,
               "what one does not need is not lost");
}

/* Lowers the limit of resident pages, and evicts until it holds. */
static void make_short(void)
{
    page_set_limit(page_clock_size() - PAGES + RESIDENT);
    while (page_clock_size() > resident_limit && page_reclaim_some()) {
    }
}

/* Evicts pages and reads them back through each of the spaces. */
static void go_out(const struct family *family)
{
    struct swap_usage before = swap_usage();
    uint64_t limit = resident_limit;
    struct swap_usage after;
    bool ok = true;

    make_short();
    for (unsigned i = 0; i < 3 && ok; i++) {
        space_switch(i % 2 == 0 ? family->parent : family->grandchild);
        ok = count_pages(i % 2 == 0 ? shared_map_old_tag : new_tag, 0, PAGES) == PAGES &&
             shared_map_fill_pages(i % 2 == 0 ? new_tag : shared_map_old_tag, 0, PAGES);
    }
    page_set_limit(limit);
    after = swap_usage();
    ktap_metric("pages_written", after.pages_written - before.pages_written, "pages");
    ktap_metric("pages_read", after.pages_read - before.pages_read, "pages");
    ktap_check(ok && after.pages_written - before.pages_written >= PAGES &&
                   after.pages_read - before.pages_read >= PAGES,
               "with %u pages resident each space reads what another wrote", RESIDENT);
}

/* ---- two processors ---- */

/* One of the two; its words are those of its side in each page. */
struct player {
    unsigned side;
    unsigned rounds;
    struct space *space;
    uint64_t handed; /* words, and the time that they took */
    uint64_t ns;
    unsigned wrong; /* words that never came, or came wrong */
};

static uint64_t shared_map_word_at(unsigned page, unsigned side, unsigned number)
{
    return shared_map_page_at(page) + (side * 8 + number % 8) * sizeof(uint64_t);
}

/* Waits for the other side's word of this round; until then the page has an older one. */
static bool await_word(uint64_t address, uint64_t round)
{
    uint64_t end = machine_now_ns() + ANSWER_TIME;
    uint64_t value = 0;

    do {
        if (!word_read(address, &value) || value > round)
            return false;
        if (value == round)
            return true;
        machine_relax();
        thread_yield();
    } while (machine_now_ns() < end);
    return false;
}

/* Plays one side: in each round, for each page, the first side writes and waits, and the second
 * waits and answers. */
static void play(void *argument)
{
    struct player *player = argument;
    uint64_t began;

    space_switch(player->space);
    began = machine_now_ns();
    for (uint64_t round = 1; round <= player->rounds && player->wrong == 0; round++) {
        unsigned first = (unsigned)(round * 13 % PAGES);

        for (unsigned i = 0; i < PAGES && player->wrong == 0; i++) {
            unsigned page = (first + i * 5) % PAGES;
            uint64_t own = shared_map_word_at(page, player->side, (unsigned)round);
            uint64_t other = shared_map_word_at(page, 1 - player->side, (unsigned)round);
            bool ok = player->side == 0 ? word_write(own, round) && await_word(other, round)
                                        : await_word(other, round) && word_write(own, round);

            player->wrong += !ok;
            player->handed++;
        }
    }
    player->ns = machine_now_ns() - began;
    space_switch(NULL);
}

/* Changes a third space meanwhile, which this thread does not run. */
static bool disturb(struct space *space, unsigned round)
{
    unsigned page = 24 + round * 7 % (PAGES - 32); /* the third space maps only some pages below */
    struct space *fork;
    bool ok =
        SUCCEEDS(space_protect(space, shared_map_page_at(page), 8 * PAGE_SIZE,
                               round % 2 == 0 ? RIGHTS_READ : RIGHTS_READ_WRITE)) &&
        SUCCEEDS(space_advise(space, shared_map_page_at(page), 8 * PAGE_SIZE, SPACE_WILL_NEED));

    if (!ok || !SUCCEEDS(space_fork(space, &fork)))
        return false;
    space_destroy(fork);
    return true;
}

static bool blank_words(const struct family *family)
{
    bool ok = true;

    space_switch(family->parent);
    for (unsigned i = 0; i < 16 * PAGES && ok; i++)
        ok = word_write(shared_map_word_at(i / 16, i / 8 % 2, i % 8), 0);
    space_switch(NULL);
    return ok;
}

/* Lets both sides play on the first two processors. Returns whether each word arrived. */
static bool play_both(const struct family *family, struct player players[2], unsigned rounds,
                      uint64_t cpus)
{
    struct thread *threads[2] = {NULL, NULL};
    bool ok = blank_words(family);

    for (unsigned i = 0; i < 2; i++, cpus &= cpus - 1) {
        players[i] = (struct player){
            .side = i, .rounds = rounds, .space = i == 0 ? family->parent : family->grandchild};
        ok = ok && SUCCEEDS(thread_create((unsigned)__builtin_ctzll(cpus), play, &players[i],
                                          &threads[i]));
    }
    for (unsigned round = 0; round < rounds && ok; round++) {
        ok = disturb(family->child, round);
        thread_yield();
    }
    for (unsigned i = 0; i < 2; i++) {
        if (threads[i] != NULL)
            thread_join(threads[i]);
        ok = ok && players[i].wrong == 0 && players[i].handed == rounds * PAGES;
    }
    return ok;
}

static void play_if_possible(const struct family *family)
{
    uint64_t cpus = machine_processors();
    uint64_t limit = resident_limit;
    struct player players[2];
    struct swap_usage before;
    bool ok;

    if ((cpus & (cpus - 1)) == 0) {
        ktap_skip("there is one processor", "two processors hand over words");
        ktap_skip("there is one processor", "and while pages go out");
        return;
    }
    ok = play_both(family, players, ROUNDS, cpus);
    ktap_metric("hand_over", players[0].ns / max_u64(2 * players[0].handed, 1), "ns");
    ktap_check(ok, "two processors hand over %u words each through two spaces, and each arrives",
               ROUNDS * PAGES);
    before = swap_usage();
    make_short();
    ok = play_both(family, players, ROUNDS_SHORT, cpus);
    page_set_limit(limit);
    ktap_metric("hand_over.short", players[0].ns / max_u64(2 * players[0].handed, 1), "ns");
    ktap_check(ok && swap_usage().pages_read > before.pages_read,
               "and %u each while pages go out and come back", ROUNDS_SHORT * PAGES);
}

/* ---- cost, and the end ---- */

static void shared_map_measure(void)
{
    struct space *space;
    struct space *fork;
    uint64_t begun;
    bool ok =
        start_space(&space) &&
        SUCCEEDS(space_map(
            space, &SPACE_AT(START, PAGES * PAGE_SIZE, RIGHTS_READ_WRITE, .flags = SPACE_SHARED),
            NULL)) &&
        word_write(shared_map_page_at(0), 1) && SUCCEEDS(space_fork(space, &fork));

    if (!ktap_check(ok, "a space and its fork share memory"))
        return;
    begun = machine_ticks();
    for (unsigned i = 1; i < PAGES; i++)
        ok = ok && word_write(shared_map_page_at(i), i);
    ktap_metric("first_touch", (machine_ticks() - begun) / (PAGES - 1), "ticks");
    space_switch(fork);
    ok = ok && word_write(shared_map_page_at(0), 1);
    begun = machine_ticks();
    for (unsigned i = 1; i < PAGES; i++)
        ok = ok && word_write(shared_map_page_at(i) + 8, i);
    ktap_metric("touch_of_another", (machine_ticks() - begun) / (PAGES - 1), "ticks");
    ktap_check(ok && space_faults(fork).shared >= PAGES - 1 && space_faults(fork).cow_copy == 0,
               "the fork finds the pages, and copies none");
    space_destroy(space);
    end_space(fork);
}

/* Ends the spaces, and checks that the account has the pages once until the last of them ends. */
static void end_family(const struct family *family, uint64_t committed)
{
    bool once = commit_pages() == committed + PAGES;

    ktap_metric("committed", commit_pages() - committed, "pages");
    space_switch(family->parent);
    once = once && shared_map_fill_pages(new_tag, 0, PAGES);
    space_switch(family->grandchild);
    space_destroy(family->parent);
    space_destroy(family->child);
    ktap_check(once && commit_pages() == committed + PAGES &&
                   count_pages(new_tag, 0, PAGES) == PAGES,
               "%u pages are promised once for all three, and for the last one", PAGES);
    end_space(family->grandchild);
    ktap_check(commit_pages() == committed, "and not any more when that has gone");
}

static void shared_map_run(const struct options *options)
{
    uint64_t committed = commit_pages();
    struct family family = {0};
    bool made =
        start_space(&family.parent) &&
        SUCCEEDS(space_map(
            family.parent,
            &SPACE_AT(START, PAGES * PAGE_SIZE, RIGHTS_READ_WRITE, .flags = SPACE_SHARED), NULL)) &&
        SUCCEEDS(space_fork(family.parent, &family.child)) &&
        SUCCEEDS(space_fork(family.child, &family.grandchild));

    (void)options;
    if (!ktap_check(made, "a parent, its fork, and a fork of that"))
        return;
    touch_first(&family);
    keep_apart(&family);
    go_out(&family);
    play_if_possible(&family);
    space_audit();
    end_family(&family, committed);
    shared_map_measure();
}

EXPERIMENT(shared_map, 050) = {
    .theme = THEME_PAGES,
    .name = "shared-map",
    .question = "Do spaces that share memory see each other's writes?",
    .spaces = 4,
    .checks = 14,
    .reserves = true, /* it promises more than it lets be resident */
    .run = shared_map_run,
    .answer =
        {
            .text = "Yes: {right} of {reads} reads are right; {committed} pages are promised once "
                    "for all three",
        },
};

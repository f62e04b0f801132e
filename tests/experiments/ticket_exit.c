/*
 * ticket-exit: how is a dead process cleaned up without scanning everything?
 *
 * The question (seed 000): when a program ends, tickets, pages and slots on the disk must go. "The
 * only way I can think of doing this is scanning through ALL of the process' page tables ..., but
 * this seems like a very bad way to do it."
 *
 * The same spaces are built, more and more sparse, with some pages out in the swap area, and each
 * is taken down in one of four ways over its real tables:
 * - live counts, as shipped: drop the root; a table is left when its count of held entries is used
 * up. - full scan: every entry of every table is looked at. - owner list: each entry that was
 * filled is on a list, in order of filling, and each table too. - lazy: the space's generation
 * changes and nothing else; a sweep over the entries of all spaces   lets go of those of an old
 * generation later. Exit and sweep are two figures. The lists of the last two are made before the
 * clock starts: a kernel would make them fault by fault; what they hold is the figure `list`. The
 * answer is ticks by stride. The checks: afterwards frames, tables and slots are what they were
 * before the space was made.
 */
#include "cpu/machine.h"
#include "lib/bytes.h"
#include "lib/print.h"
#include "pmm/pmm.h"
#include "swapdisk/area.h"
#include "tests/runner/experiment.h"
#include "tests/runner/ledger.h"
#include "tests/runner/null_fault.h"
#include "tests/runner/user_pages.h"
#include "vmm/page/reclaim.h"

#define START UINT64_C(0x8000000000)
#define PAGES 128U
#define OUT   16U /* of them are sent to the swap area */

/* Pages 1 GiB apart have two tables each, beside the root and the tables above. */
#define TABLES_MAX (2 * PAGES + 8)

/* Spaces in the book of the lazy way, of which one ends. */
#define LIVING 3U

static const struct stride {
    const char *name;
    uint64_t bytes;
} strides[] = {{"4k", PAGE_SIZE}, {"256k", 256 * KIB}, {"2m", 2 * MIB}, {"1g", GIB}};

/* ---- spaces ---- */

/* Sends some pages out; those that were used since the clock came by have a second chance. */
static unsigned send_out(unsigned wanted)
{
    unsigned sent = 0;

    for (unsigned i = 0; i < 8 && sent < wanted; i++) {
        unsigned evicted = 0;

        if (!SUCCEEDS(reclaim_pages(wanted - sent, &evicted)))
            break;
        sent += evicted;
    }
    return sent;
}

static bool ticket_exit_make_space(const struct stride *stride, unsigned out, struct space **space)
{
    bool ok = start_space(space) &&
              SUCCEEDS(space_map(*space, &SPACE_AT(START, PAGES * stride->bytes, RIGHTS_READ_WRITE),
                                 NULL));

    for (unsigned i = 0; i < PAGES && ok; i++)
        ok = word_write(START + i * stride->bytes, i);
    ok = ok && send_out(out) == out;
    space_switch(NULL);
    return ok;
}

/* ---- what is in a space ---- */

struct listed {
    struct pfn table;
    uint16_t index;
    uint16_t level;
    uint32_t owner;
    uint32_t generation;
};

static struct {
    struct listed entries[(1 + LIVING) * PAGES];
    unsigned entry_count;
    struct listed tables[TABLES_MAX]; /* the entries that name them, children first */
    unsigned table_count;
    uint32_t generations[1 + LIVING];
    unsigned left; /* in tables that were given back: what a way has forgotten */
} book;

static struct pte ticket_exit_entry_at(struct pfn table, unsigned index)
{
    return pte_read((const struct pte *)frame_pointer(table) + index);
}

static bool ticket_exit_is_table(struct pte entry, unsigned level)
{
    return pte_state(entry, level) == PTE_TABLE;
}

/* Whether an entry counts as a pointer to something. */
static bool is_held(struct pte entry, unsigned level)
{
    enum pte_state state = pte_state(entry, level);

    return state == PTE_SWAPPED || state == PTE_TRANSIT || state == PTE_WITHHELD ||
           (state == PTE_LEAF && !pfn_equal(pte_frame(entry), tree_zero_page()));
}

/* Clears an entry and lets go of what it named. Nobody runs the space. */
static void clear_entry(struct pfn table, unsigned index, unsigned level)
{
    bool were_on = machine_interrupts_off();
    struct tlb_release release = {.level = (uint8_t)level};
    bool locked = tree_lock(table);
    struct pte entry = ticket_exit_entry_at(table, index);

    CHECK(locked);
    if (ticket_exit_is_table(entry, level))
        book.left += frame_record(pte_frame(entry))->table.held;
    release.entry = tree_replace_entry(table, index, pte_empty());
    tree_unlock(table);
    tree_drop(&release);
    machine_interrupts_restore(were_on);
}

/* Writes down all that a table reaches, children first. Recursion ends at level 1. */
static void list_table(struct pfn table, unsigned level, uint32_t owner, bool tables)
{
    unsigned end = level == 4 || level == 5 ? PTE_ENTRIES / 2 : PTE_ENTRIES;

    for (unsigned i = 0; i < end; i++) {
        struct pte entry = ticket_exit_entry_at(table, i);
        struct listed listed = {table, (uint16_t)i, (uint16_t)level, owner,
                                book.generations[owner]};

        if (ticket_exit_is_table(entry, level)) {
            list_table(pte_frame(entry), level - 1, owner, tables);
            if (tables) {
                CHECK(book.table_count < TABLES_MAX);
                book.tables[book.table_count++] = listed;
            }
        } else if (is_held(entry, level)) {
            CHECK(book.entry_count < ARRAY_COUNT(book.entries));
            book.entries[book.entry_count++] = listed;
        }
    }
}

static void list_space(const struct space *space, uint32_t owner)
{
    list_table(space->tree.root, space->tree.levels, owner, owner == 0);
}

/* In the order in which pages came, which is not that of their addresses. */
static void shuffle_entries(struct random *random)
{
    for (unsigned i = book.entry_count - 1; i > 0; i--) {
        unsigned other = (unsigned)random_below(random, i + 1);
        struct listed swapped = book.entries[i];

        book.entries[i] = book.entries[other];
        book.entries[other] = swapped;
    }
}

/* ---- the four ways ---- */

/* Nothing: the shipped destruction does it all. */
static void by_live_counts(struct space *space)
{
    (void)space;
}

static void scan_table(struct pfn table, unsigned level)
{
    unsigned end = level == 4 || level == 5 ? PTE_ENTRIES / 2 : PTE_ENTRIES;

    for (unsigned i = 0; i < end; i++) {
        struct pte entry = ticket_exit_entry_at(table, i);

        if (ticket_exit_is_table(entry, level))
            scan_table(pte_frame(entry), level - 1);
        if (ticket_exit_is_table(entry, level) || is_held(entry, level))
            clear_entry(table, i, level);
    }
}

static void by_full_scan(struct space *space)
{
    scan_table(space->tree.root, space->tree.levels);
}

static void clear_listed(const struct listed *listed)
{
    clear_entry(listed->table, listed->index, listed->level);
}

static void by_owner_list(struct space *space)
{
    (void)space;
    for (unsigned i = 0; i < book.entry_count; i++)
        clear_listed(&book.entries[i]);
    for (unsigned i = 0; i < book.table_count; i++)
        clear_listed(&book.tables[i]);
}

static void by_generation(struct space *space)
{
    (void)space;
    book.generations[0]++;
}

/* What the lazy way owes: all that is of an old generation, wherever it is among the others. */
static void ticket_exit_sweep(void)
{
    for (unsigned i = 0; i < book.entry_count; i++) {
        const struct listed *listed = &book.entries[i];

        if (listed->generation != book.generations[listed->owner])
            clear_listed(listed);
    }
    for (unsigned i = 0; i < book.table_count; i++)
        clear_listed(&book.tables[i]);
}

enum way { WAY_LIVE, WAY_SCAN, WAY_LIST, WAY_LAZY, WAYS };

static const struct {
    const char *name;
    void (*take_down)(struct space *space);
} ways[WAYS] = {{"live_counts", by_live_counts},
                {"full_scan", by_full_scan},
                {"owner_list", by_owner_list},
                {"lazy", by_generation}};

/* ---- measuring ---- */

static void ticket_exit_put(const struct stride *stride, const char *what, uint64_t ticks)
{
    null_fault_metric_of(what, stride->name, ticks);
}

/* Others live beside it where the way looks at all of them. They come later, so that the pages that
 * are out are those of the space that ends. */
static unsigned make_others(enum way way, struct space **others)
{
    unsigned made = 0;

    while (way == WAY_LAZY && made < LIVING &&
           ticket_exit_make_space(&strides[0], 0, &others[made])) {
        list_space(others[made], 1 + made);
        made++;
    }
    return made;
}

/* Takes the space down; whether the way itself has let go of all that the space named. */
static bool take_down(const struct stride *stride, enum way way, struct space *space)
{
    uint64_t ticks = machine_ticks();
    bool gone;

    ways[way].take_down(space);
    if (way == WAY_LAZY) {
        ticket_exit_put(stride, "lazy.exit", machine_ticks() - ticks);
        ticks = machine_ticks();
        ticket_exit_sweep();
    }
    gone = way == WAY_LIVE || (book.left == 0 && frame_record(space->tree.root)->table.held == 0);
    space_destroy(space);
    ticket_exit_put(stride, way == WAY_LAZY ? "lazy.sweep" : ways[way].name,
                    machine_ticks() - ticks);
    return gone;
}

static void note_list(const struct stride *stride)
{
    ktap_note("list at stride %s: %lu bytes for %u entries and %u tables", stride->name,
              (book.entry_count + book.table_count) * sizeof(struct listed), book.entry_count,
              book.table_count);
}

/* Builds a space, takes it down, and says whether all came back. */
static bool try_way(const struct stride *stride, enum way way, struct random *random)
{
    struct ledger before = ledger_take();
    struct space *others[LIVING] = {NULL};
    struct space *space = NULL;
    unsigned made;
    bool ok;

    memset(&book, 0, sizeof(book));
    ok = ticket_exit_make_space(stride, OUT, &space);
    if (space == NULL)
        return false;
    list_space(space, 0);
    if (way == WAY_LIST)
        note_list(stride);
    made = make_others(way, others);
    shuffle_entries(random);
    ok &= take_down(stride, way, space) && (way != WAY_LAZY || made == LIVING);
    space_audit();
    for (unsigned i = 0; i < made; i++)
        space_destroy(others[i]);
    return ledger_even(&before) && ok;
}

static void ticket_exit_run(const struct options *options)
{
    struct random random = random_from(options->seed);
    uint32_t slots = swap_usage().used;

    null_fault_measure();
    for (unsigned way = 0; way < WAYS; way++) {
        bool even = true;

        for (unsigned i = 0; i < ARRAY_COUNT(strides); i++)
            even &= try_way(&strides[i], (enum way)way, &random);
        ktap_check(even, "%s: nothing is left, frames, tables and slots are what they were",
                   ways[way].name);
    }
    ktap_check(swap_usage().used == slots, "no slot of a page that was out is left");
}

EXPERIMENT(ticket_exit, 290) = {
    .theme = THEME_TABLES,
    .name = "ticket-exit",
    .question = "How is a dead process cleaned up without scanning everything?",
    .spaces = 4,
    .checks = WAYS + 1,
    .reserves = true,
    .run = ticket_exit_run,
};

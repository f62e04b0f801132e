/*
 * ticket-exit: how is a dead process cleaned up without scanning everything?
 *
 * The question (forum thread 0): when a program ends, tickets, pages and slots on the disk must
 * go. "The only way I can think of doing this is scanning through ALL of the process' page tables
 * ..., but this seems like a very bad way to do it."
 *
 * Builds the same spaces, more and more sparse, with some pages in the swap area, and takes each
 * down in one of five ways over its real tables:
 * - live counts, as shipped: drops the root; a table is left when its count of held entries is used
 *   up.
 * - full scan: reads and decodes every entry of every table.
 * - lean scan: reads every entry, and decodes one only if it differs from the one before.
 * - owner list: each filled entry is on a list, in the order of filling, and each table too.
 * - lazy: changes the generation of the space, and nothing else; a later sweep over the entries of
 *   all spaces drops those of an old generation. Exit and sweep are two figures.
 *
 * The lists of the last two are made before the clock starts; a kernel would keep them fault by
 * fault. owner_list.upkeep is the cost of that for one entry. Other figures: the cost by stride,
 * and the entries that each way reads. The checks: frames, tables and slots are afterwards as they
 * were before the space existed.
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

/* Entries of a dying leaf table that the drop reads together (paging/tree/internal.h). */
#define DROP_GROUP 16U

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

    for (unsigned i = 0; i < 8 * wanted && sent < wanted; i++) {
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
    unsigned left;       /* entries in freed tables that a way did not clear */
    uint64_t looked_at;  /* entries that the way has read */
    uint64_t drop_reads; /* entries that the shipped drop reads: in leaf tables, whole groups */
} book;

static struct pte ticket_exit_entry_at(struct pfn table, unsigned index)
{
    return pte_read((const struct pte *)frame_pointer(table) + index);
}

static bool ticket_exit_is_table(struct pte entry, unsigned level)
{
    return pte_state(entry, level) == PTE_TABLE;
}

/* Returns whether an entry counts as a pointer to something. */
static bool is_held(struct pte entry, unsigned level)
{
    enum pte_state state = pte_state(entry, level);

    return state == PTE_SWAPPED || state == PTE_TRANSIT || state == PTE_WITHHELD ||
           (state == PTE_LEAF && !pfn_equal(pte_frame(entry), tree_zero_page()));
}

/* Clears an entry and drops its reference. No processor runs the space. */
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
    unsigned reads = 0;

    for (unsigned i = 0; i < end; i++) {
        struct pte entry = ticket_exit_entry_at(table, i);
        struct listed listed = {table, (uint16_t)i, (uint16_t)level, owner,
                                book.generations[owner]};

        if (ticket_exit_is_table(entry, level) || is_held(entry, level))
            reads = i + 1;
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
    if (level == 1)
        reads = (unsigned)round_up(reads, DROP_GROUP);
    book.drop_reads += owner == 0 ? reads : 0;
}

static void list_space(const struct space *space, uint32_t owner)
{
    list_table(space->tree.root, space->tree.levels, owner, owner == 0);
}

/* Shuffles the entries, since pages do not come in the order of their addresses. */
static void shuffle_entries(struct random *random)
{
    for (unsigned i = book.entry_count - 1; i > 0; i--) {
        unsigned other = (unsigned)random_below(random, i + 1);
        struct listed swapped = book.entries[i];

        book.entries[i] = book.entries[other];
        book.entries[other] = swapped;
    }
}

/* ---- the five ways ---- */

/* Ends a space by the shipped space_destroy(). */
static void by_live_counts(struct space *space)
{
    (void)space;
    book.looked_at = book.drop_reads;
}

static void scan_table(struct pfn table, unsigned level)
{
    unsigned end = level == 4 || level == 5 ? PTE_ENTRIES / 2 : PTE_ENTRIES;

    for (unsigned i = 0; i < end; i++) {
        struct pte entry = ticket_exit_entry_at(table, i);

        book.looked_at++;
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

/* Scans with as little work for each entry as a scan can have: one load, and one compare with the
 * entry before it, because entries that hold nothing are equal in long runs. */
static void lean_scan_table(struct pfn table, unsigned level)
{
    const struct pte *entries = frame_pointer(table);
    unsigned end = level == 4 || level == 5 ? PTE_ENTRIES / 2 : PTE_ENTRIES;
    uint64_t idle = 0;

    for (unsigned i = 0; i < end; i++) {
        struct pte entry = entries[i];

        if (entry.word == idle)
            continue;
        if (ticket_exit_is_table(entry, level))
            lean_scan_table(pte_frame(entry), level - 1);
        if (ticket_exit_is_table(entry, level) || is_held(entry, level))
            clear_entry(table, i, level);
        else
            idle = entry.word;
    }
    book.looked_at += end;
}

static void by_lean_scan(struct space *space)
{
    lean_scan_table(space->tree.root, space->tree.levels);
}

static void clear_listed(const struct listed *listed)
{
    book.looked_at++;
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

/* Does the deferred work of the lazy way: frees everything of an old generation. */
static void ticket_exit_sweep(void)
{
    for (unsigned i = 0; i < book.entry_count; i++) {
        const struct listed *listed = &book.entries[i];

        book.looked_at += listed->generation == book.generations[listed->owner];
        if (listed->generation != book.generations[listed->owner])
            clear_listed(listed);
    }
    for (unsigned i = 0; i < book.table_count; i++)
        clear_listed(&book.tables[i]);
}

enum way { WAY_LIVE, WAY_SCAN, WAY_LEAN, WAY_LIST, WAY_LAZY, WAYS };

static const struct {
    const char *name;
    void (*take_down)(struct space *space);
} ways[WAYS] = {{"live_counts", by_live_counts},
                {"full_scan", by_full_scan},
                {"lean_scan", by_lean_scan},
                {"owner_list", by_owner_list},
                {"lazy", by_generation}};

/* ---- measuring ---- */

static void ticket_exit_put(const struct stride *stride, const char *what, uint64_t ticks)
{
    null_fault_metric_of(what, stride->name, ticks);
}

/* Makes other spaces, if the way searches all of them. They are made later, so that the swapped
 * pages are those of the space that ends. */
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

static void ticket_exit_put_count(const struct stride *stride, const char *what, uint64_t value,
                                  const char *unit)
{
    char name[48];

    print_to(name, sizeof(name), "%s.%s", what, stride->name);
    ktap_metric(name, value, unit);
}

/* The cost that an owner's list adds to each fault and unmap: a record is linked at the end, and
 * later unlinked anywhere. */
struct ticket_exit_link {
    struct ticket_exit_link *next;
    struct ticket_exit_link *previous;
    struct listed listed;
};

static void ticket_exit_append(struct ticket_exit_link *head, struct ticket_exit_link *link,
                               const struct listed *listed)
{
    link->listed = *listed;
    link->next = head;
    link->previous = head->previous;
    head->previous->next = link;
    head->previous = link;
}

static void ticket_exit_unlink(const struct ticket_exit_link *link)
{
    link->previous->next = link->next;
    link->next->previous = link->previous;
}

/* Prints the size of the list, and the cost of keeping it: the mean for an entry. */
static void put_list(const struct stride *stride)
{
    static struct ticket_exit_link links[PAGES];
    static struct ticket_exit_link head;
    unsigned count = book.entry_count < PAGES ? book.entry_count : PAGES;
    uint64_t ticks = machine_ticks();

    head.next = head.previous = &head;
    for (unsigned i = 0; i < count; i++)
        ticket_exit_append(&head, &links[i], &book.entries[i]);
    for (unsigned i = 0; i < count; i++)
        ticket_exit_unlink(&links[i]);
    ticks = machine_ticks() - ticks;
    CHECK(head.next == &head && count > 0);
    ticket_exit_put(stride, "owner_list.upkeep", ticks / count);
    ticket_exit_put_count(stride, "owner_list.bytes",
                          (book.entry_count + book.table_count) * sizeof(struct listed), "bytes");
}

/* Builds a space and takes it down; returns whether all frames came back. */
static bool try_way(const struct stride *stride, enum way way, struct random *random)
{
    struct ledger before = ledger_take();
    struct space *others[LIVING] = {NULL};
    struct space *space = NULL;
    char what[32];
    unsigned made;
    bool ok;

    memset(&book, 0, sizeof(book));
    ok = ticket_exit_make_space(stride, OUT, &space);
    if (space == NULL)
        return false;
    list_space(space, 0);
    if (way == WAY_LIST)
        put_list(stride);
    made = make_others(way, others);
    shuffle_entries(random);
    book.looked_at = 0;
    ok &= take_down(stride, way, space) && (way != WAY_LAZY || made == LIVING);
    print_to(what, sizeof(what), "%s.looked_at", ways[way].name);
    ticket_exit_put_count(stride, what, book.looked_at, "entries");
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
    ktap_metric("pages", PAGES, "pages");
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
    .answer =
        {
            .text = "Live counts read {live_counts.looked_at.2m} entries, a scan "
                    "{full_scan.looked_at.2m}; an owner's list {owner_list.looked_at.2m}, in "
                    "{owner_list.bytes.2m} bytes; for {pages} pages, one in each 2 MiB",
            .counted = "Live counts read {live_counts.looked_at.2m} entries, a scan "
                       "{full_scan.looked_at.2m}; an owner's list {owner_list.looked_at.2m}, and "
                       "keeping it takes {owner_list.upkeep.2m} instructions a page; for {pages} "
                       "pages, one in each 2 MiB",
            .shipped =
                "live counts; an owner's list takes fewer instructions when a space is sparse",
            .limit = "unmapping before the end, where a list is searched or linked both ways",
        },
};

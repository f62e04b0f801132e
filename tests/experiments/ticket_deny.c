/*
 * ticket-deny: can a bad write fail without the page being loaded?
 *
 * Pages go out to the swap area, and their region loses a right: first writing, then every access.
 * A touch that the region forbids must be refused from the entry alone. The rival is the handler
 * that loads a page before it asks: it would read each of them.
 *
 * Figures: the refused writes and reads, the pages that they read, and those that allowed reads
 * read afterwards.
 */
#include "lib/print.h"
#include "swapdisk/area.h"
#include "tests/runner/experiment.h"
#include "tests/runner/user_pages.h"
#include "vmm/page/reclaim.h"

#define START UINT64_C(0x50000000)
#define PAGES 64U
#define BYTES (PAGES * PAGE_SIZE)
#define TAG   UINT64_C(0xde71)

static unsigned count_out(const struct space *space)
{
    unsigned out = 0;

    for (unsigned page = 0; page < PAGES; page++)
        out += leaf_state(space, START + page * PAGE_SIZE) == PTE_SWAPPED;
    return out;
}

/* Writes the pages and evicts until nothing more goes. Returns whether all are out. */
static bool put_out(const struct space *space)
{
    bool ok = true;

    for (unsigned page = 0; page < PAGES; page++)
        ok = page_fill(START + page * PAGE_SIZE, TAG + page) && ok;
    for (unsigned evicted = 1; evicted > 0 && ok;)
        ok = SUCCEEDS(reclaim_pages(16, &evicted));
    return ok && count_out(space) == PAGES;
}

/* Touches every page; returns how many touches were refused. */
static unsigned count_refused(bool write)
{
    unsigned refused = 0;

    for (unsigned page = 0; page < PAGES; page++) {
        uint64_t address = START + page * PAGE_SIZE;
        uint64_t value;

        refused += write ? !word_write(address, 1) : !word_read(address, &value);
    }
    return refused;
}

/* Takes a right away and makes the touches that need it: none may read a page. */
static void try_denied(struct space *space, const char *touch, struct rights rights, bool write)
{
    uint64_t before = swap_usage().pages_read;
    unsigned refused;
    uint64_t read;
    char name[32];
    bool ok = SUCCEEDS(space_protect(space, START, BYTES, rights));

    refused = count_refused(write);
    read = swap_usage().pages_read - before;
    print_to(name, sizeof(name), "%s_refused", touch);
    ktap_metric(name, refused, "accesses");
    print_to(name, sizeof(name), "%s_loaded", touch);
    ktap_metric(name, read, "pages");
    ktap_check(ok && refused == PAGES, "%u of %u %ss are refused", refused, PAGES, touch);
    ktap_check(read == 0 && count_out(space) == PAGES, "%lu pages were read for them", read);
}

/* Gives the right to read back: each page is read, and is as it was. */
static void look_at_pages(struct space *space)
{
    uint64_t before = swap_usage().pages_read;
    unsigned right = 0;
    bool ok = SUCCEEDS(space_protect(space, START, BYTES, RIGHTS_READ));

    for (unsigned page = 0; page < PAGES; page++)
        right += page_holds(START + page * PAGE_SIZE, TAG + page);
    ktap_metric("allowed_loaded", swap_usage().pages_read - before, "pages");
    ktap_check(ok && right == PAGES, "%u of %u pages are as they were", right, PAGES);
}

static void ticket_deny_run(const struct options *options)
{
    struct space *space;

    (void)options;
    if (!start_space(&space))
        return;
    if (SUCCEEDS(space_map(space, &SPACE_AT(START, BYTES, RIGHTS_READ_WRITE), NULL))) {
        bool out = put_out(space);

        ktap_metric("out", count_out(space), "pages");
        ktap_check(out, "%u pages are out", PAGES);
        try_denied(space, "write", RIGHTS_READ, true);
        try_denied(space, "read", (struct rights){.none = true}, false);
        look_at_pages(space);
    }
    end_space(space);
}

EXPERIMENT(ticket_deny, 275) = {
    .theme = THEME_TABLES,
    .name = "ticket-deny",
    .question = "Can a bad write fail without the page being loaded?",
    .checks = 6,
    .run = ticket_deny_run,
    .answer =
        {
            .text = "Yes: {write_refused} writes refused with {write_loaded} pages read; reads "
                    "where all access is taken away, too: {read_loaded}",
            .shipped = "the rights are in the entry of a page that is out",
            .limit = "pages that are in memory: their writes are refused by the MMU",
        },
};

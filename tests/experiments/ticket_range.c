/*
 * ticket-range: are 2,000 tickets for an 8 MiB program avoidable?
 *
 * The question (forum thread 0): a program of 8 MiB that is mostly demand-paged "would be 2000
 * tickets, or about 16K of memory, pretty bad in terms of both memory use and taking up ticket
 * numbers".
 *
 * An image of code, constants, data and blank memory, 8 MiB to 8 GiB, is reserved in three ways:
 * - page: a ticket and a record of 8 bytes for each page; leaf tables hold them.
 * - range: one descriptor for each part, named by an entry for each page; leaf tables hold them.
 * - upper: as shipped, one descriptor for each part, named by the fewest entries that cover it, at
 * the highest levels that fit. The first two are built in spaces of their own, without regions,
 * where memory allows it. Figures are records, entries and bytes, and what it costs to split an
 * upper ticket when a page in it is touched first. The check: after touching all pages in random
 * order each has the right content and the right to write that its part gives; and the three ways
 * say the same of each page.
 */
#include "cpu/machine.h"
#include "lib/print.h"
#include "pmm/pmm.h"
#include "tests/runner/experiment.h"
#include "tests/runner/ledger.h"
#include "tests/runner/null_fault.h"
#include "tests/runner/user_pages.h"

#define START UINT64_C(0x400000)
#define PARTS 4U

/* Bytes of the record of a page's ticket (forum thread 0). */
#define PAGE_RECORD 8U

/* The image whose pages are touched. */
#define TOUCHED_BYTES (8 * MIB)
#define TOUCHED_PAGES (TOUCHED_BYTES / PAGE_SIZE)

/* Splits that are measured for each level. */
#define SPLITS 32U

static const uint64_t image_bytes[] = {8 * MIB, 64 * MIB, 512 * MIB, 8 * GIB};

/* Parts of an image, in eighths, and the rights of each. */
static const struct part {
    unsigned eighths;
    struct rights rights;
} parts[PARTS] = {
    {2, {.execute = true, .user = true}},
    {1, {.user = true}},
    {1, {.write = true, .user = true}},
    {4, {.write = true, .execute = true, .user = true}},
};

struct image {
    uint64_t bytes;
    struct space *space;
    uint64_t starts[PARTS + 1];
};

static void ticket_range_put(const struct image *image, const char *way, const char *what,
                             uint64_t value, const char *unit)
{
    char name[64];

    print_to(name, sizeof(name), "%s.%s.%lum", way, what, image->bytes / MIB);
    ktap_metric(name, value, unit);
}

static void ticket_range_lay_out(struct image *image)
{
    image->starts[0] = START;
    for (unsigned i = 0; i < PARTS; i++)
        image->starts[i + 1] = image->starts[i] + image->bytes / 8 * parts[i].eighths;
}

static unsigned ticket_range_part_of(const struct image *image, uint64_t address)
{
    unsigned part = 0;

    while (address >= image->starts[part + 1])
        part++;
    return part;
}

/* ---- upper: the shipped way ---- */

static bool ticket_range_map_image(struct image *image)
{
    bool ok = SUCCEEDS(space_create(&image->space));

    for (unsigned i = 0; i < PARTS && ok; i++)
        ok = SUCCEEDS(space_map(
            image->space,
            &SPACE_AT(image->starts[i], image->starts[i + 1] - image->starts[i], parts[i].rights),
            NULL));
    return ok;
}

/* Counts the entries for a range, each at the level where the hardware would end its walk. The
 * range begins and ends with a leaf table, whose entries all count unless empty. */
static uint64_t count_entries(const struct tree *tree, uint64_t start, uint64_t end)
{
    bool were_on = machine_interrupts_off();
    uint64_t entries = 0;

    for (uint64_t at = start; at < end;) {
        struct tree_place place = tree_walk(tree, at);

        entries += place.level == 1 ? frame_record(place.table)->live : 1;
        at += pte_span(place.level == 1 ? 2 : place.level);
    }
    machine_interrupts_restore(were_on);
    return entries;
}

static bool reserve_upper(struct image *image)
{
    struct ledger before = ledger_take();
    uint64_t tables;
    uint64_t used;
    bool ok = ticket_range_map_image(image);

    tables = (uint64_t)ledger_growth(&before, FRAME_TABLE) - 1; /* but the root */
    used = ledger_take().descriptors - before.descriptors;
    ticket_range_put(image, "upper", "records", used, "tickets");
    ticket_range_put(image, "upper", "entries",
                     count_entries(&image->space->tree, START, image->starts[PARTS]), "entries");
    ticket_range_put(image, "upper", "bytes",
                     used * sizeof(struct descriptor) + tables * PAGE_SIZE +
                         PARTS * sizeof(struct region),
                     "bytes");
    return ok && used == PARTS;
}

/* ---- page and range: an entry for each page ---- */

/* Returns the number of an address's record. It takes the whole payload, since 16 bits would not
 * suffice. */
static uint64_t number_of(const struct image *image, uint64_t at, bool per_page)
{
    return per_page ? (at - START) / PAGE_SIZE + 1 : ticket_range_part_of(image, at) + 1;
}

/* Fills a table with 512 equal or rising tickets, in a space without regions. */
static bool fill_table(struct tree *tree, const struct image *image, uint64_t start, bool per_page)
{
    struct tree_reserve reserve = {0};
    enum status status = tree_reserve_fill(&reserve, tree->levels - 1U);
    bool were_on = machine_interrupts_off();
    struct tlb_batch batch;
    struct pfn table;

    tlb_begin(&batch, tree);
    if (status == OK)
        status = tree_make_path(tree, start, 1, TREE_BUILD, &reserve, &batch);
    tlb_commit(&batch);
    tree_reserve_drain(&reserve);
    table = tree_walk(tree, start).table;
    if (status == OK && tree_lock(table)) {
        for (unsigned i = 0; i < PTE_ENTRIES; i++) {
            uint64_t number = number_of(image, start + i * PAGE_SIZE, per_page);

            tree_replace_entry(table, i, pte_absent(PTE_TYPE_TICKET, number));
        }
        tree_unlock(table);
    } else {
        status = STATUS_NO_MEMORY;
    }
    machine_interrupts_restore(were_on);
    return status == OK;
}

/* Returns whether an entry of each leaf table refers to the right part, and the shipped tree
 * agrees. */
static bool ways_agree(const struct tree *tree, const struct image *image, bool per_page)
{
    bool were_on = machine_interrupts_off();
    bool agree = true;

    for (uint64_t at = START; at < image->starts[PARTS]; at += 37 * PAGE_SIZE) {
        struct pte ticket = tree_walk(tree, at).entry;
        struct pte shipped = tree_walk(&image->space->tree, at).entry;
        const struct descriptor *descriptor = descriptor_of(shipped, descriptor_limit);

        agree = agree && pte_state(ticket, 1) == PTE_TICKET &&
                pte_payload(ticket) == number_of(image, at, per_page) && descriptor != NULL &&
                descriptor->rights.write == parts[ticket_range_part_of(image, at)].rights.write &&
                descriptor->rights.execute == parts[ticket_range_part_of(image, at)].rights.execute;
    }
    machine_interrupts_restore(were_on);
    return agree;
}

static bool reserve_leaves(const struct image *image, bool per_page)
{
    const char *way = per_page ? "page" : "range";
    uint64_t pages = image->bytes / PAGE_SIZE;
    uint64_t records = per_page ? pages : PARTS;
    struct ledger before;
    struct space *space;
    struct tree *tree;
    bool ok = SUCCEEDS(space_create(&space));

    if (!ok)
        return false;
    tree = &space->tree;
    before = ledger_take();
    for (uint64_t at = START; at < image->starts[PARTS] && ok; at += pte_span(2))
        ok = fill_table(tree, image, at, per_page);
    ticket_range_put(image, way, "records", records, "tickets");
    ticket_range_put(image, way, "entries", count_entries(tree, START, image->starts[PARTS]),
                     "entries");
    ticket_range_put(image, way, "bytes",
                     (uint64_t)ledger_growth(&before, FRAME_TABLE) * PAGE_SIZE +
                         records * (per_page ? PAGE_RECORD : sizeof(struct descriptor)) +
                         (per_page ? 0 : PARTS * sizeof(struct region)),
                     "bytes");
    ok = ok && ways_agree(tree, image, per_page);
    space_destroy(space);
    return ok;
}

static bool is_room_for_leaves(const struct image *image)
{
    return image->bytes / pte_span(2) * 2 < pmm_usage().by_kind[FRAME_FREE] / 2;
}

static void try_image(uint64_t bytes)
{
    struct image image = {.bytes = bytes};
    bool ok;

    ticket_range_lay_out(&image);
    ok = reserve_upper(&image);
    if (is_room_for_leaves(&image))
        ok = ok && reserve_leaves(&image, true) && reserve_leaves(&image, false);
    else
        ktap_note("no room for the leaf tables of %lu MiB", bytes / MIB);
    ktap_check(ok, "%lu MiB: %u tickets, and each way says the same of each page", bytes / MIB,
               PARTS);
    if (image.space != NULL)
        space_destroy(image.space);
}

/* ---- touching ---- */

static void ticket_range_shuffle(uint16_t *order, struct random *random)
{
    for (unsigned i = 0; i < TOUCHED_PAGES; i++)
        order[i] = (uint16_t)i;
    for (unsigned i = TOUCHED_PAGES - 1; i > 0; i--) {
        unsigned other = (unsigned)random_below(random, i + 1);
        uint16_t swapped = order[i];

        order[i] = order[other];
        order[other] = swapped;
    }
}

/* Writes a writable page and reads others. Checks that writing fails where it is forbidden. */
static bool ticket_range_touch(const struct image *image, unsigned number)
{
    uint64_t address = START + number * PAGE_SIZE;

    if (!parts[ticket_range_part_of(image, address)].rights.write)
        return !word_write(address, 1) && page_is_zero(address);
    return page_is_zero(address) && page_fill(address, number + 1);
}

static bool ticket_range_holds(const struct image *image, unsigned number)
{
    uint64_t address = START + number * PAGE_SIZE;

    if (!parts[ticket_range_part_of(image, address)].rights.write)
        return page_is_zero(address);
    return page_holds(address, number + 1);
}

/* Touches all pages in random order, then checks them. */
static void ticket_range_touch_all(struct random *random)
{
    static uint16_t order[TOUCHED_PAGES];
    struct image image = {.bytes = TOUCHED_BYTES};
    unsigned touched = 0;
    unsigned right = 0;

    ticket_range_lay_out(&image);
    if (ticket_range_map_image(&image)) {
        space_switch(image.space);
        ticket_range_shuffle(order, random);
        for (unsigned i = 0; i < TOUCHED_PAGES; i++)
            touched += ticket_range_touch(&image, order[i]);
        ticket_range_shuffle(order, random);
        for (unsigned i = 0; i < TOUCHED_PAGES; i++)
            right += ticket_range_holds(&image, order[i]);
        space_audit();
        space_switch(NULL);
    }
    ktap_check(touched == TOUCHED_PAGES && right == TOUCHED_PAGES,
               "%u pages touched in random order, %u of them right", touched, right);
    if (image.space != NULL)
        space_destroy(image.space);
}

/* ---- splitting ---- */

/* Measures a split: the first touch in a ticket of this level splits it down to the leaf table; the
 * second, beside it, is an ordinary first touch. */
static bool measure_split(unsigned level)
{
    struct space *space;
    uint64_t split = 0;
    uint64_t plain = 0;
    bool ok = start_space(&space);
    char name[32];

    if (ok)
        space_set_zero_levels(space, 1); /* a read splits: no zero table takes the ticket's place */
    for (unsigned i = 0; i < SPLITS && ok; i++) {
        uint64_t start = pte_span(level) * (i + 1);
        uint64_t value = 1;
        uint64_t began;

        ok = SUCCEEDS(space_map(space, &SPACE_AT(start, pte_span(level), RIGHTS_READ_WRITE), NULL));
        ok = ok && tree_walk(&space->tree, start).level == level;
        began = machine_ticks();
        ok = ok && word_read(start, &value);
        split += machine_ticks() - began;
        began = machine_ticks();
        ok = ok && word_read(start + PAGE_SIZE, &value);
        plain += machine_ticks() - began;
        ok = ok && tree_walk(&space->tree, start).level == 1 && value == 0;
    }
    print_to(name, sizeof(name), "split.level%u", level);
    null_fault_metric(name, split > plain ? (split - plain) / SPLITS : 0);
    end_space(space);
    return ok;
}

static void ticket_range_run(const struct options *options)
{
    struct random random = random_from(options->seed);
    bool ok = true;

    null_fault_measure();
    for (unsigned i = 0; i < ARRAY_COUNT(image_bytes); i++)
        try_image(image_bytes[i]);
    ticket_range_touch_all(&random);
    for (unsigned level = 2; level <= 4; level++)
        ok &= measure_split(level);
    ktap_check(ok, "a ticket of each level is split by the first touch in it");
}

EXPERIMENT(ticket_range, 280) = {
    .theme = THEME_TABLES,
    .name = "ticket-range",
    .question = "Are 2,000 tickets for an 8 MiB program avoidable?",
    .spaces = 2,
    .checks = 6,
    .reserves = true,
    .run = ticket_range_run,
    .answer =
        {
            .text = "{upper.records.8m} tickets do, not {page.records.8m}, for 8 MiB; "
                    "{upper.bytes.8m} bytes, not {page.bytes.8m}",
            .shipped = "tickets at upper levels",
            .limit = "what all splits of a program that touches everything cost together",
        },
};

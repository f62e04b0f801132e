/*
 * ticket-share: can blank pages share one ticket?
 *
 * The question (forum thread 0): "if I have 5 program data pages that are all blank, they can all
 * refer to the same" ticket. What does memory cost that is reserved and not yet touched, in bytes
 * of bookkeeping for each GiB, with N address spaces of M pages each?
 *
 * Three ways, each built for real and taken down again, and counted in frames and objects:
 * - shared, as shipped: one descriptor for all blank memory of equal rights. N spaces map M pages,
 *   in one region and in many.
 * - one a region: the same, and a descriptor's record for each region besides.
 * - one a page, the thread's: a record of 8 bytes for each page, and an entry in a leaf table that
 *   names it, in a space without
 *   regions. Its numbers of 16 bits run out at 256 MiB.
 * The answer is bytes a GiB. The checks: all spaces share one descriptor, whatever N and M; a page
 * of each reads as zero; every page's own record is found from its entry.
 */
#include "lib/print.h"
#include "pmm/pmm.h"
#include "tests/runner/experiment.h"
#include "tests/runner/ledger.h"
#include "tests/runner/null_fault.h"
#include "tests/runner/user_pages.h"

#define START  UINT64_C(0x8000000000)
#define SPACES 16U

/* Pages for which the thread's way is built: a leaf table each 512, and 8 bytes a page. */
#define SEED_PAGES 16384U

static struct space *spaces[SPACES];

struct shape {
    unsigned spaces;
    unsigned regions;
    uint64_t pages; /* of all regions of a space */
};

static const struct shape shapes[] = {
    {1, 1, GIB / PAGE_SIZE},  {1, 64, GIB / PAGE_SIZE},  {16, 1, 2 * MIB / PAGE_SIZE},
    {16, 1, GIB / PAGE_SIZE}, {16, 64, GIB / PAGE_SIZE}, {16, 1, 64 * GIB / PAGE_SIZE},
};

static void ticket_share_put(const struct shape *shape, const char *what, uint64_t bytes)
{
    uint64_t mapped = shape->spaces * shape->pages * PAGE_SIZE;
    char name[64];

    print_to(name, sizeof(name), "%s.%ux%u-%lum", what, shape->spaces, shape->regions,
             shape->pages * PAGE_SIZE / MIB);
    ktap_metric(name, bytes * GIB / mapped, "bytes/GiB");
}

/* Maps the regions of a space, a page apart so that they do not merge. */
static bool map_regions(struct space *space, const struct shape *shape)
{
    uint64_t size = shape->pages / shape->regions * PAGE_SIZE;
    bool ok = true;

    for (unsigned i = 0; i < shape->regions && ok; i++)
        ok = SUCCEEDS(space_map(
            space, &SPACE_AT(START + i * (size + PAGE_SIZE), size, RIGHTS_READ_WRITE), NULL));
    return ok;
}

static bool reads_zero(struct space *space, const struct shape *shape)
{
    uint64_t value = 1;
    bool ok;

    space_switch(space);
    ok = word_read(START + shape->pages / shape->regions / 2 * PAGE_SIZE, &value);
    space_switch(NULL);
    return ok && value == 0;
}

/* Measures a shape: tables and objects in addition to the spaces themselves; regions count by their
 * size. */
static void ticket_share_try_shape(const struct shape *shape)
{
    struct ledger before;
    unsigned made = 0;
    uint64_t tables;
    uint64_t regions;
    unsigned descriptors;
    bool ok = true;

    while (made < shape->spaces && space_create(&spaces[made]) == OK)
        made++;
    before = ledger_take();
    for (unsigned i = 0; i < made; i++)
        ok &= map_regions(spaces[i], shape);
    tables = (uint64_t)ledger_growth(&before, FRAME_TABLE) * PAGE_SIZE;
    descriptors = ledger_take().descriptors - before.descriptors;
    regions = (uint64_t)shape->regions * made * sizeof(struct region);
    for (unsigned i = 0; i < made; i++)
        ok = ok && reads_zero(spaces[i], shape);
    ktap_check(made == shape->spaces && ok && descriptors == 1,
               "%u spaces with %u regions of %lu MiB in all read as zero by %u descriptor", made,
               shape->regions, shape->pages * PAGE_SIZE / MIB, descriptors);
    ticket_share_put(shape, "shared", tables + regions + descriptors * sizeof(struct descriptor));
    ticket_share_put(shape, "per_region",
                     tables + regions +
                         (uint64_t)shape->regions * made * sizeof(struct descriptor));
    while (made > 0)
        space_destroy(spaces[--made]);
}

/* ---- one a page ---- */

/* The thread's record: where the content is, or that there is none. */
struct seed_ticket {
    uint64_t source;
};

_Static_assert(sizeof(struct seed_ticket) == 8, "six tickets are 48 bytes (forum thread 0)");

#define TICKETS_A_FRAME (PAGE_SIZE / sizeof(struct seed_ticket))

static struct pfn seed_frames[SEED_PAGES / TICKETS_A_FRAME];

static struct seed_ticket *seed_ticket(uint32_t number)
{
    struct seed_ticket *tickets = frame_pointer(seed_frames[number / TICKETS_A_FRAME]);

    return &tickets[number % TICKETS_A_FRAME];
}

/* Makes the leaf table of an address and returns it with interrupts off, locked. */
static bool lock_leaf_table(struct tree *tree, uint64_t address, struct pfn *table)
{
    struct tree_reserve reserve = {0};
    enum status status = tree_reserve_fill(&reserve, tree->levels - 1U);
    struct tlb_batch batch;

    tlb_begin(&batch, tree);
    if (status == OK)
        status = tree_make_path(tree, address, 1, TREE_BUILD, &reserve, &batch);
    tlb_commit(&batch);
    tree_reserve_drain(&reserve);
    if (status != OK)
        return false;
    *table = tree_walk(tree, address).table;
    return tree_lock(*table);
}

static bool write_tickets(struct tree *tree, uint32_t from, uint32_t to)
{
    bool were_on = machine_interrupts_off();
    struct pfn table = PFN_NONE;
    bool ok = lock_leaf_table(tree, START + from * PAGE_SIZE, &table);

    for (uint32_t i = from; i < to && ok; i++) {
        seed_ticket(i)->source = (uint64_t)i << 32 | 1;
        tree_replace_entry(table, i % PTE_ENTRIES, pte_ticket((uint16_t)i, 1));
    }
    if (ok)
        tree_unlock(table);
    machine_interrupts_restore(were_on);
    return ok;
}

/* Returns the number of entries that lead to their own page's record. */
static unsigned count_found(const struct tree *tree)
{
    bool were_on = machine_interrupts_off();
    unsigned found = 0;

    for (uint32_t i = 0; i < SEED_PAGES; i++) {
        struct tree_place place = tree_walk(tree, START + i * PAGE_SIZE);
        uint8_t generation;
        uint16_t index;

        if (pte_state(place.entry, place.level) == PTE_TICKET &&
            pte_ticket_decode(place.entry, &index, &generation))
            found += seed_ticket(index)->source == ((uint64_t)i << 32 | 1);
    }
    machine_interrupts_restore(were_on);
    return found;
}

static void try_seed(void)
{
    static const struct shape shape = {1, 1, SEED_PAGES};
    struct ledger before;
    unsigned frames = 0;
    struct space *space;
    bool ok = SUCCEEDS(space_create(&space));

    if (!ok)
        return;
    before = ledger_take();
    while (frames < ARRAY_COUNT(seed_frames) &&
           pmm_alloc(FRAME_KERNEL, FRAME_CLEARED, &seed_frames[frames]) == OK)
        frames++;
    ok = frames == ARRAY_COUNT(seed_frames);
    for (uint32_t i = 0; i < SEED_PAGES && ok; i += PTE_ENTRIES)
        ok = write_tickets(&space->tree, i, i + PTE_ENTRIES);
    ktap_check(ok && count_found(&space->tree) == SEED_PAGES,
               "each of %u pages has a ticket of its own", SEED_PAGES);
    ticket_share_put(
        &shape, "per_page",
        (uint64_t)(ledger_growth(&before, FRAME_TABLE) + ledger_growth(&before, FRAME_KERNEL)) *
            PAGE_SIZE);
    while (frames > 0)
        pmm_free(seed_frames[--frames]);
    space_destroy(space);
}

static void ticket_share_run(const struct options *options)
{
    (void)options;
    for (unsigned i = 0; i < ARRAY_COUNT(shapes); i++)
        ticket_share_try_shape(&shapes[i]);
    try_seed();
}

EXPERIMENT(ticket_share, 270) = {
    .theme = THEME_TABLES,
    .name = "ticket-share",
    .question = "Can blank pages share one ticket?",
    .spaces = 16,
    .regions = 128,
    .checks = 7,
    .reserves = true,
    .run = ticket_share_run,
    .answer =
        {
            .text = "Yes, one serves all: {shared.16x1-1024m} bytes a GiB; one a page takes "
                    "{per_page.1x1-64m}",
            .shipped = "one descriptor for all",
            .limit = "regions and tables of many small mappings, which are counted apart",
        },
};

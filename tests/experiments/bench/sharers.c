/*
 * Rows of bench about pages that 1 to 10,000 others show, and about memory that is nearly full.
 *
 * A page of a section is mapped again and again in one space; a private page is shared with
 * children, each with tables of its own. Both are evicted without a write, since the pager makes
 * the one again and the other has only zeros: so no figure depends on a disk. Eviction is called
 * while the clocks have this page alone. It looks at the page twice, since it was used, and then
 * evicts it. A private page with too many sharers is looked at and stays.
 */
#include "cpu/machine.h"
#include "lib/print.h"
#include "pmm/pmm.h"
#include "tests/experiments/bench/bench.h"
#include "tests/runner/experiment.h"
#include "tests/runner/tick.h"
#include "tests/runner/user_pages.h"
#include "vmm/page/managed.h"
#include "vmm/page/reclaim.h"
#include "vmm/section/section.h"

#define SHARERS_MAX 10000U
#define ROUNDS      4U

/* Frames for a child: its top table, those of one path, and its object. */
#define CHILD_FRAMES 8U

/* First writes until the reserve is reached; so many more frames are for tables and caches. */
#define WRITES 1024U
#define BESIDE 512U
#define APART  64U /* frames in use between two free ones */

/* A number of sharers; rows have the name of the operation and this one. */
struct sharers {
    const char *name;
    unsigned count;
    uint64_t evict_shared, evict_cow, unmap_cow; /* medians */
};

static uint64_t end_sharers_row(const char *operation, const struct sharers *sharers)
{
    char row[32];

    print_to(row, sizeof(row), "%s_%s", operation, sharers->name);
    return bench_end_row(row);
}

/* Evicts the one page of the clocks. Returns whether it went. */
static bool evict_sole_page(uint64_t *ticks)
{
    unsigned evicted = 0;
    enum status status;
    uint64_t began;

    CHECK(page_clock_size() == 1);
    began = machine_ticks();
    status = reclaim_pages(1, &evicted);
    *ticks = machine_ticks() - began;
    return status == OK && evicted == 1;
}

/* ---- a page of a section ---- */

static const uint8_t archive_byte[1] = {1};
static const struct archive sharers_archive = {archive_byte, sizeof(archive_byte)};

static uint64_t window(unsigned number)
{
    return BENCH_FAR + number * PAGE_SIZE;
}

static bool map_windows(struct space *space, struct section *section, unsigned count)
{
    bool ok = true;

    for (unsigned i = 0; i < count && ok; i++)
        ok = SUCCEEDS(space_map(
            space,
            &SPACE_AT(window(i), PAGE_SIZE, RIGHTS_READ, .flags = SPACE_SHARED, .section = section),
            NULL));
    return ok;
}

static bool read_windows(unsigned count)
{
    uint64_t value = 0;
    bool ok = true;

    for (unsigned i = 0; i < count && ok; i++)
        ok = word_read(window(i), &value) && value == 1;
    return ok;
}

/* Measures evictions, each after all windows have shown the page; then unmaps of single windows. */
static bool windows_rows(struct space *space, struct sharers *sharers)
{
    bool ok = true;
    uint64_t ticks = 0;

    bench_time_readings();
    for (unsigned i = 0; i < ROUNDS && ok; i++) {
        ok = read_windows(sharers->count) && evict_sole_page(&ticks) &&
             leaf_state(space, window(sharers->count - 1)) == PTE_TICKET;
        bench_add(ticks);
    }
    sharers->evict_shared = end_sharers_row("evict_shared", sharers);
    ok = ok && read_windows(sharers->count);
    for (unsigned i = 0; i < ROUNDS && i < sharers->count && ok; i++) {
        uint64_t began = machine_ticks();

        ok = SUCCEEDS(space_unmap(space, window(sharers->count / ROUNDS * i), PAGE_SIZE));
        bench_add(machine_ticks() - began);
    }
    (void)end_sharers_row("unmap_shared", sharers);
    return ok;
}

static bool section_sharers(struct sharers *sharers)
{
    struct section *section;
    struct space *space;
    bool ok;

    if (!start_space(&space))
        return false;
    ok = SUCCEEDS(
        section_create(&pager_archive, &sharers_archive, PAGE_SIZE, RIGHTS_READ, &section));
    if (ok) {
        ok = map_windows(space, section, sharers->count) && windows_rows(space, sharers);
        section_close(section);
    }
    end_space(space);
    return ok;
}

/* ---- a private page ---- */

/* Gives each child a leaf table of its own, by unmapping the page beside. Returns their number. */
static unsigned share_page(struct space *parent, struct space **children, unsigned count)
{
    unsigned made = 0;

    while (made < count && SUCCEEDS(space_fork(parent, &children[made])) &&
           SUCCEEDS(space_unmap(children[made], BENCH_FAR + PAGE_SIZE, PAGE_SIZE)))
        made++;
    return made;
}

/* Measures the eviction of the page, or that it is refused. */
static bool evict_private(const struct space *space, struct sharers *sharers)
{
    bool goes = sharers->count <= POINTERS_MAX;
    uint64_t ticks;
    bool ok;

    bench_time_readings();
    ok = evict_sole_page(&ticks) == goes &&
         pfn_equal(pte_frame(leaf_entry(space, BENCH_FAR)), tree_zero_page()) == goes;
    bench_add(ticks);
    sharers->evict_cow = end_sharers_row("evict_cow", sharers);
    return ok;
}

static bool unmap_private(struct sharers *sharers)
{
    uint64_t began;
    bool ok;

    bench_time_readings();
    began = machine_ticks();
    ok = bench_unmap(BENCH_FAR, 1);
    bench_add(machine_ticks() - began);
    sharers->unmap_cow = end_sharers_row("unmap_cow", sharers);
    return ok;
}

/* Shares a page of zeros, evicts it if asked to, and unmaps it in the parent if asked to. */
static bool private_rows(struct sharers *sharers, bool evict, bool unmap)
{
    static struct space *children[SHARERS_MAX];
    struct space *parent;
    unsigned made = 0;
    bool ok;

    if (!start_space(&parent))
        return false;
    ok = bench_map(BENCH_FAR, 2) && word_write(BENCH_FAR, 0);
    if (ok)
        made = share_page(parent, children, sharers->count - 1);
    ok = ok && made == sharers->count - 1 && bench_unmap(BENCH_FAR + PAGE_SIZE, 1) &&
         (!evict || evict_private(parent, sharers)) && (!unmap || unmap_private(sharers));
    while (made > 0)
        space_destroy(children[--made]);
    end_space(parent);
    return ok;
}

/* A page that is evicted has no sharers left to be unmapped among: that takes others. */
static bool private_sharers(struct sharers *sharers)
{
    if (sharers->count > POINTERS_MAX)
        return private_rows(sharers, true, true);
    return private_rows(sharers, true, false) && private_rows(sharers, false, true);
}

/* ---- growth ---- */

static void check_sharers(const struct sharers *some, const struct sharers *most)
{
    if (ticks_per_instruction() == 0 || most->unmap_cow == 0) {
        ktap_skip("a tick is no number of instructions, or memory is short",
                  "growth with the number of sharers");
        return;
    }
    ktap_check(
        some->evict_shared > 0 &&
            most->evict_shared / most->count * 4 <= some->evict_shared / some->count * 5 &&
            most->evict_cow * 10 <= some->evict_cow * 11 &&
            most->unmap_cow * 10 <= some->unmap_cow * 11,
        "eviction grows by the sharers of the page, %lu and %lu ticks for each; its refusal, "
        "%lu and %lu ticks, and unmap, %lu and %lu ticks, do not",
        some->evict_shared / some->count, most->evict_shared / most->count, some->evict_cow,
        most->evict_cow, some->unmap_cow, most->unmap_cow);
}

/* ---- memory nearly full ---- */

/* Takes frames until only the reserve is left; a chain through their first words. */
static struct pfn take_all_frames(void)
{
    struct pfn chain = PFN_NONE;
    struct pfn frame;

    while (pmm_usage().by_kind[FRAME_FREE] > pmm_reserve() &&
           pmm_alloc(FRAME_KERNEL, FRAME_UNCLEARED, &frame) == OK) {
        *(struct pfn *)frame_pointer(frame) = chain;
        chain = frame;
    }
    return chain;
}

static struct pfn free_first(struct pfn chain)
{
    struct pfn next = *(struct pfn *)frame_pointer(chain);

    pmm_free(chain);
    return next;
}

/* Frees some frames, each far from the next; returns the others. */
static struct pfn free_scattered(struct pfn chain)
{
    uint64_t enough = pmm_reserve() + WRITES + BESIDE;

    for (struct pfn at = chain; !pfn_is_none(at) && pmm_usage().by_kind[FRAME_FREE] < enough;) {
        struct pfn *next = frame_pointer(at);

        for (unsigned i = 0; i < APART && !pfn_is_none(*next); i++)
            next = frame_pointer(*next);
        if (!pfn_is_none(*next))
            *next = free_first(*next);
        at = *next;
    }
    return chain;
}

/* Measures first writes while nothing is free but single frames, few more than the writes take. */
static bool full_row(void)
{
    struct space *space = bench_start_space();
    struct pfn chain;
    bool ok;

    if (space == NULL)
        return false;
    ok = bench_map(BENCH_FAR, WRITES);
    bench_set_overhead(user_code_measure_write);
    chain = free_scattered(take_all_frames());
    pmm_drain();
    if (ok)
        bench_measure(user_code_measure_write, BENCH_FAR, PAGE_SIZE, WRITES);
    ok = ok && pmm_usage().by_kind[FRAME_FREE] < pmm_reserve() + BESIDE;
    while (!pfn_is_none(chain))
        chain = free_first(chain);
    pmm_drain();
    bench_end_row("first_write_full");
    end_space(space);
    return ok;
}

void bench_sharer_rows(void)
{
    struct sharers numbers[] = {{.name = "1", .count = 1},
                                {.name = "8", .count = 8},
                                {.name = "100", .count = 100},
                                {.name = "10k", .count = SHARERS_MAX}};
    bool ok = true;

    for (unsigned i = 0; i < ARRAY_COUNT(numbers); i++) {
        if (numbers[i].count > pmm_usage().by_kind[FRAME_FREE] / CHILD_FRAMES) {
            for (unsigned row = 0; row < 4; row++)
                ktap_skip("there is not so much memory", "%u sharers", numbers[i].count);
            continue;
        }
        ok = section_sharers(&numbers[i]) && ok;
        ok = private_sharers(&numbers[i]) && ok;
    }
    ktap_check(ok, "pages of up to %u sharers went, or stayed where more than %u show one",
               SHARERS_MAX, POINTERS_MAX);
    check_sharers(&numbers[2], &numbers[3]);
    ktap_check(full_row(), "first writes left fewer than %u frames above the reserve", BESIDE);
}

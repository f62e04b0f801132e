/* The pages of programs. */
#include "vmm/page/page.h"

#include "cpu/machine.h"
#include "lib/ktap.h"
#include "pmm/memory_map.h"
#include "swapdisk/area.h"
#include "vmm/page/large.h"
#include "vmm/page/reclaim.h"
#include "vmm/range/collapse.h"
#include "vmm/range/spare_tables.h"

/* Pages evicted together when one is wanted: they share one flush and few commands. */
#define EVICT_TOGETHER 16U

/* So often nothing is found to evict, each time beside another who evicts, until that is the
 * answer. */
#define TRIES_BESIDE_OTHERS 64U

uint64_t resident_limit = UINT64_MAX;

static uint64_t swap_cached_pages;

uint64_t page_clocks_begun;

/* Where the next look is. Its lock comes before those of the clocks. */
static struct {
    uint8_t lock;
    unsigned clock;
    uint64_t left; /* looks until it goes on to the next clock */
} hand;

void page_init(void)
{
    for (unsigned cpu = 0; cpu < CPU_MAX; cpu++)
        *page_clock_of(cpu) = (struct page_clock){.first = UINT32_MAX,
                                                  .last = UINT32_MAX,
                                                  .record = 1 | (uint64_t)FRAME_ANONYMOUS << 32 |
                                                            (uint64_t)(cpu + 1) << 48,
                                                  .bit = UINT64_C(1) << cpu};
}

void page_set_limit(uint64_t frames)
{
    CHECK(frames > EVICT_TOGETHER);
    resident_limit = frames;
}

/* Clocks from 0 on of which each may have a page: one at least. */
static unsigned clocks_begun(void)
{
    uint64_t begun = __atomic_load_n(&page_clocks_begun, __ATOMIC_ACQUIRE);

    return 64 - (unsigned)__builtin_clzll(begun | 1);
}

/* Exact when nobody publishes or withdraws meanwhile. */
uint64_t page_clock_size(void)
{
    unsigned begun = clocks_begun();
    uint64_t size = 0;

    for (unsigned i = 0; i < begun; i++)
        size += __atomic_load_n(&page_clock_of(i)->size, __ATOMIC_RELAXED);
    return size;
}

bool page_try_alloc(enum frame_clear clear, struct pfn *page)
{
    return (resident_limit == UINT64_MAX || page_resident() < resident_limit) &&
           pmm_alloc(FRAME_ANONYMOUS, clear, page) == OK;
}

/* Pages that have gone out since start, whoever sent them. */
static uint64_t pages_out(void)
{
    struct reclaim_counts counts = reclaim_counts();

    return counts.written + counts.clean;
}

/* Makes room, or finds that another has. While others evict, most pages may be theirs, or held by
 * them for a look: nothing to be found then does not mean that there is nothing. */
static enum status page_make_room(void)
{
    enum status status = OK;

    for (unsigned tries = 0; tries < TRIES_BESIDE_OTHERS; tries++) {
        uint64_t before = pages_out();
        uint64_t calls = reclaim_calls();
        unsigned evicted;

        status = reclaim_pages(EVICT_TOGETHER, &evicted);
        /* An error of the disk says that some could not go; what counts is whether others did. */
        if (evicted > 0 || pages_out() != before || large_split_one())
            return OK;
        if (!reclaim_await_another(calls + 1))
            break;
    }
    if (spare_tables_free_all())
        return OK;
    return status == OK ? STATUS_NO_MEMORY : status;
}

bool page_reclaim_some(void)
{
    return page_make_room() == OK;
}

enum status page_alloc(enum frame_clear clear, struct pfn *page)
{
    enum status status = OK;

    while (status == OK) {
        if (page_try_alloc(clear, page))
            return OK;
        status = page_make_room();
    }
    return status;
}

/* ---- the clocks: lists through the records ---- */

/* Puts a page in front of all others of its clock, which is locked, or behind them. */
static void link_first(struct page_clock *clock, struct pfn page)
{
    frame_record(page)->link_next = clock->first;
    if (clock->first == UINT32_MAX)
        clock->last = page.index;
    else
        frame_record((struct pfn){clock->first})->link_prev = page.index;
    clock->first = page.index;
    clock->size++;
}

static void link_last(struct page_clock *clock, struct pfn page)
{
    frame_record(page)->link_prev = clock->last;
    if (clock->last == UINT32_MAX)
        page_clock_begin(clock, page);
    else
        frame_record((struct pfn){clock->last})->link_next = page.index;
    clock->last = page.index;
    clock->size++;
}

void page_publish(struct pfn page)
{
    bool were_on = machine_interrupts_off();
    struct frame *record = frame_record(page);
    struct page_clock *clock = page_clock_of(machine_cpu());

    CHECK(record->kind == FRAME_ANONYMOUS && record->live == 0 && record->link_next == UINT32_MAX &&
          record->link_prev == UINT32_MAX);
    spin_lock(&clock->lock);
    __atomic_store_n(&record->live, (uint16_t)(machine_cpu() + 1), __ATOMIC_RELAXED);
    link_last(clock, page);
    spin_unlock(&clock->lock);
    machine_interrupts_restore(were_on);
}

/* Takes so many pages that follow each other, from first to last, out of their clock, which is
 * locked. */
static void unlink_run(struct page_clock *clock, const struct frame *first,
                       const struct frame *last, unsigned length)
{
    struct pfn before = {first->link_prev};
    struct pfn behind = {last->link_next};

    CHECK(clock->size >= length);
    if (pfn_is_none(before))
        clock->first = behind.index;
    else
        frame_record(before)->link_next = behind.index;
    if (pfn_is_none(behind))
        clock->last = before.index;
    else
        frame_record(behind)->link_prev = before.index;
    clock->size -= length;
}

/* Takes a page out of its clock, which is locked. */
static void unlink_page(struct page_clock *clock, struct pfn page)
{
    struct frame *record = frame_record(page);

    unlink_run(clock, record, record, 1);
    record->link_next = record->link_prev = UINT32_MAX;
}

/* Between the look at the record and the lock another may have taken the page out. */
bool page_withdraw(struct pfn page)
{
    bool were_on = machine_interrupts_off();
    struct frame *record = frame_record(page);
    bool withdrawn = false;
    uint16_t number;

    while (!withdrawn && (number = __atomic_load_n(&record->live, __ATOMIC_RELAXED)) != 0) {
        struct page_clock *clock = page_clock_of(number - 1U);

        spin_lock(&clock->lock);
        withdrawn = record->live == number;
        if (withdrawn) {
            unlink_page(clock, page);
            __atomic_store_n(&record->live, 0, __ATOMIC_RELAXED);
        }
        spin_unlock(&clock->lock);
    }
    machine_interrupts_restore(were_on);
    return withdrawn;
}

/* The first page of a clock goes behind all others, and is held. One whose last pointer has just
 * gone is on its way out of the clock, and is passed over: PFN_NONE, as when there is no page. */
static struct pfn turn_clock(struct page_clock *clock)
{
    struct pfn page;

    spin_lock(&clock->lock);
    page.index = clock->first;
    if (!pfn_is_none(page)) {
        unlink_page(clock, page);
        link_last(clock, page);
        if (!tree_try_hold(page))
            page = PFN_NONE;
    }
    spin_unlock(&clock->lock);
    return page;
}

void page_deactivate(struct pfn page)
{
    bool were_on = machine_interrupts_off();
    uint16_t number;

    spin_lock(&hand.lock);
    number = __atomic_load_n(&frame_record(page)->live, __ATOMIC_RELAXED);
    if (number != 0) {
        struct page_clock *clock = page_clock_of(number - 1U);

        spin_lock(&clock->lock);
        if (frame_record(page)->live == number) {
            unlink_page(clock, page);
            link_first(clock, page);
            hand.clock = number - 1U;
            hand.left = clock->size;
        }
        spin_unlock(&clock->lock);
    }
    spin_unlock(&hand.lock);
    machine_interrupts_restore(were_on);
}

struct pfn page_clock_next(void)
{
    bool were_on = machine_interrupts_off();
    unsigned begun = clocks_begun();
    struct pfn page = PFN_NONE;
    uint64_t looks;

    spin_lock(&hand.lock);
    /* Each page once, and each clock may be empty. */
    for (looks = page_clock_size() + begun; looks > 0 && pfn_is_none(page); looks--) {
        /* Pages may have left the clock since its round began. */
        hand.left = min_u64(hand.left, page_clock_of(hand.clock)->size);
        if (hand.left == 0) {
            hand.clock = (hand.clock + 1) % begun;
            hand.left = page_clock_of(hand.clock)->size;
        }
        if (hand.left > 0) {
            hand.left--;
            page = turn_clock(page_clock_of(hand.clock));
        }
    }
    spin_unlock(&hand.lock);
    machine_interrupts_restore(were_on);
    return page;
}

/* ---- ties and ends ---- */

void swap_cache_add(struct pfn page, struct slot slot)
{
    struct frame *record = frame_record(page);

    CHECK((record->flags & FRAME_SWAP_CACHED) == 0);
    record->slot_or_base = slot.index;
    __atomic_or_fetch(&record->flags, FRAME_SWAP_CACHED, __ATOMIC_RELAXED);
    __atomic_add_fetch(&swap_cached_pages, 1, __ATOMIC_RELAXED);
}

/* What is left to do once the flag is off. */
static void end_tie(struct pfn page)
{
    struct frame *record = frame_record(page);
    struct slot slot = {record->slot_or_base};

    record->slot_or_base = UINT32_MAX;
    __atomic_sub_fetch(&swap_cached_pages, 1, __ATOMIC_RELAXED);
    swap_release(slot);
}

void swap_cache_remove(struct pfn page)
{
    struct frame *record = frame_record(page);

    CHECK((record->flags & FRAME_SWAP_CACHED) != 0);
    __atomic_and_fetch(&record->flags, (uint8_t)~FRAME_SWAP_CACHED, __ATOMIC_RELAXED);
    end_tie(page);
}

bool swap_cache_remove_alone(struct pfn page)
{
    if (!tree_claim(page, FRAME_SWAP_CACHED))
        return false;
    end_tie(page);
    return true;
}

/* Takes the first of the pages out of its clock, which is locked, and those with it that follow it
 * there; how many. Their links stay as they were: they are on their way to be free. */
static unsigned unlink_gone(struct page_clock *clock, const struct pfn *pages, unsigned count)
{
    const struct frame *first = frame_record(pages[0]);
    struct frame *last = frame_record(pages[0]);
    const struct pfn *at = pages;

    for (;;) {
        __atomic_store_n(&last->live, 0, __ATOMIC_RELAXED);
        at++;
        if (at == &pages[count] || last->link_next != at->index)
            break;
        last = frame_record(*at);
    }
    unlink_run(clock, first, last, (unsigned)(at - pages));
    return (unsigned)(at - pages);
}

/* Nobody publishes or withdraws a page whose count is 0, so that its clock is what its record says.
 */
static void withdraw_gone(const struct pfn *pages, unsigned count)
{
    bool were_on = machine_interrupts_off();
    struct page_clock *locked = NULL;

    for (unsigned done = 0; done < count;) {
        uint16_t number = frame_record(pages[done])->live;

        if (number == 0) {
            done++;
            continue;
        }
        if (locked != page_clock_of(number - 1U)) {
            if (locked != NULL)
                spin_unlock(&locked->lock);
            locked = page_clock_of(number - 1U);
            spin_lock(&locked->lock);
        }
        done += unlink_gone(locked, &pages[done], count - done);
    }
    if (locked != NULL)
        spin_unlock(&locked->lock);
    machine_interrupts_restore(were_on);
}

/* What a tied page leaves behind, or a wired one, which is never tied; a transfer would still hold
 * the page. */
static void end_gone(struct pfn page)
{
    const struct frame *record = frame_record(page);

    CHECK_MSG((record->flags & FRAME_IO) == 0, "page %x goes with count %u, flags %x", page.index,
              record->count, record->flags);
    if ((record->flags & FRAME_WIRED) != 0)
        page_forget_wire(page);
    else
        swap_cache_remove(page);
}

static void pages_free_last(const struct pfn *pages, unsigned count)
{
    withdraw_gone(pages, count);
    /* holds: the pages, which nothing else knows any more but their slots */
    pmm_free_many(pages, count, FRAME_ANONYMOUS, FRAME_SWAP_CACHED | FRAME_IO | FRAME_WIRED,
                  end_gone);
}

static void page_free_last(struct pfn page)
{
    const struct frame *record = frame_record(page);

    CHECK_MSG(record->count == 0 && (record->flags & FRAME_IO) == 0,
              "page %x goes with count %u, flags %x", page.index, record->count, record->flags);
    if ((record->flags & FRAME_BLOCK) != 0) {
        large_gone(page);
        return;
    }
    (void)page_withdraw(page); /* one that was evicted is in no clock any more */
    if ((record->flags & FRAME_SWAP_CACHED) != 0)
        swap_cache_remove(page);
    if ((record->flags & FRAME_WIRED) != 0)
        page_forget_wire(page);
    pmm_free(page);
}

void page_release(struct pfn page)
{
    if (tree_release(page) == 0)
        page_free_last(page);
}

const struct tree_hooks *page_hooks(void)
{
    static const struct tree_hooks hooks = {.slot_hold = swap_hold,
                                            .slot_release = swap_release,
                                            .page_free_last = page_free_last,
                                            .pages_free_last = pages_free_last,
                                            .page_split = large_split_parts,
                                            .page_take = collapse_take_page,
                                            .page_put = collapse_put_page};

    return &hooks;
}

/* Every clock is one list, both ways, of as many pages as it says, all of them its own. */
static void audit_clocks(void)
{
    for (unsigned cpu = 0; cpu < CPU_MAX; cpu++) {
        const struct page_clock *clock = page_clock_of(cpu);
        struct pfn before = PFN_NONE;
        uint64_t pages = 0;

        for (struct pfn at = {clock->first}; !pfn_is_none(at) && pages <= clock->size; pages++) {
            const struct frame *record = frame_record(at);

            CHECK_MSG(record->kind == FRAME_ANONYMOUS && record->live == cpu + 1 &&
                          record->link_prev == before.index,
                      "page %x of kind %u in clock %u says clock %u, behind %x and not %x",
                      at.index, record->kind, cpu, record->live - 1U, record->link_prev,
                      before.index);
            before = at;
            at.index = record->link_next;
        }
        CHECK_MSG(pages == clock->size && clock->last == before.index,
                  "clock %u has %lu pages of %lu, and ends in %x, not %x", cpu, pages, clock->size,
                  before.index, clock->last);
    }
}

/* Says of a page in no clock all that its record says, and what the entry is that it names. */
static void report_page(struct pfn page)
{
    const struct frame *record = frame_record(page);
    struct pte entry = {0};

    if (record->back_table != UINT32_MAX) {
        const struct pte *entries = frame_pointer((struct pfn){record->back_table});

        entry = pte_read(&entries[record->back_index % PTE_ENTRIES]);
    }
    ktap_note("page %x in no clock: count %u, flags %x, links %x %x, slot %x, entry %u of table %x "
              "is %lx",
              page.index, record->count, record->flags, record->link_prev, record->link_next,
              record->slot_or_base, record->back_index, record->back_table, entry.word);
}

/* Before the panic: the anonymous frames by their records, and those that are in no clock. */
static void report_pages(void)
{
    const struct memory_map *map = memory_map();
    uint64_t pages = 0;

    for (uint32_t i = 0; i < map->count; i++) {
        const struct memory_range *range = &map->ranges[i];

        for (uint64_t at = range->start; memory_is_ram(range->kind) && at < range->end;
             at += PAGE_SIZE) {
            struct pfn page = pfn_of((struct phys){at});

            pages += frame_record(page)->kind == FRAME_ANONYMOUS;
            if (frame_record(page)->kind == FRAME_ANONYMOUS && frame_record(page)->live == 0)
                report_page(page);
        }
    }
    ktap_note("%lu records are of anonymous frames", pages);
}

void page_audit(const struct tree_census *census)
{
    struct pmm_usage usage = pmm_usage();
    uint64_t tables = 0;

    for (unsigned level = 1; level < ARRAY_COUNT(census->tables); level++)
        tables += census->tables[level];
    CHECK_MSG(usage.by_kind[FRAME_TABLE] == tables, "%lu table frames, %lu reachable tables",
              usage.by_kind[FRAME_TABLE], tables);
    audit_clocks();
    if (usage.by_kind[FRAME_ANONYMOUS] != page_resident() + large_frames())
        report_pages();
    CHECK_MSG(usage.by_kind[FRAME_ANONYMOUS] == page_resident() + large_frames(),
              "%lu anonymous frames, %lu in the clocks, %lu wired, %lu in large pages",
              usage.by_kind[FRAME_ANONYMOUS], page_clock_size(), page_wired(), large_frames());
    CHECK_MSG(swap_references() == census->swapped + swap_cached_pages,
              "slots have %lu counts, %lu entries and %lu ties name them", swap_references(),
              census->swapped, swap_cached_pages);
    pmm_audit();
    swap_audit();
}

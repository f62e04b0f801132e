/* Pages of programs: made, freed, and counted. */
#include "vmm/page/page.h"

#include "cpu/machine.h"
#include "cpu/smp/thread.h"
#include "lib/ktap.h"
#include "pmm/memory_map.h"
#include "swapdisk/area.h"
#include "vmm/page/large.h"
#include "vmm/page/managed.h"
#include "vmm/page/reclaim.h"
#include "vmm/page/shrinker.h"

/* Pages evicted for one allocation: they share one flush and few disk commands. */
#define EVICT_TOGETHER     16U
#define WITHDRAWN_TOGETHER 32U /* freed pages that leave a clock under one hold of its lock */

/* Rounds without a victim before giving up, while other threads have pages out of the clocks and
 * interrupts are off: no thread of this processor can then run and end its own. */
#define ROUNDS_WITHOUT_WAITING 64U

uint64_t resident_limit = UINT64_MAX;
static uint64_t swap_cached_pages;
void page_set_limit(uint64_t frames)
{
    CHECK(frames > EVICT_TOGETHER);
    resident_limit = frames;
}

bool page_try_alloc(enum frame_clear clear, struct pfn *page)
{
    return (resident_limit == UINT64_MAX || page_resident() < resident_limit) &&
           pmm_alloc(FRAME_ANONYMOUS, clear, page) == OK;
}

/* Returns the pages evicted since start, by any processor. */
static uint64_t pages_evicted(void)
{
    return reclaim_counted.written + reclaim_counted.clean;
}

/* Faults that find no frame wait here in order: the first one evicts, and what it frees goes to the
 * next ones, in their order. So searchers do not wait for each other for ever. */
static struct mutex turns;

/* Frees unused pages, evicts, splits, or finds that others did. False: a whole round was vain. */
static bool page_try_round(struct reclaim_round *round, enum status *status)
{
    uint64_t before = pages_evicted();

    *status = OK;
    if (shrinkers_free(EVICT_TOGETHER, true) > 0)
        return true;
    reclaim_round_begin(round);
    do {
        unsigned evicted;
        enum status now = reclaim_some(round, EVICT_TOGETHER, &evicted);

        /* After a disk error some pages stay; it matters only whether others were evicted. */
        if (evicted > 0 || pages_evicted() != before)
            return true;
        if (now != OK)
            *status = now;
    } while (round->looks > 0);
    return large_split_one();
}

/* Makes room, or finds that another processor has. Fails only after a round in which no other
 * thread had pages out of the clocks: those pages may come back, or be evicted. */
static enum status page_make_room(void)
{
    struct reclaim_round round;
    bool found = false;
    enum status status;
    unsigned rounds = 0;

    while (!(found = page_try_round(&round, &status)) && reclaim_round_await_others(&round)) {
        if (!machine_interrupts_on() && ++rounds == ROUNDS_WITHOUT_WAITING)
            break;
    }
    if (found || shrinkers_free(EVICT_TOGETHER, false) > 0)
        return OK;
    return status == OK ? STATUS_NO_MEMORY : status;
}

/* Waits for the turn to make room. Without interrupts nothing can wait: returns false. */
static bool turn_begin(void)
{
    if (!machine_interrupts_on())
        return false;
    mutex_lock(&turns);
    return true;
}

bool page_reclaim_some(void)
{
    bool turn = turn_begin();
    enum status status = page_make_room();

    if (turn)
        mutex_unlock(&turns);
    return status == OK;
}

/* Returns true if others wait for frames: one that comes later does not pass them. */
static bool frames_are_awaited(void)
{
    return __atomic_load_n(&turns.state, __ATOMIC_RELAXED) == MUTEX_WANTED &&
           machine_interrupts_on();
}

enum status page_alloc(enum frame_clear clear, struct pfn *page)
{
    enum status status = OK;
    bool turn;

    if (frames_are_awaited() || !page_try_alloc(clear, page)) {
        turn = turn_begin();
        while (status == OK && !page_try_alloc(clear, page))
            status = page_make_room();
        if (turn)
            mutex_unlock(&turns);
    }
    page_tell_if_low();
    return status;
}

enum status page_reserve_fill(struct page_reserve *reserve, enum frame_clear clear)
{
    if (pfn_is_none(reserve->page)) {
        reserve->cleared = clear == FRAME_CLEARED;
        return page_alloc(clear, &reserve->page);
    }
    if (clear == FRAME_CLEARED && !reserve->cleared) {
        machine_clear_frame(frame_pointer(reserve->page));
        reserve->cleared = true;
    }
    return OK;
}

void page_reserve_drain(struct page_reserve *reserve)
{
    tree_reserve_drain(&reserve->tables);
    if (!pfn_is_none(reserve->page))
        pmm_free(page_reserve_take(reserve));
}

uint64_t shrinkers_free(uint64_t pages, bool first_only)
{
    uint64_t freed = 0;

    for (const struct shrinker *const *at = __start_shrinkers;
         at < __stop_shrinkers && freed < pages; at++) {
        CHECK((*at)->free != NULL);
        if ((*at)->first || !first_only)
            freed += (*at)->free(pages - freed);
    }
    return freed;
}

/* ---- swap cache and ends ---- */

uint64_t swap_cache_size(void)
{
    return __atomic_load_n(&swap_cached_pages, __ATOMIC_RELAXED);
}

void swap_cache_add(struct pfn page, struct slot slot)
{
    struct frame *record = frame_record(page);

    CHECK((record->flags & FRAME_SWAP_CACHED) == 0);
    CHECK(slot.index != UINT32_MAX && record->kind == FRAME_ANONYMOUS);
    record->page.slot = slot.index;
    __atomic_or_fetch(&record->flags, FRAME_SWAP_CACHED, __ATOMIC_RELAXED);
    __atomic_add_fetch(&swap_cached_pages, 1, __ATOMIC_RELAXED);
}

/* Completes the removal from the swap cache, after the flag is cleared. Returns false if another
 * thread has removed the page since the caller's look: a last owner (swap_cache_remove_alone) and
 * one that needs the slot (swap_cache_remove_unnamed) may do so at once. */
static bool swap_cache_release_slot(struct pfn page)
{
    uint32_t *at = &frame_record(page)->page.slot;
    struct slot slot = {__atomic_exchange_n(at, UINT32_MAX, __ATOMIC_ACQ_REL)};

    if (slot.index == UINT32_MAX)
        return false;
    __atomic_sub_fetch(&swap_cached_pages, 1, __ATOMIC_RELAXED);
    swap_release(slot);
    return true;
}

void swap_cache_remove(struct pfn page)
{
    CHECK((frame_record(page)->flags & FRAME_SWAP_CACHED) != 0);
    rmap_clear_flag(page, FRAME_SWAP_CACHED);
    if (!swap_cache_release_slot(page))
        PANIC("page %x is cached without a slot", page.index);
}

bool swap_cache_remove_unnamed(struct pfn page)
{
    struct slot slot = {__atomic_load_n(&frame_record(page)->page.slot, __ATOMIC_RELAXED)};

    CHECK(frame_record(page)->clock == 0);
    if (slot.index == UINT32_MAX || swap_count(slot) != 1)
        return false;
    rmap_clear_flag(page, FRAME_SWAP_CACHED);
    return swap_cache_release_slot(page);
}

bool swap_cache_remove_alone(struct pfn page)
{
    if (!tree_claim(page, FRAME_SWAP_CACHED))
        return false;
    (void)swap_cache_release_slot(page);
    return true;
}

/* Cleans up after the last reference: the swap cache's slot, or the wired state. No transfer can be
 * in progress, since it would hold the page. */
static void page_finish_free(struct pfn page)
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
    for (unsigned at = 0; at < count; at += WITHDRAWN_TOGETHER)
        page_withdraw_freed(&pages[at], (unsigned)min_u64(count - at, WITHDRAWN_TOGETHER));
    /* holds: the pages; only their slots still refer to them */
    pmm_free_many(pages, count, FRAME_ANONYMOUS, FRAME_SWAP_CACHED | FRAME_IO | FRAME_WIRED,
                  page_finish_free);
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
    (void)page_withdraw(page); /* an evicted page is in no clock */
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

/* Withdraws a page for a merge. Returns false, with the page back in its clock, if others hold it.
 * Once out of the clock a page can only be found in the swap cache; so it leaves that too, if its
 * count shows that no CPU has found it there. */
static bool page_take_for_merge(struct pfn page, unsigned order)
{
    const struct frame *record = frame_record(page);
    bool alone;

    CHECK((record->flags & FRAME_SHARED) == 0); /* rule S2 */
    if (order > 0)
        return large_take(page);
    if (!page_withdraw(page))
        return false;
    alone = (record->flags & FRAME_SWAP_CACHED) != 0
                ? swap_cache_remove_alone(page)
                : __atomic_load_n(&record->count, __ATOMIC_ACQUIRE) == 1;
    if (!alone)
        page_publish(page);
    return alone;
}

/* Makes a page that a merge has taken resident again. */
static void page_republish(struct pfn page, unsigned order)
{
    CHECK(!page_is_wired(page));
    if (order > 0)
        large_publish(page);
    else
        page_publish(page);
}

const struct tree_hooks *page_hooks(void)
{
    static const struct tree_hooks hooks = {.slot_hold = swap_hold,
                                            .slot_release = swap_release,
                                            .page_free_last = page_free_last,
                                            .pages_free_last = pages_free_last,
                                            .page_split = large_split_parts,
                                            .page_take = page_take_for_merge,
                                            .page_put = page_republish};

    return &hooks;
}

/* ---- wired pages ----
 *
 * Eviction, merging of zeroes, deactivation and splitting find pages in the clocks and in the list
 * of large pages, and withdraw a page first. A wired page is in none of them, so that none of these
 * needs a check. */

/* Frames in wired pages; changed atomically. */
static uint64_t wired;

static uint64_t wired_frames_of(const struct frame *record)
{
    return (record->flags & FRAME_BLOCK) != 0 ? UINT64_C(1) << record->level : 1;
}

uint64_t page_wired(void)
{
    return __atomic_load_n(&wired, __ATOMIC_RELAXED);
}

uint64_t page_resident(void)
{
    return page_clock_size() + page_wired();
}

void page_mark_wired(struct pfn page)
{
    struct frame *record = frame_record(page);

    CHECK_MSG(record->kind == FRAME_ANONYMOUS &&
                  (record->flags & (FRAME_WIRED | FRAME_SWAP_CACHED | FRAME_IO)) == 0,
              "page %x of kind %u with flags %x is to be wired", page.index, record->kind,
              record->flags);
    __atomic_or_fetch(&record->flags, FRAME_WIRED, __ATOMIC_RELAXED);
    __atomic_add_fetch(&wired, wired_frames_of(record), __ATOMIC_RELAXED);
}

void page_forget_wire(struct pfn page)
{
    struct frame *record = frame_record(page);

    CHECK((record->flags & FRAME_WIRED) != 0 && page_wired() >= wired_frames_of(record));
    __atomic_and_fetch(&record->flags, (uint8_t)~FRAME_WIRED, __ATOMIC_RELAXED);
    __atomic_sub_fetch(&wired, wired_frames_of(record), __ATOMIC_RELAXED);
}

bool page_wire(struct pfn page)
{
    if ((frame_record(page)->flags & FRAME_BLOCK) != 0)
        large_withdraw(page); /* a split locks the table first */
    else if (!page_withdraw(page))
        return false;
    page_mark_wired(page);
    return true;
}

void page_unwire(struct pfn page)
{
    page_forget_wire(page);
    if ((frame_record(page)->flags & FRAME_BLOCK) != 0)
        large_publish(page);
    else
        page_publish(page);
}

/* ---- proof ---- */

/* Logs the record of a page in no clock, and the entry of its back pointer. */
static void report_page(struct pfn page)
{
    const struct frame *record = frame_record(page);
    struct pte entry = {0};

    if (record->page.back_table != UINT32_MAX) {
        const struct pte *entries = frame_pointer((struct pfn){record->page.back_table});

        entry = pte_read(&entries[record->page.back_index % PTE_ENTRIES]);
    }
    ktap_note("page %x in no clock: count %u, flags %x, links %x %x, slot %x, entry %u of table %x "
              "is %lx",
              page.index, record->count, record->flags, record->page.list_prev,
              record->page.list_next, record->page.slot, record->page.back_index,
              record->page.back_table, entry.word);
}

/* Counts the anonymous frames by their records, and logs those in no clock. */
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
            if (frame_record(page)->kind == FRAME_ANONYMOUS && frame_record(page)->clock == 0)
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
    page_clock_audit();
    managed_audit();
    if (usage.by_kind[FRAME_ANONYMOUS] != page_resident() + large_frames())
        report_pages();
    CHECK_MSG(usage.by_kind[FRAME_ANONYMOUS] == page_resident() + large_frames(),
              "%lu anonymous frames, %lu in the clocks, %lu wired, %lu in large pages",
              usage.by_kind[FRAME_ANONYMOUS], page_clock_size(), page_wired(), large_frames());
    CHECK_MSG(swap_references() == census->swapped + swap_cached_pages,
              "slots have %lu counts, %lu entries and %lu cached pages name them",
              swap_references(), census->swapped, swap_cached_pages);
    pmm_audit();
    swap_audit();
}

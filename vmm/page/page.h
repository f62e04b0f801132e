/*
 * The pages of programs: the limit of resident pages, the order in which reclaim visits them, and
 * the end of a page without references.
 *
 * Each processor has its own clock, a list in order of arrival. A new page joins the clock of the
 * processor that allocated it, whose lock is nearly always free. The hand goes around one clock,
 * then around the next.
 *
 * Units: frames of 4 KiB. Owns: the lists of resident pages (the clocks); in the record of a page
 * its links and `live`, the number of its clock. State of a page: page_alloc -> page_publish -> in
 * a clock, then mapped (resident) -> page_withdraw (being evicted) -> evicted, or back by
 * page_publish; page_free_last frees it. Rule: a page enters a clock before an entry maps it as a
 * leaf. Outside of a clock the page has one owner: its allocator, or the caller for whom
 * page_withdraw returned true. Entries in transit may reference it meanwhile; a hold and FRAME_IO
 * make others that find it wait. FRAME_IO ends when the page is published and no entry is in
 * transit, or when it leaves the swap cache. A wired page is in no clock, so that reclaim never
 * finds it. One entry maps it, along an own path; wiring and unwiring lock that entry's table.
 * Protectors: (k) the clock's lock, taken with interrupts off, inside every other lock. Fails
 * with: STATUS_NO_MEMORY when neither a free frame nor a page to evict is left; what evicting
 * fails with (STATUS_IO, STATUS_NO_SPACE). Context: a fault or a thread without any table lock;
 * page_alloc may wait for the disk.
 */
#ifndef VMM_PAGE_PAGE_H
#define VMM_PAGE_PAGE_H

#include "cpu/cpu.h"
#include "cpu/smp/spin.h"
#include "lib/status.h"
#include "paging/tree/tree.h"
#include "pmm/pmm.h"

/* Initialises the clocks. Called once, after pmm_init. */
void page_init(void);

/* Sets the limit of resident anonymous pages; UINT64_MAX: memory is the only limit. */
void page_set_limit(uint64_t frames);
extern uint64_t resident_limit;

/* Returns how many pages may become resident before one must be evicted; 0 also while memory is
 * low, UINT64_MAX without a limit. */
uint64_t page_room(void);

/* Sets the function that page_alloc calls when less room than `low` is left; NULL: none. */
void page_on_low(void (*wake)(void), uint64_t low);

/* Allocates a frame for a page; evicts others if the limit is reached or memory is short. Those
 * that have to wait get their frames in the order of their calls. */
MUST_USE enum status page_alloc(enum frame_clear clear, struct pfn *page);

/* As page_alloc, but fails instead of evicting or waiting. */
bool page_try_alloc(enum frame_clear clear, struct pfn *page);

/* Memory that a fault sets aside before it takes a lock (rule C7). */
struct page_reserve {
    struct tree_reserve tables;
    struct pfn page; /* PFN_NONE if none is set aside */
    bool cleared;    /* the page is zero */
};

/* Sets a page aside, if none is yet, and clears it if asked to. The caller holds no lock. */
MUST_USE enum status page_reserve_fill(struct page_reserve *reserve, enum frame_clear clear);

/* Takes the page; the caller owns it. */
static inline struct pfn page_reserve_take(struct page_reserve *reserve)
{
    struct pfn page = reserve->page;

    CHECK(!pfn_is_none(page));
    reserve->page = PFN_NONE;
    return page;
}

/* Frees what was set aside and not taken. */
void page_reserve_drain(struct page_reserve *reserve);

/* Evicts pages to make room for tables and objects. Returns true if memory was freed, so that the
 * caller should retry. No table lock or TLB batch may be open. */
bool page_reclaim_some(void);

/* Adds the page to the tail of the running processor's clock. Only the caller can find the page, or
 * it has a hold and FRAME_IO on it; a table may be locked. */
void page_publish(struct pfn page);

/* Removes the page from its clock. If several call at once, returns true to one of them. */
bool page_withdraw(struct pfn page);

/* Returns the page under the hand, with a hold, and advances the hand by one. PFN_NONE: the clocks
 * are empty. */
struct pfn page_clock_next(void);

/* Makes a page the next candidate for eviction, if it is in a clock. */
void page_deactivate(struct pfn page);

/* Return the number of pages in all clocks, without and with wired pages. */
uint64_t page_clock_size(void);
uint64_t page_resident(void);

/* Removes a page, or a large page, from its clock or list until page_unwire adds it again. Returns
 * false if another CPU has just withdrawn it; the caller retries. The caller has locked the table
 * of its entry, which is own or withheld. */
MUST_USE bool page_wire(struct pfn page);
void page_unwire(struct pfn page);

static inline bool page_is_wired(struct pfn page)
{
    return (__atomic_load_n(&frame_record(page)->flags, __ATOMIC_RELAXED) & FRAME_WIRED) != 0;
}

/* Returns the number of frames in wired pages. */
uint64_t page_wired(void);

/* Used within vmm/page/: mark a page that is in no clock as wired, and end that before it is freed
 * or split. */
void page_mark_wired(struct pfn page);
void page_forget_wire(struct pfn page);

/* Withdraws those pages that are in a clock. Their counts are 0. */
void page_withdraw_freed(const struct pfn *pages, unsigned count);

/* Panics if a clock's list is damaged or its size is wrong. */
void page_clock_audit(void);

/* Add a page to the swap cache, under the slot that it was read from, with one of the caller's
 * counts of the slot; remove it, and drop that count (rule C9). */
void swap_cache_add(struct pfn page, struct slot slot);
void swap_cache_remove(struct pfn page);

/* As swap_cache_remove, but only if no entry names the slot: then none can find the page by it. The
 * caller has withdrawn the page and holds it; FRAME_IO is clear, or set by the caller's own
 * eviction. Returns false otherwise. */
MUST_USE bool swap_cache_remove_unnamed(struct pfn page);

/* Returns the number of pages in the swap cache. */
uint64_t swap_cache_size(void);

/* As swap_cache_remove, but only if the page's count is 1: then no other entry has found it in the
 * swap cache. Returns false otherwise. */
MUST_USE bool swap_cache_remove_alone(struct pfn page);

/* If a transfer holds a count of the page, waits a moment and returns true: the caller retries, and
 * spares a copy. The look under the table's lock decides whether the page is copied (rule P2). */
static inline bool page_await_transfer(struct pfn page)
{
    if ((__atomic_load_n(&frame_record(page)->flags, __ATOMIC_ACQUIRE) & FRAME_IO) == 0)
        return false;
    machine_relax();
    return true;
}

/* Returns the functions that the tree calls. */
const struct tree_hooks *page_hooks(void);

/* Counts an event for the log; safe on several processors at once. */
static inline void count_event(uint64_t *counter)
{
    __atomic_add_fetch(counter, 1, __ATOMIC_RELAXED);
}

/* Drops a reference; frees the page at zero. */
void page_release(struct pfn page);

/* Compares clocks, ledger, slots and the census of all trees; panics on a difference. */
void page_audit(const struct tree_census *census);

/* ---- the fast path ---- */

_Static_assert(sizeof(struct page_clock) == 64, "one cache line, locked and changed together");

/* One bit for each clock that ever had a page. */
extern uint64_t page_clocks_begun;

/* Inserts the first page of a locked clock; from now on the hand visits the clock. */
static inline void page_clock_begin(struct page_clock *clock, struct pfn page)
{
    clock->first = page.index;
    __atomic_or_fetch(&page_clocks_begun, clock->bit, __ATOMIC_RELEASE);
}

static inline struct page_clock *page_clock_beside(struct pmm_cache *caches)
{
    return &caches[PMM_CACHE_ANY].clock;
}

static inline struct page_clock *page_clock_of(unsigned cpu)
{
    return page_clock_beside(pmm_caches_of(cpu));
}

#endif

/*
 * Pages that a policy manages, instead of the clocks with their second chances.
 *
 * The clocks of the processors remain as lists of arrivals: faults add pages to them as without a
 * policy. Before it evicts, reclaim moves the arrivals into one more clock, the managed one, whose
 * lock also protects the policy. It clears their A bits, since the access that brought a page in
 * does not count as a use.
 *
 * Units: pages. Owns: the nodes of the policy, by frame and by slot. The ghost of an evicted page
 * belongs to its frame while that is written, then to its slot; freeing the slot ends the ghost
 * (rule D15). State: managed_choose(policy) -> managed_choose(NULL). Protectors: the managed
 * clock's lock, inside every other lock. Fails with: STATUS_NO_MEMORY, by managed_choose only.
 * Context: as page.h; managed_choose while no other thread faults or reclaims. Rules: D10, D13,
 * D15.
 */
#ifndef VMM_PAGE_MANAGED_H
#define VMM_PAGE_MANAGED_H

#include "swapdisk/area.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"
#include "vmm/policy/policy.h"

/* The managed clock's number, which follows those of the processors, and the value in the records
 * of its pages. */
#define MANAGED_CLOCK CPU_MAX
#define PAGE_MANAGED  ((uint16_t)(MANAGED_CLOCK + 1))

/* The state of a page in its record, for the policy's driver. */
enum page_history {
    PAGE_RETURNED = 1,  /* it came from a slot */
    PAGE_COLD = 2,      /* by page_deactivate: evicted before the policy is asked */
    PAGE_READ_AHEAD = 4 /* nothing is known to have used it since it was read ahead */
};

/* The policy that chooses victims; NULL: the clocks. */
extern const struct policy *managed_policy;

/* Chooses a policy, with room for this many resident pages, and as many ghosts. */
MUST_USE enum status managed_choose(const struct policy *policy, uint64_t pages);

/* The slow parts of the three functions below. */
void managed_slot_comes(struct slot slot);
void managed_page_returns(struct pfn page, struct slot slot);
void managed_page_went(struct pfn page, struct slot slot);

/* Tells the policy that a fault will read this slot, before room is made for the page. */
static inline void managed_ghost_hit(struct slot slot)
{
    if (__builtin_expect(managed_policy != NULL, 0))
        managed_slot_comes(slot);
}

/* Moves a slot's ghost to the page that the slot is read into. The page is in no clock yet. */
static inline void managed_returns(struct pfn page, struct slot slot)
{
    if (__builtin_expect(managed_policy != NULL, 0))
        managed_page_returns(page, slot);
}

/* Moves a page's ghost to the slot, once only the slot has the content. The page is in no clock. */
static inline void managed_went(struct pfn page, struct slot slot)
{
    if (__builtin_expect(managed_policy != NULL, 0))
        managed_page_went(page, slot);
}

/* ---- used within vmm/page/ ---- */

/* Most pages that are evicted together. */
#define VICTIMS_MAX SWAP_WRITE_OUT_MAX

/* A page with more references than this is not evicted: that would take long, and many use it. */
#define POINTERS_MAX 8U

/* A page being evicted, and its entries. */
struct victim {
    struct pfn page;
    struct slot slot;
    bool busy; /* has references that were not found */
    bool clean;
    bool done;         /* its content is safe in the slot, or needs none */
    bool zero;         /* it contains only zeros: its entries become the zero page */
    bool keeps_frame;  /* it cannot become the zero page: withheld, or a copy of a section's page */
    bool shared;       /* of a section; the one pointer is the section's own entry */
    bool writes;       /* it is to be written, to a slot of its own */
    bool dropped;      /* its content is not kept: the pager makes it again */
    bool comes_again;  /* shared: if clean, the pager can make it again */
    unsigned recalled; /* shared leaves that became tickets; we own their counts */
    unsigned pointer_count;
    struct tree_pointer pointers[POINTERS_MAX];
};

extern struct reclaim_counts reclaim_counted;

/* Finds the entries of a page, which the caller holds. Unless `used` is NULL, clears their A bits
 * and sets it to whether one was set. Returns false if one is missing, or the page in transit. */
bool victim_look(struct victim *victim, bool *used);

/* Returns true if the page may go although the swap area takes none. */
bool victim_needs_no_write(struct pfn page);

/* Locks the table of a pointer with interrupts off, waiting for others that hold it. Returns false
 * if the entry does not name the page any more. */
bool victim_lock_pointer(struct tree_pointer pointer, struct pfn page, bool *were_on);
void victim_unlock_pointer(struct tree_pointer pointer, bool were_on);

/* Returns the functions of the owner of shared pages. The caller has seen such a page. */
const struct reclaim_shared *reclaim_shared_owner(void);

/* Calls the function of page_on_low, if there is one and little room is left. */
void page_tell_if_low(void);

/* Withdraws a page at once, so that it is not chosen twice. Returns false while FRAME_IO is set. */
bool victim_withdraw(struct pfn page);

/* Returns true if the page contains only zeros: after a flush of its last writable translation for
 * good, before that at the moment. */
bool page_reads_as_zeros(struct pfn page);

/* Sorts victims by table and index: neighbours in memory become neighbours on the disk, which one
 * command writes now, and reads later. order[i] is the place of the i-th. */
void victims_sort(const struct victim *victims, unsigned count, uint8_t *order);

/* Evicts the chosen pages together (evict.c). Each is in no clock and has a count of the caller,
 * which is dropped. Adds to *evicted those that are out. */
MUST_USE enum status victims_evict(struct victim *victims, unsigned count, unsigned *evicted);

/* As reclaim_choose, but by the policy, and at most one victim. */
unsigned victim_choose_by_policy(struct reclaim_round *round, struct victim *victim);

/* Moves the first page of a processor's clock into the managed clock and returns it; PFN_NONE if
 * the clock is empty or `manage` refuses the page. */
struct pfn page_clock_manage_first(unsigned cpu, bool (*manage)(struct pfn page));

/* Moves the managed clock's first page into the processor's clock. False: there is none. */
bool page_clock_unmanage_first(void);

/* As page_clock_next, of the managed clock. */
struct pfn page_clock_next_managed(void);

/* As page_withdraw, for a victim of the policy. */
bool page_withdraw_managed(struct pfn page);

/* Called under the managed clock's lock when a page leaves it: freed, or as a victim. */
void managed_left(struct pfn page);
void managed_goes(struct pfn page);

void managed_audit(void);

#endif

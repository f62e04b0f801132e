/*
 * Pages that a policy manages, in the place of the clocks with their second chances.
 *
 * The clocks of the processors stay as lists of arrival: faults add to them as ever. When pages are
 * to go, reclaim first moves the arrivals into one more clock, the managed one, whose lock protects
 * the policy too, and clears their A bits: the use that made a page come is not another one.
 *
 * Units: pages. Owns: the nodes of the policy, by frame and by slot. A page that goes leaves its
 * ghost with its frame, then with its slot; a slot that ends takes its ghost along (rule D15).
 * State: managed_choose(policy) -> managed_choose(NULL). Protectors: the managed clock's lock,
 * inside every other lock. Fails with: STATUS_NO_MEMORY, by managed_choose only. Context: as
 * page.h; managed_choose while no other thread faults or reclaims.
 * Rules: D10, D13, D15.
 */
#ifndef VMM_PAGE_MANAGED_H
#define VMM_PAGE_MANAGED_H

#include "swapdisk/area.h"
#include "vmm/page/page.h"
#include "vmm/page/reclaim.h"
#include "vmm/policy/policy.h"

/* The managed clock, behind those of the processors, and what the records of its pages say. */
#define MANAGED_CLOCK CPU_MAX
#define PAGE_MANAGED  ((uint16_t)(MANAGED_CLOCK + 1))

/* The policy that chooses victims; NULL: the clocks. */
extern const struct policy *managed_policy;

/* Chooses a policy, with room for this many resident pages, and as many ghosts. */
MUST_USE enum status managed_choose(const struct policy *policy, uint64_t pages);

/* The slow parts of what follows. */
void managed_slot_comes(struct slot slot);
void managed_page_returns(struct pfn page, struct slot slot);
void managed_page_went(struct pfn page, struct slot slot);

/* A fault is going to read a slot, and may have to make room first. */
static inline void managed_coming(struct slot slot)
{
    if (__builtin_expect(managed_policy != NULL, 0))
        managed_slot_comes(slot);
}

/* A slot is read into a page, which is in no clock yet. */
static inline void managed_returns(struct pfn page, struct slot slot)
{
    if (__builtin_expect(managed_policy != NULL, 0))
        managed_page_returns(page, slot);
}

/* The content of a page that is in no clock is in a slot only. */
static inline void managed_went(struct pfn page, struct slot slot)
{
    if (__builtin_expect(managed_policy != NULL, 0))
        managed_page_went(page, slot);
}

/* ---- used within vmm/page/ ---- */

/* A page that reclaim looks at and evicts. */
#define VICTIMS_MAX SWAP_WRITE_OUT_MAX

/* A page with more references than this stays: evicting it takes long, and many use it. */
#define POINTERS_MAX 8U

/* A page being evicted, and its entries. */
struct victim {
    struct pfn page;
    struct slot slot;
    bool busy; /* named by others than were found */
    bool clean;
    bool done;         /* its content is safe in the slot */
    bool shared;       /* a section's: the one entry that is found is the section's */
    bool dropped;      /* without a slot, since it comes again */
    bool comes_again;  /* shared: if clean, it is dropped without a slot */
    unsigned recalled; /* shared leaves that became tickets, whose counts are ours */
    unsigned pointer_count;
    struct tree_pointer pointers[POINTERS_MAX];
};

extern struct reclaim_counts reclaim_counted;

/* Finds the entries of a page; false: not all of them, or the page is in transit. */
bool victim_find_pointers(struct victim *victim, const struct frame *record);

/* Clears the A bits of the entries that were found. Returns true if one was set. */
bool victim_take_accessed(const struct victim *victim);

/* As reclaim_choose, by the policy: at most one. */
unsigned victim_choose_by_policy(struct reclaim_round *round, struct victim *victim);

/* Moves a processor's first page into the managed clock and returns it; PFN_NONE: there is none, or
 * `manage` refuses it. */
struct pfn page_clock_manage_first(unsigned cpu, bool (*manage)(struct pfn page));

/* Moves the managed clock's first page into the running processor's; false: it is empty. */
bool page_clock_unmanage_first(void);

/* As page_clock_next, of the managed clock. */
struct pfn page_clock_next_managed(void);

/* As page_withdraw, for a victim of the policy. */
bool page_withdraw_managed(struct pfn page);

/* Under the managed clock's lock: a managed page leaves it for good, or as a victim. */
void managed_left(struct pfn page);
void managed_goes(struct pfn page);

void managed_audit(void);

#endif

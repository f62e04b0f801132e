/* Pages that a policy manages: the node of each frame and slot, and the choice of victims. */
#include "vmm/page/managed.h"

#include "cpu/machine.h"
#include "swapdisk/area/slots.h"
#include "vmm/policy/array.h"

/* A harvest is due after arrivals of 1/8 of the resident pages. */
#define HARVEST_SHARE 8U

/* Nodes beyond those of resident pages and as many ghosts: each processor may be moving a page in
 * or out. */
#define NODES_SPARE (2 * CPU_MAX)

/* Set in policy_page of a ghost whose page is in a slot; else the page is a frame that is being
 * read or written. */
#define OF_SLOT (UINT32_C(1) << 31)

const struct policy *managed_policy;

static struct {
    struct paged_array by_frame;         /* nodes */
    struct paged_array by_slot;          /* ghosts */
    const struct policy_node *ghost_hit; /* the ghost that `ghost_hit` was last called for */
    uint64_t inserted;                   /* arrivals since the last harvest */
} managed;

static bool managed_lock(void)
{
    bool were_on = machine_interrupts_off();

    spin_lock(&page_clock_of(MANAGED_CLOCK)->lock);
    return were_on;
}

static void managed_unlock(bool were_on)
{
    spin_unlock(&page_clock_of(MANAGED_CLOCK)->lock);
    machine_interrupts_restore(were_on);
}

static struct policy_node **node_of_frame(struct pfn page)
{
    return array_at(&managed.by_frame, page.index);
}

static struct policy_node **node_of_slot(struct slot slot)
{
    return array_at(&managed.by_slot, slot.index);
}

/* Clears the pointer to a ghost that the policy has forgotten; `page` is its policy_page. */
static void managed_forgotten(uint32_t page)
{
    if ((page & OF_SLOT) != 0)
        *node_of_slot((struct slot){page & ~OF_SLOT}) = NULL;
    else
        *node_of_frame((struct pfn){page}) = NULL;
}

/* Ends a ghost, if there is one. */
static void end_ghost(struct policy_node **ghost)
{
    if (*ghost != NULL)
        policy_left(*ghost);
    *ghost = NULL;
}

/* ---- inserting and leaving ---- */

void managed_slot_comes(struct slot slot)
{
    bool were_on = managed_lock();
    struct policy_node *ghost = *node_of_slot(slot);

    /* A retried fault calls `ghost_hit` only once. */
    if (ghost != NULL && ghost != managed.ghost_hit && managed_policy->ghost_hit != NULL)
        managed_policy->ghost_hit(ghost);
    managed.ghost_hit = ghost;
    managed_unlock(were_on);
}

void managed_page_returns(struct pfn page, struct slot slot)
{
    bool were_on = managed_lock();
    struct policy_node **ghost = node_of_slot(slot);

    CHECK((frame_record(page)->flags & FRAME_IO) != 0 && frame_record(page)->clock == 0);
    end_ghost(node_of_frame(page)); /* of a page that ended before it was managed */
    if (*ghost != NULL) {
        policy_set_page(*ghost, page.index);
        *node_of_frame(page) = *ghost;
        *ghost = NULL;
        frame_record(page)->page.history = PAGE_RETURNED;
    }
    managed_unlock(were_on);
}

void managed_page_went(struct pfn page, struct slot slot)
{
    bool were_on = managed_lock();
    struct policy_node **ghost = node_of_frame(page);

    CHECK(frame_record(page)->clock == 0);
    end_ghost(node_of_slot(slot));
    CHECK(slot.index < OF_SLOT && page.index < OF_SLOT);
    if (*ghost != NULL) {
        policy_set_page(*ghost, slot.index | OF_SLOT);
        *node_of_slot(slot) = *ghost;
        *ghost = NULL;
    }
    managed_unlock(were_on);
}

/* Ends the ghost of a freed slot: the slot's next content is another page (rule D15). */
static void managed_slot_freed(struct slot slot)
{
    bool were_on = managed_lock();

    end_ghost(node_of_slot(slot));
    managed_unlock(were_on);
}

void managed_left(struct pfn page)
{
    end_ghost(node_of_frame(page));
}

/* Turns the node of a victim into a ghost. The ghost stays with the frame until the content is in a
 * slot; if the eviction fails, the page returns by it. */
void managed_goes(struct pfn page)
{
    struct policy_node **node = node_of_frame(page);

    CHECK(*node != NULL && policy_page(*node) == page.index);
    *node = policy_goes(*node);
    frame_record(page)->page.history = PAGE_RETURNED;
}

/* ---- for reclaim ---- */

/* Gives an arrival a node and a hold; both clocks are locked. Returns false for a page without
 * references, which is about to leave its clock. */
static bool managed_take(struct pfn page)
{
    struct policy_node **node = node_of_frame(page);
    struct frame *record = frame_record(page);

    if (!tree_try_hold(page))
        return false;
    CHECK(record->kind == FRAME_ANONYMOUS);
    if ((record->page.history & PAGE_RETURNED) == 0)
        end_ghost(node); /* of another page, which ended before it was managed */
    record->page.history &= PAGE_COLD;
    *node = policy_insert(*node, page.index);
    CHECK_MSG(*node != NULL, "page %x finds no node, of %lu pages and %lu ghosts", page.index,
              policy_resident(), policy_ghosts());
    managed.inserted++;
    managed.ghost_hit = NULL;
    return true;
}

/* Moves the first page of some processor's clock into the managed clock and returns it with a hold;
 * PFN_NONE if all have been moved. */
static struct pfn managed_adopt(void)
{
    for (unsigned cpu = 0; cpu < CPU_MAX; cpu++) {
        struct pfn page = PFN_NONE;

        if (page_clock_of(cpu)->size > 0)
            page = page_clock_manage_first(cpu, managed_take);
        if (!pfn_is_none(page))
            return page;
    }
    return PFN_NONE;
}

/* Returns the candidate with a hold: a page advised to be cold, else the policy's. PFN_NONE: no
 * page is managed, or the candidate is being freed. */
static struct pfn managed_next(void)
{
    bool were_on = managed_lock();
    struct pfn page = PFN_NONE;

    if (policy_resident() > 0) {
        page.index = page_clock_of(MANAGED_CLOCK)->first;
        if (frame_record(page)->page.history != PAGE_COLD)
            page.index = policy_page(managed_policy->next());
        CHECK(frame_record(page)->clock == PAGE_MANAGED);
        if (!tree_try_hold(page))
            page = PFN_NONE;
    }
    managed_unlock(were_on);
    return page;
}

/* Tells the policy that a page was used. A page is dirty if its eviction needs a write. */
static void managed_used(struct pfn page, bool dirty)
{
    bool were_on = managed_lock();
    struct policy_node *node = *node_of_frame(page);

    if (frame_record(page)->clock == PAGE_MANAGED) {
        frame_record(page)->page.history = 0;
        if (dirty)
            policy_dirty(node);
        if (managed_policy->used != NULL)
            managed_policy->used(node);
    }
    managed_unlock(were_on);
}

/* Gives a candidate that cannot be evicted now a fresh node, as for a new arrival. */
static void managed_pass(struct pfn page)
{
    bool were_on = managed_lock();
    struct policy_node **node = node_of_frame(page);

    if (frame_record(page)->clock == PAGE_MANAGED) {
        end_ghost(node);
        frame_record(page)->page.history = 0;
        *node = policy_insert(NULL, page.index);
        CHECK(*node != NULL);
    }
    managed_unlock(were_on);
}

/* Begins a harvest if enough pages have come since the last one. Returns whether it did. */
static bool managed_harvest_begin(void)
{
    bool were_on = managed_lock();
    bool due = managed_policy->harvests && managed.inserted >= policy_resident() / HARVEST_SHARE;

    policy_set_capacity(max_u64(policy_resident(), 1));
    if (due) {
        managed.inserted = 0;
        if (managed_policy->round != NULL)
            managed_policy->round();
    }
    managed_unlock(were_on);
    return due;
}

/* ---- victims, in the place of those that the clocks name ---- */

/* Finds the page's entries and, if takes_uses, clears their A bits and sets *used. Returns false if
 * not all entries were found. */
static bool managed_look(struct victim *victim, bool takes_uses, bool *used)
{
    count_event(&reclaim_counted.looked_at);
    *used = false;
    if (!victim_look(victim, takes_uses ? used : NULL)) {
        count_event(&reclaim_counted.busy);
        return false;
    }
    if (*used)
        managed_used(victim->page, (frame_record(victim->page)->flags & FRAME_SWAP_CACHED) == 0);
    return true;
}

/* Moves new pages into the managed clock and clears their A bits: the access that brought a page in
 * does not count as a use. */
static void adopt_arrivals(void)
{
    struct victim arrival = {.slot = SLOT_NONE};

    while (!pfn_is_none(arrival.page = managed_adopt())) {
        bool used;

        if (!managed_policy->blind)
            (void)victim_look(&arrival, &used);
        page_release(arrival.page);
    }
}

/* Tells the policy which pages were used since the last harvest. */
static void harvest_uses(void)
{
    bool used;

    for (uint64_t looks = page_clock_of(MANAGED_CLOCK)->size; looks > 0; looks--) {
        struct victim victim = {.page = page_clock_next_managed(), .slot = SLOT_NONE};

        if (pfn_is_none(victim.page))
            continue;
        (void)managed_look(&victim, true, &used);
        page_release(victim.page);
    }
}

/* Flushes everything, so that later uses set the cleared A bits again. An eviction flushes anyway;
 * this serves a search without a victim (rule D13). */
static void flush_bits(void)
{
    struct tlb_batch batch;

    tlb_begin(&batch, NULL);
    tlb_add_everything(&batch);
    tlb_commit(&batch);
}

/* Withdraws a page from the managed clock. A cold page, which no policy chose, leaves no ghost. */
static bool managed_withdraw(struct pfn page)
{
    return frame_record(page)->page.history == PAGE_COLD ? page_withdraw(page)
                                                         : page_withdraw_managed(page);
}

/* Chooses one victim by the policy: its next choice depends on the page that comes. If the policy
 * names a used page twice in a row, that page is evicted. */
unsigned victim_choose_by_policy(struct reclaim_round *round, struct victim *victim)
{
    struct pfn last = PFN_NONE;
    unsigned chosen = 0;
    bool used;

    adopt_arrivals();
    if (managed_harvest_begin())
        harvest_uses();
    for (; round->looks > 0 && chosen == 0; round->looks--) {
        bool spares = !managed_policy->blind && round->looks > round->spared;

        *victim = (struct victim){.page = managed_next(), .slot = SLOT_NONE};
        if (pfn_is_none(victim->page))
            continue;
        spares = spares && victim->page.index != last.index;
        if ((round->clean_only && !victim_needs_no_write(victim->page)) ||
            !managed_look(victim, spares, &used)) {
            managed_pass(victim->page);
        } else if (used) {
            count_event(&reclaim_counted.second_chances);
            last = victim->page;
        } else {
            chosen = managed_withdraw(victim->page);
        }
        if (chosen == 0)
            page_release(victim->page);
    }
    if (chosen == 0)
        flush_bits();
    return chosen;
}

/* ---- choosing a policy ---- */

static enum status managed_open(const struct policy *policy, uint64_t pages)
{
    uint32_t slots = (uint32_t)max_u64(slots_total(), 1);
    enum status status;

    status = array_open(&managed.by_frame, pmm_frame_limit(), sizeof(struct policy_node *));
    if (status != OK)
        return status;
    status = array_open(&managed.by_slot, slots, sizeof(struct policy_node *));
    if (status == OK) {
        status = policy_start(policy, 2 * pages + NODES_SPARE);
        if (status != OK)
            array_close(&managed.by_slot);
    }
    if (status != OK)
        array_close(&managed.by_frame);
    return status;
}

enum status managed_choose(const struct policy *policy, uint64_t pages)
{
    enum status status;

    CHECK(policy == NULL || pages > 0);
    if (managed_policy != NULL) {
        while (page_clock_unmanage_first()) {
        }
        swap_on_free(NULL);
        managed_policy = NULL;
        policy_stop();
        array_close(&managed.by_slot);
        array_close(&managed.by_frame);
    }
    if (policy == NULL)
        return OK;
    status = managed_open(policy, pages);
    if (status != OK)
        return status;
    managed.ghost_hit = NULL;
    managed.inserted = 0;
    policy_on_forget(managed_forgotten);
    swap_on_free(managed_slot_freed);
    managed_policy = policy;
    return OK;
}

void managed_audit(void)
{
    const struct page_clock *clock = page_clock_of(MANAGED_CLOCK);

    if (managed_policy == NULL) {
        CHECK(clock->size == 0);
        return;
    }
    policy_audit();
    CHECK_MSG(clock->size == policy_resident(), "%lu pages are managed, %lu nodes are resident",
              clock->size, policy_resident());
    for (struct pfn at = {clock->first}; !pfn_is_none(at);
         at.index = frame_record(at)->page.list_next)
        CHECK(*node_of_frame(at) != NULL && policy_page(*node_of_frame(at)) == at.index);
}

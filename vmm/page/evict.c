/* Reclaim: takes the chosen pages out, writes those that are dirty, and ends their transfers. */
#include "cpu/machine.h"
#include "paging/sole/sole.h"
#include "swapdisk/area.h"
#include "vmm/page/managed.h"
#include "vmm/page/shrinker.h"
#include "vmm/page/transfer.h"

/* Slots that one search frees when none is left: enough for a batch. */
#define SLOTS_TOGETHER VICTIMS_MAX

/* ---- taking out ---- */

/* Turns the shared leaves of a section's page into tickets. */
static void recall_leaves(struct victim *victim, struct section_family *family, uint64_t place)
{
    const struct reclaim_shared *shared = reclaim_shared_owner();

    victim->comes_again = shared->comes_again(family);
    victim->recalled += shared->recall(family, place, victim->page);
    shared->release(family);
}

/* Returns true if the entry of a page of zeros must not become the zero page: a withheld one, which
 * needs its frame or a slot (rule E3), and one of a table with copies of a section's pages, where
 * the zero page would stand for the section's own (tree_mark_copies). The table is locked. */
static bool entry_keeps_frame(struct tree_pointer at)
{
    const struct pte *entries = frame_pointer(at.table);

    return !pte_present(pte_read(&entries[at.index])) || tree_has_copies(at.table);
}

/* As begin_transit_out, in one pass, for a page with one entry. Returns false if it did nothing. */
static bool begin_sole_out(struct victim *victim)
{
    bool were_on = machine_interrupts_off();
    struct tree_pointer at;
    enum pte_state state = sole_lock(victim->page, &at);
    bool found = state == PTE_LEAF || state == PTE_WITHHELD;

    if (found) {
        victim->pointers[0] = at;
        victim->keeps_frame |= entry_keeps_frame(at);
        transfer_take_sole(victim->page, at);
    }
    if (state != PTE_EMPTY)
        tree_unlock(at.table);
    machine_interrupts_restore(were_on);
    return found;
}

/* Puts the entries in transit and folds their D into the record. Returns false if the page has
 * other references or holds by now: then it is not evicted. FRAME_IO is set before the counts are
 * compared, so that a fault that finds the page in the swap cache either shows in the count or sees
 * the flag. */
static bool begin_transit_out(struct victim *victim)
{
    CHECK(victim->pointer_count > 0 && victim->pointer_count <= POINTERS_MAX);
    transfer_begin_out(victim->page);
    if (victim->pointer_count == 1 && !victim->shared && begin_sole_out(victim))
        return true;
    for (unsigned i = 0; i < victim->pointer_count; i++) {
        struct tree_pointer at = victim->pointers[i];
        struct section_family *family;
        uint64_t place;
        bool were_on;

        if (!victim_lock_pointer(at, victim->page, &were_on))
            continue;
        place = tree_pointer_address(at); /* the table may go with the lock */
        family = victim->shared ? reclaim_shared_owner()->hold(at) : NULL;
        victim->keeps_frame |= entry_keeps_frame(at);
        transfer_take_entry(victim->page, at);
        victim_unlock_pointer(at, were_on);
        if (family != NULL)
            recall_leaves(victim, family, place);
    }
    return tree_all_in_state(victim->page, PTE_TRANSIT);
}

/* Drops the counts of the recalled leaves, which no processor uses after the flush. A section's
 * page is evicted only if the section's own entry is then its one reference: no leaf was missed,
 * and no fault has found it. */
static void finish_recall(struct victim *victim)
{
    CHECK(victim->shared || victim->recalled == 0);
    if (!victim->shared)
        return;
    for (; victim->recalled > 0; victim->recalled--)
        page_release(victim->page);
    victim->busy = !tree_all_in_state(victim->page, PTE_TRANSIT);
    if (victim->busy)
        count_event(&reclaim_counted.busy);
}

static bool zeroes_forbidden;

void reclaim_allow_zeroes(bool allowed)
{
    __atomic_store_n(&zeroes_forbidden, !allowed, __ATOMIC_RELAXED);
}

bool page_reads_as_zeros(struct pfn page)
{
    const uint64_t *words = frame_pointer(page);

    for (unsigned i = 0; i < PAGE_SIZE / sizeof(*words); i++)
        if (__atomic_load_n(&words[i], __ATOMIC_RELAXED) != 0)
            return false;
    return true;
}

/* Returns true if the page becomes the zero page: it needs no slot then (rule S2). */
static bool goes_as_zeroes(const struct victim *victim)
{
    return !victim->shared && !victim->keeps_frame &&
           !__atomic_load_n(&zeroes_forbidden, __ATOMIC_RELAXED) &&
           page_reads_as_zeros(victim->page);
}

bool victim_needs_no_write(struct pfn page)
{
    uint8_t flags = __atomic_load_n(&frame_record(page)->flags, __ATOMIC_RELAXED);

    return (flags & FRAME_SHARED) != 0
               ? (flags & FRAME_DIRTY) == 0
               : (flags & FRAME_SWAP_CACHED) != 0 || page_reads_as_zeros(page);
}

/* Takes a page whose slot's area has died out of the swap cache: it counts as dirty then (rule D2).
 * Returns false if other entries have the slot: they would not find the page any more. */
static bool leave_dead_slot(struct victim *victim)
{
    CHECK(victim->clean && !victim->done);
    if (!swap_cache_remove_unnamed(victim->page))
        return false;
    __atomic_or_fetch(&frame_record(victim->page)->flags, FRAME_DIRTY, __ATOMIC_RELAXED);
    victim->clean = false;
    victim->slot = SLOT_NONE;
    return true;
}

/* Decides how a victim goes. A page in the swap cache was never writable since it was read, so its
 * slot has its content. One of zeros needs no slot: no processor can write to it any more. */
static enum status choose_end(struct victim *victim)
{
    const struct frame *record = frame_record(victim->page);

    /* The flush is done, so the record has all D bits. */
    if (victim->comes_again && (record->flags & FRAME_DIRTY) == 0) {
        victim->clean = true;
        victim->dropped = true;
        victim->done = true;
        return OK;
    }
    victim->clean = (record->flags & FRAME_SWAP_CACHED) != 0;
    if (victim->clean) {
        CHECK((record->flags & FRAME_DIRTY) == 0);
        victim->slot = (struct slot){record->page.slot};
        CHECK_MSG(victim->slot.index != UINT32_MAX, "page %x is cached without a slot",
                  victim->page.index);
        if (swap_serves(victim->slot)) {
            swap_hold(victim->slot);
            victim->done = true;
            return OK;
        }
        if (!leave_dead_slot(victim)) {
            victim->slot = SLOT_NONE;
            return STATUS_IO;
        }
    }
    victim->zero = goes_as_zeroes(victim);
    victim->done = victim->zero;
    victim->writes = !victim->zero;
    return OK;
}

/* Takes up to `wanted` free slots in a row; if there is none, frees some (rules D20, T5). */
static enum status take_run(unsigned wanted, struct slot *first, unsigned *got)
{
    enum status status = swap_alloc_run(wanted, first, got);

    while (status == STATUS_NO_SPACE && (shrinkers_free(SLOTS_TOGETHER, true) > 0 ||
                                         reclaim_free_cached_slots(SLOTS_TOGETHER) > 0))
        status = swap_alloc_run(wanted, first, got);
    return status;
}

/* Gives a slot to each victim that is to be written, in this order. Victims that get none stay. */
static enum status give_slots(struct victim *victims, const uint8_t *order, unsigned count)
{
    enum status status = OK;
    struct slot next = SLOT_NONE;
    unsigned left = 0;
    unsigned wanted = 0;

    for (unsigned i = 0; i < count; i++)
        wanted += victims[i].writes;
    for (unsigned i = 0; i < count && wanted > 0; i++) {
        struct victim *victim = &victims[order[i]];

        if (!victim->writes)
            continue;
        if (left == 0)
            status = take_run(wanted, &next, &left);
        if (status != OK)
            return status;
        victim->slot.index = next.index++;
        left--;
        wanted--;
    }
    CHECK(left == 0);
    return status;
}

/* ---- slots of resident pages (rule D20) ---- */

/* Takes the page out of the swap cache, and frees its slot, if it alone has that: then no entry can
 * find the page there. Only an eviction, which withdraws the page first, may rely on the cache. The
 * caller holds the page. */
static bool free_cached_slot(struct pfn page)
{
    const struct frame *record = frame_record(page);
    bool cut;

    if ((__atomic_load_n(&record->flags, __ATOMIC_ACQUIRE) & FRAME_SWAP_CACHED) == 0 ||
        !victim_withdraw(page))
        return false;
    cut = swap_cache_remove_unnamed(page);
    if (cut)
        count_event(&reclaim_counted.uncached);
    page_publish(page);
    return cut;
}

unsigned reclaim_free_cached_slots(unsigned wanted)
{
    uint64_t looks = swap_cache_size() > 0 ? page_clock_size() : 0;
    unsigned cut = 0;

    for (; looks > 0 && cut < wanted; looks--) {
        struct pfn page = managed_policy != NULL ? page_clock_next_managed() : PFN_NONE;

        if (pfn_is_none(page))
            page = page_clock_next();
        if (pfn_is_none(page))
            continue;
        cut += free_cached_slot(page);
        page_release(page);
    }
    return cut;
}

/* ---- writing ---- */

/* Writes the victims that are not done. A page whose slot is bad gets another one (rule D3). */
static enum status write_victims(struct victim *victims, const uint8_t *order, unsigned count)
{
    struct slot slots[VICTIMS_MAX];
    struct pfn pages[VICTIMS_MAX];
    bool done[VICTIMS_MAX] = {false};
    struct victim *places[VICTIMS_MAX];
    enum status status = OK;
    unsigned dirty = 0;

    for (unsigned i = 0; i < count; i++) {
        struct victim *victim = &victims[order[i]];

        if (victim->done || victim->slot.index == UINT32_MAX)
            continue;
        CHECK((frame_record(victim->page)->flags & FRAME_IO) != 0);
        slots[dirty] = victim->slot;
        pages[dirty] = victim->page;
        places[dirty++] = victim;
    }
    if (dirty > 0)
        status = swap_write_out(slots, pages, dirty, done);
    for (unsigned i = 0; i < dirty; i++) {
        places[i]->slot = slots[i];
        places[i]->done = done[i];
    }
    return status;
}

/* ---- ending ---- */

static void count_evicted(const struct victim *victim)
{
    if ((frame_record(victim->page)->page.history & PAGE_READ_AHEAD) != 0)
        count_event(&reclaim_counted.wasted);
    count_event(victim->clean || victim->zero ? &reclaim_counted.clean : &reclaim_counted.written);
    if (victim->zero)
        count_event(&reclaim_counted.zeroes);
}

/* Ends a victim's transfer. Forks and unmaps may have changed its entries meanwhile, so the end
 * searches for all of them. A page of zeros stays if an entry was withheld meanwhile. Returns
 * whether the page is out. */
static bool reclaim_finish(struct victim *victim)
{
    enum transfer_result result = victim->dropped ? TRANSFER_TICKET
                                  : victim->zero  ? TRANSFER_ZERO
                                  : victim->done  ? TRANSFER_SLOT
                                                  : TRANSFER_LEAF;
    bool out = victim->done;

    CHECK(!victim->done ||
          ((victim->slot.index != UINT32_MAX || victim->dropped || victim->zero) && !victim->busy));
    transfer_end(victim->page, &(struct transfer_end){
                                   .result = result, .slot = victim->slot, .ticket = pte_empty()});
    if (victim->zero)
        out = __atomic_load_n(&frame_record(victim->page)->count, __ATOMIC_ACQUIRE) == 1;
    if (out)
        count_evicted(victim);
    if (victim->slot.index != UINT32_MAX)
        swap_release(victim->slot); /* the transfer's own count */
    page_release(victim->page);     /* likewise */
    return out;
}

/* Keeps victims in memory whose area has died: nothing in it can be read again (rule D2). */
static enum status keep_from_dead_area(struct victim *victims, unsigned count)
{
    enum status status = OK;

    CHECK(count <= VICTIMS_MAX);
    for (unsigned i = 0; i < count; i++) {
        if (!victims[i].done || victims[i].dropped || victims[i].zero ||
            swap_serves(victims[i].slot))
            continue;
        victims[i].done = false;
        status = STATUS_IO;
    }
    return status;
}

void victims_sort(const struct victim *victims, unsigned count, uint8_t *order)
{
    uint64_t keys[VICTIMS_MAX];

    CHECK(count <= VICTIMS_MAX);
    for (unsigned i = 0; i < count; i++) {
        const struct tree_pointer *at = &victims[i].pointers[0];
        uint64_t key = (uint64_t)at->table.index << 16 | at->index;
        unsigned place = i;

        for (; place > 0 && key < keys[place - 1]; place--) {
            keys[place] = keys[place - 1];
            order[place] = order[place - 1];
        }
        keys[place] = key;
        order[place] = (uint8_t)i;
    }
}

/* Finds slots for the victims whose entries are all in transit, and writes them. The writes show
 * whether the area has died, so the last look decides. */
static enum status write_out_victims(struct victim *victims, unsigned count)
{
    uint8_t order[VICTIMS_MAX];
    enum status status = OK;
    enum status given;
    enum status written;
    enum status kept;

    victims_sort(victims, count, order);
    for (unsigned i = 0; i < count; i++) {
        enum status chosen = victims[i].busy ? OK : choose_end(&victims[i]);

        status = chosen != OK ? chosen : status;
    }
    given = give_slots(victims, order, count);
    status = given != OK ? given : status;
    written = write_victims(victims, order, count);
    kept = keep_from_dead_area(victims, count);
    status = kept != OK ? kept : status;
    return written != OK ? written : status;
}

/* Evicts the chosen pages together. holds: one count of each page; they are in no clock. */
enum status victims_evict(struct victim *victims, unsigned count, unsigned *evicted)
{
    enum status status;
    struct tlb_batch batch;

    CHECK(count > 0 && count <= VICTIMS_MAX);
    tlb_begin(&batch, NULL);
    for (unsigned i = 0; i < count; i++)
        victims[i].busy = !begin_transit_out(&victims[i]);
    /* Shared tables are reachable from any space, so everything is flushed (rule P3). */
    tlb_add_everything(&batch);
    tlb_commit(&batch);
    for (unsigned i = 0; i < count; i++)
        finish_recall(&victims[i]);
    /* holds: one count of each page, FRAME_IO; its entries are in transit */
    status = write_out_victims(victims, count);
    for (unsigned i = 0; i < count; i++)
        *evicted += reclaim_finish(&victims[i]);
    return status;
}

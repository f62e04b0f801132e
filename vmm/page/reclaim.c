/* Reclaim: evicts pages to the swap area. */
#include "vmm/page/reclaim.h"

#include "cpu/machine.h"
#include "paging/sole/sole.h"
#include "swapdisk/area.h"
#include "vmm/page/managed.h"
#include "vmm/page/transfer.h"

struct reclaim_counts reclaim_counted;

static const struct reclaim_shared *shared_pages;

void reclaim_set_shared(const struct reclaim_shared *shared)
{
    CHECK(shared != NULL && shared->hold != NULL && shared->release != NULL &&
          shared->take_accessed != NULL && shared->recall != NULL && shared->comes_again != NULL);
    __atomic_store_n(&shared_pages, shared, __ATOMIC_RELEASE);
}

/* Returns the functions for shared pages. The caller has seen such a page, so they are set. */
const struct reclaim_shared *reclaim_shared_owner(void)
{
    const struct reclaim_shared *shared = __atomic_load_n(&shared_pages, __ATOMIC_ACQUIRE);

    CHECK(shared != NULL);
    return shared;
}

/* Calls that have begun and ended; the difference is how many CPUs reclaim. */
static uint64_t begun;
static uint64_t ended;

/* ---- choosing ---- */

static struct pte *reclaim_entry_at(struct tree_pointer pointer)
{
    return (struct pte *)frame_pointer(pointer.table) + pointer.index;
}

/* Finds the entries that map a page or withhold it; stores at most POINTERS_MAX and returns how
 * many there are. A change of rights between the two searches may hide an entry or show it twice.
 * Then the number differs from the page's count, or the entry cannot be locked, and the page is not
 * evicted. */
static unsigned reclaim_find_pointers(struct pfn page, struct tree_pointer pointers[POINTERS_MAX])
{
    unsigned leaves = tree_find_pointers(page, PTE_LEAF, pointers, POINTERS_MAX);
    unsigned room = leaves < POINTERS_MAX ? POINTERS_MAX - leaves : 0;

    /* With the caller's hold those are all: mostly so, and then no second walk is needed. */
    if (leaves + 1 == __atomic_load_n(&frame_record(page)->count, __ATOMIC_ACQUIRE))
        return leaves;
    return leaves + tree_find_pointers(page, PTE_WITHHELD, &pointers[POINTERS_MAX - room], room);
}

/* Locks the table of a pointer. Returns false if its entry no longer references the page. If a
 * fault holds the lock, retries with interrupts open (rule P4). */
bool victim_lock_pointer(struct tree_pointer pointer, struct pfn page, bool *were_on)
{
    for (;;) {
        enum status status;

        *were_on = machine_interrupts_off();
        status = tree_lock_pointer(page, PTE_LEAF, pointer);
        if (status == STATUS_NOT_FOUND)
            status = tree_lock_pointer(page, PTE_WITHHELD, pointer);
        if (status == OK)
            return true;
        machine_interrupts_restore(*were_on);
        if (status == STATUS_NOT_FOUND)
            return false;
        machine_pause();
    }
}

void victim_unlock_pointer(struct tree_pointer pointer, bool were_on)
{
    tree_unlock(pointer.table);
    machine_interrupts_restore(were_on);
}

/* Clears A of a locked entry and returns its value. A withheld entry has no A: returns false. */
static bool reclaim_take_accessed(struct pte *at)
{
    struct pte entry = pte_read(at);

    return pte_present(entry) && (entry.word & PTE_A) != 0 &&
           (__atomic_fetch_and(&at->word, ~PTE_A, __ATOMIC_ACQ_REL) & PTE_A) != 0;
}

/* Clears the A bits of the shared leaves of a section's page. Returns true if one was set. */
static bool leaves_were_accessed(struct section_family *family, uint64_t place, struct pfn page)
{
    const struct reclaim_shared *shared = reclaim_shared_owner();
    bool used = shared->take_accessed(family, place, page);

    shared->release(family);
    return used;
}

static bool victim_take_accessed(const struct victim *victim)
{
    bool used = false;

    for (unsigned i = 0; i < victim->pointer_count; i++) {
        struct tree_pointer at = victim->pointers[i];
        struct section_family *family;
        uint64_t place;
        bool were_on;

        if (!victim_lock_pointer(at, victim->page, &were_on))
            return true;
        place = tree_pointer_address(at); /* the table may go with the lock */
        used |= reclaim_take_accessed(reclaim_entry_at(at));
        family = victim->shared ? reclaim_shared_owner()->hold(at) : NULL;
        victim_unlock_pointer(at, were_on);
        used |= family != NULL && leaves_were_accessed(family, place, victim->page);
    }
    return used;
}

static bool victim_find_pointers(struct victim *victim, const struct frame *record)
{
    victim->shared = (record->flags & FRAME_SHARED) != 0;
    /* Only the recall visits all leaves of a section's page. Another page's count is enough. */
    if (!victim->shared && __atomic_load_n(&record->count, __ATOMIC_ACQUIRE) > POINTERS_MAX + 1)
        return false;
    victim->pointer_count = reclaim_find_pointers(victim->page, victim->pointers);
    return victim->pointer_count > 0 && victim->pointer_count <= POINTERS_MAX &&
           (record->flags & FRAME_IO) == 0 &&
           (victim->shared ||
            victim->pointer_count == __atomic_load_n(&record->count, __ATOMIC_ACQUIRE) - 1);
}

/* As victim_look, in one pass, for a page with one entry. Returns false if it found nothing out. */
static bool look_at_sole(struct victim *victim, bool *used)
{
    bool were_on = machine_interrupts_off();
    struct tree_pointer *at = victim->pointers;
    enum pte_state state = sole_lock(victim->page, at);
    bool found = state == PTE_LEAF || state == PTE_WITHHELD;

    if (found && used != NULL)
        *used = reclaim_take_accessed(reclaim_entry_at(*at));
    if (state != PTE_EMPTY)
        tree_unlock(at->table);
    machine_interrupts_restore(were_on);
    victim->pointer_count = 1;
    victim->shared = false;
    return found;
}

bool victim_look(struct victim *victim, bool *used)
{
    const struct frame *record = frame_record(victim->page);

    if ((record->flags & (FRAME_SHARED | FRAME_IO)) == 0 && look_at_sole(victim, used))
        return true;
    if (!victim_find_pointers(victim, record))
        return false;
    if (used != NULL)
        *used = victim_take_accessed(victim);
    return true;
}

/* Clears a page's read-ahead mark, since the page was used. */
static void victim_was_used(struct pfn page)
{
    uint16_t *history = &frame_record(page)->page.history;

    if ((__atomic_load_n(history, __ATOMIC_RELAXED) & PAGE_READ_AHEAD) != 0)
        __atomic_and_fetch(history, (uint16_t)~PAGE_READ_AHEAD, __ATOMIC_RELAXED);
}

/* Returns true if the page can be evicted: every entry is found, and none was accessed since the
 * last pass. spare_used: skips accessed pages; off when no other victim is left. clean_only: skips
 * pages that must be written. Owns one count. */
static bool is_evictable(struct victim *victim, bool spare_used, bool clean_only)
{
    const struct frame *record = frame_record(victim->page);
    bool used = false;

    CHECK_MSG(record->kind == FRAME_ANONYMOUS && (record->flags & FRAME_BLOCK) == 0,
              "victim %x of kind %u, flags %x", victim->page.index, record->kind, record->flags);
    count_event(&reclaim_counted.looked_at);
    if (clean_only && !victim_needs_no_write(victim->page))
        return false;
    if (!victim_look(victim, &used)) {
        count_event(&reclaim_counted.busy);
        return false;
    }
    if (used)
        victim_was_used(victim->page);
    if (used && spare_used) {
        count_event(&reclaim_counted.second_chances);
        return false;
    }
    return true;
}

/* A transfer that keeps the page publishes it before it clears FRAME_IO, so the page still belongs
 * to it. */
bool victim_withdraw(struct pfn page)
{
    if (!page_withdraw(page))
        return false;
    if ((__atomic_load_n(&frame_record(page)->flags, __ATOMIC_ACQUIRE) & FRAME_IO) == 0)
        return true;
    page_publish(page);
    return false;
}

/* Chooses victims: the first third of a round clears A bits, the second evicts pages not used
 * since. If running programs have used all of them again, the last third evicts one page in spite
 * of that. */
static unsigned reclaim_choose(struct reclaim_round *round, struct victim *victims, unsigned wanted)
{
    unsigned chosen = 0;

    CHECK_MSG(wanted > 0 && wanted <= VICTIMS_MAX, "%u victims are wanted", wanted);
    for (; round->looks > 0 && chosen < wanted; round->looks--) {
        struct victim *victim = &victims[chosen];
        bool spare_used = round->looks > round->spared;

        if (!spare_used && chosen > 0)
            break;
        *victim = (struct victim){.page = page_clock_next(), .slot = SLOT_NONE};
        if (pfn_is_none(victim->page)) {
            round->looks = 0;
            break;
        }
        if (is_evictable(victim, spare_used, round->clean_only) && victim_withdraw(victim->page))
            chosen++;
        else
            page_release(victim->page);
    }
    return chosen;
}

/* Returns how many operations that take pages out of the clocks for a while have ended: reclaim
 * calls and transfers. */
static uint64_t absences_ended(void)
{
    return __atomic_load_n(&ended, __ATOMIC_SEQ_CST) + transfers_finished();
}

void reclaim_absence_begin(void)
{
    __atomic_add_fetch(&begun, 1, __ATOMIC_SEQ_CST);
}

void reclaim_absence_end(void)
{
    __atomic_add_fetch(&ended, 1, __ATOMIC_SEQ_CST);
}

/* Returns true if some operation has pages out of the clocks. Reads the number of ends first, so
 * that none is missed. */
static bool pages_are_absent(void)
{
    uint64_t over = absences_ended();

    return __atomic_load_n(&begun, __ATOMIC_SEQ_CST) + transfers_begun() != over;
}

void reclaim_round_begin(struct reclaim_round *round)
{
    uint64_t size = page_clock_size();

    *round =
        (struct reclaim_round){.looks = 3 * size, .spared = size, .absences = absences_ended()};
}

enum status reclaim_some(struct reclaim_round *round, unsigned wanted, unsigned *evicted)
{
    struct victim victims[VICTIMS_MAX];
    enum status status = OK;
    unsigned chosen;

    CHECK(wanted <= VICTIMS_MAX);
    *evicted = 0;
    reclaim_absence_begin();
    chosen = managed_policy != NULL ? victim_choose_by_policy(round, victims)
                                    : reclaim_choose(round, victims, wanted);
    if (chosen > 0)
        status = victims_evict(victims, chosen, evicted);
    reclaim_absence_end();
    round->absences += 1 + chosen;
    /* After an error the area takes no page; only pages that have a slot can be evicted. */
    round->clean_only = round->clean_only || status != OK;
    return status;
}

enum status reclaim_pages(unsigned wanted, unsigned *evicted)
{
    struct reclaim_round round;

    reclaim_round_begin(&round);
    return reclaim_some(&round, wanted, evicted);
}

bool reclaim_round_await_others(const struct reclaim_round *round)
{
    uint64_t now = absences_ended();

    if (now != round->absences)
        return true;
    if (!pages_are_absent())
        return false;
    while (pages_are_absent() && absences_ended() == now && machine_interrupts_on())
        machine_relax();
    return true;
}

/* ---- the room that is left ---- */

static struct {
    void (*wake)(void);
    uint64_t low;
} on_low;

void page_on_low(void (*wake)(void), uint64_t low)
{
    __atomic_store_n(&on_low.low, low, __ATOMIC_RELAXED);
    __atomic_store_n(&on_low.wake, wake, __ATOMIC_RELEASE);
}

uint64_t page_room(void)
{
    uint64_t resident;

    if (pmm_pressure() != PMM_NORMAL)
        return 0;
    if (resident_limit == UINT64_MAX)
        return UINT64_MAX;
    resident = page_resident();
    return resident < resident_limit ? resident_limit - resident : 0;
}

void page_tell_if_low(void)
{
    void (*wake)(void) = __atomic_load_n(&on_low.wake, __ATOMIC_ACQUIRE);

    if (wake != NULL && page_room() < __atomic_load_n(&on_low.low, __ATOMIC_RELAXED))
        wake();
}

struct reclaim_counts reclaim_counts(void)
{
    return reclaim_counted;
}

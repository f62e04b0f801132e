/*
 * Write-behind: pages near their turn are written while they stay mapped.
 *
 * The steps: choose pages that are dirty, unused since the hand's last pass, and whose every entry
 * is known; make the entries COW, so that a store is a fault (rule E1), and clear D; flush
 * everything (rules D11, W1 alike); write; put each into the swap cache (C9). We hold the page from
 * the choice to the end: so a store meanwhile finds another owner and copies the page, and none
 * becomes own again. FRAME_IO makes copies wait for the flush: until then another processor may
 * write to the page by an old translation, and a copy would lack that store (rule P2). What was
 * copied or unmapped by all has no entry left at the end; its slot is freed (rule D12).
 */
#include "lib/check.h"
#include "swapdisk/area.h"
#include "vmm/page/managed.h"
#include "vmm/reclaimer/internal.h"

/* Looks of the hand for each page that is wanted. */
#define LOOKS_EACH 4U

struct behind {
    struct victim victims[VICTIMS_MAX];
    unsigned count;
    struct slot slots[VICTIMS_MAX];
    struct pfn pages[VICTIMS_MAX];
    bool done[VICTIMS_MAX];
};

/* Returns true if the page can be written behind: plain, dirty, and not in a transfer. */
static bool is_plain(const struct frame *record)
{
    uint8_t flags = __atomic_load_n(&record->flags, __ATOMIC_ACQUIRE);

    return (flags & (FRAME_SWAP_CACHED | FRAME_SHARED | FRAME_IO | FRAME_BLOCK)) == 0;
}

/* Makes one entry COW and clears its D. Returns false if it does not map the page any more, or
 * withholds it. */
static bool protect_entry(struct tree_pointer at, struct pfn page)
{
    struct pte *entry = (struct pte *)frame_pointer(at.table) + at.index;
    bool were_on;
    bool maps;

    if (!victim_lock_pointer(at, page, &were_on))
        return false;
    maps = pte_present(pte_read(entry));
    if (maps) {
        if (pte_class(pte_read(entry)) == PTE_OWN)
            pte_make_cow(entry);
        __atomic_fetch_and(&entry->word, ~PTE_D, __ATOMIC_ACQ_REL);
    }
    victim_unlock_pointer(at, were_on);
    return maps;
}

/* Lets the page be copied. */
static void end_protection(struct pfn page)
{
    __atomic_and_fetch(&frame_record(page)->flags, (uint8_t)~FRAME_IO, __ATOMIC_RELEASE);
}

/* Protects all entries of a page that is in no clock and that we hold. No one copies it until
 * end_protection. */
static bool protect_page(const struct victim *victim)
{
    bool all = true;

    CHECK(frame_record(victim->page)->clock == 0);
    __atomic_or_fetch(&frame_record(victim->page)->flags, FRAME_IO, __ATOMIC_ACQ_REL);
    for (unsigned i = 0; i < victim->pointer_count; i++)
        all = protect_entry(victim->pointers[i], victim->page) && all;
    if (!all)
        end_protection(victim->page);
    return all;
}

/* Takes the page under the hand if it is to be written. holds, if true: one count of it. */
static bool behind_take_page(struct victim *victim)
{
    const struct frame *record = frame_record(victim->page);
    bool used;

    count_event(&reclaim_counted.looked_at);
    if (is_plain(record) && victim_look(victim, &used) && !used &&
        !page_reads_as_zeros(victim->page) && victim_withdraw(victim->page)) {
        if (is_plain(record) && protect_page(victim))
            return true;
        page_publish(victim->page);
    }
    return false;
}

static void choose_pages(struct behind *behind, unsigned wanted)
{
    uint64_t looks = min_u64((uint64_t)wanted * LOOKS_EACH, page_clock_size());

    for (; looks > 0 && behind->count < wanted; looks--) {
        struct victim *victim = &behind->victims[behind->count];

        *victim = (struct victim){.page = page_clock_next(), .slot = SLOT_NONE};
        if (pfn_is_none(victim->page))
            return;
        if (behind_take_page(victim))
            behind->count++;
        else
            page_release(victim->page);
    }
}

/* Allocates the slots, in the order of the pages' entries. Pages without one stay as they are. */
static void take_slots(struct behind *behind, const uint8_t *order, uint8_t *places)
{
    unsigned taken = 0;

    for (unsigned i = 0; i < behind->count; i++) {
        struct victim *victim = &behind->victims[order[i]];

        if (swap_alloc(&victim->slot) != OK) {
            victim->slot = SLOT_NONE;
            continue;
        }
        behind->slots[taken] = victim->slot;
        behind->pages[taken] = victim->page;
        places[taken++] = order[i];
    }
    if (taken > 0) {
        /* The status of a page that no slot took does not matter: it stays dirty. */
        enum status status = swap_write_out(behind->slots, behind->pages, taken, behind->done);

        (void)status;
    }
    for (unsigned i = 0; i < taken; i++) {
        struct victim *victim = &behind->victims[places[i]];

        victim->slot = behind->slots[i];
        victim->done = behind->done[i];
    }
}

/* Ends the write of a page: puts it into the swap cache, if entries still map it. */
static bool end_page(struct victim *victim)
{
    struct frame *record = frame_record(victim->page);
    bool used = __atomic_load_n(&record->count, __ATOMIC_ACQUIRE) > 1;
    bool cached = victim->done && used && swap_serves(victim->slot);

    CHECK((record->flags & FRAME_SWAP_CACHED) == 0 && record->clock == 0);
    if (cached) {
        __atomic_and_fetch(&record->flags, (uint8_t)~FRAME_DIRTY, __ATOMIC_RELAXED);
        swap_cache_add(victim->page, victim->slot);
    } else if (victim->slot.index != UINT32_MAX) {
        swap_release(victim->slot);
    }
    page_publish(victim->page);
    if (cached)
        page_deactivate(victim->page);
    if (victim->done && !used)
        count_event(&reclaimer_counted.vain);
    page_release(victim->page);
    return cached;
}

unsigned write_behind(unsigned wanted)
{
    struct behind behind = {.count = 0};
    uint8_t order[VICTIMS_MAX];
    uint8_t places[VICTIMS_MAX];
    unsigned cleaned = 0;
    struct tlb_batch batch;

    CHECK(wanted > 0 && wanted <= VICTIMS_MAX);
    if (managed_policy != NULL || !swap_serves_any())
        return 0;
    reclaim_absence_begin();
    choose_pages(&behind, wanted);
    if (behind.count > 0) {
        tlb_begin(&batch, NULL);
        /* Shared tables are reachable from any space, so everything is flushed (rule P3). */
        tlb_add_everything(&batch);
        tlb_commit(&batch);
        for (unsigned i = 0; i < behind.count; i++)
            end_protection(behind.victims[i].page);
        victims_sort(behind.victims, behind.count, order);
        take_slots(&behind, order, places);
    }
    for (unsigned i = 0; i < behind.count; i++)
        cleaned += end_page(&behind.victims[i]);
    reclaim_absence_end();
    reclaimer_counted.cleaned += cleaned;
    return cleaned;
}

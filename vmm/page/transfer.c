/* Transfers: entries in transit while their page is read, written, copied or checked. */
#include "vmm/page/transfer.h"

#include "cpu/machine.h"
#include "paging/sole/sole.h"
#include "swapdisk/area.h"
#include "vmm/page/managed.h"

/* Entries converted after one search of the reverse map. */
#define POINTERS_TOGETHER 16U

static uint64_t begun;
static uint64_t ended;    /* counted while entries are still in transit */
static uint64_t finished; /* counted when no entry is in transit any more */

static struct pte transfer_read_entry(struct tree_pointer at)
{
    return pte_read((const struct pte *)frame_pointer(at.table) + at.index);
}

void transfer_begin_in(struct pfn page, struct tree_pointer at, struct rights rights,
                       struct slot slot)
{
    CHECK((frame_record(page)->flags & FRAME_IO) == 0);
    __atomic_add_fetch(&begun, 1, __ATOMIC_SEQ_CST);
    __atomic_or_fetch(&frame_record(page)->flags, FRAME_IO, __ATOMIC_RELAXED);
    rmap_reference(page, at.table, at.index);
    tree_hold(page);
    if (slot.index != UINT32_MAX)
        swap_cache_add(page, slot);
    tree_replace_entry(at.table, at.index, pte_transit(page, rights));
}

void transfer_begin_out(struct pfn page)
{
    const struct frame *record = frame_record(page);

    CHECK((record->flags & FRAME_IO) == 0);
    CHECK_MSG(record->clock == 0 && record->count > 0, "page %x goes out of clock %u, count %u",
              page.index, record->clock, record->count);
    __atomic_add_fetch(&begun, 1, __ATOMIC_SEQ_CST);
    __atomic_or_fetch(&frame_record(page)->flags, FRAME_IO, __ATOMIC_RELAXED);
}

/* Returns the entry in transit for a locked entry of a page whose transfer has begun. */
static struct pte transit_entry(struct pfn page, struct tree_pointer at)
{
    struct pte entry = transfer_read_entry(at);
    enum pte_state state = pte_state(entry, 1);

    CHECK((frame_record(page)->flags & FRAME_IO) != 0);
    CHECK_MSG(state == PTE_LEAF || state == PTE_WITHHELD, "entry %lx goes in transit", entry.word);
    return pte_transit(page, pte_rights(entry));
}

/* Keeps the D bit of an entry that was replaced in the page's record. */
static void keep_dirty(struct pfn page, struct pte old)
{
    if (pte_present(old) && (old.word & PTE_D) != 0)
        __atomic_or_fetch(&frame_record(page)->flags, FRAME_DIRTY, __ATOMIC_RELAXED);
}

void transfer_take_entry(struct pfn page, struct tree_pointer at)
{
    keep_dirty(page, tree_replace_entry(at.table, at.index, transit_entry(page, at)));
}

void transfer_take_sole(struct pfn page, struct tree_pointer at)
{
    keep_dirty(page, sole_exchange(page, at, transit_entry(page, at)));
}

/* Returns the class of the leaf that an entry in transit becomes, in a locked table. COW is right
 * for any count, since a write checks for the last owner. Leaves in spaces are written through
 * without a fault, so the entry of a section's page is own unless another section has it too (rule
 * S1). */
static enum pte_class leaf_class(struct pfn page)
{
    bool sole;

    if ((frame_record(page)->flags & FRAME_SHARED) == 0)
        return PTE_COW;
    sole = tree_find_pointers(page, PTE_TRANSIT, NULL, 0) == 1 &&
           tree_find_pointers(page, PTE_LEAF, NULL, 0) == 0;
    return sole ? PTE_OWN : PTE_COW;
}

/* Returns the entry that replaces one in transit. Sets *keeps if it still references the page. */
static struct pte transfer_entry(struct pfn page, const struct transfer_end *end,
                                 struct rights rights, bool *keeps)
{
    struct pte leaf;

    *keeps = false;
    switch (end->result) {
    case TRANSFER_SLOT: swap_hold(end->slot); return pte_swapped(end->slot, rights);
    case TRANSFER_TICKET: return end->ticket;
    case TRANSFER_ZERO:
        if (!rights.none)
            return zero_ladder_entry(1, rights);
        break;
    case TRANSFER_LEAF:
    case TRANSFER_UNUSED: break;
    }
    *keeps = true;
    leaf = pte_page(page, 1, leaf_class(page), rights);
    if (end->result == TRANSFER_UNUSED && pte_present(leaf))
        leaf.word &= ~PTE_A;
    return leaf;
}

/* Replaces one entry in transit. If its table is locked, returns; the caller searches again. */
static void transfer_end_entry(struct pfn page, const struct transfer_end *end,
                               struct tree_pointer at)
{
    bool were_on = machine_interrupts_off();
    struct pte old;
    bool keeps;

    if (tree_lock_pointer(page, PTE_TRANSIT, at) != OK) {
        machine_interrupts_restore(were_on);
        return;
    }
    old = transfer_read_entry(at);
    tree_replace_entry(at.table, at.index, transfer_entry(page, end, pte_rights(old), &keeps));
    tree_unlock(at.table);
    machine_interrupts_restore(were_on);
    if (!keeps)
        tree_drop(&(struct tlb_release){.entry = old, .level = 1});
}

/* Replaces the page's entry in transit if hold and entry are its only references, as for most
 * pages; then no other entry is in transit. Returns false if it did nothing. */
static bool transfer_end_sole(struct pfn page, const struct transfer_end *end)
{
    bool were_on = machine_interrupts_off();
    struct tree_pointer at;
    enum pte_state state = sole_lock(page, &at);
    bool keeps = true;

    if (state == PTE_TRANSIT) {
        struct pte with = transfer_entry(page, end, pte_rights(transfer_read_entry(at)), &keeps);

        if (keeps || end->result == TRANSFER_SLOT)
            sole_exchange(page, at, with);
        else
            tree_replace_entry(at.table, at.index, with);
    }
    if (state != PTE_EMPTY)
        tree_unlock(at.table);
    machine_interrupts_restore(were_on);
    if (!keeps) {
        uint32_t left = tree_release(page);

        CHECK_MSG(left > 0, "page %x ends its transfer without a hold", page.index);
    }
    return state == PTE_TRANSIT;
}

static void transfer_end_entries(struct pfn page, const struct transfer_end *end)
{
    struct tree_pointer pointers[POINTERS_TOGETHER];
    unsigned found;

    if (transfer_end_sole(page, end))
        return;
    while ((found = tree_find_pointers(page, PTE_TRANSIT, pointers, POINTERS_TOGETHER)) > 0) {
        for (unsigned i = 0; i < found && i < POINTERS_TOGETHER; i++)
            transfer_end_entry(page, end, pointers[i]);
        machine_relax(); /* the drop of its table will remove the entry */
    }
}

/* While an entry in transit references an evicted page, faults can find the page in the swap cache.
 * FRAME_IO makes them wait until it has left the swap cache, so that none takes a page that is in
 * no clock. */
void transfer_end(struct pfn page, const struct transfer_end *end)
{
    struct frame *record = frame_record(page);
    bool stays = end->result != TRANSFER_SLOT && end->result != TRANSFER_TICKET;

    CHECK((record->flags & FRAME_IO) != 0 && record->count > 0);
    CHECK(end->result != TRANSFER_ZERO || (record->flags & FRAME_SHARED) == 0); /* rule S2 */
    CHECK(end->result != TRANSFER_SLOT || end->slot.index != UINT32_MAX);
    CHECK(end->result != TRANSFER_TICKET || pte_state(end->ticket, 1) == PTE_TICKET ||
          pte_state(end->ticket, 1) == PTE_EMPTY);
    if (stays)
        page_publish(page);
    else if (end->result == TRANSFER_SLOT)
        managed_went(page, end->slot); /* before an entry names the slot */
    __atomic_add_fetch(&ended, 1, __ATOMIC_SEQ_CST);
    transfer_end_entries(page, end);
    if (!stays && (record->flags & FRAME_SWAP_CACHED) != 0)
        swap_cache_remove(page);
    /* A disk may hold it for ever (rule D1): it stays resident, without an entry. */
    if (!stays && __atomic_load_n(&record->count, __ATOMIC_RELAXED) >= COUNT_STILL)
        page_publish(page);
    __atomic_and_fetch(&record->flags, (uint8_t)~FRAME_IO, __ATOMIC_RELEASE);
    __atomic_add_fetch(&finished, 1, __ATOMIC_SEQ_CST);
}

uint64_t transfers_ended(void)
{
    return __atomic_load_n(&ended, __ATOMIC_SEQ_CST);
}

uint64_t transfers_begun(void)
{
    return __atomic_load_n(&begun, __ATOMIC_SEQ_CST);
}

uint64_t transfers_finished(void)
{
    uint64_t count = __atomic_load_n(&finished, __ATOMIC_SEQ_CST);

    CHECK_MSG(count <= transfers_begun(), "%lu transfers have finished, more than began", count);
    return count;
}

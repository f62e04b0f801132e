/* Reclaim: takes the chosen pages out, writes those that are dirty, and ends their transfers. */
#include "cpu/machine.h"
#include "swapdisk/area.h"
#include "vmm/page/managed.h"
#include "vmm/page/transfer.h"

/* ---- taking out ---- */

/* Turns the shared leaves of a section's page into tickets. */
static void recall_leaves(struct victim *victim, struct section_family *family,
                          struct tree_pointer at)
{
    const struct reclaim_shared *shared;

    if (family == NULL)
        return;
    shared = reclaim_shared_owner();
    victim->comes_again = shared->comes_again(family);
    victim->recalled += shared->recall(family, tree_pointer_address(at), victim->page);
    shared->release(family);
}

/* Puts the entries in transit and folds their D into the record. Returns false if the page has
 * other references or holds by now: then it is not evicted. FRAME_IO is set before the counts are
 * compared, so that a fault that finds the page in the swap cache either shows in the count or sees
 * the flag. */
static bool begin_transit_out(struct victim *victim)
{
    CHECK(victim->pointer_count > 0 && victim->pointer_count <= POINTERS_MAX);
    transfer_begin_out(victim->page);
    for (unsigned i = 0; i < victim->pointer_count; i++) {
        struct tree_pointer at = victim->pointers[i];
        struct section_family *family;
        bool were_on;

        if (!victim_lock_pointer(at, victim->page, &were_on))
            continue;
        family = victim->shared ? reclaim_shared_owner()->hold(at) : NULL;
        transfer_take_entry(victim->page, at);
        victim_unlock_pointer(at, were_on);
        recall_leaves(victim, family, at);
    }
    return tree_all_in_state(victim->page, PTE_TRANSIT);
}

/* After the flush no processor uses the recalled leaves. A section's page is evicted if the
 * section's own entry is then its only reference: no leaf was missed, and no fault has found it. */
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

/* Finds a slot for a victim. A page in the swap cache needs no write: it was never writable since
 * it was read, so its slot has its content. */
static enum status find_slot(struct victim *victim)
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
        swap_hold(victim->slot);
        victim->done = true;
        return OK;
    }
    return swap_alloc(&victim->slot);
}

/* ---- writing ---- */

/* Writes the victims that are not done. A page whose slot is bad gets another one (rule D3). */
static enum status write_victims(struct victim *victims, unsigned count)
{
    struct slot slots[VICTIMS_MAX];
    struct pfn pages[VICTIMS_MAX];
    bool done[VICTIMS_MAX] = {false};
    unsigned places[VICTIMS_MAX];
    enum status status = OK;
    unsigned dirty = 0;

    for (unsigned i = 0; i < count; i++) {
        if (victims[i].done || victims[i].slot.index == UINT32_MAX)
            continue;
        CHECK((frame_record(victims[i].page)->flags & FRAME_IO) != 0);
        slots[dirty] = victims[i].slot;
        pages[dirty] = victims[i].page;
        places[dirty++] = i;
    }
    if (dirty > 0)
        status = swap_write_out(slots, pages, dirty, done);
    for (unsigned i = 0; i < dirty; i++) {
        victims[places[i]].slot = slots[i];
        victims[places[i]].done = done[i];
    }
    return status;
}

/* ---- ending ---- */

/* Ends a victim's transfer. Forks and unmaps may have changed its entries meanwhile, so the end
 * searches for all of them. */
static void reclaim_finish(struct victim *victim)
{
    enum transfer_result result = victim->dropped ? TRANSFER_TICKET
                                  : victim->done  ? TRANSFER_SLOT
                                                  : TRANSFER_LEAF;

    CHECK(!victim->done ||
          ((victim->slot.index != UINT32_MAX || victim->dropped) && !victim->busy));
    transfer_end(victim->page, &(struct transfer_end){
                                   .result = result, .slot = victim->slot, .ticket = pte_empty()});
    if (victim->slot.index != UINT32_MAX)
        swap_release(victim->slot); /* the transfer's own count */
    page_release(victim->page);     /* likewise */
}

/* Keeps all victims in memory once the area has died: nothing that it holds can be read again (rule
 * D2). */
static enum status keep_from_dead_area(struct victim *victims, unsigned count)
{
    CHECK(count <= VICTIMS_MAX);
    if (swap_serves())
        return OK;
    for (unsigned i = 0; i < count; i++)
        victims[i].done = victims[i].done && victims[i].dropped;
    return STATUS_IO;
}

/* Finds slots for the victims that are wholly in transit, and writes them. The writes show whether
 * the area has died, so the last look decides. */
static enum status write_out_victims(struct victim *victims, unsigned count)
{
    enum status status = OK;
    enum status written;
    enum status kept;

    for (unsigned i = 0; i < count; i++) {
        enum status found = victims[i].busy ? OK : find_slot(&victims[i]);

        if (found != OK) {
            victims[i].slot = SLOT_NONE;
            status = found;
        }
    }
    written = write_victims(victims, count);
    kept = keep_from_dead_area(victims, count);
    status = kept != OK ? kept : status;
    return written != OK ? written : status;
}

static bool victim_precedes(const struct victim *a, const struct victim *b)
{
    const struct tree_pointer *at = &a->pointers[0];
    const struct tree_pointer *other = &b->pointers[0];

    if (!pfn_equal(at->table, other->table))
        return at->table.index < other->table.index;
    return at->index < other->index;
}

/* Sorts the victims by table and index: neighbours in memory become neighbours on the disk, which
 * one command writes now, and reads later. They mostly arrived in that order. */
static void sort_victims(struct victim *victims, unsigned count)
{
    for (unsigned i = 1; i < count; i++) {
        struct victim moved = victims[i];
        unsigned at = i;

        for (; at > 0 && victim_precedes(&moved, &victims[at - 1]); at--)
            victims[at] = victims[at - 1];
        if (at < i)
            victims[at] = moved;
    }
}

/* Evicts the chosen pages together. holds: one count of each page; they are in no clock. */
enum status victims_evict(struct victim *victims, unsigned count, unsigned *evicted)
{
    enum status status;
    struct tlb_batch batch;

    CHECK(count > 0 && count <= VICTIMS_MAX);
    sort_victims(victims, count);
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
    for (unsigned i = 0; i < count; i++) {
        if (victims[i].done) {
            (*evicted)++;
            count_event(victims[i].clean ? &reclaim_counted.clean : &reclaim_counted.written);
        }
        reclaim_finish(&victims[i]);
    }
    return status;
}

/* Zero merge: replaces pages that contain only zeros by the zero page. */
#include "vmm/reclaimer/zero_merge.h"

#include "cpu/machine.h"
#include "vmm/page/managed.h"
#include "vmm/page/transfer.h"

/* Pages that share one shootdown. */
#define TOGETHER 16U

static struct zero_merge_counts counts;

/* ---- choosing ---- */

/* Returns true if one entry references the page, beside the caller's hold, and no transfer is under
 * way. A section's page never becomes the zero page (rule S2). */
static bool zero_merge_is_alone(struct pfn page)
{
    const struct frame *record = frame_record(page);

    return __atomic_load_n(&record->count, __ATOMIC_ACQUIRE) == 2 &&
           (record->flags & (FRAME_IO | FRAME_SWAP_CACHED | FRAME_SHARED)) == 0;
}

/* Puts the page's entry in transit. The caller holds one reference to the page. Returns false if
 * the page is in use; a later round tries it again. */
static bool zero_merge_protect(struct pfn page)
{
    bool were_on = machine_interrupts_off();
    struct tree_pointer at;
    bool found = tree_find_pointers(page, PTE_LEAF, &at, 1) == 1 &&
                 tree_lock_pointer(page, PTE_LEAF, at) == OK;
    bool alone = found && zero_merge_is_alone(page) && !tree_has_copies(at.table);

    if (alone) {
        struct pte entry = pte_read((const struct pte *)frame_pointer(at.table) + at.index);

        CHECK_MSG(pte_class(entry) != PTE_SHARED, "entry %lx of page %x is shared (rule S2)",
                  entry.word, page.index);
        transfer_begin_out(page);
        transfer_take_entry(page, at);
    }
    if (found)
        tree_unlock(at.table);
    machine_interrupts_restore(were_on);
    return alone;
}

/* If the page under the hand reads as zeros, withdraws and protects it. */
static bool zero_merge_take(struct pfn page)
{
    count_event(&counts.looked_at);
    if (zero_merge_is_alone(page) && page_reads_as_zeros(page) && page_withdraw(page)) {
        if (zero_merge_protect(page)) {
            count_event(&counts.protected);
            return true;
        }
        page_publish(page);
    }
    page_release(page);
    return false;
}

/* ---- ending ---- */

/* Ends the transfer after the flush. holds: one reference to the page, FRAME_IO. */
static bool zero_merge_finish(struct pfn page)
{
    const struct frame *record = frame_record(page);
    bool zero = page_reads_as_zeros(page);
    bool last;

    CHECK((record->flags & FRAME_SHARED) == 0); /* rule S2 */
    CHECK(record->clock == 0 && record->count > 0);
    transfer_end(page, &(struct transfer_end){.result = zero ? TRANSFER_ZERO : TRANSFER_LEAF});
    last = __atomic_load_n(&record->count, __ATOMIC_ACQUIRE) == 1;
    if (!zero)
        count_event(&counts.changed);
    if (last)
        count_event(&counts.given_back);
    page_release(page);
    return last;
}

unsigned zero_merge(unsigned budget)
{
    uint64_t looks = min_u64(budget, page_clock_size());
    unsigned given_back = 0;

    while (looks > 0) {
        struct pfn pages[TOGETHER];
        struct tlb_batch batch;
        unsigned count = 0;

        for (; looks > 0 && count < TOGETHER; looks--) {
            pages[count] = looks % 2 == 0 ? page_clock_next_managed() : PFN_NONE;
            if (pfn_is_none(pages[count]))
                pages[count] = page_clock_next();
            if (!pfn_is_none(pages[count]) && zero_merge_take(pages[count]))
                count++;
        }
        if (count == 0)
            break;
        tlb_begin(&batch, NULL);
        /* Shared tables are reachable from any space, so everything is flushed (rule P3). */
        tlb_add_everything(&batch);
        tlb_commit(&batch);
        for (unsigned i = 0; i < count; i++)
            given_back += zero_merge_finish(pages[i]);
    }
    return given_back;
}

struct zero_merge_counts zero_merge_counts(void)
{
    return counts;
}
